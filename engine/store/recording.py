"""A campaign as one value: read from a store (also while an engine writes it), or from a recording's file.

A recording is gzip'd JSON lines, not a database: what comes from a stranger is read as plain values and nothing in
it is ever carried out. It is scrubbed (``scrubbing``) and thinned: short curves, the ends of logs.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import platform
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine import __version__
from engine.errors import NothingToDo, RatchetError
from engine.store.faults import unreadable
from engine.store.migrations import LATEST
from engine.store.reading import Reader
from engine.store.row_life import Row
from engine.store.scrubbing import Scrubber

FORMAT = "ratchet recording 1"
SERIES_POINTS = 300  # of one curve at most
RECORDED_POINTS = 100  # of one curve in a recording's file
ALL_POINTS = 200_000  # of all curves together: a long campaign's become coarser
LOG_BYTES = 12 << 10  # the end of a trial's output
LARGEST = 256 << 20  # bytes of a recording unpacked: more is a mistake or an attack
DAMAGED = "ask who gave it to you for another copy"
_PLAIN = {type(None), int, float, str}
_FOLDER = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The end of a trial's output; ``before``: bytes that came before it."""

    text: str
    before: int = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """``rows`` by table, of one campaign; ``logs`` of the newest attempts, by trial."""

    rows: Mapping[str, Sequence[Row]]
    logs: Mapping[int, LogEnd] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)  # empty for what was read from a store


# --- from a store --------------------------------------------------------------------------------------


def of_store(path: Path, campaign: str | None = None) -> Recording:
    """One consistent look at the store at ``path``; the newest campaign, or the one of that name.

    Raises RatchetError when it cannot be read or has no such campaign.
    """
    with closing(Reader(path)) as reader:
        conn = reader.conn
        found = reader.campaign(campaign)
        version = int(conn.execute("PRAGMA user_version").fetchone()[0])
        if version > LATEST:
            raise RatchetError(
                f"the store has schema version {version}, this program knows {LATEST}",
                "install the newer ratchet-console that wrote it",
            )
        try:
            conn.execute("BEGIN")
            rows = {table: _table(conn, table, found.id) for table in _tables(conn)}
            conn.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise unreadable(path, error) from error
    return Recording(rows, _logs(path.parent, rows))


def _tables(conn: sqlite3.Connection) -> list[str]:
    names = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
    return [str(name) for (name,) in names if not str(name).startswith("sqlite_")]


def _table(conn: sqlite3.Connection, table: str, campaign: int) -> list[Row]:
    columns = [str(row[1]) for row in conn.execute(f"PRAGMA table_info({table})")]
    order = ", ".join(str(row[1]) for row in conn.execute(f"PRAGMA table_info({table})") if row[5])
    where = _of_campaign(table, columns)
    sql = f"SELECT * FROM {table} WHERE {where}" + (f" ORDER BY {order}" if order else "")
    if table == "point":
        return [dict(zip(columns, row, strict=True)) for row in _thinned(conn, columns, campaign)]
    found = conn.execute(sql, {"c": campaign})
    return [dict(zip(columns, row, strict=True)) for row in found]


def _of_campaign(table: str, columns: Sequence[str]) -> str:
    """Which rows belong to campaign ``:c``, by what they point to."""
    if table == "campaign":
        return "id = :c"
    if table == "event":  # an engine's starts and ends belong to no campaign: those about this one's time
        return (
            "campaign = :c OR (campaign IS NULL AND at >= (SELECT COALESCE(MAX(e.at), MAX(c.created_at))"
            " FROM campaign c LEFT JOIN event e ON e.kind = 'EngineStarted' AND e.at <= c.created_at"
            " WHERE c.id = :c) AND at < (SELECT COALESCE(MIN(created_at), 9e99) FROM campaign WHERE id > :c))"
        )
    if table == "config":
        return "id IN (SELECT config FROM protocol WHERE campaign = :c)"
    for column, rows in (
        ("campaign", ":c"),
        ("experiment", "SELECT id FROM experiment WHERE campaign = :c"),
        ("trial", "SELECT id FROM trial WHERE campaign = :c"),
        ("line", "SELECT id FROM line WHERE campaign = :c"),
    ):
        if column in columns:
            return f"{column} IN ({rows})"
    return ":c = :c"


def _thinned(conn: sqlite3.Connection, columns: Sequence[str], campaign: int) -> list[Sequence[Any]]:
    """Of each curve every how many-th point fits, and the last one; by trial, series and place."""
    mine = "trial IN (SELECT id FROM trial WHERE campaign = ?)"
    counted = conn.execute(
        f"SELECT trial, series, COUNT(*), MAX(seq) FROM point WHERE {mine} GROUP BY trial, series", (campaign,)
    ).fetchall()
    most = min(SERIES_POINTS, max(2, ALL_POINTS // max(1, len(counted)))) - 1
    steps = {(trial, series): -(-count // most) for trial, series, count, _ in counted}
    coarse = min(steps.values(), default=1)  # the points of a long campaign are millions: most stay in the file
    steps = {curve: -(-step // coarse) * coarse for curve, step in steps.items()}
    trial, series, seq = (columns.index(name) for name in ("trial", "series", "seq"))
    found = {
        (row[trial], row[series], row[seq]): row
        for row in conn.execute(f"SELECT * FROM point WHERE {mine} AND seq % ? = 0", (campaign, coarse))
        if row[seq] % steps[row[trial], row[series]] == 0
    }
    for *key, _, last in counted:
        if (*key, last) not in found:
            sql = "SELECT * FROM point WHERE trial = ? AND series = ? AND seq = ?"
            found[(*key, last)] = conn.execute(sql, (*key, last)).fetchone()
    return [found[place] for place in sorted(found)]


def _logs(state_dir: Path, rows: Mapping[str, Sequence[Row]]) -> dict[int, LogEnd]:
    """Output that is still there; what cannot be read is left out."""
    found: dict[int, LogEnd] = {}
    for row in sorted(rows.get("attempt", ()), key=lambda row: int(row["number"])):
        try:
            with (state_dir / row["directory"] / "control" / "log").open("rb") as handle:
                before = max(0, os.fstat(handle.fileno()).st_size - LOG_BYTES)
                handle.seek(before)
                data = handle.read(LOG_BYTES)
        except OSError:
            continue
        if before:  # the middle of a line is not shown; a progress bar's lines end with \r
            data = re.split(rb"[\r\n]", data, maxsplit=1)[-1]
        found[int(row["trial"])] = LogEnd(data.decode("utf-8", "replace"), before)
    return found


# --- as a file -----------------------------------------------------------------------------------------


def manifest(found: Recording, note: str) -> dict[str, Any]:
    """What a recording says of itself, beside its rows."""
    campaign = found.rows["campaign"][0]
    times = [float(row["at"]) for row in found.rows.get("event", ())] or [float(campaign["created_at"])]
    before = found.manifest
    return {
        "label": "recorded",
        "note": note or before.get("note", ""),
        "recorded": before.get("recorded") or f"{datetime.fromtimestamp(min(times), UTC):%Y-%m-%d}",
        "campaign": campaign["name"],
        "metric": campaign["metric"],
        "goal": campaign["goal"],
        "experiments": len(found.rows.get("experiment", ())),
        "keeps": len(found.rows.get("keep", ())),
        "seconds": round(max(times) - min(times)),
        "hardware": sorted({row["hardware"] for row in found.rows.get("trial", ()) if row["hardware"]}),
        "versions": {"ratchet": __version__, "python": platform.python_version(), "schema": LATEST},
    }


def scrubbed(recording: Recording, private: Collection[str] = ()) -> Recording:
    """Without names of machines and people, paths, addresses and keys; ``private``: further names to take out."""
    scrubber = Scrubber(recording.rows, private)
    rows: dict[str, Sequence[Row]] = {
        table: [scrubber.row(table, row) for row in found] for table, found in recording.rows.items()
    }
    rows["point"] = _slim(rows.get("point", ()))
    logs = {trial: LogEnd(scrubber.text(log.text), log.before) for trial, log in recording.logs.items()}
    return replace(recording, rows=rows, logs=logs, manifest=scrubber.data(dict(recording.manifest)))


def _slim(points: Sequence[Row]) -> list[Row]:
    """At most RECORDED_POINTS a curve, to six digits and hundredths of a second."""
    counts = Counter((row["trial"], row["series"]) for row in points)
    last = {(row["trial"], row["series"]): row["seq"] for row in points}
    found: list[Row] = []
    place: Counter[tuple[int, str]] = Counter()
    for row in points:
        key = (row["trial"], row["series"])
        if place[key] % -(-counts[key] // (RECORDED_POINTS - 1)) == 0 or row["seq"] == last[key]:
            found.append({**row, "value": float(f"{row['value']:.6g}"), "at": round(row["at"], 2)})
        place[key] += 1
    return found


def save(recording: Recording, path: Path) -> int:
    """Write the file under a temporary name, then rename it; returns its bytes. Equal recordings, equal bytes."""
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
            for line in _lines(recording):
                packed.write((json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
        size = partial.stat().st_size
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RatchetError(f"cannot write {path}: {error.strerror}", "name a file in a writable folder") from error
    return size


def _lines(recording: Recording) -> Iterator[object]:
    yield {"format": FORMAT, **recording.manifest}
    for table, rows in recording.rows.items():
        if rows:
            # Column by column: values that are alike stand together, and pack to a quarter.
            yield {"table": table, "columns": {name: [row[name] for row in rows] for name in rows[0]}}
    yield {"logs": [[trial, log.text, log.before] for trial, log in recording.logs.items()]}


def load(source: Path | bytes, name: str = "the recording") -> Recording:
    """A recording's file, or its bytes. Raises RatchetError when it is none, or is damaged or too large."""
    if isinstance(source, Path):
        name = str(source)
    try:
        packed = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise RatchetError(f"cannot read {name}: {error.strerror}", "give a recording's file") from error
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacked:
            data = unpacked.read(LARGEST + 1)
    except (OSError, EOFError, ValueError) as error:
        raise RatchetError(f"{name} is no recording, or is damaged: {error}", DAMAGED) from error
    except Exception as error:  # zlib's own
        raise RatchetError(f"{name} is damaged: {error}", DAMAGED) from error
    if len(data) > LARGEST:
        raise RatchetError(f"{name} is larger than {LARGEST >> 20} MB unpacked", DAMAGED)
    try:
        return _parsed(data, name)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RatchetError(f"{name} is damaged: {error!r}", DAMAGED) from error


def _parsed(data: bytes, file: str) -> Recording:
    lines = iter(data.decode().removesuffix("\n").split("\n"))  # not splitlines: strings hold other line ends
    manifest = json.loads(next(lines, "null"))
    if not isinstance(manifest, dict) or not str(manifest.get("format", "")).startswith("ratchet recording"):
        raise RatchetError(f"{file} is no recording", "`ratchet replay --record FILE` makes one")
    if manifest["format"] != FORMAT:
        raise RatchetError(f"{file} was made by a newer version", "install the newer ratchet-console")
    rows: dict[str, list[Row]] = {}
    logs: dict[int, LogEnd] = {}
    for line in lines:
        found = json.loads(line)
        if "logs" in found:
            logs = {int(trial): LogEnd(str(text), max(0, int(before))) for trial, text, before in found["logs"]}
            continue
        columns: dict[str, list[object]] = found["columns"]
        for name, values in columns.items():
            if not {*map(type, values)} <= _PLAIN:
                raise TypeError(f"{name} holds what is no value of a row")
        rows[str(found["table"])] = [dict(zip(columns, row, strict=True)) for row in _rows(columns.values())]
    if len(rows.get("campaign", ())) != 1:
        raise NothingToDo(f"{file} holds no campaign", DAMAGED)
    return Recording(rows, logs, manifest)


def _rows(columns: Iterable[list[object]]) -> Iterator[tuple[object, ...]]:
    return zip(*columns, strict=True)


def folder_of(directory: str, trial: int) -> str:
    """An attempt's folder below the state folder; what could lead out of it gets a name of its own."""
    return directory if _FOLDER.fullmatch(directory) else f"trials/{trial}"
