"""Progress through the budget, and an honest estimate of its end: measured durations and their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import fmean, median, stdev

from console.formats import bar, count, dollars, roughly
from console.state import State
from console.widgets.lines import Span

ENOUGH = 3  # measured intervals before anything is promised


@dataclass(frozen=True, slots=True)
class Budget:
    """Spent and allowed in this engine run; ``None`` allowed is no limit. Times in seconds."""

    experiments: int
    experiments_limit: int | None
    seconds: float
    seconds_limit: float | None
    spent: int | None = None  # billionths of a dollar; None where nothing costs money
    reserved: int = 0
    spent_limit: int | None = None

    @property
    def fraction(self) -> float | None:
        """Of whichever limit is nearer."""
        parts = []
        if self.experiments_limit is not None:
            parts.append(self.experiments / self.experiments_limit if self.experiments_limit else 1.0)
        if self.seconds_limit is not None:
            parts.append(self.seconds / self.seconds_limit if self.seconds_limit else 1.0)
        if self.spent is not None and self.spent_limit is not None:
            parts.append(self.spent / self.spent_limit if self.spent_limit else 1.0)
        return max(parts) if parts else None


def budget(state: State) -> Budget | None:
    campaign = state.campaign
    if campaign is None:
        return None
    limits = campaign.limits
    hours = limits.get("hours")
    allowed = limits.get("experiments")
    money, cap = state.steering.money, limits.get("dollars")
    return Budget(
        max(0, state.counted - int(limits.get("experiments_before") or 0)),
        int(allowed) if isinstance(allowed, int | float) else None,
        max(0.0, campaign.active_seconds - float(limits.get("seconds_before") or 0.0)),
        float(hours) * 3600 if isinstance(hours, int | float) else None,
        money.spent if money is not None else None,
        money.reserved if money is not None else 0,
        round(cap * 1e9) if isinstance(cap, int | float) else None,
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds to the end; ``spread`` one standard deviation. ``by`` is the limit reached first."""

    seconds: float
    spread: float
    by: str


def remaining(budget: Budget, settles: Sequence[float]) -> Estimate | None:
    """None where no limit is set or too little was measured.

    ``settles``: times of the newest settlements. Intervals far beyond the usual (a pause, an engine that was
    stopped) are left out; the spread holds both the scatter of n experiments and the doubt about their mean.
    """
    by_time = None
    if budget.seconds_limit is not None:
        by_time = Estimate(max(0.0, budget.seconds_limit - budget.seconds), 0.0, "hours")
    if budget.experiments_limit is None:
        return by_time
    left = max(0, budget.experiments_limit - budget.experiments)
    gaps = [b - a for a, b in pairwise(settles) if b >= a]
    if len(gaps) < ENOUGH:
        return None
    usual = median(gaps)
    gaps = [g for g in gaps if g <= 6 * usual] or gaps
    deviation = stdev(gaps) if len(gaps) > 1 else 0.0
    seconds = left * fmean(gaps)
    spread = deviation * sqrt(left + left * left / len(gaps))
    if by_time is not None and by_time.seconds < seconds:
        return by_time
    return Estimate(seconds, spread, "experiments")


def estimate_words(state: State) -> str:
    """``~2.1 h ± 20 min left``; says so where nothing honest can be said."""
    found = budget(state)
    if found is None or found.fraction is None:
        return "no limit set"
    estimate = remaining(found, state.settles)
    if estimate is None:
        return f"end: known after {ENOUGH + 1} verdicts"
    if estimate.seconds <= 0:
        return "limit reached"
    spread = f" ± {roughly(estimate.spread)}" if estimate.spread >= 60 else ""
    return f"~{roughly(estimate.seconds)}{spread} left"


def progress_spans(state: State, width: int) -> list[Span]:
    """The bar with both limits in words, in about ``width`` columns."""
    found = budget(state)
    if found is None:
        return []
    words = count(found.experiments)
    if found.experiments_limit is not None:
        words += f"/{count(found.experiments_limit)}"
    words += " experiments"
    hours = f"{found.seconds / 3600:.1f}"
    if found.seconds_limit is not None:
        hours += f"/{found.seconds_limit / 3600:g}"
    spans: list[Span] = []
    fraction = found.fraction
    if fraction is not None and width >= 70:
        length = min(24, max(8, width // 6))
        spans += [(bar(fraction, length), "accent_bar"), (" ", "")]
    spans += [
        (f" {words}", ""),
        (" · ", "faint"),
        (f"{hours} h", ""),
        (" · ", "faint"),
    ]
    if found.spent is not None:
        spans += [*_money(found, width), (" · ", "faint")]
    return [*spans, (estimate_words(state), "dim")]


def _money(found: Budget, width: int) -> list[Span]:
    """Spent, of what, and where there is room what is set aside for requests and runs under way."""
    of = f" of {dollars(found.spent_limit)}" if found.spent_limit is not None else ""
    close = found.spent_limit is not None and (found.spent or 0) + found.reserved >= 0.9 * found.spent_limit
    spans: list[Span] = [(f"{dollars(found.spent)}{of}", "warn" if close else "")]
    if found.reserved and width >= 100:
        spans.append((f" (+{dollars(found.reserved)} set aside)", "dim"))
    return spans
