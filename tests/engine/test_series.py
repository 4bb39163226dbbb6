"""Curves in a bounded number of rows: what must survive, and what the store is told."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.series import POINTS_LIMIT, Curves, Decimator, SeriesChange
from engine.types import Point

VALUES = st.lists(st.floats(-1e6, 1e6), max_size=400)
LIMIT = 20


def points(values: list[float], series: str = "loss") -> list[Point]:
    return [Point(series, float(i), value, 0.0) for i, value in enumerate(values)]


def stored(changes: list[SeriesChange]) -> list[Point]:
    """What a store holds that does as it is told."""
    rows: list[Point] = []
    for change in changes:
        rows = list(change.rows) if change.rewrite else rows + list(change.rows)
    return rows


def test_a_short_series_is_kept_whole() -> None:
    short = points([math.sin(i) for i in range(POINTS_LIMIT - 10)])
    decimator = Decimator("loss")
    decimator.add(short)
    assert decimator.rows() == short


@pytest.mark.parametrize("count", [1, 1995, 1996, 1997, 2000, 2001, 4001, 50_000, 123_457])
def test_a_long_series_keeps_its_extremes_and_ends_within_the_limit(count: int) -> None:
    values = [math.sin(i * 0.7) + i / count for i in range(count)]
    values[count // 3] = 1000.0  # one-point spikes: an average or a stride would lose them
    values[count // 2] = -1000.0
    long = points(values)
    decimator = Decimator("loss")
    decimator.add(long)
    rows = decimator.rows()
    assert len(rows) <= POINTS_LIMIT
    assert len(rows) >= min(count, POINTS_LIMIT // 3)
    assert {rows[0], rows[-1]} == {long[0], long[-1]}
    assert {max(values), min(values)} <= {row.value for row in rows}
    assert [r.step for r in rows] == sorted({r.step for r in rows}), "in order, no point twice"


@given(VALUES, st.data())
def test_cutting_the_points_differently_changes_nothing(values: list[float], data: st.DataObject) -> None:
    whole, cut = Decimator("loss", LIMIT), Decimator("loss", LIMIT)
    rest = points(values)
    whole.add(rest)
    while rest:
        n = data.draw(st.integers(1, len(rest)))
        cut.add(rest[:n])
        rest = rest[n:]
        cut.take()  # neither does writing in between
    assert cut.rows() == whole.rows()


@given(VALUES)
def test_rows_are_a_subsequence_with_both_extremes(values: list[float]) -> None:
    decimator = Decimator("loss", LIMIT)
    given_points = points(values)
    decimator.add(given_points)
    rows = decimator.rows()
    assert len(rows) <= LIMIT
    remaining = iter(given_points)
    assert all(row in remaining for row in rows), "rows are points that came, in the order they came"
    if values:
        assert min(values) == min(r.value for r in rows)
        assert max(values) == max(r.value for r in rows)
        assert (rows[0], rows[-1]) == (given_points[0], given_points[-1])


@given(VALUES, st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=20))
def test_a_store_that_follows_the_changes_ends_with_the_rows(
    values: list[float], cuts: list[tuple[int, bool]]
) -> None:
    decimator = Decimator("loss", LIMIT)
    rest, changes = points(values), []
    for n, final in [*cuts, (len(values) + 1, True)]:
        decimator.add(rest[:n])
        rest = rest[n:]
        was_dirty = decimator.dirty
        change = decimator.take(final)  # a final take may come early: an evaluate step prints more
        assert change is not None or not was_dirty
        assert not decimator.dirty
        if change is not None:
            changes.append(change)
            assert len(stored(changes)) <= LIMIT
    assert stored(changes) == decimator.rows()


def test_appends_are_the_rule_and_rewrites_the_exception() -> None:
    decimator = Decimator("loss")
    changes = []
    for point in points([math.cos(i) for i in range(100_000)]):
        decimator.push(point)
        if change := decimator.take():
            changes.append(change)
    rewrites = sum(change.rewrite for change in changes)
    assert 0 < rewrites <= math.ceil(math.log2(100_000 / POINTS_LIMIT)) + 1


def test_the_first_point_of_a_rare_series_is_handed_out_at_once() -> None:
    decimator = Decimator("val_loss")
    decimator.push(Point("val_loss", 250, 2.5, 1.0))
    assert decimator.take() == SeriesChange("val_loss", False, (Point("val_loss", 250, 2.5, 1.0),))
    assert decimator.take() is None
    assert decimator.take(final=True) is None


def test_points_after_a_final_take_are_answered_with_one_rewrite() -> None:
    decimator = Decimator("loss", LIMIT)
    series = points([math.cos(i) for i in range(200)])
    decimator.add(series[:101])
    changes = [decimator.take(final=True)]
    decimator.push(series[101])
    assert decimator.dirty
    changes.append(decimator.take())
    assert changes[-1] is not None and changes[-1].rewrite
    assert not decimator.dirty
    assert decimator.take() is None
    changes.append(decimator.take(final=True))
    assert changes[-1] is not None and not changes[-1].rewrite
    assert stored([c for c in changes if c]) == decimator.rows()


def test_a_constant_series_takes_one_row_a_bucket() -> None:
    decimator = Decimator("lr")
    decimator.add(points([0.5] * 10_000))
    assert len(decimator.rows()) == 10_000 // 16 + 1  # and the last point


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_left_out(value: float) -> None:
    decimator = Decimator("loss")
    decimator.add(points([1.0, value, 2.0]))
    assert [row.value for row in decimator.rows()] == [1.0, 2.0]


def test_curves_keep_series_apart() -> None:
    curves = Curves()
    curves.add([Point("a", 0, 1.0, 0), Point("b", 0, 2.0, 0), Point("a", 1, 3.0, 0)])
    assert [(c.series, len(c.rows)) for c in curves.take(final=True)] == [("a", 2), ("b", 1)]
    assert curves.take(final=True) == []
    assert list(curves) == ["a", "b"]
    assert curves.rows("never seen") == []
