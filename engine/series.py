"""Loss curves in a bounded number of rows: streaming min/max decimation. Pure: no I/O, no clock.

A trial may print a million points; the store keeps at most ``limit`` a series, and the console draws
them. Averages would hide the spike that explains a crash, so every bucket keeps its least and its
greatest point, in the order in which they came (the usual min/max decimation of oscilloscopes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite

from engine.types import Point

POINTS_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class SeriesChange:
    """What the store must do: append ``rows`` to ``series``, or (``rewrite``) replace it by them."""

    series: str
    rewrite: bool
    rows: tuple[Point, ...]


class Decimator:
    """One series in at most ``limit`` rows; minimum, maximum, first and last point always among them.

    Until about ``limit`` points every point is a row. From then on points fall into buckets of ``width``
    consecutive points, of which the least and the greatest remain; when the buckets are used up,
    neighbours merge and the width doubles. The state depends on the sequence of points alone, never on
    how it was cut into calls. Non-finite values are left out (SQLite would store NaN as NULL).
    """

    def __init__(self, series: str, limit: int = POINTS_LIMIT) -> None:
        if limit < 6:
            raise ValueError(f"a series needs at least 6 rows, got limit={limit}")
        self.series = series
        self.count = 0  # finite points seen
        self._capacity = (limit - 2) // 4 * 2  # full buckets of two rows; even, so that all merge in pairs
        self._width = 1  # points a bucket
        self._closed: list[tuple[Point, ...]] = []  # the one or two rows of each full bucket
        self._filled = 0  # points in the open bucket
        self._low: Point | None = None  # of the open bucket, and where in it they stand
        self._high: Point | None = None
        self._low_at = self._high_at = 0
        self._first: Point | None = None
        self._last: Point | None = None
        self._given = 0  # full buckets that the store already has
        self._stale = False  # what the store has no longer stands: the next take rewrites
        self._tail_given = -1  # ``count`` when a tail was handed out; -1 = the store has none

    def add(self, points: Iterable[Point]) -> None:
        for point in points:
            self.push(point)

    def push(self, point: Point) -> None:
        """One point; what ``add`` does for each."""
        value = point.value
        if not isfinite(value):
            return
        self.count += 1
        self._last = point
        if self._width == 1:
            if self._first is None:
                self._first = point
            self._closed.append((point,))
            if len(self._closed) == 2 * self._capacity:
                self._merge()  # pairs: still every point
                self._merge()
            return
        low, high = self._low, self._high
        if low is None or high is None:
            self._low = self._high = point
            self._low_at = self._high_at = 0
            self._filled = 1
            return
        # Strictly less or greater: of equal points the earliest stays, as it does when buckets merge.
        if value < low.value:
            self._low, self._low_at = point, self._filled
        elif value > high.value:
            self._high, self._high_at = point, self._filled
        self._filled += 1
        if self._filled == self._width:
            self._closed.append(self._open_rows())
            self._low = self._high = None
            if len(self._closed) == self._capacity:
                self._merge()

    def rows(self) -> list[Point]:
        """The series as it stands, in order of arrival; never more than ``limit`` points."""
        return self._whole() + self._tail()

    @property
    def dirty(self) -> bool:
        """Whether ``take()`` would return something."""
        return self._stale or self._outgrown() or self._given < len(self._closed)

    def take(self, final: bool = False) -> SeriesChange | None:
        """What happened since the last ``take``, or None.

        A bucket still being filled is held back (at most a five-hundredth of the curve with the usual
        limit), so that what was appended stays true. ``final`` hands it out too: the store then
        holds exactly ``rows()``. Points that come after that are answered with one rewrite.
        """
        rewrite = self._stale or self._outgrown()
        rows = self._whole() if rewrite else _flat(self._closed[self._given :])
        if rewrite:
            self._tail_given = -1
        if final and self._tail_given < 0 and (tail := self._tail()):
            rows += tail
            self._tail_given = self.count
        self._given = len(self._closed)
        self._stale = False
        return SeriesChange(self.series, rewrite, tuple(rows)) if rows else None

    def _outgrown(self) -> bool:
        """A tail was handed out and points came after it."""
        return self._tail_given not in (-1, self.count)

    def _merge(self) -> None:
        pairs = zip(self._closed[::2], self._closed[1::2], strict=True)
        self._closed = [_extremes(left + right) for left, right in pairs]
        self._width *= 2
        self._stale = True

    def _open_rows(self) -> tuple[Point, ...]:
        low, high = self._low, self._high
        if low is None or high is None:
            return ()
        if low is high:
            return (low,)
        return (low, high) if self._low_at < self._high_at else (high, low)

    def _whole(self) -> list[Point]:
        """The very first point and all full buckets."""
        rows = _flat(self._closed)
        if self._first is not None and (not rows or rows[0] is not self._first):
            rows.insert(0, self._first)
        return rows

    def _tail(self) -> list[Point]:
        """The open bucket and the very last point, as far as no full bucket ends with it."""
        rows = list(self._open_rows())
        end = rows or (self._closed[-1] if self._closed else ())
        if self._last is not None and (not end or end[-1] is not self._last):
            rows.append(self._last)
        return rows


class Curves:
    """All series of one trial: points in, changes for the store out."""

    def __init__(self, limit: int = POINTS_LIMIT) -> None:
        self._limit = limit
        self._series: dict[str, Decimator] = {}

    def add(self, points: Iterable[Point]) -> None:
        known = self._series
        for point in points:
            decimator = known.get(point.series)
            if decimator is None:
                decimator = known[point.series] = Decimator(point.series, self._limit)
            decimator.push(point)

    def take(self, final: bool = False) -> list[SeriesChange]:
        """The changes of every series since the last call, in order of first appearance."""
        changes = (decimator.take(final) for decimator in self._series.values())
        return [change for change in changes if change is not None]

    def rows(self, series: str) -> list[Point]:
        decimator = self._series.get(series)
        return decimator.rows() if decimator else []

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)


def _flat(buckets: Iterable[tuple[Point, ...]]) -> list[Point]:
    return [point for bucket in buckets for point in bucket]


def _extremes(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The least and the greatest of up to four points, the earliest of equal ones, in their order."""
    low = high = 0
    for i in range(1, len(points)):
        if points[i].value < points[low].value:
            low = i
        if points[i].value > points[high].value:
            high = i
    return (points[low],) if low == high else (points[min(low, high)], points[max(low, high)])
