"""Pictures of the console for the documentation, made by the console itself from a real campaign's store.

    python -m tests.pictures PROJECT/.ratchet docs/images
    python -m tests.pictures console/recorded/campaign.ratchet docs/images

An engine at work makes a livelier picture; of a recording, a moment in its middle is shown as it was then. One SVG
for each of three terminal sizes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from console.app import ConsoleApp
from console.desk import Desk
from console.feed import Feed
from console.state import State, reduce
from engine import lock
from engine.clock import Clock, RealClock

MOMENT = 0.72  # of a recording
SIZES = {"live": (160, 44), "live-80x24": (80, 24), "live-200x60": (200, 60)}


class Then(RealClock):
    """Real time for waiting; the wall stands at a moment of the recording."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self._at = at

    def now(self) -> float:
        return self._at


async def picture(state_dir: Path, size: tuple[int, int], keys: tuple[str, ...], clock: Clock) -> str:
    feed = Feed(state_dir, lambda: isinstance(clock, Then) or lock.living(state_dir) is not None, clock)
    feed.cycle()
    state = State()
    for update in feed.take():
        state = reduce(state, update)
    desk = Desk(state_dir, clock, "you")
    app = ConsoleApp(feed, state, desk, clock)
    try:
        async with app.run_test(size=size) as pilot:
            await clock.sleep(2.5)
            for key in keys:
                await pilot.press(key)
            await clock.sleep(2.5)
            await pilot.pause()
            return app.export_screenshot(title="ratchet")
    finally:
        feed.stop()
        desk.close()


@contextlib.contextmanager
def stored(source: Path) -> Iterator[tuple[Path, Clock]]:
    """The state folder to show, and its clock: of a project as it is, of a recording as it was."""
    if source.is_dir():
        yield source, RealClock()
        return
    from engine.store.playback import Playback
    from engine.store.recording import load

    with tempfile.TemporaryDirectory() as folder:
        playback = Playback(load(source), Path(folder))
        timeline = playback.timeline
        playback.forward(timeline.start + MOMENT * (timeline.end - timeline.start))
        # A recording keeps no heartbeats: the engine lived then.
        conn = sqlite3.connect(Path(folder, "store.db"))
        conn.execute("UPDATE fence SET beat_at = ?", (playback.at,))
        conn.commit()
        conn.close()
        yield Path(folder), Then(playback.at)
        playback.close()


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    keys = tuple(sys.argv[3:])
    target.mkdir(parents=True, exist_ok=True)
    with stored(source) as (state_dir, clock):
        for name, size in SIZES.items():
            (target / f"{name}.svg").write_text(asyncio.run(picture(state_dir, size, keys, clock)))
            print(target / f"{name}.svg")


if __name__ == "__main__":
    main()
