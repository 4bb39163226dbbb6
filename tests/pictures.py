"""Pictures of the console for the documentation, made by the console itself from a real campaign's store.

    python -m tests.pictures PROJECT/.ratchet docs/images

An engine at work makes a livelier picture; one SVG for each of three terminal sizes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from console.app import ConsoleApp
from console.desk import Desk
from console.feed import Feed
from console.state import State, reduce
from engine import lock
from engine.clock import RealClock

SIZES = {"live": (160, 44), "live-80x24": (80, 24), "live-200x60": (200, 60)}


async def picture(state_dir: Path, size: tuple[int, int], keys: tuple[str, ...]) -> str:
    clock = RealClock()
    feed = Feed(state_dir, lambda: lock.living(state_dir) is not None, clock)
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


def main() -> None:
    state_dir, target = Path(sys.argv[1]), Path(sys.argv[2])
    keys = tuple(sys.argv[3:])
    target.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        (target / f"{name}.svg").write_text(asyncio.run(picture(state_dir, size, keys)))
        print(target / f"{name}.svg")


if __name__ == "__main__":
    main()
