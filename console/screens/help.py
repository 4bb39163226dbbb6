"""The help page, made from the key table: it cannot disagree with the keys."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from console.keymap import groups

WORDS = (
    ("▲ keep", "measured better, and merged onto the campaign's branch"),
    ("· discard", "not better, by the arithmetic in pane 2"),
    ("✗ crash  ! invalid", "came to no score; never counted as one"),
    ("◆ review?  keep?", "waits for you: look at it (enter), then a or r"),
    ("effect ±", "improvement over the incumbent with its 90 % interval; + is better whatever the goal"),
)


def help_text() -> Content:
    parts: list[str | tuple[str, str]] = []
    for group, keys in groups():
        parts += [(f"{group}\n", "bold"), *((f"  {key.shown:<12} {key.what}\n", "") for key in keys), "\n"]
    parts.append(("Signs\n", "bold"))
    parts += [(f"  {sign:<20} {what}\n", "") for sign, what in WORDS]
    parts.append("\n  Leaving (q, or closing the terminal) never decides anything and never stops the engine.")
    return Content.assemble(*parts)


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,f1", "leave", "back")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(help_text())

    def action_leave(self) -> None:
        self.dismiss(None)
