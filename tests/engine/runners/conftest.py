"""Fixtures for trials on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from runner_bench import Bench, put_down

from engine.clock import RealClock
from engine.runners.local import LocalHost


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
