"""Real attempts in real directories: staged, launched and followed on this machine."""

from __future__ import annotations

import io
import itertools
import os
import signal
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.clock import RealClock
from engine.runners import AttemptPlan, Exited, FollowItem, Host, LogChunk, Lost, Started, Step
from engine.types import Allocation

TOKENS = itertools.count(1)
PATIENCE = 60.0  # a guard against hanging for ever; no figure


def make_archive(path: Path, files: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data := text.encode())
            tar.addfile(info, io.BytesIO(data))
    return path


def processes_with(marker: str) -> list[int]:
    """Living processes whose command line holds ``marker``, wherever they fled to."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def log_of(items: list[FollowItem]) -> bytes:
    return b"".join(item.data for item in items if isinstance(item, LogChunk))


class Bench:
    """A host and the means to make attempts on it."""

    def __init__(self, host: Host, root: Path, wrap: tuple[str, ...] | None = None) -> None:
        self.host = host
        self.root = root
        self.wrap = host.containment.wrap if wrap is None else wrap
        self.clock = RealClock()
        self._numbers = itertools.count(1)
        self.directories: list[str] = []

    def directory(self) -> str:
        return str(self.root / "trials" / "7" / f"attempt-{next(self._numbers)}")

    async def stage(self, files: Mapping[str, str] | None = None, links: Mapping[str, str] = {}) -> str:
        directory = self.directory()
        archive = make_archive(self.root / "archive.tar", files or {"train.py": "print('hello')\n"})
        await self.host.stage(directory, str(archive), links)
        self.directories.append(directory)
        return directory

    async def plan(self, *commands: str, timeout: float = 30.0, **fields: Any) -> AttemptPlan:
        directory = await self.stage()
        plan = AttemptPlan(
            directory=directory,
            token=f"token-{os.getpid()}-{next(TOKENS)}",
            steps=tuple(Step(f"step {n}", command, timeout) for n, command in enumerate(commands, 1)),
            environment={"PATH": os.environ["PATH"]},
            allocation=Allocation(self.host.name, "cpu0"),
            wrap=self.wrap,
            kill_grace_seconds=1.0,
        )
        return replace(plan, **fields)

    async def follow(self, directory: str, offset: int = 0) -> list[FollowItem]:
        """Everything up to the attempt's end."""

        async def collect() -> list[FollowItem]:
            return [item async for item in self.host.follow(directory, offset)]

        return await self.clock.timeout(collect(), PATIENCE)

    async def run(self, plan: AttemptPlan) -> list[FollowItem]:
        await self.host.launch(plan)
        return await self.follow(plan.directory)

    async def until(self, directory: str, text: bytes) -> Started:
        """Follow until the log holds ``text``; the job's identity."""

        async def wait() -> Started:
            log, started = b"", None
            async for item in self.host.follow(directory, 0):
                assert not isinstance(item, Exited | Lost), (item, log)
                if isinstance(item, Started):
                    started = item
                if isinstance(item, LogChunk):
                    log += item.data
                if text in log and started is not None:
                    return started
            raise AssertionError("the stream ended")

        return await self.clock.timeout(wait(), PATIENCE)

    async def wait_for(self, condition: Any, every: float = 0.02) -> None:
        async def wait() -> None:
            while not condition():
                await self.clock.sleep(every)

        await self.clock.timeout(wait(), PATIENCE)


async def put_down(bench: Bench) -> None:
    """End what a failing test left running."""
    for directory in bench.directories:
        control = Path(directory) / "control"
        try:
            pid = int((control / "pid").read_text().split()[0])
            cmdline = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if b"job.sh" in cmdline:
            os.kill(pid, signal.SIGKILL)


def exited(items: list[FollowItem]) -> Exited:
    assert isinstance(items[-1], Exited), items[-3:]
    return items[-1]
