"""Fixtures for trials on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from runner_bench import Bench, put_down
from sshd import Sshd, serve

from engine.clock import RealClock
from engine.runners.local import LocalHost


@pytest.fixture(scope="session")
def running_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One server for all tests that neither stop nor change it."""
    for server in serve(tmp_path_factory.mktemp("sshd")):
        server.start()
        yield server


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server of the test's own, not started yet."""
    yield from serve(tmp_path / "sshd")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Attempts under this machine's best rung."""
    host = LocalHost("local", tmp_path, RealClock(), lock_directory=str(tmp_path / "locks"))
    await host.open()
    bench = Bench(host, tmp_path)
    yield bench
    await put_down(bench)
    await host.close()


@pytest.fixture(params=["best rung", "sweep"])
async def each_rung(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    """Attempts under the best rung of this machine, then under none but the sweep."""
    if request.param == "sweep":
        bench.wrap = ()
    return bench
