"""Merging a proposal onto a newer incumbent, line by line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.line_merge import merge_files, merge_lines

BASE = b"LR = 0.001\nBATCH = 8\nDEPTH = 3\nWIDTH = 64\n"


def edit(text: bytes, old: bytes, new: bytes) -> bytes:
    assert old in text
    return text.replace(old, new)


def test_neighbouring_lines_merge() -> None:
    merged = merge_lines(BASE, edit(BASE, b"0.001", b"0.002"), edit(BASE, b"BATCH = 8", b"BATCH = 4"))
    assert merged == b"LR = 0.002\nBATCH = 4\nDEPTH = 3\nWIDTH = 64\n"


def test_the_same_line_is_a_conflict_unless_both_say_the_same() -> None:
    two, three = edit(BASE, b"0.001", b"0.002"), edit(BASE, b"0.001", b"0.003")
    assert merge_lines(BASE, two, three) is None
    assert merge_lines(BASE, two, two) == two


def test_insertions_at_one_place_conflict_and_elsewhere_merge() -> None:
    after_lr, other = edit(BASE, b"BATCH", b"A = 1\nBATCH"), edit(BASE, b"BATCH", b"B = 2\nBATCH")
    assert merge_lines(BASE, after_lr, other) is None
    at_end = BASE + b"C = 3\n"
    assert merge_lines(BASE, after_lr, at_end) == edit(at_end, b"BATCH", b"A = 1\nBATCH")


def test_a_deletion_across_a_changed_line_is_a_conflict() -> None:
    assert merge_lines(BASE, b"LR = 0.001\nWIDTH = 64\n", edit(BASE, b"DEPTH = 3", b"DEPTH = 4")) is None


def test_files_merge_one_by_one() -> None:
    base = {"a": BASE, "b": b"x\n", "c": b"\0"}
    ours = {"a": edit(BASE, b"64", b"96"), "b": b"x\n", "c": b"\0"}
    theirs = {"a": edit(BASE, b"0.001", b"0.002"), "b": b"y\n", "c": b"\0", "new": b"n\n"}
    merged, conflicts = merge_files(base, ours, theirs)
    assert merged == {"a": edit(ours["a"], b"0.001", b"0.002"), "b": b"y\n", "new": b"n\n"}
    assert conflicts == []
    assert merge_files(base, {**ours, "b": b"z\n"}, theirs)[1] == ["b"]
    assert merge_files(base, {"a": BASE}, {"b": b"y\n", "a": BASE, "c": b"\0"})[1] == ["b"]


LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"d\n"]), max_size=8).map(b"".join)


@given(LINES, LINES)
def test_one_sided_changes_come_through_whole(base: bytes, side: bytes) -> None:
    assert merge_lines(base, base, side) == side
    assert merge_lines(base, side, base) == side
    assert merge_lines(base, side, side) == side


@given(LINES, LINES, LINES)
def test_the_sides_are_interchangeable(base: bytes, one: bytes, two: bytes) -> None:
    assert merge_lines(base, one, two) == merge_lines(base, two, one)
