"""The ratchet's staircase: true to the keeps, readable beside the worst discard, and cheap with ten thousand."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.staircase import (
    RatchetView,
    Step,
    Summary,
    Tried,
    corners,
    extent,
    limits,
    move,
    staircase,
    summary,
    toggle_by,
    under_cursor,
    x_of,
)
from console.widgets import ratchet_chart
from console.widgets.lines import Line, strip_of
from console.widgets.ratchet_chart import build, caption, key_of, paint, size_of, spoken
from engine.store.rows import KeepRow
from tests.console.scenes import EXPERIMENT, NOW

EVIL = "\x1b]0;owned\x07\x1b[2J[bold red]x[/]\x9b31m\r\n\t漢字\u202e" * 3
BEGAN = NOW - 10_000


def tried(number: int, score: float | None, verdict: str = "discard", **more: object) -> Tried:
    return replace(Tried(number, BEGAN + 100 * number, score, verdict, f"title {number}"), **more)  # type: ignore[arg-type]


def campaign() -> RatchetView:
    """Two keeps of six, one crash: 3.2 -> 3.1 -> 3.0."""
    points = (
        tried(1, 3.25), tried(2, 3.1, "keep"), tried(3, None, "crash"), tried(4, 3.15, effect=-0.05),
        tried(5, 3.0, "keep"), tried(6, 3.05),
    )  # fmt: skip
    steps = (
        Step(2, BEGAN + 200, 3.1, 0.1, "wider"), Step(5, BEGAN + 500, 3.0, 0.1, "deeper"),
    )  # fmt: skip
    return RatchetView(points, steps, baseline=3.2, began=BEGAN)


def text(lines: list[Line] | tuple[Line, ...]) -> str:
    return "\n".join("".join(t for t, _ in content.spans) for content in lines)


# --- from the store's rows ----------------------------------------------------------------------------


def test_the_staircase_goes_through_what_was_measured_when_it_was_kept() -> None:
    rows = [
        replace(EXPERIMENT, number=n, score=s, verdict=v, settled_at=None if v is None else NOW + n)
        for n, s, v in ((3, 3.0, "keep"), (1, 3.3, "discard"), (2, None, "cancelled"), (4, None, None), (5, None, "crash"))
    ]  # fmt: skip
    keeps = [
        KeepRow(3, "wider", "a", "b", 0.2, 3.0, NOW),
        KeepRow(
            6, "merged", "b", "c", 0.1, None, NOW + 9
        ),  # not run again: the step before, bettered by its effect
        KeepRow(7, "unknown", "c", "d", None, None, NOW + 10),
    ]
    view = staircase(rows, keeps, goal="minimize", baseline=3.2, began=BEGAN)
    assert [p.number for p in view.points] == [1, 3, 5]
    assert [(s.number, s.score, s.gain) for s in view.steps] == [
        (3, 3.0, pytest.approx(0.2)), (6, pytest.approx(2.9), pytest.approx(0.1)),
    ]  # fmt: skip
    up = staircase(rows, keeps[:1], goal="maximize", baseline=2.5, began=BEGAN)
    assert up.steps[0].gain == pytest.approx(0.5)


def test_a_campaign_without_a_baseline_or_with_numbers_that_are_none_still_stands() -> None:
    rows = [replace(EXPERIMENT, number=1, score=math.nan, effect=math.inf, verdict="discard")]
    view = staircase(rows, [], goal="minimize", baseline=None, began=BEGAN)
    assert view.points[0].score is None and limits(view) is None and corners(view) == []
    assert build(view, 80, 20) is None
    assert "not measured yet" in text([spoken(summary(view, device_seconds=0, active_seconds=0), "loss", 80)])


# --- where things stand -------------------------------------------------------------------------------


def test_the_stairs_are_level_between_keeps_and_reach_the_newest_try() -> None:
    assert corners(campaign()) == [(0, 3.2), (2, 3.2), (2, 3.1), (5, 3.1), (5, 3.0), (6, 3.0)]
    timed = toggle_by(campaign())
    assert [x for x, _ in corners(timed)] == [0, 200, 200, 500, 500, 600] and extent(timed) == (0.0, 600.0)
    assert toggle_by(timed) == campaign() and x_of(campaign(), campaign().steps[0]) == 2.0


def test_one_terrible_discard_does_not_press_the_stairs_flat() -> None:
    view = campaign()
    far = replace(view, points=(*view.points, tried(7, 500.0), tried(8, -80.0)))
    low, high = limits(far) or (0.0, 0.0)
    assert 2.7 < low < 3.0 and 3.2 < high < 3.5
    plot = build(far, 80, 20)
    assert plot is not None and "2 off the chart" in text(plot.lines)


@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9) | st.none(), st.booleans()), max_size=40),
    st.none() | st.floats(-1e9, 1e9),
    st.sampled_from(["experiments", "time"]),
)
@settings(max_examples=60, deadline=None)
def test_any_campaign_can_be_drawn(
    tries: list[tuple[float | None, bool]], baseline: float | None, by: str
) -> None:
    points = tuple(
        tried(i, s, "keep" if k else "crash" if s is None else "discard") for i, (s, k) in enumerate(tries, 1)
    )
    steps = tuple(
        Step(p.number, p.at, p.score, 0.1)
        for p, (_, k) in zip(points, tries, strict=True)
        if k and p.score is not None
    )
    view = RatchetView(points, steps, by, None, "minimize", baseline, BEGAN)
    found = corners(view)
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    plot = build(view, 50, 12)
    for at in (view, move(view, 1), move(view, -3)):
        lines = paint(at, plot, summary(at, device_seconds=1, active_seconds=1), "loss", 50, 14)
        assert len(lines) == 14 and all(strip_of(content, 50).cell_length == 50 for content in lines)


# --- the cursor ---------------------------------------------------------------------------------------


def test_the_cursor_begins_at_the_newest_keep_and_moves_by_experiment_or_keep() -> None:
    view = move(campaign(), 1)
    assert view.cursor == 5 and move(view, 1).cursor == 6 and move(view, 99).cursor == 6
    assert move(view, -1).cursor == 4 and move(view, -1, keeps=True).cursor == 2
    between = replace(view, cursor=3)
    assert move(between, 1, keeps=True).cursor == 5 and move(between, -1, keeps=True).cursor == 2
    assert move(RatchetView((), ()), 1).cursor is None
    only = replace(campaign(), steps=())
    assert move(only, 1).cursor == 6


def test_under_the_cursor_stands_the_number_to_open_and_the_change_behind_the_step() -> None:
    view = replace(campaign(), cursor=5)
    at = under_cursor(view)
    assert isinstance(at, Step) and at.number == 5
    assert text([caption(view, 80)]) == "▲ #5 deeper  3.0000, better by 0.100"
    assert text([caption(replace(view, cursor=4), 80)]) == "#4 discard title 4  3.1500, effect -0.05"
    assert "#3 crash" in text([caption(replace(view, cursor=3), 80)])
    assert under_cursor(replace(view, cursor=77)) is None and "look at" in text([caption(campaign(), 80)])


def test_the_cursor_is_drawn_without_plotext(monkeypatch: pytest.MonkeyPatch) -> None:
    view = campaign()
    plot = build(view, *size_of(80, 20))
    monkeypatch.setattr("console.widgets.plotting._axes", None)
    of = summary(view, device_seconds=0, active_seconds=0)
    moved = replace(view, cursor=4)
    assert key_of(view, 80, 20) == key_of(moved, 80, 20)
    assert text(paint(moved, plot, of, "m", 80, 20)).count("│") > text(paint(view, plot, of, "m", 80, 20)).count(
        "│"
    )


# --- what it came to ----------------------------------------------------------------------------------


def test_the_summary_adds_up() -> None:
    found = summary(campaign(), device_seconds=7200, active_seconds=3600, dollars=3.2)
    assert found == Summary(pytest.approx(0.2), pytest.approx(0.0625), 2, 6, 1, 7200, 3.2, 1800)
    assert text([spoken(found, "val_bpb", 200)]) == (
        "val_bpb better by 0.200 (6.3 %) · 2 kept of 6 tried, 1 crashed · 2.0 device h · $3.20 · a keep every 30m00s"
    )
    assert text([spoken(found, "val_bpb", 40)]) == "val_bpb better by 0.200 (6.3 %)"
    none = summary(replace(campaign(), steps=()), device_seconds=0, active_seconds=60)
    assert "no gain yet · 0 kept of 6 tried, 1 crashed · 0.0 device h" in text([spoken(none, "m", 200)])
    up = replace(campaign(), goal="maximize")
    assert "worse by 0.200" in text([spoken(summary(up, device_seconds=0, active_seconds=0), "m", 200)])


def test_crashes_are_ticks_at_the_bottom_and_discards_are_faint() -> None:
    plot = build(campaign(), 80, 20)
    assert plot is not None
    bottom = plot.lines[plot.rows - 1]
    assert [s for s in bottom.spans if s[1] == "bad"] == [("╷", "bad")]
    faint = "".join(t for row in plot.lines[: plot.rows] for t, name in row.spans if name == "faint")
    assert sum(0x2800 < ord(c) <= 0x28FF for c in faint) == 3  # 1, 4 and 6
    assert text(plot.lines).count("▲") == 2


def test_hostile_titles_stay_on_their_line() -> None:
    view = replace(
        campaign(), points=(tried(1, 3.0, EVIL, title=EVIL),), steps=(Step(1, BEGAN, 3.0, 0.2, EVIL),), cursor=1
    )
    for shown in (view, replace(view, steps=())):
        lines = paint(shown, None, summary(shown, device_seconds=0, active_seconds=0), EVIL, 60, 10)
        assert all(c.isprintable() for content in lines for t, _ in content.spans for c in t)
        assert all(strip_of(content, 60).cell_length == 60 for content in lines)


def test_ten_thousand_tries_cost_plotext_no_more_points_than_the_stairs(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    points = tuple(tried(n, 3.2 - n / 1e5 + chance.gauss(0, 0.02)) for n in range(1, 10_001))
    steps = tuple(Step(n, BEGAN + 100 * n, 3.2 - n / 1e5, 0.001) for n in range(5, 10_000, 5))
    given: list[int] = []
    draw = ratchet_chart.draw
    monkeypatch.setattr(
        ratchet_chart,
        "draw",
        lambda curves, *a: (given.append(sum(len(r) for c in curves for r in c.runs)), draw(curves, *a))[1],
    )
    assert build(RatchetView(points, steps, baseline=3.2, began=BEGAN), 120, 30) is not None
    assert given[0] <= 5 * 120
