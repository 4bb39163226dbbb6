"""What was spent, and what is set aside: the reading side of ``spending``. Standard library only.

All amounts are whole billionths of a US dollar.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

MODEL, DEVICE = "model", "device"


@dataclass(frozen=True, slots=True)
class Balance:
    """Of one campaign: ``reserved`` is the worst case of all that is under way."""

    spent: int
    reserved: int

    def fits(self, amount: int, cap: int | None) -> bool:
        """Whether ``amount`` more stays under ``cap`` (None: no limit). What costs nothing always does."""
        return amount == 0 or cap is None or self.spent + self.reserved + amount <= cap

    def left(self, cap: int | None) -> int | None:
        """What may still be set aside; None without a limit."""
        return None if cap is None else max(0, cap - self.spent - self.reserved)


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one model or host. ``count`` is its requests, or attempts at trials."""

    kind: str  # model | device
    what: str
    count: int
    spent: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """As services reported them, of requests whose end was seen."""

    input: int = 0  # neither read from nor written to the cache
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0

    @property
    def cached(self) -> float | None:
        """The share of all input that was read from the cache; None before there is any input."""
        prompt = self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h
        return self.cache_read / prompt if prompt else None


@dataclass(frozen=True, slots=True)
class Money:
    """Of a campaign, or of one experiment of it."""

    shares: tuple[Share, ...]  # the dearest first
    tokens: Tokens
    proposals: int  # that a model wrote
    keeps: int

    @property
    def spent(self) -> int:
        return sum(s.spent for s in self.shares)

    @property
    def reserved(self) -> int:
        return sum(s.reserved for s in self.shares)

    def of(self, kind: str) -> Balance:
        mine = [s for s in self.shares if s.kind == kind]
        return Balance(sum(s.spent for s in mine), sum(s.reserved for s in mine))

    @property
    def per_proposal(self) -> int | None:
        """Model money over proposals, rounded: drafts that came to nothing are part of the price of the others."""
        return round(self.of(MODEL).spent / self.proposals) if self.proposals else None

    @property
    def per_keep(self) -> int | None:
        """All money over keeps, rounded."""
        return round(self.spent / self.keeps) if self.keeps else None


@dataclass(frozen=True, slots=True)
class Used:
    """Of ended trials. ``joules`` over the ``metered`` of them whose power was read; None without any."""

    trials: int = 0
    device_seconds: float = 0.0  # times devices; a set of processors is one
    metered: int = 0
    joules: float | None = None


_SPENT = "COALESCE(SUM(spent), 0), COALESCE(SUM(CASE WHEN state = 'reserved' THEN reserved ELSE 0 END), 0)"


def balance(conn: sqlite3.Connection, campaign: int) -> Balance:
    row = conn.execute(f"SELECT {_SPENT} FROM spend WHERE campaign = ?", (campaign,)).fetchone()
    return Balance(*row)


def money(conn: sqlite3.Connection, campaign: int) -> Money:
    """Everything about a campaign's money. It reads every row: for a page or a command, not for each frame."""
    proposals, keeps = conn.execute(
        "SELECT (SELECT COUNT(*) FROM experiment e WHERE e.campaign = :c AND e.proposal IS NOT NULL"
        " AND EXISTS (SELECT 1 FROM spend s WHERE s.experiment = e.id AND s.kind = 'model')),"
        " (SELECT COUNT(*) FROM keep k JOIN experiment e ON e.id = k.experiment WHERE e.campaign = :c)",
        {"c": campaign},
    ).fetchone()
    return Money(_shares(conn, "campaign", campaign), _tokens(conn, "campaign", campaign), proposals, keeps)


def used(conn: sqlite3.Connection, campaign: int) -> Used:
    """What a campaign's trials used of devices. It reads every one: for a command, not for each frame."""
    return _used(conn, "t.campaign = ?", campaign)


def used_of(conn: sqlite3.Connection, experiment: int) -> Used:
    """The same of the trials that an experiment (row id) asked for first."""
    return _used(conn, "t.experiment = ?", experiment)


def used_by(conn: sqlite3.Connection, trial: int) -> Used:
    return _used(conn, "t.id = ?", trial)


def _used(conn: sqlite3.Connection, which: str, id: int) -> Used:
    row = conn.execute(
        "SELECT COALESCE(SUM(s.name = 'device_seconds'), 0),"
        " COALESCE(SUM(CASE WHEN s.name = 'device_seconds' THEN s.value END), 0),"
        " COALESCE(SUM(s.name = 'joules'), 0), SUM(CASE WHEN s.name = 'joules' THEN s.value END)"
        " FROM trial t JOIN score s ON s.trial = t.id AND s.source = 'engine' AND s.split = 'run'"
        f" WHERE {which}",
        (id,),
    ).fetchone()
    return Used(*row)


def money_of(conn: sqlite3.Connection, experiment: int) -> Money:
    """The money of one experiment (row id): its requests, and the trials that it asked for first."""
    proposals, keeps = conn.execute(
        "SELECT (SELECT COUNT(*) FROM experiment e WHERE e.id = :e AND e.proposal IS NOT NULL"
        " AND EXISTS (SELECT 1 FROM spend s WHERE s.experiment = e.id AND s.kind = 'model')),"
        " (SELECT COUNT(*) FROM keep WHERE experiment = :e)",
        {"e": experiment},
    ).fetchone()
    return Money(
        _shares(conn, "experiment", experiment), _tokens(conn, "experiment", experiment), proposals, keeps
    )


def _shares(conn: sqlite3.Connection, column: str, id: int) -> tuple[Share, ...]:
    rows = conn.execute(
        f"SELECT kind, what, COUNT(*), {_SPENT} FROM spend WHERE {column} = ? AND state <> 'released'"
        " GROUP BY kind, what ORDER BY 4 DESC, kind, what",
        (id,),
    )
    return tuple(Share(*r) for r in rows)


def _tokens(conn: sqlite3.Connection, column: str, id: int) -> Tokens:
    names = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
    sums = ", ".join(f"COALESCE(SUM(json_extract(usage, '$.{name}_tokens')), 0)" for name in names)
    row = conn.execute(
        f"SELECT {sums} FROM spend WHERE {column} = ? AND kind = 'model' AND state = 'settled'", (id,)
    ).fetchone()
    return Tokens(*row)
