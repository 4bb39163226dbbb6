"""Where the further screens' parts stand: every cell belongs to one part, at any size, and the front is in sight."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.layout import Pane, Rect
from console.screens import places
from console.screens.places import CHART, DIFF, STORY, TALK, TRIALS, Panes

FRONTS: dict[Callable[[Rect, Pane], Panes], tuple[Pane, ...]] = {
    places.experiment: (STORY, TRIALS, DIFF, CHART, TALK),
    places.comparison: (STORY, DIFF, CHART),
    places.ratchet: (CHART, DIFF, STORY),
}
WIDTHS, HEIGHTS = st.integers(1, 300), st.integers(1, 120)


def tile(parts: Iterable[Rect], whole: Rect) -> None:
    found = list(parts)
    assert sum(r.width * r.height for r in found) == whole.width * whole.height
    for i, a in enumerate(found):
        assert a.width > 0 and a.height > 0
        assert whole.x <= a.x and a.x + a.width <= whole.x + whole.width
        assert whole.y <= a.y and a.y + a.height <= whole.y + whole.height
        for b in found[i + 1 :]:
            assert (
                a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
            ), (a, b)


@given(WIDTHS, HEIGHTS)
def test_the_page_covers_the_terminal(width: int, height: int) -> None:
    page = places.page(width, height)
    parts = [page.status, page.head, page.body, page.strip, page.footer]
    tile([part for part in parts if part is not None and part.height], Rect(0, 0, width, height))


@given(WIDTHS, HEIGHTS)
def test_the_history_covers_its_body(width: int, height: int) -> None:
    body = places.page(width, height).body
    tile(places.history(body).values(), body)


@given(WIDTHS, HEIGHTS, st.sampled_from(sorted(FRONTS, key=lambda f: f.__name__)), st.data())
def test_panes_cover_the_body_and_the_one_in_front_is_among_them(
    width: int, height: int, arrange: Callable[[Rect, Pane], Panes], data: st.DataObject
) -> None:
    body = places.page(width, height).body
    front = data.draw(st.sampled_from(FRONTS[arrange]))
    found = arrange(body, front)
    tile([*found.panes.values(), *([found.tabs] if found.tabs else [])], body)
    assert front in found.panes


@pytest.mark.parametrize(
    ("width", "height", "panes", "status", "strip"),
    [(200, 60, 4, True, True), (120, 40, 4, True, True), (80, 24, 1, True, True), (50, 12, 1, True, False)],
)
def test_the_promised_shapes_of_an_experiment(
    width: int, height: int, panes: int, status: bool, strip: bool
) -> None:
    page = places.page(width, height)
    found = places.experiment(page.body, STORY)
    assert len(found.panes) == panes and found.tabs is not None
    assert (page.status.height == 1, page.strip is not None) == (status, strip)


def test_the_ratchet_shows_the_change_beside_the_staircase_at_every_promised_size() -> None:
    for size, panes in (((200, 60), 3), ((120, 40), 2), ((80, 24), 2)):
        assert len(places.ratchet(places.page(*size).body, CHART).panes) == panes
