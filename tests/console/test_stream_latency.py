"""From the service's wire to a console's update: what a model writes is seen as it is written."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from console.feed import Feed
from console.layout import Pane
from console.outbox import Watch
from console.state import StreamRead, View
from engine.clock import RealClock
from tests.engine.claude_campaign import KEY, make, ratchet
from tests.engine.engine_process import query, until
from tests.standin.running import in_thread
from tests.standin.script import Answer, Body, Text, Turn
from tests.standin.server import Standin

pytestmark = pytest.mark.slow
WORDS = 60


def stamped(body: Body, n: int) -> Answer:
    """Sixty words, one every 50 ms: each names its place, so that its way can be timed."""
    return Turn([Text("".join(f"<{i:02d}>" for i in range(WORDS)))], chunk=4, delay=0.05)


def test_a_models_words_reach_a_console_within_a_third_of_a_second(tmp_path: Path) -> None:
    """The figure is printed; the bar here is ten times the promise, because a test machine may be busy."""
    project = make(tmp_path, seconds=0.1)
    state = project / ".ratchet"
    seen: dict[int, float] = {}
    with in_thread(Standin(stamped, key=KEY)) as standin:
        started = ratchet("start", "--experiments", "1", at=project, url=standin.url)
        assert started.returncode == 0, started.stderr
        feed = Feed(state, lambda: True, RealClock())
        feed.watch(Watch(View(), frozenset({Pane.PROPOSAL, Pane.EXPERIMENTS}), (0, 50), frozenset(), ()))
        feed.start(lambda: None)
        try:
            until(lambda: standin.messages, "a request", 60)
            first = time.monotonic()
            end = first + 60
            while len(seen) < WORDS and time.monotonic() < end:
                for update in feed.take():
                    if isinstance(update, StreamRead):
                        text = "".join(t for c, t in update.parts if c == "text")
                        for i in range(WORDS):
                            if f"<{i:02d}>" in text:
                                seen.setdefault(i, time.monotonic())
                time.sleep(0.005)
        finally:
            feed.stop()
            ratchet("stop", at=project, url="")
    assert len(seen) == WORDS, sorted(seen)
    # Word i left the server 50 ms after word i - 1: the lag is what the arrivals fall behind that beat.
    beat = [seen[i] - i * 0.05 for i in range(WORDS)]
    start = min(beat)
    lags = sorted(b - start for b in beat)
    p95 = lags[int(0.95 * len(lags))]
    writes = query(project, "SELECT COUNT(*) FROM stream")[0][0]
    print(f"lag p50 {statistics.median(lags):.3f} s, p95 {p95:.3f} s (goal 0.3); {writes} writes for 3 s of words")
    assert p95 < 3.0
