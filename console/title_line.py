"""The terminal's own title: who waits, how good the best is. Sent only when it changes, given back on leaving."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from console.formats import number
from console.plain_text import clean
from console.state import State
from console.widgets.status_bar import best

PUSH, POP = "\x1b[22;2t", "\x1b[23;2t"
NO_TITLE = ("", "dumb", "linux", "cons", "vt", "ansi")  # TERM begins so: it would print what it cannot do


def title_of(state: State) -> str:
    """``ratchet: 2 waiting - val_bpb 1.023``."""
    waiting = len(state.awaiting) + len(state.asleep)
    parts = [f"{waiting} waiting"] if waiting else []
    if state.campaign is not None:
        value, _ = best(state)
        parts.append(f"{state.campaign.metric} {number(value)}" if value is not None else state.campaign.name)
    return clean("ratchet: " + " - ".join(parts))[:100] if parts else "ratchet"


class TitleLine:
    """``send`` returns whether there is a terminal."""

    def __init__(self, send: Callable[[str], bool], term: str) -> None:
        self._send = send
        self._able = bool(term) and not term.startswith(NO_TITLE[1:])
        self._shown: str | None = None

    def show(self, state: State) -> None:
        title = title_of(state)
        if not self._able or title == self._shown:
            return
        first = PUSH if self._shown is None else ""
        if self._send(f"{first}\x1b]2;{title}\x07"):
            self._shown = title

    def give_back(self) -> None:
        """After the terminal was left in good order; it goes where the screen went."""
        if self._shown is None:
            return
        self._shown = None
        with contextlib.suppress(OSError, ValueError):
            print(end=POP, file=sys.__stderr__, flush=True)
