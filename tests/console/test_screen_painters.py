"""The further screens' painters, at every size, with odd data: lines that fit, nothing raw, nothing left unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from console.charting import ChartView, Mark
from console.diff_difference import counts, difference
from console.diffs import parse
from console.event_words import Said
from console.formats import width_of, wrap
from console.history_filter import parse as parse_filter
from console.history_view import HistoryView, tabulate
from console.page_sources import Two, Whole
from console.state import Curve, Detail
from console.widgets import comparison, curves, event_list, history_table, page_parts, story
from console.widgets.chart import Layer
from console.widgets.lines import Line, Span, strip_of
from engine.store.reading_money import Money, Share, Tokens
from engine.store.reading_screens import DecisionRow, HistoryRow
from tests.console.scenes import EXPERIMENT, NOW, TRIAL
from tests.console.test_history import BARE, ROW

EVIL = "\x1b]0;owned\x07\x1b[2J[bold red]x[/]\x9b31m\r\n\t漢字e\u0301\u202e" * 3
SIZES = [(200, 40), (120, 20), (80, 12), (60, 6), (40, 4), (12, 3), (3, 1), (1, 1)]


def check(lines: Sequence[Line], width: int, height: int | None = None) -> str:
    """The lines' text; they fit, and nothing of what others wrote gets out raw."""
    assert height is None or len(lines) <= height
    for content in lines:
        assert all(c.isprintable() for text, _ in content.spans for c in text), content
        assert strip_of(content, width).cell_length == width
    return "\n".join("".join(t for t, _ in content.spans) for content in lines)


# --- the history -------------------------------------------------------------------------------------

ODD = replace(
    ROW, number=3, title=EVIL, hypothesis=EVIL, author=EVIL, author_detail=EVIL, kind=EVIL, reason=EVIL, outcome=EVIL,
    verdict="a newer one", effect=float("inf"), effect_low=float("nan"), score=float("nan"), settled_at=1e300,
    dollars=10**20,
)  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_the_table_fits_and_lets_nothing_out(size: tuple[int, int]) -> None:
    width, height = size
    for view in (HistoryView(), HistoryView(filter=parse_filter("learning"), only=False, sort="effect", cursor=3)):
        table = tabulate([ROW, BARE, ODD], view)
        check(history_table.body(table, view, {1: Mark(1, 2)}, 0.01, width, height), width, height)
        check(history_table.foot(table, view, width, height), width, height)
        check(history_table.foot(tabulate([], view), view, width, height), width, height)


@pytest.mark.parametrize(("width", "names"), [
    (200, ["number", "verdict", "when", "effect", "drawn", "score", "dollars", "author", "kind"]),
    (120, ["number", "verdict", "when", "effect", "score", "dollars", "author"]),
    (80, ["number", "verdict", "effect", "score", "author"]),
    (40, ["number", "verdict"]),
])  # fmt: skip
def test_columns_give_way_as_the_terminal_narrows_and_the_title_keeps_its_room(
    width: int, names: list[str]
) -> None:
    found = history_table.columns(width, with_dollars=True, with_kinds=True)
    assert [column.name for column in found] == names
    if width >= 60:
        assert width - 2 - sum(column.width for column in found) >= 20


def test_money_and_kinds_take_no_column_where_no_row_has_any() -> None:
    assert {"dollars", "kind"}.isdisjoint(column.name for column in history_table.columns(200))


def test_a_draft_that_failed_shows_the_name_of_its_end() -> None:
    table = tabulate([BARE], HistoryView())
    assert "duplicate" in check(history_table.body(table, HistoryView(), {}, None, 80, 5), 80)


def test_only_rows_in_sight_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    whole = history_table._cells

    def counted(row: HistoryRow, *rest: Any) -> tuple[Span, ...]:
        made.append(row.number)
        return whole(row, *rest)

    monkeypatch.setattr(history_table, "_cells", counted)
    table = tabulate([replace(ROW, number=n) for n in range(1, 10_001)], HistoryView())
    history_table.body(table, HistoryView(cursor=5000), {}, None, 120, 40)
    assert len(made) == 39 and 5000 in made


# --- one experiment ----------------------------------------------------------------------------------


def whole(**more: object) -> Whole:
    row = replace(
        EXPERIMENT, verdict="keep", expected_effect="-0.02 bpb", refuted_by="no gain at twice the steps", kind="optimizer",
        parameters={"LR": 0.001, "name": "x", "nested": {"a": [1]}}, commit="abcdef0123456789", asked="lines > 80",
    )  # fmt: skip
    money = Money(
        (Share("model", "opus", 3, 5_000_000_000, 7), Share("device", "box1", 1, 9, 0)), Tokens(5, 6, 95), 1, 1
    )
    trials = (
        replace(TRIAL, state="done", outcome="ok", score=3.1, seconds=30.0),
        replace(TRIAL, id=6, attempts=2),
    )
    base = Whole(
        Detail(row, ("a diff",), trials), 9, "val_bpb", "minimize", (DecisionRow("accept", "ada", "why not", 2, NOW),),
        (3, 4), (6,), money, trials[0],
    )  # fmt: skip
    return replace(base, **more)  # type: ignore[arg-type]


def test_an_experiment_tells_all_that_is_known_of_it() -> None:
    told = check(story.lines(whole(), 100), 100)
    for part in (
        "because", "no gain at twice the steps", "-0.02 bpb", "-0.010 [-0.030, +0.010] val_bpb", "noise: sigma 0.01",
        "accept by ada: why not", "mends #3 → #4", "mended by #6", "LR = 0.001", 'nested = {"a": [1]}', "$5.00", " in all",
        "3 requests", "100 tokens in, 6 out, 95 % of the input from the cache", "kept as abcdef012345", "lines > 80",
    ):  # fmt: skip
        assert part in told, part


def test_what_is_not_known_leaves_no_heading_behind() -> None:
    row = replace(
        EXPERIMENT, hypothesis="", effect=None, verdict=None, state="measuring", arithmetic=(), reason=""
    )
    told = check(
        story.lines(whole(detail=Detail(row, (), ()), decisions=(), mends=(), mended_by=(), money=None), 80), 80
    )
    for heading in ("Hypothesis", "refute", "expected", "Decisions", "Repairs", "Parameters", "Cost"):
        assert heading not in told
    assert "running" in told


def test_one_that_waits_says_where_it_is_decided() -> None:
    row = replace(EXPERIMENT, state="review", verdict=None)
    assert "q takes it to the live screen" in check(
        story.lines(whole(detail=Detail(row, (), ()), decisions=()), 100), 100
    )


def odd_whole() -> Whole:
    row = replace(
        EXPERIMENT, title=EVIL, hypothesis=EVIL, author=EVIL, author_detail=EVIL, kind=EVIL, reason=EVIL, outcome=EVIL,
        expected_effect=EVIL, refuted_by=EVIL, arithmetic=(EVIL,), parameters={EVIL: EVIL}, asked=EVIL, stage=EVIL,
        verdict="odd", effect=float("nan"), created_at=float("inf"), base_sha=EVIL, commit=EVIL,
    )  # fmt: skip
    trial = replace(TRIAL, outcome=EVIL, detail=EVIL, host=EVIL, slot=EVIL, score=float("inf"), seconds=1e300)
    money = Money((Share(EVIL, EVIL, 1, 2, 3), Share("model", EVIL, 1, 0, 0)), Tokens(1, 1), 0, 0)
    return whole(
        detail=Detail(row, (EVIL,), (trial,)), decisions=(DecisionRow(EVIL, EVIL, EVIL, 1, float("nan")),), metric=EVIL,
        money=money, why_no_curve=EVIL,
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_odd_experiments_fit_and_let_nothing_out(size: tuple[int, int]) -> None:
    width, height = size
    odd = odd_whole()
    assert odd.detail is not None
    check(story.lines(odd, width), width)
    check(story.trial_rows(odd.detail.trials, odd.detail.trials[0], True, width, height), width)
    check(story.talk_lines([f"=== {EVIL} ===".replace("\n", ""), *wrap(EVIL, 40)], width), width)
    check([Line(tuple(story.verdict_spans(odd.detail.row)))], width)


def test_the_chosen_trial_is_in_sight_however_many_there_are() -> None:
    trials = [replace(TRIAL, id=i, seed=9000 + i) for i in range(50)]
    for chosen in trials:
        rows = story.trial_rows(trials, chosen, True, 80, 6)
        assert len(rows) == 6 and any(str(chosen.seed) in check([one], 80) for one in rows if one.fill)


# --- two experiments ---------------------------------------------------------------------------------

FIRST = ["--- a/x.py", "+++ b/x.py", "@@ -1,2 +1,3 @@", " a", "-lr = 1", "+lr = 2", "+both"]
SECOND = ["--- a/x.py", "+++ b/x.py", "@@ -1,2 +1,3 @@", " a", "-lr = 1", "+lr = 3", "+both",
          "--- a/y.py", "+++ b/y.py", "@@ -1 +1 @@", "-old", "+new"]  # fmt: skip


def test_how_two_diffs_differ_is_what_only_one_of_them_changed() -> None:
    parts = difference(parse(FIRST), parse(SECOND))
    assert [part.path for part in parts] == ["x.py", "y.py"]
    assert [(c.side, c.sign, c.text) for c in parts[0].changes] == [
        ("=", "-", "lr = 1"), ("1", "+", "lr = 2"), ("2", "+", "lr = 3"), ("=", "+", "both"),
    ]  # fmt: skip
    assert counts(parts) == (2, 1, 3)
    same = difference(parse(FIRST), parse(FIRST))
    assert counts(same) == (3, 0, 0)


def test_diffs_beyond_all_size_are_compared_in_part_and_it_is_said() -> None:
    many = ["--- a/x", "+++ b/x", "@@ -0,0 +1,5000 @@", *(f"+line {i}" for i in range(5000))]
    (part,) = difference(parse(many), parse([*many[:3], *(f"+other {i}" for i in range(5000))]))
    assert "1,500" in part.note and len(part.changes) == 3000


def two(second: Whole | None = None) -> Two:
    other = whole()
    assert other.detail is not None
    row = replace(
        other.detail.row,
        number=2,
        title="another",
        effect=0.04,
        effect_low=0.01,
        effect_high=0.07,
        verdict="discard",
    )
    return Two(whole(), second or whole(detail=replace(other.detail, row=row)), "val_bpb", 0.01)


def test_two_experiments_stand_beside_each_other_with_their_intervals_on_one_scale() -> None:
    told = check(comparison.numbers(two(), 100), 100)
    assert "#1" in told and "#2" in told and "another" in told
    assert "-0.010 [-0.030, +0.010]" in told and "+0.040 [+0.010, +0.070]" in told
    marks = [one for one in told.splitlines() if "─" in one]
    assert len(marks) == 2 and marks[0].index("●", 5) < marks[1].index("●", 5)
    assert "worse ┊ better" in told and "LR" in told


@pytest.mark.parametrize("size", SIZES)
def test_odd_pairs_fit_and_let_nothing_out(size: tuple[int, int]) -> None:
    width, _ = size
    for pair in (
        two(odd_whole()),
        Two(odd_whole(), whole(detail=None), EVIL),
        Two(whole(detail=None), whole(detail=None), ""),
    ):
        check(comparison.numbers(pair, width), width)
    evil = parse(["--- a/" + EVIL, "+++ b/" + EVIL, "@@ -1 +1 @@", "-" + EVIL, "+" + EVIL])
    parts = difference(evil, parse(FIRST))
    check(comparison.difference(parts, "#1", "#2", width), width)
    assert "neither" in check(comparison.difference((), "#1", "#2", 80), 80)


def test_curves_say_why_there_are_none_and_show_no_chart_of_another_experiment() -> None:
    assert "pruned" in check(curves.body((), None, ChartView(), "its points were pruned", 60, 10), 60, 10)
    layer = Layer(Curve(1, "seed 1", EVIL, "step", ((0.0, 1.0), (1.0, 2.0))), "a", "●", "live")
    assert "drawing" in check(curves.body((layer,), None, ChartView(), "", 60, 10), 60, 10)
    check([Line(curves.title((layer,), ChartView()))], 60)


# --- the event log -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_the_event_log_fits_and_lets_nothing_out(size: tuple[int, int]) -> None:
    width, height = size
    said = [
        Said(i, 1e300 if i % 2 else NOW, "trouble", EVIL[:4] and "kind", EVIL, 10**9, EVIL)
        for i in range(30, 0, -1)
    ]
    clean = [replace(one, text="漢字 text", mend="do this") for one in said]
    check(event_list.body(clean, 29, False, width, height), width)
    check(event_list.body(said, 0, True, width, height), width)
    check(event_list.foot(said[0], width, height), width, height)
    check(event_list.foot(None, width, height), width, height)


def test_trouble_is_shown_with_its_mend_and_the_end_of_the_log_is_named() -> None:
    one = Said(1, NOW, "trouble", "warning", "the disk is nearly full", None, "free some space")
    told = check(event_list.body([one], 0, False, 120, 5), 120)
    assert "mend: free some space" in told and "the beginning of the log" in told
    assert "being read" in check(event_list.body([one], 0, True, 120, 5), 120)


# --- around them -------------------------------------------------------------------------------------


def test_the_footer_never_drops_the_way_back() -> None:
    hints = [(f"k{i}", "a word of some length", "") for i in range(20)]
    for width in (80, 40, 30):
        told = check([page_parts.footer(hints, [("esc", "back", ""), ("?", "help", "")], width)], width)
        assert "esc back" in told and "? help" in told and width_of(told.rstrip()) <= width


@pytest.mark.parametrize("size", SIZES)
def test_heads_tabs_and_sentences_fit(size: tuple[int, int]) -> None:
    width, height = size
    check([page_parts.head("Name", [(EVIL[-3:].strip("\u202e"), "")], [("right", "")], width)], width)
    check([page_parts.tabs(["1 Why", "2 漢字"], 1, width)], width)
    check(page_parts.told([(EVIL, "warn"), ("mend", "")], width), width)
    check(
        page_parts.framed("1 x", (("title", ""),), [Line((("b", ""),))] * 50, width, height, True), width, height
    )
