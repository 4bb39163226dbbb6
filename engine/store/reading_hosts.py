"""The hosts as the store has them: what the engine last saw of each, what people said, what each was busy with."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from engine.store.host_life import noticed
from engine.store.reading_money import DEVICE


@dataclass(frozen=True, slots=True)
class HostRow:
    """``state`` as the engine last saw it: opening, ready, away. ``lent``: device ('' = all) -> until, seconds."""

    name: str
    sort: str
    state: str
    reason: str = ""
    mend: str = ""
    capacity: int = 0
    kinds: dict[str, int] = field(default_factory=dict)  # hardware -> slots
    devices: list[dict[str, Any]] = field(default_factory=list)  # the fields of types.Device
    containment: str = ""
    usd_per_hour: float = 0.0
    drained: str = ""
    lent: dict[str, float] = field(default_factory=dict)
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class HostUse:
    """What a host did for a campaign. ``seconds`` of its ended trials, ``spent`` in billionths of a dollar."""

    running: int = 0
    ended: int = 0
    seconds: float = 0.0
    spent: int = 0


def hosts(conn: sqlite3.Connection) -> list[HostRow]:
    rows = conn.execute(
        "SELECT name, sort, state, reason, mend, capacity, kinds, devices, containment, usd_per_hour, drained,"
        " lent, updated_at FROM host ORDER BY rowid"
    )
    return [_host(r) for r in rows]


def written(conn: sqlite3.Connection) -> list[tuple[str, float]]:
    """(name, when it was last written) of each: cheap to ask whether any is another."""
    return conn.execute("SELECT name, updated_at FROM host ORDER BY rowid").fetchall()


def _host(r: Any) -> HostRow:
    values: list[Any] = [*r[:6], json.loads(r[6]), json.loads(r[7]), *r[8:11], json.loads(r[11]), r[12]]
    return HostRow(*values)


_LOOKED_AT = 20_000  # newest events: an absence that began before them is given no time


def away_since(conn: sqlite3.Connection) -> dict[str, float]:
    """By host: when it was set aside, of those that are not back. A row's own time is that of its last change."""
    rows = conn.execute(
        "SELECT at, json_extract(data, '$.message') FROM event WHERE kind = 'Warned'"
        " AND id > (SELECT MAX(id) FROM event) - ? ORDER BY id",
        (_LOOKED_AT,),
    )
    found: dict[str, float] = {}
    for at, message in rows:
        told = noticed(str(message))
        if told is not None and told[1]:
            found.setdefault(told[0], float(at))
        elif told is not None:
            found.pop(told[0], None)
    return found


def uses(conn: sqlite3.Connection, campaign: int) -> dict[str, HostUse]:
    """By host. What runs now counts in ``running`` only."""
    money = dict(
        conn.execute(
            "SELECT what, SUM(spent) FROM spend WHERE campaign = ? AND kind = ? AND state <> 'reserved'"
            " GROUP BY what",
            (campaign, DEVICE),
        ).fetchall()
    )
    rows = conn.execute(
        "SELECT host, SUM(state IN ('launching', 'running')), SUM(state = 'done'), SUM(seconds) FROM trial"
        " WHERE campaign = ? AND host <> '' GROUP BY host",
        (campaign,),
    ).fetchall()
    found = {str(h): HostUse(int(n), int(d), float(s or 0), int(money.pop(h, 0))) for h, n, d, s in rows}
    return found | {str(h): HostUse(spent=int(spent)) for h, spent in money.items()}


def open_hosts(conn: sqlite3.Connection) -> dict[str, int]:
    """Hosts on which attempts are open, each with one of its trials."""
    rows = conn.execute(
        "SELECT host, MIN(trial) FROM attempt WHERE state NOT IN ('ended', 'lost') GROUP BY host"
    ).fetchall()
    return {str(host): int(trial) for host, trial in rows}
