"""Ending a run that cannot come to anything: NaN, divergence, stall, projected overrun. Pure.

These hold for every run, confirmations included, for they are about the program and not about the race
with the incumbent. (Stopping at a fraction of the budget by the chance to beat the incumbent comes
later.) Each rule prefers waiting to a false stop: the deadline ends what they let pass.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from engine.types import Point, TrialOutcome


@dataclass(frozen=True, slots=True)
class Budget:
    """Of the running step. ``seconds``: how long it should train, ``steps``: the last step's number,
    ``deadline``: seconds after which it is killed. 0 = unknown."""

    seconds: float = 0.0
    steps: float = 0.0
    deadline: float = 0.0


@dataclass(frozen=True, slots=True)
class StopRules:
    """Defaults of [judge] early_stop. Times in seconds, counts in points of one series."""

    sustained: int = 3  # one bad point is not enough: a loss scaler skips overflowing steps and recovers
    divergence_multiple: float = 10.0  # of where the loss started,
    divergence_floor: float = 100.0  # but never below this: autoresearch's own rule is loss > 100
    stall_seconds: float = 120.0
    stall_gaps: float = 20.0  # and this many times the longest silence so far
    overrun: float = 1.1  # projected end over deadline
    overrun_after: float = 0.2  # of the deadline: compiling and warming up are slow and not the pace
    overrun_points: int = 10


@dataclass(frozen=True, slots=True)
class Stop:
    """``rule``: nan | divergence | stall | overrun. ``outcome`` is how the trial then ended."""

    rule: str
    outcome: TrialOutcome
    detail: str


# Learning rates, gradient norms and throughputs may grow or be infinite in an honest run; losses may not.
_LOSS = re.compile(r"loss|bpb|bpc|nll|perplexity|ppl|cross_?entropy|\bce\b", re.IGNORECASE)


def is_loss(series: str) -> bool:
    """Whether a series is one that only falls in a healthy run, going by its name."""
    return bool(_LOSS.search(series))


def check(points: Iterable[Point], budget: Budget, elapsed: float, rules: StopRules | None = None) -> Stop | None:
    """The first rule that ends the run, or None.

    ``points`` are the run's series so far, in order; series may be interleaved, and older points thinned
    out, but the newest must be all there. ``elapsed`` is in seconds on the scale of ``Point.at``.
    """
    rules = rules or StopRules()
    series: dict[str, list[Point]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    losses = {name: curve for name, curve in series.items() if is_loss(name)}
    for name, curve in losses.items():
        if stop := _not_finite(name, curve, rules) or _diverged(name, curve, rules):
            return stop
    if not series:
        return None  # importing, compiling, loading: silence at the start is the deadline's business
    longest = max(series.values(), key=len)
    return _stalled(series, budget, elapsed, rules) or _overrun(longest, budget, elapsed, rules)


def _not_finite(name: str, curve: Sequence[Point], rules: StopRules) -> Stop | None:
    newest = curve[-rules.sustained :]
    if len(newest) < rules.sustained or any(math.isfinite(point.value) for point in newest):
        return None
    step = newest[0].step
    detail = f"{name} has been {newest[-1].value} since step {step:g}"
    return Stop("nan", TrialOutcome.NOT_FINITE, detail)


def _diverged(name: str, curve: Sequence[Point], rules: StopRules) -> Stop | None:
    start = next((point.value for point in curve if math.isfinite(point.value)), None)
    newest = curve[-rules.sustained :]
    if start is None or len(newest) < rules.sustained:
        return None
    limit = max(rules.divergence_floor, rules.divergence_multiple * start)
    # NaN compares false and is the other rule's; +inf is above any limit.
    if not all(point.value > limit for point in newest):
        return None
    detail = f"{name} went from {start:.4g} to {newest[-1].value:.4g} (limit {limit:.4g})"
    return Stop("divergence", TrialOutcome.STOPPED, detail)


def _stalled(series: dict[str, list[Point]], budget: Budget, elapsed: float, rules: StopRules) -> Stop | None:
    at = sorted(point.at for curve in series.values() for point in curve)
    done = max(point.step for curve in series.values() for point in curve)
    # After training comes an evaluation without points: silence means a stall only before that.
    training = (budget.seconds > 0 and elapsed < budget.seconds) or (0 < done < budget.steps)
    if not training or len(at) < 2:
        return None
    silence = elapsed - at[-1]
    longest = max(later - earlier for earlier, later in itertools.pairwise(at))
    limit = max(rules.stall_seconds, rules.stall_gaps * longest)
    if silence <= limit:
        return None
    detail = f"no new point for {silence:.0f} s, after gaps of at most {longest:.1f} s"
    return Stop("stall", TrialOutcome.TIMEOUT, detail)


def _overrun(curve: Sequence[Point], budget: Budget, elapsed: float, rules: StopRules) -> Stop | None:
    if not (budget.steps > 0 and budget.deadline > 0) or len(curve) < rules.overrun_points:
        return None
    if elapsed < rules.overrun_after * budget.deadline:
        return None
    recent = curve[len(curve) // 2 :]  # its present pace: the first steps compile
    paces = [
        (later.at - earlier.at) / (later.step - earlier.step)
        for earlier, later in itertools.pairwise(recent)
        if later.step > earlier.step
    ]
    left = budget.steps - curve[-1].step
    if not paces or left <= 0:
        return None
    # The median: a pause for a checkpoint or an evaluation is not the pace.
    end = curve[-1].at + left * median(paces)
    if end <= rules.overrun * budget.deadline:
        return None
    detail = (
        f"step {curve[-1].step:g} of {budget.steps:g} after {curve[-1].at:.0f} s: "
        f"would end at {end:.0f} s, the limit is {budget.deadline:.0f} s"
    )
    return Stop("overrun", TrialOutcome.TIMEOUT, detail)
