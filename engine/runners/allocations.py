"""What trials run on: groups of CUDA devices by UUID, or sets of CPU cores.

Devices come from ``nvidia-smi --query-gpu`` (its CSV, one line a device). A machine partitioned by MIG
shows its whole devices here, not its instances.
"""

from __future__ import annotations

import csv
import functools
import os
import platform
import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from engine.errors import HostFault
from engine.types import Allocation, Device

NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=uuid,index,name,memory.total,driver_version",
    "--format=csv,noheader,nounits",
)


def parse_devices(text: str) -> tuple[Device, ...]:
    """The devices in the output of NVIDIA_SMI, by index. Memory that it does not know counts as 0."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        # A line that is no device is a warning ("No devices were found", a failing card).
        if len(row) == 5 and row[0].startswith("GPU-") and row[1].strip().isdigit():
            uuid, index, name, memory, driver = (field.strip() for field in row)
            found.append(Device(uuid, int(index), name, int(memory) if memory.isdigit() else 0, driver))
    return tuple(sorted(found, key=lambda device: device.index))


def visible_devices(devices: Sequence[Device], setting: str | None) -> tuple[Device, ...]:
    """Those that ``CUDA_VISIBLE_DEVICES`` of the engine's own environment leaves, in its order.

    As CUDA reads it: indices or beginnings of UUIDs, up to the first that names no device; None is all.
    """
    if setting is None:
        return tuple(devices)
    chosen: list[Device] = []
    for word in setting.split(","):
        word = word.strip()
        matches = [
            device
            for device in devices
            if (str(device.index) == word if word.isdigit() else word and device.uuid.startswith(word))
        ]
        if len(matches) != 1 or matches[0] in chosen:
            break
        chosen.append(matches[0])
    return tuple(chosen)


def allocation_environment(allocation: Allocation) -> dict[str, str]:
    """The variables by which common software keeps to ``allocation``."""
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(allocation.devices)}
    if allocation.cpus:
        # Libraries count the machine's cores, not the set they may use: each would start a thread a core.
        threads = str(len(allocation.cpus))
        names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB", "RAYON")
        environment |= {f"{name}_NUM_THREADS": threads for name in names}
    if allocation.port:
        # torch.distributed's default port is the same for every trial of a machine.
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(allocation.port)}
    return environment


def device_slots(host: str, devices: Sequence[Device], gpus: int) -> tuple[Allocation, ...]:
    """Groups of ``gpus`` devices each, in order; what is left over stays unused."""
    groups = [devices[at : at + gpus] for at in range(0, len(devices) - gpus + 1, gpus)]
    return tuple(
        Allocation(
            host=host,
            slot=",".join(f"gpu{device.index}" for device in group),
            devices=tuple(device.uuid for device in group),
            hardware=device_fingerprint(group),
        )
        for group in groups
    )


def device_fingerprint(group: Sequence[Device]) -> str:
    """Kind, count and driver: scores are comparable within it."""
    names = sorted({device.name for device in group})
    drivers = sorted({device.driver for device in group if device.driver})
    driver = f", driver {'+'.join(drivers)}" if drivers else ""
    return f"{' + '.join(names)} x {len(group)}{driver}"


def cpu_slots(host: str, cpus: Sequence[int], slots: int) -> tuple[Allocation, ...]:
    """``slots`` equal sets of cores; siblings of one physical core stay together, a remainder is unused.

    More slots than cores share them, one core a slot: slower each, and so a hardware of its own.
    """
    cores = sorted(cpus, key=_physical_place)
    each = len(cores) // slots
    if each == 0:
        hardware = f"{cpu_model()} x 1 of {len(cores)} cores for {slots} slots, {platform.machine()}"
        return tuple(
            Allocation(host, f"cpu{n}", cpus=(cores[n % len(cores)],), hardware=hardware) for n in range(slots)
        )
    hardware = f"{cpu_model()} x {each} cores, {platform.system()} {platform.machine()}"
    return tuple(
        Allocation(host, f"cpu{n}", cpus=tuple(sorted(cores[n * each : (n + 1) * each])), hardware=hardware)
        for n in range(slots)
    )


def _physical_place(cpu: int) -> tuple[int, int, int]:
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        package, core = (int((topology / name).read_text()) for name in ("physical_package_id", "core_id"))
    except (OSError, ValueError):
        package, core = 0, cpu
    return package, core, cpu


@functools.cache
def cpu_model() -> str:
    """The processor's own name, or its architecture where it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): " ".join(value.split()) for key, value in values.items()}
    return named.get("model name") or named.get("Model") or platform.machine()


class Allocations:
    """Who runs where. ``lock_directory`` shows devices other engines hold.

    Slots do not overlap, unless there are more of them than cores; then only their names keep them apart.
    """

    def __init__(self, slots: Sequence[Allocation], lock_directory: str = "") -> None:
        self._slots = tuple(slots)
        self._locks = lock_directory
        self._taken: dict[int, Allocation] = {}
        parts = [part for slot in self._slots for part in (*slot.devices, *slot.cpus)]
        self._shared = len(set(parts)) < len(parts)
        self._names = {slot.slot for slot in self._slots}

    @property
    def capacity(self) -> int:
        return len(self._slots)

    def acquire(self, attempt: int) -> Allocation | None:
        """A free slot with a free port, or None; asking again gives the same."""
        if attempt in self._taken:
            return self._taken[attempt]
        foreign = self._locked_devices()
        names = {other.slot for other in self._taken.values()}
        # Slots do not overlap one another: only what was adopted in another shape can, and that is rare.
        strange = [other for other in self._taken.values() if other.slot not in self._names]
        for slot in self._slots:
            if slot.slot in names or (not self._shared and any(_overlap(slot, other) for other in strange)):
                continue
            if foreign.isdisjoint(slot.devices):
                port = free_port({other.port for other in self._taken.values()})
                self._taken[attempt] = Allocation(
                    slot.host, slot.slot, slot.devices, slot.cpus, port, slot.hardware
                )
                return self._taken[attempt]
        return None

    def adopt(self, attempt: int, allocation: Allocation) -> None:
        self._taken[attempt] = allocation

    def release(self, attempt: int) -> None:
        self._taken.pop(attempt, None)

    def _locked_devices(self) -> set[str]:
        """Devices that a job of any user or project holds now, ours included.

        Only a hint that saves a launch: the lock itself is taken by the job. Read from /proc/locks, since
        trying the lock would for a moment hold it and turn another job away.
        """
        devices = {device for slot in self._slots for device in slot.devices}
        if not devices or not self._locks:
            return set()
        try:
            lines = Path("/proc/locks").read_text().splitlines()
        except OSError:
            return set()
        held = {fields[5] for line in lines if len(fields := line.split()) == 8 and fields[1] == "FLOCK"}
        return {device for device in devices if _lock_identity(lock_path(self._locks, device)) in held}


def lock_path(lock_directory: str, device: str) -> str:
    """What guards a device on its machine, against all users and projects: a directory to flock."""
    return f"{lock_directory}/{re.sub(r'[^A-Za-z0-9-]', '_', device)}"


def _lock_identity(path: str) -> str:
    """A file as /proc/locks names it."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ""
    return f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"


def _overlap(one: Allocation, other: Allocation) -> bool:
    return not (set(one.devices).isdisjoint(other.devices) and set(one.cpus).isdisjoint(other.cpus))


def free_port(taken: set[int]) -> int:
    """A TCP port nobody listens on now, and not one of ``taken``."""
    with ExitStack() as open_sockets:  # all stay open until one fits: the kernel then gives another
        while True:
            probe = open_sockets.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port not in taken:
                return port


def slots_for(
    host: str, devices: Sequence[Device], gpus: int, slots: int | None, cpus: Sequence[int]
) -> tuple[Allocation, ...]:
    """All slots of a host whose trials ask for ``gpus`` devices each.

    One device asked for where there is none falls to the processor (a laptop still turns the ratchet);
    more than are there is a fault. Processor slots: one by default, since trials that share a memory bus
    disturb each other's speed.
    """
    if gpus > max(len(devices), 1):
        raise HostFault(
            f"{host}: a trial asks for {gpus} GPUs and nvidia-smi shows {len(devices)}",
            "lower trial.gpus, or use a host that has them",
        )
    if gpus and devices:
        groups = device_slots(host, devices, gpus)
        return groups if slots is None else groups[:slots]
    return cpu_slots(host, cpus, slots or 1)
