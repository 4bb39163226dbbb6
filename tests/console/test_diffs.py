"""A diff is read as git meant it, and nothing in it is hidden from who reviews it."""

from __future__ import annotations

import difflib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.diff_context import recut
from console.diffs import LIMIT, Diff, File, parse, shown

OLD_NAMES = {
    "plain.py": b"def f():\n    return 1\n" * 20,
    "with blank.py": b"a\n",
    "tab\there.py": b"a\n",
    'quote".py': b"a\n",
    "back\\slash.py": b"a\n",
    "new\nline.py": b"a\n",
    "\u00e9-\u00fcn\u00ef.py": b"a\n",
    "\u6f22\u5b57 b/\u5b57 b.py": b"a\n",
    "latin-1.txt": b"gr\xfcn\nblau\n",
    "crlf.txt": b"one\r\ntwo\r\nthree\r\n",
    "no newline.txt": b"one\ntwo",
    "signs.sql": b"-- a comment\n++ more\n@@ -1 +1 @@\ndiff --git a/x b/x\n\\ No newline at end of file\nend\n",
    "gone.txt": b"away\n",
    "mode.sh": b"echo\n",
    "blob.bin": b"\0\1\2" * 50,
}


def git(folder: Path, *arguments: str) -> bytes:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    named = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", *named, *arguments], cwd=folder, env=environment, check=True, capture_output=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose index differs from HEAD in every way that git knows words for."""
    folder = tmp_path_factory.mktemp("repo")
    git(folder, "init", "-q")
    for name, content in OLD_NAMES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "old")
    for name, content in OLD_NAMES.items():
        if content == b"a\n":
            (folder / name).write_bytes(b"a\nb\n")
    (folder / "latin-1.txt").write_bytes(b"gr\xfcn\nwei\xdf\n")
    (folder / "crlf.txt").write_bytes(b"one\r\ntwo\nthree\r\n")
    (folder / "no newline.txt").write_bytes(b"one\ntwo\nthree")
    (folder / "signs.sql").write_bytes(b"end\n")
    (folder / "blob.bin").write_bytes(b"\0\1\3" * 50)
    (folder / "empty.txt").touch()
    (folder / "new.py").write_bytes(b"x = 1\n")
    (folder / "mode.sh").chmod(0o755)
    git(folder, "rm", "-q", "gone.txt")
    git(folder, "mv", "plain.py", "moved 'here'\t.py")
    (folder / "moved 'here'\t.py").write_bytes(OLD_NAMES["plain.py"] + b"more\n")
    git(folder, "add", ".")
    return folder


def diff_of(folder: Path, *options: str) -> Diff:
    text = git(folder, "diff", "--cached", "--no-color", "-M", *options).decode("utf-8", "replace")
    return parse(text.split("\n"))


@pytest.mark.parametrize("options", [(), ("-U0",), ("--binary",), ("-c", "core.quotepath=off")])
def test_files_names_and_counts_are_those_of_git(changed: Path, options: tuple[str, ...]) -> None:
    if options[:1] == ("-c",):
        text = git(changed, *options, "diff", "--cached", "-M").decode("utf-8", "replace")
        files = parse(text.split("\n"))
    else:
        files = diff_of(changed, *options)
    told = git(changed, "diff", "--cached", "-M", "--numstat", "-z").decode().split("\0")
    wanted: dict[str, tuple[str, str]] = {}
    while told and told[0]:
        added, removed, name = told.pop(0).split("\t", 2)
        if not name:  # a rename: both names follow
            told.pop(0)
            name = told.pop(0)
        wanted[name] = (added, removed)
    assert {f.path: ("-", "-") if f.binary else (str(f.added), str(f.removed)) for f in files} == wanted
    assert all(not f.notes for f in files)


def test_what_became_of_each_file_is_told(changed: Path) -> None:
    files = {f.path: f for f in diff_of(changed)}
    assert (files["gone.txt"].change, files["gone.txt"].new) == ("deleted", None)
    assert (files["new.py"].change, files["new.py"].old) == ("new", None)
    assert files["empty.txt"].change == "new" and not files["empty.txt"].hunks
    moved = files["moved 'here'\t.py"]
    assert (moved.change, moved.old) == ("renamed", "plain.py") and moved.alike is not None and moved.alike > 80
    assert files["mode.sh"].modes == ("100644", "100755")
    assert files["blob.bin"].binary and not files["blob.bin"].hunks
    assert {f.change for name, f in files.items() if name in OLD_NAMES and name != "gone.txt"} == {"changed"}


def test_rows_that_look_like_heads_are_rows(changed: Path) -> None:
    signs = next(f for f in diff_of(changed) if f.path == "signs.sql")
    assert [row.text for row in signs.hunks[0].rows if row.sign == "-"] == OLD_NAMES["signs.sql"].decode().split(
        "\n"
    )[:5]


def test_ends_without_a_newline_belong_to_their_rows(changed: Path) -> None:
    rows = next(f for f in diff_of(changed) if f.path == "no newline.txt").hunks[0].rows
    assert [(row.sign, row.text, row.newline) for row in rows] == [
        (" ", "one", True), ("-", "two", False), ("+", "two", True), ("+", "three", False),
    ]  # fmt: skip


def test_a_carriage_return_is_part_of_its_row(changed: Path) -> None:
    rows = next(f for f in diff_of(changed) if f.path == "crlf.txt").hunks[0].rows
    assert [(row.sign, row.text) for row in rows if row.sign != " "] == [("-", "two\r"), ("+", "two")]


def test_git_with_more_and_with_less_context_says_what_recutting_says(changed: Path) -> None:
    stored = diff_of(changed)
    texts = {name: content.decode("utf-8", "replace") for name, content in OLD_NAMES.items()}
    for context in (0, 1, 3, 10):
        assert rows_of(recut(stored, context, texts)) == rows_of(diff_of(changed, f"-U{context}"))


def rows_of(files: Diff) -> list[object]:
    return [(f.path, h.head, h.rows) for f in files for h in f.hunks]


# --- odd input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "\n", "no diff at all\n", "@@ -1 +1 @@\n", "@@ -1,5 +1,5 @@\n+a\n", "--- a/x\n", "diff --git\n",
     'diff --git "a/\\777\\q\n', "rename from \nsimilarity index x%\nold mode\n", "diff --cc x\n@@@ -1 -1 +1 @@@\n++x\n"],
)  # fmt: skip
def test_what_is_no_diff_is_kept_and_never_raises(text: str) -> None:
    parse(text.split("\n"))


@given(
    st.lists(
        st.text(max_size=12)
        | st.sampled_from(["@@ -1,2 +1,3 @@ f", "--- a/x", "+++ b/x", "\\ No", "-a", "+b", " c"])
    )
)
def test_no_lines_raise(lines: list[str]) -> None:
    parse(lines)
    recut(parse(lines), 0)


def test_a_diff_that_was_cut_off_says_so_where_it_ends() -> None:
    files = parse(["--- a/x", "+++ b/x", "@@ -1,9 +1,9 @@", " a", "... cut after 4 lines"])
    assert [(row.sign, row.text) for row in files[0].hunks[0].rows] == [(" ", "a"), ("?", "... cut after 4 lines")]
    whole = parse(["--- a/x", "+++ b/x", "@@ -1 +1 @@", "-a", "+b", "... cut after 5 lines"])
    assert [row.sign for row in whole[0].hunks[0].rows] == ["-", "+", "?"]


def test_a_row_more_than_the_head_counts_is_shown_as_odd() -> None:
    rows = parse(["--- a/x", "+++ b/x", "@@ -1,2 +1 @@", "+a", "+b", "-c", "-d"])[0].hunks[0].rows
    assert [(row.sign, row.text) for row in rows] == [("+", "a"), ("?", "+b"), ("-", "c"), ("-", "d")]


def test_a_diff_without_gits_own_head_is_read_as_well() -> None:
    files = parse(
        ["--- a/x", "+++ b/x", "@@ -1 +1 @@", "-a", "+b", "--- a/y", "+++ /dev/null", "@@ -1 +0,0 @@", "-c"]
    )
    assert [(f.path, f.change, f.added, f.removed) for f in files] == [
        ("x", "changed", 1, 1),
        ("y", "deleted", 0, 1),
    ]


# --- any two texts -----------------------------------------------------------------------------------

LINE = st.text(st.sampled_from("ab +-@\\\t\r\x1b\u6f22\u0301\u202e"), max_size=8)


@st.composite
def edited(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Two texts of which the second is the first with some lines changed: alike enough to have context."""
    old = draw(st.lists(LINE, min_size=1, max_size=60))
    new = list(old)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(new)))
        new[at : at + draw(st.integers(0, 3))] = draw(st.lists(LINE, max_size=3))
    return old, new


def unified(old: list[str], new: list[str], context: int = 3) -> list[str]:
    return list(difflib.unified_diff(old, new, "a/x.py", "b/x.py", n=context, lineterm=""))


@given(edited())
def test_rows_reproduce_the_text_of_the_diff(texts: tuple[list[str], list[str]]) -> None:
    lines = unified(*texts)
    files = parse(lines)
    told = [line for f in files for h in f.hunks for line in (h.head, *(row.sign + row.text for row in h.rows))]
    assert told == lines[2:]


@given(edited(), st.sampled_from([0, 1, 3]))
def test_less_context_is_what_a_diff_with_less_context_says(
    texts: tuple[list[str], list[str]], context: int
) -> None:
    assert rows_of(recut(parse(unified(*texts)), context)) == rows_of(parse(unified(*texts, context)))


@given(edited(), st.sampled_from([0, 1, 3, 5, 10, 100]), st.sampled_from([0, 1, 3]))
def test_more_context_is_what_a_diff_with_more_context_says(
    texts: tuple[list[str], list[str]], context: int, stored: int
) -> None:
    old = {"x.py": "".join(f"{line}\n" for line in texts[0])}
    assert rows_of(recut(parse(unified(*texts, stored)), context, old)) == rows_of(parse(unified(*texts, context)))


def test_a_text_that_the_diff_was_not_made_from_adds_no_context() -> None:
    files = parse(unified(["a", "b", "c", "d", "e"], ["a", "b", "X", "d", "e"], 1))
    assert recut(files, 10, {"x.py": "a\nB\nc\nd\ne\n"}) == files
    assert len(recut(files, 10, {"x.py": "a\nb\nc\nd\ne\n"})[0].hunks[0].rows) == 6


def test_a_hunk_that_was_parted_names_what_encloses_each_part() -> None:
    old = ["class A:", "    def f(self):", *["        pass"] * 4, "    def g(self):", *["        pass"] * 3]
    new = [*old[:3], "        x", *old[3:9], "        y"]
    parts = recut(parse(unified(old, new)), 0)[0].hunks
    assert [(h.head, h.heading) for h in parts] == [
        ("@@ -3,0 +4 @@", "def f(self):"), ("@@ -10 +11 @@", "def g(self):"),
    ]  # fmt: skip


# --- how a row reads ---------------------------------------------------------------------------------


@given(
    st.text(max_size=200) | st.text(st.sampled_from("\x1b[]0;m\x07\x9b\r\n\tax\u202e\u3164\ufe0f\U000e0100\ud800"))
)
def test_no_control_character_is_shown_and_every_letter_is(text: str) -> None:
    def letters(of: str) -> list[str]:
        return [c for c in of if "a" <= c <= "z"]  # names of what is not seen are in capitals

    told = shown(text)
    assert told.isprintable() and letters(told) == letters(text)


def test_code_inside_of_an_escape_sequence_is_not_hidden() -> None:
    assert shown("s = '\x1b]'; wipe()\x07") == "s = '\u241b]'; wipe()\u2407"
    assert shown("good\rbad") == "good\u240dbad"
    assert shown("a\u202eb\u200bc\ud800") == "a<U+202E>b<U+200B>c<U+D800>"


def test_an_enormous_line_is_cut() -> None:
    assert len(shown("x" * 10**6)) == LIMIT and len(shown("\u6f22" * 10**6)) == LIMIT


def test_tabs_are_expanded_from_the_first_column_of_the_code() -> None:
    assert shown("\tx\ty") == "    x   y"


def test_a_file_without_any_name_has_one() -> None:
    assert File(None, None).path == "?"
