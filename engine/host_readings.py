"""Readings of a host that is elsewhere: every five seconds one command over its transport.

A transport has no endless commands, so nvidia-smi is asked anew each time; that costs its driver some tens of
milliseconds, a hundredth of a core.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

from engine.clock import Clock
from engine.errors import HostFault
from engine.runners.transport import Transport
from engine.telemetry import FORMAT, QUERY, CpuMeter, count_foreign, parse_reading
from engine.types import Reading

EVERY_SECONDS = 5.0
BACKOFF_SECONDS = (5.0, 60.0)
# Ours is what has an attempt's token in its environment, or in that of whoever started it.
LOOK = f"""
ours() {{
    p=$1
    while [ "$p" -gt 1 ] 2>/dev/null; do
        tr '\\0' '\\n' <"/proc/$p/environ" 2>/dev/null | grep -q '^RATCHET_ATTEMPT_TOKEN=' && return 0
        p=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$p/status" 2>/dev/null)
    done
    return 1
}}
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu={QUERY} {FORMAT}
    echo ---
    nvidia-smi --query-compute-apps=gpu_uuid,pid {FORMAT} | while IFS=', ' read -r u p; do
        ours "$p" || echo "$u, $p"
    done
else
    echo ---
fi 2>/dev/null
echo ---
head -n 1 /proc/stat
echo ---
grep -E '^Mem(Total|Available):' /proc/meminfo
echo ---
sed -n 's/^\\(model name\\|Model\\)[[:space:]]*: *//p' /proc/cpuinfo | head -n 1
"""


class DistantReadings:
    """As ``DeviceReadings``, of the machine at the end of ``transport``."""

    def __init__(self, clock: Clock, host: str, transport: Transport) -> None:
        self.trouble = ""
        self._clock = clock
        self._host = host
        self._transport = transport
        self._cpu = CpuMeter(Path("/proc"), host)

    async def batches(self) -> AsyncGenerator[list[Reading], None]:
        pause = BACKOFF_SECONDS[0]
        while True:
            try:
                done = await self._transport.run(["sh", "-c", LOOK], seconds=30.0)
            except HostFault as fault:
                self.trouble = fault.message
                await self._clock.sleep(pause)
                pause = min(2 * pause, BACKOFF_SECONDS[1])
                continue
            pause, self.trouble = BACKOFF_SECONDS[0], ""
            if found := self.parse(done.stdout):
                yield found
            await self._clock.sleep(EVERY_SECONDS)

    async def close(self) -> None:
        """Nothing is left running there."""

    def parse(self, output: bytes) -> list[Reading]:
        """The devices' readings, or the processor's where there are none; [] for what cannot be read."""
        parts = output.split(b"---\n")
        if len(parts) != 5:
            return []
        now = self._clock.now()
        devices = [r for line in parts[0].splitlines() if (r := parse_reading(line, self._host, now)) is not None]
        if devices:
            foreign = count_foreign(parts[1], lambda pid: False)
            return [replace(r, foreign=foreign.get(r.device, 0)) for r in devices]
        stat, memory, name = (part.decode("utf-8", "replace") for part in parts[2:])
        reading = self._cpu.take(stat, memory, name.strip(), now)
        return [reading] if reading else []
