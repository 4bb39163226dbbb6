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
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from engine import config as configuration
from engine.clock import VirtualClock
from engine.conductor import Conductor, RunLimits
from engine.fleet import single
from engine.simulated_host import Ending, Execution, Machine
from engine.simulated_workspace import KNOBS, VALUES, ArchiveHost, SimulatedWorkspace, Worth
from engine.store import reading, writes
from engine.store.core import Store, StoreThread
from engine.types import Author, Brief, FileChange, Proposal, ProposerEvent

T = TypeVar("T")
SIGMA = 0.01  # of one run's score
JITTER = (0.02, 0.5)  # relative half-width of a run's and of a proposal's time
BEAT_SECONDS = 5.0
CAUSES = ("calibration", "no proposal ready", "waiting for a decision", "start-up gap")
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
[limits]
dollars = "unlimited"
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. Times in seconds; ``drafts`` 0: as many as the engine itself thinks it needs."""

    devices: int = 8
    trial_seconds: float = 300.0
    propose_seconds: float = 60.0
    drafts: int = 0
    keep_rate: float = 0.1  # of proposals that are truly better
    hours: float = 2.0
    seed: int = 1


@dataclass
class Findings:
    """What came of it. Fractions are of all device time; ``steady``: once all devices had been busy after
    calibration. Gaps: seconds from a run's end to the next one's start on the same device."""

    idle: float = 0.0
    idle_steady: float = 0.0
    steady_from: float = 0.0
    causes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0.0))
    experiments_an_hour: float = 0.0
    experiments: int = 0
    keeps: int = 0
    trials: int = 0
    gap_p50: float = 0.0
    gap_p90: float = 0.0
    engine_seconds_an_hour: float = 0.0  # processor time of the engine for a simulated hour
    drafts: int = 0  # proposals ahead at the end


class Inline(ThreadPoolExecutor):
    """No thread at all: a virtual clock cannot see threads."""

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


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


def simulate(plan: Plan) -> Findings:
    """Run ``plan``; takes seconds for a few devices, minutes for a thousand."""
    with tempfile.TemporaryDirectory(prefix="ratchet-simulate-") as folder:
        return asyncio.run(_Simulation(plan, Path(folder)).run())


class _Simulation:
    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.clock = VirtualClock()
        self.workspace = SimulatedWorkspace(folder, self.clock)
        self.worth = Worth(plan.seed, plan.keep_rate)
        self.machine = Machine(self.clock, self._run)
        self.found = Findings()
        self._sampled = 0.0

    def _run(self, execution: Execution) -> Ending:
        version = execution.files["version"]
        text = self.workspace.text(version)
        luck = random.Random(f"{self.plan.seed}/{hashlib.sha256(text.encode()).hexdigest()}/{execution.seed}")
        seconds = self.plan.trial_seconds * luck.uniform(1 - JITTER[0], 1 + JITTER[0])
        score = 3.0 - SIGMA * self.worth.of(text) + SIGMA * luck.gauss(0, 1)
        curve = [(k / 4, b"METRIC loss=%.4f step=%d\n" % (score + 1 - k / 4, k)) for k in range(1, 4)]
        return Ending("finished", seconds, (*curve, (1.0, b"---\nval_loss: %.9f\n" % score)))

    async def run(self) -> Findings:
        asyncio.get_running_loop().set_default_executor(Inline(1))
        return await self.clock.run(self._whole())

    async def _whole(self) -> Findings:
        plan = self.plan
        store = StoreThread(Store(self.folder / "store.db", self.clock), inline=True)
        store.store.relax()
        store.store.take_over("here", "boot", 1)
        await store.write(
            writes.create_campaign, "simulated", "val_loss", "minimize", plan.seed, self.workspace.baseline
        )
        config = configuration.parse(
            CONFIG.format(seconds=plan.trial_seconds, timeout=plan.trial_seconds * 3 + 60, drafts=plan.drafts)
        )
        row = reading.campaign(store.store.conn)
        assert row is not None
        await store.write(writes.open_protocol, row.id, "key", "{}", "config", config.text, "simulated")
        row = reading.campaign(store.store.conn)
        assert row is not None
        fleet = single(ArchiveHost(self.machine, plan.devices), self.clock, self.folder, self.folder)
        await fleet.open()
        conductor = Conductor(
            campaign=row,
            config=config,
            store=store,
            workspace=self.workspace,
            fleet=fleet,
            proposer=_Proposer(self.clock, plan.propose_seconds, plan.seed),
            clock=self.clock,
            state=self.folder,
            limits=RunLimits(),
        )
        before = time.process_time()
        tasks = [
            asyncio.create_task(work) for work in (conductor.run(), self._watch(store), self._beat(store, row.id))
        ]
        try:
            ending = asyncio.create_task(self.clock.sleep(plan.hours * 3600))
            done, _ = await asyncio.wait({*tasks, ending}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ending}:
                task.result()
            self.found.engine_seconds_an_hour = (time.process_time() - before) / plan.hours
            self.found.drafts = conductor.setting.pace.drafts(plan.devices, plan.trial_seconds)
            self._conclude(store, row.id)
        finally:
            for task in (*tasks, ending):
                task.cancel()
            await asyncio.gather(*tasks, ending, return_exceptions=True)
            await fleet.close()
            store.close()
        return self.found

    async def _beat(self, store: StoreThread, campaign: int) -> None:
        while True:
            await self.clock.sleep(BEAT_SECONDS)
            await store.write(writes.beat, campaign, BEAT_SECONDS)

    async def _watch(self, store: StoreThread) -> None:
        """Twice a second of a short run, less often of a long one: which devices are idle, and why."""
        every = max(0.5, self.plan.trial_seconds / 300)
        while True:
            await self.clock.sleep(every)
            idle = self.plan.devices - self.machine.running()
            campaign = reading.campaign(store.store.conn)
            assert campaign is not None
            if campaign.calibration and idle == 0 and not self.found.steady_from:
                self.found.steady_from = self.clock.monotonic()
            for cause, devices in self._causes(store, idle, bool(campaign.calibration)).items():
                self.found.causes[cause] += devices * every

    def _causes(self, store: StoreThread, idle: int, calibrated: bool) -> dict[str, int]:
        """Idle devices by what they wait for: as many as trials are queued wait for nothing but the engine."""
        queued, undecided = reading.held_up(store.store.conn)
        starting = min(idle, queued)
        if not calibrated:
            return {"start-up gap": starting, "calibration": idle - starting}
        deciding = min(idle - starting, undecided)
        return {
            "start-up gap": starting,
            "waiting for a decision": deciding,
            "no proposal ready": idle - starting - deciding,
        }

    def _conclude(self, store: StoreThread, campaign: int) -> None:
        found, now = self.found, self.clock.monotonic()
        whole = self.plan.devices * now
        found.idle = 1 - self.machine.busy_seconds(0, now) / whole
        steady = found.steady_from or now
        if now > steady:
            found.idle_steady = 1 - self.machine.busy_seconds(steady, now) / (self.plan.devices * (now - steady))
        found.causes = {cause: seconds / whole for cause, seconds in found.causes.items()}
        counted = reading.counts(store.store.conn, campaign)
        found.keeps = counted.get("keep", 0)
        found.experiments = sum(counted.get(verdict, 0) for verdict in ("keep", "discard", "crash", "invalid"))
        found.experiments_an_hour = found.experiments / self.plan.hours
        found.trials = len(self.machine.starts)
        gaps = sorted(self.machine.gaps())
        if gaps:
            found.gap_p50, found.gap_p90 = (gaps[int(share * (len(gaps) - 1))] for share in (0.5, 0.9))
