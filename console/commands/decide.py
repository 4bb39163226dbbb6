"""A person's word on what waits."""

from __future__ import annotations

from pathlib import Path

import click

from console.commands.engine import ask
from console.place import campaign_option, find_project, project_option, reader_of
from engine.errors import NothingToDo, UsageError
from engine.store import reading
from engine.store.rows import ExperimentRow


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


@click.command(epilog="Example: ratchet undo 12")
@click.argument("number", type=int, metavar="ID")
@project_option
@campaign_option
def undo(number: int, project: str | None, campaign: str | None) -> None:
    """Take the newest decision about an experiment back, as long as it was not carried out."""
    folder, row = _experiment(number, project, campaign)
    click.echo(ask(folder, "undo", number=row.number))


@click.command(epilog='Example: ratchet steer "leave the optimizer alone, look at the data order"')
@click.argument("text")
@project_option
def steer(text: str, project: str | None) -> None:
    """Tell the proposer something; the next brief carries it."""
    if not text.strip():
        raise UsageError("there is no text", 'ratchet steer "what the proposer should know"')
    click.echo(ask(find_project(project), "steer", text=text))


@click.command(epilog="Example: ratchet rerun 12 --seeds 5")
@click.argument("number", type=int, metavar="ID")
@click.option("--seeds", type=click.IntRange(1, 50), default=3, show_default=True, help="Further seeds.")
@project_option
@campaign_option
def rerun(number: int, seeds: int, project: str | None, campaign: str | None) -> None:
    """Run an experiment and its base on further seeds, side by side; no verdict changes by it."""
    folder, row = _experiment(number, project, campaign)
    click.echo(ask(folder, "rerun", number=row.number, seeds=seeds))


@click.command(epilog="Examples: ratchet back 7   |   ratchet back 0 -m 'the gains do not transfer'")
@click.argument("number", type=int, metavar="ID")
@click.option("-m", "--reason", default="", help="Why; it is kept in the commit.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_option
@campaign_option
def back(number: int, reason: str, yes: bool, project: str | None, campaign: str | None) -> None:
    """Put the keep of an earlier experiment in force again (0: the baseline), as a new commit."""
    folder = find_project(project)
    reader = reader_of(folder)
    keeps = reading.keeps(reader.conn, reader.campaign(campaign).line)
    if number and number not in {k.number for k in keeps}:
        known = ", ".join(f"#{k.number}" for k in keeps) or "none"
        raise NothingToDo(f"experiment {number} is no keep", f"keeps: {known}")
    later = [k for k in keeps if k.number > number]
    if not yes:
        click.confirm(f"Leave {len(later)} later keeps behind (they stay in the history)?", abort=True)
    click.echo(ask(folder, "step_back", number=number, reason=reason))


def _experiment(number: int, project: str | None, campaign: str | None) -> tuple[Path, ExperimentRow]:
    folder = find_project(project)
    reader = reader_of(folder)
    row = reading.experiment(reader.conn, reader.campaign(campaign).id, number)
    if row is None:
        raise NothingToDo(f"there is no experiment {number}", "`ratchet history` lists them")
    return folder, row


def _decide(kind: str, number: int, project: str | None, campaign: str | None, reason: str) -> None:
    folder, row = _experiment(number, project, campaign)
    if row.state not in ("review", "keep_review"):
        raise NothingToDo(f"experiment {number} is {row.state}: it does not wait for a decision")
    click.echo(ask(folder, kind, number=number, revision=row.revision, reason=reason))
