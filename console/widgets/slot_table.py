"""Pane 5: the trials that run, on which host and device each is and since when, and what the devices say.

It shows as much as fits: a line for each trial and each device; else each trial with its own device; else each
host in one line. What is wrong with a host stands above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from console import host_words
from console.formats import bar, duration, fit, one_or_more, width_of
from console.keymap import press
from console.plain_text import clean
from console.state import State
from console.widgets import device_lines
from console.widgets.lines import Line, Scene, Span
from engine.store.reading_hosts import HostRow
from engine.store.rows import ReadingRow, TrialRow

MOST_PLACE = 24  # columns for a host and its slot


def inputs(scene: Scene) -> tuple[object, ...]:
    state = scene.state
    moving = any(t.started_at for t in state.running) or any(not _works(row) for row in state.hosts)
    clock = scene.now if moving else None
    stale = tuple(device_lines.stale(r, scene.now) for r in state.readings)
    hosts = (state.hosts, state.aside)
    return state.running, state.readings, state.incumbent, state.baseline, state.alive, hosts, clock, stale


def _works(row: HostRow) -> bool:
    return row.state == "ready" and not row.drained and not row.lent


def title(scene: Scene) -> tuple[Span, ...]:
    """``5 of 6 slots busy · 3 queued``."""
    state = scene.state
    queued = sum(t.state == "queued" for t in state.running)
    parts: list[Span] = []
    if room := host_words.capacity(state.hosts, scene.now):
        open_ = {row.name for row in state.hosts if host_words.in_service(row, scene.now)}
        busy = sum(t.state != "queued" and t.host in open_ for t in state.running)
        parts.append((f"{busy} of {one_or_more(room, 'slot')} busy", "dim"))
    if queued:
        parts += [(" · ", "faint")] if parts else []
        parts.append((f"{one_or_more(queued, 'trial')} queued", "dim"))
    return tuple(parts)


def usual_seconds(state: State) -> float | None:
    """How long a trial takes, measured: the median of the incumbent's and the baseline's finished ones."""
    took = [t.seconds for t in (*state.incumbent, *state.baseline) if t.outcome == "ok" and t.seconds > 0]
    return median(took) if took else None


@dataclass(frozen=True, slots=True)
class _Hosts:
    """The hosts as trials and devices are named by them."""

    rows: Mapping[str, HostRow]
    since: Mapping[str, float]
    names: Mapping[tuple[str, str], str]  # (host, UUID) -> gpu2
    several: bool
    now: float

    def place(self, trial: TrialRow) -> str:
        """``box1 gpu2``; without the host where there is but one."""
        parts = ((trial.host or "?") if self.several else "", trial.slot or ("" if self.several else "-"))
        return clean(" ".join(part for part in parts if part))

    def of(self, row: ReadingRow) -> str:
        short = clean(self.names.get((row.host, row.device), ""))
        return device_lines.named(row, short, row.host if self.several else "")


def _hosts(state: State, now: float) -> _Hosts:
    known = {row.host for row in state.readings} | {row.name for row in state.hosts}
    rows = {row.name: row for row in state.hosts}
    return _Hosts(rows, state.aside, host_words.device_names(state.hosts), len(known) > 1, now)


def body(scene: Scene, width: int, height: int) -> list[Line]:
    state, now = scene.state, scene.now
    hosts = _hosts(state, now)
    usual = usual_seconds(state)
    busy = [t for t in state.running if t.state != "queued"]
    busy.sort(key=lambda t: (t.attempt != "unknown", t.state != "running"))
    above = _cut(_troubles(hosts, width), max(1, height // 3), "host")
    trials = [_trial(t, usual, hosts, width, _place_width(busy, hosts, width)) for t in busy]
    if not trials:
        idle = "no trial is running" + (": no engine" if state.alive is False else _why_none(state, now))
        trials = [Line(((idle, "faint"),))]
    for shown in (_each, _merged, _merged_gpus):
        found, devices = shown(state, hosts, busy, trials, usual, width)
        if len(above) + len(found) + len(devices) <= height:
            return [*above, *found, *devices]
    for by_host in (_by_host, _in_columns):
        devices = by_host(state, hosts, busy, width)
        if len(trials) + len(devices) <= height:
            break
    below = max(1, height - min(len(trials), (height + 1) // 2))
    devices = _cut(devices, below, "")
    return [*_cut(trials, max(1, height - len(devices)), "trial"), *devices][:height]


def _why_none(state: State, now: float) -> str:
    queued = [t.created_at for t in state.running if t.state == "queued"]
    running = state.campaign is not None and state.campaign.state == "running"
    long = queued and now - min(queued) > host_words.PATIENCE_SECONDS
    return f": {host_words.why_idle(state.hosts, now)}" if long and running else ""


def _cut(lines: list[Line], room: int, what: str) -> list[Line]:
    """``what`` '': hosts, of which a line may hold several."""
    if len(lines) <= room:
        return lines
    hidden = one_or_more(len(lines) - room + 1, f"more {what}") if what else "more hosts"
    told = f"and {hidden}: {press('hosts')} shows all"
    return [*lines[: room - 1], Line(((told, "faint"),))]


# --- what is shown of the devices, the fullest first ---------------------------------------------------

_Shown = tuple[list[Line], list[Line]]  # of trials, of devices


def _each(
    state: State, hosts: _Hosts, busy: Sequence[TrialRow], trials: list[Line], usual: float | None, width: int
) -> _Shown:
    devices = []
    for row in state.readings:
        lent = host_words.lent_devices(hosts.rows.get(row.host), hosts.now).get(row.device, "")
        devices.append(device_lines.device(row, hosts.of(row), lent, width, hosts.now))
    return trials, devices or [Line((("no device readings yet", "faint"),))]


def _merged(
    state: State, hosts: _Hosts, busy: Sequence[TrialRow], trials: list[Line], usual: float | None, width: int
) -> _Shown:
    """A trial's line tells of its device too, where that is its own; the other devices two a line."""
    by_name = {(row.host, hosts.names.get((row.host, row.device), "")): row for row in state.readings}
    taken: set[tuple[str, str]] = set()
    lines = []
    place = _place_width(busy, hosts, width)
    for trial, plain in zip(busy, trials, strict=False):
        slots = trial.slot.partition(".")[0].split(",")
        rows = [row for name in slots if name and (row := by_name.get((trial.host, name))) is not None]
        if not rows or trial.attempt == "unknown":
            lines.append(plain)
            continue
        taken |= {(row.host, row.device) for row in rows}
        lines.append(_trial(trial, usual, hosts, width, place, rows[0]))
    others = [(hosts.of(row), row) for row in state.readings if (row.host, row.device) not in taken]
    return lines or trials, device_lines.pairs(others, width, hosts.now)


def _merged_gpus(
    state: State, hosts: _Hosts, busy: Sequence[TrialRow], trials: list[Line], usual: float | None, width: int
) -> _Shown:
    """The same without the CPUs of hosts that have GPUs."""
    gpus = {row.host for row in state.readings if row.device != "cpu"}
    told = tuple(row for row in state.readings if row.device != "cpu" or row.host not in gpus)
    return _merged(replace(state, readings=told), hosts, busy, trials, usual, width)


def _by_host(state: State, hosts: _Hosts, busy: Sequence[TrialRow], width: int) -> list[Line]:
    """Each host in one line, with what is wrong with it."""
    lines = []
    names = _names(state, hosts)
    broad = min(MOST_PLACE, max((width_of(clean(name)) for name in names), default=0))
    for name in names:
        rows = [row for row in state.readings if row.host == name]
        found = host_words.duty(hosts.rows.get(name), hosts.since, hosts.now)
        spans: list[Span] = [(fit(clean(name), broad) + "  ", "dim")]
        if found.rank == host_words.AWAY:
            spans.append((fit(f"{found.word}: {found.why}", max(8, width - broad - 3)), found.style))
        else:
            told = [] if rows else _queue(busy, name)
            spans += [*(told or device_lines.together(rows, hosts.now)), (_held(hosts, name, busy), "dim")]
            spans.append((f"  {found.word}" if found.word else "", found.style))
        lines.append(Line(tuple(spans)))
    return lines


def _in_columns(state: State, hosts: _Hosts, busy: Sequence[TrialRow], width: int) -> list[Line]:
    """As by host, but those that work stand beside each other: a cell for each device, how busy, slots."""
    lines = _by_host(state, hosts, busy, width)
    cells: list[list[Span]] = []
    names = _names(state, hosts)
    works = [host_words.duty(hosts.rows.get(name), hosts.since, hosts.now).works for name in names]
    chosen = [name for name, well in zip(names, works, strict=True) if well]
    broad = min(MOST_PLACE, max((width_of(clean(name)) for name in chosen), default=0))
    for name in chosen:
        rows = [row for row in state.readings if row.host == name]
        told = [] if rows else _queue(busy, name)
        spans: list[Span] = [
            (fit(clean(name), broad) + " ", "dim"),
            *(told or device_lines.briefly(rows, hosts.now)),
        ]
        cells.append([*spans, (_held(hosts, name, busy, ""), "dim")])
    wide = 3 + max((sum(width_of(text) for text, _ in cell) for cell in cells), default=0)
    columns = max(1, width // wide)
    beside = []
    for i in range(0, len(cells), columns):
        spans = []
        for cell in cells[i : i + columns]:
            spans += [*cell, (" " * (wide - sum(width_of(text) for text, _ in cell)), "")]
        beside.append(Line(tuple(spans)))
    return [*(line for line, well in zip(lines, works, strict=True) if not well), *beside]


def _queue(busy: Sequence[TrialRow], host: str) -> list[Span]:
    """Of a batch system, whose nodes give no readings."""
    told = host_words.in_queue([(t.state, t.said) for t in busy if t.host == host])
    return [(told, "")] if told else []


def _names(state: State, hosts: _Hosts) -> list[str]:
    names = [row.name for row in host_words.ranked(state.hosts, hosts.since, hosts.now)]
    return names + sorted({row.host for row in state.readings} - {*names})


def _held(hosts: _Hosts, name: str, busy: Sequence[TrialRow], noun: str = " slots") -> str:
    row = hosts.rows.get(name)
    held = sum(t.host == name for t in busy)
    return f"  {held}/{row.capacity}{noun}" if row is not None and row.capacity else ""


# --- what is wrong, and what runs ----------------------------------------------------------------------


def _troubles(hosts: _Hosts, width: int) -> list[Line]:
    lines = []
    for row in host_words.ranked(list(hosts.rows.values()), hosts.since, hosts.now):
        found = host_words.duty(row, hosts.since, hosts.now)
        if found.works or (found.rank == host_words.OPENING and not found.why):
            continue
        told = f"{clean(row.name)} {found.word}" + (f": {found.why}" if found.why else "")
        lines.append(Line(((fit(told, width - 1), found.style),)))
    return lines


def _place_width(busy: Sequence[TrialRow], hosts: _Hosts, width: int) -> int:
    longest = max((width_of(hosts.place(t)) for t in busy), default=0)
    return max(7, min(longest + 1, MOST_PLACE, width // 3))


def _trial(
    trial: TrialRow,
    usual: float | None,
    hosts: _Hosts,
    width: int,
    place: int,
    device: ReadingRow | None = None,
) -> Line:
    who = f"#{trial.number}" if trial.number is not None else "base"
    lost = trial.attempt == "unknown"
    spans: list[Span] = [
        ("? " if lost else "► " if trial.state == "running" else "› ", "warn" if lost else "live"),
        (fit(who, 6), "bold"),
        (fit(trial.purpose, 10), ""),
        (fit(hosts.place(trial), place - 1) + " ", "accent" if hosts.several else "dim"),
    ]
    said = clean(trial.said)
    if lost:
        told = host_words.unknown(trial.host, hosts.rows.get(trial.host), hosts.since, hosts.now)
        return Line((*spans, (fit(told, max(8, width - 1 - sum(width_of(t) for t, _ in spans))), "warn")))
    if device is not None:
        spans += [*device_lines.shortly(device, hosts.now), ("  ", "")]
    elif width >= 60:
        spans.append((fit(f"seed {trial.seed}", 15 if width >= 76 else 11) + " ", "dim"))
    if trial.attempts > 1:
        spans.append((f"attempt {trial.attempts} ", "warn"))
    if trial.started_at is None:
        return Line((*spans, (said or trial.state, "warn" if said.startswith("PENDING") else "faint")))
    elapsed = max(0.0, hosts.now - trial.started_at)
    spans.append((f"{duration(elapsed):>6}", ""))
    of = f" of ~{duration(usual)} " if usual else ""
    if usual and sum(width_of(t) for t, _ in spans) + width_of(of) <= width:
        spans.append((of, "dim"))
        room = width - sum(width_of(t) for t, _ in spans) - 1 - (width_of(said) + 2 if said else 0)
        if room >= 6:
            late = elapsed >= 1.5 * usual
            spans.append((bar(elapsed / usual, min(room, 20)), "warn_bar" if late else "live_bar"))
    if said:
        spans.append((f"  {said}", "faint"))
    return Line(tuple(spans))
