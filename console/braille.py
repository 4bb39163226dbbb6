"""Lines and points as braille characters: 2 x 4 dots a cell. Pure.

Whole columns of dots are set at once, because the min/max of a noisy series fills them: 67,000 dots of three
curves take plotext 160 ms, and this 5 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

XY = tuple[float, float]
Ends = tuple[float, float]
_DOTS = (
    (0x01, 0x02, 0x04, 0x40),
    (0x08, 0x10, 0x20, 0x80),
)  # Unicode's numbering: left and right column, from the top
# _FILLED[side][a][b]: the dots a to b of a cell's column
_FILLED = tuple(tuple(tuple(sum(_DOTS[side][a : b + 1]) for b in range(4)) for a in range(4)) for side in range(2))


class Canvas:
    """``columns`` x ``rows`` cells over the axes ``x`` and ``y`` (their ends)."""

    def __init__(self, columns: int, rows: int, x: Ends, y: Ends) -> None:
        self.columns, self.rows = columns, rows
        self._x, self._y = x, y
        self._masks = bytearray(columns * rows)

    def dot(self, point: XY) -> tuple[int, int]:
        """The dot nearest to ``point``: from the left, from the top. May lie outside."""
        (x0, x1), (y0, y1) = self._x, self._y
        i = int((point[0] - x0) / (x1 - x0) * (2 * self.columns - 1) + 0.5)
        return i, int((y1 - point[1]) / (y1 - y0) * (4 * self.rows - 1) + 0.5)

    def points(self, points: Iterable[XY]) -> None:
        """Points on the canvas; others are left out."""
        (x0, x1), (y0, y1) = self._x, self._y
        inside = (p for p in points if x0 <= p[0] <= x1 and y0 <= p[1] <= y1)
        for i, j in map(self.dot, inside):
            self._masks[(j >> 2) * self.columns + (i >> 1)] |= _DOTS[i & 1][j & 3]

    def line(self, run: Sequence[XY]) -> None:
        """A connected line through points that all lie on the canvas (``tracing.clip``)."""
        dots = [self.dot(point) for point in run]
        if len(dots) == 1:
            self._fill(dots[0][0], dots[0][1], dots[0][1])
        for (i0, j0), (i1, j1) in pairwise(dots):
            if i0 == i1:
                self._fill(i0, min(j0, j1), max(j0, j1))
                continue
            if i1 < i0:
                i0, j0, i1, j1 = i1, j1, i0, j0
            slope = (j1 - j0) / (i1 - i0)
            if -1 <= slope <= 1:
                for i in range(i0, i1 + 1):
                    j = int(j0 + slope * (i - i0) + 0.5)
                    self._fill(i, j, j)
                continue
            begin = j0
            for i in range(i0, i1 + 1):  # steep: each column a stretch that begins where the last one ended
                end = j1 if i == i1 else int(j0 + slope * (i + 0.5 - i0) + 0.5)
                self._fill(i, min(begin, end), max(begin, end))
                begin = end

    def _fill(self, i: int, low: int, high: int) -> None:
        """The dots ``low`` to ``high`` of the column ``i``."""
        masks, columns, filled = self._masks, self.columns, _FILLED[i & 1]
        first, last = low >> 2, high >> 2
        at = first * columns + (i >> 1)
        if first == last:
            masks[at] |= filled[low & 3][high & 3]
            return
        masks[at] |= filled[low & 3][3]
        whole = filled[0][3]
        for _ in range(first + 1, last):
            at += columns
            masks[at] |= whole
        masks[at + columns] |= filled[0][high & 3]

    def cells(self) -> Iterator[tuple[int, int, str]]:
        """(column, row from the top, character) of the cells that are not empty."""
        for at, mask in enumerate(self._masks):
            if mask:
                yield at % self.columns, at // self.columns, chr(0x2800 + mask)
