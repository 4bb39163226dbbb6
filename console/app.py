"""The console's program: follows a store, shows it live, files requests. It never runs anything itself.

``run`` is the entry. Leaving it, however (q, a closed terminal, SIGTERM), decides nothing and stops nothing.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.binding import BindingType

from console import editing, last_seen, preferences
from console.appearance import Appearance, Looks, looks
from console.desk import Desk
from console.editing import ChangedFile
from console.feed import Feed
from console.leaving import Leaving
from console.screens.live import Doors, LiveScreen
from console.state import State, reduce
from console.title_line import TitleLine
from engine.clock import Clock, RealClock
from engine.lock import Holder


class ConsoleApp(Appearance, inherit_bindings=False):
    CSS_PATH = "console.tcss"
    TITLE = "ratchet"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(
        self, feed: Feed, state: State, desk: Desk, clock: Clock, doors: Doors | None = None,
        begin: Looks | None = None, told: str = "",
    ) -> None:  # fmt: skip
        """``told``: what is wrong with the person's own settings, said once."""
        super().__init__(begin or Looks())
        self._told = told
        self.animation_level = "none"  # bytes are a budget
        self.desk = desk
        self.title_line = TitleLine(self.to_terminal, os.environ.get("TERM", ""))
        self._live = LiveScreen(feed, state, clock, doors or Doors())
        # Textual lays a new screen out three times, and sends it each time: 80 KB at 160x50. Hold until then.
        self._hold = ExitStack()
        self._hold.enter_context(self.batch_update())

    def on_ready(self) -> None:
        self._hold.close()
        self._live.refresh()
        if self._told:
            self._live.say(self._told, "warn")

    def get_default_screen(self) -> LiveScreen:
        return self._live

    @property
    def live(self) -> LiveScreen:
        return self._live

    def to_terminal(self, text: str) -> bool:
        """Send what is no part of the screen; False where there is no terminal (any more)."""
        if self.is_headless or self._driver is None:
            return False
        self._driver.write(text)
        return True

    def leave(self) -> None:
        """End, asked from another thread."""
        self.call_later(self.exit, 0)


def actor_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def run(
    state_dir: Path,
    engine_alive: Callable[[], Holder | bool | None],
    start_engine: Callable[[], None] | None = None,
    stop_engine: Callable[[], None] | None = None,
    clock: Clock | None = None,
    *,
    campaign: str | None = None,
    actor: str | None = None,
    copy: Callable[[str], str] | None = None,
    candidate: Callable[[str, str], Sequence[ChangedFile]] | None = None,
    editor: Callable[[Sequence[Path], Path], str] | None = None,
    seen: Path | None = None,
) -> int:
    """Show the campaign of ``state_dir`` (the newest, or ``campaign``) until the person leaves; returns 0.

    ``engine_alive`` is asked once a second, from a thread: is the lock held? ``start_engine`` and
    ``stop_engine`` may block, run in a thread, and raise RatchetError, whose mend is shown; None takes the key
    away (start) or files a stop request (stop). ``copy`` takes text to where the terminal cannot (tmux), may
    block, returns where it went or raises RatchetError. ``candidate`` and ``editor``: see Doors. ``seen``: where
    to remember what this person saw last, for the summary on return. The store may be absent, old, or vanish
    meanwhile.
    """
    clock = clock or RealClock()
    feed = Feed(state_dir, engine_alive, clock, campaign, last_seen.load(seen) if seen is not None else None)
    feed.cycle()  # what there is, before the first paint: the screen never flashes empty
    state = State()
    for update in feed.take():
        state = reduce(state, update)
    desk = Desk(state_dir, clock, actor or actor_name())
    chosen = preferences.read(preferences.place())
    begin = looks(chosen, os.environ)
    remember = None if seen is None else partial(last_seen.save, seen)
    doors = Doors(start_engine, stop_engine, copy, candidate, editor, remember)
    app = ConsoleApp(feed, state, desk, clock, doors, begin, preferences.words(chosen))

    def settle() -> None:
        desk.close()
        app.live.remember()
        editing.close_all()

    Leaving(settle, app.leave).watch()
    try:
        app.run(mouse=begin.mouse)
    finally:
        feed.stop()
        settle()
        app.title_line.give_back()
    return app.return_code or 0
