"""A diff laid out in rows, unified or side by side: any window of them without touching the rest. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from console.diffs import Diff, File, Hunk, Row
from console.word_changes import paired

_BLOCK = re.compile(r"-+\+*|\++|[^-+]+")  # over a hunk's signs: one change, or a run without any


class Place(NamedTuple):
    """What one row of the view shows. ``kind``: file, fact, hunk, row.

    Unified: context has its row as both ``old`` and ``new``; a removed or added row only its own, and ``other``
    is the one that it replaced or was replaced by. Side by side: what stands left and right.
    """

    kind: str
    file: int
    hunk: int  # -1: the file's head
    old: Row | None = None
    new: Row | None = None
    other: Row | None = None
    text: str = ""  # of a fact


class _Block(NamedTuple):
    """Rows [first, first + removed + added) of a hunk, or ``plain`` ones; ``at``: its row in the view's hunk."""

    at: int
    first: int
    plain: int
    removed: int
    added: int


@dataclass(slots=True)
class Index:
    """Where everything stands. ``hunks`` and ``tops`` are the rows of hunks' and files' heads, ascending.

    ``digits``: of the greatest line number.
    """

    diff: Diff
    split: bool
    hunks: tuple[int, ...] = ()
    tops: tuple[int, ...] = ()
    total: int = 0
    digits: int = 2
    _starts: list[int] = field(default_factory=list)  # of each segment: a file's head, or a hunk
    _segments: list[tuple[int, int]] = field(default_factory=list)  # (file, hunk or -1)
    _blocks: dict[tuple[int, int], list[_Block]] = field(default_factory=dict)  # of hunks that were looked at

    def __post_init__(self) -> None:
        hunks, tops, at, most = [], [], 0, 0
        for f, file in enumerate(self.diff):
            tops.append(at)
            self._segment(at, f, -1)
            at += 1 + len(facts(file))
            for h, hunk in enumerate(file.hunks):
                hunks.append(at)
                self._segment(at, f, h)
                at += 1 + self._height(hunk)
                most = max(most, hunk.old_start + hunk.old_count - 1, hunk.new_start + hunk.new_count - 1)
        self.hunks, self.tops, self.total = tuple(hunks), tuple(tops), at
        self.digits = max(2, len(str(most)))

    def _segment(self, at: int, file: int, hunk: int) -> None:
        self._starts.append(at)
        self._segments.append((file, hunk))

    def _height(self, hunk: Hunk) -> int:
        if not self.split:
            return len(hunk.rows)
        return sum(_height(found[0], True) for found in _BLOCK.finditer(_signs(hunk)))

    def window(self, top: int, height: int) -> list[Place]:
        """Rows [top, top + height), fewer at the end."""
        top, end = max(0, top), min(self.total, top + height)
        found: list[Place] = []
        segment = bisect_right(self._starts, top) - 1
        while top < end:
            file, hunk = self._segments[segment]
            offset = top - self._starts[segment]
            stop = self._starts[segment + 1] if segment + 1 < len(self._starts) else self.total
            need = min(end, stop) - top
            found += self._head(file, offset, need) if hunk < 0 else self._rows(file, hunk, offset, need)
            top, segment = top + need, segment + 1
        return found

    def _head(self, f: int, offset: int, need: int) -> list[Place]:
        told = facts(self.diff[f])
        all_of_it = [Place("file", f, -1), *(Place("fact", f, -1, text=text) for text in told)]
        return all_of_it[offset : offset + need]

    def _rows(self, f: int, h: int, offset: int, need: int) -> list[Place]:
        """``need`` rows of a hunk from ``offset`` on; 0 is its head."""
        found = [Place("hunk", f, h)] if offset == 0 else []
        blocks = self._blocks.get((f, h))
        if blocks is None:
            blocks = self._blocks[f, h] = list(_blocks(self.diff[f].hunks[h], self.split))
        at = max(0, offset - 1)
        b = bisect_right(blocks, at, key=lambda block: block.at) - 1
        rows = self.diff[f].hunks[h].rows
        while len(found) < need and b < len(blocks):
            block = blocks[b]
            skip = max(0, at - block.at)
            found += [Place("row", f, h, *sides) for sides in self._sides(rows, block, skip, need - len(found))]
            b += 1
        return found

    def _sides(
        self, rows: tuple[Row, ...], block: _Block, skip: int, need: int
    ) -> Iterator[tuple[Row | None, Row | None, Row | None]]:
        first = block.first
        if block.plain:
            for row in rows[first + skip : min(first + block.plain, first + skip + need)]:
                yield row, row, None
            return
        removed = rows[first : first + block.removed]
        added = rows[first + block.removed : first + block.removed + block.added]
        pairs = paired(tuple(row.text for row in removed), tuple(row.text for row in added))
        if self.split:
            for i, j in pairs[skip : skip + need]:
                yield None if i is None else removed[i], None if j is None else added[j], None
            return
        others: dict[int, Row] = {}
        for i, j in pairs:
            if i is not None and j is not None:
                others[i], others[block.removed + j] = added[j], removed[i]
        for n in range(skip, min(block.removed + block.added, skip + need)):
            row = rows[first + n]
            yield (row, None, others.get(n)) if n < block.removed else (None, row, others.get(n))

    def hunk_at(self, row: int) -> int:
        """How many hunks have begun at ``row`` or before it."""
        return bisect_right(self.hunks, row)

    def find(self, file: int, row: Row) -> int:
        """Where ``row`` of a file is shown, else the head of the hunk after its place, or of the last one."""
        segment = bisect_left(self._segments, (file, 0))
        nearest = self.tops[file]
        while segment < len(self._segments) and self._segments[segment][0] == file:
            nearest = self._starts[segment]
            hunk = self.diff[file].hunks[self._segments[segment][1]]
            if not _is_past(hunk, row):
                seen = self.window(nearest, 1 + self._height(hunk))
                return nearest + next((n for n, place in enumerate(seen) if row in (place.old, place.new)), 0)
            segment += 1
        return nearest


def _is_past(hunk: Hunk, row: Row) -> bool:
    """Whether the hunk ends before ``row``."""
    if row.new is not None:
        return hunk.new_start + hunk.new_count <= row.new
    return row.old is not None and hunk.old_start + hunk.old_count <= row.old


def _signs(hunk: Hunk) -> str:
    return "".join([row.sign for row in hunk.rows])


def _height(signs: str, split: bool) -> int:
    removed = signs.count("-")
    added = signs.count("+")
    return max(removed, added) if split and (removed or added) else len(signs)


def _blocks(hunk: Hunk, split: bool) -> Iterator[_Block]:
    at = 0
    for found in _BLOCK.finditer(_signs(hunk)):
        signs = found[0]
        removed, added = signs.count("-"), signs.count("+")
        yield _Block(at, found.start(), 0 if removed or added else len(signs), removed, added)
        at += _height(signs, split)


def facts(file: File) -> list[str]:
    """What the rows of a file do not tell: one line each."""
    found = []
    if file.change in ("renamed", "copied"):
        alike = "" if file.alike is None else f" ({file.alike} % alike)"
        found.append(f"{file.change} from {file.old}{alike}")
    if file.change == "new":
        found.append("new file" if file.hunks or file.binary else "new file, empty")
    if file.change == "deleted":
        found.append("deleted")
    if file.modes != ("", ""):
        found.append(f"mode {file.modes[0]} -> {file.modes[1]}")
    if file.binary:
        found.append("binary: no lines to show")
    return [*found, *file.notes]
