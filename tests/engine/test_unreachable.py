"""What the engine wants of a trial whose host is away: it waits, disturbs nobody, and is carried out later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import conductor
from engine.conductor import WITHDRAW_SECONDS
from engine.fleet import Fleet
from engine.runners import FollowItem
from engine.runners.ssh import PATIENCE_SECONDS
from engine.store import reading
from engine.store.rows import TrialRow
from engine.types import TrialOutcome
from tests.engine.simulated_host import Ending, Execution, SimulatedHost
from tests.engine.soundness import assert_sound
from tests.engine.test_fleet import SCRIPT, WORTH, FleetCampaign
from tests.engine.virtual_campaign import Turn, VirtualCampaign, knobs_of, measured


class PatientHost(SimulatedHost):
    """Waits for its connection as ``SshTransport.exec`` does. ``mute``: nothing comes of it, and nobody says so."""

    mute = False

    async def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        async for item in super().follow(directory, offset):
            while self.mute:
                await self.machine.clock.sleep(1.0)
            yield item

    async def cancel(self, directory: str) -> bool:
        until = self.machine.clock.monotonic() + PATIENCE_SECONDS
        while self.down and self.machine.clock.monotonic() < until:
            await self.machine.clock.sleep(1.0)
        return await super().cancel(directory)


class PatientCampaign(FleetCampaign):
    def make_fleet(self) -> Fleet:
        fleet = super().make_fleet()
        for post in fleet.posts:
            assert isinstance(post.host, SimulatedHost)
            post.host.__class__ = PatientHost
        return fleet


def on_two(c: VirtualCampaign) -> list[TrialRow]:
    return [t for t in c.trials() if t.host == "two" and t.state == "running"]


@pytest.mark.parametrize(("known", "most"), [(True, 1.0), (False, WITHDRAW_SECONDS)], ids=["known", "not noticed"])
async def test_an_engine_is_stopped_while_a_host_is_away_and_the_next_one_collects_what_ran_there(
    tmp_path: Path, known: bool, most: float
) -> None:
    c = PatientCampaign(tmp_path, program=measured(WORTH), script=SCRIPT, drafts=6)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running() == 4 and len(c.machine.starts) > 6, "all at work")
        there = {t.id for t in on_two(c)}
        c.hosts["two"].go_down("no route to host")
        if known:
            await c.until(lambda: c.rows()["two"].state == "away", "the row to say so")
            there = {t.id for t in on_two(c)}
        at = c.clock.monotonic()
        c.conductor.stop("enough")
        assert await c.ended() == "enough"
        took = c.clock.monotonic() - at
        print(f"stopped in {took:.0f} virtual seconds")
        assert took <= most, "nobody waits for a host that is away"
        states = {t.id: t.state for t in c.trials() if t.state != "done"}
        assert there and all(states[t] == "running" for t in there), "it goes on there, for all that is known"
        assert c.machine.running() == len(there), "what could be reached has ended"
        await c.kill()
        await c.engine()
        await c.ended()
        assert {t.outcome for t in c.trials() if t.id in there} == {TrialOutcome.OK}

    await c.run(work)
    assert_sound(c)


def turned(execution: Execution) -> bool:
    return any(knobs_of(execution.files["train.py"]).values())


def printed(score: float) -> tuple[tuple[float, bytes], ...]:
    return ((1.0, b"---\nval_loss: %.6f\n" % score),)


async def test_a_verdict_given_while_a_host_is_away_pauses_nothing_and_ends_the_run_there_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "PATIENCE_SECONDS", 1e6)  # else, with nothing more to do, it is left behind
    screened: set[str] = set()

    def program(execution: Execution) -> Ending:
        text = execution.files["train.py"]
        if not turned(execution):
            return Ending("finished", 300.0, printed(3 + execution.seed % 7 / 100))
        if text not in screened:
            screened.add(text)
            return Ending("finished", 300.0, printed(2.0))
        # Its confirmations: one kind of end here, another there.
        return Ending("failed", 900.0) if execution.host == "one" else Ending("finished", 50_000.0, printed(2.0))

    c = PatientCampaign(tmp_path, program=program, script=[Turn(1)], drafts=1, judge="confirm_seeds = 3")

    async def work() -> None:
        await c.engine()
        await c.until(lambda: len({t.host for t in c.trials() if t.purpose == "confirm"}) == 2, "confirmations")
        (there, *_) = [t.id for t in on_two(c)]
        c.hosts["two"].go_down("no route to host")
        await c.until(lambda: c.verdicts().get(1) == "crash", "the verdict")
        await c.clock.sleep(3600)
        assert c.campaign.state == "running", c.campaign.pause_reason
        assert reading.attempts(c.conn, there)[-1].state == "unknown"
        c.hosts["two"].come_back()
        at = c.clock.monotonic()
        await c.ended()
        assert c.clock.monotonic() - at < 600, "nobody needs that run: it does not go on for half a day"
        assert {t.outcome for t in c.trials() if t.id == there} == {TrialOutcome.CANCELLED}

    await c.run(work)
    assert_sound(c)


def steady(execution: Execution) -> Ending:
    """A curve with a point every two seconds."""
    curve = [(n / 150, b"METRIC loss=%.3f step=%d\n" % (4 - n / 100, n)) for n in range(1, 150)]
    return Ending("finished", 300.0, (*curve, *printed(3 + execution.seed % 7 / 100)))


@pytest.mark.parametrize("away", [100.0, 140.0, 200.0])
async def test_the_silence_of_a_host_that_is_away_is_no_stall_of_its_trials(tmp_path: Path, away: float) -> None:
    c = PatientCampaign(tmp_path, program=steady, script=[Turn(1)])

    async def work() -> None:
        await c.engine()
        await c.until(lambda: bool(on_two(c)), "a trial there")
        await c.clock.sleep(30)
        c.hosts["two"].go_down("no route to host")
        await c.clock.sleep(away)
        c.hosts["two"].come_back()
        await c.ended()

    await c.run(work)
    assert {t.outcome for t in c.trials()} == {TrialOutcome.OK}, [(t.outcome, t.detail) for t in c.trials()]
    assert_sound(c)


async def test_a_run_that_cannot_come_to_anything_is_ended_when_its_host_is_back(tmp_path: Path) -> None:
    def program(execution: Execution) -> Ending:
        if not turned(execution):
            return steady(execution)
        return Ending(
            "finished", 50_000.0, tuple((n / 50_000, b"METRIC loss=nan step=%d\n" % n) for n in range(9))
        )

    c = PatientCampaign(tmp_path, program=program, script=[Turn(1)], drafts=1)

    async def work() -> None:
        await c.engine()
        await c.until(
            lambda: any(t.purpose == "screen" and t.state == "running" for t in c.trials()), "a screening"
        )
        (name,) = [t.host for t in c.trials() if t.purpose == "screen"]
        await c.clock.sleep(2)
        c.hosts[name].go_down("no route to host")
        await c.clock.sleep(900)
        c.hosts[name].come_back()
        at = c.clock.monotonic()
        await c.ended()
        assert c.clock.monotonic() - at < 60

    await c.run(work)
    (screen,) = [t for t in c.trials() if t.purpose == "screen"]
    assert screen.outcome == TrialOutcome.NOT_FINITE
    assert_sound(c)


async def test_a_machine_that_slept_takes_its_own_silence_for_no_stall(tmp_path: Path) -> None:
    c = PatientCampaign(tmp_path, program=steady, script=[Turn(1)])

    async def work() -> None:
        await c.engine()
        await c.until(lambda: bool(on_two(c)), "a trial there")
        await c.clock.sleep(31)
        # The network takes longer to wake than the engine does, and says nothing of it.
        for host in c.hosts.values():
            assert isinstance(host, PatientHost)
            host.mute = True
        c.clock._elapsed += 130.0
        await c.clock.sleep(20)
        for host in c.hosts.values():
            assert isinstance(host, PatientHost)
            host.mute = False
        await c.ended()

    await c.run(work)
    assert {t.outcome for t in c.trials()} == {TrialOutcome.OK}, [(t.outcome, t.detail) for t in c.trials()]
