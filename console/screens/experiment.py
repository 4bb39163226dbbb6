"""One experiment whole: why, the verdict in words, every trial with its curve, the diff, the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from textual.binding import BindingType

from console.formats import fit
from console.layout import Pane, Rect
from console.page_reader import Loader
from console.page_sources import ExperimentPage, ExperimentWish, Whole
from console.plain_text import clean
from console.screen_keys import EXPERIMENT
from console.screens import places
from console.screens.panes import PanesScreen
from console.screens.places import CHART, DIFF, STORY, TALK, TRIALS, Panes
from console.screens.reading import bindings
from console.state import AWAITING, State
from console.widgets import curves, diff_view, page_parts, story
from console.widgets.chart import Layer
from console.widgets.lines import Line, Span


class ExperimentScreen(PanesScreen):
    KEYS = EXPERIMENT
    BINDINGS: ClassVar[list[BindingType]] = bindings(EXPERIMENT)
    ORDER = ((STORY, "Why and verdict"), (TRIALS, "Trials"), (DIFF, "Diff"), (CHART, "Curve"), (TALK, "Talk"))

    def __init__(self, live: Any, number: int) -> None:
        super().__init__(live)
        self.number = number
        self.trial: int | None = None
        self._wrapped: tuple[tuple[object, int], list[Line]] | None = None

    def number_in_sight(self) -> int:
        return self.number

    # --- what is read ---

    def loader(self) -> Loader[Any, Any]:
        return ExperimentPage()

    def wanted(self) -> ExperimentWish:
        return ExperimentWish(self.number, self.trial, TALK in self.plan.panes)

    def taken(self) -> None:
        whole: Whole = self.data
        self.state = State(detail=whole.detail)
        layers = []
        if whole.curve is not None:
            layers.append(Layer(whole.curve, clean(whole.curve.label), "●", "live"))
        if whole.base is not None:
            layers.append(Layer(whole.base, clean(whole.base.label), "○", "reference"))
        self.drawn = tuple(layers)

    def turn_to(self, number: int) -> None:
        self.number, self.trial, self.data = number, None, None
        self.state, self.drawn, self.chart = State(), (), None
        self.view = replace(self.view, offsets={}, diff=replace(self.view.diff, top=0))
        self.paint()

    # --- what is shown ---

    def head(self) -> tuple[Sequence[Span], Sequence[Span]]:
        whole: Whole | None = self.data
        left: list[Span] = [(f"#{self.number} ", "bold")]
        if whole is None or whole.detail is None:
            return left, ()
        row = whole.detail.row
        right = story.verdict_spans(row)
        room = self.page.body.width - 32 - sum(len(text) for text, _ in right)
        if room >= 12:
            left.append((fit(clean(row.title), room).rstrip(), ""))
        return left, right

    def arranged(self, body: Rect) -> Panes:
        return places.experiment(body, self.view.focus)

    def missing(self, width: int) -> list[Line] | None:
        whole: Whole | None = self.data
        if whole is not None and whole.detail is None:
            there = f"the newest is #{whole.newest}" if whole.newest else "none was proposed yet"
            return page_parts.told([(f"There is no experiment {self.number}: {there}.", "warn")], width)
        return super().missing(width)

    def body_of(self, pane: Pane, width: int, height: int) -> Sequence[Line]:
        whole: Whole = self.data
        assert whole.detail is not None
        if pane is TRIALS:
            focused = self.view.focus is TRIALS
            return story.trial_rows(whole.detail.trials, whole.chosen, focused, width, height)
        if pane is DIFF:
            return self.diff_lines(width, height)
        if pane is CHART:
            return self.curve_lines(width, height)
        return self.scrolled(pane, self._text(pane, width), height)

    def looks_of(self, pane: Pane) -> tuple[object, ...]:
        if pane is DIFF:
            return self.diff_looks()
        if pane is CHART:
            return (self.drawn, self.chart, self.view.chart, self.why_no_curve())
        return (self.data,)

    def title_of(self, pane: Pane) -> tuple[Span, ...]:
        whole: Whole | None = self.data
        if whole is None or whole.detail is None:
            return ()
        if pane is DIFF:
            return diff_view.title(self.scene())
        if pane is CHART:
            return curves.title(self.drawn, self.view.chart)
        if pane is TRIALS and (open_ := [t for t in whole.detail.trials if t.state != "done"]):
            return ((f"{len(open_)} to come", "dim"),)
        return ()

    def length_of(self, pane: Pane, width: int) -> int:
        return len(self._text(pane, width)) if self.data is not None and self.data.detail is not None else 0

    def _text(self, pane: Pane, width: int) -> Sequence[Line]:
        if pane is STORY:
            return story.lines(self.data, width)
        talk = self.data.talk
        if not talk:
            why = "reading ..." if talk is None else self._no_talk()
            return page_parts.told([(why, "faint")], width)
        if self._wrapped is None or self._wrapped[0] != (id(talk), width):
            self._wrapped = ((id(talk), width), story.talk_lines(talk, width))
        return self._wrapped[1]

    def _no_talk(self) -> str:
        author = self.data.detail.row.author
        if author == "claude":
            return "no message yet, or the conversation was pruned"
        return f"a draft by {clean(author)} holds no conversation: only Claude's do"

    def why_no_curve(self) -> str:
        return self.data.why_no_curve if self.data is not None else ""

    # --- keys ---

    def why_off(self, key: str) -> str:
        if key == "older" and self.number <= 1:
            return "this is the first experiment"
        if key == "newer" and self.data is not None and self.number >= self.data.newest:
            return "this is the newest experiment"
        return ""

    def word_of(self, key: str, word: str) -> str:
        return "" if key == "open" and self.view.focus is not TRIALS else word

    def move_in(self, pane: Pane, lines: int) -> None:
        if pane is not TRIALS:
            super().move_in(pane, lines)
            return
        whole: Whole | None = self.data
        if whole is None or whole.detail is None or not whole.detail.trials:
            return
        trials = whole.detail.trials
        wanted = self.trial if self.trial is not None else whole.chosen.id if whole.chosen else trials[0].id
        at = next((i for i, one in enumerate(trials) if one.id == wanted), 0)
        self.trial = trials[min(max(0, at + lines), len(trials) - 1)].id
        self.paint()

    def do_open(self) -> None:
        if self.view.focus is TRIALS:
            self.focus_pane(CHART)
        elif self.view.focus is STORY:
            self.focus_pane(TRIALS)

    def do_leave(self) -> None:
        """One that waits for a decision is taken along."""
        detail = self.state.detail
        if detail is not None and detail.row.state in AWAITING:
            self.live.look(cursor=detail.row.number)
        super().do_leave()

    def do_older(self) -> None:
        self.turn_to(self.number - 1)

    def do_newer(self) -> None:
        self.turn_to(self.number + 1)
