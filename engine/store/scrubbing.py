"""Takes out of a campaign what tells of its machine and its people: names, paths, addresses, keys. Pure.

What a person wrote into titles, prompts or code stays: who gives a recording away looks through it first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from engine.store.row_life import Row, Value

MACHINE, PERSON, GONE = "machine", "person", "[removed]"
NOBODY = {"", "engine", "engine start", "time-out", "local", "localhost"}  # words of ours, not names
# In a text these are more often words than names; as a field's value they are replaced all the same.
_WORDS = {
    "admin", "data", "home", "host", "job", "loss", "machine", "main", "model", "node", "person", "python", "root",
    "run", "test", "train", "ubuntu", "user", "work",
}  # fmt: skip
_SUBSTITUTES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", GONE),
        (r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}", GONE),
        (r"\b(?:gh[opsur]_|github_pat_|hf_|glpat-|xox[abprs]-|AKIA|ASIA|AIza|ya29\.)[A-Za-z0-9_-]{8,}", GONE),
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+", GONE),
        (
            r"(?i)\b([a-z0-9_]*(?:api_?key|token|secret|passw(?:or)?d)['\"]?\s*[=:]\s*['\"]?)"
            r"(?=[^\s'\"]*\d)(?=[^\s'\"]*[a-z])[a-z0-9_+/=-]{10,}",
            r"\1" + GONE,
        ),
        (r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>)\]}]+", "[address]"),
        (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "[address]"),
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "id"),
        (r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])", "[address]"),
        (r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}(?![\w:])", "[address]"),
        (r"(?i)[a-z]:\\(?:[^\s\\/:*?\"<>|]+\\)+", "…/"),
        (r"~[\w.-]*(?=/)(?:/[\w.@+%=,-]+)*/", "…/"),
        # An absolute path keeps its last name, unless it is the home itself.
        (r"(?<![\w.…/\\])/(?:home|Users|export/home)/[\w.@+-]+(?![\w.@+/-])", "…"),
        (r"(?<![\w.…/\\])/(?!dev/null\b)(?:[\w.@+%=,-]+/)+", "…/"),
        (r"(?<![\w.…/\\])/(?:root|home|tmp|Users|var|opt|mnt|srv|scratch|data|work)\b", "…"),
    )
)  # fmt: skip
_ACTORS = {
    "decision": ("actor",), "note": ("actor",), "step_back": ("actor",), "mark": ("actor",), "host": ("drained",),
}  # fmt: skip
_HOSTS = {"fence": ("host",), "attempt": ("host",), "trial": ("host",), "reading": ("host",), "host": ("name",)}
_SETTINGS = ("environment", "env")  # whose values are nobody's business
_SETTING_LISTS = ("path", "pass", "set", "env")


class Scrubber:
    """``private``: further names, of this machine and its user, that must not be found in what is given away."""

    def __init__(self, rows: Mapping[str, Sequence[Row]], private: Collection[str] = ()) -> None:
        hosts, people = set(_hosts(rows)) - NOBODY, set(_people(rows)) - NOBODY
        self._instead = {name: _numbered("host", i) for i, name in enumerate(sorted(hosts))}
        fenced = {str(row["host"]) for row in rows.get("fence", ())} | _machines(rows)
        self._instead |= dict.fromkeys(fenced - NOBODY, MACHINE)
        self._instead |= {name: _numbered(PERSON, i) for i, name in enumerate(sorted(people))}
        self._instead = {name: PERSON for name in private if name not in NOBODY} | self._instead
        free = sorted((n for n in self._instead if n.lower() not in _WORDS), key=len, reverse=True)
        bound = sorted((n for n in self._instead if n.lower() in _WORDS), key=len, reverse=True)
        # Each device keeps a name of its own: of two that were called the same, a replay could show but one.
        self._devices = {uuid: f"device {i}" for i, uuid in enumerate(sorted(set(_devices(rows))), 1)}
        self._uuids = _any_of(sorted(self._devices, key=len, reverse=True), r"(?<![\w-])")
        self._known: dict[str, str] = {}
        self._free = _any_of(free, r"(?<!\w)")
        self._bound = _any_of(bound, r"(?<=\bby )|(?<=\bon )|(?<=@)")

    # --- text ---

    def text(self, text: str) -> str:
        known = self._known.get(text)  # names of curves, of states, of tools: a few words, said over and over
        if known is None:
            known = self._scrubbed(text)
            if len(text) < 100:
                self._known[text] = known
        return known

    def _scrubbed(self, text: str) -> str:
        if self._uuids is not None:
            text = self._uuids.sub(lambda found: self._devices[found[0]], text)
        for pattern, instead in _SUBSTITUTES:
            text = pattern.sub(instead, text)
        for names in (self._free, self._bound):
            if names is not None:
                text = names.sub(lambda found: self._instead[found[0]], text)
        return text

    def _name(self, name: Value) -> Value:
        bare, late, rest = str(name).partition(" (in advance)")
        return self._instead.get(bare, bare) + late + rest

    def data(self, value: Any, inside: tuple[str, ...] = ()) -> Any:
        """The same JSON data with every string in it scrubbed, names of fields too."""
        last = inside[-1] if inside else ""
        if isinstance(value, str):
            if last in ("actor", "by", "host"):
                return self._name(self.text(value) if value not in self._instead else value)
            return "" if last in ("identity", "boot_id", "token") else self.text(value)
        if isinstance(value, Mapping):
            if last in _SETTING_LISTS and set(inside) & set(_SETTINGS):
                return {}
            return {self.text(str(name)): self.data(one, (*inside, str(name))) for name, one in value.items()}
        if isinstance(value, list | tuple):
            if last in _SETTING_LISTS and set(inside) & set(_SETTINGS):
                return []
            return [self.data(one, inside) for one in value]
        if last in ("pid", "port"):
            return 0
        return value

    # --- rows ---

    def row(self, table: str, row: Row) -> dict[str, Value]:
        return {column: self._column(table, column, value, row) for column, value in row.items()}

    def _column(self, table: str, column: str, value: Value, row: Row) -> Value:
        if (table, column) == ("fence", "pid"):
            return 0
        if not isinstance(value, str):
            return value
        if (table, column) in (("fence", "boot_id"), ("attempt", "identity"), ("config", "text")):
            return ""
        if (table, column) == ("attempt", "token"):
            return f"token {row['id']}"
        if column in _ACTORS.get(table, ()) or column in _HOSTS.get(table, ()):
            return self._name(value)
        if value[:1] in ("{", "[") and (found := _parsed(value)) is not None:
            return json.dumps(self.data(found), ensure_ascii=False)
        return self.text(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _any_of(names: Sequence[str], before: str) -> re.Pattern[str] | None:
    if not names:
        return None
    return re.compile(f"(?:{before})(?:{'|'.join(re.escape(name) for name in names)})(?![\\w])")


def _numbered(word: str, index: int) -> str:
    return word if index == 0 else f"{word} {index + 1}"


def _events(rows: Mapping[str, Sequence[Row]]) -> Iterable[Mapping[str, Any]]:
    for row in rows.get("event", ()):
        found = _parsed(row["data"])
        if isinstance(found, Mapping):
            yield found


def _hosts(rows: Mapping[str, Sequence[Row]]) -> Iterable[str]:
    for table, columns in _HOSTS.items():
        yield from (str(row[column]) for row in rows.get(table, ()) for column in columns)
    yield from (str(row["what"]) for row in rows.get("spend", ()) if row["kind"] == "device")


def _devices(rows: Mapping[str, Sequence[Row]]) -> Iterable[str]:
    """What names a device of its own, by its UUID; "cpu" does not."""
    found = [str(row["device"]) for row in rows.get("reading", ())]
    for row in rows.get("host", ()):
        known = _parsed(row["devices"])
        found += [str(one.get("uuid", "")) for one in known or () if isinstance(one, Mapping)]
    return (one for one in found if re.fullmatch(r"[A-Za-z]+-[\w-]{6,}", one))


def _machines(rows: Mapping[str, Sequence[Row]]) -> set[str]:
    return {str(data["host"]) for data in _events(rows) if "host" in data}


def _people(rows: Mapping[str, Sequence[Row]]) -> Iterable[str]:
    found = [
        str(row[column]) for table, columns in _ACTORS.items() for row in rows.get(table, ()) for column in columns
    ]
    for data in _events(rows):
        found += [str(data[name]) for name in ("actor", "by") if name in data]
    for row in rows.get("campaign", ()):
        order = _parsed(row.get("autopilot") or "{}")
        found.append(str(order.get("actor", "")) if isinstance(order, Mapping) else "")
    return (name.partition(" (in advance)")[0] for name in found)
