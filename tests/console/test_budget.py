"""The estimate of the end is measured, says its spread, and says nothing when nothing is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from console.widgets.budget_bar import Budget, budget, estimate_words, remaining
from tests.console.scenes import CAMPAIGN, row, state


def times(*gaps: float) -> list[float]:
    found = [0.0]
    for gap in gaps:
        found.append(found[-1] + gap)
    return found


def test_steady_experiments_promise_their_sum() -> None:
    found = remaining(Budget(10, 30, 0.0, None), times(60, 60, 60, 60))
    assert found is not None and (found.seconds, found.spread, found.by) == (1200.0, 0.0, "experiments")


def test_scatter_makes_a_spread() -> None:
    found = remaining(Budget(10, 30, 0.0, None), times(30, 90, 60, 30, 90, 60))
    assert found is not None and found.seconds == pytest.approx(1200)
    assert 100 < found.spread < 400


def test_a_night_with_no_engine_is_not_a_duration() -> None:
    found = remaining(Budget(10, 30, 0.0, None), times(60, 60, 30_000, 60, 60))
    assert found is not None and found.seconds == pytest.approx(1200)


def test_too_little_is_said_to_be_too_little() -> None:
    assert remaining(Budget(2, 30, 0.0, None), times(60, 60)) is None
    assert "known after" in estimate_words(state(row(1)))


def test_the_limit_that_comes_first_counts() -> None:
    found = remaining(Budget(10, 1000, 3000.0, 3600.0), times(60, 60, 60, 60))
    assert found is not None and (found.seconds, found.by) == (600.0, "hours")
    assert remaining(Budget(10, None, 3000.0, 3600.0), ()) is not None
    assert remaining(Budget(10, None, 0.0, None), times(60, 60, 60, 60)) is None


def test_only_this_run_counts_towards_its_limits() -> None:
    limits = {"experiments": 50, "hours": None, "experiments_before": 40, "seconds_before": 3000.0}
    found = budget(state(campaign=replace(CAMPAIGN, limits=limits), counted=45))
    assert found == Budget(5, 50, 600.0, None) and found.fraction == pytest.approx(0.1)
    assert estimate_words(state(campaign=replace(CAMPAIGN, limits={}))) == "no limit set"
