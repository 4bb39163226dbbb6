"""Every painter, at every size, with odd data: lines that fit, and nothing of what others wrote gets out raw."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from console.layout import PANES, Pane
from console.screens.live import _parts
from console.state import Curve, LogTail, Noted, State, StreamRead, View, selected
from console.widgets import experiment_list, status_bar
from console.widgets.lines import Line, Scene, changed_span, line, strip_of
from engine.events import VerdictGiven
from engine.store.rows import EventRow, ReadingRow
from tests.console.scenes import CAMPAIGN, NOW, TRIAL, detail, request, row, state

EVIL = "\x1b]0;owned\x07\x1b[2J[bold red]x[/]\x9b31m\r\n\t漢字\u202e" * 3


def scene(of: State, **view: object) -> Scene:
    shown = View(**view)  # type: ignore[arg-type]
    return Scene(of, shown, NOW, selected(of, shown))


def evil_state() -> State:
    shown = detail(
        2, state="review", title=EVIL, hypothesis=EVIL, reason=EVIL, arithmetic=(EVIL,), author=EVIL,
        author_detail=EVIL, parameters={EVIL: EVIL}, verdict="keep", effect=float("inf"), effect_low=-1.0, stage=EVIL,
    )  # fmt: skip
    trial = replace(TRIAL, number=2, slot=EVIL, detail=EVIL, outcome="crash", purpose="screen")
    reading = ReadingRow("local", "cpu", NOW - 1e6, {"name": EVIL, "utilisation": 1e9, "memory_used_mb": "?"})
    return state(
        row(1, title=EVIL, effect=float("nan"), low=1.0, high=2.0), row(2, "review", author=EVIL, title=EVIL, stage=EVIL),
        row(3, "a state of a newer version", verdict="odd"), campaign=replace(CAMPAIGN, name=EVIL, metric=EVIL,
        pause_reason=EVIL, pause_mend=EVIL, state="paused"), running=(trial,), detail=replace(shown, trials=(trial,)),
        readings=(reading,), log=LogTail(5, "label", ("plain",), 5), notice=Noted(EVIL),
        live=Curve(5, "label", EVIL, "step", ((0.0, 1.0), (1.0, 2.0))), stream=StreamRead(12, (("text", EVIL),)),
        events=(EventRow(1, NOW, VerdictGiven(1, EVIL, "keep", EVIL)),), requests=(request(number=2),),
    )  # fmt: skip


STATES = {
    "nothing at all": State(),
    "no store": State(problem="no campaign here yet", mend="start one"),
    "no campaign": State(alive=False),
    "calibrating": state(
        campaign=replace(CAMPAIGN, calibration=None), baseline=(replace(TRIAL, purpose="calibrate"),)
    ),
    "no engine": state(row(1), alive=False),
    "hostile": evil_state(),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("size", [(200, 60), (120, 12), (60, 5), (20, 3), (3, 1), (1, 1)])
def test_no_state_breaks_a_painter_or_lets_escapes_out(name: str, size: tuple[int, int]) -> None:
    width, height = size
    for focus in PANES:
        for _, painter, inputs in _parts():
            shown = scene(STATES[name], focus=focus)
            inputs(shown)
            lines = painter(shown, width, height)
            assert len(lines) <= height
            for content in lines:
                assert all(c.isprintable() for text, _ in content.spans for c in text), content
                assert strip_of(content, width).cell_length == width


def text(lines: list[Line]) -> str:
    return "\n".join("".join(t for t, _ in content.spans) for content in lines)


def test_empty_panes_say_what_to_do_next() -> None:
    def told(name: str) -> str:
        return " ".join(text(experiment_list.body(scene(STATES[name]), 60, 20)).split())

    assert "start one" in told("no store")
    assert "`ratchet run`" in told("no campaign")
    assert "0 of 1 run done" in told("calibrating")


@pytest.mark.parametrize(
    ("of", "word", "mend"),
    [
        (state(), "running", ""),
        (state(alive=False), "engine died", "`ratchet start`"),
        (state(alive=False, engine=None), "no engine", "`ratchet start`"),
        (state(campaign=replace(CAMPAIGN, state="paused", pause_reason="disk full", pause_mend="free space")),
         "paused", "free space"),
        (state(campaign=replace(CAMPAIGN, state="finished", pause_reason="limit reached")), "finished", "--experiments"),
        (STATES["calibrating"], "calibrating 0 of 1", ""),
        (STATES["no store"], "no store", "start one"),
    ],
)  # fmt: skip
def test_the_engines_situation_comes_with_its_mend(of: State, word: str, mend: str) -> None:
    found = status_bar.situation(of, NOW)
    assert found.word == word and mend in found.mend


def test_an_engine_that_says_nothing_is_not_called_running() -> None:
    assert status_bar.situation(state(), NOW + 60).word == "silent"


def test_the_best_score_is_the_incumbents_mean_and_its_gain_is_signed_by_the_goal() -> None:
    kept = tuple(replace(TRIAL, id=i, state="done", outcome="ok", score=s) for i, s in enumerate((3.1, 3.0)))
    better = state(campaign=replace(CAMPAIGN, incumbent=2), incumbent=kept)
    value, gain = status_bar.best(better)
    assert value == pytest.approx(3.05) and gain == pytest.approx(0.15)
    upward = replace(better, campaign=replace(CAMPAIGN, incumbent=2, goal="maximize"))
    assert status_bar.best(upward)[1] == pytest.approx(-0.15)
    assert status_bar.best(state()) == (3.2, None)


def test_a_painter_that_forgets_to_clean_lets_nothing_out_either() -> None:
    shown = strip_of(line(EVIL), 40)
    assert shown.text.isprintable() and shown.cell_length == 40


# --- the list's window -------------------------------------------------------------------------------


def test_the_selection_is_always_in_sight_and_rows_in_sight_are_asked_for() -> None:
    many = state(row(500))
    for number in (500, 499, 481, 480, 250, 2, 1):
        shown = scene(many, cursor=number)
        low, high = experiment_list.rows_in_sight(shown, 22)
        assert low <= number <= high and high - low == 19 and low >= 1
        lines = experiment_list.body(shown, 80, 21)
        assert [content for content in lines if content.fill], number


def test_rows_not_loaded_yet_are_marked_and_never_invented() -> None:
    lines = text(experiment_list.body(scene(state(row(30))), 80, 6))
    assert "title 30" in lines and "29 …" in lines


# --- only what changed is sent -----------------------------------------------------------------------


def test_only_cells_that_differ_are_sent() -> None:
    a, b = (
        strip_of(line("elapsed 1m15s of 2m", ("x", "dim")), 40),
        strip_of(line("elapsed 1m16s of 2m", ("x", "dim")), 40),
    )
    assert changed_span(a, b) == (11, 12)
    assert changed_span(a, a) is None
    assert changed_span(a, strip_of(line("elapsed 1m15s of 2m", ("x", "good")), 40)) == (19, 20)


def test_wide_characters_keep_their_columns() -> None:
    a, b = strip_of(line("漢字 a"), 10), strip_of(line("漢字 b"), 10)
    assert changed_span(a, b) == (5, 6)


def test_segments_cut_differently_but_looking_alike_are_alike() -> None:
    plain = Style()
    assert changed_span(Strip([Segment("ab", plain)]), Strip([Segment("a", plain), Segment("b", plain)])) is None


def test_decisions_are_offered_only_where_the_guards_hold() -> None:
    waiting = state(row(1, "review"), detail=detail(1, state="review"))
    view = View(focus=Pane.DIFF, cursor=1)
    for why, offered in (("look at it first", False), ("", True)):
        shown = Scene(waiting, view, NOW, 1, why_not=why)
        bar = [content for name, painter, _ in _parts() if name == "diff" for content in painter(shown, 80, 10)]
        assert ("a accept   r reject" in text(bar)) is offered
