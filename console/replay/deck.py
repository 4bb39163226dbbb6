"""What turns a replay: a clock that runs at a speed, stands or jumps, and a thread that plays the store up to it.

Long times in which nothing happened (a night without an engine) are passed over.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from engine.clock import Clock
from engine.errors import RatchetError
from engine.store.playback import Playback

T = TypeVar("T")

SPEEDS = (1.0, 10.0, 60.0, 600.0)
TICK_SECONDS = 0.05
IDLE_SECONDS = 60.0  # of the recording, without anything, that are passed over ...
IDLE_WAIT = 3.0  # ... when they would last longer than this


class Deck:
    """``clock`` is real; ``name`` and ``recorded`` (a date) are for the banner. Methods: from any thread."""

    def __init__(self, playback: Playback, clock: Clock, speed: float, name: str, recorded: str) -> None:
        self.timeline = playback.timeline
        self.clock = clock
        self.problem = ""
        self._playback, self._name, self._recorded = playback, name, recorded
        self._speed = speed
        self._paused = False
        self._at, self._since = self.timeline.start, clock.monotonic()  # where it was, when
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.rewound: Callable[[], object] = lambda: None

    # --- where it stands ---

    def now(self) -> float:
        """The moment that is shown, seconds since 1970."""
        with self._lock:
            moved = 0.0 if self._paused else (self.clock.monotonic() - self._since) * self._speed
            return min(self.timeline.end, self._at + moved)

    @property
    def over(self) -> bool:
        return self.now() >= self.timeline.end

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def speed(self) -> float:
        return self._speed

    def banner(self) -> str:
        """``REPLAY of nov21, recorded 2026-11-21, x60, 0:12:40 of 1:03:00``."""
        if self.problem:
            return f"REPLAY stopped: {self.problem}"
        how = "ended" if self.over else "paused" if self._paused else f"x{self._speed:g}"
        whole = self.timeline.end - self.timeline.start
        at = f"{clock_words(self.now() - self.timeline.start)} of {clock_words(whole)}"
        return f"REPLAY of {self._name}, recorded {self._recorded}, {how}, {at}"

    # --- what a person asks ---

    def toggle(self) -> None:
        with self._lock:
            if self.over:
                self.seek(self.timeline.start, paused=False)
            else:
                self.seek(self.now(), paused=not self._paused)

    def seek(self, at: float, *, paused: bool = True) -> None:
        with self._lock:
            self._at = max(self.timeline.start, min(self.timeline.end, at))
            self._since, self._paused = self.clock.monotonic(), paused
        self._wake.set()

    def faster(self, up: bool) -> None:
        """To the next of SPEEDS; stays at the last one."""
        with self._lock:
            beyond = [one for one in SPEEDS if (one > self._speed if up else one < self._speed)]
            self.seek(self.now(), paused=self._paused)
            if beyond:
                self._speed = min(beyond) if up else max(beyond)

    def step(self, moments: Sequence[float], forward: bool) -> bool:
        """Stand at the next (or the last) of ``moments``, which ascend; False when there is none."""
        with self._lock:
            now = self.now()
            i = bisect_right(moments, now) if forward else bisect_left(moments, now) - 1
            if not 0 <= i < len(moments):
                return False
            self.seek(moments[i])
            return True

    # --- the thread ---

    def start(self, rewound: Callable[[], object]) -> None:
        """``rewound`` is called when the store has become another file."""
        self.rewound = rewound
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.cycle()
            except (RatchetError, OSError) as error:  # a full disk, a folder that was taken away
                self.problem = str(getattr(error, "message", error))
                return
            if self._wake.wait(TICK_SECONDS):
                self._wake.clear()

    def cycle(self) -> None:
        """Bring the store to now. Also called directly, before the first paint and by tests."""
        at = self.now()
        if at < self._playback.at:
            self._playback.back(at)
            self.rewound()
        else:
            self._playback.forward(at)
            self._pass_over(at)

    def _pass_over(self, at: float) -> None:
        following = self._playback.next_change()
        with self._lock:
            if self._paused or following is None or self.now() < at:  # somebody jumped meanwhile
                return
            if following - at > max(IDLE_SECONDS, IDLE_WAIT * self._speed):
                self.seek(following - self._speed, paused=False)

    def close(self) -> None:
        """End the thread and remove the scratch store. Safe to call twice."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        self._playback.close()


class DeckClock:
    """A Clock whose ``now`` is the replay's: ages and durations on the screen are those of the recording."""

    def __init__(self, deck: Deck) -> None:
        self._deck = deck

    def now(self) -> float:
        return self._deck.now()

    def monotonic(self) -> float:
        return self._deck.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._deck.clock.sleep(seconds)

    async def timeout(self, work: Awaitable[T], seconds: float) -> T:
        return await self._deck.clock.timeout(work, seconds)


def clock_words(seconds: float) -> str:
    """``0:03:09``; hours go on counting past a day."""
    whole = int(max(0.0, seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
