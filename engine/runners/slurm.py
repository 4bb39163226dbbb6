"""Attempts as batch jobs: each is submitted once, under a name of its own, and runs the same job.sh.

The scheduler says where a job is; that an attempt is dead is believed only of a state that ends a job, or of
a job that nobody knows any more and that cannot be running.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from engine.clock import Clock
from engine.errors import HostFault, StorageFull
from engine.runners import AttemptPlan, Exited, Lost
from engine.runners import slurm_commands as commands
from engine.runners.allocations import Allocations
from engine.runners.launcher import LOCK_DIRECTORY, DirectLauncher, job_script, render
from engine.runners.slurm_attempt import (
    Facts,
    adapted,
    allowance,
    fault_line,
    job_name,
    mend,
    parse_facts,
    run_words,
    seconds_of,
    slurm_script,
)
from engine.runners.slurm_commands import Job, Phase
from engine.runners.slurm_options import SlurmOptions, format_limit
from engine.runners.slurm_queue import Report, SlurmQueue
from engine.runners.transport import Completed, Transport, no_space

TIMES_GONE = 3  # answers in a row that say so, before it is asked whether the job can still run
OVERTIME_SECONDS = 900.0  # that Slurm may let a job run on beyond its limit (KillWait, OverTimeLimit)
LAST_WORD_SECONDS = 90.0  # for a job that was ended to reach its last state (KillWait is 30 by default)
KILLED_SECONDS = 5.0  # for the memory limit to show in a job's state
PATIENCE_SECONDS = 60.0  # for an attempt that was asked to end, before its whole job is cancelled


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the attempt is, in the scheduler's words. ``dead``: once nothing of it runs, now or later."""

    words: str
    dead: Lost | None = None


class SlurmLauncher(DirectLauncher):
    """One job for each attempt, through the commands of ``transport``'s machine."""

    def __init__(
        self,
        transport: Transport,
        options: SlurmOptions,
        allocations: Allocations,
        queue: SlurmQueue,
        clock: Clock,
    ) -> None:
        super().__init__(transport, allocations, LOCK_DIRECTORY)
        self._options = options
        self._queue = queue
        self._clock = clock
        self._starting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._asked: dict[str, float] = {}  # directories asked to end, and when

    # --- starting -----------------------------------------------------------------------------------

    async def start(self, plan: AttemptPlan) -> None:
        """Submit it, unless that was done. Raises HostFault (with Slurm's own words), StorageFull, UsageError."""
        seconds = allowance(plan)
        self.refuse_short(seconds)
        lock = self._starting.setdefault(plan.directory, asyncio.Lock())
        async with lock:
            facts = await self.facts(plan.directory)
            if facts.job is None and facts.age is None and not facts.exit:
                await self._write(plan, seconds)
                await self._begin(plan, seconds)
        self._queue.hurry()

    def refuse_short(self, seconds: float) -> None:
        """Nothing is started that would outlive its allocation."""
        limit = self._options.limit
        if limit is not None and seconds > limit:
            raise HostFault(
                f"slurm: a trial may take {format_limit(seconds)} with all its deadlines, and the time limit is"
                f" {format_limit(limit)}",
                f'write time = "{format_limit(seconds)}" or more, or lower [trial] timeout_seconds',
            )

    async def _write(self, plan: AttemptPlan, seconds: float) -> None:
        files = render(adapted(plan), LOCK_DIRECTORY)
        limit = self._options.limit or seconds
        more = {"jobname": job_name(plan).encode() + b"\n", "limit": b"%d\n" % limit}
        scripts = {"job.sh": job_script(), "slurm.sh": slurm_script()}
        await self._transport.put_all(f"{plan.directory}/control", {**files, **more, **scripts})

    async def _begin(self, plan: AttemptPlan, seconds: float) -> None:
        await self.submit(
            f"{plan.directory}/control",
            job_name(plan),
            1,
            self._options.limit or seconds,
            [f"{plan.directory}/control/slurm.sh", *run_words(plan)],
        )

    async def open(self) -> None:
        """Before the first call of all others."""

    async def submit(self, directory: str, name: str, trials: int, seconds: float, script: Sequence[str]) -> str:
        """A job's number; one that was submitted from ``directory`` before is found again. Raises HostFault."""
        argv = commands.submit(self._options, trials, name, seconds, directory, script)
        done = await self._script("submit", directory, name, self._options.command("squeue"), *argv, seconds=150.0)
        number = commands.parse_submitted(done.stdout.decode("utf-8", "replace"))
        if done.code != 0 or number is None:
            words = done.stderr.decode("utf-8", "replace")
            if no_space(words):
                raise StorageFull(f"no room to submit from {directory}", "free some space on that disk")
            raise HostFault(f"sbatch: {fault_line(words) or done.complaint}", mend(words))
        return number

    # --- ending -------------------------------------------------------------------------------------

    async def cancel(self, directory: str) -> bool:
        made = await self._transport.run(
            ["sh", "-c", 'mkdir -p "$1/control" && : >"$1/control/asked"', "sh", directory]
        )
        if made.code != 0 and no_space(made.stderr.decode("utf-8", "replace")):
            raise StorageFull(f"no room to cancel {directory}", "free some space on that disk")
        won = await super().cancel(directory)
        self._asked.setdefault(directory, self._clock.monotonic())
        try:
            await self._hurry_end(directory, won)
        except HostFault:
            pass  # the file control/cancel is enough, and a job that starts later finds the claim taken
        self._queue.hurry()
        return won

    async def _hurry_end(self, directory: str, won: bool) -> None:
        """Beyond the files: take a job that never starts out of the queue, wake one that runs."""
        facts = await self.facts(directory)
        number = facts.job
        if number is None and facts.submitted:
            number = await self._queue.live_namesake(facts.name, "")
        if number is not None and (won or not facts.exit):
            end = commands.cancel if won else functools.partial(commands.signal_batch, signal="TERM")
            await self._queue.run(end(self._options, number, facts.name))

    async def clear(self, directory: str) -> int:
        """A dead job's processes are Slurm's to kill; one that was requeued shall not start again."""
        self._asked.pop(directory, None)
        try:
            facts = await self.facts(directory)
            if facts.job is not None:
                await self._queue.run(commands.cancel(self._options, facts.job, facts.name))
        except HostFault:
            pass  # it would find the claim taken
        return 0

    # --- where it is --------------------------------------------------------------------------------

    async def standing(self, directory: str) -> AsyncGenerator[Standing, None]:
        """What the scheduler says of an attempt, at last why it is dead. Who has read its exit stops reading."""
        number, name = await self._number(directory)
        while True:
            successor = None
            async with aclosing(self._of_job(directory, number, name)) as reports:
                async for standing in reports:
                    if standing.dead and (successor := await self._successor(name, number)):
                        break  # it was submitted twice, and this is the one that left
                    yield standing
            if successor is None:
                return
            number = successor

    async def _number(self, directory: str) -> tuple[str, str]:
        """The attempt's job, once there is one: its number and its name."""
        while True:
            try:
                facts = await self.facts(directory)
                number = facts.job
                if number is None and facts.submitted:
                    number = await self._queue.live_namesake(facts.name, "")
                if number is not None:
                    return number, facts.name
            except HostFault:
                pass
            await self._clock.sleep(self._options.poll)

    async def _successor(self, name: str, number: str) -> str | None:
        while True:
            try:
                return await self._queue.live_namesake(name, number) if name else None
            except HostFault:
                await self._clock.sleep(self._options.poll)

    async def _of_job(self, directory: str, number: str, name: str) -> AsyncGenerator[Standing, None]:
        gone, waited = 0, False
        async with aclosing(self._queue.reports(number, name)) as reports:
            async for report in reports:
                gone = gone + 1 if report.phase is Phase.GONE else 0
                dead = None
                if report.phase is Phase.ENDED:
                    dead = await self._ended(directory, number, name, report)
                elif report.phase is Phase.WAITING and not waited:
                    dead = await self._requeued(directory, number, name)
                elif gone >= TIMES_GONE:
                    dead = await self._forgotten(directory, number)
                # Asked once for each time in the queue: a job that still waits was not requeued since.
                waited = report.phase is Phase.WAITING or (waited and report.phase is Phase.UNKNOWN)
                yield Standing(report.words, dead)
                await self._insist(directory, number, report)

    async def _ended(self, directory: str, number: str, name: str, report: Report) -> Lost:
        """The end of a job that left no exit, with what only a closer look tells of it."""
        closer = await self._queue.find(number, name)
        job = closer.job if closer.phase is Phase.ENDED else report.job
        assert job is not None, "a state ends a job"
        reason = f"Slurm's job {number}: {report.words}{await self.said(directory)}"
        return Lost(reason, job.taken, await self._used(directory, None if job.restarts else job.ran))

    async def _used(self, directory: str, ran: float | None) -> float | None:
        """Seconds for which an attempt that left no exit held its allocation, at most. ``ran``: Slurm's word."""
        try:
            age = (await self.facts(directory)).age
        except HostFault:
            return None
        if age is None:
            return 0.0
        return age if ran is None else min(age, ran)

    async def _requeued(self, directory: str, number: str, name: str) -> Lost | None:
        """The loss of a job that waits and has run before."""
        report = await self._queue.find(number, name)
        if report.job is None or report.phase is not Phase.WAITING or not report.job.restarts:
            return None
        if (await self._facts_or_none(directory)).age is None:
            return None  # it was requeued before it began: it begins later
        reason = f"Slurm requeued job {number}: {report.words}, Restarts={report.job.restarts}"
        return Lost(reason, preempted=True, seconds=await self._used(directory, None))

    async def _forgotten(self, directory: str, number: str) -> Lost | None:
        """The loss of a job that the controller does not know and that certainly runs no more."""
        facts = await self._facts_or_none(directory)
        if facts.age is None:
            return await self._give_up(directory, f"Slurm knows no such job {number}, and it had not started")
        if facts.age > facts.limit + OVERTIME_SECONDS:
            return Lost(f"Slurm knows no such job {number}, and its time limit has passed")
        return None

    async def _give_up(self, directory: str, why: str) -> Lost | None:
        """The loss of an attempt that had not started and never will: whatever Slurm does, its claim is taken."""
        try:
            await self._transport.put(f"{directory}/control/given-up", why.encode() + b"\n")
            return Lost(why, seconds=0.0) if await super().cancel(directory) else None
        except (HostFault, StorageFull):
            return None

    async def _insist(self, directory: str, number: str, report: Report) -> None:
        asked = self._asked.get(directory)
        if (
            asked is None
            or report.phase is not Phase.RUNNING
            or self._clock.monotonic() - asked < PATIENCE_SECONDS
        ):
            return
        self._asked[directory] = self._clock.monotonic()
        try:
            await self._end_hard(directory, number)
        except HostFault:
            pass  # tried again

    async def _end_hard(self, directory: str, number: str) -> None:
        name = (await self.facts(directory)).name
        await self._queue.run(commands.cancel(self._options, number, name))

    async def last_word(self, number: str, name: str, seconds: float, *, running: bool = True) -> Job | None:
        """How Slurm has ended, requeued or preempted a job; None when it does not say by then.

        ``running``: one that simply runs may still end.
        """
        until = self._clock.monotonic() + seconds
        while True:
            job = (await self._queue.find(number, name)).job
            if job is not None:
                requeued = job.phase is Phase.WAITING and job.restarts
                if job.phase is Phase.ENDED or requeued or job.preempting:
                    return job
                if job.state == "RUNNING" and not running:
                    return None
            if self._clock.monotonic() >= until:
                return None
            await self._clock.sleep(min(self._options.poll, 1.0))

    async def outcome(self, directory: str, exit: Exited) -> Exited | Lost:
        """What ``control/exit`` means: Slurm ends jobs by the signal that also cancels an attempt."""
        facts = await self._facts_in_the_end(directory)
        code = exit.steps[-1].code if exit.steps else 0
        if facts.given_up and not exit.steps and not facts.asked:
            return Lost(facts.given_up, seconds=0.0)
        if facts.cancel and not facts.asked:
            # Whatever the exit says: a script that saves itself on SIGTERM ends well, and early.
            return await self._ended_by(directory, exit)
        if facts.asked and exit.reason == "failed" and code > 128:
            return replace(exit, reason="cancelled")
        if exit.reason == "failed" and code == 128 + 9 and await self._out_of_memory(directory):
            return replace(exit, reason="memory")
        return exit

    async def _out_of_memory(self, directory: str) -> bool:
        facts = await self._facts_in_the_end(directory)
        job = await self.last_word(facts.job, facts.name, KILLED_SECONDS) if facts.job else None
        return job is not None and job.state == "OUT_OF_MEMORY"

    async def _ended_by(self, directory: str, exit: Exited) -> Exited | Lost:
        facts = await self._facts_in_the_end(directory)
        job = await self.last_word(facts.job, facts.name, LAST_WORD_SECONDS) if facts.job else None
        used = seconds_of(exit)
        if job is None:
            return Lost("it was told to end, not by us, and Slurm does not say why", seconds=used)
        if job.state == "CANCELLED":
            return replace(exit, reason="cancelled")
        requeued = f", Restarts={job.restarts}" if job.restarts else ""
        return Lost(f"Slurm's job {job.number}: {job.words}{requeued}", job.taken, used)

    # --- files --------------------------------------------------------------------------------------

    async def facts(self, directory: str) -> Facts:
        """Raises HostFault."""
        done = await self._script("facts", directory)
        if done.code != 0:
            raise HostFault(f"cannot look at {directory}: {done.complaint}")
        return parse_facts(done.stdout.decode("utf-8", "replace"))

    async def _facts_in_the_end(self, directory: str) -> Facts:
        while True:
            try:
                return await self.facts(directory)
            except HostFault:
                await self._clock.sleep(1.0)

    async def _facts_or_none(self, directory: str) -> Facts:
        """``facts``; when they cannot be had, ones that are no evidence."""
        try:
            return await self.facts(directory)
        except HostFault:
            return Facts(0.0, False, False, False, True, None, "", math.inf, "")

    async def said(self, directory: str) -> str:
        """What the attempt's batch script has complained of, as the end of a sentence."""
        words = (await self._facts_or_none(directory)).said
        return f"; it said: {words}" if words else ""

    async def _script(self, *words: str, seconds: float = 60.0) -> Completed:
        return await self._transport.run(["sh", "-s", *words], input=slurm_script(), seconds=seconds)

    async def close(self) -> None:
        """Leave everything running."""
        await self._queue.close()
