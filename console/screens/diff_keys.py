"""The live screen's keys that look at the diff: each is a pure step from one view to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from console import diff_moves
from console.diff_moves import DiffView
from console.diff_rows import Index
from console.layout import Layout, Pane
from console.state import State, View, selected
from console.widgets import diff_view
from console.widgets.lines import Scene


class DiffKeys:
    """Mixed into LiveScreen; holds no painting. They count with the diff in focus, elsewhere they say so."""

    state: State
    view: View
    plan: Layout
    _now: float

    if TYPE_CHECKING:

        def say(self, text: str, style: str = "dim") -> None: ...
        def paint(self) -> None: ...

    def _diff(self) -> tuple[Index, int, int] | None:
        """The diff as it stands in its pane, the rows and columns it has there; None where it is not shown."""
        place = self.plan.panes.get(Pane.DIFF)
        if place is None:
            return None
        scene = Scene(self.state, self.view, self._now, selected(self.state, self.view))
        found = diff_view.showing(scene, place.width - 2, place.height - 1)
        return (*found, place.width - 2) if found else None

    def _in_diff(self, step: Callable[[Index, int, int], DiffView]) -> None:
        if self.view.focus is not Pane.DIFF:
            self.say("3 goes to the diff first")
        elif (found := self._diff()) is not None:
            self._show_diff(step(*found))

    def _show_diff(self, view: DiffView) -> None:
        self.view = replace(self.view, diff=view)
        self.paint()

    def move_diff(self, lines: int) -> None:
        if (found := self._diff()) is not None:
            self._show_diff(diff_moves.move(self.view.diff, lines, *found[:2]))

    def do_next_hunk(self) -> None:
        self._in_diff(lambda index, rows, width: diff_moves.next_hunk(self.view.diff, index, 1, rows))

    def do_previous_hunk(self) -> None:
        self._in_diff(lambda index, rows, width: diff_moves.next_hunk(self.view.diff, index, -1, rows))

    def do_split(self) -> None:
        def step(index: Index, rows: int, width: int) -> DiffView:
            return self._relaid(replace(self.view.diff, split=not self.view.diff.is_split(width)), index, width)

        self._in_diff(step)

    def do_less_context(self) -> None:
        self._in_diff(lambda index, rows, width: self._with_context(-1, index, width))

    def do_more_context(self) -> None:
        self._in_diff(lambda index, rows, width: self._with_context(1, index, width))

    def _with_context(self, step: int, index: Index, width: int) -> DiffView:
        wanted = diff_moves.with_context(self.view.diff, step)
        if wanted == self.view.diff:
            self.say("no more context is kept in the history" if step > 0 else "no context is left to hide")
            return wanted
        return self._relaid(wanted, index, width)

    def _relaid(self, wanted: DiffView, index: Index, width: int) -> DiffView:
        """``wanted``, which lays the rows out anew, with what is read where it was."""
        detail = self.state.detail
        assert detail is not None  # there is an index
        return diff_moves.keep_place(wanted, index, diff_view.index_of(detail.diff, wanted, width))
