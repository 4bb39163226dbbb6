"""A further screen of several panes: focus, scrolling, and the live screen's keys for a diff and a chart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from textual.message import Message

from console import charting
from console.axes import AXIS_WORDS
from console.highlight import Coloured
from console.layout import Layout, Pane, Rect, Shape
from console.screens.chart_keys import ChartKeys
from console.screens.diff_keys import DiffKeys
from console.screens.places import CHART, DIFF, Panes
from console.screens.reading import Part, ReadingScreen
from console.state import State, View
from console.widgets import curves, diff_view, page_parts
from console.widgets.chart import Chart, Layer
from console.widgets.chart_builder import ChartBuilder
from console.widgets.colour_builder import ColourBuilder
from console.widgets.lines import Line, LinesView, Scene, Span
from console.widgets.page_parts import Hint


class PanesScreen(ReadingScreen, ChartKeys, DiffKeys):
    """``ORDER``: the panes with their headings, in the order of their digits. ``state`` holds the experiment in
    hand and nothing else: the keys of diff and chart need no more."""

    ORDER: ClassVar[tuple[tuple[Pane, str], ...]]

    class ChartReady(Message):
        def __init__(self, chart: Chart | str) -> None:
            super().__init__()
            self.chart = chart

    class ColoursReady(Message):
        def __init__(self, coloured: Coloured) -> None:
            super().__init__()
            self.coloured = coloured

    def __init__(self, live: Any) -> None:
        super().__init__(live)
        self.state = State()
        self.view = View(focus=self.ORDER[0][0])
        self.drawn: tuple[Layer, ...] = ()
        self.chart: Chart | str | None = None
        self.plan = Layout(Shape.TABS, Rect(0, 0, 80, 24))
        self._panes = Panes({})
        self._coloured: Coloured | None = None
        self._charts = ChartBuilder(lambda chart: self.post_message(self.ChartReady(chart)))
        self._colours = ColourBuilder(lambda coloured: self.post_message(self.ColoursReady(coloured)))

    # --- what a screen says of its panes ---

    def arranged(self, body: Rect) -> Panes:
        raise NotImplementedError

    def body_of(self, pane: Pane, width: int, height: int) -> Sequence[Line]:
        """The pane's lines, from its top one in sight on."""
        raise NotImplementedError

    def looks_of(self, pane: Pane) -> tuple[object, ...]:
        """What the pane is painted from."""
        return (self.data,)

    def title_of(self, pane: Pane) -> tuple[Span, ...]:
        return ()

    def length_of(self, pane: Pane, width: int) -> int:
        """How many lines the pane's whole text has; it is scrolled over them."""
        return 0

    def why_no_curve(self) -> str:
        return ""

    # --- parts ---

    def parts(self) -> Iterator[Part]:
        yield "tabs", self._paint_tabs, lambda: (self.view.focus,)
        for digit, (pane, heading) in enumerate(self.ORDER, 1):
            yield pane.value, self._painter(pane, f"{digit} {heading}"), self._looks(pane)

    def _painter(self, pane: Pane, name: str) -> Callable[[int, int], list[Line]]:
        def paint(width: int, height: int) -> list[Line]:
            body = self.missing(width - 2) or self.body_of(pane, width - 2, height - 1)
            return page_parts.framed(name, self.title_of(pane), body, width, height, self.view.focus is pane)

        return paint

    def _looks(self, pane: Pane) -> Callable[[], tuple[object, ...]]:
        return lambda: (
            self.view.focus is pane, self.view.offsets.get(pane, 0), self.trouble, self.data is None,
            self.title_of(pane) if self.data is not None else (), *self.looks_of(pane),
        )  # fmt: skip

    def _paint_tabs(self, width: int, height: int) -> list[Line]:
        names = [f"{digit} {heading}" for digit, (_, heading) in enumerate(self.ORDER, 1)]
        at = [pane for pane, _ in self.ORDER].index(self.view.focus)
        return [page_parts.tabs(names, at, width)]

    def places(self, body: Rect) -> Mapping[str, Rect]:
        self._panes = found = self.arranged(body)
        self.plan = Layout(Shape.TABS, body, found.panes)
        places = {pane.value: place for pane, place in found.panes.items()}
        return places | ({"tabs": found.tabs} if found.tabs is not None else {})

    # --- diff and chart ---

    def scene(self) -> Scene:
        """The experiment in hand as the live screen's painters want it."""
        detail = self.state.detail
        return Scene(
            self.state, self.view, self.now, detail.row.number if detail else None, coloured=self._coloured
        )

    def diff_lines(self, width: int, height: int) -> list[Line]:
        return diff_view.body(self.scene(), width, height)

    def diff_looks(self) -> tuple[object, ...]:
        detail = self.state.detail
        return (detail and detail.diff, self.view.diff, self._coloured)

    def curve_lines(self, width: int, height: int) -> list[Line]:
        return curves.body(self.drawn, self.chart, self.view.chart, self.why_no_curve(), width, height)

    def before_paint(self) -> None:
        place = self.plan.panes.get(CHART)
        if place is not None and self.drawn:
            self._charts.want(curves.wish(self.drawn, self.view.chart, place.width, place.height))
        if DIFF in self.plan.panes and (wanted := diff_view.uncoloured(self.scene())) is not None:
            self._colours.want(*wanted)

    def on_panes_screen_chart_ready(self, message: ChartReady) -> None:
        self.chart = message.chart
        self.paint()

    def on_panes_screen_colours_ready(self, message: ColoursReady) -> None:
        self._coloured = message.coloured
        self.paint()

    def on_unmount(self) -> None:
        super().on_unmount()
        self._charts.close()
        self._colours.close()

    def do_axis(self) -> None:
        if not self.drawn:
            return
        view, told = charting.cycle_axis(self.view.chart, [layer.curve for layer in self.drawn])
        self._show_chart(view)
        if told and CHART in self.plan.panes:
            self.say(f"x: {AXIS_WORDS[view.axis]}; {', '.join(told)}")

    def do_reset_chart(self) -> None:
        self._show_chart(charting.reset(self.view.chart))

    # --- focus and scrolling ---

    def hints(self) -> list[Hint]:
        """The keys of the pane in focus, then the screen's own."""
        ids = []
        if self.view.focus is DIFF and self.state.detail is not None:
            ids += ["next_hunk", "split"]
        if self.view.focus is CHART and self.drawn:
            ids += ["left", "zoom_in", "axis", "log_y", "smoothing", "reset_chart"]
        keys = [key for key in self.KEYS.shared if key.id in ids]
        keys.sort(key=lambda key: ids.index(key.id))
        near = [(key.shown.split()[0], key.footer, "") for key in keys]
        return [*near, *super().hints(), ("tab", "pane", "")]

    def focus_pane(self, pane: Pane) -> None:
        self.view = replace(self.view, focus=pane)
        self.place_parts()

    def _focus_digit(self, digit: int) -> None:
        self.focus_pane(self.ORDER[(digit - 1) % len(self.ORDER)][0])

    def do_next_pane(self) -> None:
        self._step_pane(1)

    def do_previous_pane(self) -> None:
        self._step_pane(-1)

    def _step_pane(self, step: int) -> None:
        self._focus_digit([pane for pane, _ in self.ORDER].index(self.view.focus) + 1 + step)

    def do_pane_1(self) -> None:
        self._focus_digit(1)

    def do_pane_2(self) -> None:
        self._focus_digit(2)

    def do_pane_3(self) -> None:
        self._focus_digit(3)

    def do_pane_4(self) -> None:
        self._focus_digit(4)

    def do_pane_5(self) -> None:
        self._focus_digit(5)

    def page_rows(self) -> int:
        place = self.plan.panes.get(self.view.focus)
        return max(1, place.height - 3) if place else 10

    def move(self, lines: int) -> None:
        self.move_in(self.view.focus, lines)

    def move_in(self, pane: Pane, lines: int) -> None:
        place = self.plan.panes.get(pane)
        if place is None:
            return
        if pane is DIFF and self.state.detail is not None:
            self.move_diff(lines)
        elif pane is CHART:
            self.move_chart_cursor(lines)
        else:
            room = max(0, self.length_of(pane, place.width - 2) - (place.height - 1))
            offset = min(room, max(0, min(room, self.view.offsets.get(pane, 0)) + lines))
            self.view = replace(self.view, offsets={**self.view.offsets, pane: offset})
            self.paint()

    def scrolled(self, pane: Pane, lines: Sequence[Line], height: int) -> Sequence[Line]:
        """``lines`` from where the pane is scrolled to."""
        top = min(self.view.offsets.get(pane, 0), max(0, len(lines) - height))
        return lines[top : top + height]

    def on_lines_view_clicked(self, message: LinesView.Clicked) -> None:
        found = next((pane for pane, _ in self.ORDER if pane.value == message.name), None)
        if found is not None:
            self.focus_pane(found)

    def on_lines_view_scrolled(self, message: LinesView.Scrolled) -> None:
        found = next((pane for pane, _ in self.ORDER if pane.value == message.name), None)
        if found is not None:
            self.move_in(found, message.lines)
