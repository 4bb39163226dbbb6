"""What Slurm says of many jobs: one batched squeue a poll, whoever asks, and a closer look where it is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from engine.clock import Clock
from engine.errors import HostFault
from engine.runners import slurm_commands as commands
from engine.runners.slurm_commands import Job, Phase
from engine.runners.slurm_options import SlurmOptions
from engine.runners.transport import Completed, Transport

# Jobs that squeue left out are asked for one by one: not a thousand at once when it is in trouble.
CLOSE_LOOKS = 16
COMMAND_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """One answer about one job. ``steps``: ids of its running ones by name; None when not asked or not known."""

    phase: Phase
    words: str
    job: Job | None = None
    steps: Mapping[str, str] | None = None


class _Mailbox:
    """Holds the newest report for one reader."""

    def __init__(self, name: str, steps: bool) -> None:
        self.name = name
        self.steps = steps
        self._report: Report | Exception | None = None
        self._arrived = asyncio.Event()

    def put(self, report: Report | Exception) -> None:
        self._report = report
        self._arrived.set()

    async def get(self) -> Report:
        await self._arrived.wait()
        self._arrived.clear()
        if isinstance(self._report, Exception):
            raise self._report
        assert self._report is not None
        return self._report


class SlurmQueue:
    """The controller, asked through ``transport`` where its commands are."""

    def __init__(self, transport: Transport, options: SlurmOptions, clock: Clock) -> None:
        self._transport = transport
        self._options = options
        self._clock = clock
        self._readers: dict[str, list[_Mailbox]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._fresh = asyncio.Event()

    async def reports(self, number: str, name: str, *, steps: bool = False) -> AsyncGenerator[Report, None]:
        """What each poll says of a job, for as long as it is read. A slow reader gets the newest.

        ``name``: the job's; a controller that lost its memory gives numbers again. "" is any.
        """
        box = _Mailbox(name, steps)
        self._readers.setdefault(number, []).append(box)
        self._fresh.set()
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="poll squeue")
        try:
            while True:
                yield await box.get()
        finally:
            self._readers[number].remove(box)
            if not self._readers[number]:
                del self._readers[number]

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
            self._poller = None

    def hurry(self) -> None:
        """Poll now: something was just submitted or ended."""
        self._fresh.set()

    async def run(self, argv: list[str]) -> Completed:
        """One of Slurm's commands. Raises HostFault."""
        return await self._transport.run(argv, seconds=COMMAND_SECONDS)

    async def _poll(self) -> None:
        try:
            while self._readers:
                self._fresh.clear()
                steps = [number for number, boxes in self._readers.items() if any(box.steps for box in boxes)]
                wanted = {number: boxes[0].name for number, boxes in self._readers.items()}
                for number, report in (await self.look(wanted, steps)).items():
                    for box in self._readers.get(number, ()):
                        box.put(report)
                with suppress(TimeoutError):
                    await self._clock.timeout(self._fresh.wait(), self._options.poll)
        except Exception as fault:
            # A fault of ours must reach those who wait, not die in a task that nobody awaits.
            for boxes in self._readers.values():
                for box in boxes:
                    box.put(fault)

    async def look(self, wanted: Mapping[str, str], steps_of: Sequence[str] = ()) -> dict[str, Report]:
        """One report for each job of ``wanted``, number -> name. Never raises for what a machine does."""
        found: dict[str, Report] = {}
        try:
            done = await self.run(commands.queue(self._options, wanted))
            answered = done.code == 0 or commands.says_unknown_job(_both(done))
            jobs = commands.parse_queue(_text(done)) if done.code == 0 else {}
            running = await self._steps(steps_of)
        except HostFault as fault:
            return dict.fromkeys(wanted, Report(Phase.UNKNOWN, fault.message))
        if not answered:
            words = f"squeue: {done.complaint}"
            return dict.fromkeys(wanted, Report(Phase.UNKNOWN, words))
        absent = 0
        for number, name in wanted.items():
            job = jobs.get(number)
            absent += job is None
            if job is not None and name not in ("", job.name):
                found[number] = _gone(number)
            elif job is not None:
                steps = None if running is None else running.get(number, {})
                found[number] = Report(job.phase, job.words, job, steps)
            elif absent <= CLOSE_LOOKS:
                found[number] = await self.find(number, name)
            else:
                found[number] = Report(Phase.UNKNOWN, "squeue leaves it out")
        return found

    async def _steps(self, numbers: Sequence[str]) -> dict[str, dict[str, str]] | None:
        if not numbers:
            return None
        done = await self.run(commands.steps(self._options, numbers))
        return commands.parse_steps(_text(done)) if done.code == 0 else None

    async def find(self, number: str, name: str) -> Report:
        """A closer look at one job: scontrol, then the accounting database."""
        try:
            done = await self.run(commands.show(self._options, number))
            job = commands.parse_show(_text(done), number)
            if job is None and commands.says_unknown_job(_both(done)):
                past = await self.run(commands.history(self._options, number))
                job = commands.parse_history(_text(past), number) if past.code == 0 else None
                if job is None:
                    return _gone(number)
        except HostFault as fault:
            return Report(Phase.UNKNOWN, fault.message)
        if job is None:
            return Report(Phase.UNKNOWN, f"scontrol: {done.complaint}")
        if name not in ("", job.name):
            return _gone(number)
        return Report(job.phase, job.words, job)

    async def live_namesake(self, name: str, number: str) -> str | None:
        """Another job of that name that has not ended. Raises HostFault when that cannot be told."""
        done = await self.run(commands.named(self._options, name))
        if done.code != 0:
            raise HostFault(f"squeue: {done.complaint}")
        jobs = commands.parse_queue(_text(done)).values()
        return next((job.number for job in jobs if job.number != number and job.phase is not Phase.ENDED), None)


def _gone(number: str) -> Report:
    return Report(Phase.GONE, f"Slurm knows no such job {number} any more")


def _text(done: Completed) -> str:
    return done.stdout.decode("utf-8", "replace")


def _both(done: Completed) -> str:
    return _text(done) + done.stderr.decode("utf-8", "replace")
