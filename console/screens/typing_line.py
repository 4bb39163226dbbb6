"""One line to type a filter into; what is typed takes effect at once."""

from __future__ import annotations

from typing import Any

from textual.message import Message
from textual.widgets import Input

from console.layout import Rect


class TypingLine(Input):
    """Stands where the screen puts it, hidden until ``begin``. Enter keeps what was typed, esc too: the screen's
    next esc takes it back."""

    DEFAULT_CSS = """
    TypingLine, TypingLine:focus {
        position: absolute; height: 1; border: none; padding: 0 1; background: #1f2d3d; color: #f0f6fc;
    }
    """

    class Typed(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, hint: str) -> None:
        super().__init__(placeholder=hint, compact=True, max_length=200, select_on_focus=False, id="typing")
        self.cursor_blink = False  # a blinking cursor is 600 bytes a second over SSH
        self.display = False
        self.can_focus = True
        self._text = ""

    @property
    def open(self) -> bool:
        return bool(self.display)

    def stand(self, place: Rect) -> None:
        self.styles.offset = (place.x, place.y)
        self.styles.width = place.width

    def begin(self, text: str) -> None:
        self._text = text
        self.value = text
        self.display = True
        self.focus()

    def leave(self) -> None:
        self.display = False
        self.screen.set_focus(None)

    def on_input_changed(self, event: Any) -> None:
        event.stop()
        if self.open and event.value != self._text:
            self._text = event.value
            self.post_message(self.Typed(event.value))

    def on_input_submitted(self, event: Any) -> None:
        event.stop()
        self.leave()
