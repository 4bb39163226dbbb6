"""`ratchet replay`: a campaign once more in the console, from its store or from a recording's file."""

from __future__ import annotations

import getpass
import importlib.resources
import json
import os
import platform
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console import plain
from console.place import campaign_option, find_project
from console.plain_text import clean
from engine.errors import NothingToDo, RatchetError, UsageError
from engine.events import from_row
from engine.state_folder import state_directory

if TYPE_CHECKING:
    from engine.store.recording import Recording
    from engine.store.timeline import Timeline

SHIPPED = "campaign.ratchet"
DEMO_SPEED = 10.0
LONG_BYTES = 30_000_000  # of a store: reading it takes seconds


@click.command(
    epilog="Examples: ratchet replay --from '#7' --speed 10   |   ratchet replay --record nov21.ratchet"
)
@click.argument("source", required=False, metavar="[PATH|FILE]")
@click.option("--speed", type=click.FloatRange(0.1, 100_000), default=60.0, show_default=True, metavar="X")
@click.option("--from", "begin", metavar="TIME|#N", help="Begin at 1:20:00, 90s, 20m or 2h, or at experiment N.")
@campaign_option
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE", help="Write a recording, to give away.")
@click.option("--note", default="", metavar="TEXT", help="What those who see the recording are told of it.")
def replay(
    source: str | None, speed: float, begin: str | None, campaign: str | None, record: Path | None, note: str
) -> int:
    """Show a campaign as it happened, faster: from its store, also while its engine works, or from a recording.

    Nothing is decided or run by it, and nothing of the project is touched. Without a terminal its history is
    printed. A recording holds no names of machines and people, no paths and no keys; what people wrote into
    prompts, code and titles stays, so look through it (zcat FILE) before you give it away.
    """
    from engine.store import recording

    if source is not None and Path(source).is_file():
        found = recording.load(Path(source))
    else:
        store = state_directory(find_project(source)) / "store.db"
        if store.is_file() and store.stat().st_size > LONG_BYTES:
            click.echo("reading the campaign ...", err=True)
        found = recording.of_store(store, campaign)
    if record is not None:
        return write(found, record, note)
    return show(found, speed, begin)


def shipped() -> Recording:
    """The recorded campaign that comes with the package."""
    from engine.store import recording

    file = importlib.resources.files("console") / "recorded" / SHIPPED
    return recording.load(file.read_bytes(), "the recording of this package")


def show(found: Recording, speed: float, begin: str | None = None) -> int:
    """On a terminal the console, else the history as lines."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print_history(found)
        return 0
    from console.commands.tmux import copy_door
    from console.replay.app import run

    told = str(found.manifest.get("note", ""))
    return run(found, speed, _beginning(begin), note=told, copy=copy_door())


def _beginning(text: str | None) -> Callable[[Timeline], float]:
    def found(timeline: Timeline) -> float:
        if text is None:
            return timeline.start
        if (number := re.fullmatch(r"#?(\d+)", text.strip())) is not None:
            if int(number[1]) not in timeline.proposed:
                known = f"1 to {max(timeline.proposed)}" if timeline.proposed else "none"
                raise NothingToDo(f"there is no experiment {number[1]} in it", f"it holds {known}")
            return timeline.proposed[int(number[1])]
        seconds = seconds_of(text)
        if timeline.start + seconds > timeline.end:
            from console.replay.deck import clock_words

            raise UsageError(f"it ends before {text}", f"it lasts {clock_words(timeline.end - timeline.start)}")
        return timeline.start + seconds

    return found


def seconds_of(text: str) -> float:
    """``1:20:00``, ``20:00``, ``90s``, ``20m``, ``2h`` since the start. Raises UsageError."""
    if (clock := re.fullmatch(r"(?:(\d{1,6}):)?(\d{1,6}):(\d{1,2})", text.strip())) is not None:
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return hours * 3600.0 + minutes * 60 + seconds
    if (length := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([smh])", text.strip())) is not None:
        return float(length[1]) * {"s": 1, "m": 60, "h": 3600}[length[2]]
    raise UsageError(
        f"{text!r} is no time", "give 1:20:00, 90s, 20m or 2h since the start, or #N for an experiment"
    )


# --- without a terminal ----------------------------------------------------------------------------------


def print_history(found: Recording) -> None:
    """What happened, one line an event, without its trials. Raises RatchetError for rows that no engine wrote."""
    try:
        _print_history(found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RatchetError(
            f"the recording is not one that an engine wrote: {error!r}", "ask for another"
        ) from error


def _print_history(found: Recording) -> None:
    from console.replay.deck import clock_words

    rows = sorted(found.rows.get("event", ()), key=lambda row: int(row["id"]))
    start = float(rows[0]["at"]) if rows else 0.0
    name = clean(str(found.rows["campaign"][0]["name"]))
    day = clean(str(found.manifest.get("recorded") or f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d}"))
    click.echo(f"REPLAY of {name}, recorded {day}: what happened, by the time since its start")
    if note := found.manifest.get("note"):
        click.echo(clean(str(note)))
    for row in rows:
        event = from_row(str(row["kind"]), json.loads(row["data"]))
        text = plain.line(event) if event is not None else None
        if text is not None and not text.startswith("  "):
            told = "\n".join(map(clean, text.split("\n")))
            click.echo(f"{clock_words(float(row['at']) - start):>8} {told}")
    click.echo("no terminal: in one, this command shows it in the console, at speed or step by step")


# --- recording -------------------------------------------------------------------------------------------


def write(found: Recording, file: Path, note: str) -> int:
    from engine.store import recording

    if file.exists():
        raise UsageError(f"{file} exists already", "name another file, or remove it")
    taken = recording.scrubbed(
        replace(found, manifest=recording.manifest(found, note)), private_names(os.environ.get)
    )
    size = recording.save(taken, file)
    of = taken.manifest
    click.echo(
        f"recorded {clean(str(of['campaign']))} in {file}: {of['experiments']} experiments,"
        f" {of['keeps']} kept, {size / 1000:.0f} KB\n`ratchet replay {file}` shows it;"
        f" look through it before you give it away: zcat {file}"
    )
    return 0


def private_names(environ: Callable[[str], str | None]) -> set[str]:
    """Of this machine and this person, as far as the machine knows them."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0], platform.node()}
    try:
        names.add(getpass.getuser())
    except (KeyError, OSError):  # a container whose user has no name
        pass
    names |= {environ(name) or "" for name in ("USER", "LOGNAME", "HOSTNAME", "SUDO_USER")}
    if home := environ("HOME"):
        names.add(Path(home).name)
    return {name for name in names if name}
