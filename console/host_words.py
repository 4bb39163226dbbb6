"""How hosts, and the trials on them, stand in words: set aside, drained, lent, unknown. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from console.formats import duration
from console.plain_text import clean
from engine.store.reading_hosts import HostRow

DAY_SECONDS = 20 * 3600.0  # from which a time of day alone could be mistaken
PATIENCE_SECONDS = 10.0  # that a queued trial may wait before it is told why
TRIED = "it is tried again by itself, every few minutes at the latest"


@dataclass(frozen=True, slots=True)
class Duty:
    """``rank``: what should catch a person's eye comes first. ``word`` '' for one that simply works."""

    rank: int
    word: str = ""
    style: str = "good"
    why: str = ""
    mend: str = ""

    @property
    def works(self) -> bool:
        return self.rank >= WORKING


AWAY, OPENING, DRAINED, LENT, WORKING = range(5)


def duty(row: HostRow | None, since: Mapping[str, float], now: float) -> Duty:
    """``since``: when a host was set aside, by name. None: ratchet.toml does not name it (any more)."""
    if row is None:
        return Duty(WORKING)
    drained = f"drained by {clean(row.drained)}" if row.drained else ""
    if row.state == "away":
        began = since.get(row.name)
        told = "set aside" + (f" {ago(now - began)}" if began is not None else "")
        told += f", {drained}" if drained else ""
        return Duty(AWAY, told, "bad", clean(row.reason), clean(row.mend) or TRIED)
    if drained:
        return Duty(DRAINED, drained, "warn")
    if (end := row.lent.get("", 0.0)) > now:
        return Duty(LENT, f"lent until {until(end, now)}", "warn")
    if row.state == "opening":
        return Duty(OPENING, "being opened", "dim", clean(row.reason))
    return Duty(WORKING)


def why_idle(rows: Sequence[HostRow], now: float) -> str:
    """Why queued trials start nowhere, host by host: ``box1 lent until 16:58; box2 drained by ada``."""
    return "; ".join(f"{clean(row.name)} {_why_idle(row, now)}" for row in rows)


def _why_idle(row: HostRow, now: float) -> str:
    if (word := duty(row, {}, now).word) != "":
        return word
    lent = lent_devices(row, now)
    if lent and len(lent) == len(row.devices):
        return f"lent until {max(lent.values())}" if len(set(lent.values())) == 1 else "lent, device by device"
    return "in use by others" + (", or lent" if lent else "")


def lent_devices(row: HostRow | None, now: float) -> dict[str, str]:
    """Device -> until when it is lent, in words."""
    lent = row.lent.items() if row is not None else ()
    return {device: until(end, now) for device, end in lent if device and end > now}


def ranked(rows: Sequence[HostRow], since: Mapping[str, float], now: float) -> list[HostRow]:
    """Troubled ones first, then in the order of ratchet.toml."""
    return sorted(rows, key=lambda row: duty(row, since, now).rank)


def in_service(row: HostRow, now: float) -> bool:
    return row.state == "ready" and not row.drained and row.lent.get("", 0.0) <= now


def capacity(rows: Sequence[HostRow], now: float) -> int:
    """Trials at once, over the hosts that take any."""
    return sum(row.capacity for row in rows if in_service(row, now))


def device_names(rows: Sequence[HostRow]) -> dict[tuple[str, str], str]:
    """(host, UUID) -> ``gpu2``, as slots are named."""
    return {
        (row.name, str(device.get("uuid", ""))): f"gpu{device.get('index', '?')}"
        for row in rows
        for device in row.devices
        if isinstance(device, dict)
    }


def unknown(host: str, row: HostRow | None, since: Mapping[str, float], now: float) -> str:
    """Of a trial nobody can say anything about now: since when, and why. The host's own line gives the reason."""
    began = since.get(host)
    told = "unknown" + (f" for {aged(now - began)}" if began is not None and now - began >= 60 else "")
    if row is None:
        return f"{told}: {clean(host)} is not in ratchet.toml"
    return f"{told}: {clean(host)} {'is set aside' if row.state == 'away' else 'does not answer'}"


def in_queue(said: Sequence[tuple[str, str]]) -> str:
    """``2 running · 12 PENDING (Priority)``: what a batch system does with trials of these (state, words)."""
    waiting = Counter(clean(words) or state for state, words in said if state != "running")
    running = sum(state == "running" for state, _ in said)
    parts = [f"{running} running"] if running else []
    return " · ".join([*parts, *(f"{count} {words}" for words, count in waiting.most_common())])


def until(at: float, now: float) -> str:
    """``14:20``, local time; with its day where that is not soon."""
    try:
        return f"{datetime.fromtimestamp(at):{'%H:%M' if at - now < DAY_SECONDS else '%m-%d %H:%M'}}"
    except (OverflowError, OSError, ValueError):
        return "?"


def ago(seconds: float) -> str:
    return "just now" if seconds < 60 else f"{aged(seconds)} ago"


def aged(seconds: float) -> str:
    """Whole minutes: an age that counts seconds is sent every second."""
    if seconds < 60:
        return "seconds"
    return f"{seconds // 60:.0f} min" if seconds < 3600 else duration(seconds)
