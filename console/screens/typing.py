"""Text that a person types over the live screen: a message, a number. Leaving always means no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from console.plain_text import clean, clean_lines
from console.state import VISIBLE_SECONDS


class OneLine(Input):
    """Pasted lines are joined: Textual's own keeps the first and says nothing about the rest."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.cursor_blink = False  # a blinking cursor is 600 bytes a second over SSH

    def _on_paste(self, event: events.Paste) -> None:
        joined = " ".join(part.strip() for part in clean_lines(event.text.replace("\r", "\n")) if part.strip())
        if joined:
            self.replace(joined, *self.selection)
        event.stop()
        event.prevent_default()


class TypingScreen(ModalScreen[str | None]):
    """Asks for one line of text; None: nothing is to be done."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave it")]

    def __init__(
        self, question: str, consequence: str, answers: str, *, hint: str = "", most: int = 500, initial: str = ""
    ) -> None:
        super().__init__()
        self._question, self._consequence, self._answers = question, consequence, answers
        self._hint, self._most, self._initial = hint, most, initial

    def compose(self) -> ComposeResult:
        with Vertical(id="question"):
            yield Static(Content.styled(clean(self._question), "bold"))
            yield Static(Content("\n".join(clean_lines(self._consequence))))
            yield OneLine(placeholder=self._hint, max_length=self._most, value=self._initial)
            yield Static(Content(self._answers), id="answers")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Any) -> None:
        self.take(clean(event.value))

    def take(self, text: str) -> None:
        self.dismiss(text)

    def explain(self, why: str) -> None:
        """Why enter did nothing."""
        self.query_one("#answers", Static).update(Content(f"{why}; esc leaves it"))

    def action_leave(self) -> None:
        self.dismiss(None)


class MessageScreen(TypingScreen):
    def __init__(self, waiting: int) -> None:
        told = f"{waiting} more {'waits' if waiting == 1 else 'wait'} for it already." if waiting else ""
        super().__init__(
            "Message to the proposer",
            f"The next brief carries it; it stays in sight until a proposal was written with it. {told}".strip(),
            "enter send    esc leave it",
            hint="leave the optimizer alone, look at the data order",
            most=4000,
        )

    def take(self, text: str) -> None:
        if text:
            self.dismiss(text)
        else:
            self.explain("there is no text yet")


class CountScreen(TypingScreen):
    """A number from ``least`` to ``most``. Enter counts once the question has been visible for a moment."""

    def __init__(
        self, question: str, consequence: str, least: int, most: int, initial: str, now: Callable[[], float]
    ) -> None:
        super().__init__(
            question,
            consequence,
            "enter go on    esc leave it",
            hint=f"{least} to {most}",
            most=6,
            initial=initial,
        )
        self._least, self._largest, self._now = least, most, now
        self._since = float("inf")

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self._seen)

    def _seen(self) -> None:
        self._since = min(self._since, self._now())

    def take(self, text: str) -> None:
        if self._now() - self._since < VISIBLE_SECONDS:
            return
        if text.isascii() and text.isdigit() and self._least <= int(text) <= self._largest:
            self.dismiss(text)
        else:
            self.explain(f"a whole number from {self._least} to {self._largest}")
