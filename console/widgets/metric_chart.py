"""Pane 4: the running trial's curve against the incumbent's and those of marked experiments.

The chart itself is built in a thread (``chart``, ``chart_builder``). Here stands what is cheap: the legend, which
reads every curve at the cursor, and the cursor's line.
"""

from __future__ import annotations

from collections.abc import Sequence

from console.charting import ChartView
from console.formats import number, width_of
from console.plain_text import clean
from console.state import State, View
from console.tracing import read
from console.widgets.chart import Chart, Layer, Wish, cursor_place, place_words, window_width
from console.widgets.lines import Line, Scene, Span
from console.widgets.plotting import with_rule

LETTERS = "abcdef"


def layers(state: State, view: View) -> tuple[Layer, ...]:
    """This run, the incumbent, then the marked ones, those pinned first."""
    found: list[Layer] = []
    if state.live is not None:
        found.append(Layer(state.live, "this run", "●", "live"))
    if state.reference is not None:
        found.append(Layer(state.reference, "incumbent", "○", "reference"))
    taken = {one.curve.trial for one in found}
    curves = {curve.number: curve for curve in state.marked}
    for mark in view.marks:
        curve = curves.get(mark.number)
        if curve is not None and curve.trial not in taken:
            pinned = "*" if mark.pinned else ""
            found.append(Layer(curve, f"#{mark.number}{pinned}", LETTERS[mark.slot], f"mark_{mark.slot}"))
    return tuple(found)


def wish(state: State, view: View, pane_width: int, pane_height: int) -> Wish:
    """What the builder is asked for; the cursor is drawn here, without it."""
    chosen = layers(state, view)
    return Wish(chosen, view.chart, *size_of(pane_width, pane_height, len(chosen) + len(state.unmarked)))


def size_of(pane_width: int, pane_height: int, curves: int = 2) -> tuple[int, int]:
    """Columns and rows of the chart itself inside its pane."""
    return pane_width - 3, pane_height - 1 - legend_rows(curves, pane_height)


def legend_rows(curves: int, pane_height: int) -> int:
    """More curves need a second line, where the chart can spare it."""
    return 2 if curves > 2 and pane_height >= 10 else 1


def inputs(scene: Scene) -> tuple[object, ...]:
    state, view = scene.state, scene.view
    return (scene.chart, state.live, state.reference, state.marked, state.unmarked, view.chart, view.marks,
            bool(state.running), scene.number)  # fmt: skip


def title(scene: Scene) -> tuple[Span, ...]:
    live = scene.state.live
    first = live or next(iter(scene.state.marked), None)
    if first is None:
        return ()
    spans: list[Span] = [(f"{clean(first.label)} · ", "faint"), (clean(first.series)[:40], "dim")]
    if told := settings(scene.view.chart):
        spans.append((f" · {told}", "accent"))
    return tuple(spans)


def settings(view: ChartView) -> str:
    """What is not as usual, in words."""
    log = "".join(axis for axis, on in (("x", view.log_x), ("y", view.log_y)) if on)
    parts = [f"log {log}"] if log else []
    parts += [f"smooth {view.smoothing:g}"] if view.smoothing else []
    parts += ["zoomed"] if view.window is not None else []
    return ", ".join(parts)


def body(scene: Scene, width: int, height: int) -> list[Line]:
    state, view = scene.state, scene.view
    shown = layers(state, view)
    if not shown:
        if view.marks and state.unmarked:
            told = "; ".join(f"#{n}: {why}" for n, why in state.unmarked)
        elif state.running:
            told = "no curve yet: the trial has printed no numbers that make one"
        else:
            told = "no trial is running; select an experiment that ran to see its curve"
        return [Line(((clean(told), "faint"),))]
    chart = scene.chart
    if chart is None or isinstance(chart, str):
        return [Line((_named(shown[0]), (f"  {clean(chart or '')}", "faint")))]
    rows = legend_rows(len(shown) + len(state.unmarked), height + 1)
    lines = wrapped(legend(chart, view.chart.cursor, state.unmarked), width, rows)
    plot = chart.plot
    if view.chart.cursor is not None:
        plot = with_rule(plot, cursor_place(chart, view.chart.cursor), "│", "accent")
    return [*lines, *plot.lines][:height]


def legend(chart: Chart, cursor: float | None, unmarked: Sequence[tuple[int, str]] = ()) -> list[list[Span]]:
    """Each curve by its sign and name in its colour, with its value: at the cursor, else where it ends.

    This run comes with the sentence that matters: how it stands beside the incumbent at equal budget.
    """
    shown = [layer for layer, _ in chart.shown]
    values = [value for _, value in read([(layer.name, one) for layer, one in chart.shown], cursor)]
    rest = list(zip(shown, values, strict=True))
    parts: list[list[Span]] = []
    if cursor is not None:
        parts.append([(f"at {place_words(chart.axis, cursor, window_width(chart))}:", "accent")])
    if shown and shown[0].style == "live":
        mine, other = rest.pop(0), next((one for one in rest if one[0].style == "reference"), None)
        parts.append(_sentence(chart, mine, other, cursor))
        rest = [one for one in rest if one is not other]
    for i, (layer, value) in enumerate(rest):
        head: list[Span] = [("last: ", "faint")] if cursor is None and i == 0 else []
        parts.append([*head, _named(layer), (f" {number(value)}", "")])
    told = [*chart.notes, *(f"#{n}: {why}" for n, why in unmarked)]
    return parts + [[(clean(note), "faint")] for note in told]


def _sentence(
    chart: Chart, mine: tuple[Layer, float | None], other: tuple[Layer, float | None] | None, cursor: float | None
) -> list[Span]:
    """``● this run 3.1605 at step 128, 0.0395 below ○ incumbent (last 2.9811)``."""
    layer, value = mine
    if cursor is None:
        value = chart.now
    found: list[Span] = [_named(layer), (f" {number(value)}", "")]
    if cursor is None:
        found.append((f" at {place_words(chart.axis, chart.shown[0][1].xs[-1])}", "dim"))
    if other is None:
        return found
    gap = chart.gap
    if cursor is not None:
        gap = value - other[1] if value is not None and other[1] is not None else None
    told = "no longer beside" if gap is None else f"{number(abs(gap), 2)} {'below' if gap < 0 else 'above'}"
    theirs: Span = (f" {number(other[1])}", "") if cursor is not None else (f" (last {number(other[1])})", "dim")
    return [*found, (f", {told} ", ""), _named(other[0]), theirs]


def _named(layer: Layer) -> Span:
    return f"{layer.sign} {layer.name}", layer.style


def wrapped(parts: Sequence[Sequence[Span]], width: int, rows: int) -> list[Line]:
    """``parts`` two columns apart on at most ``rows`` lines; what has no room is only counted."""
    lines: list[list[Span]] = [[]]
    used = 0
    for i, part in enumerate(parts):
        if sum(width_of(text) for text, _ in part) > width:  # where it stands matters less than how
            part = [span for span in part if span[1] != "dim"]
        length = sum(width_of(text) for text, _ in part)
        last = len(lines) == rows
        room = width - (5 if last and i + 1 < len(parts) else 0)  # for the count of what is left out
        gap = 2 if used else 0
        if used and used + gap + length > room:
            if last:
                lines[-1].append((f"  +{len(parts) - i}", "faint"))
                break
            lines.append([])
            used = gap = 0
        lines[-1] += [(" " * gap, ""), *part]
        used += gap + length
    return [Line(tuple(span for span in spans if span[0])) for spans in lines]
