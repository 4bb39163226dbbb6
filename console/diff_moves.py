"""How a diff is looked at, and the moves within it. Pure: an index and the pane's rows go in, a view comes out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace

from console.diff_context import LEVELS, STORED
from console.diff_rows import Index

SPLIT_WIDTH = 110  # columns of the pane from which two sides fit
LEAST_SPLIT = 40  # below, two sides show no code, whatever was wished


@dataclass(frozen=True, slots=True)
class DiffView:
    """``split`` None: side by side where the pane is wide enough. ``context``: lines. ``top``: the first row."""

    split: bool | None = None
    context: int = STORED
    top: int = 0

    def is_split(self, width: int) -> bool:
        return width >= SPLIT_WIDTH if self.split is None else self.split and width >= LEAST_SPLIT


def last_top(index: Index, rows: int) -> int:
    return max(0, index.total - max(1, rows))


def move(view: DiffView, lines: int, index: Index, rows: int) -> DiffView:
    """Down by ``lines`` (up where negative), as far as there is something to see in ``rows`` rows."""
    last = last_top(index, rows)
    return replace(view, top=min(last, max(0, min(last, view.top) + lines)))


def next_hunk(view: DiffView, index: Index, step: int, rows: int = 1) -> DiffView:
    """The next (+1) or previous (-1) hunk on top, under the line that names its file."""
    return _jump(view, [at - 1 for at in index.hunks], step, last_top(index, rows))


def next_file(view: DiffView, index: Index, step: int, rows: int = 1) -> DiffView:
    return _jump(view, list(index.tops), step, last_top(index, rows))


def _jump(view: DiffView, tops: list[int], step: int, last: int) -> DiffView:
    top = min(view.top, last)
    if step > 0:
        i = bisect_right(tops, top)
        return replace(view, top=min(last, tops[i]) if i < len(tops) else top)
    i = bisect_left(tops, top) - 1
    return replace(view, top=tops[i] if i >= 0 else 0)


def keep_place(view: DiffView, old: Index, new: Index) -> DiffView:
    """``view`` of ``old`` as one of ``new``, whose rows are others: what is read stays where it is."""
    if view.top == 0 or not new.total:
        return replace(view, top=0)
    # the first row is under the line that names its file: what follows is what the eye is on
    places = old.window(view.top + 1, 2)
    row = next((place.new or place.old for place in places if place.kind == "row"), None)
    if row is None:
        first = old.window(view.top, 1)
        return replace(view, top=new.tops[first[0].file] if first else 0)
    at = new.find(places[0].file, row)
    if places[0].kind == "hunk":
        at = new.hunks[new.hunk_at(at) - 1]
    return replace(view, top=max(0, at - 1))


def with_context(view: DiffView, step: int, levels: tuple[int, ...] = LEVELS) -> DiffView:
    """The next level of context up or down; the same view where there is none."""
    if step > 0:
        return replace(view, context=min((n for n in levels if n > view.context), default=view.context))
    return replace(view, context=max((n for n in levels if n < view.context), default=view.context))
