"""One connection of the system's ssh: its master process carries the follow stream, commands share it.

The engine holds the stream's standard input. When the engine dies, however suddenly, that closes, the
script on the far side ends, and so does the master: nothing of ours is left on either side.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import secrets
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.clock import Clock
from engine.errors import HostFault, UsageError
from engine.runners.remote_log import Frame, Frames
from engine.runners.ssh_faults import ConnectionFault, explain
from engine.runners.transport import SLURM_VARIABLES, Completed, trusted_environment
from engine.variables import is_secret

LOGIN_SECONDS = 90.0  # login files load modules from slow file systems
CONNECT_SECONDS = 15  # until the network has answered
KEEPALIVE_SECONDS = 5  # times three without an answer: the connection is gone
SILENCE_SECONDS = 20.0  # the script answers at once, unless its machine hangs
GRACE_SECONDS = 2.0  # for ssh to remove its control socket
LONGEST_LINE = 1 << 20  # bytes, of a stream
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The user's own settings hold, but for what would break a connection without a person or a terminal.
OPTIONS = (
    "BatchMode=yes",
    f"ConnectTimeout={CONNECT_SECONDS}",
    f"ServerAliveInterval={KEEPALIVE_SECONDS}",
    "ServerAliveCountMax=3",
    "ControlMaster=yes",
    "ControlPersist=no",
    "RequestTTY=no",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "LogLevel=ERROR",
)
# A command over the control socket needs no configuration. Were the socket gone, ssh would connect anew by
# itself, once for each command: the proxy that fails forbids that.
SHARED_OPTIONS = ("BatchMode=yes", "ControlMaster=no", "ProxyCommand=false", "RequestTTY=no", "LogLevel=ERROR")


class LinkLost(Exception):
    """The connection broke, or it never came to the end of a command: nothing is known of that command."""

    def __init__(self, fault: ConnectionFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Destination:
    """What ssh is asked for: a name that its configuration knows, and options before it (tests: -F FILE)."""

    host: str
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-") or re.search(r"[\s\0]", self.host):
            raise UsageError(f"{self.host!r} is no name of a host", "write it as for ssh: NAME or USER@NAME")


@functools.cache
def follow_script() -> str:
    """The text of follow_remote.sh."""
    return Path(__file__).with_name("follow_remote.sh").read_text()


def far_command(script: str) -> str:
    """``script`` (POSIX sh, its standard input untouched) as one line that every login shell passes on.

    With an environment of its own: /proc shows a shell's to the trials that it starts, and login files
    export keys.
    """
    keep = "".join(
        f' ${{{name}+"{name}=${name}"}}' for name in ("TMPDIR", "CUDA_VISIBLE_DEVICES", *SLURM_VARIABLES)
    )
    path = f'PATH="${{PATH:+$PATH:}}{SYSTEM_PATH}"'
    # A login file may name a TMPDIR that only a batch job has.
    there = '[ -w "$TMPDIR" ] || unset TMPDIR'
    outer = f'{there}; exec env -i LC_ALL=C HOME="$HOME" {path}{keep} sh -c "$(printf %b "$0")" sh'
    return f"exec sh -c '{outer}' '{escape(script)}'"


def escape(text: str) -> str:
    """``text`` as printf's %b reads it back, without a character that a shell would touch within ''."""
    if "\0" in text:
        raise UsageError(f"no process can be given a NUL byte: {text!r}")
    return re.sub(rb"[^\x20-\x7e]|['\\!]", lambda match: b"\\0%03o" % match[0][0], os.fsencode(text)).decode(
        "ascii"
    )


def escape_word(text: str) -> str:
    """As ``escape``, and without a space."""
    return escape(text).replace(" ", "\\0040")


@functools.cache
def _ours() -> re.Pattern[str]:
    return re.compile(r"HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|DISPLAY|WAYLAND_DISPLAY|(SSH|KRB5|XDG|GPG|GNUPG)\w*")


def ssh_environment() -> dict[str, str]:
    """What ssh needs to find its configuration, agent and tickets; nothing of the engine's secrets."""
    found = {name: value for name, value in os.environ.items() if _ours().fullmatch(name)}
    return {name: value for name, value in found.items() if not is_secret(name)} | trusted_environment()


class Child:
    """A process of ours. Its output comes through pipes of our own: asyncio's would have its end wait for
    everybody who holds them, and ssh hands those of each command to the master.
    """

    def __init__(self, process: Process, out: asyncio.StreamReader, err: asyncio.StreamReader) -> None:
        self.process = process
        self.out = out
        self.err = err
        self._pipes: list[asyncio.ReadTransport] = []

    @classmethod
    async def start(cls, argv: Sequence[str], stdin: int | IO[bytes]) -> Child:
        """Raises HostFault."""
        ends: list[int] = []
        pipes: list[asyncio.ReadTransport] = []
        streams = (asyncio.StreamReader(), asyncio.StreamReader())
        try:
            for stream in streams:
                reading, writing = os.pipe()
                ends.append(writing)
                pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                    functools.partial(asyncio.StreamReaderProtocol, stream), os.fdopen(reading, "rb", buffering=0)
                )
                pipes.append(pipe)
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin,
                stdout=ends[0],
                stderr=ends[1],
                env=ssh_environment(),
                cwd="/",
                start_new_session=True,  # a Ctrl-C for the engine in the foreground is no signal to it
            )
        except BaseException as fault:
            for pipe in pipes:
                pipe.close()
            if isinstance(fault, OSError):
                raise HostFault(f"cannot run {argv[0]}: {fault.strerror}", "install OpenSSH's client") from fault
            raise
        finally:
            for end in ends:
                os.close(end)
        child = cls(process, *streams)
        child._pipes = pipes
        return child

    async def give(self, data: bytes) -> None:
        """All of its standard input."""
        stdin = self.process.stdin
        if stdin is not None:
            with suppress(ConnectionError):
                stdin.write(data)
                await stdin.drain()
            stdin.close()

    def kill(self) -> None:
        """End it by SIGKILL, and wait for nothing."""
        self._signal(signal.SIGKILL)

    async def end(self, clock: Clock, grace: float = 0.0) -> None:
        """End it, after SIGTERM and ``grace`` seconds by SIGKILL; safe to call when it has ended."""
        try:
            if grace:
                self._signal(signal.SIGTERM)
                await clock.timeout(self.process.wait(), grace)
        except TimeoutError:
            pass
        finally:
            for output in self._pipes:
                output.close()
            if self.process.stdin is not None:
                pipe = self.process.stdin.transport
                if not pipe.is_closing() or pipe.get_write_buffer_size():
                    pipe.abort()
            self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # Not the process's own kill(): that looks for its end first, and then asyncio never hears of it.
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


class Link:
    """An established connection. Once ``broken``, it stays so."""

    def __init__(self, destination: Destination, socket: str, child: Child, clock: Clock) -> None:
        self.broken: ConnectionFault | None = None
        self._destination = destination
        self._socket = socket
        self._child = child
        self._clock = clock
        self._token = secrets.token_hex(16)
        self._frames = Frames(self._token)
        self._words = b""
        self._looks = 0
        self._streams: set[Child] = set()
        self._crowded: ConnectionFault | None = None
        self._listening = asyncio.create_task(self._listen(), name=f"what ssh {destination.host} complains of")

    @classmethod
    async def open(cls, destination: Destination, socket: str, clock: Clock) -> Link:
        """Connect, and wait for the script's greeting. Raises ConnectionFault (HostFault without ssh)."""
        options = [word for option in (*OPTIONS, f"ControlPath={socket}") for word in ("-o", option)]
        argv = ["ssh", *options, *destination.options, "-T", "--", destination.host, far_command(follow_script())]
        link = cls(destination, socket, await Child.start(argv, PIPE), clock)
        try:
            try:
                await clock.timeout(link._greet(), LOGIN_SECONDS)
            except TimeoutError:
                raise ConnectionFault(
                    f"{destination.host}: no shell answered within {LOGIN_SECONDS:g} s",
                    "see what its login files wait for: `time ssh HOST true`",
                ) from None
            except LinkLost as lost:
                raise lost.fault from None
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def alive(self) -> bool:
        return self.broken is None and self._child.process.returncode is None

    async def _greet(self) -> None:
        await self._write(f"{self._token}\n")
        async for frame in self._read(LOGIN_SECONDS):
            if frame.kind == "hello":
                return

    async def _listen(self) -> None:
        while data := await self._child.err.read(4096):
            self._words = self._words[:4000] + (self._words[4000:] + data)[-4000:]

    async def _write(self, text: str) -> None:
        stdin = self._child.process.stdin
        assert stdin is not None
        try:
            stdin.write(text.encode())
            await stdin.drain()
        except (ConnectionError, RuntimeError):
            raise LinkLost(await self._why()) from None

    async def _read(self, seconds: float) -> AsyncGenerator[Frame, None]:
        while True:
            try:
                data = await self._clock.timeout(self._child.out.read(1 << 18), seconds)
            except TimeoutError:
                fault = ConnectionFault(
                    f"{self._destination.host}: no answer for {seconds:g} s", "see that it is up"
                )
                self.broken = self.broken or fault
                raise LinkLost(fault) from None
            if not data:
                raise LinkLost(await self._why())
            for frame in self._frames.feed(data):
                yield frame

    async def _why(self) -> ConnectionFault:
        """Why the stream has ended."""
        if self.broken is None:
            try:
                # The master also waits for commands under way; the words come before.
                await self._clock.timeout(asyncio.shield(self._listening), 1.0)
            except TimeoutError:
                pass
            noise = self._frames.noise if not self._looks else b""
            words, printed = (data.decode("utf-8", "replace") for data in (self._words, noise))
            self.broken = self.broken or explain(self._destination.host, words, printed)
        return self.broken

    async def look(self, requests: Sequence[str], life: bool, blocks: int) -> AsyncGenerator[Frame, None]:
        """Ask once about all attempts followed; the last frame is "done". Raises LinkLost."""
        self._looks += 1
        number = str(self._looks)
        lines = [*requests, f"? {number} {int(life)} {blocks}"]
        await self._write("".join(f"{line}\n" for line in lines))
        async for frame in self._read(SILENCE_SECONDS):
            yield frame
            if frame.kind == "done" and frame.about == number:
                return

    async def exec(self, script: str, stdin: bytes | Path, seconds: float) -> Completed:
        """Run ``script`` there to its end. Raises LinkLost when that did not come, HostFault after ``seconds``.

        ``script`` may be run again after LinkLost, and it may be given only a part of ``stdin`` when the
        connection breaks.
        """
        token = secrets.token_hex(8)
        argv = self._session(_between_marks(token, script))
        if isinstance(stdin, Path):
            with stdin.open("rb") as file:
                child = await Child.start(argv, file)
        else:
            child = await Child.start(argv, PIPE if stdin else DEVNULL)
        given = stdin if isinstance(stdin, bytes) else b""
        try:
            work = asyncio.gather(child.out.read(), child.err.read(), child.give(given))
            out, err, _ = await self._clock.timeout(work, seconds)
        except TimeoutError:
            raise HostFault(f"{self._destination.host}: a command did not end within {seconds:g} s") from None
        finally:
            await child.end(self._clock)
        found_out, found_err = _within_marks(token, out), _within_marks(token, err)
        if found_out is None or found_err is None:
            if not self.alive:
                raise LinkLost(await self._why())
            words, printed = err.decode("utf-8", "replace"), out.decode("utf-8", "replace")
            raise LinkLost(explain(self._destination.host, words, printed))
        return Completed(found_out[1], found_out[0], found_err[0])

    def _session(self, script: str) -> list[str]:
        options = [word for option in SHARED_OPTIONS for word in ("-o", option)]
        return ["ssh", "-F", "/dev/null", "-S", self._socket, *options, "-T", "x", far_command(script)]

    async def stream(self, script: str) -> AsyncGenerator[list[bytes], None]:
        """The lines that ``script`` prints there, those that came together at a time, until it ends; at first,
        none: it has begun.

        Its standard input is open for as long as anybody reads here: its end is the script's sign to end.
        Raises LinkLost when the connection breaks, or when there is no session to spare (``give_way``).
        """
        if self._crowded is not None:
            raise LinkLost(self._crowded)
        token = secrets.token_hex(8)
        child = await Child.start(self._session(_leading(token, script)), PIPE)
        said = bytearray()
        listening = asyncio.create_task(_listen_to(child.err, said), name="what a stream complains of")
        self._streams.add(child)
        rest, begun = b"", False
        try:
            while True:
                reading = child.out.read(1 << 16)
                data = await (reading if begun else self._clock.timeout(reading, LOGIN_SECONDS))
                if not data:
                    break
                rest += data
                if not begun:
                    _, mark, after = rest.partition(f"\n{token}\n".encode())
                    begun, rest = bool(mark), after if mark else rest[-LONGEST_LINE:]
                    if begun:
                        yield []
                if begun:
                    *lines, rest = rest.split(b"\n")
                    if lines:
                        yield lines
                    if len(rest) > LONGEST_LINE:
                        rest = b""  # no line of any script of ours
        except TimeoutError:
            raise LinkLost(
                ConnectionFault(f"{self._destination.host}: no shell answered within {LOGIN_SECONDS:g} s")
            ) from None
        finally:
            self._streams.discard(child)
            await child.end(self._clock)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        if self._crowded is not None:
            raise LinkLost(self._crowded)
        if not self.alive:
            raise LinkLost(await self._why())
        if not begun:
            raise LinkLost(explain(self._destination.host, said.decode("utf-8", "replace")))

    def give_way(self, fault: ConnectionFault) -> None:
        """End all streams, and begin none any more: commands need their sessions."""
        self._crowded = fault
        for child in self._streams:
            child.kill()  # the master tells the other side

    async def close(self) -> None:
        self.broken = self.broken or ConnectionFault(f"{self._destination.host}: the connection was closed")
        await self._child.end(self._clock, GRACE_SECONDS)
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)


async def _listen_to(reader: asyncio.StreamReader, said: bytearray) -> None:
    """What comes, the last of it."""
    while data := await reader.read(4096):
        said[:] = (said + data)[-4000:]


def _leading(token: str, script: str) -> str:
    """After a mark, for login files print too, ``script`` as the leader of a process group that is its alone.

    Under sshd every command leads one; under a server or a login file's wrapper that knows nothing of that,
    setsid makes one.
    """
    return f"""\
printf '\\n{token}\\n'
cd /
read -r stat </proc/$$/stat
set -- ${{stat##*') '}}
lead=''
[ "$3" = $$ ] || lead=$(command -v setsid)
exec $lead sh -c "$(printf %b '{escape(script)}')" sh
"""


def _between_marks(token: str, script: str) -> str:
    """Login files print too; and without an end mark nobody knows whether the command ran to its end."""
    return f"""\
printf '\\n{token}\\n'; printf '\\n{token}\\n' >&2
cd /
(
{script}
)
code=$?
printf '\\n{token} %s\\n' "$code"; printf '\\n{token} %s\\n' "$code" >&2
"""


def _within_marks(token: str, data: bytes) -> tuple[bytes, int] | None:
    """What the command itself printed, and its exit code; None when that is not all there."""
    _, begun, rest = data.partition(f"\n{token}\n".encode())
    found, ended, code = rest.rpartition(f"\n{token} ".encode())
    if not begun or not ended or not re.fullmatch(rb"\d+\n", code):
        return None
    return found, int(code)
