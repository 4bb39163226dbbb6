"""What a batch system takes away, in a campaign on the virtual clock: how often, what it costs, how it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from engine.conductor import Conductor
from engine.fleet import Fleet, single
from engine.runners import AttemptPlan, FollowItem, Scheduled
from engine.store import reading
from engine.store.rows import AttemptRow
from engine.trials import MAX_ATTEMPTS, MAX_PREEMPTIONS, PREEMPTED
from engine.types import TrialOutcome
from tests.engine.simulated_host import Ending, Execution, Program, SimulatedHost
from tests.engine.soundness import assert_sound
from tests.engine.virtual_campaign import Turn, VirtualCampaign, measured

HELD = 100.0  # seconds that a preempted attempt had its allocation
USD_PER_HOUR = 3.6  # so that a second costs a thousandth
RATE = 1_000_000


class Priced(VirtualCampaign):
    """On a host that costs money."""

    async def engine(self) -> Conductor:
        if "[[hosts]]" not in self.config_text:
            self.config_text += f'[[hosts]]\nname = "simulated"\nusd_per_hour = {USD_PER_HOUR}\n'
        return await super().engine()

    def attempts(self, trial: int) -> list[AttemptRow]:
        return reading.attempts(self.conn, trial)

    def spends(self) -> list[tuple[int, str, int]]:
        return self.conn.execute("SELECT trial, state, spent FROM spend WHERE kind = 'device'").fetchall()


def taken(times: int, lost: int, normal: Program, trial: int = 2) -> Program:
    """One trial's first attempts are preempted, the next ones lost."""

    def program(execution: Execution) -> Ending:
        if execution.trial == trial and execution.attempt <= times:
            return Ending("preempted", HELD, ((0.5, b"METRIC loss=1 step=1\n"),))
        if execution.trial == trial and execution.attempt <= times + lost:
            return Ending("lost", HELD)
        return normal(execution)

    return program


async def test_preemptions_are_no_lost_attempts_and_cost_what_was_used(tmp_path: Path) -> None:
    """Ten preemptions and two losses: the trial still runs, with one verdict and a charge for each attempt."""
    times, lost = 10, MAX_ATTEMPTS - 1
    c = Priced(tmp_path, program=taken(times, lost, measured({0: 6.0})), script=[Turn(0)])
    await c.whole()
    assert c.verdicts()[1] == "keep" and c.kept() == [1]
    trial = next(t for t in c.trials() if t.id == 2)
    assert (trial.outcome, trial.attempts) == (TrialOutcome.OK, times + lost + 1)
    reasons = [a.reason for a in c.attempts(2)]
    assert sum(r.startswith(f"{PREEMPTED}: the batch system") for r in reasons) == times
    mine = [(state, spent) for number, state, spent in c.spends() if number == 2]
    forfeited = [spent for state, spent in mine if state == "forfeited"]
    settled = [spent for state, spent in mine if state == "settled"]
    print(f"{times} preemptions at {settled[0] / 1e9:.2f} dollars, {lost} losses at {forfeited[0] / 1e9:.2f}")
    assert settled == [round(HELD * RATE)] * times + [300 * RATE], "what was used, once for each attempt"
    assert len(forfeited) == lost and all(spent == 630 * RATE for spent in forfeited), "nobody knows what was used"
    assert_sound(c)


async def test_a_trial_that_is_preempted_for_ever_ends_and_says_what_to_do(tmp_path: Path) -> None:
    c = Priced(tmp_path, program=taken(10**6, 0, measured({0: 6.0})), script=[Turn(0)])

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.campaign.state == "paused", "the pause")

    await c.run(work)
    trial = next(t for t in c.trials() if t.id == 2)
    print(c.campaign.pause_reason, "|", c.campaign.pause_mend)
    assert (trial.outcome, trial.attempts) == (TrialOutcome.LOST, MAX_PREEMPTIONS)
    assert c.campaign.pause_reason.endswith(
        f"lost {MAX_PREEMPTIONS} times: preempted: the batch system took the job away"
    )
    assert "another partition or qos" in c.campaign.pause_mend and "dmesg" not in c.campaign.pause_mend


async def test_a_trial_lost_again_and_again_on_a_cluster_is_a_question_for_slurm(tmp_path: Path) -> None:
    c = Priced(tmp_path, program=taken(0, 10**6, measured({0: 6.0})), script=[Turn(0)])

    async def work() -> None:
        await c.engine()
        c.fleet.posts[0].sort = "slurm"
        await c.until(lambda: c.campaign.state == "paused", "the pause")

    await c.run(work)
    assert f"lost {MAX_ATTEMPTS} times" in c.campaign.pause_reason and "scontrol show job" in c.campaign.pause_mend


async def test_a_trial_that_a_person_stopped_does_not_run_again_when_its_job_is_taken(tmp_path: Path) -> None:
    c = Priced(tmp_path, program=taken(1, 0, measured({0: 6.0})), script=[Turn(0)])

    async def work() -> None:
        await c.engine()
        await c.until(lambda: any(e.trial == 2 for e in c.machine.starts), "its start")
        c.conductor.desk._stopping[2] = "stopped by tester"  # asked for, and the node died before it heard of it
        await c.until(lambda: any(t.id == 2 and t.outcome for t in c.trials()), "its end")
        c.conductor.stop("enough")
        await c.ended()

    await c.run(work)
    trial = next(t for t in c.trials() if t.id == 2)
    assert (trial.outcome, trial.detail, trial.attempts) == (TrialOutcome.CANCELLED, "stopped by tester", 1)


class QueuedHost(SimulatedHost):
    """A batch system that lets each job wait for ``seconds`` before it starts."""

    seconds = 3600.0

    async def launch(self, plan: AttemptPlan) -> None:
        self.plans = {**getattr(self, "plans", {}), plan.directory: plan}

    async def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        yield Scheduled("PENDING (Priority)")
        await self.machine.clock.sleep(self.seconds)
        self.machine.start(self.plans[directory])
        files = cast(AsyncGenerator[FollowItem, None], super().follow(directory, offset))
        async with aclosing(files) as items:
            async for item in items:
                yield item


class Queued(VirtualCampaign):
    def make_fleet(self) -> Fleet:
        self.host = QueuedHost(self.machine, self.capacity)
        return single(self.host, self.clock, self.state, self.project)


async def test_hours_in_the_queue_are_no_part_of_a_runs_own_time(tmp_path: Path) -> None:
    """A run with a budget of steps and a deadline of ten minutes, after an hour of waiting, is at its pace."""

    def program(execution: Execution) -> Ending:
        ending = normal(execution)
        curve = tuple((k / 20, b"METRIC loss=%.4f step=%d\n" % (3 - k / 20, 5 * k)) for k in range(1, 20))
        return replace(ending, log=(*curve, ending.log[-1]))

    normal = measured({0: 6.0})
    c = Queued(tmp_path, program=program, script=[Turn(0)], capacity=4)
    c.config_text = c.config_text.replace("train_seconds = 300", "train_seconds = 300\nsteps = 100")
    await c.whole()
    outcomes = {t.outcome for t in c.trials()}
    latest = max(at for t in c.trials() for _, _, at in reading.points(c.conn, t.id, "loss"))
    print(f"waited {c.machine.starts[0].at:.0f} s, last point at {latest:.0f} s of its own run")
    assert c.machine.starts[0].at >= QueuedHost.seconds
    assert outcomes == {TrialOutcome.OK} and c.kept() == [1] and latest == pytest.approx(285, abs=1)
