"""How to reach a machine: run a command there, put a file there, follow what goes on there.

Here the one for this machine; ssh.py has the one over the system's ssh, which answers to the same calls.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.clock import Clock
from engine.errors import HostFault, StorageFull
from engine.runners import Exited, FollowItem, LogChunk, Lost
from engine.runners.following import AttemptReader


@dataclass(frozen=True, slots=True)
class Completed:
    """A command's end. ``code`` is its exit status, negative for a signal."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def complaint(self) -> str:
        """What it said about its failure, in one line."""
        lines = self.stderr.decode("utf-8", "replace").strip().splitlines()
        return lines[0] if lines else f"exit status {self.code}"


class Transport(Protocol):
    """A way to one machine. Every call may be repeated."""

    async def run(self, argv: Sequence[str], *, input: bytes = b"", seconds: float = 30.0) -> Completed:
        """Run a command in ``/`` to its end. Raises HostFault when it cannot start or takes longer than
        ``seconds``."""
        ...

    async def put(self, path: str, data: bytes) -> None:
        """Write a file whole or not at all. Raises StorageFull or HostFault."""
        ...

    async def put_all(self, directory: str, files: Mapping[str, bytes]) -> None:
        """``put`` for several files of one directory, by name; each whole or not at all."""
        ...

    def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        """As ``Host.follow``. All followed attempts share one stream, whatever their number.

        ``Lost`` here is evidence only: what the job left behind is the launcher's to kill.
        """
        ...

    async def close(self) -> None:
        """End the stream; every iterator of ``follow`` comes to its end."""
        ...


# Where Slurm's commands find their cluster, at a site that sets these. Its other variables are options of
# those commands (SBATCH_..., SQUEUE_...), which would change our questions, or a token (SLURM_JWT).
SLURM_VARIABLES = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS")


def trusted_environment() -> dict[str, str]:
    """What our own commands get: nothing of the engine's secrets, for /proc shows environments to all."""
    path = os.environ.get("PATH", "")
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    site = {name: os.environ[name] for name in SLURM_VARIABLES if name in os.environ}
    return {"PATH": f"{path}:{system}" if path else system, "LC_ALL": "C", **site}


def no_space(words: str) -> bool:
    """Whether a complaint means a full disk or quota."""
    # The last is tar's, whose short write the kernel did not call an error yet.
    return any(said in words for said in ("No space left on device", "Disk quota exceeded", "Wrote only"))


# Twenty looks a second notice an exit within 50 ms; the log may wait longer, as eyes do.
LOOK_SECONDS = 0.05
LOG_EVERY = 5  # looks
LIFE_EVERY = 10  # looks
BACKLOG_BYTES = 8 << 20  # unread bytes kept for a slow consumer before we stop reading for it


class TransportClosed(Exception):
    """The transport was closed under a follower."""


class Feed:
    """One follower's queue between whoever looks at the attempt and its iterator."""

    def __init__(self) -> None:
        self.backlog = 0  # bytes of the log that wait here
        self._items: deque[FollowItem] = deque()
        self._wake = asyncio.Event()
        self._closed: BaseException | None = None

    def put(self, items: Sequence[FollowItem]) -> None:
        if items:
            self._items.extend(items)
            self.backlog += sum(len(item.data) for item in items if isinstance(item, LogChunk))
            self._wake.set()

    def close(self, reason: BaseException) -> None:
        self._closed = reason
        self._wake.set()

    async def get(self) -> FollowItem:
        while not self._items:
            if self._closed is not None:
                raise self._closed
            self._wake.clear()
            await self._wake.wait()
        item = self._items.popleft()
        if isinstance(item, LogChunk):
            self.backlog -= len(item.data)
        return item

    async def items(self) -> AsyncIterator[FollowItem]:
        """All that comes, up to the attempt's end or the transport's."""
        try:
            while True:
                item = await self.get()
                yield item
                if isinstance(item, Exited | Lost):
                    return
        except TransportClosed:
            return


class _Followed(Feed):
    """An attempt on this machine and who follows it."""

    def __init__(self, reader: AttemptReader) -> None:
        super().__init__()
        self.reader = reader
        self.fresh = True  # never looked at: all of it at once, for somebody waits


class LocalTransport:
    """This machine. Attempts are followed by one task that looks at all of them in turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._feeds: list[_Followed] = []
        self._poller: asyncio.Task[None] | None = None

    async def run(self, argv: Sequence[str], *, input: bytes = b"", seconds: float = 30.0) -> Completed:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=trusted_environment(),
                cwd="/",
                # A Ctrl-C for the engine in the foreground is no signal to its commands.
                start_new_session=True,
            )
        except OSError as fault:
            raise HostFault(f"cannot run {argv[0]}: {fault.strerror}") from fault
        try:
            out, err = await self._clock.timeout(process.communicate(input), seconds)
        except TimeoutError:
            raise HostFault(f"{argv[0]} did not end within {seconds:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Completed(process.returncode, out, err)

    async def put(self, path: str, data: bytes) -> None:
        # The name is unique to the writer: two launches of one attempt may write at the same time.
        new = Path(f"{path}.{os.getpid()}.{id(data):x}.new")
        try:
            new.write_bytes(data)
            new.replace(path)
        except OSError as fault:
            new.unlink(missing_ok=True)
            if no_space(str(fault)):
                raise StorageFull(f"no room for {path}", "free some space on that disk") from fault
            raise HostFault(f"cannot write {path}: {fault.strerror}") from fault

    async def put_all(self, directory: str, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            await self.put(f"{directory}/{name}", data)

    async def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        feed = _Followed(AttemptReader(directory, offset))
        self._feeds.append(feed)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="follow attempts on this machine")
        try:
            async for item in feed.items():
                yield item
        finally:
            if feed in self._feeds:
                self._feeds.remove(feed)

    async def close(self) -> None:
        for feed in self._feeds:
            feed.close(TransportClosed())
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
            self._poller = None

    async def _poll(self) -> None:
        try:
            look = 0
            while self._feeds:
                hungry = False
                for feed in tuple(self._feeds):
                    if feed.reader.ended or feed.backlog > BACKLOG_BYTES:
                        continue
                    reader, fresh = feed.reader, feed.fresh
                    log = fresh or reader.behind or look % LOG_EVERY == 0
                    feed.fresh = False
                    feed.put(reader.look(log=log, life=fresh or look % LIFE_EVERY == 0))
                    hungry = hungry or reader.behind
                look += 1
                await self._clock.sleep(0.0 if hungry else LOOK_SECONDS)
        except Exception as fault:
            # A fault of ours must reach those who wait, not die in a task that nobody awaits.
            for feed in self._feeds:
                feed.close(fault)
