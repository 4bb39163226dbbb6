"""A recorded campaign played into a scratch store, so that whoever reads stores sees it as it happened.

The scratch store is a folder of its own: a ``store.db`` and the trials' logs as far as they had been written.
Nothing of the project is touched, and no engine ever writes it. Going back makes the store anew, as another file.
"""

from __future__ import annotations

import shutil
import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from engine.errors import RatchetError
from engine.store.migrations import migrate
from engine.store.recording import DAMAGED, LogEnd, Recording, folder_of
from engine.store.row_life import Change, Row, key_of
from engine.store.timeline import PointAt, Rows, Timeline, timeline

# What odd rows make of themselves, on their way into a table.
_ODD = (sqlite3.Error, ValueError, TypeError, KeyError, AttributeError, OverflowError)


@dataclass(slots=True)
class _Log:
    """Its lines carry no times: they are spread evenly over the run, of which it may hold only the end."""

    path: Path
    text: bytes
    start: float
    end: float
    before: int = 0
    written: int = 0

    def due(self, at: float) -> int:
        """Bytes, whole lines, that had been printed by then."""
        if at >= self.end:
            return len(self.text)
        share = max(0.0, at - self.start) / max(1e-9, self.end - self.start)
        upto = int((self.before + len(self.text)) * share) - self.before
        if upto <= 0:
            return 0
        return max(self.text.rfind(b"\n", 0, upto), self.text.rfind(b"\r", 0, upto)) + 1


class Playback:
    """``at`` is how far the store has come, seconds since 1970; it begins before the first change.

    ``folder`` exists and is empty. Not thread-safe. Raises RatchetError for rows that no engine wrote.
    """

    def __init__(self, recording: Recording, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "store.db"
        self._conn = self._fresh(self._path)
        try:
            rows = _known(self._conn, recording.rows)
            self.timeline: Timeline = timeline(rows)
            self._logs = _logs(folder, rows, recording.logs, self.timeline)
        except _ODD as error:
            self._conn.close()
            raise _damaged(error) from error
        except BaseException:
            self._conn.close()
            raise
        self.at = float("-inf")
        self._change = self._point = 0  # the next ones
        self._log_starts = [log.start for log in self._logs]
        self._open_logs: list[_Log] = []
        self._log = 0

    def _fresh(self, path: Path) -> sqlite3.Connection:
        # No WAL: its files would outlive the store that is renamed over. One owner, nothing to lose: no syncs.
        conn = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        conn.execute("PRAGMA journal_mode = MEMORY")
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute("PRAGMA foreign_keys = OFF")
        migrate(Database(conn))
        return conn

    def forward(self, at: float) -> bool:
        """Bring the store to ``at``; whether anything changed. An earlier time changes nothing."""
        changes, points = self.timeline.changes, self.timeline.points
        change = self._change
        while change < len(changes) and changes[change].at <= at:
            change += 1
        point = bisect_right(points, at, lo=self._point, key=lambda one: one.at)
        moved = (change, point) != (self._change, self._point)
        if moved:
            try:
                self._apply(changes[self._change : change], points[self._point : point])
            except _ODD as error:
                raise _damaged(error) from error
            self._change, self._point = change, point
        self.at = max(self.at, at)
        return self._write_logs(at) or moved

    def _apply(self, changes: Sequence[Change], points: Sequence[PointAt]) -> None:
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        try:
            for one in changes:
                columns = one.columns
                if one.key is None:
                    marks = ", ".join("?" * len(columns))
                    sql = f"INSERT OR REPLACE INTO {one.table} ({', '.join(columns)}) VALUES ({marks})"
                    conn.execute(sql, one.values)
                else:
                    new = ", ".join(f"{column} = ?" for column in columns)
                    conn.execute(
                        f"UPDATE {one.table} SET {new} WHERE {key_of(one.table)} = ?", (*one.values, one.key)
                    )
            conn.executemany(
                "INSERT OR REPLACE INTO point (trial, series, seq, step, value, at) VALUES (?, ?, ?, ?, ?, ?)",
                ((p.trial, p.series, p.seq, p.step, p.value, p.seconds) for p in points),
            )
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise

    def back(self, at: float) -> None:
        """Make the store anew as it was at ``at``; it takes the place of the old one at once, as another file."""
        self._conn.close()
        partial = self._path.with_name("store.part")
        partial.unlink(missing_ok=True)
        self._conn = self._fresh(partial)
        self._change = self._point = self._log = 0
        self._open_logs = []
        for log in self._logs:
            if log.written:
                log.path.unlink(missing_ok=True)
                log.written = 0
        self.at = float("-inf")
        self.forward(at)
        self._conn.close()
        partial.replace(self._path)
        self._conn = sqlite3.connect(self._path, isolation_level=None, timeout=10, check_same_thread=False)
        self._conn.execute("PRAGMA journal_mode = MEMORY")
        self._conn.execute("PRAGMA synchronous = OFF")

    def next_change(self) -> float | None:
        """When something will change next; None at the end."""
        changes, points = self.timeline.changes, self.timeline.points
        times = [changes[self._change].at] if self._change < len(changes) else []
        times += [points[self._point].at] if self._point < len(points) else []
        return min(times, default=None)

    def _write_logs(self, at: float) -> bool:
        started = bisect_right(self._log_starts, at)
        self._open_logs += self._logs[self._log : started]
        self._log = max(self._log, started)
        grown = False
        for log in self._open_logs:
            if (due := log.due(at)) > log.written:
                log.path.parent.mkdir(parents=True, exist_ok=True)
                with log.path.open("ab") as handle:
                    handle.write(log.text[log.written : due])
                log.written, grown = due, True
        self._open_logs = [log for log in self._open_logs if log.written < len(log.text)]
        return grown

    def close(self) -> None:
        self._conn.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _damaged(error: Exception) -> RatchetError:
    return RatchetError(f"the recording is not one that an engine wrote: {error!r}", DAMAGED)


def _known(conn: sqlite3.Connection, rows: Rows) -> Rows:
    """Only tables and columns of this version's schema: names from a file never reach a statement."""
    found: dict[str, Sequence[Row]] = {}
    tables = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        columns = {str(row[1]) for row in conn.execute(f"PRAGMA table_info({table})")}
        given = rows.get(table, ())
        kept = [{name: value for name, value in row.items() if name in columns} for row in given]
        if table == "attempt":  # where a log will be written, and read
            kept = [{**row, "directory": folder_of(str(row["directory"]), int(row["trial"]))} for row in kept]
        found[str(table)] = kept
    return found


def _logs(folder: Path, rows: Rows, logs: Mapping[int, LogEnd], when: Timeline) -> list[_Log]:
    found = []
    directories = {
        row["trial"]: row["directory"] for row in sorted(rows["attempt"], key=lambda row: row["number"])
    }
    for trial, log in logs.items():
        if trial in directories and trial in when.runs:
            start, end = when.runs[trial]
            path = folder / directories[trial] / "control" / "log"
            found.append(_Log(path, log.text.encode(errors="replace"), start, min(end, when.end), log.before))
    return sorted(found, key=lambda log: log.start)
