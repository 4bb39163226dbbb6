"""What people said and decided, as far as it can still be changed: the reading side of ``deciding``.

Standard library only. Each query is bounded, whatever the length of the history.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from engine.events import from_row
from engine.store.reading import keeps
from engine.store.rows import EventRow, KeepRow

NEWEST_DECISIONS = 200  # among which one that can be taken back is looked for


@dataclass(frozen=True, slots=True)
class Decided:
    """An accept or reject that has not been carried out."""

    number: int  # of the experiment
    action: str
    actor: str
    at: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What was said about the whole campaign and still holds. ``plateau``: proposals; money in billionths."""

    plateau: int = 0
    budget: tuple[int, int] | None = None  # cap, spent


def reversible(conn: sqlite3.Connection, campaign: int) -> list[Decided]:
    """Decisions that ``deciding.undone`` would take back now, the newest first."""
    rows = conn.execute(
        "SELECT d.experiment, d.action, d.actor, d.created_at FROM decision d JOIN experiment e"
        " ON e.id = d.experiment WHERE e.campaign = ? ORDER BY d.id DESC LIMIT ?",
        (campaign, NEWEST_DECISIONS),
    ).fetchall()
    found: list[Decided] = []
    seen: set[int] = set()
    for experiment, action, actor, at in rows:
        if experiment in seen:
            continue
        seen.add(experiment)
        number, state, intent, ran = conn.execute(
            "SELECT number, state, intent, EXISTS (SELECT 1 FROM trial WHERE experiment = e.id) FROM experiment e"
            " WHERE id = ?",
            (experiment,),
        ).fetchone()
        if (
            (action == "accept" and state == "ready" and not ran)
            or (action == "accept" and state == "merging" and intent is None)
            or (action == "reject" and state == "settled")
        ):
            found.append(Decided(number, action, actor, at))
    return found


def in_force(conn: sqlite3.Connection, line: int) -> list[KeepRow]:
    """The keeps that the line's head rests on, oldest first: those that nobody stepped back behind."""
    row = conn.execute("SELECT head FROM line WHERE id = ?", (line,)).fetchone()
    by_sha = {keep.sha: keep for keep in keeps(conn, line)}
    candidates = conn.execute(
        "SELECT e.candidate, k.sha FROM keep k JOIN experiment e ON e.id = k.experiment WHERE k.line = ?", (line,)
    )
    of_version = dict(candidates.fetchall())
    steps = {
        sha: of_version.get(incumbent, "")
        for sha, incumbent in conn.execute("SELECT sha, incumbent FROM step_back WHERE line = ?", (line,))
    }
    found: list[KeepRow] = []
    at = str(row[0]) if row else ""
    for _ in range(len(by_sha) + len(steps) + 1):  # a damaged chain must not turn for ever
        if at in steps:
            at = steps[at]
        elif (keep := by_sha.get(at)) is not None:
            found.append(keep)
            at = keep.previous
        else:
            break
    return found[::-1]


def standing(conn: sqlite3.Connection, campaign: int) -> Standing:
    """Reads the events back to the newest that ends such a word: once a console, not once a frame."""

    def newest(kinds: tuple[str, ...]) -> tuple[str, str] | None:
        marks = ", ".join("?" for _ in kinds)
        row = conn.execute(
            f"SELECT kind, data FROM event WHERE campaign = ? AND kind IN ({marks}) ORDER BY id DESC LIMIT 1",
            (campaign, *kinds),
        ).fetchone()
        return (str(row[0]), str(row[1])) if row else None

    plateau = newest(("Plateau", "RatchetAdvanced", "SteppedBack"))
    budget = newest(("BudgetReached", "CampaignResumed", "ConfigReloaded", "EngineStarted"))
    told = json.loads(budget[1]) if budget and budget[0] == "BudgetReached" else None
    return Standing(
        int(json.loads(plateau[1])["proposals"]) if plateau and plateau[0] == "Plateau" else 0,
        (int(told["cap"]), int(told["spent"])) if told else None,
    )


def events_of(
    conn: sqlite3.Connection, campaign: int, kinds: Iterable[str], *, after: int = 0, since: float = 0.0, most: int
) -> list[EventRow]:
    """The newest ``most`` events of these kinds with a greater id and a later time, oldest first."""
    wanted = tuple(kinds)
    marks = ", ".join("?" for _ in wanted)
    # EngineStarted and its like belong to no campaign.
    rows = conn.execute(
        f"SELECT id, at, kind, data FROM event WHERE id > ? AND at > ? AND kind IN ({marks})"
        " AND (campaign = ? OR campaign IS NULL) ORDER BY id DESC LIMIT ?",
        (after, since, *wanted, campaign, most),
    ).fetchall()
    found = []
    for id_, at, kind, data in reversed(rows):
        event = from_row(kind, json.loads(data))
        if event is not None:
            found.append(EventRow(id_, at, event))
    return found
