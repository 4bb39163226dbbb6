"""Curves and views: nothing leaves the data, smoothing knows no zoom, and no spike is lost on the way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import charting
from console.axes import AXES, Trace, axis_for, budget_on, extent, places, trace, why_not
from console.charting import MOST_MARKS, SMOOTHINGS, ChartView, Mark, clear_marks, toggle_mark
from console.state import Curve
from console.ticks import linear, logarithmic
from console.tracing import clip, last_value, limits, read, smooth, standing, thin, value_at

NAN = float("nan")


def curve(points: list[tuple[float, float]], **more: object) -> Curve:
    return replace(Curve(1, "label", "loss", "step", tuple(points)), **more)  # type: ignore[arg-type]


def traced(ys: list[float]) -> Trace:
    return Trace(tuple(float(i) for i in range(len(ys))), tuple(ys))


values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=600)
gappy = st.lists(st.floats(-1e6, 1e6) | st.just(NAN), min_size=1, max_size=600)
windows = st.tuples(st.floats(0, 1), st.floats(0.001, 1))

# --- the view -----------------------------------------------------------------------------------------

STEPS = {
    "in": lambda v, s: charting.zoom(v, s, 2.0),
    "out": lambda v, s: charting.zoom(v, s, 0.5),
    "odd": lambda v, s: charting.zoom(v, s, NAN),
    "left": lambda v, s: charting.pan(v, s, -0.25),
    "right": lambda v, s: charting.pan(v, s, 7.0),
    "cursor left": lambda v, s: charting.move_cursor(v, s, 80, -3),
    "cursor right": lambda v, s: charting.move_cursor(v, s, 80, 500),
    "log x": lambda v, s: charting.toggle_log(v, "x"),
    "reset": lambda v, s: charting.reset(v),
}


@given(
    st.lists(st.sampled_from(sorted(STEPS)), max_size=40),
    st.floats(1e-6, 1e9),
    st.floats(0, 1e9),
)
def test_no_sequence_of_keys_leaves_the_data(keys: list[str], low: float, width: float) -> None:
    span, view = (low, low + width), ChartView()
    for key in keys:
        view = STEPS[key](view, span)
        if view.window is not None:
            assert span[0] <= view.window[0] < view.window[1] <= span[1]
        if view.cursor is not None:
            assert span[0] <= view.cursor <= span[1]
        shown = charting.visible(view, span)
        assert span[0] <= shown[0] <= shown[1] <= span[1]


def test_zooming_keeps_the_cursor_where_it_is_and_out_again_shows_everything() -> None:
    span, view = (0.0, 100.0), ChartView(cursor=25.0)
    near = charting.zoom(view, span, 2.0)
    assert near.window == (12.5, 62.5)  # a quarter of the way across before and after
    assert charting.zoom(near, span, 0.5).window is None
    assert charting.zoom(ChartView(), span, 4.0).window == (37.5, 62.5)
    close = ChartView()
    for _ in range(100):
        close = charting.zoom(close, span, 10.0)
    assert close.window is not None and close.window[1] - close.window[0] == pytest.approx(100 * charting.CLOSEST)


def test_panning_stops_at_the_ends_and_moves_nothing_that_is_all_in_sight() -> None:
    span = (0.0, 100.0)
    assert charting.pan(ChartView(), span, 1.0) == ChartView()
    view = ChartView(window=(40.0, 60.0))
    assert charting.pan(view, span, 0.25).window == (45.0, 65.0)
    assert charting.pan(view, span, -99).window == (0.0, 20.0)
    assert charting.pan(view, span, 99).window == (80.0, 100.0)


def test_the_cursor_begins_at_the_end_moves_by_columns_and_takes_the_window_along() -> None:
    span = (0.0, 100.0)
    first = charting.move_cursor(ChartView(), span, 101, -1)
    assert first.cursor == 99.0 and charting.move_cursor(first, span, 101, -9999).cursor == 0.0
    zoomed = ChartView(window=(40.0, 60.0), cursor=40.0)
    moved = charting.move_cursor(zoomed, span, 21, -5)
    assert moved.cursor == 35.0 and moved.window == (35.0, 55.0)


def test_a_window_that_shows_none_of_another_runs_data_is_not_kept_to() -> None:
    assert charting.visible(ChartView(window=(500.0, 600.0)), (0.0, 100.0)) == (0.0, 100.0)
    assert charting.visible(ChartView(window=(50.0, 600.0)), (0.0, 100.0)) == (50.0, 100.0)


def test_zooming_a_logarithmic_axis_is_even_in_decades() -> None:
    near = charting.zoom(ChartView(log_x=True), (1.0, 10_000.0), 2.0)
    assert near.window == pytest.approx((10.0, 1000.0))
    assert charting.zoom(ChartView(log_x=True), (0.0, 100.0), 2.0).window is not None  # 0 has no place there


def test_smoothing_and_scales_go_round() -> None:
    view, seen = ChartView(), []
    for _ in range(len(SMOOTHINGS)):
        view = charting.cycle_smoothing(view)
        seen.append(view.smoothing)
    assert seen == [*SMOOTHINGS[1:], 0.0]
    assert charting.toggle_log(charting.toggle_log(ChartView())) == ChartView()


# --- axes ---------------------------------------------------------------------------------------------


def test_an_axis_the_run_cannot_be_drawn_on_is_passed_over_with_its_reason() -> None:
    plain = curve([(0.0, 3.0), (10.0, 2.0)], seconds=(0.0, 5.0))
    view, told = charting.cycle_axis(ChartView(), [plain])
    assert view.axis == "seconds" and told == ("no tokens: the run printed no count of tokens",)
    view, told = charting.cycle_axis(view, [plain])
    assert view.axis == "step" and "no budget" in told[0]
    timed = curve([(0.0, 3.0), (5.0, 2.0)], unit="s")
    assert axis_for("step", [timed]) == "seconds" and axis_for("nonsense", [plain]) == "step"
    view, told = charting.cycle_axis(ChartView(axis="step"), [timed])
    assert (view.axis, len(told)) == ("seconds", 3)  # the only one: it stays, and says why


def test_a_change_of_axis_gives_up_what_was_in_the_old_ones_unit() -> None:
    both = curve([(0.0, 3.0), (10.0, 2.0)], seconds=(0.0, 5.0))
    view, _ = charting.cycle_axis(ChartView(window=(2.0, 4.0), cursor=3.0, log_y=True), [both])
    assert (view.window, view.cursor, view.log_y) == (None, None, True)


def test_each_axis_places_the_points_by_its_own_measure() -> None:
    full = curve(
        [(0.0, 3.0), (10.0, 2.0)],
        seconds=(1.0, 6.0),
        tokens=(0.0, 5000.0),
        budget_steps=40.0,
        budget_seconds=300.0,
    )
    assert [places(full, axis) for axis in AXES] == [(0.0, 10.0), (0.0, 5000.0), (1.0, 6.0), (0.0, 0.25)]
    assert [budget_on(full, axis) for axis in AXES] == [40.0, None, None, 1.0]  # steps end it, not seconds
    by_time = replace(full, budget_steps=0.0)
    assert places(by_time, "fraction") == pytest.approx((1 / 300, 6 / 300))
    assert budget_on(by_time, "seconds") == 300.0 and budget_on(by_time, "step") is None


def test_steps_that_begin_anew_are_put_in_order_and_odd_places_are_left_out() -> None:
    found = trace(
        curve([(0.0, 1.0), (5.0, 2.0), (2.0, 3.0), (math.inf, 4.0), (NAN, 5.0), (9.0, math.inf)]), "step"
    )
    assert found.xs == (0.0, 2.0, 5.0, 9.0) and found.ys[:3] == (1.0, 3.0, 2.0) and math.isnan(found.ys[3])
    assert extent([found]) == (0.0, 9.0) and extent([found], positive=True) == (2.0, 9.0) and extent([]) is None


# --- smoothing ----------------------------------------------------------------------------------------


@given(gappy, st.sampled_from(SMOOTHINGS[1:]), windows, st.integers(4, 60), st.integers(4, 60))
def test_what_is_shown_at_an_x_does_not_change_with_the_zoom(
    ys: list[float], level: float, where: tuple[float, float], columns: int, others: int
) -> None:
    whole = trace(curve([(float(i), y) for i, y in enumerate(ys)]), "step")
    smoothed = smooth(whole, level, float(len(ys)))
    known = dict(zip(smoothed.xs, smoothed.ys, strict=True))
    low = where[0] * (len(ys) - 1)
    for window in ((low, low + where[1] * len(ys)), (0.0, float(len(ys)))):
        for width in (columns, others):
            for run in thin(smoothed, ChartView(window=window), window, width):
                assert all(known[x] == y for x, y in run)


@given(st.floats(-1e6, 1e6), st.integers(1, 300), st.sampled_from(SMOOTHINGS))
def test_a_constant_stays_what_it_is_from_the_first_point_on(value: float, n: int, level: float) -> None:
    assert all(y == pytest.approx(value) for y in smooth(traced([value] * n), level, float(n)).ys)


@given(gappy, st.sampled_from(SMOOTHINGS))
def test_smoothing_stays_within_the_values_and_keeps_the_gaps(ys: list[float], level: float) -> None:
    found = smooth(traced(ys), level, float(len(ys)))
    finite = [y for y in ys if not math.isnan(y)]
    assert [math.isnan(y) for y in found.ys] == [math.isnan(y) for y in ys]
    slack = 1e-9 * max((abs(y) for y in finite), default=0.0)
    assert all(min(finite) - slack <= y <= max(finite) + slack for y in found.ys if not math.isnan(y))


def test_runs_that_print_at_different_rates_are_smoothed_alike() -> None:
    often = Trace(tuple(i / 10 for i in range(1001)), tuple(float(i >= 500) for i in range(1001)))
    rarely = Trace(tuple(float(i) for i in range(101)), tuple(float(i >= 50) for i in range(101)))
    a, b = smooth(often, 0.97, 100.0), smooth(rarely, 0.97, 100.0)
    assert value_at(a, 60.0) == pytest.approx(value_at(b, 60.0) or 0.0, abs=0.05)
    assert 0.5 < (value_at(a, 60.0) or 0.0) < 1.0


def test_numbers_beyond_a_float_are_a_gap_and_no_error() -> None:
    found = smooth(traced([1e308, 1e308, 1e308]), 0.99, 3000.0)
    assert found.ys[0] == 1e308 and math.isnan(found.ys[2])


# --- to the columns -----------------------------------------------------------------------------------


@given(values, st.integers(4, 60))
def test_reduced_to_columns_keeps_the_extremes_and_the_order(ys: list[float], columns: int) -> None:
    of = traced(ys)
    kept = [p for run in thin(of, ChartView(), (of.xs[0], of.xs[-1]), columns) for p in run]
    assert len(kept) <= 2 * columns + 2
    assert min(y for _, y in kept) == min(ys) and max(y for _, y in kept) == max(ys)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert set(kept) <= set(zip(of.xs, of.ys, strict=True))


@given(gappy, st.booleans(), st.booleans(), st.integers(2, 40), windows)
def test_nothing_that_cannot_be_drawn_comes_through(
    ys: list[float], log_x: bool, log_y: bool, columns: int, where: tuple[float, float]
) -> None:
    of, view = traced(ys), ChartView(log_x=log_x, log_y=log_y)
    low = where[0] * len(ys) + 0.5
    runs = thin(of, view, (low, low + where[1] * len(ys)), columns)
    assert all(math.isfinite(x) and math.isfinite(y) for run in runs for x, y in run)
    drawable = sum(not math.isnan(y) and (y > 0 or not log_y) for y in ys)
    assert sum(map(len, runs)) <= min(drawable, 2 * columns + 2)


def test_a_gap_interrupts_the_line() -> None:
    runs = thin(traced([1.0, 2.0, NAN, 4.0, 5.0]), ChartView(), (0.0, 4.0), 40)
    assert runs == [[(0.0, 1.0), (1.0, 2.0)], [(3.0, 4.0), (4.0, 5.0)]]
    log = thin(traced([1.0, 10.0, -5.0, 0.0, 100.0]), ChartView(log_y=True), (0.0, 4.0), 40)
    assert log == [[(0.0, 0.0), (1.0, 1.0)], [(4.0, 2.0)]]


@given(st.lists(st.tuples(st.floats(-50, 150), st.floats(-50, 150)), min_size=1, max_size=30))
def test_what_is_cut_to_the_axes_is_within_them(points: list[tuple[float, float]]) -> None:
    points.sort(key=lambda p: p[0])
    parts = clip(points, (0.0, 100.0), (0.0, 100.0))
    assert all(0.0 <= x <= 100.0 and 0.0 <= y <= 100.0 for part in parts for x, y in part)
    inside = {p for p in points if 0 <= p[0] <= 100 and 0 <= p[1] <= 100}
    assert inside <= {p for part in parts for p in part}


def test_a_line_that_leaves_the_axes_is_cut_where_it_leaves() -> None:
    assert clip([(0.0, 0.0), (10.0, 20.0), (20.0, 0.0)], (0.0, 20.0), (0.0, 10.0)) == [
        [(0.0, 0.0), (5.0, 10.0)], [(15.0, 10.0), (20.0, 0.0)],
    ]  # fmt: skip


def test_a_steep_start_does_not_press_the_rest_flat() -> None:
    points = [(float(i), 100.0 if i < 5 else 3.0 - i / 100) for i in range(100)]
    assert limits([[points]], whole=True) == (2.01, 3.0 - 17 / 100)
    assert limits([[points]], whole=False) == (2.01, 100.0)  # somebody zoomed: then it is what they look at
    assert limits([[[(0.0, 1.0), (1.0, 1.0)]]], whole=True) == (0.5, 1.5)
    assert limits([[]], whole=True) is None


# --- values -------------------------------------------------------------------------------------------


def test_values_between_points_are_interpolated_and_outside_are_not_known() -> None:
    of = Trace((0.0, 10.0, 20.0, 30.0), (1.0, 3.0, NAN, 5.0))
    assert [value_at(of, x) for x in (5.0, 10.0, 11.0, 20.0, 31.0, -1.0)] == [2.0, 3.0, None, None, None, None]
    assert last_value(of) == 5.0 and last_value(Trace((), ())) is None


def test_the_cursor_reads_every_curve_by_its_name() -> None:
    curves = [("this run", traced([1.0, 2.0])), ("incumbent", traced([3.0, 4.0, 5.0]))]
    assert read(curves, 0.5) == (("this run", 1.5), ("incumbent", 3.5))
    assert read(curves, 2.0) == (("this run", None), ("incumbent", 5.0))
    assert read(curves, None) == (("this run", 2.0), ("incumbent", 5.0))


def test_the_standing_is_taken_at_equal_budget() -> None:
    live = traced([2.0] * 50)
    ahead = traced([2.5 if i < 60 else 1.0 for i in range(100)])
    assert standing(live, ahead) == (2.0, -0.5)
    assert standing(live, traced([1.5] * 100)) == (2.0, 0.5)
    assert standing(live, None) == (2.0, None)
    assert standing(live, traced([1.0] * 11))[1] is None  # no longer beside
    assert standing(Trace((), ()), live) == (None, None)


# --- marks --------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=60))
def test_marks_are_bounded_told_apart_and_keep_their_colour(presses: list[tuple[int, bool]]) -> None:
    marks: tuple[Mark, ...] = ()
    for number, pin in presses:
        before = {mark.number: mark.slot for mark in marks}
        marks, told = toggle_mark(marks, number, pin=pin)
        assert told and len(marks) <= MOST_MARKS
        assert len({m.number for m in marks}) == len({m.slot for m in marks}) == len(marks)
        assert all(0 <= m.slot < MOST_MARKS and before.get(m.number, m.slot) == m.slot for m in marks)
        assert [m.pinned for m in marks] == sorted((m.pinned for m in marks), reverse=True)


def test_pinned_runs_stay_and_the_oldest_other_gives_way() -> None:
    marks: tuple[Mark, ...] = ()
    for number in range(1, 7):
        marks, _ = toggle_mark(marks, number, pin=number == 1)
    marks, told = toggle_mark(marks, 7)
    assert {m.number for m in marks} == {1, 3, 4, 5, 6, 7} and "instead of #2" in told
    assert [m.number for m in clear_marks(marks)] == [1]
    marks, _ = toggle_mark(marks, 3, pin=True)
    assert [m.number for m in clear_marks(marks)] == [1, 3]  # an overlay is pinned where it is
    marks, _ = toggle_mark(marks, 3, pin=True)
    assert 3 not in {m.number for m in marks}
    pinned = tuple(Mark(n, n, True) for n in range(6))
    assert toggle_mark(pinned, 99)[0] == pinned and "pinned" in toggle_mark(pinned, 99)[1]


# --- the numbers at the axes --------------------------------------------------------------------------


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.integers(2, 8))
def test_an_axis_carries_few_round_numbers_within_its_ends(low: float, width: float, most: int) -> None:
    found = linear(low, low + width, most)
    assert len(found) <= most
    slack = 1e-6 * width + 1e-9 * abs(low)
    assert all(low - slack <= at <= low + width + slack for at, _ in found)


def test_numbers_at_an_axis_read_plainly() -> None:
    assert [t for _, t in linear(0, 215, 5)] == ["0", "50", "100", "150", "200"]
    assert [t for _, t in linear(2.93, 3.31, 5)] == ["3.0", "3.1", "3.2", "3.3"]
    assert [t for _, t in linear(0, 10_000, 6)] == ["0", "2k", "4k", "6k", "8k", "10k"]
    assert [t for _, t in linear(0, 4e9, 5)] == ["0", "1G", "2G", "3G", "4G"]
    assert [t for _, t in logarithmic(-2, 3, 6)] == ["0.01", "0.1", "1", "10", "100", "1k"]
    assert [t for _, t in logarithmic(math.log10(2.9), math.log10(5.2), 5)] == ["3.0", "3.5", "4.0", "4.5", "5.0"]
    assert linear(1, 1, 5) == [] and linear(0, math.inf, 5) == [] and logarithmic(0, -1, 5) == []


def test_why_an_axis_is_missing_is_said_for_each() -> None:
    bare = curve([(0.0, 1.0)], unit="s")
    assert all(why_not(bare, axis) for axis in ("step", "tokens", "fraction")) and not why_not(bare, "seconds")
