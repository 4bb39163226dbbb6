"""Dots fall where their values are, and a line has no holes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from console.braille import Canvas

UNIT = (0.0, 10.0)
inside = st.tuples(st.floats(0, 10), st.floats(0, 10))


def dots(canvas: Canvas) -> set[tuple[int, int]]:
    """Every set dot, from the left and from the top."""
    order = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))  # Unicode's numbering of the dots
    return {
        (2 * column + x, 4 * row + y)
        for column, row, text in canvas.cells()
        for bit, (x, y) in enumerate(order)
        if (ord(text) - 0x2800) >> bit & 1
    }


def drawn(run: list[tuple[float, float]], columns: int = 20, rows: int = 6) -> Canvas:
    canvas = Canvas(columns, rows, UNIT, UNIT)
    canvas.line(run)
    return canvas


@given(st.lists(inside, min_size=1, max_size=20), st.integers(1, 30), st.integers(1, 10))
def test_a_line_goes_through_all_its_points_without_a_hole(
    run: list[tuple[float, float]], columns: int, rows: int
) -> None:
    run.sort()
    canvas = drawn(run, columns, rows)
    found = dots(canvas)
    assert {canvas.dot(point) for point in run} <= found
    assert all(0 <= i < 2 * columns and 0 <= j < 4 * rows for i, j in found)
    left = {next(iter(found))}
    waiting = list(left)
    while waiting:
        i, j = waiting.pop()
        near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & found - left
        left |= near
        waiting += near
    assert left == found


@given(inside, inside)
def test_a_line_stays_between_its_ends_and_takes_no_more_dots_than_it_needs(
    start: tuple[float, float], end: tuple[float, float]
) -> None:
    run = sorted((start, end))
    canvas = drawn(run)
    (i0, j0), (i1, j1) = canvas.dot(run[0]), canvas.dot(run[1])
    found = dots(canvas)
    assert all(i0 <= i <= i1 and min(j0, j1) <= j <= max(j0, j1) for i, j in found)
    assert len(found) <= (i1 - i0) + abs(j1 - j0) + 1


def test_points_fall_into_the_cells_that_show_them_and_others_are_left_out() -> None:
    canvas = Canvas(5, 2, UNIT, UNIT)
    canvas.points([(0.0, 0.0), (10.0, 10.0), (0.0, 0.1), (99.0, 5.0), (5.0, -1.0)])
    assert sorted(canvas.cells()) == [(0, 1, "⡀"), (4, 0, "⠈")]


def test_a_line_straight_up_fills_its_column() -> None:
    assert [text for _, _, text in drawn([(0.0, 0.0), (0.0, 10.0)], 1, 3).cells()] == ["⡇", "⡇", "⡇"]
    assert [text for _, _, text in drawn([(10.0, 0.0), (10.0, 10.0)], 1, 2).cells()] == ["⢸", "⢸"]
    assert [text for _, _, text in drawn([(0.0, 10.0), (10.0, 10.0)], 3, 1).cells()] == ["⠉", "⠉", "⠉"]
