"""What a trial drew from its devices, by their readings: energy, how busy and how held down they were, and the
time that others disturbed it. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from engine.device_query import HELD_DOWN
from engine.types import Allocation, Reading, Score

GAP_SECONDS = 15.0  # readings further apart than this say nothing about the time between them
LEAST_SEEN = 0.5  # of a run: below, its energy is not known
LEAST_TOLD = 0.05  # of the time seen with clocks held down: below, no word on it


@dataclass
class Use:
    """Of one attempt, in device-seconds: ``seen`` with a reading, of these ``contended`` with others on them."""

    seen: float = 0.0
    powered: float = 0.0  # with a power reading
    joules: float = 0.0  # over those
    contended: float = 0.0
    worked: float = 0.0  # with a reading of the utilisation
    busy: float = 0.0  # of those, times the utilisation, 0 to 1
    clocked: float = 0.0  # with a reading of what holds the clocks down
    held_down: float = 0.0  # of those, by heat or by a fault of power
    last: dict[str, float] = field(default_factory=dict)  # device -> when it was last read

    @property
    def disturbed(self) -> float:
        """The share of the time, 0 to 1."""
        return self.contended / self.seen if self.seen > 0 else 0.0

    @property
    def throttled(self) -> float | None:
        """The share of the time with clocks held down, 0 to 1; None where devices do not tell."""
        return self.held_down / self.clocked if self.clocked > 0 else None

    @property
    def words(self) -> str:
        """What a person should know before comparing the run with another; mostly nothing."""
        share = self.throttled or 0.0
        return f"clocks held down by heat or power for {share:.0%} of the run" if share >= LEAST_TOLD else ""

    def energy(self, seconds: float, devices: int) -> float | None:
        """Joules of a run of ``seconds`` on ``devices``: its mean power as seen; None when too little was."""
        whole = seconds * devices
        if whole <= 0 or self.powered < LEAST_SEEN * whole:
            return None
        return self.joules / self.powered * whole

    def scores(self, seconds: float, devices: int, shares: int = 1) -> list[Score]:
        """Of a run of ``seconds`` that had ``devices`` to itself, or 1 of ``shares`` equal shares of them.

        ``device_seconds`` (a set of processors is one device), ``joules``, ``utilisation`` in percent and
        ``throttled`` from 0 to 1; what is not known is left out.
        """
        part = 1 / max(shares, 1)
        found = {"device_seconds": seconds * max(devices, 1) * part}
        if (joules := self.energy(seconds, devices)) is not None:
            found["joules"] = joules * part
        if self.worked > 0:
            found["utilisation"] = 100 * self.busy / self.worked
        if (throttled := self.throttled) is not None:
            found["throttled"] = throttled
        return [Score(name, value, "run", "engine") for name, value in found.items()]


class Meter:
    """Adds up readings for the trials that hold the devices."""

    def __init__(self) -> None:
        self._uses: dict[int, Use] = {}

    def begin(self, trial: int, devices: Collection[str], now: float) -> None:
        """The trial's process was seen to start: what its devices did while it was staged is not its own."""
        self._uses[trial] = Use(last=dict.fromkeys(devices, now))

    def read(self, held: Mapping[int, Allocation], readings: Iterable[Reading], now: float) -> None:
        """``held``: trials of the readings' host. ``now``: monotonic seconds."""
        by_device = {reading.device: reading for reading in readings}
        for trial, allocation in held.items():
            for device in allocation.devices:
                if (reading := by_device.get(device)) is not None:
                    self._add(self._uses.setdefault(trial, Use()), reading, now)

    def _add(self, use: Use, reading: Reading, now: float) -> None:
        """A reading stands for the time since the one before: power is the mean of its last second anyway."""
        before, use.last[reading.device] = use.last.get(reading.device), now
        if before is None or now - before > GAP_SECONDS:
            return
        spent = now - before
        use.seen += spent
        if reading.power_w is not None:
            use.powered += spent
            use.joules += spent * reading.power_w
        if reading.utilisation is not None:
            use.worked += spent
            use.busy += spent * reading.utilisation / 100
        if reading.throttle is not None:
            use.clocked += spent
            use.held_down += spent * (not HELD_DOWN.isdisjoint(reading.throttle))
        if reading.foreign:
            use.contended += spent

    def take(self, trial: int) -> Use:
        """What the trial's attempt that just ended used; the next one begins at nothing."""
        return self._uses.pop(trial, Use())
