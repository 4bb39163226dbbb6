"""The history's pure half: what a typed filter means, how rows are ordered and found, which two are compared."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import history_filter, history_view
from console.charting import Mark
from console.history_view import SORTS, HistoryView, Table, tabulate
from engine.store.reading_screens import HistoryRow

ROW = HistoryRow(
    number=1, id=11, state="settled", author="search", author_detail="tpe", title="Raise the learning rate",
    hypothesis="too timid a schedule", kind="optimizer", verdict="discard", reason="screen", effect=0.01,
    effect_low=-0.02, effect_high=0.04, score=3.2, stage="screen", outcome="", repairs=None, created_at=1e9,
    settled_at=1e9 + 60, dollars=2_500_000_000,
)  # fmt: skip
BARE = replace(
    ROW, number=2, author="claude", title="", hypothesis="", kind="", verdict="cancelled", effect=None, effect_low=None,
    effect_high=None, score=None, outcome="duplicate", dollars=None,
)  # fmt: skip


def matches(text: str, row: HistoryRow = ROW) -> bool:
    found = history_filter.parse(text)
    assert not found.problem, found.problem
    return found.matches(row)


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ("", True), ("learning", True), ("LEARNING rate", True), ("learning muon", False), ("timid", True),
        ("optimizer", True), ("-muon", True), ("-learning", False), ('"learning rate"', True), ('"rate learning"', False),
        ("verdict:discard", True), ("verdict:dis", True), ("verdict:keep", False), ("-verdict:keep", True),
        ("author:search", True), ("author:claude", False), ("kind:opt", True), ("model:tp", True), ("title:raise", True),
        ("effect>0.005", True), ("effect>0.01", False), ("effect>=0.01", True), ("effect<0", False), ("low<0", True),
        ("high=0.04", True), ("score<=3.2", True), ("dollars>2", True), ("dollars>$2.6", False), ("number:1", True),
        ("#1", True), ("#12", False), ("verdict:discard effect>0 rate", True), ('verdict:"discard"', True),
    ],
)  # fmt: skip
def test_a_filter_means_what_it_says(text: str, whether: bool) -> None:
    assert matches(text) is whether


@pytest.mark.parametrize("text", ["effect>0", "effect<=0", "score<9", "dollars>=0", "low<1", "high>-1"])
def test_a_value_that_is_not_known_meets_no_condition(text: str) -> None:
    assert not matches(text, BARE)
    assert matches("outcome:dup", BARE) and matches("duplicate", BARE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("effect>abc", "wants a number"), ("effect>", "wants a number"), ("verdict:kep", "no verdict begins with"),
        ("verdict:", "which?"), ("author>claude", "is a word"), ("efect>1", "effect?"), ("zzz:1", "no 'zzz' here"),
        ("-effect>x", "wants a number"),
    ],
)  # fmt: skip
def test_a_filter_that_is_wrong_says_so_and_the_rest_still_counts(text: str, told: str) -> None:
    found = history_filter.parse(f"{text} muon")
    assert told in found.problem
    assert not found.matches(ROW) and found.matches(replace(ROW, title="muon"))


@given(st.text(max_size=60))
def test_whatever_is_typed_is_a_filter_or_a_problem(text: str) -> None:
    found = history_filter.parse(text)
    found.matches(ROW)
    found.matches(BARE)


# --- order -------------------------------------------------------------------------------------------


def rows(count: int = 200, seed: int = 7) -> list[HistoryRow]:
    chance = random.Random(seed)
    found = []
    for number in range(1, count + 1):
        known = chance.random() < 0.8
        found.append(
            replace(
                ROW if known else BARE, number=number, id=number,
                effect=chance.choice((chance.gauss(0, 1), float("nan"), 0.5)) if known else None,
                author=chance.choice(("claude", "search", "Person")), kind=chance.choice(("", "model", "data")),
                verdict=chance.choice(("keep", "discard", None, "of a newer version")),
            )
        )  # fmt: skip
    return found


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_has_every_row_once_with_the_unknown_last_and_reverses_the_known(sort: str) -> None:
    every = rows()
    down, up = (history_view.arrange(every, sort, upwards) for upwards in (False, True))
    assert sorted(r.number for r in down) == sorted(r.number for r in up) == [r.number for r in every]
    value = history_view._VALUES[sort]
    for found in (down, up):
        known = [value(row) is not None for row in found]
        assert known == sorted(known, reverse=True)  # the unknown come last in either order
    first = [value(row) for row in down if value(row) is not None]
    assert first == sorted(first, reverse=sort not in history_view.WORDS)  # type: ignore[type-var]
    assert [value(row) for row in up if value(row) is not None] == first[::-1]


def table(view: HistoryView | None = None, count: int = 100) -> Table:
    return tabulate(
        [replace(ROW, number=n, title=f"title {n % 10}") for n in range(1, count + 1)], view or HistoryView()
    )


def test_the_cursor_stays_on_its_experiment_when_the_order_changes() -> None:
    view = HistoryView(cursor=40)
    for other in (view, replace(view, upwards=True), replace(view, sort="effect"), replace(view, sort="author")):
        row = history_view.under_cursor(table(other), other)
        assert row is not None and row.number == 40


def test_on_top_the_cursor_follows_the_newest() -> None:
    view = history_view.move(table(), HistoryView(cursor=98), -50)
    assert view.cursor is None
    newest = history_view.under_cursor(table(count=120), view)
    assert newest is not None and newest.number == 120
    assert history_view.move(table(), view, 1).cursor == 99
    assert history_view.move(table(), view, 10**7).cursor == 1


def test_an_empty_table_has_nothing_under_its_cursor() -> None:
    empty = tabulate([], HistoryView())
    assert history_view.under_cursor(empty, HistoryView(cursor=3)) is None
    assert history_view.move(empty, HistoryView(), 5) == HistoryView()
    assert history_view.next_hit(empty, HistoryView(), 1) is None


# --- search ------------------------------------------------------------------------------------------


def test_a_filter_hides_the_others_or_shows_them_and_goes_from_match_to_match() -> None:
    view = HistoryView(filter=history_filter.parse('"title 3"'), cursor=100)
    hidden = table(view)
    assert [row.number for row in hidden.rows] == list(range(93, 0, -10)) and hidden.total == 100
    view = replace(view, only=False)
    shown = table(view)
    assert len(shown.rows) == 100
    places = []
    for _ in range(11):
        found = history_view.next_hit(shown, view, 1)
        assert found is not None
        view = found
        places.append(view.cursor)
    assert places == [*range(93, 0, -10), 93]  # round the end
    back = history_view.next_hit(shown, view, -1)
    assert back is not None and back.cursor == 3


@given(st.integers(0, 500), st.integers(1, 400), st.integers(1, 80))
def test_the_row_in_hand_is_always_in_sight(index: int, total: int, height: int) -> None:
    index = min(index, total - 1)
    top = history_view.top_row(index, total, height)
    assert 0 <= top <= max(0, total - 1)
    if height >= 3:
        assert top <= index < top + height


# --- two to compare ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marked", "cursor", "found"),
    [((7, 3), 9, (3, 7)), ((7,), 9, (7, 9)), ((9,), 7, (7, 9)), ((7,), 7, "mark two"), ((), 7, "mark two"),
     ((1, 2, 3), 7, "3 are marked"), ((7,), None, "mark two")],
)  # fmt: skip
def test_two_are_compared_or_it_is_said_what_is_missing(
    marked: tuple[int, ...], cursor: int | None, found: tuple[int, int] | str
) -> None:
    pair = history_view.pair([Mark(n, i) for i, n in enumerate(marked)], cursor)
    assert pair == found if not isinstance(found, str) else isinstance(pair, str) and found in pair
