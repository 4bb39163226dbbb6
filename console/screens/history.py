"""The history: every experiment as a row, to filter, sort, mark and compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from textual.binding import BindingType

from console import history_filter, history_view
from console.charting import toggle_mark
from console.history_view import HistoryView, Table
from console.keymap import press
from console.layout import Rect
from console.page_reader import Loader
from console.page_sources import HistoryPage
from console.plain_text import clean
from console.screen_keys import HISTORY
from console.screens import places
from console.screens.filtering import FilterScreen
from console.screens.reading import Part, bindings
from console.widgets import history_table, page_parts
from console.widgets.lines import Line, LinesView, Span


class HistoryScreen(FilterScreen):
    KEYS = HISTORY
    HINT = "words, -words, verdict:keep, author:claude, kind:optimizer, effect>0.01"
    BINDINGS: ClassVar[list[BindingType]] = bindings(HISTORY)

    def __init__(self, live: Any) -> None:
        super().__init__(live)
        self.look: HistoryView = self.live.looks.get("history", HistoryView())
        self.table: Table = history_view.tabulate((), self.look)

    # --- what is read and shown ---

    def loader(self) -> Loader[Any, Any]:
        return HistoryPage()

    def wanted(self) -> str:
        return "history"

    def taken(self) -> None:
        self.table = history_view.tabulate(self.data, self.look)

    def places(self, body: Rect) -> Mapping[str, Rect]:
        self.place_line(body)
        return places.history(body)

    def parts(self) -> Iterator[Part]:
        yield "table", self._paint_table, self._table_inputs
        yield "foot", self._paint_foot, lambda: (self.table, self.look)

    def _paint_table(self, width: int, height: int) -> Sequence[Line]:
        if (missing := self.missing(width)) is not None:
            return missing
        if not self.table.rows:
            return self._empty(width)
        marks = {mark.number: mark for mark in self.live.view.marks}
        return history_table.body(self.table, self.look, marks, self._sigma(), width, height)

    def _table_inputs(self) -> tuple[object, ...]:
        return (self.table, self.look, self.live.view.marks, self.trouble, self._sigma())

    def _sigma(self) -> float | None:
        campaign = self.live.state.campaign
        sigma = (campaign.calibration or {}).get("sigma") if campaign is not None else None
        return sigma if isinstance(sigma, float) else None

    def _empty(self, width: int) -> list[Line]:
        if self.look.filter and self.table.total:
            return page_parts.told(
                [("No experiment matches.", "bold"), ("esc shows all of them again, / changes the filter.", "")],
                width,
            )
        texts = [("No experiments yet.", "bold")]
        if self.live.state.alive is False:
            key = press("start_engine")
            texts.append((f"No engine runs: {key} on the live screen starts it, or `ratchet start`.", ""))
        else:
            texts.append(("The first row comes by itself, as soon as one is proposed.", ""))
        return page_parts.told(texts, width)

    def _paint_foot(self, width: int, height: int) -> Sequence[Line]:
        return history_table.foot(self.table, self.look, width, height)

    def head(self) -> tuple[Sequence[Span], Sequence[Span]]:
        look, table = self.look, self.table
        if self.data is None:
            return (), ()
        left: list[Span] = [(history_filter.told(look.filter, self._found(), table.total), "dim")]
        if look.filter.problem:
            left.append((f"  {clean(look.filter.problem)}", "bad"))
        elif look.filter:
            left += [("  / ", "faint"), (clean(look.filter.text), "accent")]
        right: list[Span] = []
        if self.live.view.marks:
            right.append((f"{len(self.live.view.marks)} marked", "warn"))
        if look.sort != "number" or look.upwards:
            right += [(" · ", "faint")] if right else []
            right.append((f"by {look.sort}{', reversed' if look.upwards else ''}", "accent"))
        return left, right

    def _found(self) -> int:
        return len(self.table.hits) if self.look.filter else self.table.total

    # --- keys ---

    def why_off(self, key: str) -> str:
        if key in ("open", "mark") and not self.table.rows:
            return "there is no experiment to look at"
        if key in ("next_hit", "previous_hit", "only"):
            if not self.look.filter:
                return "/ chooses what to look for first"
            if not self.table.hits:
                return "no experiment matches"
        if key == "compare" and isinstance(found := self._pair(), str):
            return found
        return ""

    def word_of(self, key: str, word: str) -> str:
        if key in ("next_hit", "only") and not self.look.filter:
            return ""
        if key == "only":
            return "show all" if self.look.only else "only matches"
        return word

    def _pair(self) -> tuple[int, int] | str:
        row = history_view.under_cursor(self.table, self.look)
        return history_view.pair(self.live.view.marks, row.number if row else None)

    def see(self, look: HistoryView) -> None:
        """Look at the rows in another way; the table is made anew only where it must be."""
        old, self.look = self.look, look
        self.live.looks["history"] = look
        if (old.filter, old.sort, old.upwards, old.only) != (look.filter, look.sort, look.upwards, look.only):
            self.table = history_view.tabulate(self.data or (), look)
        self.paint()

    def move(self, lines: int) -> None:
        self.see(history_view.move(self.table, self.look, lines))

    def page_rows(self) -> int:
        return max(1, places.history(self.page.body)["table"].height - 2)

    def number_in_sight(self) -> int | None:
        row = history_view.under_cursor(self.table, self.look)
        return row.number if row is not None else None

    def do_open(self) -> None:
        row = history_view.under_cursor(self.table, self.look)
        if row is not None:
            self.live.open_experiment(row.number)

    def do_sort(self) -> None:
        self.see(history_view.next_sort(self.look))

    def do_reverse(self) -> None:
        self.see(replace(self.look, upwards=not self.look.upwards))

    def do_only(self) -> None:
        self.see(replace(self.look, only=not self.look.only))

    def do_next_hit(self) -> None:
        self._to_hit(1)

    def do_previous_hit(self) -> None:
        self._to_hit(-1)

    def _to_hit(self, step: int) -> None:
        if (found := history_view.next_hit(self.table, self.look, step)) is not None:
            self.see(found)

    def do_mark(self) -> None:
        row = history_view.under_cursor(self.table, self.look)
        if row is None:
            return
        marks, told = toggle_mark(self.live.view.marks, row.number)
        if any(mark.number == row.number for mark in marks):
            told = f"#{row.number} marked: its curve is on the live chart too"
        self.live.view = replace(self.live.view, marks=marks)
        self.say(told)

    def do_compare(self) -> None:
        from console.screens.comparison import ComparisonScreen

        found = self._pair()
        if not isinstance(found, str):
            self.live.open_screen(ComparisonScreen(self.live, *found), over=True)

    def filter_text(self) -> str:
        return self.look.filter.text

    def filter_by(self, text: str) -> None:
        self.see(replace(self.look, filter=history_filter.parse(text)))

    def on_lines_view_clicked(self, message: LinesView.Clicked) -> None:
        if message.name == "table" and message.y >= 1 and self.table.rows:
            rows = places.history(self.page.body)["table"].height - 1
            at = history_view.index_of(self.table, self.look.cursor)
            wanted = history_view.top_row(at, len(self.table.rows), rows) + message.y - 1
            self.move(wanted - at)
