"""A machine over the system's own ssh: its configuration, agent, hardware keys and jump hosts are the user's.

One connection a host. Its first session is the stream that follows all attempts; commands are further
sessions of it. When it breaks, everything waits for the next one and goes on where it was.
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import random
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

from engine.clock import Clock
from engine.errors import HostFault, StorageFull
from engine.runners import FollowItem
from engine.runners.remote_log import Frame, RemoteReader
from engine.runners.ssh_faults import ConnectionFault
from engine.runners.ssh_link import Destination, Link, LinkLost, escape_word
from engine.runners.transport import BACKLOG_BYTES, Completed, Feed, TransportClosed, no_space

# sshd allows 10 sessions a connection (MaxSessions): the one that follows, these (of which telemetry's stream
# holds one), and two for others.
SESSIONS = 7
PATIENCE_SECONDS = 45.0  # how long a command waits for a connection that broke
BACKOFF_SECONDS = (0.2, 30.0)  # before the next attempt to connect: first, and at most
LASTING_BACKOFF_SECONDS = 300.0  # where only a person can help: a bad key asked often gets an address banned
LOOK_SECONDS = 0.1
IDLE_LOOK_SECONDS = 0.25  # when nothing has come for a while; still within what eyes notice
IDLE_AFTER_LOOKS = 30
LIFE_SECONDS = 1.0
MOST_BLOCKS = 16  # of 64 KiB, of one log at one look; a new connection begins with one


class _Followed(Feed):
    """An attempt there and who follows it."""

    def __init__(self, number: str, reader: RemoteReader) -> None:
        super().__init__()
        self.number = number
        self.reader = reader
        self.asked = False  # the far side was told of it, on this connection


class SshTransport:
    """The machine that ssh calls ``host``. ``options`` go before the name (``-F FILE``, ``-p PORT``).

    Connects when first needed; ``connect`` does it now and tells at once why it cannot.
    """

    def __init__(
        self, host: str, clock: Clock, options: Sequence[str] = (), chance: random.Random | None = None
    ) -> None:
        self.host = host
        self._destination = Destination(host, tuple(options))
        self._clock = clock
        self._chance = chance or random.Random()
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._sessions = asyncio.Semaphore(SESSIONS)
        self._folder: Path | None = None
        self._links = 0
        self._failures = 0
        self._refusal: ConnectionFault | None = None
        self._not_before = 0.0
        self._feeds: list[_Followed] = []
        self._numbers = 0
        self._dropped: list[str] = []
        self._tending: asyncio.Task[None] | None = None
        self._resting = False  # it waits for a connection
        self._fresh = asyncio.Event()
        self._closings = 0

    # --- the connection ---------------------------------------------------------------------------

    async def connect(self) -> None:
        """Have a connection, now. Raises ConnectionFault with ssh's own words and the mend."""
        self._not_before = 0.0
        await self._connected(self._clock.monotonic())
        if self._resting and self._tending is not None:
            # It would sleep its back-off to the end, which may be minutes after the connection stands again.
            self._tending.cancel()
            self._tending = asyncio.create_task(self._tend(), name=f"follow attempts on {self.host}")

    async def _connected(self, until: float = math.inf) -> Link:
        """The connection, made anew by one attempt where there is none.

        Not before the back-off that the last failure has earned; where that reaches beyond ``until``
        (monotonic seconds), raises that failure once more.
        """
        while True:
            async with self._connecting:
                if self._link is not None and self._link.alive:
                    return self._link
                await self._drop()
                wait = self._not_before - self._clock.monotonic()
                if wait <= 0:
                    return await self._connect()
            if self._clock.monotonic() + wait > until and self._refusal is not None:
                raise self._refusal.with_traceback(None)  # else it would hold the frames of all whom it was told
            await self._clock.sleep(wait)

    async def _connect(self) -> Link:
        self._links += 1
        try:
            self._link = await Link.open(self._destination, f"{self._socket_folder()}/{self._links}", self._clock)
            self._failures, self._refusal = 0, None
        except ConnectionFault as fault:
            self._failures += 1
            self._refusal = fault
            raise
        finally:
            # After a success too: a connection that dies at once must not be made again in a hot loop.
            first, most = BACKOFF_SECONDS
            most = LASTING_BACKOFF_SECONDS if self._refusal and self._refusal.lasting else most
            pause = min(first * 2.0 ** min(self._failures, 16), most)
            # Jitter: a rebooted host is not asked by everybody in the same instant.
            self._not_before = self._clock.monotonic() + pause * self._chance.uniform(0.5, 1.0)
        return self._link

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _socket_folder(self) -> Path:
        """Private, and short: a unix socket's path has 107 bytes, and ssh adds 17 of its own while it binds."""
        if self._folder is None:
            root = Path("/tmp") if os.access("/tmp", os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
            for old in root.glob("ratchet-ssh-*-*"):
                owner = old.name.split("-")[2]
                with suppress(OSError):
                    if old.stat().st_uid == os.getuid() and not Path("/proc", owner).exists():
                        shutil.rmtree(old)  # left by an engine that was killed
            self._folder = Path(tempfile.mkdtemp(prefix=f"ratchet-ssh-{os.getpid()}-", dir=root))
        return self._folder

    # --- commands ---------------------------------------------------------------------------------

    async def run(self, argv: Sequence[str], *, input: bytes = b"", seconds: float = 30.0) -> Completed:
        """As the contract says; a signal's exit status is 128+n. Repeated when the connection breaks."""
        words = " ".join(map(shlex.quote, argv))
        if not input:
            return await self.exec(f"exec {words}", seconds=seconds)
        # Not straight from the connection: a script that is cut short must not be run up to there.
        return await self.exec(
            f'set -e; t=$(mktemp); trap \'rm -f "$t"\' EXIT; cat >"$t"\n'
            f'[ "$(stat -c %s "$t")" -eq {len(input)} ]\nset +e\n{words} <"$t"',
            stdin=input,
            seconds=seconds,
        )

    async def exec(self, script: str, *, stdin: bytes | Path = b"", seconds: float = 30.0) -> Completed:
        """Run a POSIX ``script`` in ``/``, with ``stdin`` or a file's content, until its end was heard.

        The script must bear to be repeated, and to be given less than all of ``stdin``. Raises HostFault.
        """
        until = self._clock.monotonic() + PATIENCE_SECONDS
        refusals, closings = 0, self._closings
        while True:
            try:
                async with self._sessions:
                    link = await self._connected(until)
                    return await link.exec(script, stdin, seconds)
            except LinkLost as lost:
                fault = lost.fault
                refusals += link.alive
                if fault.crowded:
                    link.give_way(fault)
            except ConnectionFault as refused:
                if self._not_before > until:
                    raise  # asked again at once, it would say the same, and let nobody else come to a word
                fault = refused
            if fault.lasting or self._clock.monotonic() >= until or closings != self._closings:
                raise fault
            if refusals:  # the connection stands, and a session of it failed: others may have to end first
                if refusals > 8:
                    raise fault
                await self._clock.sleep(
                    BACKOFF_SECONDS[0] * 2.0 ** min(refusals, 4) * self._chance.uniform(0.5, 1.0)
                )

    async def stream(self, script: str) -> AsyncGenerator[list[bytes], None]:
        """The lines of a POSIX ``script`` there, those that came together at a time, until it ends; at first
        none: it has begun.

        It is to end when its standard input does, which is open for as long as anybody reads here; what it has
        started in its process group is its own to end. It takes one of the commands' sessions, and gives it back
        as soon as a command finds none. Raises ConnectionFault when the connection breaks, or (``crowded``) when
        there is no session for it.
        """
        async with self._sessions:
            link = await self._connected(self._clock.monotonic() + PATIENCE_SECONDS)
            try:
                async with aclosing(link.stream(script)) as lines:
                    async for some in lines:
                        yield some
            except LinkLost as lost:
                raise lost.fault from None

    async def put(self, path: str, data: bytes) -> None:
        directory, _, name = path.rpartition("/")
        await self.put_all(directory or "/", {name: data})

    async def put_all(self, directory: str, files: Mapping[str, bytes]) -> None:
        """All in one session. Each appears whole, or not at all."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
        # The temporary name is unique to the session: an earlier one, thought dead, may still be at it.
        done = await self.exec(
            f'set -e; cd {shlex.quote(directory)}; t=.put-$$; trap \'rm -rf "$t"\' EXIT; mkdir "$t"\n'
            f'cat >$t/all; [ "$(stat -c %s $t/all)" -eq {len(buffer.getvalue())} ]\n'
            "mkdir $t/new; tar -xof $t/all -C $t/new; mv -f $t/new/* .",
            stdin=buffer.getvalue(),
            seconds=120.0,
        )
        if done.code != 0:
            if no_space(done.stderr.decode("utf-8", "replace")):
                raise StorageFull(f"{self.host}: no room in {directory}", "free some space on that disk")
            raise HostFault(f"{self.host}: cannot write to {directory}: {done.complaint}")

    # --- following --------------------------------------------------------------------------------

    async def follow(self, directory: str, offset: int) -> AsyncIterator[FollowItem]:
        self._numbers += 1
        feed = _Followed(str(self._numbers), RemoteReader(directory, offset))
        self._feeds.append(feed)
        self._fresh.set()
        if self._tending is None or self._tending.done():
            self._tending = asyncio.create_task(self._tend(), name=f"follow attempts on {self.host}")
        try:
            async for item in feed.items():
                yield item
        finally:
            if feed in self._feeds:
                self._feeds.remove(feed)
                self._dropped.append(feed.number)

    async def _tend(self) -> None:
        """Look at all followed attempts in turn, over one connection after the other."""
        try:
            while self._feeds:
                try:
                    self._resting = True
                    link = await self._connected()
                    self._resting = False
                    await self._watch(link)
                except (HostFault, LinkLost) as fault:
                    for feed in self._feeds:
                        feed.asked = False
                        feed.reader.cut()
                        # A connection that only broke is tried again first: that is no news yet.
                        if isinstance(fault, HostFault):
                            feed.put(feed.reader.away(fault.message))
        except Exception as fault:
            # A fault of ours must reach those who wait, not die in a task that nobody awaits.
            for feed in self._feeds:
                feed.close(fault)

    async def _watch(self, link: Link) -> None:
        """One connection's life: ends when nobody follows any more, raises LinkLost when it breaks."""
        for feed in self._feeds:
            feed.asked = False
        self._dropped.clear()
        blocks, idle, checked = 1, 0, -LIFE_SECONDS
        while self._feeds:
            self._fresh.clear()
            now = self._clock.monotonic()
            life = now - checked >= LIFE_SECONDS
            checked = now if life else checked
            try:
                more, news = await self._look(link, life, blocks)
            except LinkLost as lost:
                link.broken = link.broken or lost.fault
                raise
            blocks = min(2 * blocks, MOST_BLOCKS)
            idle = 0 if news else idle + 1
            if not more:
                await self._pause(LOOK_SECONDS if idle < IDLE_AFTER_LOOKS else IDLE_LOOK_SECONDS)

    async def _look(self, link: Link, life: bool, blocks: int) -> tuple[bool, bool]:
        """Whether there is more to read at once, and whether anything came."""
        by_number = {feed.number: feed for feed in self._feeds}
        requests = [f"- {number}" for number in self._dropped]
        self._dropped.clear()
        for feed in self._feeds:
            full = feed.backlog > BACKLOG_BYTES
            if feed.asked and full:
                requests.append(f"- {feed.number}")
                feed.asked = False
            elif not feed.asked and not full and not feed.reader.ended:
                reader = feed.reader
                requests.append(f"+ {feed.number} {reader.position} {escape_word(reader.directory)}")
                feed.asked = True
        more = news = False
        looking = link.look(requests, life, blocks)
        try:
            async for frame in looking:
                if frame.kind == "done":
                    more = frame.words[1:] == ("1",)
                elif found := by_number.get(frame.about):
                    news |= self._take(found, frame)
        finally:
            await looking.aclose()
        return more, news

    def _take(self, feed: _Followed, frame: Frame) -> bool:
        items = feed.reader.take(frame)
        if frame.kind == "exit" and not feed.reader.ended:
            feed.asked = False  # not to be understood, and the far side thinks that this was the end
        feed.put(items)
        return bool(items)

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless somebody begins to follow: who waits is served at once."""
        with suppress(TimeoutError):
            await self._clock.timeout(self._fresh.wait(), seconds)

    async def close(self) -> None:
        self._closings += 1
        for feed in self._feeds:
            feed.close(TransportClosed())
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
            self._tending = None
        await self._drop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
