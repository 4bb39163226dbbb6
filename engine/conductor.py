"""The ratchet. ``turn`` is the whole idea on one screen; the stages are in ``engine.stages``.

    drafting -> review -> ready -> measuring <-> judging -> keep_review -> merging -> settled

Every stage is a row's way from one state to the next: intent, effect, confirm. An engine that starts runs
the same turn over the same rows, so restarting is recovery and there is no other recovery code.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.attempt_plan import allocation_of
from engine.clock import Clock
from engine.config import Config
from engine.errors import Fenced, HostFault, MovedOn, OverBudget, RatchetError, StorageFull
from engine.fleet import PATIENCE_SECONDS, Fleet
from engine.ledger import Ledger, Room, attempt_seconds, per_second
from engine.post import HostNews
from engine.stages import Setting, Situation
from engine.stages.drafting import Drafting
from engine.stages.measuring import Measuring
from engine.stages.merging import Merging
from engine.stages.reviewing import Reviewing
from engine.store import attempting, hosting, reading, writes
from engine.store.core import StoreThread
from engine.store.reading_pace import pace_of
from engine.store.rows import CampaignRow, ExperimentRow, Remembered, TrialRow
from engine.trials import CONTENDED, PREEMPTED, TrialDesk
from engine.types import Allocation, AttemptState, Proposer, Purpose, TrialOutcome, TrialState
from engine.types import ExperimentState as S
from engine.workspace import Workspace

log = logging.getLogger("ratchet.conductor")

CALM_ROWS = 64
PAUSE_A_ROW, PAUSE_MOST = 0.0002, 0.25  # seconds between two turns, so that a large campaign does not only look
WITHDRAW_SECONDS = 15.0  # until a stopping engine waits no longer for its trials' ends
HINDERED_SECONDS = 5.0  # until it is looked again whether others have left a device
WAITS_FOR_MONEY = "limit reached: what is left of the dollars is set aside"


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What this engine run may still do, counted from where the campaign stood. None = no limit."""

    experiments: int | None = None  # proposals
    hours: float | None = None


class Conductor:
    """Turns one campaign's ratchet over all of its hosts."""

    def __init__(
        self,
        *,
        campaign: CampaignRow,
        config: Config,
        store: StoreThread,
        workspace: Workspace,
        fleet: Fleet,
        proposer: Proposer,
        clock: Clock,
        state: Path,
        limits: RunLimits,
        ledger: Ledger | None = None,
    ) -> None:
        self.setting = Setting(
            campaign,
            config,
            store,
            workspace,
            fleet,
            proposer,
            clock,
            state,
            self.pause,
            self.wake,
            ledger,
        )
        self.desk = self.setting.desk = TrialDesk(self.setting)
        self.store = store
        self.fleet = fleet
        fleet.on_change = self.wake
        self.limits = limits
        self._reviewing = Reviewing(self.setting)
        self._drafting = Drafting(self.setting, self._reviewing)
        self._measuring = Measuring(self.setting, self._reviewing)
        self._merging = Merging(self.setting, self._measuring)
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fault: BaseException | None = None
        self._stop: str | None = None
        self._withdraw = False
        self._first = 0  # proposals before this engine run
        self._unpaid = ""  # why no trial may start for want of money
        self._hindered = False  # a trial waits for what others hold
        self._hours_before = 0.0
        self._experiments: Remembered[ExperimentRow] = Remembered()
        self._trials: Remembered[TrialRow] = Remembered()
        self._rows = 0  # that the last turn looked at
        self._again: float | None = None  # seconds until it may be time to fill what is idle
        self._room = 0  # experiments that this turn may still begin to measure

    @property
    def campaign(self) -> CampaignRow:
        """As the last turn saw it."""
        return self.setting.campaign

    def follows(self, trial: int) -> bool:
        """Whether something is being done for a trial now; one whose launch failed waits for a resume."""
        return f"trial {trial}" in self._tasks

    def reconfigure(self, config: Config, proposer: Proposer | None = None) -> None:
        """A changed ratchet.toml: in force from the next turn. Drafts at work end with the old proposer."""
        self.setting.config = config
        self.setting.proposer = proposer or self.setting.proposer
        self._drafting.exhausted = ""
        self.resumed()

    def resumed(self) -> None:
        """Somebody says that it may go on: what was refused for want of money is tried again."""
        self._drafting.forget_refusal()
        self._unpaid = ""
        self.wake()

    async def rerun(self, experiment: ExperimentRow, seeds: int, actor: str) -> tuple[int, str]:
        """Queue further runs of an experiment and its base; returns how many, or 0 and why none."""
        queued = await self._measuring.rerun(experiment, seeds, actor)
        self.wake()
        return queued

    async def step_back(self, number: int, actor: str, reason: str) -> tuple[str, str]:
        """Put the keep of experiment ``number`` (0: the baseline) in force again; (refusal, what was done)."""
        answer = await self._merging.step_back(number, actor, reason)
        self.wake()
        return answer

    # --- the loop -------------------------------------------------------------------------------

    async def run(self) -> str:
        """Turn until a limit is reached or somebody stops it; returns why."""
        await self._adopt()
        try:
            while True:
                self._wake.clear()
                reason = await self.turn()
                if reason is not None:
                    break
                await self._news()
                if self._rows > CALM_ROWS:
                    # Where much goes on, much has changed at once: one look serves all of it.
                    await self.setting.clock.sleep(min(self._rows * PAUSE_A_ROW, PAUSE_MOST))
            if self._withdraw:
                await self._withdraw_trials()
            return reason
        finally:
            await self._end_tasks()

    async def _news(self) -> None:
        """Until something of ours changed; what others hold becomes free without a word, so that is looked at."""
        waits = [HINDERED_SECONDS] if self._hindered else []
        waits += [self._again] if self._again is not None else []
        if not waits:
            await self._wake.wait()
            return
        with suppress(TimeoutError):
            await self.setting.clock.timeout(self._wake.wait(), min(waits))

    async def turn(self) -> str | None:
        """One look at the rows: start what can start. Returns why the run is over, or None."""
        if self._fault is not None:
            raise self._fault
        if self._unpaid and await self._can_pay():
            self._unpaid = ""
        for news in self.fleet.news():
            await self._note(news)
        now = await self._look()
        self._again = None
        if self._stop is not None:
            return self._stop
        self._rows = len(now.experiments) + len(now.trials)
        # Nothing is awaited between the look and the dispatch: a row must not move on in between.
        self._run_trials(now)
        self._room = self._room_to_measure(now)
        if now.campaign.state == "running":
            for experiment in now.experiments:
                self._dispatch(now, experiment)
            await self._measuring.calibrate(now)
            await self._drafting.ahead(now, self._limit(now), self._proposals_left(now))
            if not (self._out_of_time(now) or self._unpaid):
                self._again = await self._measuring.fill(now)
        return self._finished(now)

    async def _note(self, news: HostNews) -> None:
        """A host came, went, or was spoken for: its row says so, and a person is told what is wrong."""
        here = self.fleet.alone and news.post.sort == "local"  # then the campaign pauses, and says why
        warning = "" if here and not news.post.foreign else news.warning
        await self.store.write(hosting.noted, self.campaign.id, news.post.row(), warning, news.mend)

    def wake(self) -> None:
        """Something changed: look again."""
        self._wake.set()

    def stop(self, reason: str, *, withdraw: bool = True) -> None:
        """End the run. ``withdraw``: running trials end too and queue again; else they go on alone."""
        self._stop, self._withdraw = reason, withdraw
        self.wake()

    async def _look(self) -> Situation:
        def query(conn: Any) -> Situation:
            campaign = reading.campaign(conn, self.campaign.name)
            assert campaign is not None
            experiments = reading.experiments(conn, campaign.id, open_only=True, known=self._experiments)
            return Situation(
                campaign,
                experiments,
                reading.trials(conn, campaign.id, open_only=True, known=self._trials),
                reading.proposed(conn, campaign.id),
                reading.finished_runs(conn, [e for e in experiments if e.state == S.MEASURING]),
            )

        now = await self.store.read(query)
        self.setting.campaign = now.campaign
        return now

    def _finished(self, now: Situation) -> str | None:
        """A limit is reached (or nothing is left to propose) and everything begun has come to its end."""
        reason = self._limit(now) or self._unpaid or self._drafting.exhausted or self._drafting.over_budget
        if not reason or now.campaign.state != "running":
            return None
        if not now.campaign.calibration and not self._out_of_time(now):
            return None  # also `--experiments 0` brings the baseline's noise
        left = self._left_behind(now)
        if left:
            reason = f"{reason}; {len(left)} of its trials left on a host that does not answer"
        tasks = self._tasks.keys() - {f"trial {number}" for number in left}
        if self._out_of_time(now) or self._unpaid:
            # Running trials end in their own time; what is queued waits for the next run.
            going = any(t.state != TrialState.QUEUED and t.id not in left for t in now.trials)
            return None if going or tasks else reason
        if left and not tasks and all(t.id in left for t in now.trials):
            return reason  # what waits for them waits for the next run
        waiting = [e for e in now.experiments if e.state not in (S.REVIEW, S.KEEP_REVIEW)]
        if waiting or now.trials or self._tasks:
            return None
        if now.experiments:
            return None  # a person's decision is awaited
        return reason

    def _left_behind(self, now: Situation) -> set[int]:
        """Trials on hosts that have been silent for longer than a trial may take: there is nothing to wait for.

        They stay unknown, and the next start collects them.
        """
        longest = attempt_seconds(self.setting.config.trial.deadlines(smoke=True)) + PATIENCE_SECONDS
        silent = [t for t in now.trials if t.state != TrialState.QUEUED and self.fleet.silent_seconds(t.host)]
        if silent:
            self._again = min(self._again or PATIENCE_SECONDS, PATIENCE_SECONDS / 10)
        return {t.id for t in silent if self.fleet.silent_seconds(t.host) > longest}

    def _limit(self, now: Situation) -> str:
        left = self._proposals_left(now)
        if left is not None and left <= 0:
            return f"limit reached: {self.limits.experiments} experiments"
        return self._out_of_time(now)

    def _proposals_left(self, now: Situation) -> int | None:
        if self.limits.experiments is None:
            return None
        drafting = sum(e.state == S.DRAFTING for e in now.experiments)
        return self.limits.experiments - (now.drafted + drafting - self._first)

    def _out_of_time(self, now: Situation) -> str:
        used = now.campaign.active_seconds - self._hours_before
        if self.limits.hours is not None and used >= self.limits.hours * 3600:
            return f"limit reached: {self.limits.hours:g} hours"
        return ""

    # --- tasks: one a row -----------------------------------------------------------------------

    def _spawn(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=key)
        self._tasks[key] = task
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task.get_name(), None)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, MovedOn):
                log.info("%s: %s", task.get_name(), error.message)
            elif isinstance(error, RatchetError) and not isinstance(error, Fenced):
                self._spawn(f"pause {task.get_name()}", self.pause(error.message, error.mend))
            else:
                self._fault = error
        self.wake()

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def pause(self, reason: str, mend: str = "") -> None:
        """Nothing new starts until somebody resumes; running trials go on."""
        await self.store.write(writes.set_campaign_state, self.campaign.id, "paused", reason, mend)
        self.wake()

    def _dispatch(self, now: Situation, experiment: ExperimentRow) -> None:
        """Start the stage of a row that has none running. Rows that wait for somebody stay as they are."""
        key = f"experiment {experiment.number}"
        if key in self._tasks:
            return
        state = experiment.state
        if state == S.DRAFTING:
            self._spawn(key, self._drafting.draft(now.campaign, now.drafted, experiment))
        elif state == S.READY and self._room > 0:
            self._room -= 1
            self._spawn(key, self._measuring.begin(now, experiment))
        elif state == S.MEASURING and self._measuring.has_news(now, experiment):
            self._spawn(key, self._measuring.measure(now, experiment))
        elif state == S.JUDGING and now.campaign.calibration:
            self._spawn(key, self._measuring.judge(now, experiment))
        elif self._reviewing.due(now, experiment):
            self._spawn(key, self._reviewing.decide(now, experiment))
        elif state == S.MERGING and experiment is self._merging.first(now):
            self._spawn(key, self._merging.merge(now, experiment))

    def _room_to_measure(self, now: Situation) -> int:
        """How many more experiments may be measured: a few beyond what fits at once, so that a slot never waits
        for a decision; more where several of them wait for one and the same run of the incumbent.

        Asked when every queued trial that could start has: what is free now is free for others.
        """
        if self._out_of_time(now):
            return 0
        busy = [e for e in now.experiments if e.state in (S.MEASURING, S.JUDGING)]
        begun = sum(e.state == S.READY and f"experiment {e.number}" in self._tasks for e in now.experiments)
        free = self.fleet.free - begun
        capacity = self.fleet.capacity
        beyond = capacity + 1 + capacity // 16 - len(busy) - begun
        if not now.campaign.calibration:
            # A screening may fill the slots that the last calibration runs leave idle; no more than that: until
            # there is a verdict nobody learns that all of them crash.
            return min(free, beyond) if any(t.purpose == Purpose.CALIBRATE for t in now.trials) else 0
        return max(beyond, free - sum(e.state == S.JUDGING for e in busy))

    # --- trials ---------------------------------------------------------------------------------

    async def _adopt(self) -> None:
        """Take note of what an earlier engine left: allocations in use, limits counted from here."""
        now = await self._look()
        self._first = now.drafted - sum(e.state != S.DRAFTING for e in now.experiments)
        self._hours_before = now.campaign.active_seconds
        # How long things took before the restart is how long they will take.
        pace = await self.store.read(pace_of, now.campaign.id, self.setting.proposer.name)
        self.setting.pace.proposing, self.setting.pace.running = pace
        for trial in now.trials:
            if trial.state != TrialState.QUEUED:
                attempts = await self.store.read(reading.attempts, trial.id)
                for attempt in attempts:
                    if attempt.state not in (AttemptState.ENDED, AttemptState.LOST):
                        self.fleet.adopt(trial.id, allocation_of(attempt))

    def _run_trials(self, now: Situation) -> None:
        """Follow what runs; start what is queued while something is free, most urgent first."""
        paused = now.campaign.state != "running"
        self._hindered = False
        self.fleet.begin_round()
        for trial in now.trials:
            # A launch that failed (no room, say) paused the campaign: it is tried again when that is resumed.
            begun = trial.state == TrialState.RUNNING or (trial.state == TrialState.LAUNCHING and not paused)
            if begun and f"trial {trial.id}" not in self._tasks and self.fleet.reachable(trial.host):
                self._spawn(f"trial {trial.id}", self._trial(trial, None))
        if now.campaign.state != "running" or self._out_of_time(now) or self._unpaid:
            return
        full: set[str] = set()  # kinds of hardware of which nothing is free
        for trial in now.trials:
            if trial.state != TrialState.QUEUED or f"trial {trial.id}" in self._tasks:
                continue
            if trial.protocol != now.campaign.protocol:
                # Started now, it would run under settings that are not those it is recorded with.
                self._spawn(f"trial {trial.id}", self._drop(trial, "the protocol changed"))
                continue
            # A kind that nobody offers any more is not waited for: the judge compares within a kind anyway.
            kind = trial.kind if trial.kind and self.fleet.offers(trial.kind) else ""
            if kind in full:
                continue
            try:
                allocation = self.fleet.acquire(trial.id, kind)
            except HostFault as error:
                self._spawn("pause host", self.pause(error.message, error.mend))
                return
            if allocation is None:
                self._hindered = self._hindered or self.fleet.hindered(kind)
                if not kind:
                    return
                full.add(kind)
                continue
            self._spawn(f"trial {trial.id}", self._trial(trial, self._priced(allocation)))

    def _priced(self, allocation: Allocation) -> Allocation:
        """With its share of what the host costs."""
        host = next((h for h in self.setting.config.hosts if h.name == allocation.host), None)
        if host is None or not host.usd_per_hour:
            return allocation
        capacity = self.fleet.post(allocation.host).capacity
        return replace(allocation, nano_per_second=per_second(host.usd_per_hour, capacity))

    async def _can_pay(self) -> bool:
        """Whether the trial that was refused for want of money could start now."""
        ledger = self.setting.ledger
        if ledger is None or (room := await ledger.room("device")) is Room.FREE:
            return True
        # What is set aside may become free again: then it is no limit, and the trial waits.
        self._unpaid = self._unpaid if room is Room.REACHED else WAITS_FOR_MONEY
        return False

    async def _drop(self, trial: TrialRow, why: str) -> None:
        await self.store.write(attempting.trial_dropped, self.campaign.id, trial.id, why)

    async def _trial(self, trial: TrialRow, allocation: Allocation | None) -> None:
        try:
            await self.desk.run(trial, allocation)
        except OverBudget as error:
            self._unpaid = f"limit reached: {error.message}"
            return
        except (HostFault, StorageFull) as error:
            row = await self.store.read(reading.trial, trial.id)
            assert row is not None
            if self.fleet.alone and self.fleet.post(row.host).sort == "local":
                raise
            # The others go on; the trial is taken up again when its host was opened anew.
            self.fleet.set_aside(row.host, error)
            return
        except (RatchetError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.error("trial %s: %s", trial.id, traceback.format_exc())
            raise RatchetError(
                f"trial {trial.id} could not be run: {error!r}",
                "`ratchet resume` tries again; see engine.log",
            ) from error
        after = await self.store.read(reading.trial, trial.id)
        if after is not None and after.outcome == TrialOutcome.LOST:
            await self.pause(f"trial {trial.id} was lost again and again: {after.detail}", self._keep_it(after))

    def _keep_it(self, trial: TrialRow) -> str:
        """What a person may do about a trial that is lost again and again."""
        mend = f"something on host {trial.host} kills trials (memory?): see `dmesg`"
        if CONTENDED in trial.detail:
            mend = f'free that device of host {trial.host}, or write foreign = "share"'
        elif f" times: {PREEMPTED}: " in trial.detail:
            mend = "have its jobs left alone: another partition or qos in slurm = {...}, or shorter trials"
        elif self.fleet.knows(trial.host) and self.fleet.post(trial.host).sort == "slurm":
            mend = "ask Slurm about that job (`scontrol show job`, `sacct`), and whoever looks after the cluster"
        return f"{mend}; then `ratchet resume`"

    async def _withdraw_trials(self) -> None:
        """End every running trial because the engine stops; each queues again for the next start."""
        now = await self._look()
        running = [t for t in now.trials if t.state != TrialState.QUEUED]
        work = asyncio.gather(*(self._withdraw_trial(trial) for trial in running), return_exceptions=True)
        with suppress(TimeoutError):
            await self.setting.clock.timeout(work, WITHDRAW_SECONDS)

    async def _withdraw_trial(self, trial: TrialRow) -> None:
        # On a host that is away it goes on, and the next start finds it again.
        asked = await self.desk.withdraw(trial.id)
        if asked and (task := self._tasks.get(f"trial {trial.id}")) is not None:
            await asyncio.wait([task])
