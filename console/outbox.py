"""Between the feed's thread and the screen: what to look at, what is due, and what waits to be shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from console.layout import PANES, Pane
from console.state import (
    AliveSeen,
    EventsRead,
    ExperimentsRead,
    RequestsRead,
    State,
    StoreReplaced,
    Update,
    View,
    reduce,
)
from engine.clock import Clock

# Least seconds between two readings of a source that keeps changing.
PACE = {
    "facts": 0.1,
    "detail": 0.1,
    "stream": 0.05,  # the engine writes it five times a second: looked at later, it would be late
    "curves": 1.0,
    "readings": 1.0,
    "rows": 3.0,  # where no event told of a change
    "hosts": 1.0,
    "log": 0.5,
    "inbox": 0.2,
    "steering": 1.0,
    "alive": 1.0,
    "file": 1.0,
}


@dataclass(frozen=True, slots=True)
class Watch:
    """What the console shows now; the feed reads nothing else. ``rows`` is the window of numbers in sight."""

    view: View = field(default_factory=View)
    panes: frozenset[Pane] = frozenset(PANES)
    rows: tuple[int, int] = (0, 0)
    mine: frozenset[int] = frozenset()  # requests of this console that want their answer
    marked: tuple[int, ...] = ()  # experiments whose curves the chart shows as well


class Schedule:
    """Which sources may have changed (``dirty``), and which are due. Asked from the feed's thread only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self.dirty: set[str] = set()

    def ready(self, source: str) -> bool:
        """Whether ``source`` is due; then it counts as read."""
        now = self._clock.monotonic()
        if now < self._due.get(source, 0.0):
            return False
        self._due[source] = now + PACE[source]
        return True

    def changed(self, source: str) -> bool:
        """Whether ``source`` may have changed and is due; then it counts as read."""
        if source in self.dirty and self.ready(source):
            self.dirty.discard(source)
            return True
        return False

    def postpone(self, source: str, seconds: float) -> None:
        self._due[source] = self._clock.monotonic() + seconds


def coalesce(pending: list[Update], update: Update) -> None:
    """Put ``update`` into the outbox; of each kind only the newest waits, lists of changes are joined."""
    if isinstance(update, StoreReplaced):  # what came before is void, and what comes must not take its place
        pending[:] = [old for old in pending if isinstance(old, AliveSeen | RequestsRead)]
    for i, old in enumerate(pending):
        if type(old) is not type(update):
            continue
        if isinstance(old, ExperimentsRead) and isinstance(update, ExperimentsRead):
            if old.covered is not None and update.covered is not None:
                continue  # two windows stay two
            rows = {row.number: row for row in (*old.rows, *update.rows)}
            pending[i] = ExperimentsRead(tuple(rows.values()), old.covered or update.covered)
        elif isinstance(old, EventsRead) and isinstance(update, EventsRead):
            pending[i] = EventsRead((*old.rows, *update.rows)[-200:])
        elif isinstance(old, RequestsRead) and isinstance(update, RequestsRead):
            pending[i] = RequestsRead(update.open, (*old.answered, *update.answered)[-50:])
        else:
            pending[i] = update
        return
    pending.append(update)


class Outbox:
    """Updates that the screen has not taken yet, and the state as the feed has told it so far."""

    def __init__(self) -> None:
        self.state = State()
        self.notify: Callable[[], object] = lambda: None
        self._pending: list[Update] = []
        self._lock = threading.Lock()

    def say(self, update: Update) -> None:
        """``notify`` is called when something waits after nothing did."""
        self.state = reduce(self.state, update)
        with self._lock:
            was_empty = not self._pending
            coalesce(self._pending, update)
        if was_empty:
            self.notify()

    def take(self) -> list[Update]:
        with self._lock:
            found, self._pending = self._pending, []
        return found
