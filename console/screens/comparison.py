"""Two experiments side by side: numbers, parameters, how their diffs differ, and both curves over each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.binding import BindingType

from console.diff_difference import Part, difference
from console.layout import Pane, Rect
from console.page_reader import Loader
from console.page_sources import ComparisonPage, Two
from console.plain_text import clean
from console.screen_keys import COMPARISON
from console.screens import places
from console.screens.panes import PanesScreen
from console.screens.places import CHART, DIFF, STORY, Panes
from console.screens.reading import bindings
from console.widgets import comparison, curves
from console.widgets.chart import Layer
from console.widgets.diff_view import files_of
from console.widgets.lines import Line, Span


class ComparisonScreen(PanesScreen):
    KEYS = COMPARISON
    BINDINGS: ClassVar[list[BindingType]] = bindings(COMPARISON)
    ORDER = ((STORY, "Numbers"), (DIFF, "How the diffs differ"), (CHART, "Curves"))

    def __init__(self, live: Any, first: int, second: int) -> None:
        super().__init__(live)
        self.numbers = (first, second)
        self._difference: tuple[Part, ...] = ()
        self._of: tuple[object, ...] = ()

    def loader(self) -> Loader[Any, Any]:
        return ComparisonPage()

    def wanted(self) -> tuple[int, int]:
        return self.numbers

    def taken(self) -> None:
        two: Two = self.data
        diffs = tuple(side.detail.diff if side.detail else () for side in (two.first, two.second))
        if self._of != diffs:
            self._of = diffs
            self._difference = difference(files_of(diffs[0]), files_of(diffs[1]))
        self.drawn = tuple(
            Layer(side.curve, f"#{number} {clean(side.curve.label)}", sign, style)
            for side, number, sign, style in zip(
                (two.first, two.second), self.numbers, comparison.SIGNS, comparison.STYLES, strict=True
            )
            if side.curve is not None
        )

    def head(self) -> tuple[Sequence[Span], Sequence[Span]]:
        first, second = self.numbers
        return [(f"#{first}", comparison.STYLES[0]), (" and ", "dim"), (f"#{second}", comparison.STYLES[1])], ()

    def arranged(self, body: Rect) -> Panes:
        return places.comparison(body, self.view.focus)

    def body_of(self, pane: Pane, width: int, height: int) -> Sequence[Line]:
        if pane is CHART:
            return self.curve_lines(width, height)
        return self.scrolled(pane, self._text(pane, width), height)

    def looks_of(self, pane: Pane) -> tuple[object, ...]:
        if pane is CHART:
            return (self.drawn, self.chart, self.view.chart, self.why_no_curve())
        return (self.data,)

    def title_of(self, pane: Pane) -> tuple[Span, ...]:
        if self.data is None:
            return ()
        if pane is DIFF:
            return comparison.difference_title(self._difference, *comparison.names(self.data))
        return curves.title(self.drawn, self.view.chart) if pane is CHART else ()

    def length_of(self, pane: Pane, width: int) -> int:
        return len(self._text(pane, width)) if self.data is not None else 0

    def _text(self, pane: Pane, width: int) -> list[Line]:
        if pane is DIFF:
            return comparison.difference(self._difference, *comparison.names(self.data), width)
        return comparison.numbers(self.data, width)

    def why_no_curve(self) -> str:
        two: Two | None = self.data
        if two is None:
            return ""
        told = [
            f"#{n}: {side.why_no_curve}" for n, side in zip(self.numbers, (two.first, two.second), strict=True)
        ]
        return "; ".join(told)

    def do_open(self) -> None:
        self.live.open_experiment(self.numbers[0])

    def do_open_second(self) -> None:
        self.live.open_experiment(self.numbers[1])
