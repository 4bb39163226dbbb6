"""A campaign of many slots in bad weather: the real conductor, store and judge on the virtual clock; git is imagined.

Hosts of two kinds come and go, attempts are lost, programs crash, proposals meet in the same line, good changes clash
with one another, the engine is killed, a person decides. All of it derives from one printed seed.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from engine import config as configuration
from engine.clock import VirtualClock
from engine.conductor import Conductor, RunLimits
from engine.fleet import Fleet, _ground
from engine.grounds import Grounds
from engine.post import Post
from engine.simulated_host import Ending, Execution, Machine
from engine.simulated_workspace import ArchiveHost, SimulatedWorkspace
from engine.simulation import Inline
from engine.store import deciding, reading, writes
from engine.store.core import Store, StoreThread
from engine.store.rows import CampaignRow
from engine.types import Author, Brief, ExperimentState, FileChange, NoProposal, Proposal, ProposerEvent

SIGMA = 0.01
KINDS = {"one": ("small", 0.0, 300.0), "two": ("large", 1.0, 200.0)}  # host: kind, offset of scores, seconds
CONFIG = """
[project]
frozen = []
context = []
[metric]
name = "val_loss"
[trial]
command = "python train.py"
train_seconds = 300
timeout_seconds = 1200
[proposer]
kind = "claude"
drafts = {drafts}
repairs = 0
[review]
mode = "{review}"
[limits]
dollars = "unlimited"
"""


@dataclass(frozen=True, slots=True)
class Weather:
    """What a campaign has to live with. Rates are shares of attempts, programs or drafts."""

    seed: int
    slots: int = 8  # of each host
    hosts: int = 2
    proposals: int = 16
    propose_seconds: float = 120.0
    drafts: int = 0
    review: str = "auto"
    lost: float = 0.0
    crashes: float = 0.0
    failed_drafts: float = 0.0
    away: bool = False  # hosts come and go
    kills: int = 0  # of the engine


def rough(seed: int) -> Weather:
    """Some of everything, by the seed."""
    chance = random.Random(f"weather/{seed}")
    return Weather(
        seed,
        slots=chance.choice((4, 8, 16)),
        hosts=chance.choice((1, 2, 2)),
        proposals=chance.randint(12, 30),
        propose_seconds=chance.choice((2.0, 60.0, 300.0)),
        drafts=chance.choice((0, 0, 6, 20)),
        review=chance.choice(("auto", "auto", "proposals", "keeps", "all")),
        lost=chance.choice((0.0, 0.03, 0.1)),
        crashes=chance.choice((0.0, 0.05)),
        failed_drafts=chance.choice((0.0, 0.1)),
        away=chance.random() < 0.5,
        kills=chance.choice((0, 0, 1, 3)),
    )


def turned(text: str) -> dict[int, int]:
    return {int(k): int(v) for k, v in re.findall(r"^K(\d+) = ([1-9]\d*)$", text, re.MULTILINE)}


class ManyAtOnce:
    """One campaign, from its first turn to its last."""

    def __init__(self, folder: Path, weather: Weather) -> None:
        print(weather)
        self.weather, self.folder = weather, folder
        self.clock = VirtualClock()
        self.workspace = SimulatedWorkspace(folder, self.clock)
        self.machine = Machine(self.clock, self._run)
        self.store = StoreThread(Store(folder / "store.db", self.clock), inline=True)
        self.store.store.relax()
        self.config = configuration.parse(CONFIG.format(drafts=weather.drafts, review=weather.review))
        self.down: dict[str, str] = {}
        self.most_unreviewed = 0
        self.engines = 0

    # --- what is true -----------------------------------------------------------------------------

    def worth(self, knob: int, value: int) -> float:
        """Of one setting, in standard deviations of a run: 25 % good, 30 % nothing, the rest harm."""
        chance = random.Random(f"{self.weather.seed}/{knob}/{value}")
        kind = chance.random()
        return chance.uniform(3, 7) if kind < 0.25 else 0.0 if kind < 0.55 else -chance.uniform(0.5, 3)

    def truth(self, text: str) -> float:
        """Settings add up, but for neighbours that are both turned: they spoil one another."""
        knobs = turned(text)
        clashes = sum(knob + 1 in knobs for knob in knobs if knob % 2 == 0)
        return sum(self.worth(k, v) for k, v in knobs.items()) - 8.0 * clashes

    def _run(self, execution: Execution) -> Ending:
        _, offset, seconds = KINDS[execution.host]
        text = self.workspace.text(execution.files["version"])
        name = hashlib.sha256(text.encode()).hexdigest()
        luck = random.Random(f"{self.weather.seed}/{name}/{execution.seed}/{execution.host}")
        seconds *= luck.uniform(0.9, 1.1)
        score = 3.0 + offset - SIGMA * self.truth(text) + SIGMA * luck.gauss(0, 1)
        if (
            random.Random(f"{self.weather.seed}/{execution.trial}/{execution.attempt}").random()
            < self.weather.lost
        ):
            return Ending("lost", seconds / 2)
        if turned(text) and random.Random(f"{self.weather.seed}/{name}").random() < self.weather.crashes:
            return Ending("failed", 20.0, ((0.5, b"Traceback: boom\n"),))
        return Ending("finished", seconds, ((1.0, b"---\nval_loss: %.9f\n" % score),))

    # --- the campaign -----------------------------------------------------------------------------

    async def whole(self, hours: float = 60.0) -> str:
        asyncio.get_running_loop().set_default_executor(Inline(1))
        return await self.clock.run(self._whole(hours))

    async def _whole(self, hours: float) -> str:
        await self._begin()
        chance = random.Random(f"kills/{self.weather.seed}")
        kills = sorted(chance.uniform(100, 3000) for _ in range(self.weather.kills))
        others = [asyncio.create_task(work) for work in (self._person(), self._weather(), self._watch())]
        try:
            while True:
                await self._engine()
                running = asyncio.create_task(self.conductor.run())
                left = (kills.pop(0) if kills else hours * 3600) - self.clock.monotonic()
                try:
                    return await self.clock.timeout(asyncio.shield(running), left)
                except TimeoutError:
                    if self.clock.monotonic() >= hours * 3600:
                        raise AssertionError(f"not ended in {hours} hours: {self.stuck()}") from None
                finally:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
                    await self.fleet.stop()
        finally:
            for task in others:
                task.cancel()
            done = await asyncio.gather(*others, return_exceptions=True)
            for error in done:
                if isinstance(error, Exception):
                    raise error

    async def _begin(self) -> None:
        store = self.store
        store.store.take_over("here", "boot", 1)
        seed, baseline = self.weather.seed, self.workspace.baseline
        await store.write(writes.create_campaign, "many", "val_loss", "minimize", seed, baseline)
        await store.write(writes.open_protocol, self.row.id, "key", "{}", "config", self.config.text, "start")

    async def _engine(self) -> None:
        self.engines += 1
        self.store.store.take_over("here", "boot", self.engines)
        names = list(KINDS)[: self.weather.hosts]
        self.hosts = {n: ArchiveHost(self.machine, self.weather.slots, n, KINDS[n][0]) for n in names}
        posts = [Post(host, _ground(Grounds.here(self.folder, self.folder))) for host in self.hosts.values()]
        self.fleet = Fleet(posts, self.clock, random.Random(self.weather.seed))
        await self.fleet.open()
        for name, why in self.down.items():
            self.hosts[name].go_down(why)
        self.conductor = Conductor(
            campaign=self.row,
            config=self.config,
            store=self.store,
            workspace=self.workspace,
            fleet=self.fleet,
            proposer=self,
            clock=self.clock,
            state=self.folder,
            limits=RunLimits(),
        )

    name = str(Author.CLAUDE)

    async def propose(self, brief: Brief) -> AsyncGenerator[ProposerEvent, None]:
        """A proposer: one of a few knobs, so that proposals meet."""
        chance = random.Random(f"{self.weather.seed}/draft {brief.number}")
        await self.clock.sleep(self.weather.propose_seconds * chance.uniform(0.5, 1.5))
        if len(brief.history) >= self.weather.proposals:
            yield NoProposal("exhausted", "enough")
            return
        if chance.random() < self.weather.failed_drafts:
            yield NoProposal("failed", "not today")
            return
        knob, value = chance.randrange(10), chance.randrange(1, 4)
        lines = brief.files["train.py"].split(b"\n")
        lines[4 * knob] = b"K%d = %d" % (knob, value)
        change = FileChange("train.py", b"\n".join(lines))
        yield Proposal(f"K{knob} = {value}", "", (change,), Author.CLAUDE)

    async def _person(self) -> None:
        """Looks every few minutes: resumes what paused, decides what waits, refuses some of it."""
        chance = random.Random(f"person/{self.weather.seed}")
        while True:
            await self.clock.sleep(chance.uniform(60, 900))
            if self.row.state == "paused":
                await self.store.write(writes.set_campaign_state, self.row.id, "running", "", "", "person")
                self.conductor.resumed()
            for row in reading.experiments(self.conn, self.row.id, open_only=True):
                if row.state in ("review", "keep_review"):
                    action = "accept" if chance.random() < 0.8 else "reject"
                    await self.store.write(deciding.decided, row.id, action, "person", "", row.revision)
                    self.conductor.wake()

    async def _weather(self) -> None:
        chance = random.Random(f"away/{self.weather.seed}")
        while self.weather.away:
            await self.clock.sleep(chance.uniform(100, 1200))
            name = chance.choice(list(self.hosts))
            self.down[name] = "no route to host"
            self.hosts[name].go_down("no route to host")
            await self.clock.sleep(chance.choice((30.0, 300.0, 1500.0)))
            del self.down[name]
            self.hosts[name].come_back()

    async def _watch(self) -> None:
        while True:
            await self.clock.sleep(1.0)
            waiting = self.conn.execute(
                "SELECT COUNT(*) FROM experiment WHERE state IN ('drafting', 'review')"
            ).fetchone()[0]
            self.most_unreviewed = max(self.most_unreviewed, waiting)

    # --- what came of it --------------------------------------------------------------------------

    @property
    def conn(self):  # type: ignore[no-untyped-def]
        return self.store.store.conn

    @property
    def row(self) -> CampaignRow:
        found = reading.campaign(self.conn, "many")
        assert found is not None
        return found

    def stuck(self) -> str:
        rows = reading.experiments(self.conn, self.row.id, open_only=True)
        trials = reading.trials(self.conn, self.row.id, open_only=True)
        return (
            f"{self.row.state} {self.row.pause_reason!r}; experiments {[(e.number, e.state, e.stage) for e in rows]};"
            f" trials {[(t.id, t.state, t.purpose, t.kind, t.host) for t in trials]}; down {self.down}"
        )

    def open(self) -> list[str]:
        rows = reading.experiments(self.conn, self.row.id)
        return [e.state for e in rows if e.state != ExperimentState.SETTLED]
