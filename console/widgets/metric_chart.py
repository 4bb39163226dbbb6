"""Pane 4: the running trial's curve against the incumbent's.

plotext costs as many milliseconds as it has points (3 x 10,000: 194 ms), so curves are reduced to the chart's
columns first, keeping each column's least and greatest value; ``build`` runs in a thread.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from console.formats import count, number
from console.plain_text import clean
from console.state import Curve, State
from console.widgets.lines import Line, Scene, Span

COLOURS = {"live": (86, 212, 221), "reference": (163, 113, 247), "faint": (110, 118, 129)}
_NAMES = {";".join(map(str, rgb)): name for name, rgb in COLOURS.items()}
_SGR = re.compile(r"\x1b\[([0-9;]*)m")
Points = Sequence[tuple[float, float]]


def columns(points: Points, low: float, high: float, width: int) -> list[tuple[float, float]]:
    """``points`` (x ascending) reduced to two a column of ``width`` over [low, high]: min and max, in order.

    The usual min/max decimation: an average would hide the spike that explains a crash.
    """
    if len(points) <= 2 * width or high <= low:
        return list(points)
    buckets: dict[int, tuple[tuple[float, float], tuple[float, float]]] = {}
    for point in points:
        column = min(width - 1, max(0, int((point[0] - low) / (high - low) * width)))
        least, most = buckets.get(column, (point, point))
        buckets[column] = (point if point[1] < least[1] else least, point if point[1] > most[1] else most)
    found: list[tuple[float, float]] = []
    for column in sorted(buckets):
        pair = sorted(buckets[column])
        found += pair if pair[0] != pair[1] else pair[:1]
    return found


def at(points: Points, x: float) -> float | None:
    """The value at ``x``, linear between the points around it; None outside."""
    xs = [p[0] for p in points]
    i = bisect_left(xs, x)
    if i < len(xs) and xs[i] == x:
        return points[i][1]
    if i == 0 or i == len(xs):
        return None
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def recent(points: Points, x: float, reach: float) -> float | None:
    """Mean of the values in (x - reach, x]: single points of a training loss are mostly noise."""
    xs = [p[0] for p in points]
    chosen = points[bisect_right(xs, x - reach) : bisect_right(xs, x)]
    if not chosen or x > xs[-1] + reach:
        return at(points, x)
    return sum(p[1] for p in chosen) / len(chosen)


def comparison(live: Curve, reference: Curve | None) -> tuple[str, str]:
    """Where the run is, and how it stands at equal budget: ``3.1605 at step 128``, ``0.0395 below``."""
    x, y = live.points[-1]
    where = f"at step {count(int(x))}" if live.unit == "step" else f"after {x:.0f} s"
    if reference is None:
        return f"{number(y)} {where}", ""
    span = max(reference.points[-1][0], x) - min(reference.points[0][0], live.points[0][0])
    mine, other = recent(live.points, x, span / 50), recent(reference.points, x, span / 50)
    if mine is None or other is None:
        return f"{number(y)} {where}", "no longer beside"
    gap = mine - other
    return f"{number(mine)} {where}", f"{number(abs(gap), 2)} {'below' if gap < 0 else 'above'}"


def limits(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The y axis. A loss that begins far up would press the interesting part flat, so the first sixth of each
    curve may leave the chart; of each, because a run that has just begun must be seen as well."""
    values = [y for c in curves for _, y in c.points if math.isfinite(y)]
    if not values:
        return None
    later: list[float] = []
    for points in (c.points for c in curves):
        begun = points[0][0] + (points[-1][0] - points[0][0]) / 6
        later += [y for x, y in points if math.isfinite(y) and x >= begun]
    low, high = min(values), max(values)
    if len(later) > 10 and high - low > 1.5 * (max(later) - low) > 0:
        high = max(later)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def build(live: Curve | None, reference: Curve | None, width: int, height: int) -> tuple[Line, ...]:
    """The chart as ``height`` lines of ``width`` cells. Takes 10-40 ms: call it off the message path, one
    at a time (plotext keeps its figure in module globals)."""
    curves = [c for c in (reference, live) if c is not None and c.points]
    span = limits(curves)
    if not curves or span is None or width < 20 or height < 4:
        return ()
    import plotext as plt

    start = min(c.points[0][0] for c in curves)
    end = max(c.points[-1][0] for c in curves)
    plt.clear_figure()
    plt.limitsize(False, False)
    plt.plotsize(width, height)
    for set_colour in (plt.canvas_color, plt.axes_color):
        set_colour("default")
    plt.ticks_color(COLOURS["faint"])
    plt.xaxes(True, False)
    plt.yaxes(True, False)
    plt.xlim(start, end if end > start else start + 1)
    plt.ylim(*span)
    plt.xfrequency(max(2, min(8, width // 14)))
    plt.yfrequency(max(2, min(6, height // 2)))
    for curve in curves:
        kept = [p for p in columns(curve.points, start, end, 2 * (width - 8)) if math.isfinite(p[1])]
        shown = [p for p in kept if p[1] <= span[1]] or kept
        colour = COLOURS["live" if curve is live else "reference"]
        plt.plot([p[0] for p in shown], [p[1] for p in shown], marker="braille", color=colour)
    return tuple(parse(text) for text in plt.build().split("\n")[:height])


def parse(text: str) -> Line:
    """One line of plotext's output (foreground colours only) as spans."""
    spans: list[Span] = []
    name, position = "", 0
    for match in _SGR.finditer(text):
        if match.start() > position:
            spans.append((text[position : match.start()], name))
        position = match.end()
        code = match.group(1)
        name = _NAMES.get(code.removeprefix("38;2;"), "") if code.startswith("38;2;") else ""
    spans.append((text[position:], name))
    return Line(tuple(s for s in spans if s[0]))


# --- the pane ----------------------------------------------------------------------------------------


def inputs(scene: Scene) -> tuple[object, ...]:
    state = scene.state
    return scene.chart, state.live, state.reference, bool(state.running), scene.number


def title(scene: Scene) -> tuple[Span, ...]:
    live = scene.state.live
    return ((f"{live.label} · ", "faint"), (clean(live.series), "dim")) if live else ()


def legend(state: State) -> Line:
    """One sentence that is the legend too: each curve is named in its colour."""
    assert state.live is not None
    where, gap = comparison(state.live, state.reference)
    spans: list[Span] = [("this run", "live"), (f" {where}", "")]
    if state.reference is not None:
        spans += [(f", {gap} ", ""), ("incumbent", "reference")]
    return Line(tuple(spans))


def body(scene: Scene, width: int, height: int) -> list[Line]:
    state = scene.state
    if state.live is None:
        if state.running:
            told = "no curve yet: the trial has printed no numbers that make one"
        else:
            told = "no trial is running; select an experiment that ran to see its curve"
        return [Line(((told, "faint"),))]
    return [legend(state), *scene.chart][:height]


def size_of(pane_width: int, pane_height: int) -> tuple[int, int]:
    """Columns and rows of the chart itself inside its pane."""
    return pane_width - 3, pane_height - 2
