"""What `ratchet simulate` is asked, and what it finds. Plain facts."""

from __future__ import annotations

from dataclasses import dataclass, field

CAUSES = ("calibration", "no proposal ready", "waiting for a person", "waiting for a decision", "start-up gap")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. Times in seconds; ``drafts`` 0: as many as the engine itself thinks it needs."""

    devices: int = 8
    trial_seconds: float = 300.0
    propose_seconds: float = 60.0
    drafts: int = 0
    keep_rate: float = 0.1  # of proposals that are truly better
    hours: float = 2.0
    seed: int = 1
    hosts: tuple[
        tuple[int, float], ...
    ] = ()  # (devices, seconds of a run), each of its own kind; () = one of the above
    review_minutes: float = 0.0  # until a person accepts a proposal; 0 = nobody is asked
    engine_time: bool = False  # the engine's own processor time passes on the clock, too
    judge: str = ""  # keys of [judge], as in ratchet.toml

    @property
    def rooms(self) -> tuple[tuple[int, float], ...]:
        return self.hosts or ((self.devices, self.trial_seconds),)

    @property
    def capacity(self) -> int:
        return sum(devices for devices, _ in self.rooms)

    @property
    def longest(self) -> float:
        """Seconds of a run on the slowest kind."""
        return max(seconds for _, seconds in self.rooms)


@dataclass
class Findings:
    """What came of it. Fractions are of all device time; ``steady``: once all devices had been busy after
    calibration. Gaps: seconds from a run's end to the next one's start on the same device."""

    hours: float = 0.0  # that were simulated; fewer than asked for when it was interrupted
    idle: float = 0.0
    idle_steady: float = 0.0
    steady_from: float = 0.0
    causes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0.0))
    work: dict[str, float] = field(default_factory=dict)  # what ended runs were for, as fractions of their time
    experiments_an_hour: float = 0.0
    experiments: int = 0
    keeps: int = 0
    trials: int = 0
    gap_p50: float = 0.0
    gap_p90: float = 0.0
    gap_p99: float = 0.0
    engine_seconds_an_hour: float = 0.0  # processor time of the engine for a simulated hour
    drafts: int = 0  # proposals ahead at the end
