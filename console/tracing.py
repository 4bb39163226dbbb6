"""A curve's numbers on their way to the columns: smoothed, cut, reduced; and read back at a cursor. Pure.

The order is fixed: the whole series is smoothed, then cut to the window, then reduced to the columns. So a
smoothed value never depends on the zoom (elsewhere it does: wandb/wandb#10242).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

from console.axes import Span, Trace
from console.charting import ChartView, back, forward, forward_span
from console.ticks import TINY

SMOOTHING_GRAIN = 1000  # the axis' length in the unit that the weights decay by, as in W&B's TWEMA
XY = tuple[float, float]


# --- smoothing ----------------------------------------------------------------------------------------


def smooth(of: Trace, level: float, length: float) -> Trace:
    """``of`` under a time-weighted exponential moving average; ``level`` 0 (nothing) to below 1.

    The weight of what came before decays with the distance in x, in units of ``length`` / SMOOTHING_GRAIN, so
    that runs which print at different rates are smoothed alike; the sum of weights removes the bias of the
    first points. ``length`` is the whole axis', never the window's. Source: W&B's documentation, "Smooth line
    plots", TWEMA; the debiasing is TensorBoard's.
    """
    if not (0 < level < 1 and length > 0 and math.isfinite(length)):
        return of
    rate = SMOOTHING_GRAIN * math.log(min(math.sqrt(level), 0.999)) / length
    exp, isnan, inf, nan = math.exp, math.isnan, math.inf, math.nan
    total = weight = 0.0
    last = of.xs[0] if of.xs else 0.0
    found: list[float] = []
    add = found.append
    for x, y in zip(of.xs, of.ys, strict=True):
        if isnan(y):
            add(y)
            continue
        kept = exp(rate * (x - last))
        total = total * kept + y
        weight = weight * kept + 1.0
        last = x
        add(total / weight if -inf < total < inf else nan)
    return Trace(of.xs, tuple(found))


# --- to the columns -----------------------------------------------------------------------------------


def thin(of: Trace, view: ChartView, window: Span, columns: int) -> list[list[XY]]:
    """What of a trace stands in ``window``, as runs of connected (place on x, place on y).

    At most two points a column, its least and its greatest in their order (the usual min/max decimation: an
    average would hide the spike that explains a crash), and one neighbour on each side, so that a line leaves
    the window where it should. Values that are not above zero have no place on a logarithmic axis.
    """
    a, b = forward_span(view, window)
    first, end = bisect_left(of.xs, window[0]), bisect_right(of.xs, window[1])
    if view.log_x:
        first = max(first, bisect_right(of.xs, 0.0))
    if end - first <= 2 * columns or not b > a:
        cuts = [*range(first, end), end]
    else:
        places = (a + (b - a) * i / columns for i in range(1, columns))
        cuts = sorted({first, *(bisect_left(of.xs, back(view, p), first, end) for p in places), end})
    runs: list[list[XY]] = [[]]
    before = [first - 1] if first > 0 and not (view.log_x and of.xs[first - 1] <= 0) else []
    for low, high in [(i, i + 1) for i in before] + list(pairwise(cuts)):
        _add(runs, of, view, low, high)
    if end < len(of.xs):
        _add(runs, of, view, end, end + 1)
    return [run for run in runs if run]


def _add(runs: list[list[XY]], of: Trace, view: ChartView, low: int, high: int) -> None:
    """The least and greatest of points ``low`` to ``high``; where none can be drawn the line is interrupted."""
    ys = of.ys[low:high]
    least, most = min(ys), max(ys)
    if not (least <= most) or any(map(math.isnan, (least, most, sum(ys)))) or (view.log_y and least <= 0):
        drawn = [y for y in ys if not math.isnan(y) and (y > 0 or not view.log_y)]
        if not drawn:
            runs.append([])
            return
        least, most = min(drawn), max(drawn)
    for i in sorted({low + ys.index(least), low + ys.index(most)}):
        runs[-1].append((forward(view, of.xs[i]), math.log10(of.ys[i]) if view.log_y else of.ys[i]))


def clip(run: Sequence[XY], x: Span, y: Span) -> list[list[XY]]:
    """The parts of a connected run within the rectangle, cut at its edges."""
    found: list[list[XY]] = []
    if len(run) == 1:
        inside = x[0] <= run[0][0] <= x[1] and y[0] <= run[0][1] <= y[1]
        return [[run[0]]] if inside else []
    for start, end in pairwise(run):
        part = _part(start, end, x, y)
        if part is None:
            continue
        if found and found[-1][-1] == part[0]:
            found[-1].append(part[1])
        else:
            found.append(list(part))
    return found


def _part(start: XY, end: XY, x: Span, y: Span) -> tuple[XY, XY] | None:
    """Liang and Barsky's clipping of one line."""
    enter, leave = 0.0, 1.0
    dx, dy = end[0] - start[0], end[1] - start[1]
    for way, room in (
        (-dx, start[0] - x[0]), (dx, x[1] - start[0]), (-dy, start[1] - y[0]), (dy, y[1] - start[1]),
    ):  # fmt: skip
        if way == 0:
            if room < 0:
                return None
        elif way < 0:
            enter = max(enter, room / way)
        else:
            leave = min(leave, room / way)
    if enter > leave:
        return None

    def at(t: float) -> XY:
        px, py = start if t == 0.0 else end if t == 1.0 else (start[0] + t * dx, start[1] + t * dy)
        return min(max(px, x[0]), x[1]), min(max(py, y[0]), y[1])  # rounding stays within the axes too

    return at(enter), at(leave)


def limits(drawn: Sequence[Sequence[Sequence[XY]]], *, whole: bool) -> Span | None:
    """The y axis of what ``thin`` gave for each curve. Where the ``whole`` run is in sight, a loss that begins far
    up would press the interesting part flat, so the first sixth of each curve may leave the chart; of each,
    because a run that has just begun must be seen as well."""
    values, later = [], []
    for curve in drawn:
        points = [point for run in curve for point in run]
        if not points:
            continue
        values += [y for _, y in points]
        begun = points[0][0] + (points[-1][0] - points[0][0]) / 6
        later += [y for x, y in points if x >= begun]
    if not values:
        return None
    low, high = min(values), max(values)
    if whole and len(later) > 10 and high - low > 1.5 * (max(later) - low) > 0:
        high = max(later)
    if high - low > TINY:
        return low, high
    pad = max(0.5, abs(low) / 1000)
    return low - pad, low + pad


# --- values -------------------------------------------------------------------------------------------


def value_at(of: Trace, x: float) -> float | None:
    """The value at ``x``, linear between the points around it; None outside and in a gap."""
    i = bisect_left(of.xs, x)
    if i < len(of.xs) and of.xs[i] == x:
        found = of.ys[i]
    elif i == 0 or i == len(of.xs):
        return None
    else:
        x0, x1 = of.xs[i - 1], of.xs[i]
        found = of.ys[i - 1] + (of.ys[i] - of.ys[i - 1]) * ((x - x0) / (x1 - x0))
    return found if math.isfinite(found) else None


def last_value(of: Trace) -> float | None:
    return next((y for y in reversed(of.ys) if not math.isnan(y)), None)


def read(curves: Sequence[tuple[str, Trace]], x: float | None) -> tuple[tuple[str, float | None], ...]:
    """(name, value) of each curve at the cursor ``x``; None reads the last values."""
    return tuple((name, last_value(one) if x is None else value_at(one, x)) for name, one in curves)


def recent(of: Trace, x: float, reach: float) -> float | None:
    """Mean of the values in (x - reach, x]: single points of a training loss are mostly noise."""
    chosen = of.ys[bisect_right(of.xs, x - reach) : bisect_right(of.xs, x)]
    known = [y for y in chosen if not math.isnan(y)]
    if not known or x > of.xs[-1] + reach:
        return value_at(of, x)
    return sum(known) / len(known)


def standing(live: Trace, reference: Trace | None) -> tuple[float | None, float | None]:
    """(the run's value now, by how much it is above the reference at the same x), both means of the recent."""
    if not live.xs:
        return None, None
    x = live.xs[-1]
    if reference is None or not reference.xs:
        return last_value(live), None
    reach = (max(reference.xs[-1], x) - min(reference.xs[0], live.xs[0])) / 50
    mine, other = recent(live, x, reach), recent(reference, x, reach)
    if mine is None or other is None:
        return last_value(live), None
    return mine, mine - other
