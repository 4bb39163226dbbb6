"""What a person types after ``/``: words and conditions, as a test of a history's row. Pure.

``lr warmup`` both words; ``"weight decay"`` as it stands; ``-muon`` not; ``verdict:keep`` begins with;
``effect>0.01`` compares; ``#41`` that one. All must hold. A value that is not known never holds.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from console.formats import one_or_more
from engine.store.reading_screens import HistoryRow

Test = Callable[[HistoryRow], bool]

WORDS = ("verdict", "author", "kind", "state", "stage", "outcome", "title", "model")
NUMBERS = ("effect", "low", "high", "score", "dollars", "number")
KNOWN = {  # values that are few: one that is none of them is a slip
    "verdict": ("keep", "discard", "crash", "invalid", "cancelled"),
    "author": ("claude", "search", "command", "person", "import"),
    "state": ("drafting", "review", "ready", "measuring", "judging", "keep_review", "merging", "settled"),
}
_COMPARE = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "=": operator.eq, "==": operator.eq,
}  # fmt: skip
_PART = re.compile(r'-?"[^"]*"?|\S+')
_CONDITION = re.compile(r"([a-z_]+)(>=|<=|==|[:<>=])(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Filter:
    """``problem`` is '' or says what is wrong; the parts that were understood count all the same."""

    text: str = ""
    tests: tuple[Test, ...] = ()
    problem: str = ""

    def __bool__(self) -> bool:
        return bool(self.tests)

    def matches(self, row: HistoryRow) -> bool:
        return all(test(row) for test in self.tests)


def parse(text: str) -> Filter:
    """The tests of ``text``. Never raises: a half typed condition is a problem in words."""
    tests: list[Test] = []
    problems: list[str] = []
    for part in _PART.findall(text):
        found = _test(part)
        if isinstance(found, str):
            problems.append(found)
        elif found is not None:
            tests.append(found)
    return Filter(text, tuple(tests), problems[0] if problems else "")


def chosen(rows: Iterable[HistoryRow], by: Filter) -> list[HistoryRow]:
    return [row for row in rows if by.matches(row)] if by else list(rows)


def _test(part: str) -> Test | str | None:
    if part.startswith("-") and len(part) > 1:
        found = _test(part[1:])
        if not callable(found):
            return found
        inner = found
        return lambda row: not inner(row)
    if part.startswith('"'):
        phrase = part.strip('"').lower()
        return (lambda row: phrase in _haystack(row)) if phrase else None
    if re.fullmatch(r"#\d{1,9}", part):
        wanted = int(part[1:])
        return lambda row: row.number == wanted
    condition = _CONDITION.fullmatch(part)
    if condition is not None:
        return _condition(condition[1].lower(), condition[2], condition[3].strip('"'))
    word = part.lower()
    return lambda row: word in _haystack(row)


def _condition(key: str, sign: str, value: str) -> Test | str:
    if key not in WORDS + NUMBERS:
        near = difflib.get_close_matches(key, WORDS + NUMBERS, 1)
        return f"no {key!r} here" + (f", {near[0]}?" if near else f": {', '.join(WORDS + NUMBERS)}")
    if key in NUMBERS:
        return _number(key, "=" if sign == ":" else sign, value)
    if sign not in (":", "=", "=="):
        return f"{key} is a word: {key}:…, not {key}{sign}…"
    wanted = value.lower()
    if not wanted:
        return f"{key}: which? " + ", ".join(KNOWN.get(key, ()))
    known = KNOWN.get(key)
    if known and not any(one.startswith(wanted) for one in known):
        return f"no {key} begins with {wanted!r}: {', '.join(known)}"
    if key in ("title", "model"):
        return lambda row: wanted in _word(row, key)
    return lambda row: _word(row, key).startswith(wanted)


def _number(key: str, sign: str, value: str) -> Test | str:
    try:
        wanted = float(value.lstrip("$"))
    except ValueError:
        return f"{key}{sign} wants a number" + (f", not {value!r}" if value else "")
    compare = _COMPARE[sign]

    def test(row: HistoryRow) -> bool:
        found = _value(row, key)
        return found is not None and bool(compare(found, wanted))

    return test


def _value(row: HistoryRow, key: str) -> float | None:
    if key == "dollars":
        return None if row.dollars is None else row.dollars / 1e9
    names = {"low": "effect_low", "high": "effect_high"}
    found: float | None = getattr(row, names.get(key, key))
    return found


def _word(row: HistoryRow, key: str) -> str:
    found = row.author_detail if key == "model" else getattr(row, key)
    return str(found or "").lower()


def _haystack(row: HistoryRow) -> str:
    return "\n".join((row.title, row.hypothesis, row.author, row.kind, row.outcome)).lower()


def told(by: Filter, found: int, of: int) -> str:
    """``12 of 1,003 experiments``."""
    return f"{found:,} of {one_or_more(of, 'experiment')}" if by else one_or_more(of, "experiment")
