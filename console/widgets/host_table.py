"""Hosts and their devices: how each stands, how busy it is, with what, and who else is on it. Pure painters.

Troubled hosts come first. A host is folded into one line with a cell for each device, or shows its devices and the
trials that share one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from console import host_words
from console.formats import dollars, duration, fit, one_or_more, width_of, wrap
from console.host_spots import Device, Folds, Place, Spot, index, spots
from console.host_words import aged, duty
from console.page_sources import Machines
from console.plain_text import clean
from console.recent import SAMPLES, Recent
from console.widgets import device_lines
from console.widgets.device_lines import STALE_SECONDS, number_of
from console.widgets.lines import Line, Span, two_sided
from console.widgets.page_parts import sparkline
from engine.store.reading_hosts import HostRow
from engine.store.reading_screens import BusyRow
from engine.store.rows import ReadingRow

WIDE = 132  # columns from which a device needs one line
MOST_WORDS = 3  # lines that say what is wrong with a host
_RUNS = re.compile("[· ]+|[^· ]+")


# --- the table -----------------------------------------------------------------------------------------


class _Painting:
    """One paint: what every line of it needs."""

    def __init__(self, of: Machines, recent: Recent, folds: Folds, now: float, width: int) -> None:
        self.of, self.recent, self.folds, self.now, self.width = of, recent, folds, now, width
        self.rows = {row.name: row for row in of.hosts}
        self.names = host_words.device_names(of.hosts)
        self.order = {key: i for i, key in enumerate(self.names)}
        self.readings: dict[str, list[ReadingRow]] = {}
        for row in of.readings:
            self.readings.setdefault(row.host, []).append(row)
        shown = {*self.rows, *self.readings, *(one.host for one in of.busy)}
        self.broad = min(20, max((width_of(clean(name)) for name in shown), default=0))

    def height(self, spot: Spot, first: bool) -> int:
        if spot.trial is not None:
            return 1
        if spot.device is not None:
            return 1 if self.width >= WIDE else 2
        gap = 0 if first or self.folds.folded(spot.place.host) else 1
        return gap + 1 + len(self.words(spot.place.host))

    def lines(self, spot: Spot, first: bool) -> list[Line]:
        if spot.trial is not None:
            return [self.trial(spot.trial)]
        if spot.device is not None:
            return self.device(spot.device)
        folded = self.folds.folded(spot.place.host)
        head = self.folded(spot.place.host) if folded else self.head(spot.place.host)
        return [*([] if first or folded else [Line(())]), head, *self.words(spot.place.host)]

    # --- hosts ---

    def words(self, host: str) -> list[Line]:
        """What is wrong with it, and what mends it."""
        found = duty(self.rows.get(host), self.of.aside, self.now)
        room = max(10, self.width - 5)
        lines = []
        if not found.works and found.why:
            told = found.why + (f"; {found.mend}" if found.mend else "")
            lines = [Line((("    ", ""), (part, "warn"))) for part in list(wrap(told, room))[:MOST_WORDS]]
        worse = {clean(str(row.data["trouble"])) for row in self.readings.get(host, ()) if row.data.get("trouble")}
        if worse:
            lines.append(Line((("    ", ""), (fit(f"readings: {min(worse)}", room), "faint"))))
        return lines

    def standing(self, host: str) -> list[Span]:
        row = self.rows.get(host)
        found = duty(row, self.of.aside, self.now)
        if found.word:
            return [(f" {found.word}", found.style)]
        newest = max((one.at for one in self.readings.get(host, ())), default=None)
        if newest is not None and self.now - newest > STALE_SECONDS:
            return [(f" silent for {aged(self.now - newest)}", "warn")]
        if row is None and self.of.hosts:
            return [(" not in ratchet.toml", "warn")]
        lent = host_words.lent_devices(row, self.now)
        return [(f" {one_or_more(len(lent), 'device')} lent", "warn")] if lent else []

    def sort(self, host: str) -> str:
        row = self.rows.get(host)
        return row.sort if row is not None else ""

    def slots(self, host: str) -> str:
        row = self.rows.get(host)
        held = sum(one.host == host for one in self.of.busy)
        return f"{held}/{row.capacity}" if row is not None and row.capacity else str(held)

    def head(self, host: str) -> Line:
        row = self.rows.get(host)
        gpus = sum(one.device != "cpu" for one in self.readings.get(host, ()))
        told = [{"local": "this machine"}.get(row.sort, clean(row.sort))] if row is not None else []
        told.append(one_or_more(gpus, "GPU") if gpus else _hardware(row))
        held = sum(one.host == host for one in self.of.busy)
        slots = row is not None and row.capacity
        told.append(f"{self.slots(host)} slots busy" if slots else one_or_more(held, "trial"))
        use = self.of.uses.get(host)
        right = []
        if use is not None and use.ended:
            right.append(f"{one_or_more(use.ended, 'trial')} ended")
            right.append(f"busy {duration(use.seconds)}")
        if (use is not None and use.spent) or (row is not None and row.usd_per_hour):
            right.append(dollars(use.spent if use is not None else 0))
        kind = clean((row.containment if row is not None else "").partition(":")[0])
        right += [kind] if kind else []
        left: list[Span] = [
            (f" {clean(host) or '?'} ", "strong"),
            *self.standing(host),
            ("  " + " · ".join(part for part in told if part), "dim"),
        ]
        used = sum(width_of(text) for text, _ in left)
        aside = f"  {' · '.join(right)} " if right else ""
        fits = used + width_of(aside) <= self.width  # what is wrong goes before what it did
        return two_sided(left, [(aside, "faint")] if aside and fits else [], self.width, "quiet")

    def folded(self, host: str) -> Line:
        readings = list(self.readings.get(host, ()))
        held = [one for one in self.of.busy if one.host == host]
        spans: list[Span] = [
            (f" {fit(clean(host) or '?', self.broad)} ", "strong"),
            (f"{self.slots(host):>5}  ", "dim"),
        ]
        if self.sort(host) == "slurm" and not readings:
            spans.append((host_words.in_queue([(one.state, one.said) for one in held]) + " ", ""))
        elif not duty(self.rows.get(host), self.of.aside, self.now).word:
            readings.sort(key=lambda one: self.order.get((one.host, one.device), len(self.order)))
            spans += [*device_lines.together(readings, self.now), (" ", "")]
        spans += self.standing(host)
        used = sum(width_of(text) for text, _ in spans)
        lost = sum(one.attempt == "unknown" for one in held)
        numbers = sorted({one.number for one in held if one.number is not None})
        told = "  " + (f"{lost} unknown  " if lost else "") + " ".join(f"#{n}" for n in numbers)
        room = self.width - used - 1
        spans.append((fit(told, room) if room > 8 else "", "warn" if lost else "live"))
        return Line(tuple(spans))

    # --- devices and trials ---

    def device(self, device: Device) -> list[Line]:
        row, width, now = device.reading, self.width, self.now
        if row is None and device.device == "cpu" and self.sort(device.host) == "slurm":
            told = host_words.in_queue([(one.state, one.said) for one in device.busy])
            node: Span = ("  Slurm chooses the node of each trial when it starts", "faint")
            return (
                [Line((("  ", ""), (told, ""), node))]
                if width >= WIDE
                else [Line((("  ", ""), (told, ""))), Line((node,))]
            )
        old = row is not None and device_lines.stale(row, now)
        wide = width >= WIDE
        name_width = 26 if width >= 100 else max(8, min(24, width - 52))
        short = clean(self.names.get((device.host, device.device), ""))
        named = clean(device.device) if row is None else clean(str(row.data.get("name") or device.device))
        spans: list[Span] = [
            ("  ", ""),
            (fit(f"{short} {named}".strip(), name_width) + " ", "faint" if old else ""),
        ]
        spans += _measures(row, now)
        if row is not None and old:
            spans.append((f"  {aged(now - row.at)} old", "warn"))
        second = self._doing(device, wide)
        if wide:
            used = sum(width_of(text) for text, _ in spans)
            return [Line((*spans, (" " * max(2, 88 - used), ""), *second))]
        return [Line(tuple(spans)), Line(tuple(second))]

    def _doing(self, device: Device, wide: bool) -> list[Span]:
        """The last minutes, and what runs there."""
        row, now = device.reading, self.now
        old = row is not None and device_lines.stale(row, now)
        work = [(one_or_more(len(device.busy), "trial"), "dim")] if device.device == "cpu" and device.busy else []
        work = work or _work(device.busy, now)
        lent = host_words.lent_devices(self.rows.get(device.host), now).get(device.device, "")
        aside: list[Span] = [(f"  lent until {lent}", "warn")] if lent else []
        if (foreign := number_of(row, "foreign")) and not old:
            others = "1 process" if foreign == 1 else f"{int(foreign)} processes"
            aside.append((f"  {others} not ours", "warn"))
        if not wide and self.width < 72:  # the line of the last minutes would push out what runs
            return [("    ", ""), *work, *aside]
        recent = self.recent.line((device.host, device.device), now)
        points = sparkline(recent, 30 if wide else min(SAMPLES, self.width // 3))
        found: list[Span] = [] if wide else [("  ", "")]
        found += [(part, "faint" if old or part[0] in "· " else "good") for part in _RUNS.findall(points)]
        return [*found, ("  ", ""), *work, *aside]

    def trial(self, one: BusyRow) -> Line:
        lost = one.attempt == "unknown"
        who = f"#{one.number}" if one.number is not None else "baseline"
        spans: list[Span] = [
            ("    ? " if lost else "    ► " if one.state == "running" else "    › ", "warn" if lost else "live"),
            (fit(clean(one.slot), 8) + " ", "dim"),
            (fit(who, 9), "live"),
            (f"{clean(one.purpose)}, seed {one.seed}, ", ""),
        ]
        if lost:
            told = host_words.unknown(one.host, self.rows.get(one.host), self.of.aside, self.now)
            return Line((*spans, (told, "warn")))
        return Line((*spans, *_since(one, self.now)))


def body(
    of: Machines, recent: Recent, at: Place | None, folds: Folds, now: float, width: int, height: int
) -> list[Line]:
    """The lines in sight; the cursor's are among them, and only those in sight are painted."""
    found = spots(of, folds, now)
    painting = _Painting(of, recent, folds, now, width)
    tops, total = [], 0
    for i, spot in enumerate(found):
        tops.append(total)
        total += painting.height(spot, i == 0)
    cursor = index(found, at)
    last = tops[cursor + 1] if cursor + 1 < len(tops) else total
    top = max(0, last - height)
    lines: list[Line] = []
    for i, spot in enumerate(found):
        end = tops[i + 1] if i + 1 < len(tops) else total
        if end <= top or tops[i] >= top + height:
            continue
        shown = painting.lines(spot, i == 0)
        if i == cursor:
            shown = [Line(one.spans, "cursor") if one.spans else one for one in shown]
        lines += shown[max(0, top - tops[i]) :]
    return lines[:height]


def tall(of: Machines, now: float, width: int) -> int:
    """Lines that everything takes, unfolded."""
    painting = _Painting(of, Recent(), Folds(), now, width)
    return sum(painting.height(spot, i == 0) for i, spot in enumerate(spots(of, Folds(), now)))


def _hardware(row: HostRow | None) -> str:
    kinds = list(row.kinds) if row is not None else []
    if len(kinds) > 1:
        return f"{len(kinds)} kinds of slots"
    return clean(kinds[0].partition(",")[0])[:40] if kinds else "CPU only"


def _measures(row: ReadingRow | None, now: float) -> list[Span]:
    if row is None:
        return [("no reading yet", "faint")]
    return device_lines.measures(row, now) or [("it says nothing of itself", "faint")]


def _since(one: BusyRow, now: float) -> list[Span]:
    said = clean(one.said)
    if one.started_at is None:
        return [(said or one.state, "warn" if said.startswith("PENDING") else "faint")]
    took = duration(max(0.0, now - one.started_at))
    return [(took, ""), (f"  {said}" if said else "", "faint")]


def _work(busy: Sequence[BusyRow], now: float) -> list[Span]:
    if not busy:
        return [("no trial here", "faint")]
    spans: list[Span] = []
    for one in busy[:2]:
        who = f"#{one.number}" if one.number is not None else "baseline"
        took = f" {duration(max(0.0, now - one.started_at))}" if one.started_at is not None else f" {one.state}"
        spans += [(f"{who} ", "live"), (f"{clean(one.purpose)}, seed {one.seed},", "")]
        spans.append((" unknown  ", "warn") if one.attempt == "unknown" else (f"{took}  ", ""))
    if len(busy) > 2:
        spans.append((f"+{len(busy) - 2} more", "dim"))
    return spans


def totals(of: Machines, now: float) -> list[Span]:
    """Hosts and those set aside, GPUs, slots and what waits for one, what an hour costs: for the head."""
    hosts = {row.name for row in of.hosts} | {row.host for row in of.readings} | {one.host for one in of.busy}
    gpus = sum(row.device != "cpu" for row in of.readings)
    troubled = [found for row in of.hosts if not (found := duty(row, of.aside, now)).works]
    parts: list[Span] = [(one_or_more(len(hosts), "host"), "dim")]
    for rank, word, style in (
        (host_words.AWAY, "set aside", "bad"), (host_words.DRAINED, "drained", "warn"),
        (host_words.LENT, "lent", "warn"), (host_words.OPENING, "being opened", "dim"),
    ):  # fmt: skip
        if count := sum(one.rank == rank for one in troubled):
            parts.append((f"{count} {word}", style))
    room = host_words.capacity(of.hosts, now)
    open_ = {row.name for row in of.hosts if host_words.in_service(row, now)}
    if room:
        parts.append((f"{sum(one.host in open_ for one in of.busy)} of {one_or_more(room, 'slot')} busy", "dim"))
    else:
        parts.append((f"{one_or_more(len(of.busy), 'trial')} running", "dim"))
    if lost := sum(one.attempt == "unknown" for one in of.busy):
        parts.append((f"{one_or_more(lost, 'trial')} unknown", "warn"))
    if of.queued:
        parts.append((f"{of.queued} queued", "dim"))
    if gpus:
        parts.append((one_or_more(gpus, "GPU"), "dim"))
    if rate := sum(row.usd_per_hour for row in of.hosts if row.name in open_):
        parts.append((f"${rate:.2f}/h", "dim"))
    spans: list[Span] = []
    for part in parts:
        spans += [(" · ", "faint"), part] if spans else [part]
    return spans
