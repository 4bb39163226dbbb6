"""How busy a machine's processor and memory are, from /proc: the reading where there is no GPU."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.types import Reading


@dataclass(slots=True)
class CpuMeter:
    """Utilisation of all cores between two readings, and memory in use, from /proc."""

    proc: Path
    host: str
    _busy: float = 0.0
    _total: float = 0.0
    _name: str = ""

    def read(self, at: float) -> Reading | None:
        """None where there is no /proc. The first reading has no utilisation: nothing to compare with."""
        try:
            stat, meminfo = (self.proc / "stat").read_text(), (self.proc / "meminfo").read_text()
        except OSError:
            return None
        self._name = self._name or _cpu_name(self.proc / "cpuinfo")
        return self.take(stat, meminfo, self._name, at)

    def take(self, stat: str, meminfo: str, name: str, at: float) -> Reading | None:
        """From the text of the two files, wherever they were read."""
        try:
            busy, total = _cpu_times(stat)
            used, whole = _memory(meminfo)
        except (ValueError, IndexError):
            return None
        spent = total - self._total
        utilisation = None
        if self._total and spent > 0:
            utilisation = min(max(100.0 * (busy - self._busy) / spent, 0.0), 100.0)
        self._busy, self._total = busy, total
        return Reading(self.host, "cpu", name, at, utilisation, used, whole)


def _cpu_times(stat: str) -> tuple[float, float]:
    """Busy and total jiffies of all cores; waiting for disks is not busy. Guest time is within user's."""
    times = [float(x) for x in stat.split("\n", 1)[0].split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def _memory(meminfo: str) -> tuple[float, float]:
    """Used and total megabytes; page cache that can be given back counts as free."""
    kb = {
        key: float(rest.split()[0])
        for key, _, rest in (line.partition(":") for line in meminfo.splitlines())
        if key in ("MemTotal", "MemAvailable")
    }
    if len(kb) != 2:
        raise ValueError("no MemTotal or MemAvailable")
    return (kb["MemTotal"] - kb["MemAvailable"]) / 1024, kb["MemTotal"] / 1024


def _cpu_name(cpuinfo: Path) -> str:
    with suppress(OSError):
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    return os.uname().machine
