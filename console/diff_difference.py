"""How two diffs differ: which changed lines both have, and which only one of them has. Pure, of bounded cost."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from console.diffs import Diff, File

MOST = 1500  # changed lines of one file: difflib is quadratic


class Change(NamedTuple):
    """A line that at least one of the two changed. ``side``: '=' both, '1' or '2' only that one."""

    side: str
    sign: str  # + or -
    text: str


class Part(NamedTuple):
    """One file. ``note``: what cannot be compared line by line, in words."""

    path: str
    changes: tuple[Change, ...]
    note: str = ""


def difference(first: Diff, second: Diff) -> tuple[Part, ...]:
    """Files in the first's order, then those that only the second touches."""
    left, right = ({file.path: file for file in diff} for diff in (first, second))
    paths = [*left, *(path for path in right if path not in left)]
    return tuple(_part(path, left.get(path), right.get(path)) for path in paths)


def _part(path: str, first: File | None, second: File | None) -> Part:
    a, b = _changed(first), _changed(second)
    note = ""
    if any(file is not None and file.binary for file in (first, second)):
        note = "a binary file: its bytes are not compared"
    elif max(len(a), len(b)) > MOST:
        note = f"only the first {MOST:,} changed lines of each are compared"
    found: list[Change] = []
    for tag, i, j, k, m in SequenceMatcher(None, a[:MOST], b[:MOST], autojunk=False).get_opcodes():
        if tag == "equal":
            found += [Change("=", *one) for one in a[i:j]]
        else:
            found += [Change("1", *one) for one in a[i:j]] + [Change("2", *one) for one in b[k:m]]
    return Part(path, tuple(found), note)


def _changed(file: File | None) -> list[tuple[str, str]]:
    if file is None:
        return []
    return [(row.sign, row.text) for hunk in file.hunks for row in hunk.rows if row.sign in "+-"]


def counts(parts: Sequence[Part]) -> tuple[int, int, int]:
    """(lines that both changed alike, only the first, only the second)."""
    sides = [change.side for part in parts for change in part.changes]
    return sides.count("="), sides.count("1"), sides.count("2")
