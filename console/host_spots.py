"""What stands in the table of hosts, in its order: hosts, their devices, and the trials that share one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from console import host_words
from console.page_sources import Machines
from engine.store.reading_screens import BusyRow
from engine.store.rows import ReadingRow


@dataclass(frozen=True, slots=True)
class Device:
    """``reading`` None: nothing is known of it but what runs there."""

    host: str
    device: str
    reading: ReadingRow | None
    busy: tuple[BusyRow, ...]


class Place(NamedTuple):
    """What the cursor stands on, by name: rows come and go. ``device`` '': the host; ``trial`` 0: no trial."""

    host: str
    device: str = ""
    trial: int = 0


@dataclass(frozen=True, slots=True)
class Spot:
    """A place with what is shown there; without device and trial it is a host's head."""

    place: Place
    device: Device | None = None
    trial: BusyRow | None = None


@dataclass(frozen=True, slots=True)
class Folds:
    """``every``: hosts show their head only; but not those of ``others``."""

    every: bool = False
    others: frozenset[str] = frozenset()

    def folded(self, host: str) -> bool:
        return self.every != (host in self.others)


def devices(of: Machines) -> list[Device]:
    """By host, the host's devices by name; a trial without devices stands at its host's CPU."""
    readings = {(row.host, row.device): row for row in of.readings}
    running: dict[tuple[str, str], list[BusyRow]] = {}
    for one in of.busy:
        for device in one.devices or ("cpu",):
            running.setdefault((one.host, device), []).append(one)
    order = {key: i for i, key in enumerate(host_words.device_names(of.hosts))}
    keys = sorted(
        {*readings, *running}, key=lambda key: (key[0], key[1] == "cpu", order.get(key, len(order)), key[1])
    )
    return [Device(*key, readings.get(key), tuple(running.get(key, ()))) for key in keys]


def spots(of: Machines, folds: Folds, now: float) -> list[Spot]:
    """In the order of the screen: troubled hosts first, the others as ratchet.toml names them, then any more."""
    by_host: dict[str, list[Device]] = {}
    for device in devices(of):
        by_host.setdefault(device.host, []).append(device)
    names = [row.name for row in host_words.ranked(of.hosts, of.aside, now)]
    names += [name for name in by_host if name not in set(names)]
    found = []
    for name in names:
        found.append(Spot(Place(name)))
        if folds.folded(name):
            continue
        for device in by_host.get(name, ()):
            found.append(Spot(Place(name, device.device), device))
            if device.device == "cpu":  # its trials share it
                found += [
                    Spot(Place(name, "cpu", one.trial), device, one) for one in sorted(device.busy, key=_turn)
                ]
    return found


def _turn(one: BusyRow) -> tuple[bool, bool, int, str]:
    """What is unknown first, then what runs; slots by their numbers."""
    return one.attempt != "unknown", one.state != "running", len(one.slot), one.slot


def index(found: Sequence[Spot], at: Place | None) -> int:
    """Where ``at`` is; where it is gone, the nearest thing that is still there."""
    if at is None:
        return 0
    for place in (at, Place(at.host, at.device), Place(at.host)):
        for i, spot in enumerate(found):
            if spot.place == place:
                return i
    return 0
