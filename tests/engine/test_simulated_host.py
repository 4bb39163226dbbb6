"""The simulated host keeps what ``Host`` promises, as far as it can run anything: else the conductor's tests lie."""

from __future__ import annotations

import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.clock import VirtualClock
from engine.runners import AttemptPlan, Exited, FollowItem, LogChunk, Lost, Started, Step, StepStarted
from engine.types import Allocation
from tests.engine.simulated_host import Ending, Execution, Machine, SimulatedHost

LOG = ((0.25, b"one\n"), (0.5, b"two\n"), (1.0, b"three\n"))
WHOLE = b"one\ntwo\nthree\n"


class Bench:
    def __init__(self, folder: Path, reason: str = "finished") -> None:
        self.clock = VirtualClock()
        self.machine = Machine(self.clock, lambda execution: Ending(reason, 100.0, LOG))
        self.host = SimulatedHost(self.machine, 2)
        (folder / "train.py").write_text("x = 1\n")
        self.archive = str(folder / "a.tar")
        with tarfile.open(self.archive, "w") as tar:
            tar.add(folder / "train.py", "train.py")

    async def plan(self, trial: int = 7, attempt: int = 1) -> AttemptPlan:
        directory = f"/trials/{trial}/attempt-{attempt}"
        await self.host.stage(directory, self.archive, {})
        allocation = Allocation(self.host.name, "cpu0")
        return AttemptPlan(directory, "token", (Step("train", "x", 600.0),), {"RATCHET_SEED": "5"}, allocation)

    async def follow(self, directory: str, offset: int = 0) -> list[FollowItem]:
        return [item async for item in self.host.follow(directory, offset)]


def log_of(items: list[FollowItem]) -> bytes:
    return b"".join(item.data for item in items if isinstance(item, LogChunk))


async def play(bench: Bench, work: Callable[[], Awaitable[None]]) -> None:
    await bench.clock.run(work())


async def test_an_attempt_runs_once_and_is_followed_from_any_offset(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def work() -> None:
        plan = await bench.plan()
        for _ in range(3):
            await bench.host.launch(plan)
        items = await bench.follow(plan.directory)
        assert [type(i) for i in items if not isinstance(i, LogChunk)] == [Started, StepStarted, Exited]
        assert log_of(items) == WHOLE and bench.clock.monotonic() == pytest.approx(100.0)
        await bench.host.launch(plan)
        for offset in range(len(WHOLE) + 1):
            assert log_of(await bench.follow(plan.directory, offset)) == WHOLE[offset:]
        assert bench.clock.monotonic() == pytest.approx(100.0), "what has ended is told at once"

    await play(bench, work)
    assert bench.machine.starts == [Execution({"train.py": "x = 1\n"}, 5, 7, 1, 0.0, "simulated")]


async def test_cancelling_wins_the_claim_before_the_start_and_ends_a_run_after_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def work() -> None:
        never = await bench.plan(1)
        assert await bench.host.cancel(never.directory) is True
        await bench.host.launch(never)
        assert await bench.follow(never.directory) == [Exited("cancelled", ())]
        running = await bench.plan(2)
        await bench.host.launch(running)
        await bench.clock.sleep(60.0)
        assert await bench.host.cancel(running.directory) is False
        items = await bench.follow(running.directory)
        end = items[-1]
        assert isinstance(end, Exited) and (end.reason, end.steps[0].seconds) == ("cancelled", 60.0)
        assert log_of(items) == b"one\ntwo\n" and await bench.host.cancel(running.directory) is False

    await play(bench, work)
    assert [s.trial for s in bench.machine.starts] == [2]


@pytest.mark.parametrize(("reason", "end"), [("lost", Lost), ("busy", Exited), ("failed", Exited)])
async def test_scripted_ends_come_as_the_host_tells_them(tmp_path: Path, reason: str, end: type) -> None:
    bench = Bench(tmp_path, reason)

    async def work() -> None:
        plan = await bench.plan()
        await bench.host.launch(plan)
        last = (await bench.follow(plan.directory))[-1]
        assert isinstance(last, end)
        if isinstance(last, Exited):
            assert last.reason == reason and bool(last.steps) == (reason == "failed")

    await play(bench, work)


async def test_allocations_are_held_until_released_and_adopted_by_the_next_engine(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first, second = bench.host.acquire(1), bench.host.acquire(2)
    assert first is not None and second is not None and bench.host.acquire(3) is None
    assert bench.host.acquire(1) == first
    after = SimulatedHost(bench.machine, 2)
    after.adopt(1, first)
    assert after.acquire(3) is not None and after.acquire(4) is None
