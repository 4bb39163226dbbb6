"""The layout fits every terminal: no gap, no overlap, and the promised shapes at the promised sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.layout import PANES, Layout, Pane, Rect, Shape, arrange


def rects(plan: Layout) -> list[Rect]:
    return [r for r in (plan.status, plan.tabs, plan.strip, plan.footer, *plan.panes.values()) if r is not None]


@given(st.integers(1, 400), st.integers(1, 150), st.sampled_from(PANES), st.booleans())
def test_every_cell_belongs_to_exactly_one_part(width: int, height: int, front: Pane, enlarged: bool) -> None:
    plan = arrange(width, height, front, enlarged)
    parts = rects(plan)
    assert sum(r.width * r.height for r in parts) == width * height
    for i, a in enumerate(parts):
        assert a.x >= 0 and a.y >= 0 and a.width > 0 and a.height > 0
        assert a.x + a.width <= width and a.y + a.height <= height
        for b in parts[i + 1 :]:
            apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
            assert apart, (a, b)


@pytest.mark.parametrize(
    ("width", "height", "shape", "panes"),
    [
        (200, 60, Shape.WIDE, 6),
        (160, 50, Shape.MIDDLE, 5),
        (120, 40, Shape.MIDDLE, 5),
        (80, 24, Shape.TABS, 1),
        (60, 16, Shape.TABS, 1),
        (59, 40, Shape.TINY, 0),
        (200, 15, Shape.TINY, 0),
    ],
)
def test_the_promised_shapes(width: int, height: int, shape: Shape, panes: int) -> None:
    plan = arrange(width, height)
    assert (plan.shape, len(plan.panes)) == (shape, panes)


@given(st.integers(60, 300), st.integers(16, 100), st.sampled_from(PANES), st.booleans())
def test_the_pane_in_focus_is_always_on_the_screen(width: int, height: int, front: Pane, enlarged: bool) -> None:
    assert front in arrange(width, height, front, enlarged).panes


def test_an_enlarged_pane_stands_alone() -> None:
    assert list(arrange(200, 60, Pane.LOG, enlarged=True).panes) == [Pane.LOG]
