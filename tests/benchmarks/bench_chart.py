"""Charts: from curves to built lines in the thread, and what a move of the cursor costs the message path."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from console import charting
from console.charting import ChartView, Mark
from console.staircase import RatchetView, Step, Tried, summary
from console.state import Curve, State, View
from console.widgets import metric_chart, ratchet_chart
from console.widgets.chart import Chart, Traces, build
from console.widgets.lines import Scene, strip_of
from tests.benchmarks.figures import Figure

POINTS = 10_000
EXPERIMENTS = 10_000
PANE = (120, 32)
ROUNDS = 15


def run() -> list[Figure]:
    return [*loss_chart(), staircase()]


def loss_chart() -> list[Figure]:
    state = State(live=_curve(1), reference=_curve(2), marked=(_curve(3, number=9),))
    view = View(marks=(Mark(9, 0),), chart=ChartView(smoothing=0.97))
    wish = metric_chart.wish(state, view, *PANE)
    fresh = _milliseconds(lambda: build(wish, Traces()))
    traces = Traces()
    chart = build(wish, traces)
    assert isinstance(chart, Chart)
    zooms = [replace(view.chart, window=(100.0 * i, 5000.0 + 100 * i)) for i in range(ROUNDS)]
    near = iter(zooms * 2)
    zoomed = _milliseconds(lambda: build(replace(wish, view=next(near)), traces))
    moved = charting.move_cursor(view.chart, chart.span, chart.plot.columns, -1)

    def move() -> None:
        nonlocal moved
        moved = charting.move_cursor(moved, chart.span, chart.plot.columns, -1)
        scene = Scene(state, replace(view, chart=moved), 0.0, 1, chart=chart)
        for line in metric_chart.body(scene, PANE[0] - 2, PANE[1] - 1):
            strip_of(line, PANE[0])

    cursor = _milliseconds(move)
    what = f"3 curves x {POINTS:,} points, smoothed, {PANE[0]}x{PANE[1]}"
    return [
        Figure(f"chart built in its thread: {what} (median)", "<= 40 ms", fresh, "ms", fresh <= 40),
        Figure("the same zoomed, curves known (median)", "<= 40 ms", zoomed, "ms", zoomed <= 40),
        Figure("the chart's cursor moved and painted (median)", "<= 2 ms", cursor, "ms", cursor <= 2),
    ]


def staircase() -> Figure:
    chance = random.Random(1)
    points = tuple(
        Tried(n, 60.0 * n, None if n % 13 == 0 else 3.2 - n / 2e4 + abs(chance.gauss(0, 0.02)), "crash" if n % 13 == 0 else "discard")
        for n in range(1, EXPERIMENTS + 1)
    )  # fmt: skip
    steps = tuple(Step(n, 60.0 * n, 3.2 - n / 2e4, 0.001) for n in range(50, EXPERIMENTS, 50))
    view = RatchetView(points, steps, baseline=3.2)
    size = ratchet_chart.size_of(*PANE)
    built = _milliseconds(lambda: ratchet_chart.build(view, *size))
    summary(view, device_seconds=1.0, active_seconds=1.0)
    return Figure(f"staircase of {EXPERIMENTS:,} experiments built (median)", "<= 50 ms", built, "ms", built <= 50)


def _curve(trial: int, number: int | None = None) -> Curve:
    chance = random.Random(trial)
    points = tuple(
        (float(i), 3 + 4 * math.exp(-i / 500) + trial / 20 + chance.gauss(0, 0.05)) for i in range(POINTS)
    )
    return Curve(trial, f"#{trial}", "train_loss", "step", points, budget_steps=float(POINTS), number=number)


def _milliseconds(work: Callable[[], object]) -> float:
    work()
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)
