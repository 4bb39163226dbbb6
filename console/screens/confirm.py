"""Questions: yes or no, and a reason in words. Nothing here decides by itself: leaving always means no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from console.plain_text import clean
from console.screens.typing import OneLine
from console.state import VISIBLE_SECONDS


class ConfirmScreen(ModalScreen[bool]):
    """Yes only by the letter y, and only once the question has been visible for a moment: a key typed ahead
    of it cannot answer it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "yes"),
        Binding("n,escape,q", "no", "no"),
    ]

    def __init__(self, question: str, consequence: str, now: Callable[[], float]) -> None:
        super().__init__()
        self._question, self._consequence, self._now = question, consequence, now
        self._since = float("inf")

    def compose(self) -> ComposeResult:
        with Vertical(id="question"):
            yield Static(Content.styled(clean(self._question), "bold"))
            yield Static(Content(clean(self._consequence)))
            yield Static(Content("y yes    n no"), id="answers")

    def on_mount(self) -> None:
        self.call_after_refresh(self._seen)

    def _seen(self) -> None:
        self._since = self._now()

    def action_yes(self) -> None:
        if self._now() - self._since >= VISIBLE_SECONDS:
            self.dismiss(True)

    def action_no(self) -> None:
        self.dismiss(False)


class ReasonScreen(ModalScreen[str | None]):
    """Asks for a reason in words. None: nothing is to be done."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave it waiting")]

    def __init__(self, question: str, consequence: str) -> None:
        super().__init__()
        self._question, self._consequence = question, consequence

    def compose(self) -> ComposeResult:
        with Vertical(id="question"):
            yield Static(Content.styled(clean(self._question), "bold"))
            yield Static(Content(clean(self._consequence)))
            yield OneLine(placeholder="why (may stay empty)", max_length=500)
            yield Static(Content("enter reject    esc leave it waiting"), id="answers")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Any) -> None:
        self.dismiss(clean(event.value))

    def action_leave(self) -> None:
        self.dismiss(None)
