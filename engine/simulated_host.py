"""A host on a virtual clock: trials that take their time, end as scripted and outlive the engine.

``Machine`` is what goes on without an engine: attempts claimed, running, ended. ``SimulatedHost`` is one
engine's view of it, with the real ``Allocations``, so that a second engine finds what the first one left.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from engine.clock import Clock
from engine.errors import HostFault
from engine.runners import (
    AttemptPlan,
    Containment,
    Exited,
    FollowItem,
    LogChunk,
    Lost,
    Reached,
    Started,
    StepExit,
    StepStarted,
    Unreachable,
)
from engine.runners.allocations import Allocations
from engine.types import Allocation, Device

TICK = 1e-6  # seconds; less than this is the rounding of floats
CODES = {"finished": 0, "failed": 1, "timeout": 137, "memory": 137, "output": 137, "cancelled": 143}


@dataclass(frozen=True, slots=True)
class Execution:
    """What a scripted program knows of its own run. ``attempt`` counts the trial's launches from 1."""

    files: Mapping[str, str]
    seed: int
    trial: int
    attempt: int
    at: float  # of its start, virtual seconds
    host: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution goes: ``reason`` as in ``Exited``, or ``lost`` or ``preempted``.

    ``log``: (share of the time, bytes).
    """

    reason: str
    seconds: float
    log: tuple[tuple[float, bytes], ...] = ()


Program = Callable[[Execution], Ending]


@dataclass
class _Attempt:
    files: dict[str, str] = field(default_factory=dict)
    claimed: bool = False
    host: str = ""
    slot: str = ""
    started: float | None = None  # when it began to run
    ended: float | None = None  # when it will have ended; cancelling brings that forward
    ending: Ending | None = None
    identity: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self) -> None:
        """Wake who follows; they wait on the event that was current when they looked."""
        self.changed.set()
        self.changed = asyncio.Event()


class Machine:
    """Attempts by directory. ``program`` decides each one's course when it starts."""

    def __init__(self, clock: Clock, program: Program) -> None:
        self.clock = clock
        self.program = program
        self.attempts: dict[str, _Attempt] = {}
        self.starts: list[Execution] = []  # every execution, in order
        self._going: list[_Attempt] = []  # began, and may not have ended yet

    def attempt(self, directory: str) -> _Attempt:
        return self.attempts.setdefault(directory, _Attempt())

    def start(self, plan: AttemptPlan) -> None:
        """As job.sh does: whoever comes second finds the claim taken and leaves."""
        attempt = self.attempt(plan.directory)
        if attempt.claimed:
            return
        attempt.claimed = True
        path = PurePosixPath(plan.directory)
        execution = Execution(
            attempt.files,
            int(plan.environment["RATCHET_SEED"]),
            int(path.parent.name),
            int(path.name.removeprefix("attempt-")),
            self.clock.monotonic(),
            plan.allocation.host,
        )
        attempt.ending = self.program(execution)
        attempt.host, attempt.slot = plan.allocation.host, plan.allocation.slot
        attempt.started = execution.at
        attempt.ended = execution.at + attempt.ending.seconds
        attempt.identity = f"{len(self.starts) + 1000} 1 boot"
        self._going.append(attempt)
        if attempt.ending.reason != "busy":
            self.starts.append(execution)
        attempt.change()

    def cancel(self, directory: str) -> bool:
        attempt = self.attempt(directory)
        now = self.clock.monotonic()
        if not attempt.claimed:
            attempt.claimed = True
            attempt.ending, attempt.started, attempt.ended = Ending("cancelled", 0.0), None, now
            attempt.change()
            return True
        assert attempt.ending is not None and attempt.ended is not None
        if now < attempt.ended:
            # What it printed up to now stays printed: shares of the time are rescaled with the time.
            assert attempt.started is not None
            spent, whole = now - attempt.started, attempt.ending.seconds
            log = tuple((s * whole / max(spent, 1e-9), d) for s, d in attempt.ending.log if s * whole <= spent)
            attempt.ending, attempt.ended = Ending("cancelled", spent, log), now
            attempt.change()
        return False

    def running(self, host: str = "") -> int:
        """Executions that go on at this moment; on ``host``, or on all."""
        now = self.clock.monotonic()
        self._going = [a for a in self._going if a.ended is not None and now < a.ended]
        return sum(not host or a.host == host for a in self._going)

    def most_at_once(self) -> int:
        """The largest number of executions that ever went on at the same time."""
        changes = [(a.started, 1) for a in self.attempts.values() if a.started is not None]
        changes += [(a.ended, -1) for a in self.attempts.values() if a.started is not None and a.ended is not None]
        return max(itertools.accumulate(step for _, step in sorted(changes)), default=0)

    def busy_seconds(self, since: float, until: float) -> float:
        """Slot-seconds used between two moments."""
        spans = [(a.started, a.ended) for a in self.attempts.values() if a.started is not None]
        return sum(max(0.0, min(end or until, until) - max(start or 0.0, since)) for start, end in spans)

    def gaps(self) -> list[float]:
        """Seconds from each execution's end to the next one's start in the same slot."""
        slots: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for a in self.attempts.values():
            if a.started is not None and a.ended is not None:
                slots.setdefault((a.host, a.slot), []).append((a.started, a.ended))
        found = []
        for spans in slots.values():
            spans.sort()
            found += [after[0] - before[1] for before, after in itertools.pairwise(spans)]
        return found


class SimulatedHost:
    """``Host`` over a ``Machine`` with ``capacity`` slots of one kind of hardware.

    ``down``: why nobody reaches it; "" when it is there. What runs on it goes on all the same.
    """

    def __init__(
        self,
        machine: Machine,
        capacity: int = 1,
        name: str = "simulated",
        hardware: str = "simulated x 1",
        devices: bool = False,
    ) -> None:
        self.name = name
        self.hardware = hardware
        self.machine = machine
        self.down = ""
        self._closed = False
        uuids = [f"GPU-{name}-{n}" for n in range(capacity)] if devices else []
        self._devices = tuple(Device(uuid, n, hardware, 0) for n, uuid in enumerate(uuids))
        self._slots = [
            Allocation(name, f"cpu{n}", tuple(uuids[n : n + 1]), cpus=(n,), hardware=hardware)
            for n in range(capacity)
        ]
        self._allocations = Allocations(self._slots)

    async def open(self) -> None:
        self._reach()
        self._allocations = Allocations(self._slots)

    def _reach(self) -> None:
        if self.down:
            raise HostFault(f"{self.name}: {self.down}", "wait until it is back")

    def go_down(self, why: str) -> None:
        self.down = why
        self._tell()

    def come_back(self) -> None:
        self.down = ""
        self._tell()

    def _tell(self) -> None:
        for attempt in self.machine.attempts.values():
            attempt.change()

    async def close(self) -> None:
        self._closed = True
        self._tell()

    @property
    def containment(self) -> Containment:
        return Containment("sweep", (), "simulated: there is nothing to contain")

    @property
    def devices(self) -> tuple[Device, ...]:
        return self._devices

    @property
    def capacity(self) -> int:
        return self._allocations.capacity

    @property
    def kinds(self) -> Counter[str]:
        return self._allocations.kinds

    def acquire(self, attempt: int) -> Allocation | None:
        return self._allocations.acquire(attempt)

    def adopt(self, attempt: int, allocation: Allocation) -> None:
        self._allocations.adopt(attempt, allocation)

    def release(self, attempt: int) -> None:
        self._allocations.release(attempt)

    async def stage(self, directory: str, archive: str, links: Mapping[str, str]) -> None:
        self._reach()
        attempt = self.machine.attempt(directory)
        if attempt.files:
            return
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                if (content := tar.extractfile(member)) is not None:
                    attempt.files[member.name] = content.read().decode()

    async def launch(self, plan: AttemptPlan) -> None:
        self._reach()
        self.machine.start(plan)

    async def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        attempt = self.machine.attempt(directory)
        begun = False
        position = 0  # chunks looked at
        away = False
        while not self._closed:
            changed = attempt.changed  # before looking: a change in between is not missed
            if self.down:
                if not away:
                    away = True
                    yield Unreachable(self.down)
                await changed.wait()
                continue
            if away:
                away = False
                yield Reached()
                continue
            if attempt.ending is None or attempt.ended is None:
                await changed.wait()
                continue
            if attempt.started is not None and not begun:
                begun = True
                yield Started(attempt.identity)
                if attempt.ending.reason != "busy":
                    yield StepStarted("train", 0)
            now = self.machine.clock.monotonic()
            start = attempt.started if attempt.started is not None else now
            log = attempt.ending.log
            at = sum(len(data) for _, data in log[:position])
            if position < len(log) and start + log[position][0] * attempt.ending.seconds <= now + TICK:
                data = log[position][1]
                position += 1
                if at + len(data) > offset:
                    cut = max(0, offset - at)
                    yield LogChunk(at + cut, data[cut:])
                continue
            if now >= attempt.ended - TICK:
                yield self._end(attempt, at)
                return
            due = start + log[position][0] * attempt.ending.seconds if position < len(log) else attempt.ended
            try:
                await self.machine.clock.timeout(changed.wait(), due - now)
            except TimeoutError:
                pass

    def _end(self, attempt: _Attempt, log_bytes: int) -> Exited | Lost:
        assert attempt.ending is not None
        reason, seconds = attempt.ending.reason, attempt.ending.seconds
        if reason == "lost":
            return Lost(f"the job's process {attempt.identity.split()[0]} is gone and left no exit")
        if reason == "preempted":
            return Lost("the batch system took the job away", preempted=True, seconds=seconds)
        if reason == "busy" or attempt.started is None:
            return Exited(reason, ())
        return Exited(reason, (StepExit("train", CODES[reason], seconds, 0, log_bytes),))

    async def cancel(self, directory: str) -> bool:
        self._reach()
        return self.machine.cancel(directory)

    async def read(self, directory: str, pattern: str, limit: int) -> dict[str, bytes]:
        self._reach()
        files = self.machine.attempt(directory).files
        return {p: t.encode()[:limit] for p, t in files.items() if fnmatch.fnmatchcase(p, pattern)}

    async def remove(self, directory: str) -> None:
        self._reach()
        self.machine.attempts.pop(directory, None)
