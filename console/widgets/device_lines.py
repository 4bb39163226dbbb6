"""Devices in few cells: one a line, two a line, or a whole host with a bar of one cell for each. Pure painters."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from console.device_words import throttled
from console.formats import bar, duration, fit, width_of
from console.plain_text import clean
from console.widgets.lines import Line, Span
from engine.store.rows import ReadingRow

STALE_SECONDS = 15.0
HOT = 85.0  # Celsius
MOST_CELLS = 16  # devices of one host that get a cell of their own


def number_of(row: ReadingRow | None, name: str) -> float | None:
    value = row.data.get(name) if row is not None else None
    ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if ok else None  # type: ignore[arg-type]


def stale(row: ReadingRow, now: float) -> bool:
    return now - row.at > STALE_SECONDS


def measures(row: ReadingRow, now: float, bar_width: int = 8) -> list[Span]:
    """How busy, how full, how hot; dim when it is old."""
    old = stale(row, now)
    plain = "faint" if old else ""
    spans: list[Span] = []
    if (busy := number_of(row, "utilisation")) is not None:
        spans += [
            (bar(busy / 100, bar_width), "faint" if old else "good_bar"),
            (f" {min(busy, 9999):3.0f} %", plain),
        ]
    used, total = number_of(row, "memory_used_mb"), number_of(row, "memory_total_mb")
    if used is not None and total:
        full = used > 0.95 * total and not old
        spans.append((f"  {used / 1024:5.1f}/{total / 1024:.0f} GB", "warn" if full else plain))
    if (watts := number_of(row, "power_w")) is not None:
        spans.append((f"  {watts:3.0f} W", plain))
    if (heat := number_of(row, "temperature_c")) is not None:
        spans.append((f"  {heat:2.0f} °C", plain if heat < HOT or old else "bad"))
    words, grave = throttled(row.data)
    if grave and not old:
        spans.append((f"  slowed: {words}", "bad"))
    return spans


def shortly(row: ReadingRow, now: float) -> list[Span]:
    """The same where a trial stands in the same line."""
    old = stale(row, now)
    plain = "faint" if old else ""
    spans: list[Span] = []
    if (busy := number_of(row, "utilisation")) is not None:
        spans += [(bar(busy / 100, 6), "faint" if old else "good_bar"), (f" {min(busy, 9999):3.0f} %", plain)]
    used, total = number_of(row, "memory_used_mb"), number_of(row, "memory_total_mb")
    if used is not None and total:
        spans.append((f" {used / 1024:3.0f}/{total / 1024:.0f} GB", plain))
    if (heat := number_of(row, "temperature_c")) is not None:
        spans.append((f" {heat:2.0f} °C", plain if heat < HOT or old else "bad"))
    return spans


def device(row: ReadingRow, name: str, lent: str, width: int, now: float) -> Line:
    spans: list[Span] = [(fit(name, max(8, min(24, width - 44))) + " ", "faint" if stale(row, now) else "dim")]
    spans += measures(row, now)
    if lent:
        spans.append((f"  lent until {lent}", "warn"))
    if row.data.get("foreign") and not stale(row, now):
        spans.append(("  used by others too", "warn"))
    if stale(row, now):
        age = now - row.at
        spans.append((f"  {duration(age // 60 * 60)} old" if age >= 60 else "  old", "faint"))
    return Line(tuple(spans))


def pairs(named: Sequence[tuple[str, ReadingRow]], width: int, now: float) -> list[Line]:
    """Two a line, without bars that would not fit."""
    half = width // 2
    lines = []
    for i in range(0, len(named), 2):
        spans: list[Span] = []
        for name, row in named[i : i + 2]:
            told = shortly(row, now)
            room = max(4, half - 2 - sum(width_of(text) for text, _ in told))
            cell: list[Span] = [(fit(name, min(room, 18)) + " ", "faint" if stale(row, now) else "dim"), *told]
            used = sum(width_of(text) for text, _ in cell)
            spans += [*cell, (" " * max(1, half - used), "")]
        lines.append(Line(tuple(spans)))
    return lines


def cells(rows: Sequence[ReadingRow], now: float) -> list[Span]:
    """One cell a device: its utilisation; '·' where it is old or says none."""
    spans: list[Span] = []
    for row in rows[:MOST_CELLS]:
        busy = number_of(row, "utilisation")
        known = busy is not None and not stale(row, now)
        sign = "▁▂▃▄▅▆▇█"[min(7, max(0, int((busy or 0) / 100 * 8)))] if known else "·"
        style = "faint" if not known else "good"
        if spans and spans[-1][1] == style:
            spans[-1] = (spans[-1][0] + sign, style)
        else:
            spans.append((sign, style))
    if len(rows) > MOST_CELLS:
        spans.append(("…", "faint"))
    return spans


def together(rows: Sequence[ReadingRow], now: float) -> list[Span]:
    """A host's GPUs (else its CPU) as one: mean utilisation, memory and power in all, the hottest."""
    chosen = [row for row in rows if row.device != "cpu"] or list(rows)
    fresh = [row for row in chosen if not stale(row, now)]
    if not chosen:
        return [("no readings", "faint")]
    shown = cells(chosen, now)
    spans: list[Span] = [*shown, (" " * max(1, 9 - sum(width_of(text) for text, _ in shown)), "")]
    if not fresh:
        newest = max(row.at for row in chosen)
        age = now - newest
        return [*spans, (f"silent for {duration(age // 60 * 60) if age >= 60 else 'seconds'}", "warn")]
    busy = [b for row in fresh if (b := number_of(row, "utilisation")) is not None]
    if busy:
        spans.append((f"{min(fmean(busy), 9999):3.0f} %", ""))
    used = [number_of(row, "memory_used_mb") or 0.0 for row in fresh]
    total = [number_of(row, "memory_total_mb") or 0.0 for row in fresh]
    if sum(total):
        spans.append((f"  {sum(used) / 1024:.0f}/{sum(total) / 1024:.0f} GB", ""))
    if watts := [w for row in fresh if (w := number_of(row, "power_w")) is not None]:
        spans.append((f"  {sum(watts) / 1000:.1f} kW" if sum(watts) >= 1000 else f"  {sum(watts):.0f} W", ""))
    if heats := [h for row in fresh if (h := number_of(row, "temperature_c")) is not None]:
        spans.append((f"  {max(heats):.0f} °C", "bad" if max(heats) >= HOT else ""))
    if slowed := sum(1 for row in fresh if throttled(row.data)[1]):
        spans.append((f"  {slowed} slowed", "bad"))
    if foreign := sum(1 for row in fresh if number_of(row, "foreign")):
        spans.append((f"  {foreign} used by others", "warn"))
    return spans


def briefly(rows: Sequence[ReadingRow], now: float) -> list[Span]:
    """A cell for each device and their mean."""
    chosen = [row for row in rows if row.device != "cpu"] or list(rows)
    busy = [b for row in chosen if not stale(row, now) and (b := number_of(row, "utilisation")) is not None]
    shown = cells(chosen, now)
    told = f"{min(fmean(busy), 9999):3.0f} %" if busy else "silent" if rows else "-"
    return [*shown, (" ", ""), (told, "" if busy else "warn")]


def named(row: ReadingRow, short: str, host: str) -> str:
    """``box1 gpu2 NVIDIA H100``; ``host`` '' where there is but one."""
    kind = clean(str(row.data.get("name") or row.device))
    parts = [clean(host), short, kind if short or not host else "cpu" if row.device == "cpu" else kind]
    return " ".join(part for part in parts if part)
