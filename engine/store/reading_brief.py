"""What a brief is made of, in three queries whatever the history's length. Standard library only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from engine.types import Purpose


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """An experiment that became a proposal. ``detail`` is its newest failed trial's, '' without one."""

    number: int
    state: str
    author: str
    author_detail: str
    title: str
    hypothesis: str
    kind: str
    fingerprint: str
    parameters: dict[str, Any]
    verdict: str | None
    reason: str
    outcome: str
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    score: float | None
    base: int
    effect_detail: dict[str, Any]
    id: int
    detail: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What changes with any change of an experiment's row."""

    id: int
    revision: int
    updated_at: float
    score: float | None
    base: int


@dataclass(frozen=True, slots=True)
class SaidRow:
    """A person's words: a note (``id`` > 0) or a rejection's reason (``number`` of the experiment)."""

    text: str
    actor: str
    id: int
    number: int | None
    created_at: float


_HISTORY = """
SELECT e.number, e.state, e.author, p.author_detail, p.title, p.hypothesis, p.kind, p.fingerprint,
       p.parameters, e.verdict, e.reason, e.outcome, e.effect, e.effect_low, e.effect_high, e.score, e.base,
       e.effect_detail, e.id
FROM experiment e JOIN proposal p ON p.id = e.proposal
WHERE e.campaign = ? AND e.candidate IS NOT NULL AND (? = '' OR e.id IN (SELECT value FROM json_each(?)))
ORDER BY e.state <> 'settled', CASE WHEN e.state = 'settled' THEN e.settled_at END, e.number
"""

_MARKS = """
SELECT e.id, e.revision, e.updated_at, e.score, e.base FROM experiment e
WHERE e.campaign = ? AND e.candidate IS NOT NULL
ORDER BY e.state <> 'settled', CASE WHEN e.state = 'settled' THEN e.settled_at END, e.number
"""

# MAX(id) picks the row whose other columns are given (SQLite, "bare columns in an aggregate query").
_DETAILS = """
SELECT t.experiment, t.detail, MAX(t.id) FROM experiment e JOIN trial t ON t.experiment = e.id
WHERE e.campaign = ? AND e.verdict IN ('crash', 'invalid') AND t.state = 'done' AND t.outcome <> 'ok'
      AND t.detail <> ''
GROUP BY t.experiment
"""


def marks(conn: sqlite3.Connection, campaign: int) -> list[Mark]:
    """Of the experiments that became a proposal, in the order of ``history``."""
    return [Mark(*r) for r in conn.execute(_MARKS, (campaign,))]


def history(conn: sqlite3.Connection, campaign: int, only: Collection[int] | None = None) -> list[HistoryRow]:
    """Experiments that became a proposal, in the order in which they were settled; open ones last, by number.

    ``only``: those with these row ids.

    The settled part only ever grows at its end, however long a slow experiment takes: a prompt's cached
    prefix stands on that.
    """
    details = {int(r[0]): str(r[1]) for r in conn.execute(_DETAILS, (campaign,))}
    found = []
    chosen = "" if only is None else json.dumps(sorted(only))
    for r in conn.execute(_HISTORY, (campaign, chosen, chosen or "[]")):
        effect = json.loads(r[17]) if r[17] else {}
        values: list[Any] = [*r[:8], json.loads(r[8]), *r[9:17], effect, r[18], details.get(r[18], "")]
        found.append(HistoryRow(*values))
    return found


def said(conn: sqlite3.Connection, campaign: int) -> list[SaidRow]:
    """Notes to the proposer and reasons of rejections that stand, oldest first."""
    notes = conn.execute("SELECT text, actor, id, NULL, created_at FROM note WHERE campaign = ?", (campaign,))
    # An experiment's newest decision: a rejection that was undone is none.
    decisions = conn.execute(
        "SELECT d.reason, d.actor, e.number, d.created_at, d.action, MAX(d.id) FROM experiment e"
        " JOIN decision d ON d.experiment = e.id WHERE e.campaign = ? AND d.action IN ('accept', 'reject', 'undo')"
        " GROUP BY d.experiment",
        (campaign,),
    )
    rows = [SaidRow(*r) for r in notes]
    rows += [SaidRow(r[0], r[1], 0, r[2], r[3]) for r in decisions if r[4] == "reject" and r[0].strip()]
    return sorted(rows, key=lambda row: (row.created_at, row.id, row.number or 0))


def incumbent_scores(conn: sqlite3.Connection, incumbent: int, protocol: int) -> list[float]:
    """Scores of the incumbent's runs that took no part in a decision about it, in the order of their trials."""
    rows = conn.execute(
        "SELECT score FROM trial WHERE version = ? AND protocol = ? AND purpose IN (?, ?) AND score IS NOT NULL"
        " ORDER BY id",
        (incumbent, protocol, Purpose.CALIBRATE, Purpose.ANCHOR),
    )
    return [float(r[0]) for r in rows]
