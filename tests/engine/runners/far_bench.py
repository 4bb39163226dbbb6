"""A bench on a host behind the tests' sshd: RemoteHost over SshTransport, put down at the end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from runner_bench import Bench, put_down
from sshd import HOST, Sshd

from engine.clock import RealClock
from engine.runners.remote import RemoteHost
from engine.runners.ssh import SshTransport

CLOCK = RealClock()


@asynccontextmanager
async def connected(server: Sshd, root: Path | str, port: int | None = None) -> AsyncIterator[Bench]:
    """A bench on the server's machine (this one), through ``port`` instead of the server's own."""
    transport = SshTransport(HOST, CLOCK, server.client(port), random.Random(7))
    host = RemoteHost("there", transport, str(root), CLOCK)
    try:
        await host.open()
        bench = Bench(host, Path(host.directory))
        try:
            yield bench
        finally:
            await put_down(bench)
    finally:
        await host.close()
