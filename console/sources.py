"""What the feed reads, one small class or function a source. All of it runs in the feed's thread.

Each reads only what may have changed since it last looked, and bounded: a log's tail, a stream's end, a
window of the history.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from console.plain_text import clean_lines
from console.state import Curve, Detail, LogTail, StreamRead, listed
from console.state import ExperimentsRead as Rows
from engine.store import reading
from engine.store.reading import TrialRow

LOG_LINES = 400
LOG_BYTES = 64 * 1024
LINE_LIMIT = 2000  # characters of one line of a log or diff that can ever be looked at
STREAM_CHARACTERS = 12_000
DIFF_LINES = 20_000


def window(conn: sqlite3.Connection, campaign: int, low: int, high: int) -> Rows:
    """Numbers ``low`` to ``high``, both included."""
    rows = reading.experiments(conn, campaign, before=high + 1, last=high - low + 1)
    return Rows(tuple(listed(row) for row in rows if row.number >= low), (low, high))


def open_and_closed(
    conn: sqlite3.Connection, campaign: int, before: frozenset[int]
) -> tuple[Rows, frozenset[int]]:
    """Rows that are open, and those of ``before`` (open when last looked) that are not any more."""
    rows = reading.experiments(conn, campaign, open_only=True)
    now = frozenset(row.number for row in rows)
    closed = [found for n in sorted(before - now) if (found := reading.experiment(conn, campaign, n))]
    return Rows(tuple(listed(row) for row in (*rows, *closed))), now


def detail(conn: sqlite3.Connection, campaign: int, number: int, old: Detail | None) -> Detail | None:
    """The experiment whole; its diff is read again only when its versions changed."""
    row = reading.experiment(conn, campaign, number)
    if row is None:
        return None
    trials = tuple(reading.trials(conn, campaign, experiment=row.id))
    if old is not None and old.row.id == row.id and (old.row.base, old.row.candidate) == (row.base, row.candidate):
        lines = old.diff
    else:
        found = clean_lines(reading.diff(conn, campaign, number))[: DIFF_LINES + 1]
        if len(found) > DIFF_LINES:
            found[DIFF_LINES:] = [f"... cut after {DIFF_LINES} lines; `ratchet diff {number}` prints all"]
        lines = tuple(line[:LINE_LIMIT] for line in found)
    return Detail(row, lines, trials)


class StreamTail:
    """The end of what a proposer streams, by row id, so that a long stream is not read again and again."""

    def __init__(self) -> None:
        self._experiment = 0
        self._after = 0
        self._parts: list[tuple[str, str]] = []

    def read(self, conn: sqlite3.Connection, experiment: int) -> StreamRead | None:
        """None when nothing is new."""
        fresh = experiment != self._experiment
        if fresh:
            self._experiment, self._after, self._parts = experiment, 0, []
        rows = reading.stream(conn, experiment, self._after)
        if not rows and not fresh:
            return None
        for row in rows:
            self._after = row.id
            if self._parts and self._parts[-1][0] == row.channel:
                self._parts[-1] = (row.channel, self._parts[-1][1] + row.text)
            else:
                self._parts.append((row.channel, row.text))
        self._trim()
        return StreamRead(experiment, tuple(self._parts))

    def _trim(self) -> None:
        total = sum(len(text) for _, text in self._parts)
        while len(self._parts) > 1 and total - len(self._parts[0][1]) > STREAM_CHARACTERS:
            total -= len(self._parts.pop(0)[1])
        if total > 2 * STREAM_CHARACTERS:
            channel, text = self._parts[0]
            self._parts[0] = (channel, "…" + text[total - STREAM_CHARACTERS :])


class LogFile:
    """The tail of one attempt's log, by offset. The job caps its log, so the file may shrink: begin again."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._key: tuple[int, str] | None = None
        self._offset = 0
        self._inode = 0
        self._rest = b""
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._problem = ""

    def read(self, trial: TrialRow, label: str) -> LogTail | None:
        """None when nothing is new."""
        key = (trial.id, trial.directory)
        fresh = key != self._key
        if fresh:
            self._key = key
            self._restart(0)
        old = self._problem
        try:
            grown = self._more(self._state_dir / trial.directory / "control" / "log")
            self._problem = ""
        except FileNotFoundError:
            grown, self._problem = (
                False,
                "no output yet" if trial.state != "done" else "its log is not here any more",
            )
        except OSError as error:
            grown, self._problem = False, f"the log cannot be read: {error.strerror}"
        if not (fresh or grown or old != self._problem):
            return None
        rest = clean_lines(self._rest.decode("utf-8", "replace"))[-1:]
        lines = tuple(line[:LINE_LIMIT] for line in (*self._lines, *(rest if rest != [""] else ())))
        return LogTail(trial.id, label, lines, self._offset, self._problem)

    def _restart(self, offset: int) -> None:
        self._offset, self._rest = offset, b""
        self._lines.clear()

    def _more(self, path: Path) -> bool:
        with path.open("rb") as handle:
            found = os.fstat(handle.fileno())
            if found.st_ino != self._inode or found.st_size < self._offset:
                self._inode = found.st_ino
                self._restart(0)
            if found.st_size == self._offset:
                return False
            if found.st_size - self._offset > LOG_BYTES:
                self._restart(found.st_size - LOG_BYTES)
                handle.seek(self._offset)
                self._offset += len(handle.readline(LOG_BYTES // 2))  # the middle of a line is not shown
            handle.seek(self._offset)
            data = handle.read(found.st_size - self._offset)
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LOG_BYTES:]  # a program that never ends its line must not fill memory
        for line in whole[-LOG_LINES:]:
            self._lines.extend(clean_lines(line[-LOG_BYTES:].decode("utf-8", "replace")))
        return True


# --- curves ------------------------------------------------------------------------------------------


def choose_series(live: dict[str, int], metric: str) -> str | None:
    """The series to look at while a trial runs: a training loss, any loss, the metric, the longest.

    ``live`` gives the points of each series. A curve of one point shows nothing, so those come last.
    """
    if not live:
        return None

    def rank(name: str) -> tuple[int, int, int, str]:
        low = name.lower()
        kind = 4
        if "loss" in low and "train" in low:
            kind = 0
        elif "loss" in low or "bpb" in low or "nll" in low:
            kind = 1
        elif low == metric.lower():
            kind = 2
        elif metric.lower() in low:
            kind = 3
        return (0 if live[name] > 1 else 1, kind, -live[name], name)

    return min(live, key=rank)


def reference_trial(trials: Sequence[TrialRow], live: TrialRow) -> TrialRow | None:
    """The incumbent's trial to compare with: the same protocol, best the same seed, else the newest."""
    done = [t for t in trials if t.outcome == "ok" and t.protocol == live.protocol and t.id != live.id]
    if not done:
        return None
    return max(done, key=lambda t: (t.seed == live.seed, t.id))


def curve(conn: sqlite3.Connection, trial: int, label: str, series: str) -> Curve | None:
    """None without points. x is the step, or seconds where every step is the same (none was printed)."""
    rows = reading.points(conn, trial, series)
    if not rows:
        return None
    by_step = rows[0][0] != rows[-1][0]
    points = tuple((step if by_step else at, value) for step, value, at in rows)
    return Curve(trial, label, series, "step" if by_step else "s", points)


def label(trial: TrialRow) -> str:
    """``#41 screen seed 7``."""
    who = f"#{trial.number} " if trial.number is not None else ""
    return f"{who}{trial.purpose} seed {trial.seed}"
