"""What every host with a launcher of its own kind does alike: devices, locks, allocations, attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import PurePosixPath

from engine.clock import Clock
from engine.errors import HostFault, UsageError
from engine.runners import AttemptPlan, Containment, FollowItem, Lost
from engine.runners.allocations import NVIDIA_SMI, Allocations, parse_devices, visible_devices
from engine.runners.launcher import LOCK_DIRECTORY, DirectLauncher, job_script
from engine.runners.transport import Transport
from engine.types import Allocation, Device

MOST_FILES_READ = 1000
MOST_BYTES_READ = 64 << 20  # of all files together: a candidate may make a thousand large ones


class DirectHost:
    """A machine reached by ``transport``, whose jobs are started there at once.

    Who inherits opens it, and knows its files: ``open``, ``stage``, ``read``, ``remove``.
    """

    def __init__(
        self, name: str, transport: Transport, clock: Clock, lock_directory: str = LOCK_DIRECTORY
    ) -> None:
        self.name = name
        self._clock = clock
        self._transport = transport
        self._locks = lock_directory
        self._launcher: DirectLauncher | None = None
        self._containment: Containment | None = None
        self._devices: tuple[Device, ...] = ()

    async def close(self) -> None:
        await self._transport.close()

    async def _find_devices(self, setting: str | None) -> tuple[Device, ...]:
        """What nvidia-smi shows there, less what ``setting`` (CUDA_VISIBLE_DEVICES) hides."""
        shown = await self._transport.run(NVIDIA_SMI, seconds=60.0)
        if shown.code != 0:
            # Its errors go to its output. A driver out of order is no reason to train on the processor.
            words = (shown.stdout + shown.stderr).decode("utf-8", "replace").strip()
            if "No devices were found" in words:
                return ()
            raise HostFault(
                f"{self.name}: nvidia-smi failed: {words or shown.code}",
                "mend the driver, or set trial.gpus = 0",
            )
        return visible_devices(parse_devices(shown.stdout.decode("utf-8", "replace")), setting)

    async def _ready(
        self,
        slots: tuple[Allocation, ...],
        containment: Containment,
        locked: Callable[[Allocation], bool] | None = None,
    ) -> None:
        """Ready to launch. ``locked``: whether a slot's devices are seen to be locked, where that can be seen."""
        if any(slot.devices for slot in slots):
            await self._prove_locks()
        self._containment = containment
        self._launcher = DirectLauncher(self._transport, Allocations(slots, locked), self._locks)

    async def _prove_locks(self) -> None:
        # An old flock without --no-fork would make every job look busy.
        done = await self._transport.run(["flock", "--nonblock", "--no-fork", "--shared", "/", "true"])
        if done.code != 0:
            raise HostFault(
                f"{self.name}: device locks do not work: {done.complaint}", "install util-linux 2.32 or newer"
            )
        # Without it every trial would find its device busy, and nobody would know why.
        done = await self._transport.run(["sh", "-s", "/", "locks", self._locks], input=job_script())
        if done.code != 0:
            place = done.stdout.decode("utf-8", "replace").strip()
            raise HostFault(
                f"{self.name}: the directory of your device locks, {place}, is not yours or cannot be made",
                "delete it (its owner or root can), and see that you may write beside it",
            )

    @property
    def _opened(self) -> DirectLauncher:
        if self._launcher is None:
            raise HostFault(f"{self.name} was not opened")
        return self._launcher

    @property
    def containment(self) -> Containment:
        if self._containment is None:
            raise HostFault(f"{self.name} was not opened")
        return self._containment

    @property
    def devices(self) -> tuple[Device, ...]:
        return self._devices

    @property
    def capacity(self) -> int:
        return self._opened.capacity

    @property
    def kinds(self) -> Counter[str]:
        return self._opened.kinds

    def acquire(self, attempt: int) -> Allocation | None:
        return self._opened.acquire(attempt)

    def adopt(self, attempt: int, allocation: Allocation) -> None:
        self._opened.adopt(attempt, allocation)

    def release(self, attempt: int) -> None:
        self._opened.release(attempt)

    async def launch(self, plan: AttemptPlan) -> None:
        await self._opened.start(plan)

    async def cancel(self, directory: str) -> bool:
        return await self._opened.cancel(directory)

    async def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        async for item in self._transport.follow(directory, offset):
            if isinstance(item, Lost):
                # Its processes may go on without it, and another attempt must find the machine free.
                left = await self._opened.clear(directory)
                if left:
                    item = Lost(f"{item.reason}; {left} of its processes could not be killed")
            yield item


def glob_parts(pattern: str) -> tuple[str, ...]:
    """The parts of a glob inside a trial's work directory. Raises UsageError for one that leads out."""
    path = PurePosixPath(pattern)
    if not path.parts or ".." in path.parts or path.is_absolute():
        raise UsageError(f"{pattern!r} is no path inside a trial's work directory")
    return path.parts


def link_parts(place: str, target: str) -> tuple[str, tuple[str, ...]]:
    """Where a link goes: directory of the attempt (work or home), and the parts of its path there.

    Raises UsageError unless ``place`` is relative (``../home/x``: under the attempt's fresh HOME, for data
    that a script looks for there) and ``target`` absolute.
    """
    inner = place.removeprefix("../home/")
    path = PurePosixPath(inner)
    if not path.parts or ".." in path.parts or path.is_absolute() or not target.startswith("/"):
        raise UsageError(f"cannot link {place!r} to {target}: a relative place and an absolute target")
    return ("work" if inner == place else "home"), path.parts
