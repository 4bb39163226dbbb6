"""Time is injected: what the virtual clock promises, and that nothing in the engine goes round it."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine import clock as clock_module
from engine.clock import RealClock, VirtualClock

ENGINE = Path(engine.__file__).parent
FORBIDDEN = {
    "time": {
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "sleep",
        "clock_gettime",
    },
    "asyncio": {"sleep", "wait_for", "timeout", "timeout_at"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def violations(source: str) -> Iterator[str]:
    """Calls of FORBIDDEN by any of the names under which a module may have got at them."""
    tree = ast.parse(source)
    names: dict[str, str] = {}  # local name -> time | asyncio | datetime | date
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name: a.name for a in node.names if a.name in FORBIDDEN}
        elif isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN:
            for alias in node.names:
                if node.module == "datetime" and alias.name in FORBIDDEN:
                    names[alias.asname or alias.name] = alias.name
                elif alias.name in FORBIDDEN[node.module]:
                    yield f"{node.lineno}: from {node.module} import {alias.name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        module = names.get(name, name if isinstance(owner, ast.Attribute) else "")
        if not isinstance(owner, ast.Attribute) and name not in names:
            continue
        if node.attr in FORBIDDEN.get(module, ()):
            yield f"{node.lineno}: {name}.{node.attr}"


def test_nothing_in_the_engine_reads_time_or_sleeps_but_through_the_clock() -> None:
    found = [
        f"{path.relative_to(ENGINE)}:{what}"
        for path in sorted(ENGINE.rglob("*.py"))
        if path != Path(clock_module.__file__)
        for what in violations(path.read_text())
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\nt.monotonic()",
        "from time import sleep",
        "import asyncio\nasync def f(): await asyncio.sleep(1)",
        "import asyncio as aio\nw = aio.wait_for",
        "from asyncio import timeout",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime as dt\ndt.utcnow()",
        "import datetime as d\nd.date.today()",
    ],
)
def test_the_lint_sees_every_way_round_the_clock(source: str) -> None:
    assert list(violations(source))


def test_the_lint_lets_the_clock_itself_and_conversions_pass() -> None:
    fine = "from datetime import datetime, UTC\nimport time\nclock.sleep(1)\ndatetime.fromtimestamp(0, UTC)\ntime.strftime('')"
    assert not list(violations(fine))


# --- the virtual clock ------------------------------------------------------------------------------


async def test_sleepers_wake_in_order_of_time_then_of_asking() -> None:
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async def work() -> None:
        await asyncio.gather(sleeper("late", 7200), sleeper("b", 60), sleeper("c", 60), sleeper("a", 0.25))

    start = clock.now()
    await clock.run(work())
    assert woken == [("a", 0.25), ("b", 60.0), ("c", 60.0), ("late", 7200.0)]
    assert clock.now() == start + 7200


async def test_no_time_passes_while_anything_can_still_run() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    async def chain() -> None:
        for _ in range(500):  # far more turns of the loop than any fixed patience
            await asyncio.sleep(0)
        seen.append(clock.monotonic())

    async def work() -> None:
        await asyncio.gather(chain(), clock.sleep(1000))

    await clock.run(work())
    assert seen == [0.0]


async def test_the_smallest_wait_still_moves_time() -> None:
    clock = VirtualClock()

    async def work() -> float:
        await clock.sleep(3600)
        before = clock.monotonic()
        await clock.sleep(1e-6)
        return clock.monotonic() - before

    assert await clock.run(work()) == pytest.approx(1e-6, rel=1e-3)


async def test_a_cancelled_sleeper_holds_nobody_up() -> None:
    clock = VirtualClock()

    async def work() -> float:
        task = asyncio.create_task(clock.sleep(1e9))
        await clock.sleep(1)
        task.cancel()
        await clock.sleep(1)
        return clock.monotonic()

    assert await clock.run(work()) == 2.0


@pytest.mark.parametrize("kind", [VirtualClock, RealClock])
async def test_a_timeout_cancels_the_work_and_lets_it_clean_up_first(kind: type[VirtualClock | RealClock]) -> None:
    clock = kind()
    order: list[str] = []

    async def endless() -> None:
        try:
            await clock.sleep(1e6)
        finally:
            await asyncio.sleep(0)
            order.append("cleaned")

    async def work() -> None:
        assert await clock.timeout(answer(), 0.05) == 42
        with pytest.raises(TimeoutError):
            await clock.timeout(endless(), 0.05)
        order.append("told")
        with pytest.raises(ZeroDivisionError):
            await clock.timeout(broken(), 0.05)

    async def answer() -> int:
        return 42

    async def broken() -> None:
        raise ZeroDivisionError

    await (clock.run(work()) if isinstance(clock, VirtualClock) else work())
    assert order == ["cleaned", "told"]


async def test_what_never_waits_and_what_waits_for_ever_are_named_not_endured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clock_module, "_HOT_TURNS", 1000)
    monkeypatch.setattr(clock_module, "_STUCK_SECONDS", 0.02)

    async def hot() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="hot loop"):
        await VirtualClock().run(hot())
    with pytest.raises(RuntimeError, match="stuck"):
        await VirtualClock().run(asyncio.Event().wait())


async def test_an_error_in_the_work_is_the_runs_own() -> None:
    async def broken() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await VirtualClock().run(broken())


async def test_advancing_by_hand_wakes_who_is_due_and_nobody_else() -> None:
    clock = VirtualClock()
    tasks = [asyncio.create_task(clock.sleep(s)) for s in (1.0, 2.0, 3.0)]
    await asyncio.sleep(0)
    clock.advance(2.0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [t.done() for t in tasks] == [True, True, False]
    tasks[2].cancel()
