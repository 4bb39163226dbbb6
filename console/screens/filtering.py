"""A further screen with a filter: a line to type it into, and esc that takes it back."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.events import Key

from console.layout import Rect
from console.screens.reading import ReadingScreen
from console.screens.typing_line import TypingLine
from console.widgets.page_parts import Hint


class FilterScreen(ReadingScreen):
    """``HINT`` stands in the empty line."""

    HINT: ClassVar[str]

    def __init__(self, live: Any) -> None:
        super().__init__(live)
        self._line = TypingLine(self.HINT)

    def filter_text(self) -> str:
        raise NotImplementedError

    def filter_by(self, text: str) -> None:
        """Look at the rows through ``text``, '' shows them all."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield self._line

    def place_line(self, body: Rect) -> None:
        self._line.stand(self.page.strip or self.page.footer or body)

    def hints(self) -> list[Hint]:
        return [("enter", "keep it", "")] if self._line.open else super().hints()

    def do_filter(self) -> None:
        self._line.begin(self.filter_text())
        self.paint()

    def do_back(self) -> None:
        """Out of the typing, then out of the filter, then out of the screen."""
        if self._line.open:
            self._line.leave()
        elif self.filter_text():
            self.filter_by("")
        else:
            super().do_back()

    def on_key(self, event: Key) -> None:
        """Letters of one burst with the key that opens the line reach the screen before the line has the focus:
        they are text all the same, never keys of the screen."""
        if not self._line.open:
            if event.key in self.KEYS.by_id("filter").keys:
                self.do_filter()
                event.stop()
                event.prevent_default()
            return
        if self._line.take(event):
            event.stop()
            event.prevent_default()

    def on_typing_line_typed(self, message: TypingLine.Typed) -> None:
        self.filter_by(message.text)

    def on_typing_line_left(self) -> None:
        self.paint()
