"""How long a campaign's proposals and runs took: for an engine that starts again, and for `ratchet simulate`.

Standard library only.
"""

from __future__ import annotations

import sqlite3
from statistics import median

NEWEST = 20  # of each kind: what took long last month says little


def pace_of(conn: sqlite3.Connection, campaign: int, author: str) -> tuple[float, float]:
    """Median seconds of the newest proposals by ``author``, and of the newest runs under the protocol in force.

    0.0 where there are none. Medians: a draft that an engine's end interrupted looks hours long.
    """
    proposals = conn.execute(
        "SELECT p.created_at - e.created_at FROM experiment e JOIN proposal p ON p.id = e.proposal"
        " WHERE e.campaign = ? AND e.author = ? AND p.author = ? ORDER BY e.id DESC LIMIT ?",
        (campaign, author, author, NEWEST),
    ).fetchall()
    runs = conn.execute(
        "SELECT seconds FROM trial WHERE campaign = ? AND outcome = 'ok'"
        " AND protocol = (SELECT protocol FROM campaign WHERE id = ?) ORDER BY id DESC LIMIT ?",
        (campaign, campaign, NEWEST),
    ).fetchall()
    return _median(proposals), _median(runs)


def device_seconds(conn: sqlite3.Connection, campaign: int) -> dict[str, float]:
    """Seconds of the runs that have ended, by their purpose; 'fill' are those that nobody asked for."""
    rows = conn.execute(
        "SELECT CASE WHEN experiment IS NULL AND purpose = 'anchor' THEN 'fill' ELSE purpose END, SUM(seconds)"
        " FROM trial WHERE campaign = ? AND state = 'done' GROUP BY 1",
        (campaign,),
    )
    return {str(purpose): float(seconds) for purpose, seconds in rows if seconds}


def _median(rows: list[tuple[float]]) -> float:
    return float(median(r[0] for r in rows)) if rows else 0.0
