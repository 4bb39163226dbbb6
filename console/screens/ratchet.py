"""The ratchet: the staircase of keeps over time or experiments, and the change behind each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from textual.binding import BindingType
from textual.message import Message

from console import staircase
from console.formats import wrap
from console.layout import Pane, Rect
from console.page_reader import Loader
from console.page_sources import Climb, RatchetPage
from console.screen_keys import RATCHET
from console.screens import places
from console.screens.panes import PanesScreen
from console.screens.places import CHART, DIFF, STORY, Panes
from console.screens.reading import bindings
from console.staircase import RatchetView
from console.state import State
from console.widgets import diff_view, page_parts, ratchet_chart, story
from console.widgets.chart_builder import Builder
from console.widgets.lines import Line, Span
from console.widgets.plotting import Plot


class RatchetScreen(PanesScreen):
    KEYS = RATCHET
    BINDINGS: ClassVar[list[BindingType]] = bindings(RATCHET)
    ORDER = ((CHART, "Staircase"), (STORY, "Why"), (DIFF, "The change"))

    class Drawn(Message):
        def __init__(self, plot: Plot | str) -> None:
            super().__init__()
            self.plot = plot

    def __init__(self, live: Any) -> None:
        super().__init__(live)
        self.cursor: int | None = self.live.looks.get("ratchet cursor")
        self.by: str = self.live.looks.get("ratchet by", "experiments")
        self.shown: RatchetView | None = None
        self._of: tuple[RatchetView, str, int | None] | None = None  # what it was made from
        self.plot: Plot | str | None = None
        self._plots: Builder[Plot] = Builder(lambda plot: self.post_message(self.Drawn(plot)))

    # --- what is read and built ---

    def loader(self) -> Loader[Any, Any]:
        return RatchetPage()

    def wanted(self) -> int:
        """The experiment under the cursor; before there is one, the newest step's."""
        view = self._look()
        at = staircase.under_cursor(view) if view is not None else None
        if at is None and view is not None and view.steps:
            return view.steps[-1].number
        return at.number if at is not None else 0

    def taken(self) -> None:
        climb: Climb = self.data
        self.state = State(detail=climb.detail)

    def _look(self) -> RatchetView | None:
        """The staircase with the cursor where the person put it; the very same object while nothing changed."""
        climb: Climb | None = self.data
        if climb is None:
            return None
        of = (climb.view, self.by, self.cursor)
        if self._of is None or self._of[0] is not of[0] or self._of[1:] != of[1:]:
            self._of, self.shown = of, replace(climb.view, by=self.by, cursor=self.cursor)
        return self.shown

    def before_paint(self) -> None:
        super().before_paint()
        view, place = self._look(), self.plan.panes.get(CHART)
        if view is not None and place is not None:
            width, height = ratchet_chart.size_of(place.width - 2, place.height - 1)
            still = replace(view, cursor=None)
            self._plots.want(
                ratchet_chart.key_of(view, width, height),
                lambda: ratchet_chart.build(still, width, height) or "",
            )

    def on_ratchet_screen_drawn(self, message: Drawn) -> None:
        self.plot = message.plot
        self.paint()

    def on_unmount(self) -> None:
        super().on_unmount()
        self._plots.close()

    # --- what is shown ---

    def arranged(self, body: Rect) -> Panes:
        return places.ratchet(body, self.view.focus)

    def head(self) -> tuple[Sequence[Span], Sequence[Span]]:
        climb: Climb | None = self.data
        if climb is None:
            return (), ()
        return [(f"over {self.by}", "accent")], ()

    def body_of(self, pane: Pane, width: int, height: int) -> Sequence[Line]:
        climb: Climb = self.data
        view = self._look()
        assert view is not None
        if pane is CHART:
            if not view.points:
                return self._empty(width)
            plot = self.plot if isinstance(self.plot, Plot) else None
            return ratchet_chart.paint(view, plot, climb.summary, climb.metric, width, height)
        if climb.detail is None:
            return [Line((("← → choose a step; the change behind it stands here", "faint"),))]
        if pane is DIFF:
            return self.diff_lines(width, height)
        return self.scrolled(pane, self._why(climb, width), height)

    def _why(self, climb: Climb, width: int) -> list[Line]:
        assert climb.detail is not None
        row = climb.detail.row
        found = [Line(tuple(story.verdict_spans(row)))]
        for text, style in ((row.title, "bold"), (row.hypothesis, ""), (row.reason, "dim")):
            found += [Line(((part, style),)) for part in wrap(text, max(10, width - 1)) if part]
        return found

    def _empty(self, width: int) -> list[Line]:
        state = self.live.state
        if state.campaign is not None and state.campaign.calibration is None:
            texts = [("The baseline is still being measured.", "bold"), ("Steps come after that.", "")]
        else:
            texts = [("No experiment has settled yet.", "bold"),
                     ("Each keep will be a step of the staircase, every other try a dot.", "")]  # fmt: skip
        return page_parts.told(texts, width)

    def looks_of(self, pane: Pane) -> tuple[object, ...]:
        if pane is DIFF:
            return (*self.diff_looks(), self.data)
        return (self._look(), self.plot, self.data) if pane is CHART else (self.data,)

    def title_of(self, pane: Pane) -> tuple[Span, ...]:
        if pane is DIFF and self.data is not None and self.data.detail is not None:
            return diff_view.title(self.scene())
        return ()

    def length_of(self, pane: Pane, width: int) -> int:
        climb: Climb | None = self.data
        return len(self._why(climb, width)) if climb is not None and climb.detail is not None else 0

    # --- keys ---

    def why_off(self, key: str) -> str:
        view = self._look()
        if key in ("left", "right") and view is not None and not view.steps:
            return "there is no step yet: nothing was kept"
        if key in ("older", "newer", "open") and (view is None or not view.points):
            return "no experiment has settled yet"
        return ""

    def word_of(self, key: str, word: str) -> str:
        return ("over experiments" if self.by == "time" else "over time") if key == "by" else word

    def _step(self, by: int, keeps: bool) -> None:
        if (view := self._look()) is not None:
            self.cursor = self.live.looks["ratchet cursor"] = staircase.move(view, by, keeps=keeps).cursor
            self.view = replace(self.view, offsets={}, diff=replace(self.view.diff, top=0))
            self.paint()

    def do_left(self) -> None:
        self._step(-1, keeps=True)

    def do_right(self) -> None:
        self._step(1, keeps=True)

    def do_older(self) -> None:
        self._step(-1, keeps=False)

    def do_newer(self) -> None:
        self._step(1, keeps=False)

    def do_by(self) -> None:
        self.by = self.live.looks["ratchet by"] = "experiments" if self.by == "time" else "time"
        self.paint()

    def do_reset_chart(self) -> None:
        self.cursor = self.live.looks["ratchet cursor"] = None
        self.paint()

    def do_open(self) -> None:
        if number := self.wanted():
            self.live.open_experiment(number)

    def move_in(self, pane: Pane, lines: int) -> None:
        if pane is CHART:
            self._step(-lines, keeps=False)
        else:
            super().move_in(pane, lines)
