"""What a trial drew: seconds of it are enough, and what came before it started is not its own."""

from __future__ import annotations

import random

import pytest

from engine.metering import Meter, Use
from engine.types import Allocation, Reading

HELD = {7: Allocation("h", "gpu0", ("GPU-0",))}


def reading(device: str = "GPU-0", watts: float | None = 200.0, **more: object) -> Reading:
    return Reading("h", device, "H", 0.0, power_w=watts, **more)  # type: ignore[arg-type]


def scores_of(use: Use, *run: float) -> dict[str, float]:
    found = use.scores(*run)  # type: ignore[arg-type]
    assert all((score.split, score.source) == ("run", "engine") for score in found)
    return {score.name: score.value for score in found}


@pytest.mark.parametrize("seconds", [2.0, 3.0, 5.0, 8.0])
def test_a_run_of_some_seconds_has_its_joules_wherever_the_readings_fall(seconds: float) -> None:
    chance = random.Random(seconds)
    for _ in range(200):
        meter, phase = Meter(), chance.random()
        began = 100.0
        for second in range(60, 100):  # staged for a while on an idle device
            meter.read(HELD, [reading(watts=70.0)], second + phase - 1)
        meter.begin(7, ["GPU-0"], began)
        at = began + phase
        while at < began + seconds:
            meter.read(HELD, [reading(watts=600.0)], at)
            at += 1.0
        joules = meter.take(7).energy(seconds, 1)
        assert joules == pytest.approx(600.0 * seconds), phase


def test_power_that_changes_is_weighed_by_time() -> None:
    meter = Meter()
    meter.begin(7, ["GPU-0"], 0.0)
    for second in range(1, 101):
        meter.read(HELD, [reading(watts=100.0 if second <= 30 else 600.0)], float(second))
    assert meter.take(7).energy(100.0, 1) == pytest.approx(30 * 100 + 70 * 600)


def test_a_gap_says_nothing_and_too_little_is_not_known() -> None:
    meter = Meter()
    meter.begin(7, ["GPU-0"], 0.0)
    for second in (*range(1, 50), *range(300, 310)):
        meter.read(HELD, [reading()], float(second))
    use = meter.take(7)
    assert use.powered == pytest.approx(49 + 9)
    assert use.energy(400.0, 1) is None and use.energy(100.0, 1) == pytest.approx(20_000)


def test_a_round_in_two_batches_is_as_good_as_in_one() -> None:
    held = {7: Allocation("h", "gpu0,gpu1", ("GPU-0", "GPU-1"))}
    meter = Meter()
    meter.begin(7, ["GPU-0", "GPU-1"], 0.0)
    for second in range(1, 11):
        meter.read(held, [reading("GPU-0")], float(second))
        meter.read(held, [reading("GPU-1", 400.0)], second + 0.01)
    assert meter.take(7).energy(10.0, 2) == pytest.approx(6000, rel=0.01)


def test_scores_tell_device_time_energy_use_and_throttling_as_far_as_they_are_known() -> None:
    meter = Meter()
    meter.begin(7, ["GPU-0"], 0.0)
    for second in range(1, 11):
        hot = ("thermal", "power cap") if second > 8 else ("power cap",)
        meter.read(HELD, [reading(utilisation=50.0 + second, throttle=hot)], float(second))
    use = meter.take(7)
    found = scores_of(use, 10.0, 1)
    assert found == pytest.approx({"device_seconds": 10, "joules": 2000, "utilisation": 55.5, "throttled": 0.2})
    assert use.words == "clocks held down by heat or power for 20% of the run"
    half = scores_of(use, 10.0, 1, 2)
    assert (half["device_seconds"], half["joules"]) == pytest.approx((5, 1000)), "a device shared by two"
    assert half["utilisation"] == pytest.approx(55.5)
    assert scores_of(Use(), 10.0, 0) == {"device_seconds": 10.0} and Use().words == ""


def test_a_power_cap_alone_is_no_throttling() -> None:
    meter = Meter()
    meter.begin(7, ["GPU-0"], 0.0)
    for second in range(1, 5):
        meter.read(HELD, [reading(throttle=("power cap", "sync boost"))], float(second))
    use = meter.take(7)
    assert use.throttled == 0.0 and use.words == ""


def test_an_old_driver_tells_nothing_of_throttling() -> None:
    meter = Meter()
    meter.begin(7, ["GPU-0"], 0.0)
    meter.read(HELD, [reading(throttle=None)], 1.0)
    assert meter.take(7).throttled is None
