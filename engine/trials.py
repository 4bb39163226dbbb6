"""One trial, from the queue to its scores: intent -> effect -> confirm, again and again until it has ended.

``TrialDesk.run`` is the same code for a new trial and for one that an earlier engine left running: whatever is
done already is found done, so there is no other recovery code.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import cast

from engine.attempt_plan import AttemptPlans, directory_of
from engine.attempt_watch import AttemptWatch
from engine.config import Config
from engine.errors import HostFault, OverBudget, StorageFull
from engine.failpoints import hit
from engine.ledger import attempt_seconds
from engine.post import Post
from engine.runners import (
    Exited,
    FollowItem,
    LogChunk,
    LogSkipped,
    Lost,
    Reached,
    Scheduled,
    Started,
    StepStarted,
    Unreachable,
)
from engine.runners.far import LogCopy, is_full
from engine.runners.transport import no_space
from engine.stages import Setting
from engine.store import attempting, reading, spending
from engine.store.rows import AttemptRow, TrialRow
from engine.trial_outcome import outcome_of
from engine.types import Allocation, AttemptState, Purpose, Score, TrialOutcome

MAX_ATTEMPTS = 3  # that were lost, and that were disturbed
MAX_PREEMPTIONS = 50  # each is the scheduler's doing, yet there must be an end
CLAIM_SECONDS = 60.0  # until a job that nobody saw begin is launched again
BUSY_SECONDS = 2.0  # until a device that somebody else holds is asked for again, doubling
BUSY_SECONDS_MOST = 60.0
DEVICE_BUSY = "the device is used by another campaign"
CONTENDED = "another process used its device"
PREEMPTED = "preempted"  # how the reason of an attempt begins that a batch system took away
MOST_DISTURBED = 0.1  # of a run's time, beyond which its score does not count
FLUSH_SECONDS = 0.5
GUARD_SECONDS = 5.0
ROOM_SECONDS = 5.0  # until a full disk is tried again
LEAST_ROOM = 1 << 20  # bytes free, below which a failing trial is no evidence
_ENDED = (AttemptState.ENDED, AttemptState.LOST)


class TrialDesk:
    """Runs trials, each attempt on the host of its allocation."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.store = setting.store
        self.workspace = setting.workspace
        self.fleet = setting.fleet
        self.state = setting.state
        self.clock = setting.clock
        self._plans = AttemptPlans(setting.workspace, setting.state)
        self._stopping: dict[int, str] = {}  # trial -> why: asked to end by a person, or withdrawn by us

    # --- asking running trials to end -----------------------------------------------------------

    async def cancel(self, trial: int, reason: str) -> bool:
        """End a running trial; its outcome is cancelled. False: its host is away; it ends when that is back."""
        self._stopping[trial] = reason
        return await self._cancel_attempt(trial)

    async def withdraw(self, trial: int) -> bool:
        """End a running trial's attempt because the engine stops; the trial queues again. False: as ``cancel``."""
        self._stopping[trial] = ""
        return await self._cancel_attempt(trial)

    async def _cancel_attempt(self, trial: int) -> bool:
        attempt = await self._open_attempt(trial)
        if attempt is None:
            return True
        if not self.fleet.reachable(attempt.host):
            return False
        post = self._post(attempt)
        try:
            await post.host.cancel(directory_of(post, attempt))
        except HostFault:
            return False  # whoever asked has nothing to do with that host; ``_guard`` asks again
        return True

    # --- the way of one trial -------------------------------------------------------------------

    async def run(self, trial: TrialRow, allocation: Allocation | None) -> None:
        """Run ``trial`` on ``allocation`` (None: it has an open attempt from before a restart)."""
        config = self.setting.config  # what this trial means does not change while it runs
        keeps_slot = False
        try:
            attempt = await self._intend(trial, allocation)
            try:
                post = self._post(attempt)
                await self._launch(trial, attempt, post, config)
            except (HostFault, StorageFull):
                # Cancelled meanwhile, its directory was claimed under our hands: then its exit is there to read.
                if trial.id not in self._stopping:
                    keeps_slot = True  # the attempt stays open: launched again when the campaign goes on
                    raise
            try:
                await self._follow(trial, attempt, post, config)
            except HostFault:
                keeps_slot = True  # what runs there goes on without us
                raise
        finally:
            if not keeps_slot:
                self._stopping.pop(trial.id, None)
                self.fleet.release(trial.id)

    async def _intend(self, trial: TrialRow, allocation: Allocation | None) -> AttemptRow:
        if allocation is not None:
            await self._book(trial, allocation)
        attempt = await self._open_attempt(trial.id)
        assert attempt is not None, "a trial is run with an allocation or with an open attempt"
        hit("attempt.intent")
        return attempt

    async def _book(self, trial: TrialRow, allocation: Allocation) -> None:
        """An attempt's row, and what it may cost at most, in one transaction. Raises OverBudget: no row then."""
        ledger = self.setting.ledger
        containment = self.fleet.of(allocation.host).containment
        seconds = attempt_seconds(self.setting.config.trial.deadlines(smoke=trial.purpose == Purpose.SCREEN))
        try:
            await self.store.write(
                attempting.new_attempt,
                trial.id,
                allocation,
                f"{containment.kind}: {containment.proof}",
                f"trials/{trial.id}/attempt-{{attempt}}",
                seconds,
                ledger.cap() if ledger is not None else None,
            )
        except OverBudget:
            if ledger is not None:
                await ledger.refused(spending.device_cost(seconds, allocation.nano_per_second), "device")
            raise

    async def _launch(self, trial: TrialRow, attempt: AttemptRow, post: Post, config: Config) -> None:
        if attempt.state == AttemptState.RUNNING or attempt.identity:
            return  # seen to have claimed its directory: launching again could do nothing
        directory = directory_of(post, attempt)
        if trial.id in self._stopping:
            await post.host.cancel(directory)  # it was asked for before there was an attempt
            return
        archive = await self.workspace.archive(trial.sha)
        await post.host.stage(directory, str(archive), post.grounds.links(config))
        hit("attempt.staged")
        # Fenced, just before the effect: an engine that slept through a take-over launches nothing.
        await self.store.write(attempting.attempt_launched, attempt.id)
        await post.host.launch(await self._plans.of(trial, attempt, post, config))
        hit("attempt.launched")

    async def _follow(self, trial: TrialRow, attempt: AttemptRow, post: Post, config: Config) -> None:
        watch = AttemptWatch.of(config, self.clock.monotonic())
        directory = directory_of(post, attempt)
        guard = asyncio.create_task(self._guard(trial, watch, post, directory))
        insisting = asyncio.create_task(self._insist(trial, attempt, watch, post))
        try:
            # Closed here and now, however this ends: a follower left behind would go on asking its host.
            async with aclosing(cast(AsyncGenerator[FollowItem, None], post.host.follow(directory, 0))) as items:
                await self._follow_items(trial, attempt, post, watch, items)
        finally:
            guard.cancel()
            insisting.cancel()

    async def _follow_items(
        self,
        trial: TrialRow,
        attempt: AttemptRow,
        post: Post,
        watch: AttemptWatch,
        items: AsyncIterator[FollowItem],
    ) -> None:
        directory = directory_of(post, attempt)
        cap = int(watch.config.trial.log_mb * (1 << 20))
        log = None if post.grounds.local else LogCopy(self.state / attempt.directory, cap)
        async for item in items:
            match item:
                case Started():
                    watch.begun = True
                    watch.started_at = self.clock.monotonic()  # what it waited in a queue is not its own time
                    self.fleet.meter.begin(trial.id, attempt.allocation.get("devices", ()), watch.started_at)
                    await self._started(trial, attempt, item)
                    hit("attempt.confirmed")
                case StepStarted():
                    watch.step_started(item.name)
                case LogSkipped():
                    watch.parser.mark_gap()
                case LogChunk():
                    if log is not None:
                        await self._copy(log, item)
                    await self._read(trial, watch, item.data)
                case Unreachable():
                    watch.deaf = True
                    await self.store.write(attempting.attempt_unknown, attempt.id)
                    self.fleet.set_aside(post.name, HostFault(item.reason))
                case Reached():
                    self.fleet.reached(post.name)
                    await self.store.write(attempting.attempt_reached, attempt.id)
                case Scheduled():
                    await self.store.write(attempting.attempt_scheduled, attempt.id, item.words)
                case Lost():
                    await self._lost(trial, attempt, item)
                    return
                case Exited():
                    hit("attempt.exited")
                    watch.end(self.clock.monotonic())
                    await self._flush(trial, watch, final=True)
                    await self._exited(trial, attempt, post, watch, directory, item)
                    hit("trial.done")
                    return

    # --- while it runs --------------------------------------------------------------------------

    async def _copy(self, log: LogCopy, chunk: LogChunk) -> None:
        """Once there is room: it goes on there, and can wait here."""
        while True:
            try:
                return log.add(chunk)
            except OSError as fault:
                if not no_space(str(fault)):
                    raise
            await self.clock.sleep(ROOM_SECONDS)

    async def _started(self, trial: TrialRow, attempt: AttemptRow, item: Started) -> None:
        slot = str(attempt.allocation["slot"])
        await self.store.write(
            attempting.attempt_started,
            self.setting.campaign.id,
            trial.id,
            attempt.id,
            slot if self.fleet.alone else f"{attempt.host} {slot}",
            item.identity,
        )

    async def _read(self, trial: TrialRow, watch: AttemptWatch, data: bytes) -> None:
        now = self.clock.monotonic()
        watch.read(data, now)
        if now - watch.flushed_at >= FLUSH_SECONDS:
            watch.flushed_at = now
            await self._flush(trial, watch)

    async def _guard(self, trial: TrialRow, watch: AttemptWatch, post: Post, directory: str) -> None:
        """Now and then, also in silence: end what cannot come to anything, or was asked to end.

        A host that is away when it is asked is asked again.
        """
        while True:
            before = self.clock.monotonic()
            await self.clock.sleep(GUARD_SECONDS)
            if self.clock.monotonic() - before > 2 * GUARD_SECONDS:
                watch.deaf = True  # this machine slept
            watch.stop = watch.stop or watch.hopeless(self.clock.monotonic())
            if watch.stop is None and trial.id not in self._stopping:
                continue
            with suppress(HostFault, StorageFull):
                await post.host.cancel(directory)
                return

    async def _insist(self, trial: TrialRow, attempt: AttemptRow, watch: AttemptWatch, post: Post) -> None:
        """Launch again what nobody claims: a job that found no room or no process to be had left no evidence.

        A batch system's queue is no such silence.
        """
        if post.sort == "slurm":
            return
        while True:
            await self.clock.sleep(CLAIM_SECONDS)
            if watch.begun:
                return
            if trial.id not in self._stopping and self.fleet.reachable(post.name):
                with suppress(HostFault, StorageFull):
                    await self._launch(trial, attempt, post, watch.config)

    async def _flush(self, trial: TrialRow, watch: AttemptWatch, *, final: bool = False) -> None:
        changes = watch.curves.take(final)
        if changes:
            await self.store.write(attempting.add_points, trial.id, changes)

    # --- its end --------------------------------------------------------------------------------

    async def _lost(self, trial: TrialRow, attempt: AttemptRow, item: Lost) -> None:
        self.fleet.lost(trial.id, attempt.host)
        # Attempts that a stopping engine or a busy device ended were not lost and do not count.
        earlier = [a for a in await self.store.read(reading.attempts, trial.id) if a.state == AttemptState.LOST]
        # What a scheduler takes away says nothing about the trial, and is counted by itself.
        like = 1 + sum(a.reason.startswith(f"{PREEMPTED}: ") == item.preempted for a in earlier)
        reason = f"{PREEMPTED}: {item.reason}" if item.preempted else item.reason
        stopped = self._stopping.get(trial.id, "")
        await self.store.write(
            attempting.attempt_lost,
            self.setting.campaign.id,
            trial.id,
            attempt.id,
            reason,
            retry=not stopped and like < (MAX_PREEMPTIONS if item.preempted else MAX_ATTEMPTS),
            seconds=item.seconds,
            outcome=TrialOutcome.CANCELLED if stopped else TrialOutcome.LOST,
            detail=stopped or f"lost {like} times: {reason}",
        )

    async def _exited(
        self, trial: TrialRow, attempt: AttemptRow, post: Post, watch: AttemptWatch, directory: str, exit: Exited
    ) -> None:
        stopping = self._stopping.get(trial.id)
        if exit.reason == "busy" or (exit.reason == "cancelled" and stopping == ""):
            why = DEVICE_BUSY if exit.reason == "busy" else "the engine stopped"
            seconds = sum(s.seconds for s in exit.steps)
            await self.store.write(attempting.attempt_withdrawn, trial.id, attempt.id, why, seconds)
            if exit.reason == "busy":
                # Queued again before this wait, so that a stopping engine need not sit it out; the slot stays
                # taken meanwhile. Each attempt costs a directory and a row: ask ever more rarely.
                earlier = await self.store.read(reading.attempts, trial.id)
                turned_away = sum(a.reason == DEVICE_BUSY for a in earlier)
                await self.clock.sleep(min(BUSY_SECONDS * 2.0 ** min(turned_away - 1, 10), BUSY_SECONDS_MOST))
            return
        if exit.reason == "failed" and (full := await self._full_disk(watch, post)):
            # It could not even print: that is the disk's fault and not the candidate's.
            seconds = sum(s.seconds for s in exit.steps)
            await self.store.write(
                attempting.attempt_withdrawn, trial.id, attempt.id, "the disk was full", seconds
            )
            raise StorageFull(
                f"trial {trial.id} failed while the disk of {full} was full; it is run again",
                "free space on that disk" + (", then `ratchet resume`" if post.grounds.local else ""),
            )
        seconds = sum(s.seconds for s in exit.steps)
        devices = attempt.allocation.get("devices", ())
        use = self.fleet.meter.take(trial.id)
        disturbed = ""
        if use.contended > 0:
            disturbed = f"{CONTENDED} for {use.disturbed:.0%} of the run"
        if exit.reason == "finished" and post.avoid_foreign and use.disturbed > MOST_DISTURBED:
            before = await self.store.read(reading.attempts, trial.id)
            if sum(a.reason.startswith(CONTENDED) for a in before) < MAX_ATTEMPTS - 1:
                # Its score would be that of a slower device: no score at all. The same seed runs again.
                await self.store.write(attempting.attempt_withdrawn, trial.id, attempt.id, disturbed, seconds)
                return
            scores: list[Score] = []
            outcome, objective, detail = TrialOutcome.LOST, None, f"{disturbed}, {MAX_ATTEMPTS} times"
        else:
            outcome, objective, detail, scores = await outcome_of(watch, post.host, directory, exit, stopping)
            detail = "; ".join(filter(None, (detail, disturbed, use.words)))
        if outcome is TrialOutcome.OK:
            self.setting.pace.ran(seconds)
        used = use.scores(seconds, len(devices), int(attempt.allocation.get("shares", 1)))
        joules = next((score.value for score in used if score.name == "joules"), None)
        scores += used
        await self.store.write(
            attempting.trial_ended,
            self.setting.campaign.id,
            trial.id,
            attempt.id,
            outcome,
            objective,
            detail,
            scores,
            exit.reason,
            [asdict(s) for s in exit.steps],
            seconds,
            exit.peak_memory_bytes,
            str(attempt.allocation.get("hardware", "")),
            "" if outcome is TrialOutcome.OK else watch.tail.decode("utf-8", "replace"),
            joules,
        )

    async def _full_disk(self, watch: AttemptWatch, post: Post) -> str:
        """Where the trial had no room to write; "" when it had."""
        grounds = post.grounds
        if grounds.local:
            return str(self.state) if self.store.full_at >= watch.started_at or _no_room(self.state) else ""
        if grounds.transport is None or not await is_full(grounds.transport, grounds.root, LEAST_ROOM):
            return ""
        return f"{post.name}:{grounds.root}"

    async def _open_attempt(self, trial: int) -> AttemptRow | None:
        rows = await self.store.read(reading.attempts, trial)
        return next((a for a in rows if a.state not in _ENDED), None)

    def _post(self, attempt: AttemptRow) -> Post:
        return self.fleet.post(attempt.host)


def _no_room(folder: Path) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < LEAST_ROOM
