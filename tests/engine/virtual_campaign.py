"""A whole campaign on the virtual clock: the real conductor, store, judge, git and workspace, simulated trials.

The project is one ``train.py`` of knobs. Proposals turn knobs; ``WORTH`` of a campaign says what each turn is
truly worth, in standard deviations of one run, so that a test knows which verdict is right. Everything derives
from printed seeds; nothing waits for the wall.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine import config as configuration
from engine.authors import Authors
from engine.clock import VirtualClock
from engine.conductor import Conductor, RunLimits
from engine.fleet import Fleet, single
from engine.inbox import Request
from engine.ledger import Ledger
from engine.lock import EngineLock, Holder
from engine.opening import Opening, protocol_spec, recall
from engine.prices import Prices
from engine.requests import Requests
from engine.service import Engine, Order
from engine.store import reading, writes
from engine.store.core import Store, StoreThread
from engine.store.rows import CampaignRow, ExperimentRow, TrialRow
from engine.types import Author, Brief, FileChange, NoProposal, Proposal, ProposerEvent, StreamText
from engine.workspace import Workspace
from tests.engine.simulated_host import Ending, Execution, Machine, Program, SimulatedHost
from tests.project_factory import git

T = TypeVar("T")
SIGMA = 0.01  # of one run
BASE = 3.0  # the baseline's true score; lower is better
CONFIG = """
[project]
edit = ["train.py"]
frozen = []
context = []
[metric]
name = "val_loss"
[trial]
command = "python train.py"
train_seconds = 300
timeout_seconds = 600
[judge]
{judge}
[proposer]
kind = "search"
drafts = {drafts}
repairs = {repairs}
[review]
mode = "{review}"
ask_if = {ask_if}
unanswered_after = {unanswered}
"""


class Inline(ThreadPoolExecutor):
    """No thread at all: work is done where it is submitted, since a virtual clock cannot see threads."""

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def program_text(knobs: int) -> str:
    """Knobs stand apart, so that git merges the turns of two of them."""
    return "".join(f"K{n} = 0\n# between\n# the\n# knobs\n" for n in range(knobs))


def knobs_of(text: str) -> dict[int, int]:
    return {int(n): int(v) for n, v in re.findall(r"^K(\d+) = (-?\d+)$", text, re.MULTILINE)}


def turn(text: bytes, knob: int, value: int) -> bytes:
    return re.sub(rf"^K{knob} = .*$", f"K{knob} = {value}", text.decode(), flags=re.MULTILINE).encode()


def true_gain(text: str, worth: Mapping[int, float]) -> float:
    """In standard deviations of one run; positive is better. A knob at 2 is worth what it is at 1, twice."""
    return sum(worth.get(n, 0.0) * value for n, value in knobs_of(text).items())


def measured(
    worth: Mapping[int, float], seconds: float = 300.0, noise_seed: int = 0, base: float = BASE
) -> Program:
    """The honest program: a curve, then the block with truth plus noise of (program, seed)."""

    def run(execution: Execution) -> Ending:
        text = execution.files["train.py"]
        chance = random.Random(f"{noise_seed}/{sorted(knobs_of(text).items())}/{execution.seed}")
        score = base - SIGMA * true_gain(text, worth) + SIGMA * chance.gauss(0, 1)
        curve = [(k / 4, b"METRIC loss=%.4f step=%d\n" % (score + 1 - k / 4, k)) for k in range(1, 4)]
        block = b"---\nval_loss: %.9f\ntraining_seconds: %.1f\n" % (score, seconds)
        return Ending("finished", seconds, (*curve, (1.0, block)))

    return run


@dataclass(frozen=True, slots=True)
class Turn:
    """A scripted proposal. ``path`` other than train.py is an edit that must be refused."""

    knob: int
    value: int = 1
    path: str = "train.py"


class ScriptedProposer:
    """Proposal number n of the script for experiment n, after ``seconds``; then ``after``."""

    name = str(Author.SEARCH)

    def __init__(
        self,
        clock: VirtualClock,
        script: Sequence[Turn | NoProposal],
        seconds: float = 60.0,
        after: NoProposal | None = None,
    ) -> None:
        self.clock, self.script, self.seconds = clock, script, seconds
        self.after = after or NoProposal("exhausted", "the script ends here")
        self.asked: list[int] = []
        self.briefs: list[Brief] = []

    async def propose(self, brief: Brief) -> AsyncGenerator[ProposerEvent, None]:
        self.asked.append(brief.number)
        self.briefs.append(brief)
        yield StreamText("thinking", f"experiment {brief.number}\n")
        await self.clock.sleep(self.seconds)
        step = self.script[brief.number - 1] if brief.number <= len(self.script) else self.after
        if isinstance(step, NoProposal):
            yield step
            return
        old = brief.files.get(step.path, b"")
        new = turn(old, step.knob, step.value) if step.path == "train.py" else b"anything"
        yield Proposal(
            f"turn K{step.knob} to {step.value}",
            f"K{step.knob} matters",
            (FileChange(step.path, new),),
            Author(self.name),
        )


class VirtualCampaign:
    """One campaign in ``folder``. ``engine`` starts (or starts again) an engine over it."""

    def __init__(
        self,
        folder: Path,
        *,
        program: Program,
        script: Sequence[Turn | NoProposal],
        capacity: int = 1,
        seed: int = 1,
        knobs: int = 24,
        propose_seconds: float = 60.0,
        after: NoProposal | None = None,
        drafts: int = 2,
        review: str = "auto",
        judge: str = "",
        limits: RunLimits | None = None,
        clock: VirtualClock | None = None,
        author: Author = Author.SEARCH,
        ask_if: Sequence[str] = (),
        unanswered_after: str = "",
        repairs: int = 0,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.project = folder / "project"
        self.state = self.project / ".ratchet"
        self.capacity, self.seed, self.knobs = capacity, seed, knobs
        self.limits = limits or RunLimits()
        self.machine = Machine(self.clock, program)
        self.proposer = ScriptedProposer(self.clock, script, propose_seconds, after)
        self.proposer.name = str(author)
        self.config_text = CONFIG.format(
            judge=judge,
            drafts=drafts,
            review=review,
            ask_if=json.dumps(list(ask_if)),
            unanswered=json.dumps(unanswered_after),
            repairs=repairs,
        )
        self._running: asyncio.Task[str] | None = None
        self._beat: asyncio.Task[None] | None = None
        print(f"campaign seed {seed}, capacity {capacity}, {len(script)} scripted proposals")

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Drive ``work`` on the virtual clock, with git and files in the loop's own thread."""
        asyncio.get_running_loop().set_default_executor(Inline(1))
        try:
            return await self.clock.run(work())
        finally:
            await self.kill()

    async def whole(self) -> str:
        """From the first turn to the last; why it ended."""

        async def work() -> str:
            await self.engine()
            return await self.ended()

        return await self.run(work)

    # --- engines --------------------------------------------------------------------------------

    async def engine(self) -> Conductor:
        """A new engine over what is there, as service.serve would compose it."""
        if not self.project.exists():
            self.project.mkdir(parents=True)
            (self.project / "train.py").write_text(program_text(self.knobs))
            (self.project / "ratchet.toml").write_text(self.config_text)
            git(self.project, "init", "-q", "-b", "main")
            git(self.project, "add", "-A")
            git(self.project, "commit", "-q", "-m", "start")
        config = configuration.load(self.project)
        self.store = StoreThread(Store(self.state / "store.db", self.clock), inline=True)
        # A power cut of the test machine is not under test here.
        self.store.store.conn.execute("PRAGMA synchronous = OFF")
        self.store.store.take_over("here", "boot", 1)
        self.workspace = Workspace(self.project, self.state, self.clock)
        self.workspace._in_turn = Inline(1)
        await self.workspace.exclude_state()
        self.host = SimulatedHost(self.machine, self.capacity)
        self.fleet = self.make_fleet()
        await recall(self.fleet, self.store)
        await self.fleet.open()
        campaign = await self.store.read(reading.campaign, "virtual")
        if campaign is None:
            baseline = await self.workspace.snapshot()
            await self.workspace.advance("virtual", None, baseline)
            await self.store.write(writes.create_campaign, "virtual", "val_loss", "minimize", self.seed, baseline)
            campaign = await self.store.read(reading.campaign, "virtual")
            assert campaign is not None
        mine = Holder("here", "boot", 1, epoch=1)
        self.service = Engine(
            Order(str(self.project)), self.project, self.state, config, self.clock, EngineLock(self.state), mine
        )
        ledger = Ledger(self.store, campaign.id, Prices.load({}), self.service._cap)
        authors = Authors(self.project, self.state, self.workspace, self.store, campaign, ledger, self.clock)
        self.opening = Opening(campaign, self.workspace, self.fleet, self.proposer, ledger, authors)
        await self.reload(config, conductor=None)
        campaign = await self.store.read(reading.campaign, "virtual")
        assert campaign is not None
        self.conductor = Conductor(
            campaign=campaign,
            config=config,
            store=self.store,
            workspace=self.workspace,
            fleet=self.fleet,
            proposer=self.proposer,
            clock=self.clock,
            state=self.state,
            limits=self.limits,
            ledger=self.opening.ledger,
        )
        self._running = asyncio.create_task(self.conductor.run())
        self._beat = asyncio.create_task(self.service._beat(self.conductor, self.store))
        return self.conductor

    def make_fleet(self) -> Fleet:
        """The hosts of one engine; overridden for several."""
        return single(self.host, self.clock, self.state, self.project)

    async def reload(self, config: configuration.Config, conductor: Conductor | None) -> None:
        """Take up ``config`` as the service does when ratchet.toml changed (or when it starts)."""
        if conductor is not None:
            await self.service._take_up(config, conductor, self.store, self.opening)
            return
        key, spec = await protocol_spec(config, self.workspace, self.opening.campaign.baseline_sha, self.fleet)
        await self.store.write(
            writes.open_protocol,
            self.opening.campaign.id,
            key,
            json.dumps(spec),
            hashlib.sha256(config.text.encode()).hexdigest(),
            config.text,
            "start",
        )

    async def ended(self, hours: float = 48.0) -> str:
        """Why the engine ended; a campaign that has not in so many virtual hours never will."""
        assert self._running is not None
        try:
            return await self.clock.timeout(asyncio.shield(self._running), hours * 3600)
        except TimeoutError:
            campaign = self.campaign
            raise AssertionError(
                f"not ended in {hours} hours: {campaign.state} {campaign.pause_reason!r} {self.verdicts()}"
            ) from None

    async def kill(self) -> None:
        """The engine is gone; trials go on. What the store has is all that the next one knows."""
        tasks = [t for t in (self._running, self._beat) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running = self._beat = None
        if (fleet := getattr(self, "fleet", None)) is not None:
            await fleet.stop()

    async def ask(self, kind: str, **args: Any) -> tuple[str, str]:
        """A person's request, carried out as the service does."""
        request = Request(1, self.clock.now(), "tester", kind, args, "waiting", "")
        return await Requests(self.conductor).carry_out(request)

    async def until(self, condition: Callable[[], bool], what: str, hours: float = 12.0) -> None:
        """Let virtual time pass until ``condition``; looks every second."""
        end = self.clock.monotonic() + hours * 3600
        while not condition():
            assert self._running is None or not self._running.done(), f"the engine ended before: {what}"
            assert self.clock.monotonic() < end, f"{hours} virtual hours in vain for: {what}"
            await self.clock.sleep(1.0)

    # --- what came of it ------------------------------------------------------------------------

    @property
    def conn(self) -> sqlite3.Connection:
        return self.store.store.conn

    @property
    def campaign(self) -> CampaignRow:
        found = reading.campaign(self.conn, "virtual")
        assert found is not None
        return found

    def experiments(self) -> list[ExperimentRow]:
        return reading.experiments(self.conn, self.campaign.id)

    def trials(self) -> list[TrialRow]:
        """In the order in which they were asked for."""
        return sorted(reading.trials(self.conn, self.campaign.id), key=lambda t: t.id)

    def verdicts(self) -> dict[int, str]:
        return {e.number: e.verdict or e.state for e in self.experiments()}

    def kept(self) -> list[int]:
        return [k.number for k in reading.keeps(self.conn, self.campaign.line)]

    def git(self, *arguments: str) -> str:
        return git(self.project, *arguments)
