"""Edits apply exactly once or say, with line numbers, why not; the file's own style survives."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.edits import Delete, Insert, Operation, Replace, Write, apply, insert, replace
from engine.errors import EditRejected
from engine.types import FileChange

FILE = "import torch\n\n\ndef step(model):\n    loss = model()\n    loss.backward()\n    return loss\n"


def refusal(text: str, old: str, new: str = "x") -> str:
    with pytest.raises(EditRejected) as caught:
        replace(text, old, new)
    assert caught.value.mend
    return caught.value.message


def test_replaces_the_one_occurrence() -> None:
    assert replace(FILE, "loss.backward()", "loss.mean().backward()") == FILE.replace(
        "loss.backward()", "loss.mean().backward()"
    )
    assert replace(FILE, "    return loss\n", "") == FILE.removesuffix("    return loss\n")


def test_pattern_characters_are_plain_text() -> None:
    assert replace("a = [x*2] # (.+)\\d\n", "[x*2] # (.+)\\d", "\\1$") == "a = \\1$\n"


@pytest.mark.parametrize(
    ("text", "old", "lines"),
    [("a\nb\na\n", "a", "1, 3"), ("aaa", "aa", "1, 1"), ("x\ny\nx\ny\nx\n", "x\ny\nx", "1, 3")],
)
def test_an_ambiguous_anchor_names_every_line(text: str, old: str, lines: str) -> None:
    assert f"at lines {lines}" in refusal(text, old)


@pytest.mark.parametrize(
    ("old", "says"),
    [
        ("      loss = model()\n", "indentation of its line 1 differs"),
        ("\tloss = model()\n\tloss.backward()", "with spaces, your text with tabs"),
        ("    loss = model() \n    loss.backward()", "whitespace at the end of its line 1"),
        ("loss  =  model()\n", "whitespace inside its line 1"),
        ("    loss = model()\n    loss.backwards()\n", "its line 2 differs; yours is:     loss.backwards()"),
        ("     5\t    loss = model()\n     6\t    loss.backward()", "line numbers of the listing"),
        ("\n\n\n\nimport torch\n", "blank lines that are not there"),
        ("zzz qqq", "nothing there is like it"),
        ("    return loss\n    print(loss)\n", "line 2 differs"),
    ],
)
def test_a_near_miss_says_what_differs(old: str, says: str) -> None:
    assert says in refusal(FILE, old)


def test_a_near_miss_shows_the_nearest_lines_with_their_numbers() -> None:
    report = refusal(FILE, "  loss = model()\n  loss.backward()\n")
    assert "line 5" in report and "     5 |     loss = model()" in report


def test_empty_and_idle_replacements_are_refused() -> None:
    assert "empty" in refusal(FILE, "")
    assert "equals" in refusal(FILE, "import torch\r\n", "import torch\n")


def test_line_endings_are_the_files() -> None:
    windows = FILE.replace("\n", "\r\n")
    edited = replace(windows, "    loss = model()\n    loss.backward()\n", "    a()\n    b()\n")
    assert "a()\r\n    b()\r\n" in edited and "\n" not in edited.replace("\r\n", "")
    assert replace(FILE, "def step(model):\r\n", "def go(model):\r\n").count("\r") == 0
    assert replace("a\r\nfoo\r\n", "\nfoo", "\nbar") == "a\r\nbar\r\n"  # one match, not two
    assert insert(windows, 1, "import os\n").startswith("import torch\r\nimport os\r\n")


def test_insert_keeps_the_end_of_the_file_as_it_is() -> None:
    assert insert("a\nb\n", 0, "x") == "x\na\nb\n"
    assert insert("a\nb\n", 2, "x\n") == "a\nb\nx\n"
    assert insert("a\nb", 2, "x\n") == "a\nb\nx"
    assert insert("a\nb", 1, "x") == "a\nx\nb"
    assert insert("", 0, "x") == "x\n"
    assert insert("a\x0cb\u2028c\nd\n", 1, "x\n") == "a\x0cb\u2028c\nx\nd\n"  # a line ends at \n only
    with pytest.raises(EditRejected, match="the file has 2"):
        insert("a\nb\n", 3, "x")


def test_apply_takes_operations_in_order_and_returns_what_differs() -> None:
    files = {"a.py": b"one\n", "b.py": b"two\n", "c.py": b"three\n"}
    operations: list[Operation] = [
        Replace("a.py", "one", "1"),
        Insert("a.py", 1, "more"),
        Write("new.py", "n = 1\n"),
        Delete("b.py"),
        Write("c.py", "three\n"),
    ]
    assert apply(files, operations) == (
        FileChange("a.py", b"1\nmore\n"),
        FileChange("b.py", None),
        FileChange("new.py", b"n = 1\n"),
    )
    assert files["a.py"] == b"one\n"


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (Replace("nope.py", "a", "b"), "edit 1 (nope.py): there is no such file"),
        (Replace("raw.bin", "a", "b"), "not UTF-8"),
        (Delete("nope.py"), "no such file"),
        (Write("w.py", "\ud800"), "UTF-8 cannot express"),
    ],
)
def test_apply_names_operation_and_file(operation: Operation, says: str) -> None:
    with pytest.raises(EditRejected) as caught:
        apply({"raw.bin": b"\xff\xfe"}, [operation])
    assert says in caught.value.message


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="ab \t\r\n", max_size=30), st.text(alphabet="ab \t\n", min_size=1, max_size=6))
def test_replace_agrees_with_counting(text: str, old: str) -> None:
    plain = text.replace("\r\n", "\n")
    count = sum(plain.startswith(old, i) for i in range(len(plain)))
    try:
        edited = replace(text, old, "Z")
    except EditRejected as fault:
        assert count != 1, fault.message
        return
    assert count == 1 and edited.replace("\r\n", "\n") == plain.replace(old, "Z")


def test_reports_on_a_long_file_do_not_stall() -> None:
    long = "".join(f"    value_{i} = compute({i}, scale={i % 7})\n" for i in range(10_000))
    started = time.perf_counter()
    report = refusal(long, "    value_777 = compute(777, scale=9)\n    value_778 = compute(778, scale=9)\n")
    print(f"near-miss report over 10,000 lines: {time.perf_counter() - started:.2f} s")
    assert "line 778" in report
