"""A machine at the other end of an ssh connection as a Host. All paths are that machine's."""

from __future__ import annotations

import asyncio
import fnmatch
import functools
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import sandbox
from engine.clock import Clock
from engine.errors import HostFault, StorageFull
from engine.runners.allocations import device_slots
from engine.runners.direct import MOST_BYTES_READ, MOST_FILES_READ, DirectHost, glob_parts, link_parts
from engine.runners.launcher import LOCK_DIRECTORY
from engine.runners.ssh import SshTransport
from engine.runners.ssh_link import escape
from engine.runners.transport import Completed, no_space
from engine.types import Allocation

STAGE_SECONDS = 600.0
LIST_BYTES = 4 << 20  # of names: a candidate may make millions of files
FETCH_NAMES_BYTES = 16 << 10  # of names at a time, as they travel in a command line of 128 KiB at most
LONGEST_NAME_BYTES = 4095  # of what any program could open
LEAST_FREE_BYTES = 64 << 20


@functools.cache
def remote_script() -> str:
    """The text of remote.sh."""
    return Path(__file__).with_name("remote.sh").read_text()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine says of itself. ``cpus`` are those allowed, siblings of one physical core together."""

    root: str
    boot: str
    machine: str
    kind: str  # system and architecture
    model: str
    cpus: tuple[int, ...]
    free_bytes: int
    clock_offset: float  # seconds its wall clock is ahead of ours, to about one
    nvidia_smi: bool
    visible: str | None  # CUDA_VISIBLE_DEVICES there
    missing: tuple[str, ...]  # commands that we need


class RemoteHost(DirectHost):
    """Trials on the machine of ``transport``, under ``directory`` there (``~`` is its home).

    ``gpus_per_trial``, ``slots``, ``cpus``, ``lock_directory`` and ``trials_per_device`` as for LocalHost.
    """

    def __init__(
        self,
        name: str,
        transport: SshTransport,
        directory: str,
        clock: Clock,
        gpus_per_trial: int = 1,
        slots: int | None = None,
        cpus: Sequence[int] | None = None,
        lock_directory: str = LOCK_DIRECTORY,
        trials_per_device: int = 1,
    ) -> None:
        super().__init__(name, transport, clock, lock_directory)
        self._ssh = transport
        self._asked_for = directory
        self._gpus = gpus_per_trial
        self._slots = slots
        self._cpus = cpus
        self._shares = trials_per_device
        self._facts: Facts | None = None
        self._sending: dict[str, asyncio.Lock] = {}
        self._sums: dict[tuple[str, int, int], str] = {}

    @property
    def facts(self) -> Facts:
        if self._facts is None:
            raise HostFault(f"{self.name} was not opened")
        return self._facts

    @property
    def directory(self) -> str:
        """Where trials go there, absolute."""
        return self.facts.root

    async def open(self) -> None:
        await self._ssh.connect()
        self._facts = facts = await self._probe()
        if facts.missing:
            raise HostFault(
                f"{self.name}: {', '.join(facts.missing)} not found there", "install them, or mend PATH for ssh"
            )
        if facts.free_bytes < LEAST_FREE_BYTES:
            raise HostFault(f"{self.name}: {facts.root} has hardly any room left", "free some space on that disk")
        if facts.nvidia_smi:
            self._devices = await self._find_devices(facts.visible)
        containment = await sandbox.climb(self._clock, sandbox.LADDER, self._ssh)
        await self._ready(self._make_slots(facts), containment)

    async def _probe(self) -> Facts:
        done = await self._ask("probe", self._asked_for, seconds=120.0)
        if done.code != 0:
            raise HostFault(
                f"{self.name}: cannot make {self._asked_for}: {done.complaint}",
                "name a directory that you may write to there",
            )
        pairs = (item.partition("=") for item in done.stdout.decode("utf-8", "surrogateescape").split("\0"))
        return parse_facts({key: value for key, _, value in pairs}, self._clock.now())

    def _make_slots(self, facts: Facts) -> tuple[Allocation, ...]:
        """As ``allocations.slots_for`` does for this machine; only ``cpu_slots`` asks this machine's processor."""
        if self._gpus > max(len(self._devices), 1):
            raise HostFault(
                f"{self.name}: a trial asks for {self._gpus} GPUs and nvidia-smi shows {len(self._devices)}",
                "lower trial.gpus, or use a host that has them",
            )
        if self._gpus and self._devices:
            return device_slots(self.name, self._devices, self._gpus, self._shares)[: self._slots]
        cores = [cpu for cpu in facts.cpus if self._cpus is None or cpu in self._cpus]
        return processor_slots(self.name, facts, cores, self._slots or 1)

    # --- files ------------------------------------------------------------------------------------

    async def stage(self, directory: str, archive: str, links: Mapping[str, str]) -> None:
        """As the contract says; a link's target may begin with ``~/``, and one that is not there is left out."""
        words: list[str] = []
        for place, target in links.items():
            where, parts = link_parts(place, f"/{target}" if target.startswith("~/") else target)
            words += [where, "/".join(parts), target]
        local = Path(archive)
        total = await asyncio.to_thread(self._sum, local)
        cached = f"{self.directory}/cache/{total}.tar"
        for _ in range(3):
            done = await self._ask("stage", directory, cached, *words, seconds=STAGE_SECONDS)
            self._check(done, f"cannot unpack {archive} into {directory}")
            if done.stdout.strip() != b"absent":
                return
            # Once, however many trials wait for it.
            async with self._sending.setdefault(total, asyncio.Lock()):
                if (await self._ssh.run(["test", "-f", cached])).code == 0:
                    continue
                size = str(local.stat().st_size)
                sent = await self._ask("receive", cached, size, total, stdin=local, seconds=STAGE_SECONDS)
                self._check(sent, f"cannot send {archive}")
        raise HostFault(f"{self.name}: {cached} vanishes", "see what deletes files there")

    def _sum(self, archive: Path) -> str:
        seen = archive.stat()
        key = (str(archive), seen.st_size, seen.st_mtime_ns)
        if key not in self._sums:
            with archive.open("rb") as file:
                self._sums[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._sums[key]

    async def read(self, directory: str, pattern: str, limit: int) -> dict[str, bytes]:
        """As the contract says; at most MOST_FILES_READ files and MOST_BYTES_READ, in the order of their names."""
        parts = glob_parts(pattern)
        depth = "" if "**" in parts else str(len(parts))
        listed = await self._ask("list", directory, depth, str(LIST_BYTES))
        self._check(listed, f"cannot list {directory}")
        # What comes after the last NUL is nothing, or a name that was cut.
        listing = [name for name in listed.stdout.split(b"\0")[:-1] if len(name) <= LONGEST_NAME_BYTES]
        names = [name.decode("utf-8", "surrogateescape") for name in listing]
        paths = sorted(tuple(name.removeprefix("./").split("/")) for name in names)
        wanted = ["/".join(path) for path in paths if matches(path, parts)][:MOST_FILES_READ]
        found: dict[str, bytes] = {}
        while wanted:
            batch, size = [wanted.pop(0)], 0
            while wanted and (size := size + len(escape(shlex.quote(batch[-1])))) < FETCH_NAMES_BYTES:
                batch.append(wanted.pop(0))
            found |= await self._fetch(directory, batch, limit, MOST_BYTES_READ - sum(map(len, found.values())))
        return found

    async def _fetch(self, directory: str, names: Sequence[str], limit: int, total: int) -> dict[str, bytes]:
        done = await self._ask("fetch", directory, str(limit), str(total), *names, seconds=STAGE_SECONDS)
        self._check(done, f"cannot read {directory}")
        found, rest = {}, done.stdout
        while rest:
            header, _, rest = rest.partition(b"\n")
            number, size, digest = header.split()
            data, rest = rest[: int(size)], rest[int(size) :]
            if hashlib.sha256(data).hexdigest() != digest.decode():
                raise HostFault(f"{self.name}: {names[int(number) - 1]} of {directory} arrived damaged")
            found[names[int(number) - 1]] = data
        return found

    async def remove(self, directory: str) -> None:
        done = await self._ask("remove", directory, seconds=STAGE_SECONDS)
        self._check(done, f"cannot delete {directory}")

    async def _ask(self, request: str, *words: str, stdin: bytes | Path = b"", seconds: float = 60.0) -> Completed:
        given = " ".join(map(shlex.quote, (request, *words)))
        return await self._ssh.exec(f"set -- {given}\n{remote_script()}", stdin=stdin, seconds=seconds)

    def _check(self, done: Completed, what: str) -> None:
        if done.code == 0:
            return
        if no_space(done.stderr.decode("utf-8", "replace")):
            raise StorageFull(f"{self.name}: {what}: no room there", "free some space on that disk")
        raise HostFault(f"{self.name}: {what}: {done.complaint}")


def parse_facts(said: Mapping[str, str], now: float) -> Facts:
    """From the lines of ``remote.sh probe``. ``now``: our own clock when they came."""
    places = {}
    for line in said.get("places", "").splitlines():
        cpu, package, core = map(int, line.split())
        places[cpu] = (package, core, cpu)
    cpus = parse_cpus(said.get("allowed", ""))
    return Facts(
        root=said["root"],
        boot=said.get("boot", ""),
        machine=said.get("machine", ""),
        kind=said.get("kind", ""),
        model=" ".join(said.get("model", "").split()),
        cpus=tuple(sorted(cpus, key=lambda cpu: places.get(cpu, (0, cpu, cpu)))),
        free_bytes=int(said["free"]) if said.get("free", "").isdigit() else LEAST_FREE_BYTES,
        clock_offset=float(said.get("now", now)) - now,
        nvidia_smi=bool(said.get("nvidia_smi")),
        visible=said.get("visible"),
        missing=tuple(said.get("missing", "").split()),
    )


def parse_cpus(text: str) -> list[int]:
    """``0-3,8`` as the kernel writes sets of cores."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found or [0]


def processor_slots(host: str, facts: Facts, cores: Sequence[int], slots: int) -> tuple[Allocation, ...]:
    """``slots`` equal sets of ``cores``; more slots than cores share them, one core a slot."""
    each = len(cores) // slots
    architecture = facts.kind.rpartition(" ")[2]
    model = facts.model or architecture
    if each == 0:
        hardware = f"{model} x 1 of {len(cores)} cores for {slots} slots, {architecture}"
        return tuple(
            Allocation(host, f"cpu{n}", cpus=(cores[n % len(cores)],), hardware=hardware) for n in range(slots)
        )
    hardware = f"{model} x {each} cores, {facts.kind}"
    return tuple(
        Allocation(host, f"cpu{n}", cpus=tuple(sorted(cores[n * each : (n + 1) * each])), hardware=hardware)
        for n in range(slots)
    )


def matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a file's path fits a glob; ``**`` is any directories, and all below them where it is last."""
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return matches(path, rest or ("*",)) or (len(path) > 1 and matches(path[1:], pattern))
    if not fnmatch.fnmatchcase(path[0], first):
        return False
    return matches(path[1:], rest) if rest and len(path) > 1 else not rest and len(path) == 1
