"""Hosts and their devices: how busy they are, since when, with what, and who else is on them. Pure painters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from console.formats import bar, duration, fit, one_or_more, width_of
from console.page_sources import Machines
from console.plain_text import clean
from console.widgets.lines import Line, Span, two_sided
from console.widgets.page_parts import sparkline
from console.widgets.slot_table import STALE_SECONDS
from engine.store.reading import ReadingRow
from engine.store.reading_screens import BusyRow

WIDE = 132  # columns from which a device needs one line
SAMPLE_SECONDS = 5.0
SAMPLES = 60  # five minutes
_RUNS = re.compile("[· ]+|[^· ]+")


@dataclass(frozen=True, slots=True)
class Device:
    """``reading`` None: nothing is known of it but what runs there."""

    host: str
    device: str
    reading: ReadingRow | None
    busy: tuple[BusyRow, ...]


@dataclass(slots=True)
class Recent:
    """Utilisation of the last minutes by (host, device), one value for each SAMPLE_SECONDS."""

    values: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)

    def note(self, readings: Sequence[ReadingRow]) -> None:
        for row in readings:
            busy = _number(row.data.get("utilisation"))
            if busy is None or not abs(row.at) < 1e12:
                continue
            slot = int(row.at // SAMPLE_SECONDS)
            kept = self.values.setdefault((row.host, row.device), {})
            kept[slot] = max(busy, kept.get(slot, 0.0)) if slot in kept else busy
            for old in [at for at in kept if at <= slot - SAMPLES]:
                del kept[old]

    def line(self, key: tuple[str, str], now: float) -> list[float | None]:
        kept, last = self.values.get(key, {}), int(now // SAMPLE_SECONDS)
        return [kept.get(slot) for slot in range(last - SAMPLES + 1, last + 1)]


def devices(of: Machines) -> list[Device]:
    """By host, the host's devices by name; a trial without devices stands at its host's CPU."""
    readings = {(row.host, row.device): row for row in of.readings}
    running: dict[tuple[str, str], list[BusyRow]] = {}
    for one in of.busy:
        for device in one.devices or ("cpu",):
            running.setdefault((one.host, device), []).append(one)
    keys = sorted({*readings, *running}, key=lambda key: (key[0], key[1] == "cpu", key[1]))
    return [Device(*key, readings.get(key), tuple(running.get(key, ()))) for key in keys]


def body(of: Machines, recent: Recent, cursor: int, now: float, width: int, height: int) -> list[Line]:
    """Each host under its head, its devices below; the device under the cursor is always in sight."""
    lines: list[Line] = []
    first = last = 0
    host = None
    for i, device in enumerate(devices(of)):
        if device.host != host:
            host = device.host
            lines += ([Line(())] if lines else []) + [_host(of, host, now, width)]
        shown = _device(device, recent.line((device.host, device.device), now), now, width)
        if i == cursor:
            shown = [Line(one.spans, "cursor") for one in shown]
            first, last = len(lines), len(lines) + len(shown)
        lines += shown
    top = max(0, last - height) if last > height else 0
    if top and first <= 2:
        top = 0
    return lines[top : top + height]


def _host(of: Machines, host: str, now: float, width: int) -> Line:
    rows = [row for row in of.readings if row.host == host]
    trials = [one for one in of.busy if one.host == host]
    gpus = sum(row.device != "cpu" for row in rows)
    told = one_or_more(gpus, "GPU") if gpus else "CPU only" if rows else "no readings"
    told += f" · {one_or_more(len(trials), 'trial')}"
    wrapped = sorted({clean(one.containment) for one in trials if one.containment})
    right: list[Span] = [(f"in {', '.join(wrapped)} ", "faint")] if wrapped else []
    newest = max((row.at for row in rows), default=None)
    if newest is not None and now - newest > STALE_SECONDS:
        right.append((f"silent for {_aged(now - newest)} ", "warn"))
    return two_sided([(f" {clean(host) or '?'} ", "strong"), (told, "dim")], right, width, "quiet")


def _device(device: Device, recent: list[float | None], now: float, width: int) -> list[Line]:
    row = device.reading
    age = now - row.at if row is not None else 0.0
    stale = age > STALE_SECONDS
    wide = width >= WIDE
    name_width = 26 if width >= 100 else max(8, min(24, width - 52))
    named = clean(str(row.data.get("name") or device.device)) if row is not None else clean(device.device)
    spans: list[Span] = [("  ", ""), (fit(named, name_width) + " ", "faint" if stale else "")]
    spans += _measures(row, stale)
    if row is not None and stale:
        spans.append((f"  {_aged(age)} old", "warn"))
    foreign = _number(row.data.get("foreign")) if row is not None else None
    second: list[Span] = [("  ", "")] if not wide else []
    points = sparkline(recent, min(SAMPLES, width // 3) if not wide else 30)
    second += [(part, "faint" if stale or part[0] in "· " else "good") for part in _RUNS.findall(points)]
    second.append(("  ", ""))
    second += _work(device.busy, now)
    if foreign and not stale:
        others = "1 process" if foreign == 1 else f"{int(foreign)} processes"
        second.append((f"  {others} not ours", "warn"))
    if wide:
        used = sum(width_of(text) for text, _ in spans)
        return [Line((*spans, (" " * max(2, 88 - used), ""), *second))]
    if width < 72:  # the line of the last minutes would push out what runs
        second = [("    ", ""), *_work(device.busy, now), *second[-1:][: bool(foreign)]]
    return [Line(tuple(spans)), Line(tuple(second))]


def _measures(row: ReadingRow | None, stale: bool) -> list[Span]:
    if row is None:
        return [("no reading yet", "faint")]
    plain = "faint" if stale else ""
    data = row.data
    spans: list[Span] = []
    busy = _number(data.get("utilisation"))
    if busy is not None:
        spans += [(bar(busy / 100, 8), "faint" if stale else "good_bar"), (f" {min(busy, 9999):3.0f} %", plain)]
    used, total = _number(data.get("memory_used_mb")), _number(data.get("memory_total_mb"))
    if used is not None and total:
        full = used > 0.95 * total and not stale
        spans.append((f"  {used / 1024:5.1f}/{total / 1024:.0f} GB", "warn" if full else plain))
    if (watts := _number(data.get("power_w"))) is not None:
        spans.append((f"  {watts:3.0f} W", plain))
    if (heat := _number(data.get("temperature_c"))) is not None:
        spans.append((f"  {heat:2.0f} °C", plain if heat < 85 or stale else "bad"))
    return spans or [("it says nothing of itself", "faint")]


def _work(busy: Sequence[BusyRow], now: float) -> list[Span]:
    if not busy:
        return [("no trial here", "faint")]
    spans: list[Span] = []
    for one in busy[:2]:
        who = f"#{one.number}" if one.number is not None else "baseline"
        took = f" {duration(max(0.0, now - one.started_at))}" if one.started_at is not None else f" {one.state}"
        spans += [(f"{who} ", "live"), (f"{clean(one.purpose)}, seed {one.seed},{took}  ", "")]
    if len(busy) > 2:
        spans.append((f"+{len(busy) - 2} more", "dim"))
    return spans


def _aged(seconds: float) -> str:
    """Whole minutes: an age that counts seconds is sent every second."""
    if seconds < 60:
        return "seconds"
    return f"{seconds // 60:.0f} min" if seconds < 3600 else duration(seconds)


def _number(value: object) -> float | None:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if ok else None  # type: ignore[arg-type]


def spoken(of: Machines) -> Mapping[str, int]:
    """Hosts, GPUs, running and queued trials, for the head."""
    hosts = {row.host for row in of.readings} | {one.host for one in of.busy}
    gpus = sum(row.device != "cpu" for row in of.readings)
    return {"host": len(hosts), "GPU": gpus, "trial": len(of.busy), "queued": of.queued}
