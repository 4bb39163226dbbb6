"""What a busy campaign writes, as a process of its own: for figures of the console, on a seeded store.

    python -m tests.benchmarks.live_load STATE_DIR live|still|HOURS

Eight trials of ten points a second, one proposal of twenty tokens a second, device readings once a second, in the
engine's own statements, batches and threads (``engine.store``), with the engine's lock held. ``live`` does so until
SIGTERM, ``still`` only beats and reads the seeded devices, and a number fast-forwards that many hours of the load
as fast as the disk takes it, then goes on beating. Says ``ready`` on its output, then ``hour N`` after each hour.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import signal
import sys
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from engine import lock
from engine.clock import RealClock
from engine.lock import EngineLock
from engine.series import Curves
from engine.service import BEAT_SECONDS
from engine.stages.drafting import STREAM_SECONDS
from engine.store import attempting, hosting, reading, writes
from engine.store.core import Store, StoreThread
from engine.trials import FLUSH_SECONDS
from engine.types import Allocation, Author, Effect, Point, Proposal, Purpose, Reading, TrialOutcome, Verdict
from engine.types import ExperimentState as S
from tests.seeded import DIFF, TITLES

TRIALS = 8
POINTS_PER_SECOND = 10
TOKENS_PER_SECOND = 20
TRIAL_SECONDS = 300.0  # in a fast-forward
LIVE_TRIAL_SECONDS = 3600.0  # live: no draft ends for seven minutes, so that one and the same is watched
STEP_SECONDS = 20.0  # of simulated time that a fast-forward writes at once
WORDS = (
    "the", "loss", "still", "falls", "at", "the", "end", "of", "its", "budget", "so", "a", "larger", "step", "early",
    "should", "reach", "that", "point", "sooner", "and", "without", "late", "noise", "residual", "variance",
)  # fmt: skip


@dataclass
class Running:
    """One trial at work and what its log gave so far."""

    experiment: int
    number: int
    trial: int
    attempt: int
    log: Path
    curves: Curves
    age: float = 0.0
    points: int = 0


class Load:
    def __init__(self, state: Path, store: StoreThread, trial_seconds: float, seed: int = 1) -> None:
        self.state, self.store, self.chance = state, store, random.Random(seed)
        self.trial_seconds = trial_seconds
        self.running: deque[Running] = deque()
        self.drafting = 0
        self._tokens = 0

    async def begin(self) -> None:
        """Eight trials, started one eighth of a trial's length apart, and a draft. What ran before ends."""
        await self.look()
        for trial in await self.store.read(reading.trials, self.campaign, open_only=True):
            assert trial.experiment is not None and trial.number is not None
            (attempt,) = await self.store.read(reading.attempts, trial.id)
            log = self.state / trial.directory / "control" / "log"
            self.running.append(Running(trial.experiment, trial.number, trial.id, attempt.id, log, Curves()))
            await self.finish()
        open_rows = await self.store.read(reading.experiments, self.campaign, open_only=True)
        self.drafting = next((one.id for one in open_rows if one.state == S.DRAFTING), 0)
        for slot in range(TRIALS):
            if not self.drafting:
                await self.draft()
            await self.start(slot)
            self.drafting = 0
            self.running[-1].age = self.trial_seconds * (TRIALS - 1 - slot) / TRIALS
        await self.draft()

    async def look(self) -> None:
        row = await self.store.read(reading.campaign, None)
        assert row is not None and row.protocol is not None
        self.campaign, self.protocol = row.id, row.protocol

    async def draft(self) -> None:
        self.drafting = await self.store.write(writes.new_experiment, self.campaign, Author.CLAUDE)
        self._tokens = 0

    async def start(self, slot: int) -> None:
        """What is being drafted is proposed, and runs in ``slot``."""
        chance, experiment = self.chance, self.drafting
        base, number = await self.store.call(
            lambda: self.store.store.conn.execute(
                "SELECT base, number FROM experiment WHERE id = ?", (experiment,)
            ).fetchone()
        )
        title = chance.choice(TITLES).format(x=10 ** chance.uniform(-4, -1), n=chance.randint(2, 40))
        diff = DIFF.format(number=number, rate=chance.random() / 100, decay=chance.random() / 5)
        why = "The schedule is too timid for so few steps; a larger step early should reach the same point sooner."
        proposal = Proposal(title, why, (), Author.CLAUDE, "claude-opus-5-5", "-0.02 bpb", {"WARMUP": number})
        sha = f"{0xC0FFEE:08x}{experiment:032x}"
        await self.store.write(writes.proposal_stored, experiment, base, proposal, sha, diff, 6, 3, S.READY)
        candidate = await self.store.call(
            lambda: self.store.store.conn.execute(
                "SELECT candidate FROM experiment WHERE id = ?", (experiment,)
            ).fetchone()[0]
        )
        (trial,) = await self.store.write(
            writes.queue_trials, self.campaign, self.protocol, [(candidate, Purpose.SCREEN, 1001)],
            experiment=experiment, source=S.READY, stage="screen",
        )  # fmt: skip
        where = Allocation("local", f"gpu{slot}", (f"GPU-{slot}",), hardware="H100 x1")
        directory = f"trials/{trial}/attempt-1"
        attempt = await self.store.write(attempting.new_attempt, trial, where, "unshare", directory)
        await self.store.write(attempting.attempt_launched, attempt)
        await self.store.write(attempting.attempt_started, self.campaign, trial, attempt, where.slot, "1 2 boot")
        control = self.state / directory / "control"
        control.mkdir(parents=True, exist_ok=True)
        self.running.append(Running(experiment, number, trial, attempt, control / "log", Curves()))

    async def finish(self) -> int:
        """The oldest trial ends and is judged; returns the slot that is free now."""
        done, chance = self.running.popleft(), self.chance
        await self.points(done, 0.0, final=True)
        score = 3.1 + chance.gauss(0, 0.02)
        steps = [{"name": "train", "code": 0, "seconds": self.trial_seconds}]
        await self.store.write(
            attempting.trial_ended, self.campaign, done.trial, done.attempt, TrialOutcome.OK, score, "", [], "finished",
            steps, self.trial_seconds, 10**9, "H100 x1",
        )  # fmt: skip
        await self.store.write(writes.move, done.experiment, S.MEASURING, S.JUDGING)
        effect = chance.gauss(-0.008, 0.016)
        await self.store.write(
            writes.ruled, done.experiment, S.JUDGING, S.SETTLED, Verdict.DISCARD, "screen: better by too little",
            Effect(effect, effect - 0.02, effect + 0.02, 1, 5), ("noise: sigma 0.012", "incumbent: 3.2"), score,
        )  # fmt: skip
        done.log.unlink(missing_ok=True)  # a campaign of days would keep it; here it would only fill the disk
        return done.number % TRIALS

    async def turn(self) -> None:
        """Trials that are through end, what was drafted takes their place, and the next draft begins."""
        while self.running[0].age >= self.trial_seconds:
            slot = await self.finish()
            await self.start(slot)
            await self.draft()

    async def points(self, run: Running, seconds: float, *, final: bool = False) -> None:
        run.age += seconds
        fresh = []
        for _ in range(round(seconds * POINTS_PER_SECOND)):
            run.points += 1
            value = 2.9 + 4.5 * math.exp(-run.points / 300) + self.chance.gauss(0, 0.03)
            fresh.append(Point("train_loss", float(run.points), value, run.points / POINTS_PER_SECOND))
        with run.log.open("a") as log:
            log.writelines(f"step {p.step:5.0f} | train_loss {p.value:.4f} | 21.9k tok/s\n" for p in fresh)
        run.curves.add(fresh)
        if changes := run.curves.take(final):
            await self.store.write(attempting.add_points, run.trial, changes)

    async def words(self, seconds: float) -> None:
        text = ""
        for _ in range(round(seconds * TOKENS_PER_SECOND)):
            self._tokens += 1
            text += f"[{self._tokens}] " if self._tokens % 25 == 0 else self.chance.choice(WORDS) + " "
        channel = "thinking" if self._tokens % 1000 < 500 else "text"
        await self.store.write(writes.add_stream, self.drafting, [(channel, text)])

    async def readings(self) -> None:
        now, chance = self.store.store.clock.now(), self.chance
        gpu = Reading("local", "", "NVIDIA H100 80GB HBM3", now, 0.0, 0.0, 81_559.0, 0.0, 0.0)
        found = [
            replace(
                gpu, device=f"GPU-{i}", utilisation=chance.randint(90, 100), memory_used_mb=chance.randint(60, 62) * 1e3,
                power_w=chance.randint(580, 640), temperature_c=chance.randint(60, 68),
            )
            for i in range(TRIALS)
        ]  # fmt: skip
        await self.store.write(hosting.add_readings, found)

    # --- at a clock's pace, or as fast as the disk takes it ---

    async def live(self, clock: RealClock) -> None:
        async def every(seconds: float, work: object) -> None:
            due = clock.monotonic()
            while True:
                await work()  # type: ignore[operator]
                due += seconds
                await clock.sleep(max(0.0, due - clock.monotonic()))

        async def all_points() -> None:
            for run in list(self.running):
                await self.points(run, FLUSH_SECONDS)
            await self.turn()

        await asyncio.gather(
            every(FLUSH_SECONDS, all_points),
            every(STREAM_SECONDS, lambda: self.words(STREAM_SECONDS)),
            every(1.0, self.readings),
            every(BEAT_SECONDS, self.beat),
        )

    async def forward(self, hours: float) -> None:
        for step in range(1, round(hours * 3600 / STEP_SECONDS) + 1):
            for run in list(self.running):
                await self.points(run, STEP_SECONDS)
            await self.words(STEP_SECONDS)
            await self.readings()
            await self.beat(STEP_SECONDS)
            await self.turn()
            if step % round(3600 / STEP_SECONDS) == 0:
                print(f"hour {step * STEP_SECONDS / 3600:.0f}", flush=True)

    async def rest(self, clock: RealClock) -> None:
        """An engine whose one trial says nothing: beats, and devices that stay as they are."""
        rows = await self.store.read(reading.readings)
        for second in itertools.count():
            if second % round(BEAT_SECONDS) == 0:
                await self.beat()
            found = [Reading(**{**row.data, "at": clock.now()}) for row in rows]
            await self.store.write(hosting.add_readings, found)
            await clock.sleep(1.0)

    async def beat(self, seconds: float = BEAT_SECONDS) -> None:
        await self.store.write(writes.beat, self.campaign, seconds)


async def main(state: Path, how: str) -> None:
    clock = RealClock()
    held = EngineLock(state)
    mine = await held.acquire(clock)
    store = StoreThread(Store(state / "store.db", clock))
    mine = replace(mine, epoch=store.store.take_over(lock.this_host(), lock.boot_id(), os.getpid()), ready=True)
    held.record(mine)
    work = asyncio.create_task(
        _work(Load(state, store, LIVE_TRIAL_SECONDS if how == "live" else TRIAL_SECONDS), how, clock)
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        pass
    finally:
        store.close()
        held.release(replace(mine, released=True))


async def _work(load: Load, how: str, clock: RealClock) -> None:
    await load.begin() if how != "still" else await load.look()
    print("ready", flush=True)
    if how == "live":
        await load.live(clock)
    if how != "still":
        await load.forward(float(how))
        print("done", flush=True)
    await load.rest(clock)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
