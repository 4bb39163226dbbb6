"""Search in the files that a proposer may read: plain text, or a regular expression, line by line.

A regular expression comes from a model and may backtrack for ever, so it is matched in a child process under the
kernel's limits (``bounded``): the parser's checks need that child anyway, and an engine without linear time
(google-re2) or deadline (regex) of its own is one compiled dependency less. Plain text is linear and stays here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import EditRejected
from engine.proposers import bounded

HITS = 100  # shown at most
PATTERN_LENGTH = 500
_LINE_LENGTH = 240


@dataclass(frozen=True, slots=True)
class Hit:
    path: str
    line: int  # 1-based
    text: str


@dataclass(frozen=True, slots=True)
class Hits:
    """``total`` lines matched; ``shown`` in the order of files and lines, at most HITS."""

    shown: tuple[Hit, ...]
    total: int


async def search(files: Mapping[str, str], pattern: str, *, regex: bool) -> Hits:
    """Lines of ``files`` (path -> text) that hold ``pattern``. Raises EditRejected for an unfit pattern."""
    if not pattern:
        raise EditRejected("the pattern is empty", "give some text that the lines hold")
    if len(pattern) > PATTERN_LENGTH:
        raise EditRejected(f"the pattern is longer than {PATTERN_LENGTH} characters", "search for less text")
    if "\n" in pattern:
        raise EditRejected("the pattern holds a newline, and lines are searched one by one", "search for one line")
    if not regex:
        return _gather((path, number, line) for path, number, line in _lines(files) if pattern in line)
    try:
        found = await bounded.call("engine.proposers.text_search:match_in_child", [dict(files), pattern])
    except bounded.GaveUp as fault:
        raise EditRejected(
            f"the search was given up: {fault.message}",
            "nested repetition such as (a+)+ has no end: write a simpler pattern, or set regex to false",
        ) from None
    if isinstance(found, str):
        raise EditRejected(f"the regular expression is malformed: {found}", "mend it, or set regex to false")
    total, rows = found
    return Hits(tuple(Hit(path, number, line) for path, number, line in rows), total)


def match_in_child(argument: Any) -> Any:
    """[total, rows], or what is wrong with the pattern. Runs in the bounded child only."""
    files, pattern = argument
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matcher = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as fault:
        return str(fault) or type(fault).__name__
    hits = _gather((path, number, line) for path, number, line in _lines(files) if matcher.search(line))
    return [hits.total, [[hit.path, hit.line, hit.text] for hit in hits.shown]]


def _lines(files: Mapping[str, str]) -> Any:
    for path in sorted(files):
        for number, line in enumerate(files[path].split("\n"), 1):
            yield path, number, line.removesuffix("\r")


def _gather(found: Any) -> Hits:
    shown, total = [], 0
    for path, number, line in found:
        total += 1
        if total <= HITS:
            shown.append(Hit(path, number, line if len(line) <= _LINE_LENGTH else f"{line[:_LINE_LENGTH]}..."))
    return Hits(tuple(shown), total)
