"""Rows of a diff, unified and side by side: every row once, any window of them, and the moves among them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.diff_context import recut
from console.diff_moves import DiffView, keep_place, last_top, move, next_file, next_hunk, with_context
from console.diff_rows import Index
from console.diffs import Diff, parse
from console.word_changes import paired, word_changes
from tests.console.test_diffs import edited, unified


@st.composite
def diffs(draw: st.DrawFn) -> Diff:
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        lines += unified(*draw(edited()), draw(st.sampled_from([0, 3])))
        lines += draw(st.sampled_from([[], ["? odd"], ["diff --git a/m b/m", "old mode 1", "new mode 2"]]))
    return parse(lines)


def rows(diff: Diff) -> list[tuple[object, ...]]:
    return [(f, h, row) for f, file in enumerate(diff) for h, hunk in enumerate(file.hunks) for row in hunk.rows]


@given(diffs())
def test_side_by_side_shows_each_row_once_and_in_order(diff: Diff) -> None:
    shown = [p for p in Index(diff, True).window(0, 10**6) if p.kind == "row"]
    for side, mine in ((" -?", lambda p: p.old), (" +?", lambda p: p.new)):
        assert [(p.file, p.hunk, mine(p)) for p in shown if mine(p) is not None] == [
            found
            for found in rows(diff)
            if found[2].sign in side  # type: ignore[attr-defined]
        ]
    for place in shown:
        if place.old is not None and place.new is not None and place.old is not place.new:
            assert (place.old.sign, place.new.sign) == ("-", "+")


@given(diffs())
def test_unified_shows_each_row_once_and_in_order(diff: Diff) -> None:
    shown = [p for p in Index(diff, False).window(0, 10**6) if p.kind == "row"]
    assert [(p.file, p.hunk, p.old or p.new) for p in shown] == rows(diff)
    replaced = {(p.file, p.hunk, p.old): p.other for p in shown if p.old is not None and p.other is not None}
    for place in shown:
        if place.new is not None and place.other is not None:  # each is the other's other
            assert replaced[place.file, place.hunk, place.other] == place.new


@given(diffs(), st.booleans(), st.integers(0, 50), st.integers(0, 30))
def test_a_window_is_a_part_of_the_whole(diff: Diff, split: bool, top: int, height: int) -> None:
    index = Index(diff, split)
    whole = index.window(0, 10**6)
    assert len(whole) == index.total
    assert Index(diff, split).window(top, height) == whole[top : top + height]
    assert [at for at, p in enumerate(whole) if p.kind == "hunk"] == list(index.hunks)
    assert [at for at, p in enumerate(whole) if p.kind == "file"] == list(index.tops)


def test_a_window_looks_at_no_other_hunk() -> None:
    index = Index(large(), True)
    index.window(index.hunks[5], 3)
    assert list(index._blocks) == [(0, 5)]


# --- pairs -------------------------------------------------------------------------------------------


def test_a_removed_line_stands_beside_the_added_line_that_replaces_it() -> None:
    removed = ("    lr = schedule(step)", "    loss = model(x)")
    added = (
        "    # a remark",
        "    lr = schedule(step, warmup)",
        "    print(lr)",
        "    loss = model(x, y)",
        "    x",
    )
    assert paired(removed, added) == ((None, 0), (0, 1), (None, 2), (1, 3), (None, 4))
    assert paired(added, removed) == ((0, None), (1, 0), (2, None), (3, 1), (4, None))


@given(st.lists(st.text("ab ", max_size=6), max_size=8), st.lists(st.text("ab ", max_size=6), max_size=8))
def test_pairs_keep_the_order_and_lose_no_line(removed: list[str], added: list[str]) -> None:
    pairs = paired(tuple(removed), tuple(added))
    assert [i for i, _ in pairs if i is not None] == list(range(len(removed)))
    assert [j for _, j in pairs if j is not None] == list(range(len(added)))
    assert len(pairs) == max(len(removed), len(added))


def test_blocks_too_large_to_compare_are_paired_one_after_the_other() -> None:
    pairs = paired(tuple(map(str, range(500))), tuple(map(str, range(1, 1001))))
    assert pairs[:2] == ((0, 0), (1, 1)) and pairs[-1] == (None, 999)


# --- words -------------------------------------------------------------------------------------------


def words(old: str, new: str) -> tuple[list[str], list[str]]:
    left, right = word_changes(old, new)
    return [old[a:b] for a, b in left], [new[a:b] for a, b in right]


def test_the_words_that_changed_are_found() -> None:
    assert words("lr = 3e-4  # by hand", "lr = 6e-4  # by hand") == (["3e"], ["6e"])
    assert words("return f(x)", "return f(x) * scale") == ([], [" * scale"])
    assert words("a = old_name(b, c)", "a = new_name(b, d)") == (["old_name", "c"], ["new_name", "d"])


def test_changes_with_only_blanks_between_are_one() -> None:
    assert words("keep this one two end of it", "keep this three four end of it") == (["one two"], ["three four"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("same", "same"),
        ("import os", "x = torch.zeros(3)"),
        ("x " * 600, "y " * 600),
        ("a1 b2 " * 90, "c3 a1 " * 90),
    ],
)
def test_lines_that_are_long_or_strangers_have_no_words_that_changed(old: str, new: str) -> None:
    assert word_changes(old, new) == ((), ())


@given(st.text("ab .\u6f22\u0301", max_size=30), st.text("ab .\u6f22\u0301", max_size=30))
def test_what_is_left_without_the_changes_is_alike(old: str, new: str) -> None:
    left, right = word_changes(old, new)

    def rest(text: str, ranges: tuple[tuple[int, int], ...]) -> str:
        assert all(a < b for a, b in ranges) and list(ranges) == sorted(ranges)
        return "".join(c for i, c in enumerate(text) if not any(a <= i < b for a, b in ranges) and not c.isspace())

    if left or right:
        assert rest(old, left) == rest(new, right)


# --- moves -------------------------------------------------------------------------------------------


def large(hunks: int = 20) -> Diff:
    lines = ["--- a/x.py", "+++ b/x.py"]
    for h in range(hunks):
        at = 1 + 50 * h
        lines += [
            f"@@ -{at},7 +{at},8 @@ def f_{h}():",
            *(f" {i} {h}" for i in range(3)),
            f"-old {h}",
            f"+new {h}",
        ]
        lines += [f"+more {h}", *(f" {i} {h}" for i in range(3, 6))]
    return parse([*lines, *lines[:10], "diff --git a/m b/m", "old mode 100644", "new mode 100755"])


@pytest.mark.parametrize("split", [False, True])
def test_the_next_hunk_comes_under_the_line_that_names_its_file(split: bool) -> None:
    index = Index(large(), split)
    view, seen = DiffView(), []
    for _ in range(len(index.hunks) + 3):
        seen.append(view.top)
        view = next_hunk(view, index, 1)
    assert seen[: len(index.hunks)] == [at - 1 for at in index.hunks]
    assert len(set(seen)) == len(index.hunks)  # and it stays at the last one
    for _ in index.hunks:
        view = next_hunk(view, index, -1)
    assert view.top == 0


def test_jumps_go_to_files_as_well() -> None:
    index = Index(large(), False)
    tops = [next_file(DiffView(top=top), index, 1).top for top in (0, 1, index.tops[1], index.tops[2])]
    assert tops == [index.tops[1], index.tops[1], index.tops[2], index.tops[2]]
    assert next_file(DiffView(top=index.tops[2]), index, -1).top == index.tops[1]


@given(
    diffs(), st.booleans(), st.integers(1, 40), st.lists(st.sampled_from(["j", "k", "n", "N", "f", "F", "d", "g"]))
)
def test_no_move_leaves_the_diff(diff: Diff, split: bool, height: int, keys: list[str]) -> None:
    index, view = Index(diff, split), DiffView()
    steps = {"j": 1, "k": -1, "d": height, "g": -(10**6)}
    for key in keys:
        if key in steps:
            view = move(view, steps[key], index, height)
        else:
            view = (next_hunk if key in "nN" else next_file)(view, index, 1 if key.islower() else -1, height)
        assert 0 <= view.top <= last_top(index, height)


def test_a_view_from_beyond_the_end_moves_from_the_end() -> None:
    index = Index(large(), False)
    last = last_top(index, 10)
    assert move(DiffView(top=10**6), -1, index, 10).top == last - 1
    assert next_hunk(DiffView(top=10**6), index, -1, 10).top < last


@pytest.mark.parametrize("context", [3, 1, 0])
def test_laid_out_anew_what_was_read_stays_where_it_was(context: int) -> None:
    old, new = Index(large(), False), Index(recut(large(), context), True)
    everything = {row for place in new.window(0, new.total) for row in (place.old, place.new)}
    for top in range(1, old.tops[1] - 2):
        (place,) = old.window(top + 1, 1)
        kept = keep_place(DiffView(top=top), old, new).top
        row = place.old or place.new
        if row is None:  # the head of a hunk
            assert new.window(kept + 1, 1)[0].kind == "hunk"
        elif row in everything:
            assert row in {row for seen in new.window(kept + 1, 1) for row in (seen.old, seen.new)}
        else:  # not shown in this context: the hunk that follows, or the last one
            assert new.window(kept + 1, 1)[0].kind == "hunk"
    assert keep_place(DiffView(top=0), old, new).top == 0
    assert keep_place(DiffView(top=5), old, Index((), False)).top == 0


def test_context_goes_by_levels_and_ends() -> None:
    seen = Counter[int]()
    view = DiffView()
    for step in (-1, -1, -1, 1, 1, 1):
        view = with_context(view, step)
        seen[view.context] += 1
    assert seen == {1: 2, 0: 2, 3: 2}
    assert with_context(DiffView(context=3), 1, (0, 1, 3, 10)).context == 10


def test_two_sides_come_by_themselves_where_the_pane_is_wide_and_by_wish_anywhere() -> None:
    assert [DiffView().is_split(width) for width in (109, 110)] == [False, True]
    assert DiffView(split=True).is_split(60) and not DiffView(split=False).is_split(500)
    assert not DiffView(split=True).is_split(20)  # no code would be seen
