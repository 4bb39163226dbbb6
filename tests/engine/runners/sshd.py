"""A real sshd on 127.0.0.1 with keys of its own, and a proxy before it that can be cut.

``Network`` has proxies in a thread of its own, for tests that wait for real engines.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

SSHD = "/usr/sbin/sshd"
START_SECONDS = 20.0
HOST = "box"
LOGGED_IN_BYTES = 15_000  # through a proxy, from which on a connection has certainly come to work

T = TypeVar("T")


class Sshd:
    """One server under ``folder``. ``login`` is sh text run before each session's command, as a login file is.

    ``boot_id``: what its sessions see as the machine's boot (as root, in a mount namespace of its own).
    ``mounts``: sh text that is run in that namespace, to hide a program or to fill a disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.port = 0
        self.login = ""
        self.max_sessions = 10
        self.boot_id = ""
        self.mounts = ""
        self._process: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True)
        for name in ("host_key", "user_key", "other_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.know("host_key")

    def know(self, key: str) -> None:
        """What the client believes the host's key to be."""
        self.known_hosts.write_text(f"{HOST} {(self.folder / f'{key}.pub').read_text()}")

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def client(self, port: int | None = None, *extra: str) -> tuple[str, ...]:
        """ssh's options before the name ``HOST``: a configuration of the test's own and nothing of the user's."""
        path = self.folder / f"client-{port or self.port}-{abs(hash(extra))}"
        lines = [
            *extra,
            f"Host {HOST} far",
            "HostName 127.0.0.1",
            f"Port {port or self.port}",
            f"User {getpass.getuser()}",
            f"HostKeyAlias {HOST}",
            f'UserKnownHostsFile "{self.known_hosts}"',
            "GlobalKnownHostsFile none",
            f'IdentityFile "{self.folder / "user_key"}"',
            "IdentitiesOnly yes",
            "IdentityAgent none",
            "PreferredAuthentications publickey",
        ]
        path.write_text("\n".join(lines) + "\n")
        return ("-F", str(path))

    def start(self) -> None:
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        (self.folder / "login.sh").write_text(f'{self.login}\nexec "$SHELL" -c "$SSH_ORIGINAL_COMMAND"\n')
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder / 'host_key'}",
            "PidFile none",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            f"MaxSessions {self.max_sessions}",
            "MaxStartups 100",
            f"SetEnv HOME={self.home}",
            *([f"ForceCommand sh {self.folder / 'login.sh'}"] if self.login else []),
        ]
        conf = self.folder / "sshd_config"
        conf.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            [*self._privately(), SSHD, "-D", "-e", "-f", str(conf)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            start_new_session=True,
        )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self.folder / "log").read_text(errors="replace")
                self.stop()
                pytest.skip(f"sshd does not start here (`make test-servers` sets it up): {said[-300:]}")
            time.sleep(0.02)
        assert listening_addresses(self._process.pid) == {f"127.0.0.1:{self.port}"}, "loopback and nothing else"

    def _privately(self) -> list[str]:
        """As root, sshd insists on /run/sshd: in a mount namespace of its own, this machine's /run stays as it is."""
        if os.geteuid() != 0:
            if self.mounts:
                pytest.skip("to hide a program from sshd needs root: `make test-servers` as root")
            return []
        script = "set -e; mount -t tmpfs none /run; mkdir -m 755 /run/sshd\n"
        if self.boot_id:
            fake = self.folder / "boot_id"
            fake.write_text(self.boot_id + "\n")
            script += f"mount --bind '{fake}' /proc/sys/kernel/random/boot_id\n"
        script += self.mounts and f"{self.mounts}\n"
        private = ["unshare", "--mount", "sh", "-c"]
        if subprocess.run([*private, script], capture_output=True, check=False).returncode == 0:
            return [*private, f'{script}exec "$@"', "sh"]
        if self.boot_id or self.mounts or not Path("/run/sshd").is_dir():
            pytest.skip("sshd needs /run/sshd, and a private mount is not allowed: `make test-servers` as root")
        return []

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """The server and every connection of it, as when the machine's network goes."""
        if self._process is None:
            return
        found = [self._process.pid]
        for pid in found:  # grows: descendants that are sshd's own, not what users left running
            for task in Path("/proc", str(pid), "task").glob("*/children"):
                try:
                    children = task.read_text().split()
                except OSError:
                    continue
                found += [int(child) for child in children if _name(int(child)) == "sshd"]
        for pid in found:
            if _name(pid) in ("sshd", "sh", "unshare"):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self._process.wait()
        self._process = None


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def listening_addresses(pid: int) -> set[str]:
    """Where a process accepts TCP connections, from /proc."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(entry.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, _, port = fields[1].partition(":")
                plain = socket.inet_ntoa(bytes.fromhex(address)[::-1]) if table == "tcp" else address
                found.add(f"{plain}:{int(port, 16)}")
    return found


def serve(folder: Path) -> Iterator[Sshd]:
    """A server that is not started yet; certainly ended after use. Skips where there is none."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("no OpenSSH server and client here: `make test-servers` as root")
    if Path(pwd.getpwuid(os.getuid()).pw_shell).name in ("nologin", "false", ""):
        pytest.skip("the user who runs the tests has no login shell")
    server = Sshd(folder)
    try:
        yield server
    finally:
        server.stop()


class Proxy:
    """Between ssh and sshd, on a port of its own: cuts all connections when told, or refuses them."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.cuts = 0
        self.refusals = 0  # times that it was closed for a while
        self.bytes = 0
        self.frozen = False
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._open |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                self.bytes += len(data)
                if not self.frozen:
                    sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
            self._open.discard(sink)

    @property
    def connections(self) -> int:
        return len(self._open) // 2

    def cut(self) -> None:
        """Break every connection, without a word."""
        self.cuts += bool(self._open)
        for writer in tuple(self._open):
            writer.transport.abort()
        self._open.clear()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def harass(self, chance: random.Random, seconds: tuple[float, float] = (1.0, 4.0)) -> None:
        """Cut all connections every few ``seconds``, for ever; now and then refuse them for as long.

        One cut in eight comes without regard to how far the connection is. The others let it begin its work,
        so that the slowest machine gets on.
        """
        while True:
            before, patient = self.bytes, chance.random() > 1 / 8
            await asyncio.sleep(chance.uniform(*seconds))
            while patient and self.bytes - before < LOGGED_IN_BYTES:
                await asyncio.sleep(0.05)
            match chance.randrange(6):
                case 0:
                    self.refusals += 1
                    await self.close()
                    try:
                        await asyncio.sleep(chance.uniform(*seconds))
                    finally:
                        await self.start()
                case 1:  # what is said goes nowhere, and nobody is told
                    self.frozen = True
                    try:
                        await asyncio.sleep(chance.uniform(0.1, 1.0))
                    finally:
                        self.cut()
                        self.frozen = False
                case _:
                    self.cut()


class Network:
    """Proxies by the ports behind them, in a thread of their own: the test itself may block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._proxies: list[Proxy] = []
        self._troubles: list[asyncio.Task[None]] = []

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    def way_to(self, port: int) -> Proxy:
        """A new proxy, open."""
        proxy = Proxy(port)
        self._do(proxy.start())
        self._proxies.append(proxy)
        return proxy

    def close(self, proxy: Proxy) -> None:
        """Cut it, and refuse whoever comes."""
        self._do(proxy.close())

    def open(self, proxy: Proxy) -> None:
        """On the same port as before."""
        self._do(proxy.start())

    def trouble(self, seed: int) -> None:
        """Every proxy is cut again and again, each at its own moments, until ``calm``."""

        async def begin() -> None:
            for number, proxy in enumerate(self._proxies):
                chance = random.Random(f"{seed}/{number}")
                self._troubles.append(asyncio.create_task(proxy.harass(chance)))

        self._do(begin())

    def calm(self) -> None:
        async def end() -> None:
            for task in self._troubles:
                assert not task.done(), f"nobody has cut any more: {task.exception()}"
                task.cancel()
            await asyncio.gather(*self._troubles, return_exceptions=True)
            self._troubles.clear()

        self._do(end())

    def end(self) -> None:
        with suppress(Exception):
            self.calm()
        for proxy in self._proxies:
            with suppress(Exception):
                self._do(proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()
