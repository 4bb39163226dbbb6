"""The live screen's keys that look at the chart: each is a pure step from one view to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from console import charting
from console.axes import AXIS_WORDS, Span
from console.charting import ChartView
from console.layout import Layout, Pane
from console.state import State, View, selected
from console.widgets.chart import Chart
from console.widgets.metric_chart import layers

PAN = 0.25  # of the window
ZOOM = 2.0


class ChartKeys:
    """Mixed into LiveScreen; holds no painting."""

    state: State
    view: View
    plan: Layout
    chart: Chart | str | None

    if TYPE_CHECKING:

        def say(self, text: str, style: str = "dim") -> None: ...
        def paint(self) -> None: ...

    def _show_chart(self, view: ChartView) -> None:
        if Pane.CHART not in self.plan.panes:
            self.say("4 shows the chart first")
        elif view != self.view.chart:
            self.view = replace(self.view, chart=view)
            self.paint()

    def _within(self, step: Callable[[ChartView, Span], ChartView]) -> None:
        """A step that needs to know the data's extent: nothing happens before there is a chart."""
        if isinstance(self.chart, Chart):
            self._show_chart(step(self.view.chart, self.chart.span))

    def do_zoom_in(self) -> None:
        self._within(lambda view, span: charting.zoom(view, span, ZOOM))

    def do_zoom_out(self) -> None:
        self._within(lambda view, span: charting.zoom(view, span, 1 / ZOOM))

    def do_pan_left(self) -> None:
        self._within(lambda view, span: charting.pan(view, span, -PAN))

    def do_pan_right(self) -> None:
        self._within(lambda view, span: charting.pan(view, span, PAN))

    def do_log_y(self) -> None:
        self._show_chart(charting.toggle_log(self.view.chart))

    def do_log_x(self) -> None:
        self._show_chart(charting.toggle_log(self.view.chart, "x"))

    def do_smoothing(self) -> None:
        self._show_chart(charting.cycle_smoothing(self.view.chart))

    def do_axis(self) -> None:
        curves = [layer.curve for layer in layers(self.state, self.view)]
        if not curves:
            return
        view, told = charting.cycle_axis(self.view.chart, curves)
        self._show_chart(view)
        if told and Pane.CHART in self.plan.panes:
            self.say(f"x: {AXIS_WORDS[view.axis]}; {', '.join(told)}")

    def do_reset_chart(self) -> None:
        self.view = replace(self.view, marks=charting.clear_marks(self.view.marks))
        self.paint()
        self._show_chart(charting.reset(self.view.chart))

    # --- the cursor: only with the chart in focus, elsewhere the arrows are free ---

    def do_left(self) -> None:
        self.move_chart_cursor(-1)

    def do_right(self) -> None:
        self.move_chart_cursor(1)

    def move_chart_cursor(self, columns: int) -> None:
        chart = self.chart
        if self.view.focus is Pane.CHART and isinstance(chart, Chart):
            width = chart.plot.columns
            self._within(lambda view, span: charting.move_cursor(view, span, width, columns))

    # --- runs laid over it ---

    def do_mark(self) -> None:
        self._mark(pin=False)

    def do_pin(self) -> None:
        self._mark(pin=True)

    def _mark(self, *, pin: bool) -> None:
        number = selected(self.state, self.view)
        if number is None:
            self.say("no experiment is selected")
            return
        marks, told = charting.toggle_mark(self.view.marks, number, pin=pin)
        self.view = replace(self.view, marks=marks)
        self.say(told)
