"""What trials run on: groups of CUDA devices by UUID, or sets of CPU cores.

Devices come from ``nvidia-smi --query-gpu`` (its CSV, one line a device). A machine partitioned by MIG
shows its whole devices here, not its instances.
"""

from __future__ import annotations

import csv
import functools
import platform
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
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


def device_slots(host: str, devices: Sequence[Device], gpus: int, shares: int = 1) -> tuple[Allocation, ...]:
    """Groups of ``gpus`` devices each, in order; what is left over stays unused.

    ``shares`` trials on each group: slots ``gpu0.1`` and ``gpu0.2``, of a hardware of its own, for a neighbour
    takes time and memory. One device's shares follow one another, so that they are taken together: a trial
    that happened to be alone would be faster than those that it is compared with.
    """
    groups = [devices[at : at + gpus] for at in range(0, len(devices) - gpus + 1, gpus)]
    return tuple(
        Allocation(
            host=host,
            slot=",".join(f"gpu{device.index}" for device in group) + (f".{share}" if share else ""),
            devices=tuple(device.uuid for device in group),
            hardware=device_fingerprint(group) + (f", 1 of {shares} sharing" if share else ""),
            share=share,
            shares=shares,
        )
        for group in groups
        for share in (range(1, shares + 1) if shares > 1 else (0,))
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
    """Who runs where. ``locked`` says of a slot whether a device of it is held by a job of any user or project,
    ours included: a hint that saves a launch, for the lock itself is taken by the job.

    Slots do not overlap, unless there are more of them than cores; then only their names keep them apart.
    """

    def __init__(self, slots: Sequence[Allocation], locked: Callable[[Allocation], bool] | None = None) -> None:
        self._slots = tuple(slots)
        self._locked = locked or (lambda slot: False)
        self._taken: dict[int, Allocation] = {}
        cores = [cpu for slot in self._slots for cpu in slot.cpus]
        self._crowded = len(set(cores)) < len(cores)
        self._shapes = {(slot.slot, slot.shares) for slot in self._slots}

    @property
    def capacity(self) -> int:
        return len(self._slots)

    @property
    def kinds(self) -> Counter[str]:
        """Slots by kind of hardware, free or not."""
        return Counter(slot.hardware for slot in self._slots)

    def acquire(self, attempt: int) -> Allocation | None:
        """A free slot with a free port, or None; asking again gives the same."""
        if attempt in self._taken:
            return self._taken[attempt]
        names = {other.slot for other in self._taken.values()}
        # Slots do not overlap one another: only what was adopted in another shape can, and that is rare.
        strange = [o for o in self._taken.values() if (o.slot, o.shares) not in self._shapes]
        for slot in self._slots:
            if slot.slot in names or (not self._crowded and any(_overlap(slot, other) for other in strange)):
                continue
            if not self._locked(slot):
                port = free_port({other.port for other in self._taken.values()})
                self._taken[attempt] = replace(slot, port=port)
                return self._taken[attempt]
        return None

    def adopt(self, attempt: int, allocation: Allocation) -> None:
        self._taken[attempt] = allocation

    def release(self, attempt: int) -> None:
        self._taken.pop(attempt, None)


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
    host: str, devices: Sequence[Device], gpus: int, slots: int | None, cpus: Sequence[int], shares: int = 1
) -> tuple[Allocation, ...]:
    """All slots of a host whose trials ask for ``gpus`` devices each, ``shares`` trials on the same ones.

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
        groups = device_slots(host, devices, gpus, shares)
        return groups if slots is None else groups[:slots]
    return cpu_slots(host, cpus, slots or 1)
