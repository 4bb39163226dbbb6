"""What a trial drew from its devices, by their readings: energy, and the time that others disturbed it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine.types import Allocation, Reading

GAP_SECONDS = 30.0  # readings further apart than this say nothing about the time between them
LEAST_SEEN = 0.5  # of a run: below, its energy is not known


@dataclass
class Use:
    """Of one attempt. ``seen``: device-seconds with a reading; of these, ``contended`` with foreign processes."""

    seen: float = 0.0
    powered: float = 0.0  # device-seconds with a power reading
    joules: float = 0.0  # over those
    contended: float = 0.0
    last: dict[str, float] = field(default_factory=dict)  # device -> when it was last read

    @property
    def disturbed(self) -> float:
        """The share of the time, 0 to 1."""
        return self.contended / self.seen if self.seen > 0 else 0.0

    def energy(self, seconds: float, devices: int) -> float | None:
        """Joules of a run of ``seconds`` on ``devices``: its mean power as seen; None when too little was."""
        whole = seconds * devices
        if whole <= 0 or self.powered < LEAST_SEEN * whole:
            return None
        return self.joules / self.powered * whole


class Meter:
    """Adds up readings for the trials that hold the devices."""

    def __init__(self) -> None:
        self._uses: dict[int, Use] = {}

    def read(self, held: Mapping[int, Allocation], readings: Iterable[Reading], now: float) -> None:
        """``held``: trials of the readings' host. ``now``: monotonic seconds."""
        by_device = {reading.device: reading for reading in readings}
        for trial, allocation in held.items():
            for device in allocation.devices:
                if (reading := by_device.get(device)) is not None:
                    self._add(self._uses.setdefault(trial, Use()), reading, now)

    def _add(self, use: Use, reading: Reading, now: float) -> None:
        before, use.last[reading.device] = use.last.get(reading.device), now
        if before is None or now - before > GAP_SECONDS:
            return
        spent = now - before
        use.seen += spent
        if reading.power_w is not None:
            use.powered += spent
            use.joules += spent * reading.power_w
        if reading.foreign:
            use.contended += spent

    def take(self, trial: int) -> Use:
        """What the trial's attempt that just ended used; the next one begins at nothing."""
        return self._uses.pop(trial, Use())
