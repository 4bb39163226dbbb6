"""Engines that die, files that change and clocks that jump in the middle of a campaign: the verdicts stand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine import config as configuration
from engine import service
from engine.clock import RealClock, VirtualClock
from engine.conductor import RunLimits
from engine.store import reading
from engine.types import TrialState
from tests.engine.simulated_host import Ending, Execution
from tests.engine.soundness import assert_sound
from tests.engine.virtual_campaign import BASE, Turn, VirtualCampaign, measured
from tests.project_factory import make_project

WORTH = {n: 6.0 if n in (1, 4, 7) else -2.0 for n in range(24)}
SCRIPT = [Turn(n) for n in range(10)]
DAY = 86_400.0


def summary(c: VirtualCampaign) -> dict[int, tuple[str, str]]:
    """Proposals and their verdicts. (Each engine asks an exhausted proposer once more: those drafts differ.)"""
    return {e.number: (e.title, e.verdict or e.state) for e in c.experiments() if e.candidate is not None}


# --- restarts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_engines_killed_at_random_moments_come_to_the_verdicts_of_one_that_was_not(
    tmp_path: Path, seed: int
) -> None:
    one = VirtualCampaign(tmp_path / "whole", program=measured(WORTH), script=SCRIPT, capacity=2, seed=seed)
    await one.whole()
    chance = random.Random(seed)
    two = VirtualCampaign(tmp_path / "cut", program=measured(WORTH), script=SCRIPT, capacity=2, seed=seed)

    async def work() -> int:
        kills = 0
        await two.engine()
        for _ in range(12):
            await two.clock.sleep(chance.uniform(1, 1500))
            if two._running is None or two._running.done():
                break
            running = two.machine.running()
            await two.kill()
            kills += 1
            assert two.machine.running() == running, "a trial needs no engine"
            await two.clock.sleep(chance.choice([0.0, 30.0, 2000.0]))
            await two.engine()
        await two.ended()
        return kills

    kills = await two.run(work)
    print(f"seed {seed}: {kills} kills, {len(two.machine.starts)} executions; uncut {len(one.machine.starts)}")
    assert kills >= 5
    assert summary(two) == summary(one) and two.kept() == one.kept() == [2, 5, 8]
    assert all(t.attempts <= 1 for t in two.trials()), "no attempt was given up"
    assert_sound(two)


async def test_an_engine_that_is_asked_to_stop_ends_its_trials_and_they_run_again_later(tmp_path: Path) -> None:
    c = VirtualCampaign(tmp_path, program=measured(WORTH), script=SCRIPT[:3], capacity=2)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: len(c.machine.starts) >= 7, "trials at work")
        await c.clock.sleep(10)
        assert c.machine.running() == 2
        await c.ask("stop")
        assert await c.ended() == "stopped by tester"
        assert c.machine.running() == 0
        assert not [t for t in c.trials() if t.state not in (TrialState.QUEUED, TrialState.DONE)]
        await c.kill()
        await c.engine()
        await c.ended()

    await c.run(work)
    assert c.kept() == [2] and max(t.attempts for t in c.trials()) == 2
    assert_sound(c)


# --- another protocol -------------------------------------------------------------------------------


async def test_a_change_of_measurement_measures_the_incumbent_anew_before_any_verdict(tmp_path: Path) -> None:
    """Shorter training makes every score worse by far more than any proposal could mend: scores must not mix."""
    changed = [False]

    def program(execution: Execution) -> Ending:
        return measured(WORTH, 200.0 if changed[0] else 300.0, base=BASE + changed[0])(execution)

    c = VirtualCampaign(tmp_path, program=program, script=SCRIPT, capacity=2)

    async def work() -> float:
        await c.engine()
        await c.until(lambda: c.kept() == [2] and c.machine.running() == 2, "the first keep, and more under way")
        config = configuration.parse(c.config_text.replace("train_seconds = 300", "train_seconds = 200"))
        at = c.clock.monotonic()
        await c.reload(config, c.conductor)
        changed[0] = True
        await c.ended()
        return at

    at = await c.run(work)
    protocols = [r[0] for r in c.conn.execute("SELECT id FROM protocol ORDER BY id")]
    assert len(protocols) == 2 and c.campaign.protocol == protocols[1]
    calibrated = [t for t in c.trials() if t.protocol == protocols[1] and t.purpose == "calibrate"]
    assert len(calibrated) == 5 and len({t.version for t in calibrated}) == 1
    wall = at + 1_750_000_000.0
    verdicts = [e for e in c.experiments() if e.settled_at is not None and e.settled_at > wall and e.candidate]
    ready = max(t.ended_at or 0.0 for t in calibrated)
    assert all((e.settled_at or 0.0) >= ready for e in verdicts if not e.reason.startswith("stale"))
    assert sorted(c.kept()) == [2, 5, 8]
    late = [t for t in c.trials() if t.protocol == protocols[0] and t.started_at and t.started_at > wall + 1]
    assert not late, f"started under settings that are no longer theirs: {[(t.id, t.purpose) for t in late]}"
    for trial in c.trials():
        if trial.score is not None:
            assert (trial.score > BASE + 0.5) == (trial.protocol == protocols[1]), "a score of the other protocol"
    in_flight = [
        (t.id, t.purpose, t.outcome, t.detail)
        for t in c.trials()
        if t.protocol == protocols[0] and t.ended_at and t.ended_at >= wall
    ]
    print("in flight at the change:", in_flight)
    assert_sound(c)


# --- clocks that jump -------------------------------------------------------------------------------


class JumpingClock(VirtualClock):
    """Somebody sets the wall clock, by up to a day, again and again."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)

    def now(self) -> float:
        return super().now() + self._chance.choice([-DAY, 0.0, DAY]) * self._chance.random()


class JumpingRealClock(RealClock):
    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def now(self) -> float:
        return super().now() + self._chance.choice([-DAY, 0.0, DAY]) * self._chance.random()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_wall_clock_that_jumps_by_a_day_changes_no_verdict_no_duration_and_no_limit(
    tmp_path: Path, seed: int
) -> None:
    limits = RunLimits(hours=1.5)

    def campaign(name: str, clock: VirtualClock) -> VirtualCampaign:
        return VirtualCampaign(
            tmp_path / name, program=measured(WORTH), script=SCRIPT, capacity=2, limits=limits, clock=clock
        )

    calm, wild = campaign("calm", VirtualClock()), campaign("wild", JumpingClock(seed))
    assert await calm.whole() == await wild.whole() == "limit reached: 1.5 hours"
    assert summary(wild) == summary(calm) and wild.kept() == calm.kept()
    assert wild.clock.monotonic() == calm.clock.monotonic()
    assert wild.campaign.active_seconds == calm.campaign.active_seconds
    assert [s.at for s in wild.machine.starts] == [s.at for s in calm.machine.starts]
    facts = [
        [(t.id, t.purpose, t.seed, t.outcome, t.score, t.seconds, t.attempts) for t in c.trials()]
        for c in (calm, wild)
    ]
    assert facts[0] == facts[1]
    points = [[reading.points(c.conn, t.id, "loss") for t in c.trials()] for c in (calm, wild)]
    assert points[0] == points[1]
    assert_sound(wild)


async def test_a_real_engine_under_a_jumping_clock_measures_and_stops_as_ever(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    order = service.Order(str(project), experiments=2, hours=1.0)
    print("clock seed 5")
    clock = JumpingRealClock(5)
    before = clock.monotonic()
    reason = await service.serve(order, clock)
    spent = clock.monotonic() - before
    assert reason == "limit reached: 2 experiments"
    reader = reading.Reader(project / ".ratchet" / "store.db")
    campaign = reader.campaign()
    verdicts = [e.verdict for e in reading.experiments(reader.conn, campaign.id) if e.candidate is not None]
    trials = reading.trials(reader.conn, campaign.id)
    reader.close()
    assert verdicts == ["keep", "discard"]
    assert all(0 < t.seconds < spent for t in trials) and campaign.active_seconds <= spent


# --- how busy the devices are kept --------------------------------------------------------------------


async def test_proposals_drafted_ahead_keep_eight_slots_at_work(tmp_path: Path) -> None:
    """For information: 8 slots, 300 s trials, 60 s a proposal, 12 drafts ahead, 15 % of them good."""
    worth = {n: 6.0 if n % 7 == 3 else -1.0 for n in range(80)}
    c = VirtualCampaign(
        tmp_path,
        program=measured(worth),
        script=[Turn(n) for n in range(80)],
        knobs=80,
        capacity=8,
        drafts=12,
        limits=RunLimits(hours=1.25),
    )

    async def work() -> float:
        await c.engine()
        await c.clock.sleep(1.25 * 3600 - 60)
        idle = 1 - c.machine.busy_seconds(900, c.clock.monotonic()) / (8 * (c.clock.monotonic() - 900))
        await c.ended()
        return idle

    idle = await c.run(work)
    settled = sum(e.candidate is not None and e.verdict is not None for e in c.experiments())
    print(
        f"idle fraction of 8 slots after the first quarter of an hour: {idle:.1%}; {settled} verdicts, {len(c.kept())} keeps"
    )
    assert c.machine.most_at_once() == 8
    assert_sound(c)
