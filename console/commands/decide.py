"""A person's word on what waits."""

from __future__ import annotations

import click

from console.commands.engine import ask
from console.place import campaign_option, find_project, project_option, reader_of
from engine.errors import NothingToDo
from engine.store import reading


@click.command(epilog="Example: ratchet accept 12")
@click.argument("number", type=int, metavar="ID")
@project_option
@campaign_option
def accept(number: int, project: str | None, campaign: str | None) -> None:
    """Accept a proposal (it is measured) or a keep (the ratchet advances)."""
    _decide("accept", number, project, campaign, "")


@click.command(epilog='Example: ratchet reject 12 -m "tried last week at full scale: diverges"')
@click.argument("number", type=int, metavar="ID")
@click.option("-m", "--reason", default="", help="Why; it is kept and reaches the proposer.")
@project_option
@campaign_option
def reject(number: int, reason: str, project: str | None, campaign: str | None) -> None:
    """Reject a proposal before it costs device time, or a keep before the ratchet advances."""
    _decide("reject", number, project, campaign, reason)


def _decide(kind: str, number: int, project: str | None, campaign: str | None, reason: str) -> None:
    folder = find_project(project)
    reader = reader_of(folder)
    row = reading.experiment(reader.conn, reader.campaign(campaign).id, number)
    if row is None:
        raise NothingToDo(f"there is no experiment {number}", "`ratchet history` lists them")
    if row.state not in ("review", "keep_review"):
        raise NothingToDo(f"experiment {number} is {row.state}: it does not wait for a decision")
    click.echo(ask(folder, kind, number=number, revision=row.revision, reason=reason))
