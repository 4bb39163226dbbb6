"""Log bytes -> points -> decimated rows (-> committed rows, when the caller gives ``commit``).

Run by itself: ``python -m tests.benchmarks.bench_parser``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from engine.metrics import LogParser
from engine.series import POINTS_LIMIT, Curves, SeriesChange
from tests.benchmarks.figures import Figure, print_table

GOAL = 100_000  # points a second, on one core
CHUNK = 16 << 10  # bytes, as a follower reads a log
TAKE_EVERY = 64  # chunks between two writes to the store

Commit = Callable[[list[SeriesChange]], None]


def run(commit: Commit | None = None, lines: int = 60_000) -> list[Figure]:
    """Points a second for each kind of log, the best of three passes (other work shares the machine)."""
    return [
        _figure(name, log, commit)
        for name, log in (
            ("autoresearch progress lines", autoresearch_log(lines // 4)),
            ("METRIC lines", metric_log(lines)),
            ("nanoGPT lines", nanogpt_log(lines // 2)),
            ("JSON lines", json_log(lines // 3)),
        )
    ]


def autoresearch_log(lines: int) -> bytes:
    """One long line of ``\\r`` updates, as train.py prints them, and the final block."""
    steps = (
        f"\rstep {i:05d} ({100 * i / lines:.1f}%) | loss: {_loss(i):.6f} | lrm: {1 - i / lines:.2f} | "
        f"dt: {310 + i % 20}ms | tok/sec: {1_600_000 + i % 9000:,} | mfu: {40 + i % 3 / 10:.1f}% | "
        f"epoch: 1 | remaining: {300 - 300 * i // lines}s    "
        for i in range(lines)
    )
    return ("".join(steps) + "\n---\nval_bpb:          0.997900\npeak_vram_mb:     45060.2\n").encode()


def metric_log(lines: int) -> bytes:
    return "".join(f"METRIC loss={_loss(i):.6f} step={i}\n" for i in range(lines)).encode()


def nanogpt_log(lines: int) -> bytes:
    return "".join(_nanogpt(lines)).encode()


def json_log(lines: int) -> bytes:
    return "".join(
        f'{{"step": {i}, "loss": {_loss(i)!r}, "lr": {3e-4 * (1 - i / lines)!r}, "grad_norm": 1.25}}\n'
        for i in range(lines)
    ).encode()


def _nanogpt(lines: int) -> Iterator[str]:
    for i in range(lines):
        if i % 250 == 0:
            yield f"step {i}: train loss {_loss(i):.4f}, val loss {_loss(i) + 0.1:.4f}\n"
        yield f"iter {i}: loss {_loss(i):.4f}, time {25 + i % 5:.2f}ms, mfu {31 + i % 3:.2f}%\n"


def _loss(i: int) -> float:
    return 3.0 + 5.0 / math.sqrt(i + 1) + 0.1 * math.sin(i * 12.9898)


def _figure(name: str, log: bytes, commit: Commit | None) -> Figure:
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        points = _follow(log, commit)
        best = max(best, points / (time.perf_counter() - started))
    path = "committed" if commit else "decimated"
    return Figure(f"{name} to {path} rows", f">= {GOAL:,} points/s", best, "points/s", best >= GOAL)


def _follow(log: bytes, commit: Commit | None) -> int:
    """What the engine does with a trial's log; returns the number of points."""
    parser, curves, count = LogParser("val_bpb"), Curves(), 0
    for i, start in enumerate(range(0, len(log), CHUNK)):
        points = parser.feed(log[start : start + CHUNK], at=float(i))
        count += len(points)
        curves.add(points)
        if i % TAKE_EVERY == 0:
            changes = curves.take()
            if commit and changes:
                commit(changes)
    changes = curves.take(final=True)
    if commit and changes:
        commit(changes)
    parser.finish()
    # A figure for work that was not done would be worthless.
    assert count > 0 and all(len(curves.rows(name)) <= POINTS_LIMIT for name in curves)
    return count


if __name__ == "__main__":
    print_table(run())
