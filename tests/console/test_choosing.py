"""The palette's list: what is typed finds what is meant, and moving stays within it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.choosing import Entry, Place, erased, hits, match, moved, typed
from console.formats import width_of
from console.keymap import KEYS
from console.widgets import choice_list

ACTIONS = [Entry(key.id, key.what, key.keys[0]) for key in KEYS]


def first(query: str) -> str:
    return hits(ACTIONS, query)[0].entry.id


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("stop eng", "stop_engine"), ("stop tr", "stop_trial"), ("pause", "pause"), ("start", "start_engine"),
        ("accept the p", "accept"), ("zoom out", "zoom_out"), ("hist", "history"), ("mouse", "mouse"),
        ("svg", "screenshot"), ("stoptrial", "stop_trial"), ("stop_trial", "stop_trial"), ("LEAVE", "detach"),
    ],
)  # fmt: skip
def test_a_few_letters_find_the_action(query: str, meant: str) -> None:
    assert first(query) == meant


def test_letters_side_by_side_and_at_the_begin_of_words_count_more() -> None:
    assert match("st", "stop")[0] > match("st", "sort it")[0] > match("st", "as latest")[0]  # type: ignore[index]
    assert match("log", "the log")[1] == (4, 5, 6)  # type: ignore[index]
    assert match("xyz", "the log") is None and match("golf", "log") is None


def test_words_may_come_in_any_order() -> None:
    assert match("engine stop", "stop the engine") is not None


def test_nothing_typed_keeps_the_tables_order_and_nonsense_finds_nothing() -> None:
    assert [hit.entry for hit in hits(ACTIONS, " ")] == ACTIONS
    assert hits(ACTIONS, "zzqqxx") == []


@given(st.text(max_size=12), st.text(max_size=40))
def test_matches_are_places_of_the_typed_letters(query: str, text: str) -> None:
    found = match(query, text)
    if found is not None and len(text.lower()) == len(text):
        letters = {c for c in query.lower() if not c.isspace()}
        assert all(text[at].lower() in letters for at in found[1])
        assert list(found[1]) == sorted(set(found[1]))


@given(
    st.integers(0, 40), st.integers(1, 12), st.lists(st.sampled_from([-(10**6), -7, -1, 1, 7, 10**6]), max_size=12)
)
def test_moving_stays_among_the_entries_and_in_sight(count: int, rows: int, steps: list[int]) -> None:
    place = Place()
    for step in steps:
        place = moved(place, step, count, rows)
        assert 0 <= place.at < max(1, count) and place.top <= place.at < place.top + rows


def test_one_step_past_the_end_is_the_begin() -> None:
    assert moved(Place(at=9), 1, 10, 5).at == 0 and moved(Place(), -1, 10, 5).at == 9
    assert moved(Place(at=8), 5, 10, 5).at == 9


def test_typing_takes_what_can_be_printed_and_erasing_goes_back() -> None:
    assert typed(Place(at=3, top=1), "a\x1b[2Jb") == Place("a[2Jb")
    assert typed(Place("x"), "\n").query == "x"
    assert erased(Place("stop en")).query == "stop e"
    assert erased(Place("stop en"), word=True).query == "stop "
    assert erased(Place("")).query == "" and len(typed(Place(), "y" * 500).query) == 80


@pytest.mark.parametrize("size", [(200, 60), (80, 24), (60, 16), (30, 8), (5, 3), (1, 1)])
@pytest.mark.parametrize("query", ["", "stop", "zzqqxx"])
def test_the_list_fits_any_terminal(size: tuple[int, int], query: str) -> None:
    entries = [*ACTIONS, Entry("evil", "\x1b[2J" + "学" * 80, "enter", "because " * 20)]
    rect = choice_list.where(*size, len(entries))
    assert rect.x >= 0 and rect.y >= 0 and rect.x + rect.width <= size[0] and rect.y + rect.height <= size[1]
    found = choice_list.lines("Actions", "type", hits(entries, query), Place(query), rect.width, rect.height)
    if rect.height >= 3:
        assert len(found) == rect.height
    if rect.width >= 40:
        for one in found:
            assert sum(width_of(text) for text, _ in one.spans) == rect.width, one


def test_why_an_action_is_off_is_told_beside_it_at_80_columns() -> None:
    rect = choice_list.where(80, 24, 10)
    off = Entry(
        "accept", "accept the proposal or keep (with its diff in sight)", "a", "nothing waits for a decision"
    )
    (line,) = [
        line for line in choice_list.lines("Actions", "", hits([off], ""), Place(), rect.width, rect.height)
        if "accept" in "".join(text for text, _ in line.spans)
    ]  # fmt: skip
    assert "nothing waits for a decision" in "".join(text for text, _ in line.spans)
