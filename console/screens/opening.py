"""The live screen's half that opens the further screens, and rests while one of them is in front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from console.outbox import Watch
from console.screens.hidden import front_of
from console.state import State, View, selected
from console.widgets.lines import Scene

if TYPE_CHECKING:
    from console.feed import Feed
    from console.screens.live import Doors
    from console.screens.reading import ReadingScreen


class Opening:
    """Mixed into LiveScreen; holds no painting."""

    app: Any
    feed: Feed
    state: State
    view: View
    doors: Doors
    mine: frozenset[int]
    _now: float

    if TYPE_CHECKING:

        def say(self, text: str, style: str = "dim") -> None: ...

    @property
    def looks(self) -> dict[str, Any]:
        """How each further screen was looked at, from one visit to the next."""
        found: dict[str, Any] = self.__dict__.setdefault("_looks", {})
        return found

    def front(self) -> ReadingScreen | None:
        """The further screen that hides this one; a question over it does not count."""
        found: Any = front_of(self.app)
        return None if found is self else found

    def covered(self) -> bool:
        """Whether another screen hides this one: then nothing is painted, and no more is read than its status
        line tells."""
        front = self.front()
        if front is None:
            return False
        self.feed.watch(Watch(panes=frozenset(), mine=self.mine))
        front.live_changed()
        return True

    def status_scene(self) -> Scene:
        """What the status line of every screen is painted from."""
        return Scene(self.state, self.view, self._now, None, can_start=self.doors.start is not None)

    def open_screen(self, screen: ReadingScreen, *, over: bool = False) -> None:
        """Show ``screen`` instead of the further ones that are open, or ``over`` them: back leads to them then."""
        if not over:
            self.back_to_live()
        screen.hold()
        self.app.push_screen(screen)

    def back_to_live(self) -> None:
        while self.app.screen_stack[-1] is not self:
            self.app.pop_screen()

    # --- keys, of every screen ---

    def do_history(self) -> None:
        from console.screens.history import HistoryScreen

        self.open_screen(HistoryScreen(self))

    def do_hosts(self) -> None:
        from console.screens.hosts import HostsScreen

        self.open_screen(HostsScreen(self))

    def do_ratchet(self) -> None:
        from console.screens.ratchet import RatchetScreen

        self.open_screen(RatchetScreen(self))

    def do_events(self) -> None:
        from console.screens.events import EventsScreen

        self.open_screen(EventsScreen(self))

    def do_experiment(self) -> None:
        number = selected(self.state, self.view)
        if number is None:
            self.say("no experiment yet: the first one comes by itself", "warn")
        else:
            self.open_experiment(number)

    def open_experiment(self, number: int) -> None:
        from console.screens.experiment import ExperimentScreen

        self.open_screen(ExperimentScreen(self, number), over=True)
