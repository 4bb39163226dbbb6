"""`ratchet`: the live console."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from console.commands.engine import actor, order_options
from console.place import find_project
from engine import api_key, lock
from engine.clock import RealClock
from engine.errors import UsageError
from engine.inbox import Inbox
from engine.state_folder import state_directory


@click.command(epilog="Example: ratchet my-project")
@click.argument("path", required=False)
@order_options
@click.option("--attach-only", is_flag=True, help="Look, and start no engine.")
def console(path: str | None, attach_only: bool, **order: object) -> int:
    """The live console. Starts the engine when none runs; leaving it (q) leaves the engine running."""
    api_key.hide([sys.executable, *sys.orig_argv[1:]])
    return open_console(find_project(path), attach_only=attach_only, **order)


def open_console(project: Path, *, attach_only: bool = False, **options: object) -> int:
    from engine.service import Order, start_detached, stop_engine

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the console needs a terminal", "`ratchet run` prints plain lines, `ratchet status --json` data"
        )
    clock = RealClock()
    state = state_directory(project)
    order = Order(project=str(project), **options)  # type: ignore[arg-type]

    def start() -> None:
        asyncio.run(start_detached(order, clock))

    def stop() -> None:
        asyncio.run(stop_engine(state, Inbox(state / "inbox.db"), actor(), clock))

    if not attach_only and lock.living(state) is None:
        click.echo("starting the engine ...", err=True)
        start()
    from console.app import run

    return run(
        state, lambda: lock.living(state) is not None, start, stop, clock, campaign=order.campaign, actor=actor()
    )
