"""The real conductor on the virtual clock: what the ratchet does, hour by hour, with nothing waited for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.conductor import RunLimits
from engine.stages.drafting import FAILED_DRAFTS
from engine.store import reading
from engine.trials import MAX_ATTEMPTS
from engine.types import NoProposal, TrialOutcome, TrialState
from tests.engine.simulated_host import Ending, Execution, Program
from tests.engine.soundness import assert_sound, text_at
from tests.engine.virtual_campaign import Turn, VirtualCampaign, knobs_of, measured

GOOD, BAD = 6.0, -2.0  # in standard deviations of one run


def turns(count: int) -> list[Turn]:
    return [Turn(n) for n in range(count)]


def worth_of(good: set[int], count: int = 24) -> dict[int, float]:
    return {n: GOOD if n in good else BAD for n in range(count)}


# --- the ratchet ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
async def test_twenty_proposals_of_known_worth_are_kept_and_discarded_as_they_deserve(
    tmp_path: Path, seed: int
) -> None:
    good = {1, 5, 9, 13, 17}
    c = VirtualCampaign(
        tmp_path, program=measured(worth_of(good), noise_seed=seed), script=turns(20), seed=seed, capacity=seed
    )
    reason = await c.whole()
    assert reason == "the proposer has nothing more to propose: the script ends here"
    assert c.kept() == sorted(n + 1 for n in good)
    verdicts = c.verdicts()
    assert verdicts.pop(21) == "cancelled", "the draft that brought nothing"
    assert {n for n, v in verdicts.items() if v == "discard"} == set(range(1, 21)) - {n + 1 for n in good}
    assert knobs_of(text_at(c, c.campaign.head)) == {n: int(n in good) for n in range(24)}
    for keep in (e for e in c.experiments() if e.verdict == "keep"):
        assert keep.effect_low is not None and keep.effect_high is not None and keep.commit
        print(keep.number, keep.reason)
        message = c.git("log", "-1", "--format=%B", keep.commit)
        assert keep.title in message and f"Ratchet-Experiment: {keep.number}" in message
        assert re.search(r"Ratchet-Trials: \d+ \d+", message) and "90 % interval" in message
    assert_sound(c)
    assert c.machine.running() == 0 and all(t.state == TrialState.DONE for t in c.trials())


async def test_a_second_good_proposal_measured_in_parallel_is_merged_and_measured_as_merged(
    tmp_path: Path,
) -> None:
    c = VirtualCampaign(
        tmp_path, program=measured(worth_of({0, 1})), script=turns(2), capacity=8, propose_seconds=1.0
    )
    await c.whole()
    assert sorted(c.kept()) == [1, 2]
    first, second = reading.keeps(c.conn, c.campaign.line)
    row = reading.experiment(c.conn, c.campaign.id, second.number)
    assert row is not None and row.merged == row.candidate
    screens = [t for t in c.trials() if t.experiment == row.id and t.purpose == "screen"]
    assert len({t.version for t in screens}) == 2, "it ran against the old base, then again as merged"
    merged = [t for t in c.trials() if t.version == row.candidate]
    assert all(t.created_at >= first.created_at for t in merged), (
        "nothing of it was measured before the first keep"
    )
    assert row.score == pytest.approx(
        sum(t.score for t in merged if t.score is not None and t.number == row.number)
        / sum(t.score is not None and t.number == row.number for t in merged)
    ), "no score of the unmerged program is left"
    assert knobs_of(text_at(c, c.campaign.head)) == {n: int(n in (0, 1)) for n in range(24)}
    assert_sound(c)


async def test_a_second_good_proposal_that_conflicts_with_the_new_head_is_dropped_as_stale(
    tmp_path: Path,
) -> None:
    script = [Turn(0, 1), Turn(0, 2), Turn(0, 1)]
    c = VirtualCampaign(
        tmp_path, program=measured(worth_of({0})), script=script, capacity=8, propose_seconds=1.0, drafts=3
    )
    await c.whole()
    assert len(c.kept()) == 1
    kept = c.kept()[0]
    reasons = {e.number: e.reason for e in c.experiments() if e.number <= 3 and e.number != kept}
    print(kept, reasons)
    assert all(c.verdicts()[n] == "cancelled" and r.startswith("stale: ") for n, r in reasons.items())
    if kept != 2:
        assert "conflict in train.py" in reasons[2]
        assert all("holds this change already" in r for n, r in reasons.items() if n != 2)
    assert_sound(c)


# --- limits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("capacity", "drafts"), [(1, 1), (1, 2), (3, 5)])
async def test_a_limit_of_n_experiments_measures_exactly_n_proposals(
    tmp_path: Path, capacity: int, drafts: int
) -> None:
    """Drafts that bring nothing do not count; the next run may do as many again."""
    nothing = NoProposal("failed", "not today")
    script: list[Turn | NoProposal] = [Turn(0), nothing, *turns(20)[1:]]
    c = VirtualCampaign(
        tmp_path,
        program=measured(worth_of({2})),
        script=script,
        capacity=capacity,
        drafts=drafts,
        limits=RunLimits(experiments=4),
    )

    async def work() -> tuple[str, str]:
        await c.engine()
        one = await c.ended()
        assert len(measured_proposals(c)) == 4 and not open_experiments(c)
        await c.kill()
        await c.engine()
        return one, await c.ended()

    assert await c.run(work) == ("limit reached: 4 experiments",) * 2
    assert len(measured_proposals(c)) == 8 and not open_experiments(c)
    assert_sound(c)


def measured_proposals(c: VirtualCampaign) -> set[int]:
    return {t.number for t in c.trials() if t.number is not None and t.purpose == "screen"}


def open_experiments(c: VirtualCampaign) -> list[tuple[int, str]]:
    return [(e.number, e.state) for e in c.experiments() if e.state != "settled"]


async def test_no_experiments_at_all_still_brings_the_baselines_noise(tmp_path: Path) -> None:
    c = VirtualCampaign(
        tmp_path, program=measured({}), script=turns(3), limits=RunLimits(experiments=0), capacity=2
    )
    assert await c.whole() == "limit reached: 0 experiments"
    assert c.campaign.calibration is not None and c.campaign.calibration["n"] == 5
    assert not c.experiments()


async def test_when_the_hours_are_over_nothing_starts_and_what_runs_comes_to_its_end(tmp_path: Path) -> None:
    c = VirtualCampaign(
        tmp_path,
        program=measured(worth_of({1, 5})),
        script=turns(24),
        capacity=2,
        limits=RunLimits(hours=2.0),
    )
    assert await c.whole() == "limit reached: 2 hours"
    assert c.machine.starts[-1].at <= 2 * 3600 + 5, "a beat is five seconds"
    assert c.clock.monotonic() <= 2 * 3600 + 5 + 300, "the last trials took their own time and no more"
    assert not [t for t in c.trials() if t.state not in (TrialState.QUEUED, TrialState.DONE)]
    assert 7200 <= c.campaign.active_seconds <= 7200 + 305


async def test_a_paused_campaign_starts_nothing_new_and_goes_on_where_it_was(tmp_path: Path) -> None:
    c = VirtualCampaign(tmp_path, program=measured(worth_of({1})), script=turns(6), capacity=2)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: len(c.machine.starts) >= 8 and c.machine.running() == 2, "trials at work")
        at, active = c.clock.monotonic(), c.campaign.active_seconds
        await c.ask("pause")
        drafts = len(c.proposer.asked)
        await c.clock.sleep(4 * 3600)
        assert all(start.at <= at for start in c.machine.starts), "nothing started while paused"
        assert c.machine.running() == 0, "what ran came to its end"
        assert len(c.proposer.asked) == drafts
        assert c.campaign.active_seconds <= active + 10, "paused time does not count towards the hours"
        await c.ask("resume")
        await c.ended()

    await c.run(work)
    assert c.kept() == [2] and set(c.verdicts().values()) == {"keep", "discard", "cancelled"}
    assert_sound(c)


# --- what goes wrong --------------------------------------------------------------------------------


def failing(normal: Program, when: str, reason: str) -> Program:
    """``normal``, but programs with the text ``when`` end in ``reason`` after a minute."""

    def run(execution: Execution) -> Ending:
        if when in execution.files["train.py"]:
            return Ending(reason, 60.0, ((0.5, b"Traceback: boom\n"),))
        return normal(execution)

    return run


async def test_a_baseline_that_fails_pauses_with_the_reason_and_the_mend(tmp_path: Path) -> None:
    """And resuming measures it again: the data may be back."""
    broken = [True]
    normal = measured(worth_of({0}))

    def program(execution: Execution) -> Ending:
        return Ending("failed", 5.0, ((0.9, b"no such file: data.bin\n"),)) if broken[0] else normal(execution)

    c = VirtualCampaign(tmp_path, program=program, script=turns(2), capacity=2)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.campaign.state == "paused", "the pause")
        campaign = c.campaign
        assert "the baseline itself fails: crash" in campaign.pause_reason
        assert "data.bin" in campaign.pause_reason and "ratchet log" in campaign.pause_mend
        await c.clock.sleep(3600)
        assert c.machine.starts[-1].at < 60 and not measured_proposals(c)
        broken[0] = False
        await c.ask("resume")
        await c.ended()

    await c.run(work)
    assert c.kept() == [1]


async def test_candidates_that_crash_or_overrun_are_crashes_and_the_campaign_goes_on(tmp_path: Path) -> None:
    program = failing(measured(worth_of({2})), "K0 = 1", "failed")
    program = failing(program, "K1 = 1", "timeout")
    c = VirtualCampaign(tmp_path, program=program, script=turns(3))
    await c.whole()
    assert c.verdicts() == {1: "crash", 2: "crash", 3: "keep", 4: "cancelled"}
    one, two = c.experiments()[:2]
    assert "boom" in " ".join(one.arithmetic) and one.score is None
    assert "timeout" in two.reason
    assert_sound(c)


async def test_three_drafts_in_a_row_that_bring_nothing_pause_and_one_alone_does_not(tmp_path: Path) -> None:
    nothing = NoProposal("failed", "the program ended with 3")
    script: list[Turn | NoProposal] = [nothing, nothing, Turn(0), nothing, nothing, nothing, Turn(1)]
    c = VirtualCampaign(tmp_path, program=measured(worth_of({0})), script=script)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.campaign.state == "paused", "the pause")
        assert c.campaign.pause_reason.startswith(f"{FAILED_DRAFTS} drafts in a row brought nothing")
        assert "the program ended with 3" in c.campaign.pause_reason and "[proposer]" in c.campaign.pause_mend
        assert len(c.proposer.asked) == 6
        await c.clock.sleep(7200)
        assert len(c.proposer.asked) == 6
        await c.ask("resume")
        await c.ended()

    await c.run(work)
    assert c.verdicts()[3] == "keep" and c.verdicts()[7] == "discard"


async def test_edits_outside_the_scope_are_invalid_and_say_why(tmp_path: Path) -> None:
    c = VirtualCampaign(tmp_path, program=measured(worth_of({1})), script=[Turn(0, path="evil.py"), Turn(1)])
    await c.whole()
    refused = c.experiments()[0]
    assert (refused.verdict, refused.candidate) == ("invalid", None)
    assert "evil.py" in refused.reason
    assert c.kept() == [2]


async def test_a_proposer_that_only_brings_what_is_refused_does_not_turn_for_ever(tmp_path: Path) -> None:
    c = VirtualCampaign(
        tmp_path,
        program=measured({}),
        script=[Turn(0, path="evil.py")] * 500,
        propose_seconds=0.1,
        limits=RunLimits(experiments=3),
    )

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.campaign.state == "paused", "the pause", hours=1)

    await c.run(work)
    assert len(c.proposer.asked) == FAILED_DRAFTS and "evil.py" in c.campaign.pause_reason


async def test_a_lost_attempt_is_tried_again_and_the_trial_is_lost_only_when_all_are(tmp_path: Path) -> None:
    normal = measured(worth_of({0}))

    def program(execution: Execution) -> Ending:
        once = execution.attempt == 1 and execution.trial % 2 == 0
        if once or "K1 = 1" in execution.files["train.py"]:
            return Ending("lost", 100.0, ((0.5, b"METRIC loss=1 step=1\n"),))
        return normal(execution)

    c = VirtualCampaign(tmp_path, program=program, script=turns(2))

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.campaign.state == "paused", "the pause")
        assert "was lost again and again" in c.campaign.pause_reason and c.campaign.pause_mend
        await c.ask("resume")
        await c.ended()

    await c.run(work)
    assert c.verdicts() == {1: "keep", 2: "cancelled", 3: "cancelled"}
    lost = [t for t in c.trials() if t.outcome == TrialOutcome.LOST]
    assert lost and all(t.attempts == MAX_ATTEMPTS for t in lost) and {t.number for t in lost} == {2}
    assert lost[0].detail.startswith(f"lost {MAX_ATTEMPTS} times")
    assert "host: lost" in c.experiments()[1].reason, "the host's fault is not the candidate's"
    again = [t for t in c.trials() if t.outcome == TrialOutcome.OK and t.attempts == 2]
    assert again and all(reading.series(c.conn, t.id)["loss"] == 3 for t in again), "no point of a lost attempt"
    assert_sound(c)


async def test_a_busy_device_is_asked_again_ever_more_rarely_and_costs_no_attempt(tmp_path: Path) -> None:
    """Another campaign holds the device for three hours; then the trial's attempts may still be lost twice."""
    normal = measured(worth_of({0}))
    asked: list[float] = []

    def program(execution: Execution) -> Ending:
        if execution.at < 3 * 3600:
            asked.append(execution.at)
            return Ending("busy", 0.0)
        lost = sum(s.trial == execution.trial for s in c.machine.starts)
        return Ending("lost", 1.0) if lost < MAX_ATTEMPTS - 1 and execution.trial == 1 else normal(execution)

    c = VirtualCampaign(tmp_path, program=program, script=turns(1))
    await c.whole()
    hours = [sum(h * 3600 <= at < (h + 1) * 3600 for at in asked) for h in range(3)]
    print("busy attempts an hour:", hours)
    assert all(n >= 10 for n in hours), "the device is not forgotten"
    assert max(hours) <= 120, "nor asked for all the time"
    assert all(t.outcome == TrialOutcome.OK for t in c.trials()) and c.kept() == [1]
