"""What happened while nobody looked, counted from events. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from console.formats import dollars, one_or_more
from engine import events
from engine.store.rows import EventRow

KINDS = (
    "VerdictGiven", "RatchetAdvanced", "SteppedBack", "EngineStarted", "EngineStopped", "CampaignPaused",
    "CampaignFinished", "AttemptLost", "Plateau", "BudgetReached", "Warned",
)  # fmt: skip
MOST_EVENTS = 20_000  # a longer absence is counted from there
SHORT_SECONDS = 60.0  # away for less is not away


@dataclass(frozen=True, slots=True)
class Away:
    """``gain``: by how much the kept changes together beat what was best before, positive is better.

    ``spent``: billionths of a dollar; None where nothing costs money or nobody knows.
    """

    seconds: float
    tried: int = 0
    kept: int = 0
    gain: float | None = None
    verdicts: tuple[tuple[str, int], ...] = ()  # of those not kept, as they are named
    spent: int | None = None
    stopped: int = 0
    died: int = 0
    lost: int = 0
    drafts_failed: int = 0
    told: tuple[str, ...] = ()  # what else somebody should know, newest last

    @property
    def anything(self) -> bool:
        return bool(
            self.tried or self.kept or self.stopped or self.died or self.lost or self.drafts_failed or self.told
        )


def summary(
    rows: Sequence[EventRow], seconds: float, spent: int | None = None, *, engine_ran: bool = False
) -> Away:
    """``rows``: what happened in those ``seconds``, oldest first; kinds other than KINDS do not count.

    ``engine_ran``: whether one did at the beginning.
    """
    given: dict[int, events.VerdictGiven] = {}
    kept: list[int] = []
    drafts = stopped = died = lost = 0
    told: list[str] = []
    for row in rows:
        match row.event:
            case events.VerdictGiven() as verdict if verdict.verdict != "cancelled":
                given[verdict.number] = verdict
            case events.VerdictGiven(number=number, reason=reason):
                drafts += reason.startswith("no proposal (")
                given.pop(number, None)
            case events.RatchetAdvanced(number):
                kept.append(number)
            case events.EngineStarted():
                died += engine_ran  # one that ends in order says so
                engine_ran = True
            case events.EngineStopped():
                stopped, engine_ran = stopped + 1, False
            case events.AttemptLost():
                lost += 1
            case events.CampaignPaused(reason):
                told.append(f"paused: {reason}")
            case events.CampaignFinished(reason):
                told.append(f"finished: {reason}")
            case events.Plateau(proposals):
                told.append(f"a plateau: {proposals} proposals since the last keep")
            case events.BudgetReached(cap):
                told.append(f"the limit of {dollars(cap)} was reached")
            case events.SteppedBack(number, actor=actor):
                told.append(f"{actor} stepped back to {f'#{number}' if number else 'the baseline'}")
            case events.Warned(message):
                told.append(f"warning: {message}")
    effects = [given[n].effect for n in kept if n in given]
    gains = [e for e in effects if e is not None]
    others = Counter(v.verdict for n, v in given.items() if n not in kept)
    return Away(
        seconds,
        tried=len(set(given) | set(kept)),
        kept=len(kept),
        gain=sum(gains) if gains and len(gains) == len(kept) else None,
        verdicts=tuple(sorted(others.items(), key=lambda item: (-item[1], item[0]))),
        spent=spent,
        stopped=stopped,
        died=died,
        lost=lost,
        drafts_failed=drafts,
        told=tuple(dict.fromkeys(told))[-4:],
    )


def absence(seconds: float) -> str:
    """``7 h 12 min``."""
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{max(1, minutes)} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"


def words(away: Away, metric: str, goal: str) -> str:
    """``7 tried, 2 kept, val_bpb -0.013, $3.20 spent, 1 crash, engine stopped once``; the metric's own sign."""
    parts = [f"{away.tried} tried" if away.tried else "nothing tried"]
    if away.tried:
        parts.append(f"{away.kept} kept")
    if away.gain is not None:
        parts.append(f"{metric} {away.gain if goal == 'maximize' else -away.gain:+.3g}")
    if away.spent:
        parts.append(f"{dollars(away.spent)} spent")
    crashes = {"crash": "crash", "invalid": "invalid"}
    for name, n in away.verdicts:
        if name in crashes:
            parts.append(f"{n} {name}{'es' if name == 'crash' and n > 1 else ''}")
    if away.drafts_failed:
        parts.append(one_or_more(away.drafts_failed, "failed draft"))
    if away.lost:
        parts.append(f"{one_or_more(away.lost, 'run')} lost and run again")
    if away.stopped:
        parts.append(f"engine stopped {_times(away.stopped)}")
    if away.died:
        parts.append(f"engine died {_times(away.died)}")
    return ", ".join(parts)


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")
