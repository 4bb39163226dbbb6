"""One row of a store through time: how it is born, what changes, and in the end exactly what was found. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Value = Any  # what SQLite gives: None, int, float, str
Row = Mapping[str, Value]
Key = int | str  # of a row: its id, or a host's name

# How the engine makes a row: what differs from this was written later.
BORN: Mapping[str, Row] = {
    "campaign": {
        "state": "running", "pause_reason": "", "pause_mend": "", "protocol": None, "active_seconds": 0.0,
        "limits": "{}", "autopilot": "",
    },
    "protocol": {"calibration": None},
    "fence": {"ended_at": None},
    "experiment": {
        "state": "drafting", "proposal": None, "candidate": None, "merged": None, "verdict": None, "reason": "",
        "arithmetic": "[]", "effect": None, "effect_low": None, "effect_high": None, "effect_detail": None,
        "score": None, "stage": "", "intent": None, "revision": 1, "settled_at": None, "outcome": "", "asked": "",
        "asked_at": None,
    },
    "trial": {
        "state": "queued", "outcome": None, "detail": "", "score": None, "hardware": "", "host": "",
        "seconds": 0.0, "started_at": None, "ended_at": None, "tail": "",
    },
    "attempt": {
        "state": "staged", "identity": "", "reason": "", "steps": "[]", "peak_memory": 0, "started_at": None,
        "ended_at": None, "cleared": None,
    },
    "note": {"used_by": None, "used_at": None},
    "host": {"state": "opening", "reason": "", "mend": "", "drained": "", "lent": "{}"},
    "spend": {"state": "reserved", "spent": 0, "usage": "{}", "detail": "", "settled_at": None},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """A row that comes (``key`` None), or columns of the row with that key that get new values."""

    at: float
    table: str
    columns: tuple[str, ...]
    values: tuple[Value, ...]
    key: Key | None = None


def key_of(table: str) -> str:
    """The column that names a row."""
    return {"fence": "one", "host": "name"}.get(table, "id")


class Life:
    """``final`` is the row as it was found; ``first`` what is known of its beginning beside ``BORN``."""

    def __init__(self, table: str, final: Row, born: float, first: Row | None = None) -> None:
        self.table, self.final, self.born = table, dict(final), born
        begun = {**BORN.get(table, {}), **(first or {})}
        self.first = {**final, **{name: value for name, value in begun.items() if name in final}}
        self._told: list[tuple[float, Row]] = []

    def tell(self, at: float, **values: Value) -> None:
        """From ``at`` on these columns hold these values; columns that this store does not have are left out."""
        self._told.append((max(at, self.born), {k: v for k, v in values.items() if k in self.final}))

    def changes(self) -> Iterable[Change]:
        """In the order of time. The last thing told leaves the row as it was found."""
        yield Change(self.born, self.table, tuple(self.first), tuple(self.first.values()))
        now = dict(self.first)
        told = sorted(self._told, key=lambda one: one[0])
        if not told:
            told = [(self.born, {})]
        told[-1] = (told[-1][0], self.final)
        for at, values in told:
            new = {name: value for name, value in values.items() if now[name] != value}
            if new:
                now.update(new)
                yield Change(at, self.table, tuple(new), tuple(new.values()), self.final[key_of(self.table)])
