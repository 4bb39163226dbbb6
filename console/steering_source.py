"""Reads ``Steering`` for the feed: what follows from events only when there are any, the rest once a second."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from console.steering import Steering
from engine import events
from engine.store import reading, reading_money, reading_steering
from engine.store.reading_steering import Standing
from engine.store.rows import CampaignRow, EventRow

NOTES_KEPT = 100  # the newest


class SteeringSource:
    def __init__(self) -> None:
        self._campaign = 0
        self.now = Steering()

    def after_events(
        self, conn: sqlite3.Connection, campaign: CampaignRow, fresh: Sequence[EventRow]
    ) -> Steering | None:
        """What people said and decided; None when nothing is new."""
        first = self._campaign != campaign.id
        if not first and not fresh:
            return None
        standing = reading_steering.standing(conn, campaign.id) if first else fold(self.now.standing, fresh)
        old = Steering() if first else self.now
        self._campaign = campaign.id
        return self._said(
            replace(
                old,
                notes=tuple(reading.notes(conn, campaign.id)[-NOTES_KEPT:]),
                reversible=tuple(reading_steering.reversible(conn, campaign.id)),
                keeps=tuple(reading_steering.in_force(conn, campaign.line)),
                outcomes=reading.outcomes(conn, campaign.id),
                standing=standing,
                pins=tuple(reading.pins(conn, campaign.id)),
            ),
            first,
        )

    def now_and_then(self, conn: sqlite3.Connection, campaign: CampaignRow) -> Steering | None:
        """Pins and money change without an event."""
        found = reading_money.balance(conn, campaign.id)
        costs = found.spent or found.reserved or campaign.limits.get("dollars") is not None
        pins = tuple(reading.pins(conn, campaign.id))
        return self._said(replace(self.now, pins=pins, money=found if costs else None))

    def _said(self, found: Steering, first: bool = False) -> Steering | None:
        changed = first or found != self.now
        self.now = found
        return found if changed else None


def fold(standing: Standing, fresh: Sequence[EventRow]) -> Standing:
    for row in fresh:
        match row.event:
            case events.Plateau(proposals):
                standing = replace(standing, plateau=proposals)
            case events.RatchetAdvanced() | events.SteppedBack():
                standing = replace(standing, plateau=0)
            case events.BudgetReached(cap, spent):
                standing = replace(standing, budget=(cap, spent))
            case events.CampaignResumed() | events.ConfigReloaded() | events.EngineStarted():
                standing = replace(standing, budget=None)
    return standing
