"""The machines that run trials, and a person's word on them."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from console.commands.engine import ask
from console.hosts_listing import listing
from console.place import campaign_option, find_project, json_option, project_option, reader_of
from console.shapes import dumps, waiting_words
from engine.clock import RealClock
from engine.errors import NothingToDo, RatchetError
from engine.store.reading import Reader, readings, trials
from engine.store.reading_hosts import HostRow, HostUse, uses
from engine.store.reading_hosts import hosts as host_rows

NEWER_FIELDS = {"clock_mhz": None, "throttle": None, "trouble": ""}  # than readings that an older engine left


@click.group(
    invoke_without_command=True,
    epilog="Examples: ratchet hosts   |   ratchet hosts drain box1   |   ratchet hosts lend box1 --hours 2",
)
@project_option
@campaign_option
@json_option
@click.pass_context
def hosts(ctx: click.Context, project: str | None, campaign: str | None, as_json: bool) -> None:
    """The machines that run trials: state, kind, what they did and cost. With a command: a word on one of them."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = project
        return
    reader = reader_of(find_project(project))
    shapes = host_shapes(reader, reader.campaign(campaign).id, RealClock().now())
    if as_json:
        click.echo(dumps(shapes))
        return
    if not shapes:
        raise NothingToDo("no host was opened yet", "`ratchet` or `ratchet run` starts the engine")
    # A pipe gets whole lines, to be searched.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in listing(shapes, RealClock().now(), width):
        click.echo(line)


def host_shapes(reader: Reader, campaign: int, now: float) -> list[dict[str, Any]]:
    """What `hosts --json` prints (docs/json.md)."""
    found, waiting = uses(reader.conn, campaign), waiting_words(trials(reader.conn, campaign, open_only=True))
    read = readings(reader.conn)
    return [
        _shape(row, found.get(row.name, HostUse()), waiting.get(row.name, []), now)
        | {"readings": [NEWER_FIELDS | one.data for one in read if one.host == row.name]}
        for row in host_rows(reader.conn)
    ]


def _shape(row: HostRow, use: HostUse, waiting: list[str], now: float) -> dict[str, Any]:
    state = row.state
    if state == "ready" and row.lent.get("", 0.0) > now:
        state = "lent"
    if row.drained:
        state = "drained"
    return {
        "name": row.name,
        "sort": row.sort,
        "state": state,
        "reason": row.reason,
        "mend": row.mend,
        "kinds": row.kinds,
        "devices": row.devices,
        "capacity": row.capacity,
        "running": use.running,
        "waiting": waiting,
        "ended": use.ended,
        "busy_seconds": use.seconds,
        "dollars": use.spent / 1e9,
        "usd_per_hour": row.usd_per_hour,
        "containment": row.containment,
        "drained_by": row.drained,
        "lent": row.lent,
        "updated_at": row.updated_at,
    }


def _stored(ctx: click.Context) -> list[HostRow]:
    """For completion, which has nothing to say where there is no project or no store."""
    above = ctx.parent.params.get("project") if ctx.parent is not None else None
    try:
        return host_rows(reader_of(find_project(ctx.params.get("project") or above)).conn)
    except (RatchetError, OSError):
        return []


def _names(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    return [row.name for row in _stored(ctx) if row.name.startswith(begun)]


def _devices(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Of the host that was named, if one was."""
    named = ctx.params.get("name") or next(iter(ctx.args), None)  # click has not come to it behind an option
    found = {str(d["uuid"]): d for row in _stored(ctx) if named in (None, row.name) for d in row.devices}
    return [
        CompletionItem(uuid, help=f"gpu{d['index']}, {d['name']}")
        for uuid, d in found.items()
        if uuid.startswith(begun)
    ]


name_argument = click.argument("name", shell_complete=_names)


@hosts.command(epilog="Example: ratchet hosts drain box1")
@name_argument
@project_option
@click.pass_obj
def drain(above: str | None, name: str, project: str | None) -> None:
    """Start no more trials on a host; what runs there goes on to its end."""
    click.echo(ask(find_project(project or above), "drain", name=name))


@hosts.command(epilog="Example: ratchet hosts resume box1")
@name_argument
@project_option
@click.pass_obj
def resume(above: str | None, name: str, project: str | None) -> None:
    """Use a host again that was drained or lent."""
    click.echo(ask(find_project(project or above), "undrain", name=name))


hosts.add_command(resume, "undrain")  # what the keys call it


@hosts.command(epilog="Example: ratchet hosts lend box1 --hours 2 --device GPU-5b1c")
@name_argument
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), required=True, help="For how long.")
@click.option(
    "--device",
    default="",
    metavar="UUID",
    shell_complete=_devices,
    help="Only this device: its UUID, the beginning of it, or gpu0 as `ratchet hosts` calls it.",
)
@project_option
@click.pass_obj
def lend(above: str | None, name: str, hours: float, device: str, project: str | None) -> None:
    """Leave a host, or one of its devices, to others for some hours; what runs there goes on to its end."""
    click.echo(ask(find_project(project or above), "lend", name=name, hours=hours, device=device))
