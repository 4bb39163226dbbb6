"""One line to type a filter into; what is typed takes effect at once."""

from __future__ import annotations

from typing import Any

from textual.events import Key
from textual.message import Message
from textual.widgets import Input

from console.layout import Rect


class TypingLine(Input):
    """Stands where the screen puts it, hidden until ``begin``. Enter keeps what was typed, esc too: the screen's
    next esc takes it back."""

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
        self._place: Rect | None = None

    @property
    def open(self) -> bool:
        return bool(self.display)

    def stand(self, place: Rect) -> None:
        if place != self._place:  # setting a style anew lays the whole screen out, and sends it
            self._place = place
            self.styles.offset = (place.x, place.y)
            self.styles.width = place.width

    class Left(Message):
        """It is hidden again."""

    def begin(self, text: str) -> None:
        self._text = text
        self.value = text
        self.display = True
        self.screen.set_focus(self)  # at once: ``focus`` would come after the letters that follow in one burst

    async def _on_key(self, event: Key) -> None:
        """In order, whatever comes in one burst: Textual would carry out enter and backspace after the letters
        that follow them. What comes after enter is the screen's again."""
        if self.open and self.take(event):
            event.stop()
        event.prevent_default()

    def take(self, event: Key) -> bool:
        """Whether it was a key for this line."""
        if event.key == "enter":
            self.leave()
        elif event.key == "backspace":
            self.action_delete_left()
        elif event.is_printable and event.character is not None:
            self.insert_text_at_cursor(event.character)
        else:
            return False
        return True

    def leave(self) -> None:
        self.display = False
        self.screen.set_focus(None)
        self.post_message(self.Left())

    def on_input_changed(self, event: Any) -> None:
        event.stop()
        if event.value != self._text:
            self._text = event.value
            self.post_message(self.Typed(event.value))

    def on_input_submitted(self, event: Any) -> None:
        event.stop()
        self.leave()
