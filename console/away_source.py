"""Reads what happened since somebody last looked, for ``away``. In the feed's thread, once."""

from __future__ import annotations

import sqlite3

from console.away import KINDS, MOST_EVENTS, SHORT_SECONDS, Away, summary
from console.last_seen import LastSeen
from engine.store import reading, reading_money, reading_steering
from engine.store.rows import CampaignRow


def read(conn: sqlite3.Connection, campaign: CampaignRow, seen: LastSeen, now: float) -> Away | None:
    """None when nothing is to be told: another campaign, a moment's absence, or nothing happened."""
    seconds = now - seen.at
    if seen.campaign != campaign.id or seconds < SHORT_SECONDS:
        return None
    # A store that was restored from a backup counts its events anew: then the clock alone tells.
    known = seen.event <= reading.last_event(conn)
    rows = reading_steering.events_of(
        conn,
        campaign.id,
        KINDS,
        after=seen.event if known else 0,
        since=0.0 if known else seen.at,
        most=MOST_EVENTS,
    )
    spent = reading_money.balance(conn, campaign.id).spent - seen.spent
    found = summary(rows, seconds, spent if spent > 0 else None, engine_ran=seen.engine)
    return found if found.anything else None
