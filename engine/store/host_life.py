"""How a host stood at each moment of a campaign, from what the events tell of it. Pure.

Their table keeps only how each stands now. That it was ready, set aside, drained or lent is told by warnings, by
answers to people's requests, and by the attempts that ran on it; what else there is of it (devices, kinds) counts
as having been so all the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.store.row_life import Life, Row

# The fleet's words, as the events keep them.
SET_ASIDE, BACK = "is set aside", "is back"
_DRAINED = re.compile(r"host (.+) gets no more trials; ")
_BACK = re.compile(r"host (.+) is in service again")
_LENT = re.compile(r"(?:host )?(.+) is lent for ([0-9.e+]+) h; ")
SOMEBODY = "somebody"  # the answer does not name who asked


def noticed(message: str) -> tuple[str, str] | None:
    """(host, why it was set aside; '' where it came back) of a warning about a host; None for any other."""
    if not message.startswith("host "):
        return None
    name, aside, reason = message.removeprefix("host ").partition(f" {SET_ASIDE}")
    if aside:
        return name, reason.removeprefix(": ") or "it failed"
    name, back, rest = message.removeprefix("host ").partition(f" {BACK}")
    return (name, "") if back and not rest else None


def host_lives(rows: Mapping[str, Sequence[Row]], events: Iterable[Any], start: float) -> dict[str, Life]:
    """By name. ``events``: (time, kind, data), in their order. Every change is also the row's own time."""
    hosts = {str(row["name"]): Life("host", row, start, {"updated_at": start}) for row in rows.get("host", ())}
    first: dict[str, float] = {}
    for row in rows.get("attempt", ()):
        at = float(row["created_at"])
        first[str(row["host"])] = min(at, first.get(str(row["host"]), at))
    for name in hosts.keys() & first.keys():  # what ran on it shows that it was open
        _say(hosts[name], first[name], state="ready", reason="", mend="")
    lent: dict[str, dict[str, float]] = {}
    for at, kind, data in events:
        if kind == "Warned" and (told := noticed(str(data.get("message", "")))) is not None:
            name, why = told
            if name in hosts:
                state = "away" if why else "ready"
                _say(hosts[name], at, state=state, reason=why, mend=_own_mend(data) if why else "")
        elif kind == "RequestAnswered" and data.get("kind") in ("drain", "undrain", "lend"):
            _answered(hosts, lent, at, str(data.get("outcome", "")))
    for life in hosts.values():  # as it was found, it was from its last change on
        _say(life, float(life.final["updated_at"]))
    return hosts


def _own_mend(data: Mapping[str, Any]) -> str:
    mend = str(data.get("mend", ""))
    return "" if mend == "it is tried again by itself" else mend


def _answered(hosts: Mapping[str, Life], lent: dict[str, dict[str, float]], at: float, outcome: str) -> None:
    if (found := _DRAINED.match(outcome)) and found[1] in hosts:
        _say(hosts[found[1]], at, drained=hosts[found[1]].final["drained"] or SOMEBODY)
    elif (found := _BACK.match(outcome)) and found[1] in hosts:
        lent[found[1]] = {}
        _say(hosts[found[1]], at, drained="", lent="{}")
    elif found := _LENT.match(outcome):
        what = found[1]
        owner = what if what in hosts else next((n for n, one in hosts.items() if what in _uuids(one)), None)
        if owner is not None:
            given = lent.setdefault(owner, {})
            given["" if owner == what else what] = at + float(found[2]) * 3600
            _say(hosts[owner], at, lent=json.dumps(given))


def _uuids(host: Life) -> set[str]:
    found = json.loads(host.final["devices"])
    return {str(one.get("uuid", "")) for one in found if isinstance(one, dict)}


def _say(life: Life, at: float, **values: Any) -> None:
    life.tell(at, **values, updated_at=at)
