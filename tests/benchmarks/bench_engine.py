"""The engine at work: how soon a free slot is used again, and what watching eight trials costs.

Real engine, real trials, real store; read from outside (files' times, /proc).
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from engine.series import SeriesChange
from engine.store import attempting
from tests.benchmarks import bench_parser
from tests.benchmarks.figures import Figure
from tests.engine.engine_process import query, start, until, wait
from tests.project_factory import make_project, runs

GAPS = 30
WATCH_SECONDS = 20.0
TICKS = os.sysconf("SC_CLK_TCK")


def run() -> list[Figure]:
    return [gap(), *watching(), parsing()]


def gap() -> Figure:
    """From a trial's exit file to the next trial's claim, with proposals waiting."""
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        folder = Path(name)
        project = make_project(folder, seconds=0.4)
        _edit(project, ("slots = 2", "slots = 1"), ("drafts = 1", "drafts = 4"))
        # Losses only: a keep would make the waiting proposals stale, and they would have to be drafted anew.
        _edit(folder, ("if number % 2", "if False"), file="propose.py")
        engine = start(project, experiments=10_000)
        until(lambda: len(runs(folder)) >= 2 * (GAPS + 4), f"{GAPS} trials", 240)
        engine.send_signal(signal.SIGTERM)
        wait(engine, project)
        attempts = sorted((project / ".ratchet" / "trials").glob("*/attempt-*/control"), key=_claimed)
        gaps = [
            1000 * (_claimed(after) - (before / "exit").stat().st_mtime)
            for before, after in itertools.pairwise(attempts)
            if (before / "exit").exists()
        ][3:]  # the first ones wait for the first proposals, not for the engine
    gaps.sort()
    p90 = gaps[int(0.9 * (len(gaps) - 1))]
    print(f"  gaps (ms): n {len(gaps)}, p50 {statistics.median(gaps):.0f}, p90 {p90:.0f}, max {gaps[-1]:.0f}")
    return Figure("trial's end to next start, ready proposals (p90)", "<= 100 ms", p90, "ms", p90 <= 100)


def _claimed(control: Path) -> float:
    pid = control / "pid"
    return pid.stat().st_mtime if pid.exists() else float("inf")


def watching() -> list[Figure]:
    """Engine CPU while 8 trials print 10 points a second each."""
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        folder = Path(name)
        project = make_project(folder, judge='mode = "confirmed"\ncalibrate_seeds = 8')
        _edit(project, ("slots = 2", "slots = 8"), ("timeout_seconds = 30", "timeout_seconds = 300"))
        _edit(project, ("train_seconds = 5", "train_seconds = 60"), file="ratchet.toml")
        _edit(project, ("range(5)", "range(600)"), ("SECONDS / 5", "0.1"), file="train.py")
        engine = start(project, experiments=1)
        until(lambda: len(runs(folder)) >= 8, "8 trials at once")
        time.sleep(3)
        before, began = _cpu(engine.pid), time.monotonic()
        points = _points(project)
        time.sleep(WATCH_SECONDS)
        share = 100 * (_cpu(engine.pid) - before) / (time.monotonic() - began)
        rate = (_points(project) - points) / WATCH_SECONDS
        engine.send_signal(signal.SIGTERM)
        wait(engine, project)
    print(f"  {rate:.0f} points a second were stored meanwhile")
    return [Figure("engine CPU, 8 trials at 10 points/s each", "<= 5 % of a core", share, "%", share <= 5)]


def parsing() -> Figure:
    """Log bytes through parser and decimator to rows committed in a real store."""
    from engine.clock import RealClock
    from engine.store.core import Store

    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        store = Store(Path(name) / "store.db", RealClock())
        store.take_over("host", "boot", os.getpid())

        def commit(changes: list[SeriesChange]) -> None:
            store.write(attempting.add_points, 1, changes)

        figures = bench_parser.run(commit)
        store.close()
    slowest = min(figures, key=lambda f: f.value)
    for figure in figures:
        print(f"  {figure.name}: {figure.value:,.0f} points/s")
    return Figure(
        "log bytes to committed, decimated rows (slowest format)",
        ">= 100k points/s",
        slowest.value,
        "points/s",
        slowest.value >= 100_000,
    )


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _points(project: Path) -> int:
    rows = query(project, "SELECT COUNT(*) FROM point")
    return int(rows[0][0])


def _edit(project: Path, *changes: tuple[str, str], file: str = "ratchet.toml") -> None:
    path = project / file
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)


def timed(work: Callable[[], object], times: int) -> float:
    """Median seconds of ``times`` calls."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)
