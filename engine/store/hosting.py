"""The statements that write the tables of hosts and of their devices' readings."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict

from engine import events
from engine.store.core import Transaction
from engine.store.reading_hosts import HostRow
from engine.types import Reading


def noted(tx: Transaction, campaign: int, row: HostRow, warning: str = "", mend: str = "") -> None:
    """A host's row as it is now, with what a person should be told about it."""
    tx.execute(
        "INSERT INTO host (name, sort, state, reason, mend, capacity, kinds, devices, containment,"
        " usd_per_hour, drained, lent, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET sort = excluded.sort, state = excluded.state, reason = excluded.reason,"
        " mend = excluded.mend, capacity = excluded.capacity, kinds = excluded.kinds, devices = excluded.devices,"
        " containment = excluded.containment, usd_per_hour = excluded.usd_per_hour, drained = excluded.drained,"
        " lent = excluded.lent, updated_at = excluded.updated_at",
        (
            row.name,
            row.sort,
            row.state,
            row.reason,
            row.mend,
            row.capacity,
            json.dumps(row.kinds),
            json.dumps(row.devices),
            row.containment,
            row.usd_per_hour,
            row.drained,
            json.dumps(row.lent),
            tx.now,
        ),
    )
    if warning:
        tx.emit(campaign, events.Warned(warning, mend))


def forgotten(tx: Transaction, known: Collection[str]) -> None:
    """Hosts that ratchet.toml does not name any more."""
    for (name,) in tx.execute("SELECT name FROM host").fetchall():
        if name not in known:
            tx.execute("DELETE FROM host WHERE name = ?", (name,))


def add_readings(tx: Transaction, readings: Sequence[Reading]) -> None:
    """The newest of each device alone: the table does not grow with time.

    The processor stands in for devices while they do not answer: it goes when they do.
    """
    for host in {r.host for r in readings if r.device != "cpu"}:
        tx.execute("DELETE FROM reading WHERE host = ? AND device = 'cpu'", (host,))
    for r in readings:
        tx.execute(
            "INSERT OR REPLACE INTO reading (host, device, at, data) VALUES (?, ?, ?, ?)",
            (r.host, r.device, r.at, json.dumps(asdict(r))),
        )


def forget_readings(tx: Transaction, before: float, hosts: Sequence[str] = ()) -> None:
    """Readings older than ``before`` (seconds since 1970), and all of ``hosts``."""
    tx.execute("DELETE FROM reading WHERE at < ?", (before,))
    for host in hosts:
        tx.execute("DELETE FROM reading WHERE host = ?", (host,))
