"""What the feed reads, one small class or function a source. All of it runs in the feed's thread.

Each reads only what may have changed since it last looked, and bounded: a log's tail, a stream's end, a
window of the history.
"""

from __future__ import annotations

import os
import re
import sqlite3
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from console.charting import MOST_MARKS
from console.plain_text import clean_lines
from console.state import Curve, Detail, LogTail, StreamRead, listed
from console.state import ExperimentsRead as Rows
from engine.store import reading, reading_hosts
from engine.store.reading_hosts import HostRow
from engine.store.rows import TrialRow

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
        # As git wrote them: cleaning here would hide what stands before a carriage return from a reviewer.
        found = reading.diff(conn, campaign, number).split("\n")[: DIFF_LINES + 1]
        if len(found) > DIFF_LINES:
            found[DIFF_LINES:] = [f"... cut after {DIFF_LINES} lines; `ratchet diff {number}` prints all"]
        lines = tuple(line[:LINE_LIMIT] for line in found)
    return Detail(row, lines, trials)


class Hosts:
    """The table of hosts, taken apart only when a row of it was written."""

    def __init__(self) -> None:
        self._written: list[tuple[str, float]] | None = None
        self._rows: tuple[HostRow, ...] = ()

    def read(self, conn: sqlite3.Connection) -> tuple[HostRow, ...]:
        written = reading_hosts.written(conn)
        if written != self._written:
            self._written, self._rows = written, tuple(reading_hosts.hosts(conn))
        return self._rows


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


def curve(
    conn: sqlite3.Connection, trial: TrialRow, label: str, series: str, names: Iterable[str] = ()
) -> Curve | None:
    """None without points. x is the step, or seconds where every step is the same (none was printed).

    ``names``: the trial's series, among which a count of tokens is looked for.
    """
    rows = reading.points(conn, trial.id, series)
    if not rows:
        return None
    by_step = rows[0][0] != rows[-1][0]
    points = tuple((step if by_step else at, value) for step, value, at in rows)
    tokens: tuple[float, ...] = ()
    if by_step and (name := tokens_series(names)) is not None:
        tokens = beside([(step, value) for step, value, _ in reading.points(conn, trial.id, name)],
                        [step for step, _, _ in rows])  # fmt: skip
    steps, seconds = reading.budget(conn, trial.protocol)
    return Curve(
        trial.id, label, series, "step" if by_step else "s", points, tuple(at for _, _, at in rows), tokens,
        steps, seconds, trial.number,
    )  # fmt: skip


_TOKENS = re.compile(
    r"(^|[/._\- ])((n|num|total|train|cumulative)[_ ]?)?tokens([_ ]?(seen|processed|total))?$", re.I
)


def tokens_series(names: Iterable[str]) -> str | None:
    """The series that counts tokens: by its name, and no rate (``tokens/s``) nor unit (``tokens_M``)."""
    return min((name for name in names if _TOKENS.search(name)), key=lambda n: (len(n), n), default=None)


def beside(counted: Sequence[tuple[float, float]], steps: Sequence[float]) -> tuple[float, ...]:
    """The count at each of ``steps``, linear between (step, count); () where the counts do not grow with steps.

    A run that prints its count less often than its loss: points outside the counted steps continue the line.
    """
    if len(counted) < 2 or any(b[0] <= a[0] or b[1] <= a[1] for a, b in pairwise(counted)):
        return ()
    found = []
    for step in steps:
        i = min(max(1, bisect_left(counted, (step,))), len(counted) - 1)
        (x0, y0), (x1, y1) = counted[i - 1], counted[i]
        found.append(max(0.0, y0 + (y1 - y0) * (step - x0) / (x1 - x0)))
    return tuple(found)


class MarkedCurves:
    """The curves of marked experiments; those of ended trials are read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], Curve] = {}

    def read(
        self, conn: sqlite3.Connection, campaign: int, numbers: Sequence[int], like: TrialRow | None, series: str
    ) -> tuple[tuple[Curve, ...], tuple[tuple[int, str], ...]]:
        """(curves, (number, why there is none)) of at most MOST_MARKS experiments.

        Of an experiment's runs the one that compares best with ``like``, the trial shown: it succeeded, under the
        same protocol, with the same seed. '' as ``series`` chooses as for a trial of its own.
        """
        curves, without = [], []
        for number in numbers[:MOST_MARKS]:
            found = self._one(conn, campaign, number, like, series)
            if isinstance(found, str):
                without.append((number, found))
            else:
                curves.append(found)
        wanted = {c.trial for c in curves}
        self._known = {key: c for key, c in self._known.items() if c.trial in wanted and key[1] == series}
        return tuple(curves), tuple(without)

    def _one(
        self, conn: sqlite3.Connection, campaign: int, number: int, like: TrialRow | None, series: str
    ) -> Curve | str:
        row = reading.experiment(conn, campaign, number)
        if row is None:
            return "no such experiment"
        ran = [
            t for t in reading.trials(conn, campaign, experiment=row.id) if t.attempts or t.started_at is not None
        ]
        if not ran:
            return "it has not run"
        trial = max(ran, key=lambda t: _alike(t, like))
        if (known := self._known.get((trial.id, series))) is not None:
            return known
        names = reading.series(conn, trial.id)
        name = series or choose_series(names, "") or ""
        found = curve(conn, trial, f"#{number} seed {trial.seed}", name, names)
        if found is None:
            return f"it has no {series}" if names and series else "it has no curve"
        if trial.state == "done":
            self._known[trial.id, series] = found
        return found


def _alike(trial: TrialRow, like: TrialRow | None) -> tuple[bool, bool, bool, int]:
    protocol = like is None or trial.protocol == like.protocol
    return protocol, trial.outcome == "ok", like is not None and trial.seed == like.seed, trial.id


def label(trial: TrialRow) -> str:
    """``#41 screen seed 7``."""
    who = f"#{trial.number} " if trial.number is not None else ""
    return f"{who}{trial.purpose} seed {trial.seed}"
