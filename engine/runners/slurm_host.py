"""A Slurm cluster as a Host: jobs through its commands, files through the file system that its nodes share."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

from engine import sandbox
from engine.clock import Clock
from engine.errors import HostFault
from engine.runners import AttemptPlan, Containment, FollowItem, Lost, node_proof
from engine.runners import slurm_commands as commands
from engine.runners.allocations import Allocations
from engine.runners.pilot import PilotLauncher
from engine.runners.slurm import SlurmLauncher
from engine.runners.slurm_follow import ScheduledAttempt
from engine.runners.slurm_options import SlurmOptions
from engine.runners.slurm_queue import SlurmQueue
from engine.runners.transport import Completed, Transport
from engine.types import Allocation, Device

SETTLE_SECONDS = 15.0  # an NFS client may look for a new file that late, if it has just found none
PROBE_LIMIT = 300.0  # of the short allocation in which a node is looked at
AGAIN_SECONDS = 10.0  # that one is waited for where an earlier one has proved what there is to prove
COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sinfo", "srun")


class Files(Protocol):
    """A host that keeps the trials' files: LocalHost, or RemoteHost for a login node. Its devices are not used."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    @property
    def directory(self) -> Path | str: ...
    async def stage(self, directory: str, archive: str, links: Mapping[str, str]) -> None: ...
    async def read(self, directory: str, pattern: str, limit: int) -> dict[str, bytes]: ...
    async def remove(self, directory: str) -> None: ...


class SlurmHost:
    """Trials as jobs of the cluster whose commands ``transport`` runs and whose files ``files`` keeps.

    ``slots``: trials in the queue or running at once. ``allocation``: the number of an allocation that the
    engine was started in (``SLURM_JOB_ID``): trials run in it, and it is nobody's to end. ``needs``: seconds
    that a trial may take with all its deadlines.
    """

    def __init__(
        self,
        name: str,
        files: Files,
        transport: Transport,
        options: SlurmOptions,
        clock: Clock,
        slots: int = 1,
        allocation: str = "",
        settle_seconds: float = SETTLE_SECONDS,
        needs: float = 0.0,
    ) -> None:
        self.name = name
        self._files = files
        self._transport = transport
        self._options = options
        self._clock = clock
        self._slots = max(slots, 1)
        self._within = allocation
        self._settle = settle_seconds
        self._needs = needs
        self._queue = SlurmQueue(transport, options, clock)
        self._launcher: SlurmLauncher | None = None
        self._containment: Containment | None = None
        kind, count = options.gpus
        # Slurm chooses them when a job starts; until then they have a kind and a number, and no UUID.
        self._devices = tuple(Device(f"{name}-gpu{n}", n, kind, 0) for n in range(count))

    @property
    def directory(self) -> str:
        """Where trials go, on the file system that the nodes share."""
        return str(self._files.directory)

    # --- opening ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Raises HostFault with the mend. Takes up to ``options.probe`` seconds when no node is free."""
        await self._files.open()
        await self.check_cluster()
        # Opened anew, it is the same: those who follow, and pilots with trials in them, are known to it.
        launcher = self._launcher or self._make_launcher()
        launcher.refuse_short(self._needs)
        self._containment = await self._look_at_a_node()
        await launcher.open()
        self._launcher = launcher

    def _make_launcher(self) -> SlurmLauncher:
        allocations = Allocations(self._make_slots())
        given = (self._transport, self._options, allocations, self._queue, self._clock)
        if not (self._options.pilot or self._within):
            return SlurmLauncher(*given)
        root = f"{self.directory}/pilots"
        return PilotLauncher(*given, root=root, slots=self._slots, within=self._within)

    def _make_slots(self) -> tuple[Allocation, ...]:
        shape = [f"{key} {value}" for key, value in self._options.given if key in ("partition", "constraint")]
        kind, count = self._options.gpus
        cores = self._options.value("cpus-per-task") or "1"
        what = f"{kind} x {count}" if count else f"processor x {cores} cores"
        hardware = ", ".join([what, "Slurm", *shape])
        return tuple(
            Allocation(
                self.name,
                f"slurm{n}",
                devices=tuple(f"{self.name}-slurm{n}-gpu{k}" for k in range(count)),
                hardware=hardware,
            )
            for n in range(self._slots)
        )

    async def check_cluster(self) -> None:
        """Its commands, its controller, the partition. Raises HostFault with the mend."""
        await self._check_commands()
        await self._check_partition()

    async def _check_commands(self) -> None:
        tools = [self._options.command(name) for name in COMMANDS]
        script = 'for tool; do command -v "$tool" >/dev/null || printf "%s " "$tool"; done'
        done = await self._transport.run(["sh", "-c", script, "sh", *tools])
        missing = done.stdout.decode("utf-8", "replace").split()
        if missing:
            raise HostFault(
                f"{self.name}: {', '.join(missing)} not found",
                'say where Slurm\'s commands are: slurm = { bin = "/opt/slurm/bin" }',
            )

    async def _check_partition(self) -> None:
        wanted = self._options.value("partition")
        done = await self._queue.run(commands.partitions(self._options, ""))
        if done.code != 0:
            raise HostFault(
                f"{self.name}: sinfo: {done.complaint}", "see whether the controller answers: `scontrol ping`"
            )
        found = commands.parse_partitions(done.stdout.decode("utf-8", "replace"))
        for one in filter(None, wanted.split(",")):
            if one not in found:
                names = ", ".join(sorted(found)) or "none"
                raise HostFault(
                    f"{self.name}: there is no partition {one}; there are: {names}", "name one of them"
                )
            if not found[one]:
                raise HostFault(f"{self.name}: partition {one} is down", "name another, or wait")
        await self._check_kinds([one for one in wanted.split(",") if one])

    async def _check_kinds(self, partitions: Sequence[str]) -> None:
        """Scores are compared within one kind of hardware: a trial's GPU must be of a known one."""
        kind, count = self._options.gpus
        feature = self._options.value("constraint")
        chosen = any(self._options.value(key) for key in ("nodelist", "exclude")) or self._options.extra
        if not count or kind != "gpu" or chosen or not re.fullmatch(r"[\w.-]*", feature):
            return  # it is said already, or said in a way that only Slurm understands
        done = await self._queue.run(commands.resources(self._options))
        kinds = commands.parse_gpu_kinds(done.stdout.decode("utf-8", "replace"), partitions, feature)
        if len(kinds) > 1:
            names = ", ".join(sorted(one or "some without a type" for one in kinds))
            one = max(kinds)
            raise HostFault(
                f"{self.name}: its trials could get different GPUs ({names}), whose scores do not compare",
                f'name the type: slurm = {{ gres = "gpu:{one}:{count}" }}, or a constraint;'
                " with a [[hosts]] for each type all are used",
            )

    async def _look_at_a_node(self) -> Containment:
        """What a node proves: that it sees our files, and how it contains. Else why none could be asked."""
        known = await self._remembered()
        patience = min(self._options.probe, AGAIN_SECONDS) if known else self._options.probe
        async with self.node(patience) as node:
            if isinstance(node, NodeTransport):
                await self.check_shared(node, self.directory)
                found = await sandbox.climb(self._clock, sandbox.LADDER, cast(Transport, node))
                await self._transport.put(self._remembers, node_proof.dump(self._options.submit, found))
                return found
        if known is not None:
            return replace(known, proof=f"{known.proof} (on a node, at an earlier start: {node})")
        why = f"{node}: shared files and containment are unproved"
        mend = "start again when a node is free: what it proves is remembered; or [sandbox] require = []"
        return Containment("sweep", (), why, {"unshare": node}, mend)

    @property
    def _remembers(self) -> str:
        return f"{self.directory}/{node_proof.FILE}"

    async def _remembered(self) -> Containment | None:
        read = ["head", "-c", str(node_proof.MOST_BYTES), self._remembers]
        done = await self._transport.run(read)
        return node_proof.parse(done.stdout, self._options.submit) if done.code == 0 else None

    @asynccontextmanager
    async def node(self, patience: float) -> AsyncGenerator[NodeTransport | str, None]:
        """A compute node such as a trial gets, for a short while; why none was to be had in ``patience`` s."""
        if self._within:
            yield NodeTransport(self._transport, self._options, self._within)
            return
        name = f"ratchet-probe-{secrets.token_hex(4)}"
        done = Completed(1, b"", b"")
        with suppress(HostFault):  # salloc itself takes longer than it was given
            done = await self._transport.run(
                commands.allocate(self._options, name, PROBE_LIMIT, patience), seconds=patience + 60.0
            )
        number = commands.parse_granted((done.stderr + done.stdout).decode("utf-8", "replace"))
        if done.code != 0 or number is None:
            with suppress(HostFault):
                number = await self._queue.live_namesake(name, "")
                if number is not None:
                    await self._queue.run(commands.cancel(self._options, number, name))
            yield f"no compute node could be asked within {patience:g} s ({_of_salloc(done)})"
            return
        try:
            yield NodeTransport(self._transport, self._options, number)
        finally:
            with suppress(HostFault):
                await self._queue.run(commands.cancel(self._options, number, name))

    async def check_shared(self, node: NodeTransport, directory: str) -> None:
        """Raises HostFault unless ``node`` sees ``directory`` as it is here."""
        token = secrets.token_hex(8)
        path = f"{directory}/shared-{token}"
        await self._transport.put(path, token.encode())
        try:
            seen = await node.run(["sh", "-c", 'cat "$1" && echo "$1" >"$1.back"', "sh", path])
            if seen.code == 0 and seen.stdout.decode("utf-8", "replace").strip() == token:
                back = await self._transport.run(["cat", f"{path}.back"])
                if back.code == 0:
                    return
            raise HostFault(
                f"{self.name}: a compute node does not see {directory} as it is here ({seen.complaint})",
                "name a directory on a file system that the nodes share: [[hosts]] directory = ...",
            )
        finally:
            await self._transport.run(["rm", "-f", path, f"{path}.back"])

    async def close(self) -> None:
        """Leave everything running."""
        if self._launcher is not None:
            await self._launcher.close()
        await self._queue.close()
        await self._files.close()
        await self._transport.close()

    # --- as a host ----------------------------------------------------------------------------------

    @property
    def _opened(self) -> SlurmLauncher:
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

    def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        return self._follow(directory, offset)

    async def _follow(self, directory: str, offset: int) -> AsyncGenerator[FollowItem, None]:
        attempt = ScheduledAttempt(self._transport, self._opened, self._clock, directory, self._settle)
        async with aclosing(attempt.follow(offset)) as items:
            async for item in items:
                if isinstance(item, Lost):
                    await self._opened.clear(directory)
                yield item

    async def stage(self, directory: str, archive: str, links: Mapping[str, str]) -> None:
        await self._files.stage(directory, archive, links)

    async def read(self, directory: str, pattern: str, limit: int) -> dict[str, bytes]:
        return await self._files.read(directory, pattern, limit)

    async def remove(self, directory: str) -> None:
        await self._files.remove(directory)


class NodeTransport:
    """Commands on a compute node, from inside an allocation. Only ``run``: files are shared."""

    def __init__(self, transport: Transport, options: SlurmOptions, number: str) -> None:
        self._transport = transport
        self._options = options
        self._number = number

    async def run(self, argv: Sequence[str], *, input: bytes = b"", seconds: float = 30.0) -> Completed:
        """As ``Transport.run``."""
        beside = commands.run_beside(self._options, self._number, argv)
        return await self._transport.run(beside, input=input, seconds=seconds + 30.0)


def _of_salloc(done: Completed) -> str:
    """The last thing that salloc said: the first is that it waits."""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    last = lines[-1].strip() if lines else f"exit status {done.code}"
    return last.removeprefix("salloc: ").removeprefix("error: ")
