"""The statements that write the table of hosts."""

from __future__ import annotations

import json
from collections.abc import Collection

from engine import events
from engine.store.core import Transaction
from engine.store.reading_hosts import HostRow


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
