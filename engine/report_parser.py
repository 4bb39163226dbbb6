"""What the log and the RATCHET_METRICS file have in common: names, points, JSON lines. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from typing import Any

from engine.log_lines import LogLines
from engine.reported import Finals, Report, Reported, number
from engine.result_files import DUPLICATE, unique_keys
from engine.types import Point

SERIES_LIMIT = 512  # names a trial may use; more are ignored, for a hostile script could invent millions
NAME_LIMIT = 128
ODD_LIMIT = 10  # non-finite points in a row that are remembered of a series
STEP_KEYS = ("step", "global_step", "_step", "iteration", "iter", "epoch")


class ReportParser:
    """What the log and the metrics file have in common: names, points and the objective's reports."""

    def __init__(self, objective: str, source: str) -> None:
        self._objective = objective
        self._lines = LogLines()
        self._finals = Finals(objective, source)
        self._names: dict[bytes, str] = {objective.encode("utf-8", "replace"): objective}
        self._counts: dict[str, int] = {}  # of values without a step
        self._odd: dict[str, list[Point]] = {}
        self._points: list[Point] = []
        self._at = 0.0

    def feed(self, data: bytes, at: float = 0.0) -> list[Point]:
        """The finite points that became whole with ``data``; ``at``: seconds into the trial."""
        self._at = at
        points: list[Point] = []
        self._points = points
        for line in self._lines.feed(data):
            self._read(line)
        return points

    def mark_gap(self) -> None:
        """The next bytes do not follow on the last ones: the lines on both sides are incomplete."""
        self._lines.gap()

    def flush(self, at: float = 0.0) -> list[Point]:
        """The points of a last line that has no newline; for the end of the output."""
        self._at = at
        points: list[Point] = []
        self._points = points
        if line := self._lines.end():
            self._read(line)
        return points

    def finish(self) -> Reported:
        """The end of the output: what was reported in all. May be asked again."""
        self.flush()
        if self._lines.dropped:
            self._finals.damage = f"{self._lines.dropped} lines were cut, too long or held NUL bytes"
        return self._finals.reported()

    def _read(self, line: bytes) -> None:
        raise NotImplementedError

    def _name(self, raw: bytes) -> str:
        """A series' name, "" when it must not be used: unprintable, too long, one too many."""
        name = self._names.get(raw)
        if name is None:
            if len(self._names) >= SERIES_LIMIT:
                return ""
            try:
                name = raw.decode()
            except UnicodeDecodeError:
                name = ""
            # isprintable also refuses lone surrogates, which SQLite could not store.
            if len(name) > NAME_LIMIT or not name.isprintable():
                name = ""
            self._names[raw] = name
        return name

    def _point(self, name: str, step: float | None, value: float) -> None:
        if step is None:
            step = self._counts.get(name, 0)
            self._counts[name] = int(step) + 1
        if isfinite(value):
            self._points.append(Point(name, step, value, self._at))
            self._odd.pop(name, None)
            return
        odd = self._odd.setdefault(name, [])
        if len(odd) < ODD_LIMIT:
            odd.append(Point(name, step, value, self._at))
        if self._finals.first_not_finite is None:
            self._finals.first_not_finite = odd[0]

    def trailing_odd(self) -> list[Point]:
        """The NaN and infinite points that a series ends in at present; empty once it recovered."""
        return [point for odd in self._odd.values() for point in odd]

    def _value(self, channel: str, raw: bytes, token: bytes, step: float | None) -> None:
        """One ``name, value`` of a format whose values may be final."""
        name = self._name(raw)
        if not name:
            return
        value = number(token)
        if value is not None:
            self._finals.last[name] = value
            self._point(name, step, value)
        else:
            self._finals.last.pop(name, None)  # an older value must not pass for the final one
        if name == self._objective:
            self._mention(channel, value, token.decode("utf-8", "replace"), step)

    def _mention(
        self, channel: str, value: float | None, text: str, step: float | None, torn: bool = False
    ) -> None:
        where = f"{channel}, line {self._lines.number}"
        self._finals.mention(channel, Report(value, text[:200], where, step, torn))

    def _json(self, line: bytes) -> None:
        found = _json_object(line)
        if found is None:
            return
        step_key = next((k for k in STEP_KEYS if k in found and k != self._objective), None)
        step: float | None = None
        if step_key is not None:
            given = found.pop(step_key)
            # A step that is no number still says that this is a point of a curve, not a final word.
            step = given if isinstance(given, float) and isfinite(given) else None
            if step is None:
                step = float(self._counts.get(self._objective, 0))
        for key, value in _flat(found):
            name = self._name(key.encode("utf-8", "surrogatepass"))
            if not name or value is None:
                continue
            if isinstance(value, float):
                value += 0.0  # -0.0 -> 0.0
                self._finals.last[name] = value
                self._point(name, step, value)
            else:
                self._finals.last.pop(name, None)
            if name == self._objective:
                torn = value is DUPLICATE
                bare = value if isinstance(value, float) else None
                self._mention("JSON line", bare, "twice in one object" if torn else repr(value), step, torn)


class MetricsFileParser(ReportParser):
    """The RATCHET_METRICS file: JSON lines, the same rules. A torn last line is no object: left out."""

    def _read(self, line: bytes) -> None:
        if line[:1] == b"{":
            self._json(line)


def read_metrics_file(data: bytes, objective: str, source: str = "reported") -> Reported:
    """The whole RATCHET_METRICS file at once."""
    parser = MetricsFileParser(objective, source)
    parser.feed(data)
    return parser.finish()


def _json_object(line: bytes) -> dict[str, Any] | None:
    """The object of a JSON line; None for anything else. Numbers are floats, NaN and inf included."""
    try:
        found = json.loads(line, object_pairs_hook=unique_keys, parse_int=float)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _flat(found: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """``{"val": {"loss": 1.0}}`` -> ``val.loss``; lists, and what lies deeper than four, are no scores."""
    for key, value in found.items():
        if isinstance(value, dict):
            if depth < 4:
                yield from _flat(value, f"{prefix}{key}.", depth + 1)
        else:
            yield prefix + key, value
