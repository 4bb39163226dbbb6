"""The help page, made from the key table: it cannot disagree with the keys."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from console import screen_keys
from console.keymap import Key, groups, press
from console.screen_keys import ScreenKeys


def words() -> tuple[tuple[str, str], ...]:
    """The signs on the screen and what they say; keys as this person has them."""
    decide = f"{press('accept')} or {press('reject')}"
    return (
        ("▲ keep", "measured better, and merged onto the campaign's branch"),
        ("· discard", f"not better, by the arithmetic in pane {press('pane_2')}"),
        ("✗ crash  ! invalid", "came to no score; never counted as one"),
        ("◆ review?  keep?", f"waits for you: look at it ({press('open')}), then {decide}"),
        ("⚑ pinned", f"by a person, in every console ({press('pin')})"),
        ("✉ message", f"to the proposer ({press('message')})"),
        ("? unknown", f"a trial whose host does not answer; it is looked for again ({press('hosts')} shows why)"),
        ("effect ±", "improvement over the incumbent with its 90 % interval; + is better whatever the goal"),
    )


def help_text(here: ScreenKeys | None = None) -> Content:
    """Every key by its group; what is special to the screen ``here`` comes first."""
    parts: list[str | tuple[str, str]] = []
    ordered = [*groups(), *screen_keys.groups()]
    if here is not None:
        if here.heading not in {group for group, _ in ordered}:  # keys of a mode, not of a further screen
            ordered.insert(0, (here.heading, list(here.own)))
        ordered.sort(key=lambda group: group[0] != here.heading)
    for group, keys in ordered:
        parts += [(f"{group}\n", "bold"), *((_told(key), "") for key in keys), "\n"]
    parts.append(("Signs\n", "bold"))
    parts += [(f"  {sign:<20} {what}\n", "") for sign, what in words()]
    leaving = f"Leaving ({press('detach')}, or closing the terminal)"
    parts.append(f"\n  {leaving} never decides anything and never stops the engine.")
    return Content.assemble(*parts)


def _told(key: Key) -> str:
    return f"  {key.shown:<12} {key.what}\n"


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,f1", "leave", "back")]

    def __init__(self, here: ScreenKeys | None = None) -> None:
        super().__init__()
        self._here = here

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(help_text(self._here))

    def action_leave(self) -> None:
        self.dismiss(None)
