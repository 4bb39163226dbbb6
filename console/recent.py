"""How busy each device was in the last minutes, as far as somebody looked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.store.rows import ReadingRow

SAMPLE_SECONDS = 5.0
SAMPLES = 60  # five minutes


@dataclass(slots=True)
class Recent:
    """Utilisation of the last minutes by (host, device), one value for each SAMPLE_SECONDS."""

    values: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)

    def note(self, readings: Sequence[ReadingRow]) -> None:
        for row in readings:
            busy = row.data.get("utilisation")
            if not isinstance(busy, int | float) or not (abs(busy) < 1e12 and abs(row.at) < 1e12):
                continue
            slot = int(row.at // SAMPLE_SECONDS)
            kept = self.values.setdefault((row.host, row.device), {})
            kept[slot] = max(busy, kept.get(slot, 0.0)) if slot in kept else busy
            for old in [at for at in kept if at <= slot - SAMPLES]:
                del kept[old]

    def line(self, key: tuple[str, str], now: float) -> list[float | None]:
        kept, last = self.values.get(key, {}), int(now // SAMPLE_SECONDS)
        return [kept.get(slot) for slot in range(last - SAMPLES + 1, last + 1)]
