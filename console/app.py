"""The console's program: follows a store, shows it live, files requests. It never runs anything itself.

``run`` is the entry. Leaving it, however (q, a closed terminal, SIGTERM), decides nothing and stops nothing.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import BindingType

from console.desk import Desk
from console.feed import Feed
from console.leaving import Leaving
from console.screens.live import Doors, LiveScreen
from console.state import State, reduce
from engine.clock import Clock, RealClock


class ConsoleApp(App[int], inherit_bindings=False):
    CSS_PATH = "console.tcss"
    TITLE = "ratchet"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, feed: Feed, state: State, desk: Desk, clock: Clock, doors: Doors | None = None) -> None:
        super().__init__()
        self.animation_level = "none"  # bytes are a budget
        self.desk = desk
        self._live = LiveScreen(feed, state, clock, doors or Doors())
        # Textual lays a new screen out three times, and sends it each time: 80 KB at 160x50. Hold until then.
        self._hold = ExitStack()
        self._hold.enter_context(self.batch_update())

    def on_ready(self) -> None:
        self._hold.close()
        self._live.refresh()

    def get_default_screen(self) -> LiveScreen:
        return self._live

    @property
    def live(self) -> LiveScreen:
        return self._live

    def leave(self) -> None:
        """End, asked from another thread."""
        self.call_later(self.exit, 0)


def remote() -> bool:
    """Over SSH: mouse motion alone costs kilobytes there."""
    return bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))


def actor_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def run(
    state_dir: Path,
    engine_alive: Callable[[], bool],
    start_engine: Callable[[], None] | None = None,
    stop_engine: Callable[[], None] | None = None,
    clock: Clock | None = None,
    *,
    campaign: str | None = None,
    actor: str | None = None,
) -> int:
    """Show the campaign of ``state_dir`` (the newest, or ``campaign``) until the person leaves; returns 0.

    ``engine_alive`` is asked once a second, from a thread: is the lock held? ``start_engine`` and
    ``stop_engine`` may block, run in a thread, and raise RatchetError, whose mend is shown; None takes the key
    away (start) or files a stop request (stop). The store may be absent, old, or vanish meanwhile.
    """
    clock = clock or RealClock()
    feed = Feed(state_dir, engine_alive, clock, campaign)
    feed.cycle()  # what there is, before the first paint: the screen never flashes empty
    state = State()
    for update in feed.take():
        state = reduce(state, update)
    desk = Desk(state_dir, clock, actor or actor_name())
    app = ConsoleApp(feed, state, desk, clock, Doors(start_engine, stop_engine))
    Leaving(desk.close, app.leave).watch()
    try:
        app.run(mouse=not remote())
    finally:
        feed.stop()
        desk.close()
    return app.return_code or 0
