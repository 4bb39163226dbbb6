"""What ``nvidia-smi`` is asked, and what its lines mean. Pure.

Fields: NVIDIA, "nvidia-smi --help-query-gpu"; the bits of the last one: NVML, "nvmlClocksEventReasons".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite

from engine.types import Reading

# power.draw is the mean of the last second on devices since Ampere; before, what was drawn just then.
BASIC = "uuid,name,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu"
# A driver refuses a whole query for one field that it does not know: the next one is asked then.
QUERIES = (
    f"{BASIC},clocks.sm,clocks_event_reasons.active",
    f"{BASIC},clocks.sm,clocks_throttle_reasons.active",  # its name before driver 535
    BASIC,
)
FORMAT = "--format=csv,noheader,nounits"
THERMAL, BRAKE, SLOWDOWN, POWER_CAP, IDLE = "thermal", "power brake", "hardware slowdown", "power cap", "idle"
# What makes a device slower than it was a minute ago. A power cap does not: large devices run at theirs.
HELD_DOWN = frozenset((THERMAL, BRAKE, SLOWDOWN))
_REASONS = (
    (0x40, THERMAL),
    (0x20, THERMAL),
    (0x80, BRAKE),
    (0x8, SLOWDOWN),
    (0x4, POWER_CAP),
    (0x10, "sync boost"),
    (0x2, "clocks set"),
    (0x100, "display clocks"),
    (0x1, IDLE),
)
_UNKNOWN = 1 << 63  # NVML's own word for it
_UUID = ("GPU-", "MIG-")


def refused(said: str) -> bool:
    """Whether ``nvidia-smi`` ended because it does not know a field that it was asked for."""
    return "not a valid field" in said


def parse_reading(line: bytes, host: str, at: float) -> Reading | None:
    """One CSV line of one of ``QUERIES``; None when it is none (an error message, a torn line).

    ``[N/A]``, ``[Not Supported]`` and the like are None: unknown, which is not zero.
    """
    fields = [field.strip() for field in line.decode("utf-8", "replace").split(",")]
    if len(fields) not in (7, 9) or not fields[0].startswith(_UUID):
        return None
    utilisation, used, total, power, temperature = (_quantity(field) for field in fields[2:7])
    return Reading(
        host=host,
        device=fields[0],
        name=fields[1],
        at=at,
        utilisation=utilisation,
        memory_used_mb=used,
        memory_total_mb=total,
        power_w=power,
        temperature_c=temperature,
        clock_mhz=_quantity(fields[7]) if fields[7:] else None,
        throttle=reasons(fields[8]) if fields[7:] else None,
    )


def reasons(mask: str) -> tuple[str, ...] | None:
    """A bit mask in hexadecimal -> what holds the clocks down, the gravest first; None: not known."""
    found = re.fullmatch(r"0x[0-9a-fA-F]{1,16}", mask)
    if found is None or (bits := int(mask, 16)) & _UNKNOWN:
        return None
    if bits & 0xE0:
        bits &= ~0x8  # says no more than the others, which say why
    return tuple(dict.fromkeys(word for bit, word in _REASONS if bits & bit))


def count_foreign(output: bytes, ours: Callable[[int], bool]) -> dict[str, int]:
    """``gpu_uuid, pid`` lines -> processes that are not ours, by device."""
    seen: set[tuple[str, int]] = set()  # a process with two contexts is listed twice
    for line in output.decode("utf-8", "replace").splitlines():
        uuid, _, pid = line.partition(",")
        if uuid.startswith(_UUID) and pid.strip().isdecimal() and not ours(int(pid)):
            seen.add((uuid.strip(), int(pid)))
    counts: dict[str, int] = {}
    for uuid, _ in seen:
        counts[uuid] = counts.get(uuid, 0) + 1
    return counts


def _quantity(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if isfinite(value) else None
