"""plotext's axes and numbers as styled lines, with curves, rules and signs put into their cells.

plotext lays the chart out; the curves' dots are set here (``console.braille`` says why). What comes in is already
reduced to the columns and cut to the axes (``console.tracing``).
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from console.axes import Span as Interval
from console.braille import Canvas
from console.formats import width_of
from console.ticks import Ticks
from console.tracing import XY
from console.widgets.lines import Line, Span

_FAINT = (1, 2, 3)  # plotext passes it through: a style's name in disguise
_NAMES = {"1;2;3": "faint"}
_SGR = re.compile(r"\x1b\[([0-9;]*)m")
EMPTY = " \u2800"
_PLOTEXT = threading.Lock()  # it keeps its figure in module globals


@dataclass(frozen=True, slots=True)
class Curveline:
    """Connected runs of (x, y) within the axes, in the colour ``style``."""

    runs: Sequence[Sequence[XY]]
    style: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The drawn lines; the canvas is ``columns`` x ``rows`` cells from column ``left`` of the first line on.

    ``x`` and ``y`` are the axes' ends, in places (log10 of the value on a logarithmic axis).
    """

    lines: tuple[Line, ...]
    left: int
    columns: int
    rows: int
    x: Interval
    y: Interval

    def column(self, place: float) -> int | None:
        """The column of the lines that shows ``place`` on x; None outside."""
        cell = _cell(place, self.x, self.columns)
        return None if cell is None else self.left + cell

    def row(self, place: float) -> int | None:
        """The line that shows ``place`` on y; None outside."""
        cell = _cell(place, self.y, self.rows, 4)
        return None if cell is None else self.rows - 1 - cell


def _cell(place: float, ends: Interval, cells: int, dots: int = 2) -> int | None:
    """As ``braille`` rounds: to the dots of a character, then to its cell."""
    share = (place - ends[0]) / (ends[1] - ends[0])
    if not 0 <= share <= 1:
        return None
    return math.floor(round(0.5 + (cells * dots - 1) * share, 8)) // dots


def canvas(width: int, height: int, y_ticks: Ticks) -> tuple[int, int]:
    """(columns, rows) that are left of ``width`` x ``height`` for the curves."""
    return width - 1 - max((len(label) for _, label in y_ticks), default=0), height - 2


def draw(
    curves: Iterable[Curveline], x: Interval, y: Interval, x_ticks: Ticks, y_ticks: Ticks, width: int, height: int
) -> Plot:
    """A chart of ``height`` lines of ``width`` cells. Takes some milliseconds: call it off the message path."""
    with _PLOTEXT:
        text = _axes(x, y, x_ticks, y_ticks, width, height)
    lines = tuple(parse(one) for one in text.split("\n")[:height])
    columns, rows = canvas(width, height, y_ticks or [(0.0, " ")])
    plot = Plot(lines, width - columns, columns, rows, x, y)
    cells: dict[tuple[int, int], Span] = {}
    for curve in curves:  # a later one hides what is under it
        dots = Canvas(columns, rows, x, y)
        for run in curve.runs:
            dots.line(run)
        cells.update({(column, row): (text, curve.style) for column, row, text in dots.cells()})
    return with_cells(plot, cells)


def _axes(x: Interval, y: Interval, x_ticks: Ticks, y_ticks: Ticks, width: int, height: int) -> str:
    import plotext as plt

    plt.clear_figure()
    plt.limitsize(False, False)
    plt.plotsize(width, height)
    for set_colour in (plt.canvas_color, plt.axes_color):
        set_colour("default")
    plt.ticks_color(_FAINT)
    plt.xaxes(True, False)
    plt.yaxes(True, False)
    # In shares of the axes: plotext's own arithmetic fails far from 1.
    x0, y0, wide, high = x[0], y[0], x[1] - x[0], y[1] - y[0]
    plt.xlim(0, 1)
    plt.ylim(0, 1)
    plt.xticks([(p - x0) / wide for p, _ in x_ticks] or [0], [label for _, label in x_ticks] or [" "])
    plt.yticks([(p - y0) / high for p, _ in y_ticks] or [0], [label for _, label in y_ticks] or [" "])
    plt.plot([0], [2], marker=" ")  # outside: plotext draws no axes without data
    text = str(plt.build())
    return text


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


# --- what is put over it ------------------------------------------------------------------------------


def put(line: Line, column: int, text: str, style: str, *, blank_only: bool = False) -> Line:
    """``line`` with the cells from ``column`` on replaced by ``text``; all cells are one column wide."""
    spans: list[Span] = []
    at, end = 0, column + len(text)
    if blank_only:
        under = "".join(t for t, _ in line.spans)[column:end]
        if under.strip(EMPTY):
            return line
    done = False
    for content, name in line.spans:
        begin, at = at, at + len(content)
        if at <= column or begin >= end:
            spans.append((content, name))
            continue
        if begin < column:
            spans.append((content[: column - begin], name))
        if not done:
            spans.append((text, style))
            done = True
        if at > end:
            spans.append((content[end - begin :], name))
    if not done and column >= at:
        spans += [(" " * (column - at), ""), (text, style)]
    return line._replace(spans=tuple(s for s in spans if s[0]))


def with_rule(plot: Plot, place: float, sign: str, style: str, name: str = "") -> Plot:
    """A vertical line at ``place`` on x; it passes behind what is drawn. Cheap: nothing is built again.

    ``name`` stands to the left of its top, where there is room.
    """
    column = plot.column(place)
    if column is None:
        return plot
    ruled = [put(one, column, sign, style, blank_only=True) for one in plot.lines[: plot.rows]]
    if name and column - len(name) > plot.left:
        ruled[0] = put(ruled[0], column - len(name), name, "faint", blank_only=True)
    return replace(plot, lines=(*ruled, *plot.lines[plot.rows :]))


def with_sign(plot: Plot, place: XY, sign: str, style: str) -> Plot:
    """``sign`` in the cell that shows ``place``."""
    column, row = plot.column(place[0]), plot.row(place[1])
    if column is None or row is None:
        return plot
    lines = list(plot.lines)
    lines[row] = put(lines[row], column, sign, style)
    return replace(plot, lines=tuple(lines))


def with_cells(plot: Plot, cells: Mapping[tuple[int, int], Span]) -> Plot:
    """Characters, each with its style, at (column, row from the top) of the canvas, behind what is drawn."""
    rows: dict[int, dict[int, Span]] = {}
    for (column, row), cell in cells.items():
        rows.setdefault(row, {})[column + plot.left] = cell
    lines = list(plot.lines)
    for row, found in rows.items():
        if 0 <= row < plot.rows:
            lines[row] = _behind(lines[row], found)
    return replace(plot, lines=tuple(lines))


def _behind(line: Line, found: Mapping[int, Span]) -> Line:
    """One pass over the line's cells: thousands of single ``put`` would each copy it."""
    spans: list[Span] = []
    at = 0
    for text, name in line.spans:
        for character in text:
            here = found.get(at) if character in EMPTY else None
            here = here or (character, name)
            if spans and spans[-1][1] == here[1]:
                spans[-1] = (spans[-1][0] + here[0], here[1])
            else:
                spans.append(here)
            at += 1
    return line._replace(spans=tuple(spans))


def with_unit(plot: Plot, unit: str) -> Plot:
    """The x axis' unit at the right end of its numbers, where there is room."""
    if len(plot.lines) <= plot.rows + 1:
        return plot
    last = plot.lines[plot.rows + 1]
    text = "".join(t for t, _ in last.spans).rstrip()
    column = plot.left + plot.columns - width_of(unit)
    if column < len(text) + 2:
        return plot
    lines = list(plot.lines)
    lines[plot.rows + 1] = put(Line(_cut(last, column)), column, unit, "dim")
    return replace(plot, lines=tuple(lines))


def _cut(line: Line, width: int) -> tuple[Span, ...]:
    spans, room = [], width
    for text, name in line.spans:
        spans.append((text[:room], name))
        room -= len(spans[-1][0])
    return tuple(s for s in spans if s[0])
