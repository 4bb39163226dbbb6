"""The console in a real terminal (a pty that answers): first paint with a long history, idle bytes."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.console.terminal import TerminalConsole
from tests.seeded import seeded_store

EXPERIMENTS = 10_000
STARTS = 7
IDLE_SECONDS = 10.0


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        state = Path(name)
        seeded_store(state, EXPERIMENTS)
        paints = sorted(_first_paint(state) for _ in range(STARTS))
        idle = _idle(state)
    paint = statistics.median(paints)
    print(f"  first paint (s): min {paints[0]:.2f}, median {paint:.2f}, max {paints[-1]:.2f} of {STARTS}")
    return [
        Figure(
            f"console's first paint at 160x50, {EXPERIMENTS:,} experiments (median of {STARTS})",
            "<= 0.5 s",
            paint,
            "s",
            paint <= 0.5,
        ),
        Figure("console idle, a trial running, 160x50", "<= 1 KB/s", idle, "B/s", idle <= 1024),
    ]


def _first_paint(state: Path) -> float:
    """From spawn to the first screen that shows the newest experiments."""
    began = time.monotonic()
    with TerminalConsole(state, 160, 50) as console:
        console.until(lambda text: str(EXPERIMENTS) in text and "1 Experiments" in text and "6 Log" in text)
        return time.monotonic() - began


def _idle(state: Path) -> float:
    with TerminalConsole(state, 160, 50) as console:
        console.until(lambda text: "1 Experiments" in text)
        console.pump(3.0)
        return console.pump(IDLE_SECONDS) / IDLE_SECONDS
