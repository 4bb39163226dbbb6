"""A chart of curves, built: pure numbers and plotext in, lines and what a cursor needs out. Runs in a thread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from console.axes import AXIS_WORDS, Span, Trace, axis_for, budget_on, extent, trace, why_not
from console.charting import ChartView, back, forward, forward_span, visible
from console.state import Curve
from console.ticks import Ticks, linear, logarithmic
from console.tracing import clip, limits, smooth, standing, thin
from console.widgets.plotting import Curveline, Plot, canvas, draw, with_rule, with_sign, with_unit

UNITS = {"step": "step", "tokens": "tokens", "seconds": "s", "fraction": "of budget"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A curve and how it is told from the others: by its name, its colour and, without colour, its sign."""

    curve: Curve
    name: str
    sign: str
    style: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be built. Curves are frozen: their identity tells whether they are the same."""

    layers: tuple[Layer, ...]
    view: ChartView
    width: int
    height: int

    @property
    def key(self) -> tuple[object, ...]:
        looks = tuple((id(one.curve), one.name, one.sign, one.style) for one in self.layers)
        view = (self.view.axis, self.view.log_x, self.view.log_y, self.view.smoothing, self.view.window)
        return looks, view, self.width, self.height


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """A built chart, compared by identity.

    ``shown``: the layers in sight with their traces as drawn (smoothed, whole). ``span``: the data's extent in x.
    ``now``, ``gap``: the first run's value, and by how much it is above the incumbent's at the same x.
    """

    wish: Wish
    axis: str
    span: Span
    plot: Plot
    shown: tuple[tuple[Layer, Trace], ...]
    notes: tuple[str, ...] = ()
    now: float | None = None
    gap: float | None = None


class Traces:
    """Curves on their axes, and smoothed, kept while they are asked for: a new window needs no new smoothing."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._known: dict[tuple[object, ...], tuple[Curve, Trace]] = {}

    def get(self, curve: Curve, axis: str, level: float = 0.0, length: float = 0.0) -> Trace:
        key = (id(curve), axis, level, length)
        found = self._known.pop(key, None)
        if found is None:  # the curve is held, so that its id stays its own
            made = smooth(self.get(curve, axis), level, length) if level else trace(curve, axis)
            found = (curve, made)
        self._known[key] = found
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]
        return found[1]


def build(wish: Wish, traces: Traces | None = None) -> Chart | None:
    """None where nothing can be drawn: no room, or no finite value. One at a time (``plotting``)."""
    traces = traces or Traces()
    view, width, height = wish.view, wish.width, wish.height
    layers = [one for one in wish.layers if one.curve.points]
    if not layers or width < 20 or height < 4:
        return None
    axis = axis_for(view.axis, [one.curve for one in layers])
    notes = []
    if axis != view.axis:
        notes.append(f"no {AXIS_WORDS.get(view.axis, view.axis)}: {why_not(layers[0].curve, view.axis)}")
    notes += [f"{one.name}: {why}" for one in layers if (why := why_not(one.curve, axis))]
    layers = [one for one in layers if not why_not(one.curve, axis)]
    raw = [traces.get(one.curve, axis) for one in layers]
    span = extent(raw, positive=view.log_x)
    if span is None:
        return None
    budget = budget_on(layers[0].curve, axis)
    length = budget or extent(raw, positive=False)
    reach = length[1] - length[0] if isinstance(length, tuple) else length or 0.0
    smoothed = [traces.get(one.curve, axis, view.smoothing, reach) for one in layers]
    if budget is not None and budget / 2 <= span[1] < budget:
        span = (span[0], budget)
    if span[1] <= span[0]:
        span = (span[0], span[0] + (abs(span[0]) or 1.0))
    window = visible(view, span)
    notes += _left_out(raw, view)
    now, gap = _standing(layers, raw)
    plot = _plot(wish, axis, window, layers, raw, smoothed, budget)
    if plot is None:
        return None
    return Chart(wish, axis, span, plot, tuple(zip(layers, smoothed, strict=True)), tuple(notes), now, gap)


def _left_out(traces: Sequence[Trace], view: ChartView) -> list[str]:
    """What a logarithmic axis cannot show is said."""
    notes = []
    if view.log_y and (found := sum(y <= 0 for one in traces for y in one.ys)):
        notes.append(f"{found} value{'s' * (found > 1)} ≤ 0 not on the log axis")
    if view.log_x and (found := sum(x <= 0 for one in traces for x in one.xs)):
        notes.append(f"{found} point{'s' * (found > 1)} at x ≤ 0 not on the log axis")
    return notes


def _standing(layers: Sequence[Layer], raw: Sequence[Trace]) -> tuple[float | None, float | None]:
    if not layers or layers[0].style != "live":
        return None, None
    other = next((one for layer, one in zip(layers, raw, strict=True) if layer.style == "reference"), None)
    return standing(raw[0], other)


def _plot(
    wish: Wish, axis: str, window: Span, layers: Sequence[Layer], raw: Sequence[Trace], smoothed: Sequence[Trace],
    budget: float | None,
) -> Plot | None:  # fmt: skip
    view, width, height = wish.view, wish.width, wish.height
    x = forward_span(view, window)
    thinned = [thin(one, view, window, 2 * (width - 8)) for one in smoothed]
    y = limits(thinned, whole=view.window is None)
    if y is None:
        return None
    y_ticks = (logarithmic if view.log_y else linear)(*y, max(2, min(6, height // 2)))
    columns, rows = canvas(width, height, y_ticks)
    if columns < 8 or rows < 2:
        return None
    lines = []
    if view.smoothing and layers[0].style == "live":  # what was smoothed stays visible behind
        lines.append(Curveline(_cut(thin(raw[0], view, window, 2 * columns), x, y), "faint"))
    cut = [_cut(runs, x, y) for runs in thinned]
    # The first is drawn last: where two meet, this run is seen.
    lines += [Curveline(runs, one.style) for one, runs in reversed(list(zip(layers, cut, strict=True)))]
    plot = draw(lines, x, y, x_ticks(axis, view, x, columns), y_ticks, width, height)
    if budget is not None and budget > 0:
        plot = with_rule(plot, forward(view, budget), "┊", "warn", "budget")
    for i in reversed(range(len(layers))):
        for place in _sign_places(cut[i], x, i, len(layers)):
            plot = with_sign(plot, place, layers[i].sign, layers[i].style)
    return with_unit(plot, UNITS[axis])


def _cut(runs: Sequence[Sequence[tuple[float, float]]], x: Span, y: Span) -> list[list[tuple[float, float]]]:
    return [part for run in runs for part in clip(run, x, y)]


def _sign_places(
    runs: Sequence[Sequence[tuple[float, float]]], x: Span, index: int, count: int
) -> list[tuple[float, float]]:
    """Where a curve carries its sign: at its end, and twice on its way, at other places than its neighbours."""
    points = [point for run in runs for point in run]
    if not points:
        return []
    found = [points[-1]]
    for third in range(2):
        wanted = x[0] + (x[1] - x[0]) * (third + (index + 1) / (count + 1)) / 2
        nearest = min(points, key=lambda point: abs(point[0] - wanted))
        if abs(nearest[0] - wanted) < (x[1] - x[0]) / (4 * count + 4):
            found.append(nearest)
    return found


def x_ticks(axis: str, view: ChartView, x: Span, columns: int) -> Ticks:
    most = max(2, min(8, columns // 12))
    if axis == "fraction" and not view.log_x:
        found = [(place / 100, f"{label}%") for place, label in linear(x[0] * 100, x[1] * 100, most)]
    else:
        found = (logarithmic if view.log_x else linear)(*x, most)
    room = columns - len(UNITS[axis]) - 2  # the unit stands at the right end
    return [t for t in found if (t[0] - x[0]) / (x[1] - x[0]) * columns + len(t[1]) / 2 + 1 < room] or found


def place_words(axis: str, x: float, window: float = math.inf) -> str:
    """Where on the axis: ``step 1,280``, ``12.5M tokens``, ``75.2 s``, ``43.1 % of budget``."""
    if axis == "step":
        return f"step {x:,.0f}" if abs(x) < 1e15 else f"step {x:g}"
    if axis == "tokens":
        size, sign = next(
            ((s, w) for s, w in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if x >= s), (1, "")
        )
        return f"{x / size:.4g}{sign} tokens"
    if axis == "seconds":
        return f"{x:.0f} s" if abs(x) >= 100 and window > 20 else f"{x:.1f} s"
    return f"{100 * x:.1f} % of budget"


def cursor_place(chart: Chart, cursor: float) -> float:
    """The cursor's place on the drawn axis."""
    return forward(chart.wish.view, cursor)


def window_width(chart: Chart) -> float:
    view = chart.wish.view
    return back(view, chart.plot.x[1]) - back(view, chart.plot.x[0])
