"""Many trials in one allocation: a pilot of ours, or the one that the engine was started in (salloc).

A trial of five minutes then does not queue by itself: it is a step (srun) of a job that runs already. A pilot
is submitted when there is work and ends when there has been none for a while; by itself, if nobody is there.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from engine.clock import Clock
from engine.errors import HostFault, StorageFull
from engine.runners import AttemptPlan, Exited, Lost
from engine.runners import slurm_commands as commands
from engine.runners.allocations import Allocations
from engine.runners.slurm import LAST_WORD_SECONDS, TIMES_GONE, SlurmLauncher, Standing
from engine.runners.slurm_attempt import allowance, job_name, run_words, seconds_of, slurm_script
from engine.runners.slurm_commands import Job, Phase
from engine.runners.slurm_options import SlurmOptions, format_limit
from engine.runners.slurm_queue import Report, SlurmQueue
from engine.runners.transport import Transport

STEP_SECONDS = 60.0  # that srun may wait for the share of a trial which has just ended
TIMES_MISSING = 3  # looks at the running steps, before the node itself is asked


@dataclass
class Pilot:
    """An allocation. ``directory`` is "" for one that is not ours to end."""

    number: str
    name: str  # "": any
    directory: str
    report: Report | None = None
    trials: set[str] = field(default_factory=set)
    closing: bool = False  # too little of its time is left for the work that waits
    idle_since: float | None = None

    @property
    def words(self) -> str:
        return f"job {self.number}: {self.report.words if self.report else 'submitted'}"

    def has_time_for(self, seconds: float) -> bool:
        """Whether it certainly outlives a trial that is started now."""
        job = self.report.job if self.report else None
        if job is None or job.state != "RUNNING" or job.seconds_left is None:
            return False
        return job.seconds_left >= seconds + STEP_SECONDS


class PilotLauncher(SlurmLauncher):
    """Attempts as steps. ``root``: where pilots keep their files; ``within``: a job to use and never to end."""

    def __init__(
        self,
        transport: Transport,
        options: SlurmOptions,
        allocations: Allocations,
        queue: SlurmQueue,
        clock: Clock,
        root: str,
        slots: int,
        within: str = "",
    ) -> None:
        super().__init__(transport, options, allocations, queue, clock)
        self._root = root
        self._slots = slots
        self._within = within
        self._pilots: dict[str, Pilot] = {}
        self._waiting: dict[str, tuple[AttemptPlan, float]] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._serving = asyncio.Lock()
        self._trouble = ""
        self._beats = 0

    async def open(self) -> None:
        """Find the pilots of an earlier engine again. Raises HostFault."""
        if self._within:
            if self._within not in self._pilots:
                self._keep(Pilot(self._within, "", ""))
            return
        made = await self._transport.run(["sh", "-c", 'mkdir -p "$1" && ls "$1"', "sh", self._root])
        if made.code != 0:
            raise HostFault(f"cannot make {self._root}: {made.complaint}")
        for name in made.stdout.decode("utf-8", "replace").split():
            directory = f"{self._root}/{name}"
            facts = await self._transport.run(["cat", f"{directory}/jobid"])
            number = commands.parse_submitted(facts.stdout.decode("utf-8", "replace"))
            number = number or await self._queue.live_namesake(name, "")
            if number in self._pilots:
                continue
            report = await self._queue.find(number, name) if number else Report(Phase.GONE, "")
            if number is None or report.phase in (Phase.ENDED, Phase.GONE):
                await self._transport.run(["rm", "-rf", directory])
            else:
                self._keep(Pilot(number, name, directory, report))

    async def close(self) -> None:
        """Leave everything running."""
        for task in self._keepers:
            task.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._waiting.clear()
        await super().close()

    # --- starting -----------------------------------------------------------------------------------

    async def start(self, plan: AttemptPlan) -> None:
        if self._within:
            await self._refuse_outliving(allowance(plan))
        await super().start(plan)

    def refuse_short(self, seconds: float) -> None:
        # A limit is a pilot's; the allocation that we are in has its own.
        if not self._within:
            super().refuse_short(seconds + STEP_SECONDS)

    async def _refuse_outliving(self, seconds: float) -> None:
        report = (await self._queue.look({self._within: ""}))[self._within]
        if report.phase is Phase.UNKNOWN:
            raise HostFault(f"slurm: nobody says how long job {self._within} lasts: {report.words}")
        if Pilot(self._within, "", "", report).has_time_for(seconds):
            return
        left = report.job.seconds_left if report.job else None
        lasts = "unknown" if left is None or math.isinf(left) else format_limit(left)
        raise HostFault(
            f"slurm: a trial may take {format_limit(seconds)} with all its deadlines, and the allocation (job"
            f" {self._within}, {report.words}) ends before that; time left: {lasts}",
            "start the engine in a longer allocation, or lower [trial] timeout_seconds",
        )

    async def _begin(self, plan: AttemptPlan, seconds: float) -> None:
        self._waiting[plan.directory] = (plan, seconds)
        await self._have_pilot()

    async def _have_pilot(self) -> None:
        """Submit a pilot if there is work and none that may take it. Raises HostFault."""
        async with self._serving:
            if self._within or not self._waiting or any(not pilot.closing for pilot in self._pilots.values()):
                return
            name = f"ratchet-pilot-{secrets.token_hex(4)}"
            directory = f"{self._root}/{name}"
            await self._transport.run(["mkdir", "-p", f"{directory}/running"])
            await self._transport.put_all(directory, {"slurm.sh": slurm_script(), "beat": b"0\n"})
            limit = self._options.limit
            assert limit is not None, "parse_options asks for it"
            words = [f"{directory}/slurm.sh", "pilot", directory, f"{self._options.idle:.0f}"]
            number = await self.submit(directory, name, self._slots, limit, words)
            self._keep(Pilot(number, name, directory))

    def _keep(self, pilot: Pilot) -> None:
        self._pilots[pilot.number] = pilot
        task = asyncio.create_task(self._tend(pilot), name=f"pilot {pilot.number}")
        self._keepers.add(task)
        task.add_done_callback(self._keepers.discard)

    async def _tend(self, pilot: Pilot) -> None:
        """Serve the work that waits, for as long as the pilot lives."""
        gone = 0
        async with aclosing(self._queue.reports(pilot.number, pilot.name, steps=True)) as reports:
            async for report in reports:
                pilot.report = report
                gone = gone + 1 if report.phase is Phase.GONE else 0
                if report.phase is Phase.ENDED or gone >= TIMES_GONE:
                    break
                try:
                    await self._serve(pilot)
                    if await self._done_with(pilot):
                        break
                    await self._have_pilot()
                    self._trouble = ""
                except (HostFault, StorageFull) as fault:
                    self._trouble = fault.message  # shown to those who wait, and tried again
        self._pilots.pop(pilot.number, None)
        with suppress(HostFault, StorageFull):
            await self._have_pilot()

    async def _serve(self, pilot: Pilot) -> None:
        async with self._serving:
            if pilot.directory:
                self._beats += 1
                await self._transport.put(
                    f"{pilot.directory}/beat", b"%d %.0f\n" % (self._beats, self._clock.now())
                )
            for directory, (plan, seconds) in tuple(self._waiting.items()):
                if len(pilot.trials) >= self._slots or not pilot.has_time_for(seconds):
                    continue
                if pilot.directory:
                    await self._transport.put(
                        f"{pilot.directory}/running/{plan.token}", directory.encode() + b"\n"
                    )
                words = ["sh", f"{directory}/control/slurm.sh", *run_words(plan)]
                argv = commands.run_step(self._options, pilot.number, job_name(plan), STEP_SECONDS, words)
                done = await self._script("step", directory, pilot.number, *argv)
                if done.code != 0:
                    raise HostFault(f"srun: {done.complaint}")
                self._waiting.pop(directory, None)
                pilot.trials.add(directory)

    async def _done_with(self, pilot: Pilot) -> bool:
        """End a pilot of ours that nobody needs, or that has no time for what waits."""
        if not pilot.directory or pilot.trials:
            pilot.idle_since = None
            return False
        running = pilot.report is not None and pilot.report.phase is Phase.RUNNING
        now = self._clock.monotonic()
        if self._waiting:
            pilot.idle_since = None
            shortest = min(seconds for _, seconds in self._waiting.values())
            known = pilot.report is not None and pilot.report.job is not None
            pilot.closing = bool(running and known and _lasts(pilot) < shortest + STEP_SECONDS)
        elif pilot.idle_since is None:
            pilot.idle_since = now
        if not pilot.closing and (pilot.idle_since is None or now - pilot.idle_since < self._options.idle):
            return False
        await self._queue.run(commands.cancel(self._options, pilot.number, pilot.name))
        return True

    # --- ending -------------------------------------------------------------------------------------

    async def _hurry_end(self, directory: str, won: bool) -> None:
        self._waiting.pop(directory, None)  # a step that runs sees control/cancel by itself

    async def _end_hard(self, directory: str, number: str) -> None:
        pilot = self._pilots.get(number)
        steps = pilot.report.steps if pilot and pilot.report else None
        name = (await self.facts(directory)).name
        if steps and name in steps:
            await self._queue.run(commands.cancel(self._options, steps[name], ""))

    async def clear(self, directory: str) -> int:
        self._asked.pop(directory, None)
        with suppress(HostFault):
            if (number := (await self.facts(directory)).job) is not None:
                await self._end_hard(directory, number)
        return 0

    # --- where it is --------------------------------------------------------------------------------

    async def standing(self, directory: str) -> AsyncGenerator[Standing, None]:
        try:
            while directory in self._waiting:
                words = self._why_waiting()
                dead = (
                    await self._give_up(directory, f"it could not start: {words}")
                    if self._hopeless(directory)
                    else None
                )
                yield Standing(words, dead)
                await self._clock.sleep(min(self._options.poll, 1.0))
            number, name = await self._number(directory)
            pilot = self._pilots.get(number)
            if pilot is not None:
                pilot.trials.add(directory)  # one that an earlier engine started
            async with aclosing(self._of_step(directory, number, name)) as standings:
                async for standing in standings:
                    yield standing
        finally:
            self._waiting.pop(directory, None)
            for pilot in self._pilots.values():
                pilot.trials.discard(directory)
            self._queue.hurry()

    def _hopeless(self, directory: str) -> bool:
        """Whether the one allocation that it may run in has ended, or will before the trial would."""
        pilot, (_, seconds) = self._pilots.get(self._within), self._waiting[directory]
        if not self._within or (pilot is not None and pilot.report is None):
            return False
        return pilot is None or not (pilot.has_time_for(seconds) or _lasts(pilot) == math.inf)

    def _why_waiting(self) -> str:
        if self._trouble:
            return self._trouble
        return "waits for " + (", ".join(pilot.words for pilot in self._pilots.values()) or "an allocation")

    async def _of_step(self, directory: str, number: str, name: str) -> AsyncGenerator[Standing, None]:
        pilot = self._pilots.get(number)
        gone = missing = 0
        of = pilot.name if pilot is not None else ""
        async with aclosing(self._queue.reports(number, of, steps=True)) as reports:
            async for report in reports:
                words, dead = f"job {number}: {report.words}", None
                gone = gone + 1 if report.phase is Phase.GONE else 0
                if report.phase is Phase.ENDED:
                    dead = await self._without_allocation(directory, number, of, report)
                elif report.phase is Phase.WAITING:
                    dead = await self._requeued(directory, number, of)
                elif gone >= TIMES_GONE:
                    dead = await self._forgotten(directory, number)
                elif report.steps is not None:
                    missing = 0 if name in report.steps else missing + 1
                    if missing >= TIMES_MISSING:
                        dead = await self._vanished(directory, number)
                yield Standing(words, dead)
                await self._insist(directory, number, report)

    async def _without_allocation(self, directory: str, number: str, name: str, report: Report) -> Lost:
        closer = await self._queue.find(number, name)
        job = closer.job if closer.phase is Phase.ENDED else report.job
        reason = f"its allocation has ended: job {number}: {report.words}"
        return Lost(reason, job is not None and _took(job), await self._used(directory, None))

    async def _vanished(self, directory: str, number: str) -> Lost | None:
        """The loss of an attempt whose step is not listed and certainly does not run. Its own node knows."""
        try:
            facts = await self.facts(directory)
            life = ["sh", f"{directory}/control/slurm.sh", "life", directory]
            done = await self._queue.run(commands.run_beside(self._options, number, life, facts.node))
            answer = done.stdout.decode("utf-8", "replace").strip()
            if answer == "gone":
                reason = f"its step in Slurm's job {number} ended without an exit"
                return Lost(reason, seconds=await self._used(directory, None))
            # By taking its claim: an srun that comes late starts nothing then.
            if answer == "unclaimed":
                why = f"srun did not start it in job {number}{await self.said(directory)}"
                return await self._give_up(directory, why)
        except (HostFault, StorageFull):
            pass
        return None

    async def _ended_by(self, directory: str, exit: Exited) -> Exited | Lost:
        number = (await self._facts_in_the_end(directory)).job or ""
        pilot = self._pilots.get(number)
        # A pilot that goes on has nothing to say: then somebody ended this step alone.
        job = await self.last_word(number, pilot.name if pilot else "", LAST_WORD_SECONDS, running=False)
        words = job.words if job else "which goes on"
        taken = job is not None and _took(job)
        return Lost(f"Slurm ended its step in job {number}: {words}", taken, seconds_of(exit))

    async def _out_of_memory(self, directory: str) -> bool:
        return False  # the allocation's state tells nothing of one step


def _took(job: Job) -> bool:
    """Whether Slurm ended an allocation, and not a person. Nothing starts in one that it could outlive."""
    return job.taken or job.state == "TIMEOUT"


def _lasts(pilot: Pilot) -> float:
    job = pilot.report.job if pilot.report else None
    return math.inf if job is None or job.seconds_left is None else job.seconds_left
