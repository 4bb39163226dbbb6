"""What the console's further screens ask of the store: lean rows of many, and the parts of one experiment.

Standard library only. Nothing here reads what a page does not show: a history of 10,000 stays quick.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from engine.events import from_row
from engine.store.rows import EventRow


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """An experiment without its diff, parameters and arithmetic. ``dollars`` in billionths, None where none."""

    number: int
    id: int
    state: str
    author: str
    author_detail: str
    title: str
    hypothesis: str
    kind: str
    verdict: str | None
    reason: str
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    score: float | None
    stage: str
    outcome: str
    repairs: int | None
    created_at: float
    settled_at: float | None
    dollars: int | None


@dataclass(frozen=True, slots=True)
class TryRow:
    """A settled experiment as the ratchet's chart needs it."""

    number: int
    settled_at: float | None
    score: float | None
    verdict: str | None
    title: str
    effect: float | None


@dataclass(frozen=True, slots=True)
class DecisionRow:
    action: str
    actor: str
    reason: str
    revision: int
    at: float


@dataclass(frozen=True, slots=True)
class BusyRow:
    """An attempt that holds its allocation now."""

    trial: int
    number: int | None  # the experiment's; None: calibration
    purpose: str
    seed: int
    state: str
    host: str
    slot: str
    devices: tuple[str, ...]
    containment: str
    started_at: float | None
    attempt: str = ""  # the attempt's own state: unknown where its host does not answer
    said: str = ""  # a batch system's word on it


_HISTORY = """
SELECT e.number, e.id, e.state, e.author, COALESCE(p.author_detail, ''), COALESCE(p.title, ''),
       COALESCE(p.hypothesis, ''), COALESCE(p.kind, ''), e.verdict, e.reason, e.effect, e.effect_low,
       e.effect_high, e.score, e.stage, e.outcome, r.number, e.created_at, e.settled_at,
       (SELECT SUM(s.spent) FROM spend s WHERE s.experiment = e.id AND s.state <> 'released')
FROM experiment e LEFT JOIN proposal p ON p.id = e.proposal LEFT JOIN experiment r ON r.id = e.repairs
WHERE e.campaign = ?
"""
_AT_ONCE = 500  # variables of one statement: SQLite's least limit is 999


def history(conn: sqlite3.Connection, campaign: int, numbers: Collection[int] | None = None) -> list[HistoryRow]:
    """All experiments by number, or those of ``numbers`` that exist. 10,000 take about 0.1 s."""
    if numbers is None:
        return [HistoryRow(*row) for row in conn.execute(_HISTORY + " ORDER BY e.number", (campaign,))]
    wanted, found = sorted(numbers), []
    for i in range(0, len(wanted), _AT_ONCE):
        some = wanted[i : i + _AT_ONCE]
        marks = ",".join("?" * len(some))
        rows = conn.execute(f"{_HISTORY} AND e.number IN ({marks}) ORDER BY e.number", (campaign, *some))
        found += [HistoryRow(*row) for row in rows]
    return found


def told_since(conn: sqlite3.Connection, campaign: int, event: int) -> tuple[frozenset[int], int]:
    """(numbers of the experiments that events after ``event`` tell of, the newest event's id)."""
    rows = conn.execute(
        "SELECT json_extract(data, '$.number'), id FROM event WHERE id > ? AND campaign = ?", (event, campaign)
    ).fetchall()
    numbers = frozenset(int(number) for number, _ in rows if isinstance(number, int))
    return numbers, max((int(id_) for _, id_ in rows), default=event)


def open_numbers(conn: sqlite3.Connection, campaign: int) -> frozenset[int]:
    rows = conn.execute("SELECT number FROM experiment WHERE campaign = ? AND state <> 'settled'", (campaign,))
    return frozenset(int(row[0]) for row in rows)


def tries(conn: sqlite3.Connection, campaign: int) -> list[TryRow]:
    """Settled experiments by number."""
    rows = conn.execute(
        "SELECT e.number, e.settled_at, e.score, e.verdict, COALESCE(p.title, ''), e.effect FROM experiment e"
        " LEFT JOIN proposal p ON p.id = e.proposal WHERE e.campaign = ? AND e.state = 'settled'"
        " ORDER BY e.number",
        (campaign,),
    )
    return [TryRow(*row) for row in rows]


def device_seconds(conn: sqlite3.Connection, campaign: int) -> float:
    """Seconds of all finished trials, each times the devices of its newest attempt (a CPU slot is one)."""
    row = conn.execute(
        "SELECT SUM(t.seconds * COALESCE((SELECT MAX(1, json_array_length(a.allocation, '$.devices'))"
        " FROM attempt a WHERE a.trial = t.id ORDER BY a.number DESC LIMIT 1), 1))"
        " FROM trial t WHERE t.campaign = ? AND t.state = 'done'",
        (campaign,),
    ).fetchone()
    return float(row[0] or 0.0)


def decisions(conn: sqlite3.Connection, experiment: int) -> list[DecisionRow]:
    """What people (and the autopilot) decided about an experiment (row id), oldest first."""
    rows = conn.execute(
        "SELECT action, actor, reason, revision, created_at FROM decision WHERE experiment = ? ORDER BY id",
        (experiment,),
    )
    return [DecisionRow(*row) for row in rows]


def repairs(conn: sqlite3.Connection, experiment: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(numbers that an experiment (row id) mends, the first one first; numbers that mend it, in a row)."""
    before = conn.execute(
        "WITH RECURSIVE chain (id, repairs, number, depth) AS ("
        "  SELECT id, repairs, number, 0 FROM experiment WHERE id = ?"
        "  UNION SELECT e.id, e.repairs, e.number, chain.depth + 1 FROM experiment e"
        "  JOIN chain ON e.id = chain.repairs WHERE chain.depth < 100)"
        " SELECT number FROM chain WHERE depth > 0 ORDER BY depth DESC",
        (experiment,),
    ).fetchall()
    after = conn.execute(
        "WITH RECURSIVE chain (id, number, depth) AS ("
        "  SELECT id, number, 0 FROM experiment WHERE id = ?"
        "  UNION SELECT e.id, e.number, chain.depth + 1 FROM experiment e"
        "  JOIN chain ON e.repairs = chain.id WHERE chain.depth < 100)"
        " SELECT number FROM chain WHERE depth > 0 ORDER BY depth, number",
        (experiment,),
    ).fetchall()
    return tuple(int(n) for (n,) in before), tuple(int(n) for (n,) in after)


def busy(conn: sqlite3.Connection, campaign: int) -> list[BusyRow]:
    """What runs, or is being launched, where."""
    rows = conn.execute(
        "SELECT t.id, e.number, t.purpose, t.seed, t.state, a.host, a.slot, a.allocation, a.containment,"
        " t.started_at, a.state, a.reason FROM trial t JOIN attempt a ON a.trial = t.id AND a.number ="
        " (SELECT MAX(number) FROM attempt WHERE trial = t.id) LEFT JOIN experiment e ON e.id = t.experiment"
        " WHERE t.campaign = ? AND t.state IN ('launching', 'running') ORDER BY a.host, a.slot, t.id",
        (campaign,),
    )
    found = []
    for *before, allocation, containment, started_at, state, said in rows:
        values: list[Any] = [*before, _devices(allocation), containment, started_at, state, said]
        found.append(BusyRow(*values))
    return found


def _devices(allocation: str) -> tuple[str, ...]:
    found: Any = json.loads(allocation)
    devices = found.get("devices", ()) if isinstance(found, dict) else ()
    return tuple(str(one) for one in devices) if isinstance(devices, list) else ()


def events_before(
    conn: sqlite3.Connection, before: int | None = None, limit: int = 1000, without: Sequence[str] = ()
) -> tuple[list[EventRow], int]:
    """(events older than id ``before``, newest first, the id to go on from; 0 when there are no older ones).

    ``without``: kinds that are left out. Kinds of a newer version are left out too.
    """
    marks = ",".join("?" * len(without))
    rows = conn.execute(
        f"SELECT id, at, kind, data FROM event WHERE id < ? AND kind NOT IN ({marks}) ORDER BY id DESC LIMIT ?",
        (2**62 if before is None else before, *without, limit),
    ).fetchall()
    found = []
    for id_, at, kind, data in rows:
        event = from_row(kind, json.loads(data))
        if event is not None:
            found.append(EventRow(id_, at, event))
    return found, int(rows[-1][0]) if len(rows) == limit else 0


def newest(conn: sqlite3.Connection, campaign: int) -> int:
    """The highest number; 0 before the first experiment."""
    row = conn.execute(
        "SELECT COALESCE(MAX(number), 0) FROM experiment WHERE campaign = ?", (campaign,)
    ).fetchone()
    return int(row[0])


def queued(conn: sqlite3.Connection, campaign: int) -> int:
    row = conn.execute(
        "SELECT COUNT(*) FROM trial WHERE campaign = ? AND state = 'queued'", (campaign,)
    ).fetchone()
    return int(row[0])


def settled(conn: sqlite3.Connection, campaign: int) -> tuple[int, int]:
    """(how many are settled, how many keeps): cheap to ask whether a staircase is another one."""
    row = conn.execute(
        "SELECT (SELECT COUNT(*) FROM experiment WHERE campaign = :c)"
        " - (SELECT COUNT(*) FROM experiment WHERE campaign = :c AND state <> 'settled'),"
        " (SELECT COUNT(*) FROM keep k JOIN experiment e ON e.id = k.experiment WHERE e.campaign = :c)",
        {"c": campaign},
    ).fetchone()
    return int(row[0]), int(row[1])
