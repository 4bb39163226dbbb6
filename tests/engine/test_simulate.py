"""`ratchet simulate`: the same seed gives the same campaign, devices are kept busy, idle time has its causes."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from engine.simulation import CAUSES, Findings, Plan, simulate
from engine.stages.pacing import Pace
from tests.console.ratchet_command import data, ratchet, well
from tests.console.test_cli_json import check


def facts(found: Findings) -> dict[str, object]:
    """All but the processor's time, which is this machine's mood."""
    return {key: value for key, value in asdict(found).items() if key != "engine_seconds_an_hour"}


@pytest.mark.parametrize("propose", [60.0, 180.0])
def test_eight_devices_never_wait_once_all_have_been_busy(propose: float) -> None:
    found = simulate(Plan(devices=8, propose_seconds=propose, hours=1.5))
    print(found)
    assert found.idle_steady <= 0.01 and found.gap_p90 <= 1.0
    assert found.experiments > 5 and found.trials > 8 * 10
    assert sum(found.causes.values()) == pytest.approx(found.idle, abs=0.005)
    assert set(found.causes) == set(CAUSES)


def test_without_proposals_ahead_the_devices_wait_for_them_and_the_cause_says_so() -> None:
    one = simulate(Plan(devices=8, propose_seconds=600.0, drafts=1, hours=1.5))
    print(one)
    assert one.idle > 0.3 and max(one.causes, key=lambda cause: one.causes[cause]) == "no proposal ready"


def test_the_same_seed_gives_the_same_campaign_and_another_one_does_not() -> None:
    plan = Plan(devices=3, hours=0.7, keep_rate=0.3)
    first = simulate(plan)
    assert facts(first) == facts(simulate(plan))
    assert facts(first) != facts(simulate(Plan(devices=3, hours=0.7, keep_rate=0.3, seed=2)))


def test_what_keeps_the_engine_busy_makes_it_late_where_that_is_asked_for() -> None:
    free, late = (simulate(Plan(devices=16, hours=0.5, engine_time=busy)) for busy in (False, True))
    print(free.gap_p50, late.gap_p50)
    assert free.gap_p50 == 0.0 < late.gap_p50 and late.experiments > 5


def test_proposals_ahead_follow_the_times_they_take() -> None:
    pace = Pace()
    assert pace.drafts(8, 300.0) == 2 and pace.drafts(8, 300.0, busy=5) == 5
    pace.proposed(600.0)
    pace.ran(300.0)
    assert pace.drafts(8, 999.0) == 18  # ceil(8 x 600 / 300) + 2
    for _ in range(60):
        pace.proposed(60.0)
    assert pace.drafts(8, 999.0) == 4


def test_the_command_prints_what_is_documented(tmp_path: object) -> None:
    from pathlib import Path

    at = Path(str(tmp_path))
    shape = data("simulate", "--devices", "2", "--hours", "0.5", at=at)
    check(shape, "## `ratchet simulate --json`")
    assert "idle" in well("simulate", "--devices", "2", "--hours", "0.5", at=at)
    assert ratchet("simulate", "--devices", "2000", at=at).returncode == 2
