"""Hopeless runs are ended, odd but honest ones are not."""

from __future__ import annotations

import math

import pytest

from engine.early_stop import Budget, Stop, StopRules, check, is_loss
from engine.types import Point, TrialOutcome


def curve(values, series="train/loss", every=1.0, start=0.0):
    return [Point(series, step, value, start + every * step) for step, value in enumerate(values)]


def rule(stop: Stop | None) -> str:
    return stop.rule if stop else "goes on"


HEALTHY = [5 - 0.03 * step for step in range(100)]


def test_a_healthy_run_goes_on_at_every_moment():
    points = curve(HEALTHY)
    for seen in range(len(points) + 1):
        assert check(points[:seen], Budget(100, 99, 200), float(seen)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_stays_not_finite_ends_the_run(bad):
    stop = check(curve([*HEALTHY[:10], bad, bad, bad]), Budget(100), 13)
    assert stop is not None
    assert stop.outcome is TrialOutcome.NOT_FINITE
    assert stop.rule == "nan" and "step 10" in stop.detail


def test_a_loss_scaler_that_recovers_is_let_be():
    assert check(curve([5, math.inf, math.nan, 4.9]), Budget(100), 4) is None
    assert check(curve([5, 4.9, math.nan, math.nan]), Budget(100), 4) is None


def test_divergence_is_autoresearchs_hundred_or_a_multiple_of_a_larger_start():
    assert rule(check(curve([5, 6, 150, 200, 400]), Budget(100), 5)) == "divergence"
    assert check(curve([5, 6, 90, 95, 99]), Budget(100), 5) is None
    assert check(curve([5000, 6000, 7000, 8000]), Budget(100), 4) is None
    assert rule(check(curve([5000, 60000, 70000, 80000]), Budget(100), 4)) == "divergence"
    strict = StopRules(divergence_multiple=2, divergence_floor=0)
    assert rule(check(curve([5, 11, 12, 13]), Budget(100), 4, strict)) == "divergence"


def test_one_spike_is_no_divergence():
    assert check(curve([5, 400, 500, 4.8]), Budget(100), 4) is None


@pytest.mark.parametrize("series", ["lr", "grad_norm", "tok/sec", "mfu", "trace"])
def test_only_losses_are_held_to_these_rules(series):
    assert not is_loss(series)
    assert check(curve([1, math.inf, math.inf, math.inf], series), Budget(100), 4) is None
    assert check(curve([1, 1e6, 1e6, 1e6], series), Budget(100), 4) is None


@pytest.mark.parametrize("series", ["loss", "train/loss", "val_bpb", "Val Loss", "nll", "ppl", "cross_entropy"])
def test_the_fields_names_of_losses_are_known(series):
    assert is_loss(series)


def test_silence_in_mid_training_is_a_stall():
    points = curve(HEALTHY[:10])
    budget = Budget(seconds=300, deadline=600)
    assert check(points, budget, 9 + 119) is None
    stop = check(points, budget, 9 + 121)
    assert rule(stop) == "stall" and stop is not None and stop.outcome is TrialOutcome.TIMEOUT


def test_a_run_with_long_gaps_is_given_longer():
    points = curve(HEALTHY[:10], every=10)
    assert check(points, Budget(seconds=3000), 90 + 190) is None
    assert rule(check(points, Budget(seconds=3000), 90 + 210)) == "stall"


def test_silence_before_the_first_point_and_during_the_final_evaluation_is_no_stall():
    assert check([], Budget(seconds=3000), 2900) is None
    assert check(curve(HEALTHY), Budget(seconds=99), 500) is None
    assert check(curve(HEALTHY), Budget(steps=99), 500) is None
    assert rule(check(curve(HEALTHY), Budget(steps=200), 500)) == "stall"
    assert check(curve(HEALTHY), Budget(), 500) is None  # nothing known: the deadline's business


def test_a_pace_that_cannot_make_the_deadline_is_an_overrun():
    slow = curve(HEALTHY[:41], every=1.0)  # 40 steps in 40 s, 300 to go
    stop = check(slow, Budget(steps=300, deadline=120), 40)
    assert rule(stop) == "overrun" and stop is not None and "would end at 300 s" in stop.detail
    assert check(slow, Budget(steps=300, deadline=290), 60) is None  # within a tenth
    assert check(slow, Budget(steps=300, deadline=0), 40) is None


def test_a_slow_start_and_a_pause_are_not_the_pace():
    steps = [Point("loss", 0, 5, 0.0), *(Point("loss", s, 5, 60 + s) for s in range(1, 30))]
    warmed = [Point("loss", s, 5, 5.0 * s) for s in range(22)]
    warmed += [Point("loss", s, 5, 105.0 + s - 21) for s in range(22, 40)]
    assert check(warmed, Budget(steps=200, deadline=300), 123) is None
    late = [Point("loss", s, 5, 90 + s) for s in range(30, 40)]  # after a 30 s checkpoint
    assert check(steps + late, Budget(steps=100, deadline=200), 130) is None
    assert check(curve(HEALTHY[:15], every=3), Budget(steps=100, deadline=250), 45) is None  # too early to say
