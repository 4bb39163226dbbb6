"""How a person looks at the history: filter, order, cursor, marks. Pure: rows and a view in, a table out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from console.charting import Mark
from console.history_filter import Filter
from engine.store.reading_screens import HistoryRow

SORTS = ("number", "effect", "score", "verdict", "author", "kind", "dollars")
WORDS = ("verdict", "author", "kind")
_VERDICTS = ("keep", "discard", "crash", "invalid", "cancelled")


@dataclass(frozen=True, slots=True)
class HistoryView:
    """``cursor`` None stays on the first row. ``only``: rows that do not match are hidden, else dimmed."""

    filter: Filter = field(default_factory=Filter)
    sort: str = "number"
    upwards: bool = False  # the other way round
    only: bool = True
    cursor: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The rows as they stand, compared by identity. ``places``: number -> row; ``hits``: the rows that match."""

    rows: tuple[HistoryRow, ...]
    places: dict[int, int]
    hits: tuple[int, ...]
    total: int
    dollars: bool = False  # whether any row has some
    kinds: bool = False


def tabulate(rows: Sequence[HistoryRow], view: HistoryView) -> Table:
    """10,000 rows in about 20 ms; a new cursor needs no new table."""
    by = view.filter
    matching = [row for row in rows if by.matches(row)] if by else list(rows)
    shown = arrange(matching if view.only else rows, view.sort, view.upwards)
    places = {row.number: i for i, row in enumerate(shown)}
    hits = tuple(sorted(places[row.number] for row in matching)) if by else ()
    return Table(
        tuple(shown), places, hits, len(rows), any(row.dollars for row in rows), any(row.kind for row in rows)
    )


def arrange(rows: Sequence[HistoryRow], sort: str, upwards: bool) -> list[HistoryRow]:
    """By ``sort``: numbers from the greatest, words from a, the other way round when ``upwards``.

    What has no value comes last in either, and of equals the newest first.
    """
    value = _VALUES[sort]
    keyed = [(value(row), row) for row in rows]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[1].number, reverse=True)
    down = sort not in WORDS  # words begin with a
    known.sort(key=lambda pair: pair[0], reverse=down is not upwards)  # type: ignore[arg-type, return-value]
    rest = [row for found, row in keyed if found is None]
    rest.sort(key=lambda row: row.number, reverse=True)
    return [row for _, row in known] + rest


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


_VALUES: dict[str, Callable[[HistoryRow], float | str | None]] = {
    "number": lambda row: row.number,
    "effect": lambda row: _finite(row.effect),
    "score": lambda row: _finite(row.score),
    "verdict": lambda row: _VERDICTS.index(row.verdict) if row.verdict in _VERDICTS else None,
    "author": lambda row: row.author.lower() or None,
    "kind": lambda row: row.kind.lower() or None,
    "dollars": lambda row: row.dollars or None,
}


def next_sort(view: HistoryView) -> HistoryView:
    return replace(view, sort=SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)], upwards=False)


# --- the cursor --------------------------------------------------------------------------------------


def index_of(table: Table, cursor: int | None) -> int:
    """The cursor's row; the first one where its experiment is not shown."""
    return table.places.get(cursor, 0) if cursor is not None else 0


def under_cursor(table: Table, view: HistoryView) -> HistoryRow | None:
    return table.rows[index_of(table, view.cursor)] if table.rows else None


def move(table: Table, view: HistoryView, lines: int) -> HistoryView:
    if not table.rows:
        return view
    at = min(max(0, index_of(table, view.cursor) + lines), len(table.rows) - 1)
    first = at == 0 and lines < 0 and view.sort == "number" and not view.upwards
    return replace(view, cursor=None if first else table.rows[at].number)  # on top it follows the newest


def next_hit(table: Table, view: HistoryView, step: int) -> HistoryView | None:
    """The next (+1) or previous (-1) row that matches, round the ends; None where none does."""
    if not table.hits:
        return None
    at = index_of(table, view.cursor)
    if step > 0:
        found = next((hit for hit in table.hits if hit > at), table.hits[0])
    else:
        found = next((hit for hit in reversed(table.hits) if hit < at), table.hits[-1])
    return replace(view, cursor=table.rows[found].number)


def top_row(index: int, total: int, rows: int) -> int:
    """The first row in sight: the cursor moves the window only when it must leave it, by half a page."""
    if index < rows - 2 or total <= rows:
        return 0
    page = max(1, rows // 2)
    return min(((index - rows + 2) // page + 1) * page, max(0, total - rows))


# --- two to compare ----------------------------------------------------------------------------------


def pair(marks: Sequence[Mark], cursor: int | None) -> tuple[int, int] | str:
    """The two experiments to compare, or why there are none: two marked, or one marked and another in hand."""
    numbers = [mark.number for mark in marks]
    if len(numbers) == 2:
        return min(numbers), max(numbers)
    if len(numbers) > 2:
        return f"{len(numbers)} are marked: leave two of them (space takes one off)"
    if len(numbers) == 1 and cursor is not None and cursor != numbers[0]:
        return min(numbers[0], cursor), max(numbers[0], cursor)
    return "mark two first (space), or one and go to another"
