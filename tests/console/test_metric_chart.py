"""Curves: what is left out before plotext never hides a spike, and the words agree with the numbers."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from console.sources import choose_series, reference_trial
from console.state import Curve
from console.widgets.chart_builder import ChartBuilder
from console.widgets.lines import Line, strip_of
from console.widgets.metric_chart import at, build, columns, comparison, limits
from tests.console.scenes import TRIAL


def curve(points: list[tuple[float, float]], trial: int = 1) -> Curve:
    return Curve(trial, "label", "loss", "step", tuple(points))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000), st.integers(1, 60))
def test_reduced_to_columns_keeps_the_extremes_and_the_order(values: list[float], width: int) -> None:
    points = [(float(i), v) for i, v in enumerate(values)]
    kept = columns(points, 0.0, float(len(points) - 1), width)
    assert len(kept) <= max(2 * width, 2)
    assert min(v for _, v in kept) == min(values) and max(v for _, v in kept) == max(values)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept) and set(kept) <= set(points)


def test_the_standing_is_taken_at_equal_budget() -> None:
    live = curve([(float(i), 2.0) for i in range(50)])
    ahead = curve([(float(i), 2.5 if i < 60 else 1.0) for i in range(100)], 2)
    assert comparison(live, ahead) == ("2.0000 at step 49", "0.50 below")
    assert comparison(live, curve([(float(i), 1.5) for i in range(100)], 2))[1] == "0.50 above"
    assert comparison(live, None) == ("2.0000 at step 49", "")
    assert comparison(live, curve([(0.0, 1.0), (10.0, 1.0)], 2))[1] == "no longer beside"


def test_values_between_points_are_interpolated_and_outside_are_not_known() -> None:
    points = [(0.0, 1.0), (10.0, 3.0)]
    assert (at(points, 5.0), at(points, 10.0), at(points, 11.0), at(points, -1.0)) == (2.0, 3.0, None, None)


def test_a_steep_start_does_not_press_the_rest_flat() -> None:
    points = [(float(i), 100.0 if i < 5 else 3.0 - i / 100) for i in range(100)]
    assert limits([curve(points)]) == (2.01, 3.0 - 17 / 100)
    assert limits([curve([(0.0, 1.0), (1.0, 1.0)])]) == (0.5, 1.5)
    assert limits([curve([(0.0, float("nan"))])]) is None


def test_the_chart_fits_its_place_and_shows_both_curves() -> None:
    chance = random.Random(4)
    live = curve([(float(i), 3 + chance.random()) for i in range(120)])
    other = curve([(float(i), 2 + chance.random()) for i in range(2000)], 2)
    for width, height in ((100, 20), (40, 8), (20, 4)):
        lines = build(live, other, width, height)
        assert len(lines) <= height
        names = {name for content in lines for _, name in content.spans}
        assert {"live", "reference"} <= names or height < 8
        assert all(strip_of(content, width).cell_length == width for content in lines)
    assert build(live, other, 10, 2) == () and build(None, None, 80, 20) == ()
    assert build(curve([(5.0, 1.0)]), None, 60, 10)  # a single point


def test_the_series_shown_is_the_training_loss_where_there_is_one() -> None:
    assert choose_series({"lr": 90, "train_loss": 50, "loss": 60}, "val_bpb") == "train_loss"
    assert choose_series({"lr": 90, "loss": 60}, "val_bpb") == "loss"
    assert choose_series({"lr": 90, "val_acc": 60}, "val_acc") == "val_acc"
    assert choose_series({"train_loss": 1, "lr": 90}, "x") == "lr"  # one point is no curve
    assert choose_series({}, "x") is None


def test_the_incumbents_curve_is_of_the_same_protocol_and_best_of_the_same_seed() -> None:
    done = replace(TRIAL, state="done", outcome="ok")
    same_seed, newer = replace(done, id=1), replace(done, id=2, seed=8)
    assert reference_trial([same_seed, newer], TRIAL) == same_seed
    assert reference_trial([newer, replace(done, id=3, protocol=2)], TRIAL) == newer
    assert reference_trial([replace(newer, outcome="crash"), done], TRIAL) is None  # done is TRIAL itself


def test_the_builder_draws_the_newest_wish_in_its_thread() -> None:
    import queue

    drawn: queue.Queue[tuple[Line, ...]] = queue.Queue()
    builder = ChartBuilder(drawn.put)
    live = curve([(float(i), float(i % 7)) for i in range(100)])
    for width in (60, 61, 62, 63):
        builder.want(live, None, width, 10)
    last = drawn.get(timeout=20)
    while sum(len(t) for t, _ in max(last, key=lambda c: sum(len(t) for t, _ in c.spans)).spans) < 63:
        last = drawn.get(timeout=20)
    builder.want(live, None, 63, 10)  # the same wish: nothing more
    assert drawn.empty()
    builder.close()
