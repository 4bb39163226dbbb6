"""`ratchet hosts` as text: a table of the hosts, and below it what a person should know of each. Pure.

A few devices get a line each; of many, each host's in one line, and only those on which something is odd.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from console.device_words import OLD_SECONDS, throttled, told
from console.formats import duration, fit, one_or_more, width_of
from console.host_words import TRIED, until
from console.plain_text import clean

MOST_LINES = 16  # of devices, over all hosts; with more each host's are told in one line
MOST_ODD = 4  # devices of one host that are then told all the same
NAME_WIDTH = 20
Shape = dict[str, Any]


def listing(shapes: Sequence[Shape], now: float, width: int) -> list[str]:
    """``shapes`` as `hosts --json` prints them; ``width`` in columns, 0: nothing is folded."""
    name = min(max([4, *(width_of(clean(shape["name"])) for shape in shapes)]), NAME_WIDTH)
    cost = any(shape["usd_per_hour"] or shape["dollars"] for shape in shapes)
    lines = [_row(name, "HOST", "SORT", "STATE", "TRIALS", "ENDED", "BUSY", "COST" if cost else "")]
    closely = sum(len(shape["readings"]) for shape in shapes) <= MOST_LINES
    for shape in shapes:
        spent = f"${shape['dollars']:.2f}" if shape["usd_per_hour"] or shape["dollars"] else ""
        trials = f"{max(shape['running'] - len(shape['waiting']), 0)}/{shape['capacity']}"
        busy = duration(shape["busy_seconds"])
        lines.append(
            _row(
                name, clean(shape["name"]), shape["sort"], shape["state"], trials, str(shape["ended"]), busy, spent
            )
        )
        for text in _notes(shape, now, closely):
            lines += _folded(text, width)
    return lines


def _row(name_width: int, name: str, sort: str, state: str, trials: str, ended: str, busy: str, cost: str) -> str:
    line = f"{fit(name, name_width)}  {sort:<5}  {state:<7}  {trials:>9}  {ended:>6}  {busy:>7}  {cost:>9}"
    return line.rstrip()


def _folded(text: str, width: int) -> list[str]:
    if not width:
        return [f"  {text}"]
    # At spaces only: a path or a command that is cut in two cannot be copied.
    return textwrap.wrap(
        text, max(width, 40), initial_indent="  ", subsequent_indent="    ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _notes(shape: Shape, now: float, closely: bool) -> Iterator[str]:
    """What is wrong first."""
    if shape["reason"]:
        yield clean(shape["reason"])
    if shape["mend"]:
        yield f"mend: {clean(shape['mend'])}"
    elif shape["state"] == "away":
        yield TRIED
    if shape["drained_by"]:
        yield f"drained by {clean(shape['drained_by'])}; `ratchet hosts resume {clean(shape['name'])}` ends that"
    names = {device["uuid"]: f"gpu{device['index']}" for device in shape["devices"]} | {"cpu": "processor"}
    lent = {device: end for device, end in shape["lent"].items() if end > now}
    for device, end in lent.items():
        what = clean(names.get(device, device)) or "all of it"
        yield f"{what} lent for another {duration(end - now)}, until {until(end, now)}"
    waiting: Counter[str] = Counter(shape["waiting"])
    for said, times in waiting.items():
        yield f"{times} x {clean(said)}" if times > 1 else clean(said)
    kinds = [f"{one_or_more(n, 'slot')} of {clean(kind)}" for kind, n in shape["kinds"].items()]
    yield "; ".join(kinds) or "no slot was seen yet"
    yield from _devices(shape["readings"], names, now, closely)
    for trouble in sorted({str(one["trouble"]) for one in shape["readings"] if one.get("trouble")}):
        yield f"readings: {clean(trouble)}"
    if shape["sort"] == "slurm":
        yield "readings: none, Slurm chooses the node of each trial when it starts"


def _devices(readings: Sequence[Shape], names: dict[str, str], now: float, closely: bool) -> Iterator[str]:
    def line(one: Shape) -> str:
        return f"{clean(names.get(str(one['device']), str(one['device'])))}: {told(one, now - one['at'])}"

    if closely or len(readings) < 2:
        yield from map(line, readings)
        return
    yield summary(readings, now)
    odd = [one for one in readings if _odd(one, now)]
    if len(odd) < len(readings):  # what holds of all stands in the summary
        yield from map(line, odd[:MOST_ODD])
        if len(odd) > MOST_ODD:
            yield f"and {len(odd) - MOST_ODD} more of them; `ratchet hosts --json` has all"


def _odd(one: Shape, now: float) -> bool:
    return bool(one.get("foreign")) or throttled(one)[1] or now - one["at"] > OLD_SECONDS


def summary(readings: Sequence[Shape], now: float) -> str:
    """``16 devices: 93 % busy (88 to 99), 1088/2240 GB, 9.8 kW, up to 78 C``."""
    parts = []
    busy = _numbers(readings, "utilisation")
    if busy:
        parts.append(f"{fmean(busy):.0f} % busy ({min(busy):.0f} to {max(busy):.0f})")
    used, total = _numbers(readings, "memory_used_mb"), _numbers(readings, "memory_total_mb")
    if used and total:
        parts.append(f"{sum(used) / 1024:.0f}/{sum(total) / 1024:.0f} GB")
    if watts := _numbers(readings, "power_w"):
        parts.append(f"{sum(watts) / 1000:.1f} kW")
    if heat := _numbers(readings, "temperature_c"):
        parts.append(f"up to {max(heat):.0f} C")
    for what, count in (
        ("with processes not ours", sum(bool(one.get("foreign")) for one in readings)),
        ("held down", sum(throttled(one)[1] for one in readings)),
        ("silent", sum(now - one["at"] > OLD_SECONDS for one in readings)),
    ):
        if count:
            parts.append(f"{count} {what}")
    return f"{one_or_more(len(readings), 'device')}: {', '.join(parts) or 'they say nothing of themselves'}"


def _numbers(readings: Sequence[Shape], name: str) -> list[float]:
    values = [one.get(name) for one in readings]
    return [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e12]
