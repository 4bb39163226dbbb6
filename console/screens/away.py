"""What happened while nobody looked; any key puts it away, and does nothing else."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from console.away import Away, absence, words
from console.plain_text import clean


def away_text(away: Away, metric: str, goal: str, waiting: int) -> list[str]:
    lines = [f"While you were away ({absence(away.seconds)})", words(away, metric, goal), *away.told]
    if waiting:
        lines.append(f"{waiting} {'waits' if waiting == 1 else 'wait'} for your decision")
    return [clean(line) for line in lines]


class AwayScreen(ModalScreen[None]):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def compose(self) -> ComposeResult:
        first, *rest = self.lines
        with Vertical(id="question"):
            yield Static(Content.styled(first, "bold"))
            yield Static(Content("\n".join(rest)))
            yield Static(Content("any key"), id="answers")

    def on_key(self, event: Any) -> None:
        event.stop()
        self.dismiss(None)

    def on_click(self) -> None:
        self.dismiss(None)
