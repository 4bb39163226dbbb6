"""The live screen's half that says what can be done and copied now, for the lists that one chooses from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from console import copying
from console.choosing import Entry
from console.copying import Copy
from console.keymap import CHART, CONSOLE, DECIDE, DIFF, ENGINE, KEYS, MOVE, PANES, SCREENS
from console.layout import Layout, Pane
from console.reasons import why_off
from console.screens.everywhere import Everywhere
from console.state import State, View, selected
from console.widgets import log_tail
from engine.clock import Clock

if TYPE_CHECKING:
    from console.screens.live import Doors

ORDER = (DECIDE, ENGINE, SCREENS, CONSOLE, DIFF, CHART, PANES, MOVE)  # what one looks for by name comes first


class Offers(Everywhere):
    """Mixed into LiveScreen; holds no painting."""

    state: State
    view: View
    plan: Layout
    clock: Clock
    doors: Doors

    if TYPE_CHECKING:

        def _guards(self) -> str: ...
        def look(self, *, cursor: int | None) -> None: ...
        def back_to_live(self) -> None: ...

    def palette_actions(self) -> Sequence[Entry]:
        guards = self._guards() or f"by its own key, with the {Pane.DIFF} in sight"
        can_start = self.doors.start is not None
        found = [
            Entry(
                key.id,
                f"go to {key.what}" if key.id.startswith("pane_") else key.what,
                key.shown.split()[0],
                why_off(key.id, self.state, self.view, guards, can_start),
                key.id,
            )
            for key in sorted(KEYS, key=lambda key: ORDER.index(key.group) if key.group in ORDER else len(ORDER))
            if key.id != "palette"
        ]
        return found

    def copies(self) -> list[Copy]:
        place = self.plan.panes.get(Pane.LOG)
        log: Sequence[str] = ()
        if place is not None and self.state.log is not None:
            up = self.view.offsets.get(Pane.LOG, 0)
            log = log_tail.in_sight(self.state.log.lines, up, place.height - 1)
        return copying.copies(self.state, selected(self.state, self.view), log)

    def natural_copy(self, found: Sequence[Copy]) -> Copy | None:
        return copying.natural(found, self.view.focus)

    def go_to(self, number: int) -> None:
        """Select an experiment, from whichever screen."""
        self.back_to_live()
        self.look(cursor=number)
