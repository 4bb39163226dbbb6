"""The chart of curves: every curve told apart and read, the words agree with the numbers, nothing breaks it."""

from __future__ import annotations

import math
import queue
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.charting import ChartView, Mark
from console.sources import choose_series, reference_trial
from console.state import Curve, State, View
from console.widgets import metric_chart
from console.widgets.chart import Chart, Traces, Wish, build
from console.widgets.chart_builder import Builder, ChartBuilder
from console.widgets.lines import Line, Scene, strip_of
from console.widgets.metric_chart import layers, legend, wish, wrapped
from console.widgets.plotting import put, with_rule
from tests.console.scenes import TRIAL
from tests.console.test_decisions import console
from tests.seeded import seeded_store

EVIL = "\x1b]0;owned\x07\x1b[2J[bold red]x[/]\x9b31m\r\n\t漢字\u202e" * 3


def curve(points: list[tuple[float, float]], trial: int = 1, **more: object) -> Curve:
    return replace(Curve(trial, "label", "loss", "step", tuple(points)), **more)  # type: ignore[arg-type]


def noisy(n: int, level: float, trial: int, **more: object) -> Curve:
    chance = random.Random(trial)
    points = [(float(i), level + 3 * math.exp(-i / 20) + chance.random() / 10) for i in range(n)]
    return curve(points, trial, seconds=tuple(i / 10 for i in range(n)), **more)


LIVE, REFERENCE = noisy(60, 3.0, 1), noisy(100, 3.2, 2)
MARKED = tuple(noisy(100, 3.0 + n / 50, 10 + n, number=n) for n in range(1, 7))
MARKS = tuple(Mark(n, n - 1, n == 1) for n in range(1, 7))
STATE = State(live=LIVE, reference=REFERENCE)
FULL = replace(STATE, marked=MARKED, unmarked=((9, "it has not run"),))


def built(state: State, view: View, width: int = 100, height: int = 24) -> Chart:
    chart = build(wish(state, view, width, height))
    assert chart is not None
    return chart


def text(lines: list[Line] | tuple[Line, ...]) -> str:
    return "\n".join("".join(t for t, _ in content.spans) for content in lines)


def painted(state: State, view: View, width: int = 100, height: int = 24) -> list[Line]:
    scene = Scene(state, view, 0.0, 41, chart=built(state, view, width, height))
    return metric_chart.body(scene, width - 2, height - 1)


# --- what is drawn ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(200, 40), (100, 20), (60, 12), (40, 8), (25, 6)])
@pytest.mark.parametrize("axis", ["step", "seconds"])
def test_the_chart_fits_its_place_whatever_the_view(size: tuple[int, int], axis: str) -> None:
    for view in (
        ChartView(axis), ChartView(axis, log_y=True), ChartView(axis, log_x=True, smoothing=0.9),
        ChartView(axis, window=(2.0, 4.0), cursor=3.0), ChartView(axis, window=(1e6, 2e6)),
    ):  # fmt: skip
        shown = View(chart=view, marks=MARKS)
        lines = painted(FULL, shown, *size)
        assert 3 < len(lines) <= size[1] - 1
        assert all(strip_of(content, size[0]).cell_length == size[0] for content in lines)
        widths = {sum(len(t) for t, _ in content.spans) for content in lines[-4:]}
        assert widths == {size[0] - 3}  # every row of the canvas is exactly as wide as was asked for


def test_every_curve_is_told_apart_by_its_colour_and_without_colour_by_its_sign() -> None:
    chart = built(FULL, View(marks=MARKS), 160, 40)
    drawn = text(chart.plot.lines)
    styles = {name for content in chart.plot.lines for _, name in content.spans}
    for layer, _ in chart.shown:
        assert layer.sign in drawn and layer.style in styles, layer.name
    assert len({layer.sign for layer, _ in chart.shown}) == len({layer.style for layer, _ in chart.shown}) == 8


def test_the_legend_names_each_curve_with_its_last_value_and_how_the_run_stands() -> None:
    told = text(wrapped(legend(built(FULL, View(marks=MARKS)), None, FULL.unmarked), 400, 1))
    assert told.startswith("● this run 3.") and " at step 59, 0." in told and " below ○ incumbent (last 3." in told
    for mark, sign in zip(MARKS, "abcdef", strict=True):
        assert f"{sign} #{mark.number}{'*' if mark.pinned else ''} 3." in told
    assert told.endswith("#9: it has not run")


def test_where_it_is_narrow_the_statement_stays_whole_and_its_place_goes() -> None:
    told = text(wrapped(legend(built(STATE, View()), None), 44, 1))
    assert told.startswith("● this run 3.") and told.endswith("below ○ incumbent") and "step" not in told


def test_the_statement_compares_at_equal_budget() -> None:
    live = curve([(float(i), 2.0) for i in range(50)])
    ahead = curve([(float(i), 2.5 if i < 60 else 1.0) for i in range(100)], 2)
    assert "2.0000 at step 49, 0.50 below ○ incumbent (last 1.0000)" in text(
        painted(State(live=live, reference=ahead), View())
    )
    late = curve([(0.0, 1.0), (10.0, 1.0)], 2)
    assert "no longer beside ○ incumbent" in text(painted(State(live=live, reference=late), View()))


def test_at_the_cursor_every_value_is_read_there() -> None:
    live = curve([(float(i), 2.0 + i / 100) for i in range(50)])
    other = curve([(float(i), 3.0) for i in range(100)], 2)
    told = painted(State(live=live, reference=other), View(chart=ChartView(cursor=20.0)))
    assert "at step 20:  ● this run 2.2000, 0.80 below ○ incumbent 3.0000" in text(told)
    assert sum("│" in text([content])[6:] for content in told[1:]) > 10


def test_the_cursor_is_drawn_without_plotext(monkeypatch: pytest.MonkeyPatch) -> None:
    chart = built(STATE, View())
    monkeypatch.setattr("console.widgets.plotting._axes", None)
    for x in (0.0, 30.0, 99.0):
        view = View(chart=ChartView(cursor=x))
        assert wish(STATE, view, 100, 24).key == chart.wish.key
        assert len(metric_chart.body(Scene(STATE, view, 0.0, 1, chart=chart), 98, 23)) == 23


def test_the_budget_is_a_line_where_it_ends_the_run() -> None:
    limited = replace(STATE, live=replace(LIVE, budget_steps=80.0))
    assert "┊" in text(painted(limited, View())) and "budget" in text(painted(limited, View()))
    assert "┊" not in text(painted(STATE, View()))
    early = replace(limited, reference=None, live=replace(LIVE, budget_steps=8000.0))
    assert built(early, View()).span == (0.0, 59.0)  # not pressed into a hundredth of the width
    assert "of budget" in text(painted(limited, View(chart=ChartView("fraction"))))


def test_what_an_axis_cannot_show_is_said() -> None:
    below = curve([(float(i), 1.0 - i / 10) for i in range(30)])
    told = text(painted(State(live=below), View(chart=ChartView(log_y=True)), 160))
    assert "20 values ≤ 0 not on the log axis" in told
    assert "no tokens: the run printed no count of tokens" in text(
        painted(STATE, View(chart=ChartView("tokens")), 200)
    )
    timed = replace(STATE, reference=replace(REFERENCE, unit="s", seconds=()))
    assert "incumbent: the run printed no step numbers" in text(painted(timed, View(), 200))


def test_a_marked_run_shows_alone_when_nothing_runs_and_never_twice() -> None:
    alone = State(marked=MARKED[:1])
    assert "last: a #1* 3." in text(painted(alone, View(marks=MARKS)))
    same = State(live=replace(LIVE, number=1), marked=(replace(LIVE, number=1),))
    assert len(layers(same, View(marks=MARKS))) == 1
    none = State(unmarked=((9, "it has not run"),))
    shown = metric_chart.body(Scene(none, View(marks=(Mark(9, 0),)), 0.0, 9), 80, 20)
    assert text(shown) == "#9: it has not run"


def test_a_zoomed_chart_shows_its_window_and_an_unzoomed_one_follows() -> None:
    chart = built(STATE, View(chart=ChartView(window=(10.0, 20.0))))
    assert chart.plot.x == (10.0, 20.0) and chart.span == (0.0, 99.0)
    longer = replace(STATE, live=noisy(300, 3.0, 1))
    assert built(longer, View()).plot.x == (0.0, 299.0)


def test_zooming_changes_no_smoothed_value() -> None:
    view = ChartView(smoothing=0.97)
    whole = built(STATE, View(chart=view)).shown
    near = built(STATE, View(chart=replace(view, window=(30.0, 35.0)))).shown
    assert [trace for _, trace in whole] == [trace for _, trace in near]


# --- nothing breaks it --------------------------------------------------------------------------------

odd = st.floats() | st.sampled_from([0.0, -1.0, 1e308, -1e308, 5e-324])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(odd, odd), max_size=30), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.99]),
    st.none() | st.tuples(odd, odd),
)  # fmt: skip
def test_no_numbers_break_the_chart(
    points: list[tuple[float, float]],
    log_x: bool,
    log_y: bool,
    smoothing: float,
    window: tuple[float, float] | None,
) -> None:
    state = State(live=curve(points), reference=REFERENCE)
    view = View(chart=ChartView("step", log_y, log_x, smoothing, window, 3.0))
    chart = build(wish(state, view, 60, 12))
    lines = metric_chart.body(Scene(state, view, 0.0, 1, chart=chart or "nothing"), 58, 11)
    assert len(lines) <= 11 and all(strip_of(content, 58).cell_length == 58 for content in lines)


def test_hostile_names_and_unknown_widths_stay_on_their_line() -> None:
    live = replace(LIVE, series=EVIL, label=EVIL)
    state = State(live=live, reference=REFERENCE, unmarked=((1, EVIL),))
    shown = View(marks=(Mark(1, 0),))
    scene = Scene(state, shown, 0.0, 1, chart=built(state, shown))
    spans = [*metric_chart.title(scene), *(s for one in metric_chart.body(scene, 98, 23) for s in one.spans)]
    assert all(c.isprintable() for t, _ in spans for c in t)
    broken = metric_chart.body(Scene(state, shown, 0.0, 1, chart=EVIL), 98, 23)
    assert all(c.isprintable() for t, _ in broken[0].spans for c in t)


def test_there_is_no_chart_without_room_points_or_finite_values() -> None:
    assert build(Wish(layers(STATE, View()), ChartView(), 10, 2)) is None
    assert build(Wish((), ChartView(), 80, 20)) is None
    assert build(wish(State(live=curve([(0.0, math.nan)])), View(), 80, 20)) is None
    assert build(wish(State(live=curve([(5.0, 1.0)])), View(), 60, 10)) is not None  # a single point


def test_putting_a_cell_over_a_line_keeps_all_others() -> None:
    content = Line((("abc", "x"), ("def", "y"), ("   ", "")))
    assert put(content, 2, "Z", "z").spans == (("ab", "x"), ("Z", "z"), ("def", "y"), ("   ", ""))
    assert put(content, 2, "ZZ", "z").spans == (("ab", "x"), ("ZZ", "z"), ("ef", "y"), ("   ", ""))
    assert put(content, 11, "Z", "z").spans[-2:] == (("  ", ""), ("Z", "z"))
    assert put(content, 1, "Z", "z", blank_only=True) is content
    assert text([put(content, 7, "Z", "z", blank_only=True)]) == "abcdef Z "
    chart = built(STATE, View())
    assert with_rule(chart.plot, 1e9, "│", "accent") is chart.plot


# --- built in its thread ------------------------------------------------------------------------------


def test_the_builder_draws_the_newest_wish_in_its_thread() -> None:
    drawn: queue.Queue[Chart | str] = queue.Queue()
    builder = ChartBuilder(drawn.put)
    for width in (60, 61, 62, 63):
        last = wish(STATE, View(), width, 12)
        builder.want(last)
    while not (isinstance(found := drawn.get(timeout=20), Chart) and found.wish.key == last.key):
        pass
    builder.want(wish(STATE, View(), 63, 12))  # the same wish: nothing more
    assert drawn.empty()
    builder.want(wish(STATE, View(chart=ChartView(log_y=True)), 63, 12))
    drawn.get(timeout=20)
    builder.want(last)  # back again: at once, from what is kept
    assert drawn.get_nowait() is found
    builder.close()


def test_what_cannot_be_built_is_said_and_the_next_is_built() -> None:
    drawn: queue.Queue[int | str] = queue.Queue()
    builder: Builder[int] = Builder(drawn.put)
    builder.want(1, lambda: 1 // 0)
    assert "cannot be drawn" in str(drawn.get(timeout=20))
    builder.want(2, lambda: 2)
    assert drawn.get(timeout=20) == 2
    builder.close()


def test_traces_are_made_once_and_forgotten_in_time() -> None:
    traces = Traces(most=3)
    first = traces.get(LIVE, "step", 0.9, 100.0)
    assert traces.get(LIVE, "step", 0.9, 100.0) is first
    for n in range(5):
        traces.get(MARKED[n], "step")
    assert traces.get(LIVE, "step", 0.9, 100.0) is not first


# --- which curves -------------------------------------------------------------------------------------


def test_the_series_shown_is_the_training_loss_where_there_is_one() -> None:
    assert choose_series({"lr": 90, "train_loss": 50, "loss": 60}, "val_bpb") == "train_loss"
    assert choose_series({"lr": 90, "loss": 60}, "val_bpb") == "loss"
    assert choose_series({"lr": 90, "val_acc": 60}, "val_acc") == "val_acc"
    assert choose_series({"train_loss": 1, "lr": 90}, "x") == "lr"  # one point is no curve
    assert choose_series({}, "x") is None


def test_the_incumbents_curve_is_of_the_same_protocol_and_best_of_the_same_seed() -> None:
    done = replace(TRIAL, state="done", outcome="ok")
    same_seed, newer = replace(done, id=1), replace(done, id=2, seed=8)
    assert reference_trial([same_seed, newer], TRIAL) == same_seed
    assert reference_trial([newer, replace(done, id=3, protocol=2)], TRIAL) == newer
    assert reference_trial([replace(newer, outcome="crash"), done], TRIAL) is None  # done is TRIAL itself


# --- by keys ------------------------------------------------------------------------------------------


async def test_the_charts_keys_reach_the_chart_and_only_the_chart(tmp_path: Path) -> None:
    seeded_store(tmp_path, 7)
    async with console(tmp_path) as c:
        live = c.app.live
        for _ in range(200):  # bounded: the builder's thread imports plotext first
            if isinstance(live.chart, Chart):
                break
            await c.pilot.pause(0.05)
        assert isinstance(live.chart, Chart)
        await c.press("equals_sign", "v", "w", "t")
        assert live.view.chart == ChartView("seconds", log_y=True, smoothing=0.9)
        await c.press("left")
        assert live.view.chart.cursor is None  # not in focus: the arrows are free
        await c.press("4", "left", "space", "p")
        assert live.view.chart.cursor is not None and [m.pinned for m in live.view.marks] == [True]
        await c.press("0", "v")
        assert live.view.chart == ChartView("seconds", smoothing=0.9) and len(live.view.marks) == 1
        assert {request.kind for request in c.filed()} <= {"pin"}, "a pin is kept for every console"
