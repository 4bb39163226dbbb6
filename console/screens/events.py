"""The event log: what happened, in words, newest first; where to look for what went wrong and what mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from textual.binding import BindingType

from console import event_words
from console.event_words import Said
from console.formats import count, one_or_more
from console.history_view import top_row
from console.layout import Rect
from console.page_reader import Loader
from console.page_sources import EventsPage, EventWish, Log
from console.plain_text import clean
from console.screen_keys import EVENTS
from console.screens import places
from console.screens.filtering import FilterScreen
from console.screens.reading import Part, bindings
from console.widgets import event_list, page_parts
from console.widgets.lines import Line, LinesView, Span

AHEAD = 300  # rows that are read beyond the cursor


class EventsScreen(FilterScreen):
    KEYS = EVENTS
    HINT = "words, -words, #41, is:trouble, is:decision, is:news"
    BINDINGS: ClassVar[list[BindingType]] = bindings(EVENTS)

    def __init__(self, live: Any) -> None:
        super().__init__(live)
        self.text = ""
        self.every = False
        self.cursor: int | None = None  # id of an event; None stays on the newest
        self.rows = AHEAD

    # --- what is read ---

    def loader(self) -> Loader[Any, Any]:
        return EventsPage()

    def wanted(self) -> EventWish:
        return EventWish(self.text, self.every, self.rows)

    @property
    def said(self) -> tuple[Said, ...]:
        log: Log | None = self.data
        return log.said if log is not None else ()

    def index(self) -> int:
        """Ids fall from row to row; an event that is not shown any more gives way to the next older one."""
        if self.cursor is None:
            return 0
        low, high = 0, len(self.said)
        while low < high:
            middle = (low + high) // 2
            if self.said[middle].id > self.cursor:
                low = middle + 1
            else:
                high = middle
        return min(low, max(0, len(self.said) - 1))

    def under_cursor(self) -> Said | None:
        return self.said[self.index()] if self.said else None

    # --- what is shown ---

    def places(self, body: Rect) -> Mapping[str, Rect]:
        self.place_line(body)
        return places.history(body)

    def parts(self) -> Iterator[Part]:
        yield "table", self._paint_rows, lambda: (self.data, self.index(), self.trouble)
        yield "foot", self._paint_foot, lambda: (self.under_cursor(),)

    def _paint_rows(self, width: int, height: int) -> Sequence[Line]:
        if (missing := self.missing(width)) is not None:
            return missing
        if not self.said and not self.data.oldest:
            if self.text:
                return page_parts.told(
                    [("No event matches.", "bold"), ("esc shows all of them again, v those of trials too.", "")],
                    width,
                )
            return page_parts.told(
                [("Nothing has happened yet.", "bold"), ("An engine at work writes here what it does.", "")], width
            )
        return event_list.body(self.said, self.index(), bool(self.data.oldest), width, height)

    def _paint_foot(self, width: int, height: int) -> Sequence[Line]:
        return event_list.foot(self.under_cursor(), width, height)

    def head(self) -> tuple[Sequence[Span], Sequence[Span]]:
        log: Log | None = self.data
        if log is None:
            return (), ()
        more = "+" if log.oldest else ""
        left: list[Span] = [(f"{count(len(log.said))}{more} {'event' if len(log.said) == 1 else 'events'}", "dim")]
        trouble = sum(one.level == event_words.TROUBLE for one in log.said)
        if log.problem:
            left.append((f"  {clean(log.problem)}", "bad"))
        elif self.text:
            left += [("  / ", "faint"), (clean(self.text), "accent")]
        elif trouble:
            left += [(" · ", "faint"), (one_or_more(trouble, "trouble"), "warn")]
        return left, [("with trials", "accent")] if self.every else ()

    # --- keys ---

    def why_off(self, key: str) -> str:
        if key == "open":
            one = self.under_cursor()
            if one is None or one.number is None:
                return "this event tells of no experiment"
        if key in ("next_hit", "previous_hit") and not any(map(_trouble, self.said)):
            return "no trouble in what is shown"
        return ""

    def word_of(self, key: str, word: str) -> str:
        return "only what matters" if key == "detail" and self.every else word

    def page_rows(self) -> int:
        return max(1, places.history(self.page.body)["table"].height - 1)

    def move(self, lines: int) -> None:
        self._to(min(max(0, self.index() + lines), max(0, len(self.said) - 1)))

    def _to(self, at: int) -> None:
        if self.said:
            self.cursor = self.said[at].id if at else None
            if at + AHEAD > self.rows:
                self.rows = (at // AHEAD + 2) * AHEAD
        self.paint()

    def do_next_hit(self) -> None:
        here = self.index()
        later = [i for i, one in enumerate(self.said) if _trouble(one)]
        self._to(next((i for i in later if i > here), later[0]))

    def do_previous_hit(self) -> None:
        here = self.index()
        found = [i for i, one in enumerate(self.said) if _trouble(one)]
        self._to(next((i for i in reversed(found) if i < here), found[-1]))

    def do_detail(self) -> None:
        self.every = not self.every
        self.rows = AHEAD
        self.paint()

    def do_open(self) -> None:
        one = self.under_cursor()
        if one is not None and one.number is not None:
            self.live.open_experiment(one.number)

    def filter_text(self) -> str:
        return self.text

    def filter_by(self, text: str) -> None:
        self.text, self.rows, self.cursor = text, AHEAD, None
        self.paint()

    def on_lines_view_clicked(self, message: LinesView.Clicked) -> None:
        if message.name == "table" and self.said:
            rows = places.history(self.page.body)["table"].height
            at = top_row(self.index(), len(self.said), rows) + message.y
            self._to(min(at, len(self.said) - 1))


def _trouble(one: Said) -> bool:
    return one.level == event_words.TROUBLE
