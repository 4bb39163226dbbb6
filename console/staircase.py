"""The ratchet's staircase: the incumbent's score over experiments or time, and what it cost. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from console.ticks import TINY

if TYPE_CHECKING:
    from engine.store.reading_screens import TryRow
    from engine.store.rows import ExperimentRow, KeepRow

BY = ("experiments", "time")
UNSCORED = ("crash", "invalid")


@dataclass(frozen=True, slots=True)
class Tried:
    """A settled experiment. ``at``: when it settled (epoch seconds). ``score`` None: it came to none."""

    number: int
    at: float
    score: float | None
    verdict: str
    title: str = ""
    effect: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A keep: the incumbent's ``score`` from then on, as it was measured when it was kept. ``gain`` is positive
    when better than the step before, in the metric's unit."""

    number: int
    at: float
    score: float
    gain: float
    title: str = ""


@dataclass(frozen=True, slots=True)
class RatchetView:
    """All that the ratchet chart looks at; ``points`` by number, ``cursor`` the number of an experiment."""

    points: tuple[Tried, ...]
    steps: tuple[Step, ...]
    by: str = "experiments"
    cursor: int | None = None
    goal: str = "minimize"
    baseline: float | None = None
    began: float = 0.0  # epoch seconds


def staircase(
    experiments: Iterable[ExperimentRow | TryRow],
    keeps: Iterable[KeepRow],
    *,
    goal: str,
    baseline: float | None,
    began: float,
    by: str = "experiments",
) -> RatchetView:
    """From a campaign's rows. ``baseline``: its calibrated mean. A keep without a score of its own (a merged
    version that was not run again) stands at the score before, bettered by its effect."""
    points = [
        Tried(row.number, row.settled_at, _finite(row.score), row.verdict, row.title, _finite(row.effect))
        for row in experiments
        if row.settled_at is not None and row.verdict not in (None, "cancelled")
    ]
    points.sort(key=lambda point: point.number)
    way = 1.0 if goal == "maximize" else -1.0
    steps: list[Step] = []
    now = _finite(baseline)
    for keep in keeps:
        score, effect = _finite(keep.score), _finite(keep.effect)
        if score is None and now is not None and effect is not None:
            score = now + way * effect
        if score is None:
            continue
        gain = way * (score - now) if now is not None else effect or 0.0
        steps.append(Step(keep.number, keep.created_at, score, gain, keep.title))
        now = score
    return RatchetView(tuple(points), tuple(steps), by, None, goal, _finite(baseline), began)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# --- where things stand -------------------------------------------------------------------------------


def x_of(view: RatchetView, of: Tried | Step) -> float:
    """Its place: the number, or seconds since the campaign began."""
    return max(0.0, of.at - view.began) if view.by == "time" else float(of.number)


def extent(view: RatchetView) -> tuple[float, float]:
    """The x axis: from the beginning to the newest."""
    ends = [x_of(view, p) for p in view.points[-1:] + view.steps[-1:]]
    if view.by == "time" and view.points:  # several run at once: the newest to settle need not be the last number
        ends.append(max(x_of(view, p) for p in view.points))
    high = max(ends, default=1.0)
    return 0.0, high if high > 0 else 1.0


def corners(view: RatchetView) -> list[tuple[float, float]]:
    """The staircase as connected points, ascending in x."""
    found: list[tuple[float, float]] = []
    score = view.baseline if view.baseline is not None else view.steps[0].score if view.steps else None
    if score is None:
        return found
    found.append((0.0, score))
    for step in view.steps:
        x = max(x_of(view, step), found[-1][0])
        found += [(x, score), (x, step.score)]
        score = step.score
    end = extent(view)[1]
    if end > found[-1][0]:
        found.append((end, score))
    return found


def limits(view: RatchetView) -> tuple[float, float] | None:
    """The y axis: the staircase, and as much of the tries as leaves it at least a third of the height.

    One discard that scored a hundred times worse must not press the staircase flat.
    """
    steps = [y for _, y in corners(view)]
    tried = sorted(p.score for p in view.points if p.score is not None)
    usual = tried[len(tried) // 50 : len(tried) - len(tried) // 50] if len(tried) >= 50 else tried
    if not steps:
        steps = [usual[len(usual) // 2]] if usual else []
    if not steps:
        return None
    low, high = min(steps), max(steps)
    reach = (high - low) or (4 * (usual[3 * len(usual) // 4] - usual[len(usual) // 4]) if len(usual) > 3 else 0.0)
    if reach <= 0:
        reach = (usual[-1] - usual[0]) if usual else 0.0
    if usual:
        low, high = min(low, max(usual[0], low - reach)), max(high, min(usual[-1], high + reach))
    pad = 0.04 * (high - low) if high - low > TINY else max(0.05 * abs(high), 0.5 if abs(high) < TINY else 0.0)
    return low - pad, high + pad


# --- the cursor ---------------------------------------------------------------------------------------


def move(view: RatchetView, by: int, *, keeps: bool = False) -> RatchetView:
    """The cursor ``by`` experiments (or ``keeps``) on; from nowhere it begins at the newest keep."""
    numbers = [step.number for step in view.steps] if keeps else [point.number for point in view.points]
    if not numbers:
        return replace(view, cursor=None)
    if view.cursor is None:
        first = view.steps[-1].number if view.steps else numbers[-1]
        return replace(view, cursor=first)
    at = bisect_left(numbers, view.cursor)
    exact = at < len(numbers) and numbers[at] == view.cursor
    wanted = at + by if exact or by < 0 else at + by - 1
    return replace(view, cursor=numbers[min(max(wanted, 0), len(numbers) - 1)])


def toggle_by(view: RatchetView) -> RatchetView:
    return replace(view, by=BY[1] if view.by == BY[0] else BY[0])


def under_cursor(view: RatchetView) -> Tried | Step | None:
    """What the cursor points to: a keep's step where it is one. Its ``number`` is what a screen opens."""
    if view.cursor is None:
        return None
    step = next((s for s in view.steps if s.number == view.cursor), None)
    return step or next((p for p in view.points if p.number == view.cursor), None)


# --- what it came to ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """``gain`` in the metric's unit, positive is better, ``share`` of the baseline; None: not known (yet)."""

    gain: float | None
    share: float | None
    keeps: int
    tried: int
    crashed: int
    device_seconds: float
    dollars: float | None
    seconds_per_keep: float | None


def summary(
    view: RatchetView, *, device_seconds: float, active_seconds: float, dollars: float | None = None
) -> Summary:
    """``device_seconds``: of all trials times their devices; ``active_seconds``: with an engine at work."""
    way = 1.0 if view.goal == "maximize" else -1.0
    gain = share = None
    if view.baseline is not None:
        gain = way * (view.steps[-1].score - view.baseline) if view.steps else 0.0
        share = gain / abs(view.baseline) if view.baseline else None
    keeps = len(view.steps)
    crashed = sum(point.verdict in UNSCORED for point in view.points)
    per_keep = active_seconds / keeps if keeps else None
    return Summary(gain, share, keeps, len(view.points), crashed, device_seconds, dollars, per_keep)
