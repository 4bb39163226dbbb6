"""One campaign over several hosts: a dead one blocks no other, a drained one ends its work, kinds never mix."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.clock import VirtualClock
from engine.conductor import RunLimits
from engine.errors import HostFault
from engine.fleet import Fleet, _ground
from engine.grounds import Grounds
from engine.metering import Meter
from engine.post import HostState, Post
from engine.store import reading, reading_hosts
from engine.types import Allocation, Reading, TrialOutcome
from tests.engine.simulated_host import Ending, Execution, Machine, Program, SimulatedHost
from tests.engine.soundness import assert_sound
from tests.engine.virtual_campaign import BASE, Turn, VirtualCampaign, measured

WORTH = {n: 6.0 if n in (1, 4, 7) else -2.0 for n in range(24)}
SCRIPT = [Turn(n) for n in range(10)]


class FleetCampaign(VirtualCampaign):
    """``rooms``: name -> (slots, kind of hardware); ``dead`` ones do not answer. Each host has a root of its own."""

    rooms: Mapping[str, tuple[int, str]] = {"one": (2, "small"), "two": (2, "small")}
    dead: tuple[str, ...] = ()
    devices = False

    def make_fleet(self) -> Fleet:
        self.hosts = {
            name: SimulatedHost(self.machine, slots, name, kind, self.devices)
            for name, (slots, kind) in self.rooms.items()
        }
        for name in self.dead:
            self.hosts[name].down = "no route to host"
        posts = [
            Post(host, _ground(Grounds(str(self.state / name), self.project, Path.home(), local=False)))
            for name, host in self.hosts.items()
        ]
        return Fleet(posts, self.clock, random.Random(1))

    def rows(self) -> dict[str, reading_hosts.HostRow]:
        return {row.name: row for row in reading_hosts.hosts(self.conn)}

    def warnings(self) -> list[str]:
        rows = self.conn.execute("SELECT json_extract(data, '$.message') FROM event WHERE kind = 'Warned'")
        return [str(r[0]) for r in rows]


def campaign(folder: Path, program: Program | None = None, **more: object) -> FleetCampaign:
    return FleetCampaign(folder, program=program or measured(WORTH), script=SCRIPT, **more)  # type: ignore[arg-type]


def kept_titles(c: VirtualCampaign) -> set[str]:
    rows = c.experiments()
    return {e.title for e in rows if e.number in c.kept()}


GOOD = {"turn K1 to 1", "turn K4 to 1", "turn K7 to 1"}


# --- several at once --------------------------------------------------------------------------------


async def test_two_hosts_work_at_once_and_the_verdicts_are_those_of_one_with_as_many_slots(tmp_path: Path) -> None:
    c = campaign(tmp_path, drafts=6)
    await c.whole()
    assert kept_titles(c) == GOOD
    used = Counter(e.host for e in c.machine.starts)
    print("trials by host:", used)
    assert set(used) == {"one", "two"} and min(used.values()) > 0.3 * max(used.values())
    assert c.machine.most_at_once() == 4
    places = {str(Path(d).parents[2].name) for d in c.machine.attempts}
    assert places == {"one", "two"}, "each host's trials lie under its own root"
    trials = [t for t in c.trials() if t.outcome == TrialOutcome.OK]
    assert {t.host for t in trials} == {"one", "two"}
    logs = [c.state / t.directory / "control" / "log" for t in trials]
    assert all(b"val_loss" in log.read_bytes() for log in logs), "every log is at hand here"
    assert all(row.state == "ready" and row.capacity == 2 for row in c.rows().values())
    assert_sound(c)


async def test_a_host_that_dies_keeps_nobody_from_working_and_is_taken_up_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    c = campaign(tmp_path, drafts=6)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running() == 4 and len(c.machine.starts) > 6, "all at work")
        on_dead = [t.id for t in c.trials() if t.host == "two" and t.state == "running"]
        c.hosts["two"].go_down("connection timed out")
        await c.until(lambda: c.rows()["two"].state == "away", "the row to say so", hours=0.1)
        before = Counter(e.host for e in c.machine.starts)
        await c.clock.sleep(3600)
        after = Counter(e.host for e in c.machine.starts)
        assert after["two"] == before["two"], "nothing is started on it"
        assert after["one"] - before["one"] >= 18, "and the other is never idle"
        assert c.campaign.state == "running"
        attempts = [reading.attempts(c.conn, t)[-1].state for t in on_dead]
        assert on_dead and set(attempts) == {"unknown"}, "no evidence is no end"
        c.hosts["two"].come_back()
        await c.until(lambda: c.rows()["two"].state == "ready", "it to be used again", hours=0.5)
        assert all(len(reading.attempts(c.conn, t)) == 1 for t in on_dead), "what ran there was not run again"
        await c.ended()

    await c.run(work)
    told = [w for w in c.warnings() if "host two" in w]
    assert any("set aside: connection timed out" in w for w in told) and any("is back" in w for w in told)
    assert kept_titles(c) == GOOD
    assert Counter(e.host for e in c.machine.starts)["two"] > 6
    assert_sound(c)


@pytest.mark.parametrize("limits", [RunLimits(experiments=3), RunLimits(hours=1)], ids=["experiments", "hours"])
async def test_an_engine_at_its_limit_waits_no_longer_for_a_dead_host_than_a_trial_may_take(
    tmp_path: Path, limits: RunLimits
) -> None:
    c = campaign(tmp_path, drafts=6, limits=limits)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running("two") == 2 and len(c.machine.starts) > 6, "all at work")
        there = [t.id for t in c.trials() if t.host == "two" and t.state == "running"]
        c.hosts["two"].go_down("no route to host")
        began = c.clock.now()
        reason = await c.ended(hours=4)
        print(f"{reason}, {c.clock.now() - began:.0f} s after it died")
        assert (
            reason.startswith("limit reached") and "2 of its trials left on a host that does not answer" in reason
        )
        assert [reading.attempts(c.conn, t)[-1].state for t in there] == ["unknown", "unknown"]
        c.hosts["two"].come_back()
        c.limits = RunLimits(experiments=1)
        await c.engine()
        await c.ended()
        assert all(len(reading.attempts(c.conn, t)) == 1 for t in there), "collected, and not run again"

    await c.run(work)
    assert_sound(c)


async def test_a_campaign_starts_while_one_host_is_dead_and_takes_it_in_later(tmp_path: Path) -> None:
    c = campaign(tmp_path, drafts=6)
    c.dead = ("two",)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running() == 2, "the living host at work", hours=0.1)
        assert c.rows()["two"].state == "away" and "no route to host" in c.rows()["two"].reason
        await c.clock.sleep(1000)
        assert {e.host for e in c.machine.starts} == {"one"}
        c.hosts["two"].come_back()
        await c.until(lambda: "two" in {e.host for e in c.machine.starts}, "it to be used", hours=1)
        await c.ended()

    await c.run(work)
    assert kept_titles(c) == GOOD
    protocols = c.conn.execute("SELECT COUNT(*) FROM protocol").fetchone()[0]
    assert protocols == 1, "a host that comes or goes measures nothing anew"
    assert_sound(c)


async def test_no_host_at_all_is_a_refusal_that_names_each_reason() -> None:
    clock = VirtualClock()
    machine = Machine(clock, measured({}))
    hosts = [SimulatedHost(machine, 1, name) for name in ("one", "two")]
    for host in hosts:
        host.down = f"{host.name} is off"
    grounds = _ground(Grounds("/nowhere", Path("/p"), Path("/h")))
    fleet = Fleet([Post(host, grounds) for host in hosts], clock, random.Random(1))
    with pytest.raises(HostFault) as refused:
        await clock.run(fleet.open())
    assert "one is off" in refused.value.message and "two is off" in refused.value.message


async def test_a_host_that_hangs_while_it_opens_does_not_hold_up_the_start() -> None:
    clock = VirtualClock()
    machine = Machine(clock, measured({}))

    class Hanging(SimulatedHost):
        async def open(self) -> None:
            await asyncio.Event().wait()

    grounds = _ground(Grounds("/nowhere", Path("/p"), Path("/h")))
    posts = [Post(Hanging(machine, 1, "slow"), grounds), Post(SimulatedHost(machine, 3, "quick"), grounds)]
    fleet = Fleet(posts, clock, random.Random(1))

    async def work() -> float:
        await fleet.open()
        at = clock.monotonic()
        assert fleet.capacity == 3
        await clock.sleep(600)
        assert fleet.post("slow").state is HostState.AWAY and "did not open" in fleet.post("slow").reason
        await fleet.close()
        return at

    assert await clock.run(work()) < 10


@pytest.mark.parametrize("seed", [1, 2])
async def test_engines_killed_with_trials_on_two_hosts_find_them_all_again(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    c = campaign(tmp_path, drafts=6, seed=seed)

    async def work() -> None:
        await c.engine()
        for _ in range(6):
            await c.clock.sleep(chance.uniform(200, 1500))
            if c._running is None or c._running.done():
                break
            running = c.machine.running()
            await c.kill()
            assert c.machine.running() == running
            await c.engine()
            await c.clock.sleep(1)
            assert all(h.down == "" for h in c.hosts.values())
        await c.ended()

    await c.run(work)
    assert kept_titles(c) == GOOD
    assert all(t.attempts <= 1 for t in c.trials()), "no attempt was given up"
    assert_sound(c)


# --- lost ---------------------------------------------------------------------------------------------


async def test_a_trial_that_a_host_lost_goes_on_elsewhere_while_something_is_free_there(tmp_path: Path) -> None:
    good = measured(WORTH)

    def run(execution: Execution) -> Ending:
        return Ending("lost", 5.0) if execution.host == "two" and execution.attempt == 1 else good(execution)

    c = campaign(tmp_path, run, drafts=1)
    c.rooms = {"one": (8, "small"), "two": (8, "small")}
    await c.whole()
    spans = [(a.started, a.ended) for d, a in c.machine.attempts.items() if Path(d).parents[2].name == "one"]

    def on_one(at: float) -> int:
        return sum(start is not None and end is not None and start <= at + 1 < end for start, end in spans)

    again = [e for e in c.machine.starts if e.attempt > 1]
    back = [e for e in again if e.host == "two"]
    print(f"{len(again)} trials that one host lost: {len(back)} run again there, while all of the other was taken")
    assert len(again) - len(back) > 3 and all(on_one(e.at) == 8 for e in back)
    assert all(t.attempts <= 2 for t in c.trials()) and kept_titles(c) == GOOD
    assert_sound(c)


async def test_a_host_that_lost_a_trial_comes_last_and_is_better_than_none() -> None:
    clock = VirtualClock()
    machine = Machine(clock, measured({}))
    hosts = [SimulatedHost(machine, 2, name, kind) for name, kind in (("a", "x"), ("b", "x"), ("c", "y"))]
    fleet = Fleet([Post(host, _ground(Grounds("/n", Path("/p"), Path("/h")))) for host in hosts], clock)

    def host_of(trial: int, kind: str = "x") -> str:
        found = fleet.acquire(trial, kind)
        return found.host if found is not None else ""

    async def work() -> None:
        await fleet.open()
        assert host_of(1) == "a"
        fleet.lost(1, "a")
        fleet.release(1)
        assert (host_of(2), host_of(3)) == ("a", "b")
        fleet.release(2)
        assert host_of(1) == "b", "although a is idle; c is of another kind"
        fleet.release(1)
        assert (host_of(4), host_of(5), host_of(6)) == ("a", "a", "b")
        fleet.release(4)
        assert host_of(1) == "a", "the only one that has something free"
        fleet.release(1)
        fleet.lost(1, "b")
        fleet.release(6)
        assert host_of(1) in "ab" and fleet.post("c").held == 0
        assert host_of(7, "y") == "c"
        fleet.lost(7, "c")
        fleet.release(7)
        assert host_of(7, "y") == "c", "no other host is of its kind"
        await fleet.close()

    await clock.run(work())


# --- drained and lent -------------------------------------------------------------------------------


async def test_a_drained_host_ends_what_it_has_and_gets_no_more_until_it_is_resumed(tmp_path: Path) -> None:
    c = campaign(tmp_path, drafts=6, limits=RunLimits(hours=4))

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running() == 4, "all at work")
        assert await c.ask("drain", name="two") == ("done", "host two gets no more trials; 2 go on to their end")
        before = Counter(e.host for e in c.machine.starts)
        await c.clock.sleep(400)
        assert c.machine.running() == 2 and c.rows()["two"].drained == "tester"
        await c.kill()
        await c.engine()  # a new engine knows of it
        await c.clock.sleep(1200)
        assert Counter(e.host for e in c.machine.starts)["two"] == before["two"]
        assert (await c.ask("undrain", name="two"))[0] == "done"
        await c.until(
            lambda: Counter(e.host for e in c.machine.starts)["two"] > before["two"], "it in use", hours=1
        )
        assert (await c.ask("drain", name="three"))[0] == "refused"
        await c.ended()

    await c.run(work)
    assert_sound(c)


async def test_a_lent_device_is_left_alone_for_its_time_and_the_rest_of_the_host_is_not(tmp_path: Path) -> None:
    c = campaign(tmp_path, drafts=8, limits=RunLimits(hours=4))
    c.devices = True

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running() == 4, "all at work")
        state, outcome = await c.ask("lend", name="one", hours=1, device="GPU-one-1")
        assert state == "done" and "GPU-one-1 is lent for 1 h" in outcome
        await c.clock.sleep(400)
        until = c.rows()["one"].lent["GPU-one-1"]
        assert until == pytest.approx(c.clock.now() + 3200, abs=5)
        assert c.machine.running() == 3
        await c.clock.sleep(3300)
        assert c.machine.running() == 4
        for bad in ({"hours": 0}, {"hours": 1, "device": "GPU-none"}):
            assert (await c.ask("lend", name="one", **bad))[0] == "refused"
        c.conductor.stop("enough")
        await c.ended()

    await c.run(work)


async def test_what_others_held_is_taken_as_soon_as_they_have_left_it_although_nobody_says_so(
    tmp_path: Path,
) -> None:
    """Nothing of ours runs then whose end would be a reason to look again."""
    c = campaign(tmp_path, drafts=2, limits=RunLimits(hours=8))
    c.rooms = {"one": (2, "small")}
    guests: set[int] = set()

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running() == 2, "it at work")
        assert (await c.ask("lend", name="one", hours=1))[0] == "done"
        end = c.clock.now() + 3600
        await c.clock.sleep(3500)
        assert c.machine.running() == 0
        await c.until(lambda: c.machine.running() > 0, "work again", hours=0.1)
        print(f"{c.clock.now() - end:.0f} s after the lent hour")
        assert 0 <= c.clock.now() - end < 15
        c.hosts["one"]._allocations._locked = lambda slot: bool(guests)  # by another project's job
        guests.add(1)
        await c.clock.sleep(1000)
        assert c.machine.running() == 0
        guests.clear()
        await c.clock.sleep(15)
        assert c.machine.running() == 2
        c.conductor.stop("enough")
        await c.ended()

    await c.run(work)


async def test_while_others_hold_the_devices_no_more_is_begun_or_drafted_than_fits_on_them(tmp_path: Path) -> None:
    """Else a campaign that waits would pay for proposals by the hundred."""
    script = [Turn(n) for n in range(24)]
    c = FleetCampaign(tmp_path, program=measured(WORTH), script=script, drafts=2, limits=RunLimits(hours=40))

    async def work() -> None:
        await c.engine()
        await c.until(lambda: bool(c.campaign.calibration), "the noise")
        for host in c.hosts.values():
            host._allocations._locked = lambda slot: True  # by another project's jobs
        await c.until(lambda: c.machine.running() == 0, "what ran to end")
        await c.clock.sleep(3600)
        before = len(c.experiments())
        await c.clock.sleep(24 * 3600)
        waiting = [t for t in c.trials() if t.state == "queued"]
        print(f"{len(c.experiments())} experiments, {len(waiting)} trials queued")
        assert len(c.experiments()) == before and 0 < len(waiting) <= 20
        for host in c.hosts.values():
            host._allocations._locked = lambda slot: False
        await c.clock.sleep(15)
        assert c.machine.running() == 4
        c.conductor.stop("enough")
        await c.ended()

    await c.run(work)


# --- kinds of hardware ------------------------------------------------------------------------------


def on_two_kinds(worth: dict[int, float]) -> Program:
    """The second kind's scores are worse by far more than any change is worth."""
    small, large = measured(worth), measured(worth, base=BASE + 1)

    def run(execution: Execution) -> Ending:
        return (large if execution.host == "two" else small)(execution)

    return run


async def test_scores_of_two_kinds_of_hardware_are_never_compared(tmp_path: Path) -> None:
    c = campaign(tmp_path, on_two_kinds(WORTH), drafts=6)
    c.rooms = {"one": (2, "small"), "two": (2, "large")}
    await c.whole()
    assert kept_titles(c) == GOOD
    trials = [t for t in c.trials() if t.outcome == TrialOutcome.OK]
    assert {t.hardware for t in trials} == {"small", "large"}, "both kinds were used"
    for trial in trials:
        assert trial.score is not None and (trial.score > BASE + 0.5) == (trial.hardware == "large")
        assert trial.kind in ("", trial.hardware), "what was to be compared ran where it can be"
    judged = 0
    for experiment in c.experiments():
        own = {t.hardware for t in trials if t.version == experiment.candidate and t.number == experiment.number}
        if experiment.verdict in ("keep", "discard"):
            judged += 1
            assert len(own) == 1, f"experiment {experiment.number} ran on {own}"
            against = [t for t in trials if t.version == experiment.base and t.hardware in own]
            assert against, "the incumbent was measured on the kind that it is judged on"
    assert judged == len(SCRIPT)
    baseline = {t.hardware for t in trials if t.purpose == "calibrate"}
    assert len(baseline) == 1, "the baseline's noise is that of one kind"
    assert_sound(c)


async def test_a_kind_that_is_gone_for_good_is_not_waited_for(tmp_path: Path) -> None:
    c = campaign(tmp_path, on_two_kinds(WORTH), drafts=6)
    c.rooms = {"one": (2, "small"), "two": (2, "large")}

    async def work() -> None:
        await c.engine()
        await c.until(
            lambda: any(t.kind == "large" and t.state == "queued" for t in c.trials()), "one waits for it"
        )
        assert (await c.ask("drain", name="two"))[0] == "done"
        await c.ended(hours=24)

    await c.run(work)
    trials = [t for t in c.trials() if t.outcome == TrialOutcome.OK]
    assert all((t.score or 0) < BASE + 0.5 for t in trials if t.hardware == "small")
    assert {e.verdict for e in c.experiments() if e.candidate} <= {"keep", "discard", "cancelled"}
    assert kept_titles(c) <= GOOD, "no change was kept for the machine it ran on"


# --- foreign processes, energy ----------------------------------------------------------------------


def reading_of(host: str, device: str, foreign: int, watts: float = 100.0) -> Reading:
    return Reading(host, device, "H", 0.0, power_w=watts, foreign=foreign)


async def test_a_device_with_foreign_processes_is_left_alone_and_a_disturbed_run_counts_for_nothing(
    tmp_path: Path,
) -> None:
    c = campaign(tmp_path, drafts=6)
    c.devices = True
    c.rooms = {"one": (1, "small"), "two": (1, "small")}

    async def watch() -> None:
        while True:
            await c.clock.sleep(5)
            at = c.clock.monotonic()
            guest = 100 < at < 1000
            for name in c.rooms:
                device = f"GPU-{name}-0"
                batch = [reading_of(name, device, int(guest and name == "two"))]
                c.fleet.meter.read(c.fleet.held_on(name), batch, at)
                c.fleet.seen(name, [r.device for r in batch if r.foreign])

    async def work() -> None:
        await c.engine()
        watching = asyncio.create_task(watch())
        await c.until(lambda: len(c.machine.starts) >= 12, "a good while")
        watching.cancel()
        c.conductor.stop("enough")
        await c.ended()

    await c.run(work)
    during = [e for e in c.machine.starts if e.host == "two" and 105 < e.at < 1000]
    assert during == [], "nothing was started beside the guest"
    disturbed = [a for t in c.trials() for a in reading.attempts(c.conn, t.id) if "another process" in a.reason]
    assert len(disturbed) == 1 and disturbed[0].host == "two"
    again = reading.trial(c.conn, disturbed[0].trial)
    assert again is not None and again.attempts == 2 and again.outcome == TrialOutcome.OK
    assert any("processes that are not ours on GPU-two-0" in w for w in c.warnings())
    scores = {n: v for n, _, source, v in reading.scores(c.conn, again.id) if source == "engine"}
    assert scores["device_seconds"] == pytest.approx(300) and scores["joules"] == pytest.approx(30_000, rel=0.01)


def test_energy_is_the_mean_power_seen_and_unknown_when_too_little_was_seen() -> None:
    meter, held = Meter(), {7: Allocation("h", "gpu0", ("GPU-0",))}
    for second in range(0, 61):
        meter.read(held, [reading_of("h", "GPU-0", int(second > 54), 200.0)], float(second))
    use = meter.take(7)
    assert use.energy(100.0, 1) == pytest.approx(20_000)
    assert use.disturbed == pytest.approx(0.1, abs=0.001)
    assert use.energy(1000.0, 1) is None and meter.take(7).energy(10.0, 1) is None
