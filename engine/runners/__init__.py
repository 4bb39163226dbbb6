"""Where trials run: transport (local, ssh) x launcher (direct, Slurm), seen by the conductor as a Host.

Every call is safe to repeat: the conductor writes its intent first, calls, then confirms, and after a
crash simply calls again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from engine.types import Allocation, Device

KILL_GRACE_SECONDS = 3.0  # from the signal that asks a trial to end to the one that ends it


@dataclass(frozen=True, slots=True)
class Step:
    """One ordered step of a trial. ``command`` is given to ``sh -c`` in the work directory."""

    name: str
    command: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class AttemptPlan:
    """All that an attempt needs to run by itself, detached, on whatever machine."""

    directory: str  # .../<trial>/attempt-N on the host: holds control/ and work/
    token: str  # unique to the attempt, in its environment: lets a sweep find escaped processes
    steps: tuple[Step, ...]
    environment: Mapping[str, str]  # complete: nothing else is inherited
    allocation: Allocation
    wrap: tuple[str, ...] = ()  # argv prefix of every step (containment, sandbox)
    memory_bytes: int = 0  # limit on the tree's resident set; 0 = none
    log_cap_bytes: int = 64 << 20
    kill_grace_seconds: float = KILL_GRACE_SECONDS


@dataclass(frozen=True, slots=True)
class StepExit:
    """``code`` is the exit status, 128+n for a signal. ``seconds`` is monotonic. Log offsets are bytes."""

    name: str
    code: int
    seconds: float
    log_start: int
    log_end: int


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of the log from ``offset``. ``step`` is the name of the running step when they were read."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LogSkipped:
    """The capped middle of the log: ``length`` bytes from ``offset`` no longer exist."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Started:
    """The job claimed its directory. ``identity`` is ``pid starttime boot_id``."""

    identity: str


@dataclass(frozen=True, slots=True)
class StepStarted:
    name: str
    log_start: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The attempt's end, read from ``control/exit``; the whole log has been delivered before it.

    ``reason``: finished (all steps exited 0), failed (a step did not), timeout, memory, output,
    cancelled, busy (a device lock was held by somebody else; nothing was run).
    """

    reason: str
    steps: tuple[StepExit, ...]
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """Positive evidence that the job died without writing ``exit``; whatever it left was killed.

    ``preempted``: a batch system took it away (preemption, a failed node, a requeue), which says nothing about
    the trial. ``seconds``: how long it held its allocation, at most; None: nobody knows.
    """

    reason: str
    preempted: bool = False
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No evidence either way (host away). The attempt is ``unknown``; following goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reached:
    """After Unreachable: the host answers again for this attempt, which is what it was before."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """Where a batch system has the attempt, in its own words: ``PENDING (Priority)``, ``RUNNING on node7``.

    Said when it changes; evidence of nothing. A host without a batch system never says it.
    """

    words: str


FollowItem = LogChunk | LogSkipped | Started | StepStarted | Exited | Lost | Unreachable | Reached | Scheduled


@dataclass(frozen=True, slots=True)
class Containment:
    """What the probe *proved* on this host: the rung's name and the argv prefix that enforces it."""

    kind: str  # bubblewrap | unshare | cgroup | sweep
    wrap: tuple[str, ...]
    proof: str  # one line: what was attempted and what happened
    refused: Mapping[str, str] = field(default_factory=dict)  # higher rungs, and why not
    mend: str = ""  # what a person may do for a higher one; "": the usual


class Host(Protocol):
    """A machine (or cluster) as the conductor sees it."""

    name: str

    async def open(self) -> None:
        """Probe devices and containment. Raises HostFault with the mend."""
        ...

    async def close(self) -> None: ...

    @property
    def containment(self) -> Containment: ...
    @property
    def devices(self) -> tuple[Device, ...]: ...
    @property
    def capacity(self) -> int:
        """How many trials fit at once (for the trial's ``gpus``)."""
        ...

    @property
    def kinds(self) -> Counter[str]:
        """Slots by kind of hardware, whoever holds them now."""
        ...

    def acquire(self, attempt: int) -> Allocation | None:
        """A free allocation for attempt id ``attempt``, or None. Never blocks."""
        ...

    def adopt(self, attempt: int, allocation: Allocation) -> None:
        """Take note of an allocation made before a restart."""
        ...

    def release(self, attempt: int) -> None: ...

    async def stage(self, directory: str, archive: str, links: Mapping[str, str]) -> None:
        """Unpack the tar file ``archive`` into ``directory``/work under a temporary name, link ``links``
        (path in work -> absolute target), rename. A staged directory is left as it is."""
        ...

    async def launch(self, plan: AttemptPlan) -> None:
        """Start job.sh detached; returns once it was asked to. Launching twice runs it once."""
        ...

    def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        """Everything that happens to the attempt from log byte ``offset``; ends after Exited or Lost."""
        ...

    async def cancel(self, directory: str) -> bool:
        """End the attempt. True when its claim was won before it ever ran (it will never start)."""
        ...

    async def read(self, directory: str, pattern: str, limit: int) -> dict[str, bytes]:
        """Files under ``directory``/work that match the glob ``pattern``; at most ``limit`` bytes each."""
        ...

    async def remove(self, directory: str) -> None:
        """Delete an ended attempt's directory."""
        ...
