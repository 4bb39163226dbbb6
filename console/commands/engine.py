"""Starting and stopping the engine."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from console.place import find_project, inbox_of, project_option
from console.plain_text import clean
from engine import api_key, lock
from engine.clock import Clock, RealClock
from engine.errors import NothingToDo, RatchetError
from engine.inbox import Inbox
from engine.state_folder import state_directory
from engine.store.reading import Reader, last_event

ANSWER_SECONDS = 10.0
ABOUT = ("number", "name", "device")  # what tells one request of a kind from another
F = TypeVar("F", bound=Callable[..., Any])


def order_options(command: F) -> F:
    """What `run`, `start` and the console share."""
    for option in (
        click.option(
            "--experiments", type=click.IntRange(min=0), metavar="N", help="Stop after N more proposals."
        ),
        click.option("--hours", type=click.FloatRange(min=0), metavar="H", help="Stop after H more hours."),
        click.option("--dollars", type=click.FloatRange(min=0), metavar="D", help="Spend D more dollars at most."),
        click.option(
            "--proposer", type=click.Choice(["search", "command", "claude"]), help="Instead of the file's."
        ),
        click.option("--campaign", metavar="NAME", help="Go on with this campaign, or begin it."),
        click.option("--committed", is_flag=True, help="Begin from HEAD, not from the files as they are."),
        click.option("--seed", type=int, metavar="S", help="Of a new campaign: all trial seeds derive from it."),
        click.option(
            "--take-over", is_flag=True, help="Even if another engine claims the project (it is fenced off)."
        ),
    ):
        command = option(command)
    return command


@click.command(epilog="Example: ratchet run --experiments 3 my-project")
@click.argument("path", required=False)
@order_options
def run(path: str | None, **order: object) -> int:
    """Run the engine here, with plain progress lines.

    Ctrl-C stops cleanly (exit code 130): running trials are ended and queue again for the next start. A
    second Ctrl-C does not wait for their end; the next start collects them.
    When the campaign cannot go on by itself (its baseline fails, say), the command says why and exits with 1.
    """
    api_key.hide([sys.executable, *sys.orig_argv[1:]])
    return asyncio.run(run_here(find_project(path), RealClock(), **order))


async def run_here(project: Path, clock: Clock, **options: object) -> int:
    """The engine in this process and its events as lines on standard output."""
    from console.plain import follow
    from engine.service import Order, exit_code_of, serve

    order = Order(project=str(project), **options)  # type: ignore[arg-type]
    path = state_directory(project) / "store.db"
    reader = _reader(path)
    after = last_event(reader.conn) if reader is not None else 0
    if reader is not None:
        reader.close()

    async def show() -> None:
        while (reader := _reader(path)) is None:
            await clock.sleep(0.1)
        try:
            async for text in follow(reader, clock, after):
                click.echo(text)
        finally:
            reader.close()

    def ready() -> None:
        # A person's pause outlives the engine: this run would wait without a word.
        if (reader := _reader(path)) is not None:
            row = reader.campaign(order.campaign)
            reader.close()
            if row.state == "paused":
                click.echo(f"PAUSED: {clean(row.pause_reason)}; `ratchet resume -C {project}` goes on")

    shown = asyncio.create_task(show())
    try:
        reason = await serve(order, clock, ready, alone=True)
        await clock.sleep(0.3)  # let the last lines out
    finally:
        shown.cancel()
        await asyncio.gather(shown, return_exceptions=True)
    click.echo(f"engine stopped: {reason}")
    return exit_code_of(reason)


def _reader(path: Path) -> Reader | None:
    """None while there is no store yet, or none to be read: the engine itself says what is wrong with it."""
    try:
        return Reader(path)
    except RatchetError:
        return None


@click.command(epilog="Example: ratchet start --hours 8")
@click.argument("path", required=False)
@order_options
def start(path: str | None, **order: object) -> None:
    """Start the engine in the background; it survives this terminal."""
    from engine.service import Order, start_detached

    project = find_project(path)
    held = lock.living(state_directory(project))
    if held is not None and not order["take_over"]:
        raise NothingToDo(f"an engine runs already (pid {held.pid} on {held.host})", "`ratchet` attaches to it")
    found = asyncio.run(start_detached(Order(project=str(project), **order), RealClock()))  # type: ignore[arg-type]
    click.echo(f"engine started (pid {found.pid}); `ratchet` attaches, `ratchet stop` ends it")


@click.command(epilog="Examples: ratchet stop   |   ratchet stop --leave-trials my-project")
@click.argument("path", required=False)
@click.option("--leave-trials", is_flag=True, help="Let running trials go on; the next start collects them.")
def stop(path: str | None, leave_trials: bool) -> None:
    """Stop the engine. Running trials are ended and queue again for the next start."""
    from engine.service import stop_engine

    project = find_project(path)
    state = state_directory(project)
    stopped = lock.living(state) is not None and asyncio.run(
        stop_engine(state, inbox_of(project), actor(), RealClock(), leave_trials=leave_trials)
    )
    if not stopped:
        raise NothingToDo("no engine runs here", "`ratchet start` starts one")
    click.echo("engine stopped")


@click.command(epilog="Example: ratchet pause -C my-project")
@project_option
def pause(project: str | None) -> None:
    """Start nothing new. Running trials go on to their end."""
    click.echo(ask(find_project(project), "pause"))


@click.command(epilog="Example: ratchet resume")
@project_option
def resume(project: str | None) -> None:
    """Go on after a pause."""
    click.echo(ask(find_project(project), "resume"))


@click.command(epilog="Example: ratchet stop; ratchet restore && ratchet status")
@project_option
def restore(project: str | None) -> None:
    """Put the newest backup that passes its check in the place of a damaged store.

    The damaged files are kept beside it. What happened since the backup is lost from the history; commits
    on the campaign's branch are not touched.
    """
    from engine.store.core import restore as put_back

    state = state_directory(find_project(project))
    if not state.is_dir():
        raise NothingToDo(f"there is no store here: {state} does not exist")
    # Held, not only looked at: no engine may start on the store while it is being replaced.
    held = lock.EngineLock(state)
    mine = asyncio.run(held.acquire(RealClock()))
    try:
        used, aside = put_back(state / "store.db")
    finally:
        held.release(replace(mine, released=True))
    click.echo(f"restored {used.name}" + (f"; the damaged store is {aside.name}" if aside else ""))


def actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "person"


def ask(project: Path, kind: str, **args: object) -> str:
    """File a request and wait for the engine's answer; returns what it said. A refusal raises."""
    clock = RealClock()
    state = state_directory(project)
    if not (state / "store.db").exists():
        raise NothingToDo("no campaign here yet", "start one with `ratchet run` or `ratchet`")
    inbox = inbox_of(project)
    for old in inbox.waiting(("asleep",)):
        if old.kind == kind and all(old.args.get(what) == args.get(what) for what in ABOUT):
            inbox.withdraw(old.id, clock.now())  # said again, with what is seen now: one of them is enough
    request = inbox.ask(kind, actor(), clock.now(), **args)
    if lock.living(state) is None:
        return "no engine runs: the request waits, and is asked again when one starts"
    return asyncio.run(_answer(inbox, request, clock))


async def _answer(inbox: Inbox, request: int, clock: Clock) -> str:
    waited = 0.0
    while waited < ANSWER_SECONDS:
        inbox.repeat(request, clock.now())  # an engine that was just starting put it to sleep: still meant
        found = inbox.get(request)
        if found is not None and found.state not in ("waiting", "asleep"):
            if found.state == "refused":
                raise RatchetError(found.outcome)
            return found.outcome
        await clock.sleep(0.03)
        waited += 0.03
    return "the engine has not answered yet; the request waits"
