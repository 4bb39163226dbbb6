"""How a person looks at a chart: axis, scale, smoothing, window, cursor, and the runs laid over it.

Pure: each key is a function from one view to the next, clamped to the data (``span``: its least and greatest x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from console.axes import AXES, AXIS_WORDS, Span, axis_for, why_not

if TYPE_CHECKING:
    from console.state import Curve

SMOOTHINGS = (0.0, 0.9, 0.97, 0.99)  # W&B's scale: a point's weight halves over 0, 1.3, 4.6 and 14 % of the axis
CLOSEST = 1e-4  # the narrowest window, of the whole axis


@dataclass(frozen=True, slots=True)
class ChartView:
    """How a person looks at the chart. ``window`` None shows everything and follows it; x in the axis' unit."""

    axis: str = "step"
    log_y: bool = False
    log_x: bool = False
    smoothing: float = 0.0
    window: Span | None = None
    cursor: float | None = None


# --- from one view to the next ------------------------------------------------------------------------


def zoom(view: ChartView, span: Span, factor: float) -> ChartView:
    """Closer (``factor`` > 1) or wider, about the cursor where it is in sight, else about the middle."""
    low, high = forward_span(view, span)
    if not (high > low and math.isfinite(factor) and factor > 0):
        return replace(view, window=None)
    a, b = forward_span(view, visible(view, span))
    width = max((b - a) / factor, (high - low) * CLOSEST)
    if width >= high - low:
        return replace(view, window=None)
    centre = (a + b) / 2
    if view.cursor is not None and a <= (x := forward(view, view.cursor)) <= b:
        centre = x
    start = centre - (centre - a) / (b - a) * width
    start = min(max(start, low), high - width)
    return _with_window(view, span, start, start + width)


def pan(view: ChartView, span: Span, share: float) -> ChartView:
    """Along by ``share`` of the window's width (negative: to the left); nothing where all is in sight."""
    if view.window is None or not math.isfinite(share):
        return view
    low, high = forward_span(view, span)
    a, b = forward_span(view, visible(view, span))
    start = min(max(a + share * (b - a), low), max(low, high - (b - a)))
    return _with_window(view, span, start, start + (b - a))


def reset(view: ChartView) -> ChartView:
    """Everything in sight, no cursor; axis, scale and smoothing stay."""
    return replace(view, window=None, cursor=None)


def toggle_log(view: ChartView, axis: str = "y") -> ChartView:
    """Between a linear and a logarithmic ``y`` (or ``x``) axis."""
    return replace(view, log_x=not view.log_x) if axis == "x" else replace(view, log_y=not view.log_y)


def cycle_smoothing(view: ChartView) -> ChartView:
    """The next of SMOOTHINGS."""
    after = [level for level in SMOOTHINGS if level > view.smoothing]
    return replace(view, smoothing=after[0] if after else SMOOTHINGS[0])


def cycle_axis(view: ChartView, curves: Sequence[Curve]) -> tuple[ChartView, tuple[str, ...]]:
    """The next axis that the first curve can be drawn on, and why others were passed over.

    The window and the cursor are in the old axis' unit, so they are given up.
    """
    now = axis_for(view.axis, curves)
    told: list[str] = []
    at = AXES.index(now)
    for axis in (*AXES[at + 1 :], *AXES[:at]):
        why = why_not(curves[0], axis) if curves else ""
        if not why:
            return replace(view, axis=axis, window=None, cursor=None), tuple(told)
        told.append(f"no {AXIS_WORDS[axis]}: {why}")
    return replace(view, axis=now), tuple(told)


def move_cursor(view: ChartView, span: Span, columns: int, steps: int) -> ChartView:
    """By ``steps`` of a chart's ``columns``; it begins at the right end, and takes the window with it."""
    low, high = forward_span(view, span)
    a, b = forward_span(view, visible(view, span))
    if not high >= low:
        return replace(view, cursor=None)
    at = b if view.cursor is None else min(max(forward(view, view.cursor), low), high)
    at = min(max(at + steps * (b - a) / max(1, columns - 1), low), high)
    moved = replace(view, cursor=min(max(back(view, at), span[0]), span[1]))
    if view.window is not None and not a <= at <= b:
        start = at if at < a else at - (b - a)
        moved = _with_window(moved, span, start, start + (b - a))
    return moved


def visible(view: ChartView, span: Span) -> Span:
    """What of ``span`` is in sight; all of it where the window shows none of it (another run is shown now)."""
    if view.window is None:
        return span
    low, high = max(view.window[0], span[0]), min(view.window[1], span[1])
    return (low, high) if high > low else span


def _with_window(view: ChartView, span: Span, a: float, b: float) -> ChartView:
    low, high = max(span[0], back(view, a)), min(span[1], back(view, b))
    return replace(view, window=(low, high) if high > low else None)


def forward(view: ChartView, x: float) -> float:
    """x as its place on the axis."""
    if not view.log_x:
        return x
    return math.log10(x) if x > 0 else -math.inf


def back(view: ChartView, place: float) -> float:
    return 10.0**place if view.log_x else place


def forward_span(view: ChartView, span: Span) -> Span:
    if not view.log_x:
        return span
    high = span[1] if span[1] > 0 else 1.0
    return math.log10(span[0] if span[0] > 0 else high * 1e-6), math.log10(high)


# --- runs laid over it --------------------------------------------------------------------------------

MOST_MARKS = 6


@dataclass(frozen=True, slots=True)
class Mark:
    """An experiment whose curve is laid over the chart. ``slot`` 0 to MOST_MARKS - 1 is its colour and letter,
    kept while it is marked; a ``pinned`` one stays when the others are cleared."""

    number: int
    slot: int
    pinned: bool = False


def toggle_mark(marks: tuple[Mark, ...], number: int, *, pin: bool = False) -> tuple[tuple[Mark, ...], str]:
    """Lay the experiment over the chart, or take it away; with ``pin`` pin it, or unpin and take it away.

    Returns the marks, those pinned first, and what to say. The oldest that is not pinned gives way to a seventh.
    """
    old = next((mark for mark in marks if mark.number == number), None)
    rest = tuple(mark for mark in marks if mark.number != number)
    if old is not None and (old.pinned or not pin):
        return rest, f"#{number} taken off the chart"
    gone = ""
    if old is None and len(rest) >= MOST_MARKS:
        victim = next((mark for mark in rest if not mark.pinned), None)
        if victim is None:
            return marks, f"{MOST_MARKS} runs are pinned: p on one of them makes room"
        rest = tuple(mark for mark in rest if mark is not victim)
        gone = f" instead of #{victim.number}"
    taken = {mark.slot for mark in rest}
    slot = old.slot if old is not None else next(i for i in range(MOST_MARKS) if i not in taken)
    found = (*rest, Mark(number, slot, pin))
    told = f"#{number} {'pinned to' if pin else 'laid over'} the chart{gone}"
    return tuple(sorted(found, key=lambda mark: not mark.pinned)), told


def clear_marks(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """Only those that are pinned."""
    return tuple(mark for mark in marks if mark.pinned)
