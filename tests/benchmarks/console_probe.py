"""What a program on a terminal costs, taken from outside: bytes on the wire, /proc, and the time from key to byte."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.console.terminal import Terminal

TICKS = os.sysconf("SC_CLK_TCK")
SILENCE_SECONDS = 0.02  # before a key is pressed, so that the next byte is its answer
ANSWER_SECONDS = 3.0


@dataclass
class Probed:
    """One program at one size. NaN: not measured. Seconds, bytes/s, percent of one core, ms, MB."""

    name: str
    width: int
    height: int
    paint: float = float("nan")
    paints: list[float] = field(default_factory=list)
    paint_cpu: float = float("nan")  # what of it was computing: alike on a busy machine
    idle_bytes: float = float("nan")
    idle_cpu: float = float("nan")
    live_bytes: float = float("nan")
    live_cpu: float = float("nan")
    first_bytes: list[float] = field(default_factory=list)  # from the key to the first byte after it
    effects: list[float] = field(default_factory=list)  # to the first byte after which its effect is on the screen
    memory: float = float("nan")
    memory_later: float = float("nan")

    @property
    def title(self) -> str:
        return f"{self.name} {self.width}x{self.height}"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """MB of memory that the process has, what it shares with others included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory: it has ended")


def watched(terminal: Terminal, seconds: float) -> tuple[float, float]:
    """(bytes a second, percent of one core) over ``seconds``."""
    before, began = cpu_seconds(terminal.pid), time.monotonic()
    count = terminal.pump(seconds)
    passed = time.monotonic() - began
    return count / passed, 100 * (cpu_seconds(terminal.pid) - before) / passed


def pressed(
    terminal: Terminal, keys: Sequence[str], effect: Callable[[], object] | None = None, between: float = 0.1
) -> tuple[list[float], list[float]]:
    """Milliseconds from each key to the first byte after it, and to the first one that shows its ``effect``.

    The second is an upper bound of the answer's first byte: what came in the same read counts as later.
    """
    first, shown = [], []
    for key in keys:
        terminal.pump(between)
        _wait_for_silence(terminal)
        before = effect() if effect is not None else None
        at = time.perf_counter()
        terminal.type(key)
        answered = 0.0
        while (left := at + ANSWER_SECONDS - time.perf_counter()) > 0:
            if not terminal.read(left):
                continue
            answered = answered or terminal.read_at
            if effect is None or effect() != before:
                break
        else:
            raise AssertionError(f"no answer to {key!r} within {ANSWER_SECONDS} s\n{terminal.text}")
        first.append(1000 * (answered - at))
        shown.append(1000 * (terminal.read_at - at))
    return sorted(first), sorted(shown) if effect is not None else []


def _wait_for_silence(terminal: Terminal) -> None:
    for _ in range(100):
        if not terminal.read(SILENCE_SECONDS):
            return


def p95(figures: Sequence[float]) -> float:
    return figures[int(0.95 * (len(figures) - 1))] if figures else float("nan")


def p50(figures: Sequence[float]) -> float:
    return statistics.median(figures) if figures else float("nan")
