"""Three-way merge by lines in which neighbours do not conflict. Pure.

git calls changes of adjacent lines a conflict. In a table of constants, where every line is one, that makes most
pairs of proposals conflict. Here they merge: the merged program is measured from the start in any case, so a
merge that is textually clean and wrong costs a screening run, never a false keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from itertools import pairwise

Change = tuple[int, int, tuple[bytes, ...]]  # base lines [start, end) become these


def merge_lines(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """``base`` with both sides' changes; None when they touch the same lines or insert at the same place."""
    lines = base.splitlines(keepends=True)
    changes = sorted({*_changes(lines, ours), *_changes(lines, theirs)})
    for (start, end, new), (start2, end2, new2) in pairwise(changes):
        same_place = start == end == start2 == end2 and new != new2
        if start2 < end or same_place:
            return None
    for start, end, new in reversed(changes):
        lines[start:end] = new
    return b"".join(lines)


def _changes(base: list[bytes], side: bytes) -> list[Change]:
    other = side.splitlines(keepends=True)
    matcher = SequenceMatcher(None, base, other, autojunk=False)
    return [(i1, i2, tuple(other[j1:j2])) for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal"]


def merge_files(
    base: Mapping[str, bytes], ours: Mapping[str, bytes], theirs: Mapping[str, bytes]
) -> tuple[dict[str, bytes | None], list[str]]:
    """What ``theirs`` changed, as it reads on ``ours``: path -> content (None: deleted), and the conflicts."""
    merged: dict[str, bytes | None] = {}
    conflicts: list[str] = []
    for path in sorted({*base, *theirs}):
        before, mine, new = base.get(path), ours.get(path), theirs.get(path)
        if new in (before, mine):
            continue
        if mine == before:
            merged[path] = new
        elif (content := _merge_file(before, mine, new)) is not None:
            merged[path] = content
        else:
            conflicts.append(path)
    return merged, conflicts


def _merge_file(base: bytes | None, ours: bytes | None, theirs: bytes | None) -> bytes | None:
    if base is None or ours is None or theirs is None or any(b"\0" in x for x in (base, ours, theirs)):
        return None  # made or deleted on one side and changed on the other, or binary
    return merge_lines(base, ours, theirs)
