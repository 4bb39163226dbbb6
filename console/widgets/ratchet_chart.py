"""The ratchet's staircase with every try behind it. ``build`` draws it in a thread, ``paint`` puts the cursor in.

A painter with an explicit input, so that any screen may show it.
"""

from __future__ import annotations

from collections import Counter

from console.axes import Trace
from console.braille import Canvas
from console.charting import ChartView
from console.formats import count, duration, fit, number, one_or_more
from console.plain_text import clean
from console.staircase import (
    UNSCORED,
    RatchetView,
    Step,
    Summary,
    corners,
    extent,
    limits,
    summary,
    under_cursor,
    x_of,
)
from console.ticks import Ticks, linear
from console.tracing import clip, thin
from console.widgets.lines import Line, Span
from console.widgets.plotting import (
    Curveline,
    Plot,
    canvas,
    draw,
    with_cells,
    with_rule,
    with_sign,
    with_unit,
)

__all__ = ["build", "caption", "key_of", "paint", "size_of", "spoken", "summary"]


def key_of(view: RatchetView, width: int, height: int) -> tuple[object, ...]:
    """What a built chart depends on: not the cursor."""
    return id(view.points), id(view.steps), view.by, view.goal, view.baseline, view.began, width, height


def size_of(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of the chart itself: two lines say what it came to and what the cursor is on."""
    return width, height - 2


def build(view: RatchetView, width: int, height: int) -> Plot | None:
    """The chart without its cursor, ``height`` lines of ``width`` cells; None without room or a score.

    10-40 ms with 10,000 experiments: call it off the message path.
    """
    y = limits(view)
    if y is None or width < 20 or height < 5:
        return None
    if any(point.verdict in UNSCORED for point in view.points):
        y = (y[0] - (y[1] - y[0]) / (height - 3), y[1])  # their row at the bottom is nobody else's
    x = extent(view)
    y_ticks = linear(*y, max(2, min(6, height // 2)))
    columns, rows = canvas(width, height, y_ticks)
    if columns < 8 or rows < 3:
        return None
    steps = corners(view)
    stairs = Trace(tuple(p[0] for p in steps), tuple(p[1] for p in steps))
    runs = [part for run in thin(stairs, ChartView(), x, 2 * columns) for part in clip(run, x, y)]
    kept = {step.number for step in view.steps}
    tried = [(x_of(view, p), p.score) for p in view.points if p.score is not None and p.number not in kept]
    off = sum(not y[0] <= score <= y[1] for _, score in tried)
    ticks, unit = x_ticks(view, x, columns, f"{count(off)} off the chart · " if off and columns >= 50 else "")
    plot = draw([Curveline(runs, "kept")], x, y, ticks, y_ticks, width, height)
    behind = Canvas(columns, rows, x, y)
    behind.points(tried)
    faint = {(column, row): (text, "faint") for column, row, text in behind.cells()}
    plot = with_cells(plot, faint | _crashes(view, plot))
    if len(view.steps) <= columns // 3:
        for step in view.steps:
            plot = with_sign(plot, (x_of(view, step), step.score), "▲", "kept")
    return with_unit(plot, unit)


def _crashes(view: RatchetView, plot: Plot) -> dict[tuple[int, int], Span]:
    """A tick at the bottom for each column in which something came to no score."""
    columns = Counter(plot.column(x_of(view, p)) for p in view.points if p.verdict in UNSCORED)
    return {(at - plot.left, plot.rows - 1): ("╷", "bad") for at in columns if at is not None}


def x_ticks(view: RatchetView, x: tuple[float, float], columns: int, told: str) -> tuple[Ticks, str]:
    """The axis' numbers, and what stands at their right end: ``told`` and the unit."""
    most = max(2, min(8, columns // 12))
    unit, size = "experiments", 1.0
    if view.by == "time":
        unit, size = next(
            ((word, s) for word, s in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)) if x[1] >= 3 * s),
            ("seconds", 1.0),
        )
    found = [(place * size, label) for place, label in linear(x[0] / size, x[1] / size, most)]
    found = [t for t in found if view.by == "time" or t[0] == int(t[0])]
    unit = told + unit
    room = columns - len(unit) - 2
    return [t for t in found if (t[0] - x[0]) / (x[1] - x[0]) * columns + len(t[1]) / 2 + 1 < room] or found, unit


# --- around it ----------------------------------------------------------------------------------------


def paint(view: RatchetView, plot: Plot | None, of: Summary, metric: str, width: int, height: int) -> list[Line]:
    """``plot`` is what ``build`` gave for the same view, None while it is being built."""
    lines = [spoken(of, metric, width)]
    if plot is not None:
        at = under_cursor(view)
        if at is not None:
            plot = with_rule(plot, x_of(view, at), "│", "accent")
            if isinstance(at, Step):
                plot = with_sign(plot, (x_of(view, at), at.score), "▲", "accent")
        lines += plot.lines
    elif not view.points:
        lines.append(Line((("no experiment has settled yet", "faint"),)))
    elif limits(view) is None:
        lines.append(Line((("no experiment has come to a score yet", "faint"),)))
    lines = lines[: max(1, height - 1)]
    lines += [Line(())] * (height - 1 - len(lines))
    return [*lines, caption(view, width)][:height]


def spoken(of: Summary, metric: str, width: int) -> Line:
    """``val_bpb better by 0.0431 (1.3 %)  4 kept of 120 tried, 7 crashed  12.4 device hours  $3.20 ...``"""
    spans: list[Span] = [(f"{clean(metric)[:30]} ", "dim")]
    if of.gain is None:
        spans.append(("not measured yet", "dim"))
    else:
        share = f" ({100 * abs(of.share):.2g} %)" if of.share is not None else ""
        way = "better" if of.gain > 0 else "worse" if of.gain < 0 else ""
        told = f"{way} by {number(abs(of.gain), 3)}{share}" if way else "no gain yet"
        spans.append((told, "good" if of.gain > 0 else "bad" if of.gain < 0 else ""))
    crashed = f", {count(of.crashed)} crashed" if of.crashed else ""
    parts = [
        f"{count(of.keeps)} kept of {count(of.tried)} tried{crashed}",
        f"{of.device_seconds / 3600:,.1f} device h",
    ]
    if of.dollars is not None:
        parts.append(f"${of.dollars:,.2f}")
    if of.seconds_per_keep is not None:
        parts.append(f"a keep every {duration(of.seconds_per_keep)}")
    used = sum(len(text) for text, _ in spans)
    for part in parts:
        if used + 3 + len(part) > width:
            break
        spans += [(" · ", "faint"), (part, "")]
        used += 3 + len(part)
    return Line(tuple(spans))


def caption(view: RatchetView, width: int) -> Line:
    """The change behind the step, or the try, that the cursor is on."""
    at = under_cursor(view)
    if at is None:
        if not view.points:
            return Line(())
        told = f"{one_or_more(len(view.points), 'experiment')}: ← → to look at what is behind a step"
        return Line(((fit(told, width), "faint"),))
    if isinstance(at, Step):
        head, style = f"▲ #{at.number} ", "kept"
        better = "better" if at.gain >= 0 else "worse"
        tail = f"  {number(at.score)}, {better} by {number(abs(at.gain), 3)}"
    else:
        head = f"#{at.number} {clean(at.verdict)[:12]} "
        style = "bad" if at.verdict in UNSCORED else "dim"
        tail = f"  {number(at.score)}" if at.score is not None else ""
        if at.effect is not None:
            tail += f", effect {at.effect:+.3g}"
    room = width - len(head) - len(tail)
    return Line(((head, style), (fit(clean(at.title), max(0, room)).rstrip(), ""), (tail, "dim")))
