"""What a proposer may look up while it works: history, diffs, logs and curves, from the store and from disk.

Read only. Texts are cleaned and bounded here; whoever puts one before a model fences it (``engine.fencing``).
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path

from engine import context
from engine.fencing import clean, one_line
from engine.store import reading
from engine.store.core import StoreThread
from engine.store.rows import CampaignRow, TrialRow
from engine.types import PastExperiment

TRIALS = 3  # whose logs are shown, the newest first
LINES = 400  # of a log, at most
LINE_LENGTH = 500
LOG_BYTES = 12_000  # of one log, as shown
TAIL_BYTES = 256 << 10  # of a log's end that is read at all
SERIES = 12


class StoreRecords:
    """``types.Records`` of one campaign. ``state``: Ratchet's own folder, under which attempts have theirs."""

    def __init__(self, store: StoreThread, campaign: CampaignRow, state: Path) -> None:
        self._store, self._campaign, self._state = store, campaign, state

    async def history(self) -> tuple[PastExperiment, ...]:
        """All experiments that became a proposal, oldest first, against the incumbent of this moment."""
        return await self._store.read(_history, self._campaign)

    async def diff(self, number: int) -> str:
        return await self._store.read(reading.diff, self._campaign.id, number)

    async def logs(self, number: int, lines: int) -> tuple[tuple[str, str], ...]:
        """(trial in words, last ``lines`` lines of its log) of the experiment's newest trials, newest first.

        At most TRIALS logs, LINES lines and LOG_BYTES bytes each; the words say what was left out. A log that
        cannot be read says so in place of its text.
        """
        trials = await self._store.read(_trials, self._campaign.id, number)
        begun = [trial for trial in trials if trial.directory][:TRIALS]
        return tuple([await asyncio.to_thread(self._log, trial, max(1, min(lines, LINES))) for trial in begun])

    async def curve(self, number: int) -> tuple[tuple[str, tuple[tuple[float, float], ...]], ...]:
        """(series in words, its (step, value) points) of the newest trial with points, by the series' name."""
        return await self._store.read(_curve, self._campaign.id, number)

    def _log(self, trial: TrialRow, lines: int) -> tuple[str, str]:
        words = _words(trial)
        try:
            tail = _read_end(self._state, f"{trial.directory}/control/log")
        except OSError as fault:
            gone = isinstance(fault, FileNotFoundError)
            why = "it is not on this machine, or not any more" if gone else fault.strerror
            return words, f"(the log cannot be read: {why})"
        text = readable(tail.data, whole=tail.skipped == 0)
        if not text:
            return words, "(the log is empty)"
        rows = text.split("\n")
        shown = _fitting(rows[-lines:])
        if tail.skipped or len(shown) < len(rows):
            size = f"the last {len(shown)} lines of {tail.skipped + len(tail.data):,} bytes"
        else:
            size = "the whole log"
        return f"{words}, {size}", "\n".join(shown)


def _fitting(rows: list[str]) -> list[str]:
    """The last of ``rows`` that fit LOG_BYTES together."""
    room, first = LOG_BYTES, len(rows)
    while first > 0 and (room := room - len(rows[first - 1].encode()) - 1) >= 0:
        first -= 1
    return rows[first:]


def _history(conn: sqlite3.Connection, campaign: CampaignRow) -> tuple[PastExperiment, ...]:
    # The row is read anew: what stands on the incumbent changes with every keep.
    return context.past(conn, reading.campaign(conn, campaign.name) or campaign)


def _trials(conn: sqlite3.Connection, campaign: int, number: int) -> list[TrialRow]:
    """Trials of the experiment's own versions, the newest first; runs of the incumbent beside them are not its."""
    row = reading.experiment(conn, campaign, number)
    if row is None:
        return []
    found = reading.trials(conn, campaign, experiment=row.id)
    return sorted((t for t in found if t.version != row.base), key=lambda t: -t.id)


def _curve(
    conn: sqlite3.Connection, campaign: int, number: int
) -> tuple[tuple[str, tuple[tuple[float, float], ...]], ...]:
    for trial in _trials(conn, campaign, number):
        names = sorted(reading.series(conn, trial.id))[:SERIES]
        if names:
            return tuple(
                (
                    f"{one_line(name, 80)} of {_words(trial)}",
                    tuple((step, value) for step, value, _ in reading.points(conn, trial.id, name)),
                )
                for name in names
            )
    return ()


def _words(trial: TrialRow) -> str:
    how = trial.outcome or trial.state
    return f"trial {trial.id} ({trial.purpose}, seed {trial.seed}, {how}, {trial.seconds:.0f} s)"


@dataclass(frozen=True, slots=True)
class _Tail:
    data: bytes
    skipped: int  # bytes before


def _read_end(folder: Path, name: str) -> _Tail:
    """The last TAIL_BYTES of a regular file below ``folder``. Raises OSError.

    Without a sandbox a candidate can put anything in the log's place: a link to a key, a pipe that never opens.
    """
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise OSError(0, "it lies outside Ratchet's folder")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file")
        start = max(0, status.st_size - TAIL_BYTES)
        return _Tail(os.pread(descriptor, TAIL_BYTES, start), start)
    finally:
        os.close(descriptor)


_GARBAGE = re.compile("\ufffd{4,}")


def readable(data: bytes, *, whole: bool = True) -> str:
    """A log's bytes as a person would see them at its end: progress bars at their last state, no escapes.

    ``whole`` False: the first line has lost its beginning and is dropped.
    """
    # A hole punched into a capped log reads as NULs.
    lines = data.replace(b"\0", b"").decode("utf-8", "replace").split("\n")
    if not whole and len(lines) > 1:
        lines = lines[1:]
    rows = [_last_state(line) for line in lines]
    while rows and not rows[-1]:
        rows.pop()
    return "\n".join(rows)


def _last_state(line: str) -> str:
    # A progress bar may have a million states in one line: the last that shows something is among the last few.
    states = [clean(state).replace("\n", " ").rstrip() for state in line.rsplit("\r", 8)[-8:]]
    last = next((state for state in reversed(states) if state.strip()), "")
    last = _GARBAGE.sub(lambda run: f"[{len(run[0])} unreadable bytes]", last)
    over = len(last) - LINE_LENGTH
    return last if over <= 0 else f"{last[:LINE_LENGTH]} [{over:,} more characters]"
