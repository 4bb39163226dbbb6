"""What people said and decided, as it is shown: messages, pins, decisions that may be taken back. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from console.formats import duration
from engine import review
from engine.errors import UsageError
from engine.store.reading_money import Balance
from engine.store.reading_steering import Decided, Standing
from engine.store.rows import CampaignRow, EngineRow, ExperimentRow, KeepRow, NoteRow

# Ends of drafts that are nobody's failure: a person said no, or there was nothing more to say or to spend.
NO_FAILURE = ("rejected", "exhausted", "over budget", "stale")
RECENT_SECONDS = 600.0  # a decision that is taken back without a question
IN_ADVANCE = " (in advance)"  # behind the actor of an acceptance that was given before


@dataclass(frozen=True, slots=True)
class Steering:
    """``keeps``: those in force, oldest first. ``money`` None: nothing costs money here."""

    notes: tuple[NoteRow, ...] = ()
    pins: tuple[int, ...] = ()
    reversible: tuple[Decided, ...] = ()  # the newest first
    keeps: tuple[KeepRow, ...] = ()
    outcomes: Mapping[str, int] = field(default_factory=dict)
    money: Balance | None = None
    standing: Standing = field(default_factory=Standing)

    @property
    def waiting_notes(self) -> tuple[NoteRow, ...]:
        return tuple(note for note in self.notes if note.used_by is None)

    @property
    def failed_drafts(self) -> int:
        return sum(n for name, n in self.outcomes.items() if name not in NO_FAILURE)

    def newest_of(self, actor: str) -> Decided | None:
        """The decision that u takes back: mine, or one that I gave in advance."""
        mine = (actor, actor + IN_ADVANCE)
        return next((found for found in self.reversible if found.actor in mine), None)

    def left_behind(self, number: int) -> tuple[KeepRow, ...] | None:
        """Keeps that stepping back to ``number`` would take out of force; None when it is not in force itself."""
        numbers = [keep.number for keep in self.keeps]
        return self.keeps[numbers.index(number) + 1 :] if number in numbers else None


@dataclass(frozen=True, slots=True)
class Autopilot:
    left: int
    actor: str


def autopilot(campaign: CampaignRow | None) -> Autopilot | None:
    """Acceptances given in advance; None when there are none."""
    try:
        found = json.loads(campaign.autopilot) if campaign is not None and campaign.autopilot else {}
        left = int(found.get("left", 0))
        return Autopilot(left, str(found.get("actor", ""))) if left > 0 else None
    except (ValueError, TypeError, AttributeError):
        return None


# --- what is decided when nobody answers -------------------------------------------------------------


def unanswered(
    campaign: CampaignRow | None, engine: EngineRow | None, alive: bool | None, row: ExperimentRow, now: float
) -> str:
    """``rejected without an answer in 24m``, '' where a proposal waits for ever. ``now``: wall seconds.

    The engine counts while it lives, from when it first saw this revision: so does this.
    """
    rule = _rule(campaign)
    if rule is None or campaign is None:
        return ""
    what = f"{rule.action}ed without an answer"
    if alive is False or engine is None:
        return f"{what} {duration(rule.seconds)} after an engine starts"
    since = max(row.asked_at or 0.0, row.updated_at, engine.started_at)
    left = max(0.0, rule.seconds - (now - since))
    if campaign.state == "paused":
        return f"{what} once it is resumed" if left == 0 else f"{what} in {_left(left)}, unless it stays paused"
    return f"{what} in {_left(left)}" if left > 0 else f"{what} about now"


def _left(seconds: float) -> str:
    """No seconds where nobody counts them: a line that changes every second costs bytes."""
    return duration(seconds if seconds < 120 else seconds // 60 * 60)


def _rule(campaign: CampaignRow | None) -> review.Unanswered | None:
    text = campaign.limits.get("unanswered_after") if campaign is not None else None
    try:
        return review.parse_unanswered(text) if isinstance(text, str) else None
    except UsageError:  # written by a newer version
        return None


def note_words(notes: Sequence[NoteRow], number: int | None) -> list[tuple[str, NoteRow]]:
    """(what became of it, message) of what matters beside experiment ``number``: read by it, or still waiting."""
    found = [(f"#{number} was written with this message", note) for note in notes if note.used_by == number]
    return found + [("waits for the next brief", note) for note in notes if note.used_by is None]
