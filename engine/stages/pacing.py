"""How long a proposal and a run take, and so how many proposals keep the devices busy (STATISTICS.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

WEIGHT = 0.2  # of the newest value in the moving average
SLACK = 1.5  # times the average: half of the proposals take longer
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

    def drafts(self, capacity: int, run_seconds: float, busy: int | None = None, ending: int = 0) -> int:
        """Proposals to have ahead of ``capacity`` devices, being written or ready.

        One for each device that is not ``busy`` (None: all are), and those that are used up while one is written:
        on the average, or the runs that are then ``ending``, for runs that began together end together.
        ``run_seconds``: what the first run is expected to take.
        """
        run = self.running or run_seconds
        idle = 0 if busy is None else max(0, capacity - busy)
        return idle + max(math.ceil(capacity * self.proposing / max(run, 1e-3)), ending) + SPARE

    def ends_soon(self, since: float, run_seconds: float) -> bool:
        """Whether a run begun ``since`` seconds ago will have ended before a proposal begun now is there."""
        return (self.running or run_seconds) <= since + SLACK * self.proposing


def _moved(average: float, seconds: float) -> float:
    return seconds if average == 0 else average + WEIGHT * (seconds - average)
