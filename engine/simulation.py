"""The real engine on a virtual clock, with imagined trials and proposals: how busy the devices would be.

What is imagined: the hosts, git, the proposer's thinking and what a trial prints. What is real: every decision of
the engine and every statement of its store, whose processor time is measured.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from engine import config as configuration
from engine import estimates
from engine.clock import VirtualClock
from engine.conductor import Conductor, RunLimits
from engine.fleet import several
from engine.simulated_host import Ending, Execution, Machine
from engine.simulated_plan import CAUSES, Findings, Plan
from engine.simulated_workspace import KNOBS, VALUES, ArchiveHost, SimulatedWorkspace, Worth
from engine.store import deciding, reading, writes
from engine.store.core import Store, StoreThread
from engine.store.reading_pace import device_seconds
from engine.store.rows import CampaignRow
from engine.types import Author, Brief, ExperimentState, FileChange, Proposal, ProposerEvent

__all__ = ["CAUSES", "Findings", "Plan", "simulate"]

T = TypeVar("T")
SIGMA = 0.01  # of one run's score
JITTER = (0.02, 0.5)  # relative half-width of a run's and of a proposal's time
BEAT_SECONDS = 5.0
CONFIG = """
[project]
frozen = []
context = []
[metric]
name = "val_loss"
[trial]
command = "python train.py"
train_seconds = {seconds}
timeout_seconds = {timeout}
[proposer]
kind = "claude"
drafts = {drafts}
repairs = 0
[judge]
{judge}
[review]
mode = "{review}"
[limits]
dollars = "unlimited"
"""


class Inline(ThreadPoolExecutor):
    """No thread at all: a virtual clock cannot see threads."""

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class BusyClock(VirtualClock):
    """A virtual clock on which the processor time of this process passes too: what keeps the engine busy is late.

    Everything in the process counts, also what imagines hosts and proposals; no two runs are quite the same.
    """

    def __init__(self) -> None:
        self._began = time.process_time()
        super().__init__()

    @property
    def _elapsed(self) -> float:
        return self._jumped + time.process_time() - self._began

    @_elapsed.setter
    def _elapsed(self, value: float) -> None:
        self._jumped = value - (time.process_time() - self._began)


class _Proposer:
    """Turns a knob after some thought; as many at once as it is asked for."""

    name = str(Author.CLAUDE)

    def __init__(self, clock: VirtualClock, seconds: float, seed: int) -> None:
        self._clock, self._seconds, self._seed = clock, seconds, seed

    async def propose(self, brief: Brief) -> AsyncGenerator[ProposerEvent, None]:
        chance = random.Random(f"{self._seed}/{brief.number}")
        await self._clock.sleep(self._seconds * chance.uniform(1 - JITTER[1], 1 + JITTER[1]))
        knob, value = chance.randrange(KNOBS), chance.randrange(1, VALUES)
        lines = brief.files["train.py"].split(b"\n")
        lines[4 * knob] = b"K%d = %d" % (knob, value)
        change = FileChange("train.py", b"\n".join(lines))
        yield Proposal(f"K{knob} = {value}", f"knob {knob} matters", (change,), Author.CLAUDE)


def simulate(plan: Plan, tell: Callable[[float], None] = lambda hours: None) -> Findings:
    """Run ``plan``; takes seconds for a few devices, many minutes for a thousand. ``tell`` hears the simulated
    hours so far. An interrupt (Ctrl-C) ends it early: ``Findings.hours`` says how far it came."""
    with tempfile.TemporaryDirectory(prefix="ratchet-simulate-") as folder:
        return asyncio.run(_Simulation(plan, Path(folder), tell).run())


class _Simulation:
    def __init__(self, plan: Plan, folder: Path, tell: Callable[[float], None]) -> None:
        self.plan, self.folder, self.tell = plan, folder, tell
        self.clock = BusyClock() if plan.engine_time else VirtualClock()
        self.workspace = SimulatedWorkspace(folder, self.clock)
        self.worth = Worth(plan.seed, plan.keep_rate)
        self.machine = Machine(self.clock, self._run)
        self.hosts = [
            ArchiveHost(self.machine, devices, f"kind{n}", f"kind {n}")
            for n, (devices, _) in enumerate(plan.rooms, 1)
        ]
        self.seconds = {host.name: seconds for host, (_, seconds) in zip(self.hosts, plan.rooms, strict=True)}
        self.store = StoreThread(Store(folder / "store.db", self.clock), inline=True)
        self.found = Findings()
        self._conductor: Conductor | None = None
        self._began = 0.0  # processor time

    def _run(self, execution: Execution) -> Ending:
        version = execution.files["version"]
        text = self.workspace.text(version)
        luck = random.Random(f"{self.plan.seed}/{hashlib.sha256(text.encode()).hexdigest()}/{execution.seed}")
        seconds = self.seconds[execution.host] * luck.uniform(1 - JITTER[0], 1 + JITTER[0])
        score = 3.0 - SIGMA * self.worth.of(text) + SIGMA * luck.gauss(0, 1)
        curve = [(k / 4, b"METRIC loss=%.4f step=%d\n" % (score + 1 - k / 4, k)) for k in range(1, 4)]
        return Ending("finished", seconds, (*curve, (1.0, b"---\nval_loss: %.9f\n" % score)))

    async def run(self) -> Findings:
        asyncio.get_running_loop().set_default_executor(Inline(1))
        try:
            await self.clock.run(self._whole())
        except asyncio.CancelledError:
            if self._conductor is None:
                raise
        finally:
            if self._conductor is not None:
                self._conclude(self._conductor)
        return self.found

    async def _whole(self) -> None:
        plan, store = self.plan, self.store
        store.store.relax()
        store.store.take_over("here", "boot", 1)
        await store.write(
            writes.create_campaign, "simulated", "val_loss", "minimize", plan.seed, self.workspace.baseline
        )
        config = configuration.parse(
            CONFIG.format(
                seconds=plan.longest,
                timeout=plan.longest * 3 + 60,
                drafts=plan.drafts,
                judge=plan.judge,
                review="proposals" if plan.review_minutes else "auto",
            )
        )
        await store.write(writes.open_protocol, self._row().id, "key", "{}", "config", config.text, "simulated")
        fleet = several(self.hosts, self.clock, self.folder, self.folder)
        await fleet.open()
        conductor = Conductor(
            campaign=self._row(),
            config=config,
            store=store,
            workspace=self.workspace,
            fleet=fleet,
            proposer=_Proposer(self.clock, plan.propose_seconds, plan.seed),
            clock=self.clock,
            state=self.folder,
            limits=RunLimits(),
        )
        estimates.student_quantile(0.95, 4)  # loads scipy, which is no work of a campaign's
        self._conductor, self._began = conductor, time.process_time()
        works = (conductor.run(), self._watch(), self._beat(), self._person(conductor))
        tasks = [asyncio.create_task(work) for work in works]
        ending = asyncio.create_task(self.clock.sleep(plan.hours * 3600))
        try:
            done, _ = await asyncio.wait({*tasks, ending}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ending}:
                task.result()
        finally:
            for task in (*tasks, ending):
                task.cancel()
            await asyncio.gather(*tasks, ending, return_exceptions=True)
            await fleet.close()

    def _row(self) -> CampaignRow:
        row = reading.campaign(self.store.store.conn)
        assert row is not None
        return row

    async def _beat(self) -> None:
        while True:
            await self.clock.sleep(BEAT_SECONDS)
            await self.store.write(writes.beat, self._row().id, BEAT_SECONDS)

    async def _person(self, conductor: Conductor) -> None:
        """Accepts what has waited for so long."""
        while True:
            await self.clock.sleep(BEAT_SECONDS)
            if not self.plan.review_minutes:
                continue
            for row in reading.experiments(self.store.store.conn, self._row().id, open_only=True):
                waited = self.clock.now() - (row.asked_at or row.updated_at)
                if row.state == ExperimentState.REVIEW and waited >= 60 * self.plan.review_minutes:
                    await self.store.write(deciding.decided, row.id, "accept", "somebody", "", row.revision)
                    conductor.wake()

    # --- what is found ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Twice a second of a short run, less often of a long one: which devices are idle, and why."""
        every = max(0.5, self.plan.trial_seconds / 300)
        seen = self.clock.monotonic()
        while True:
            await self.clock.sleep(every)
            passed, seen = self.clock.monotonic() - seen, self.clock.monotonic()
            idle = {host.hardware: host.capacity - self.machine.running(host.name) for host in self.hosts}
            calibrated = bool(self._row().calibration)
            if calibrated and not any(idle.values()) and not self.found.steady_from:
                self.found.steady_from = self.clock.monotonic()
            for cause, devices in self._causes(idle, calibrated).items():
                self.found.causes[cause] += devices * passed
            self.tell(self.clock.monotonic() / 3600)

    def _causes(self, idle: Mapping[str, int], calibrated: bool) -> dict[str, int]:
        """Idle devices by what they wait for: as many as trials are queued for them wait for the engine alone."""
        queued, states = reading.held_up(self.store.store.conn)
        undecided = sum(states.get(state, 0) for state in ("ready", "judging", "merging"))
        asked = states.get("review", 0)
        starting = {kind: min(free, queued.get(kind, 0)) for kind, free in idle.items()}
        gap = sum(starting.values())
        left = sum(idle.values()) - gap
        anywhere = min(left, queued.get("", 0))
        deciding = min(left - anywhere, undecided)
        # While nothing more is written because enough waits for a person, all devices do.
        person = left - anywhere - deciding
        if "drafting" in states:
            person = min(person, asked)
        elif not asked:
            person = 0
        return {
            "start-up gap": gap + anywhere,
            "waiting for a decision" if calibrated else "calibration": deciding,
            "waiting for a person": person,
            "no proposal ready": left - anywhere - deciding - person,
        }

    def _conclude(self, conductor: Conductor) -> None:
        found, now, capacity = self.found, self.clock.monotonic(), self.plan.capacity
        conn, campaign = self.store.store.conn, self._row().id
        found.hours = now / 3600
        if now:
            found.engine_seconds_an_hour = (time.process_time() - self._began) / found.hours
            found.idle = max(0.0, 1 - self.machine.busy_seconds(0, now) / (capacity * now))
            found.causes = {cause: seconds / (capacity * now) for cause, seconds in found.causes.items()}
        steady = found.steady_from or now
        if now > steady:
            busy = self.machine.busy_seconds(steady, now)
            found.idle_steady = max(0.0, 1 - busy / (capacity * (now - steady)))
        pace = conductor.setting.pace
        found.drafts = conductor.setting.config.proposer.drafts or pace.drafts(capacity, self.plan.longest)
        counted = reading.counts(conn, campaign)
        found.keeps = counted.get("keep", 0)
        found.experiments = sum(counted.get(verdict, 0) for verdict in ("keep", "discard", "crash", "invalid"))
        found.experiments_an_hour = found.experiments / found.hours if now else 0.0
        found.trials = len(self.machine.starts)
        spent = device_seconds(conn, campaign)
        found.work = {purpose: seconds / sum(spent.values()) for purpose, seconds in spent.items()}
        gaps = sorted(self.machine.gaps())
        if gaps:
            p50, p90, p99 = (gaps[int(share * (len(gaps) - 1))] for share in (0.5, 0.9, 0.99))
            found.gap_p50, found.gap_p90, found.gap_p99 = p50, p90, p99
        self.store.close()
