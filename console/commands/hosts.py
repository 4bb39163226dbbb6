"""The machines that run trials, and a person's word on them."""

from __future__ import annotations

from typing import Any

import click

from console.commands.engine import ask
from console.formats import duration
from console.place import campaign_option, find_project, json_option, project_option, reader_of
from console.plain_text import clean
from console.shapes import dumps
from engine.clock import RealClock
from engine.errors import NothingToDo
from engine.store.reading import Reader
from engine.store.reading_hosts import HostRow, HostUse, uses
from engine.store.reading_hosts import hosts as host_rows


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
    for shape in shapes:
        _show(shape)


def _show(shape: dict[str, Any]) -> None:
    cost = f"  ${shape['dollars']:.2f}" if shape["usd_per_hour"] or shape["dollars"] else ""
    kinds = ", ".join(f"{n} of {clean(kind)}" for kind, n in shape["kinds"].items()) or "nothing seen yet"
    click.echo(
        f"{shape['name']:<16} {shape['sort']:<6} {shape['state']:<8} "
        f"{shape['running']}/{shape['capacity']} running, {shape['ended']} ended, "
        f"busy {duration(shape['busy_seconds'])}{cost}"
    )
    click.echo(f"  {kinds}")
    if shape["reason"]:
        click.echo(f"  {clean(shape['reason'])}" + (f"\n  mend: {clean(shape['mend'])}" if shape["mend"] else ""))
    if shape["drained_by"]:
        click.echo(f"  drained by {clean(shape['drained_by'])}; `ratchet hosts resume {shape['name']}`")
    now = RealClock().now()
    for device, until in shape["lent"].items():
        if until > now:
            click.echo(f"  {device or 'all of it'} lent for another {duration(until - now)}")


def host_shapes(reader: Reader, campaign: int, now: float) -> list[dict[str, Any]]:
    """What `hosts --json` prints (docs/json.md)."""
    found = uses(reader.conn, campaign)
    return [_shape(row, found.get(row.name, HostUse()), now) for row in host_rows(reader.conn)]


def _shape(row: HostRow, use: HostUse, now: float) -> dict[str, Any]:
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
        "ended": use.ended,
        "busy_seconds": use.seconds,
        "dollars": use.spent / 1e9,
        "usd_per_hour": row.usd_per_hour,
        "containment": row.containment,
        "drained_by": row.drained,
        "lent": row.lent,
        "updated_at": row.updated_at,
    }


@hosts.command(epilog="Example: ratchet hosts drain box1")
@click.argument("name")
@project_option
@click.pass_obj
def drain(above: str | None, name: str, project: str | None) -> None:
    """Start no more trials on a host; what runs there goes on to its end."""
    click.echo(ask(find_project(project or above), "drain", name=name))


@hosts.command(epilog="Example: ratchet hosts resume box1")
@click.argument("name")
@project_option
@click.pass_obj
def resume(above: str | None, name: str, project: str | None) -> None:
    """Use a host again that was drained or lent."""
    click.echo(ask(find_project(project or above), "undrain", name=name))


@hosts.command(epilog="Example: ratchet hosts lend box1 --hours 2 --device GPU-5b1c")
@click.argument("name")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), required=True, help="For how long.")
@click.option(
    "--device", default="", metavar="UUID", help="Only this device (the beginning of its UUID is enough)."
)
@project_option
@click.pass_obj
def lend(above: str | None, name: str, hours: float, device: str, project: str | None) -> None:
    """Leave a host, or one of its devices, to others for some hours; what runs there goes on to its end."""
    click.echo(ask(find_project(project or above), "lend", name=name, hours=hours, device=device))
