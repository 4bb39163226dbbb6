"""`ratchet`: the live console."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from console.commands.engine import actor, order_options
from console.commands.tmux import copy_door
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
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the console needs a terminal", "`ratchet run` prints plain lines, `ratchet status --json` data"
        )
    clock = RealClock()
    state = state_directory(project)

    # The engine's code is a third of a second of importing and 20 MB: only for who starts or stops one.
    def start() -> None:
        from engine.service import Order, start_detached

        order = Order(project=str(project), **options)  # type: ignore[arg-type]
        asyncio.run(start_detached(order, clock))

    def stop() -> None:
        from engine.service import stop_engine

        asyncio.run(stop_engine(state, Inbox(state / "inbox.db"), actor(), clock))

    if not attach_only and lock.living(state) is None:
        click.echo("starting the engine ...", err=True)
        start()
    from console import last_seen
    from console.app import run
    from console.commands.editing import candidate_reader, open_editor

    return run(
        state,
        lambda: lock.living(state),
        start,
        stop,
        clock,
        campaign=None if (named := options.get("campaign")) is None else str(named),
        actor=actor(),
        copy=copy_door(),
        candidate=candidate_reader(project, state, clock),
        editor=open_editor,
        seen=last_seen.place(state, os.environ, os.getuid()),
    )
