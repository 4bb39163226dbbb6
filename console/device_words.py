"""What a device's reading says, in words: how busy, how hot, what holds its clocks down. Pure.

Readings come from recordings of strangers too: whatever has not the expected type is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console.formats import duration
from console.plain_text import clean

OLD_SECONDS = 15.0
GRAVE = ("thermal", "power brake", "hardware slowdown")  # the device is slower than it could be
MOST_REASONS = 3


def throttled(data: Mapping[str, Any]) -> tuple[str, bool]:
    """What holds the clocks down, '' for nothing that matters, and whether a person should do something about it.

    That a device rests is no news.
    """
    found = data.get("throttle")
    words = [clean(word) for word in found if isinstance(word, str)] if isinstance(found, list | tuple) else []
    words = [word for word in words if word != "idle"][:MOST_REASONS]
    return ", ".join(words), any(word in GRAVE for word in words)


def told(data: Mapping[str, Any], age: float) -> str:
    """One line: ``97 % busy, 68.4/80 GB, 612 W, 61 C, 1755 MHz, held down: power cap``."""
    parts = []
    if (busy := _number(data, "utilisation")) is not None:
        parts.append(f"{busy:.0f} % busy")
    used, total = _number(data, "memory_used_mb"), _number(data, "memory_total_mb")
    if used is not None and total:
        parts.append(f"{used / 1024:.1f}/{total / 1024:.0f} GB")
    for name, unit in (("power_w", "W"), ("temperature_c", "C"), ("clock_mhz", "MHz")):
        if (value := _number(data, name)) is not None:
            parts.append(f"{value:.0f} {unit}")
    if words := throttled(data)[0]:
        parts.append(f"clocks held down: {words}")
    if foreign := _number(data, "foreign"):
        parts.append(f"{foreign:.0f} {'process' if foreign == 1 else 'processes'} not ours")
    if age > OLD_SECONDS:
        parts.append(f"{duration(age)} ago")
    return ", ".join(parts) or "it says nothing of itself"


def _number(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if ok else None  # type: ignore[arg-type]
