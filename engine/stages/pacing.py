"""How long a proposal and a run take, and so how many proposals keep the devices busy (STATISTICS.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

WEIGHT = 0.2  # of the newest value in the moving average
SPARE = 2  # proposals beyond what the averages need: both times scatter


@dataclass
class Pace:
    """Moving averages in seconds; 0 while nothing is known."""

    proposing: float = 0.0
    running: float = 0.0

    def proposed(self, seconds: float) -> None:
        self.proposing = _moved(self.proposing, seconds)

    def ran(self, seconds: float) -> None:
        self.running = _moved(self.running, seconds)

    def drafts(self, capacity: int, run_seconds: float, busy: int | None = None) -> int:
        """Proposals to have ahead of ``capacity`` devices, being written or ready.

        One for each device that is not ``busy`` (None: all are), and those that are used up while one is written.
        ``run_seconds``: what the first run is expected to take.
        """
        run = self.running or run_seconds
        idle = 0 if busy is None else max(0, capacity - busy)
        return idle + math.ceil(capacity * self.proposing / max(run, 1e-3)) + SPARE


def _moved(average: float, seconds: float) -> float:
    return seconds if average == 0 else average + WEIGHT * (seconds - average)
