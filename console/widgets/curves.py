"""Curves over each other with their legend, on any screen: the live chart's painter with explicit inputs."""

from __future__ import annotations

from collections.abc import Sequence

from console.charting import ChartView
from console.formats import wrap
from console.plain_text import clean
from console.widgets.chart import Chart, Layer, Wish, cursor_place
from console.widgets.lines import Line, Span
from console.widgets.metric_chart import legend, legend_rows, settings, size_of, wrapped
from console.widgets.plotting import with_rule


def wish(layers: Sequence[Layer], view: ChartView, pane_width: int, pane_height: int) -> Wish:
    return Wish(tuple(layers), view, *size_of(pane_width, pane_height, len(layers)))


def title(layers: Sequence[Layer], view: ChartView) -> tuple[Span, ...]:
    if not layers:
        return ()
    spans: list[Span] = [(clean(layers[0].curve.series)[:40], "dim")]
    if told := settings(view):
        spans.append((f" · {told}", "accent"))
    return tuple(spans)


def body(
    layers: Sequence[Layer], chart: Chart | str | None, view: ChartView, why_none: str, width: int, height: int
) -> list[Line]:
    """``why_none`` stands there while there is no curve; a ``chart`` of other curves is not shown."""
    if not layers:
        return [Line(((part, "faint"),)) for part in wrap(why_none, width)][:height]
    if not isinstance(chart, Chart) or not {id(one.curve) for one in chart.wish.layers} <= {
        id(one.curve) for one in layers
    }:
        said = chart if isinstance(chart, str) else "drawing ..."
        return [Line(((clean(said), "faint"),))]
    lines = wrapped(legend(chart, view.cursor), width, legend_rows(len(layers), height + 1))
    plot = chart.plot
    if view.cursor is not None:
        plot = with_rule(plot, cursor_place(chart, view.cursor), "│", "accent")
    return [*lines, *plot.lines][:height]
