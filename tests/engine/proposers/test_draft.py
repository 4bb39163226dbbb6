"""The working copy: exact edits, paths as models write them, and nothing outside the scope, ever."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import EditRejected
from engine.proposers.draft import LARGEST_FILE, MOST_CHANGES, Draft
from engine.scope import Scope
from engine.types import FileChange

TRAIN = b"import model\n\nLR = 0.02\nSTEPS = 100\nLR2 = 0.02\n"
FILES = {
    "train.py": TRAIN,
    "src/model.py": b"WIDTH = 64\r\nDEPTH = 4\r\n",
    "src/data.bin": b"\xff\xfe\x00",
    "evaluate.py": b"def score(): ...\n",
    "README.md": b"# words\n",
    "empty.py": b"",
}
SCOPE = Scope(("train.py", "empty.py", "/src/"), ("evaluate.py", "src/frozen/"))


@pytest.fixture
def draft() -> Draft:
    return Draft(FILES, SCOPE)


def refused(call: object, *arguments: object, **named: object) -> EditRejected:
    with pytest.raises(EditRejected) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    assert caught.value.message and caught.value.mend, "a refusal says what is wrong and the mend"
    return caught.value


def changed(draft: Draft) -> dict[str, bytes | None]:
    return {change.path: change.content for change in draft.changes()}


# --- editing -----------------------------------------------------------------------------------------


def test_a_fresh_draft_has_no_changes_and_an_edit_undone_by_hand_leaves_none(draft: Draft) -> None:
    assert draft.changes() == ()
    draft.str_replace("train.py", "STEPS = 100", "STEPS = 200")
    assert changed(draft) == {"train.py": TRAIN.replace(b"100", b"200")}
    draft.str_replace("train.py", "STEPS = 200", "STEPS = 100")
    assert draft.changes() == ()


def test_a_replacement_shows_the_place_as_it_reads_now(draft: Draft) -> None:
    told = draft.str_replace("train.py", "STEPS = 100", "STEPS = 200\nWARM = 5")
    assert told.startswith("train.py: 1 lines became 2")
    assert "     4\tSTEPS = 200\n     5\tWARM = 5" in told


def test_no_match_comes_back_with_the_nearest_lines_and_what_differs(draft: Draft) -> None:
    said = refused(draft.str_replace, "train.py", "LR = 0.02\nSTEPS = 11", "x").message
    assert "Nearest is line 3" in said and "3 | LR = 0.02" in said and "4 | STEPS = 100" in said
    assert draft.changes() == ()


def test_several_matches_come_back_with_their_lines(draft: Draft) -> None:
    said = refused(draft.str_replace, "train.py", " = 0.02", " = 0.03")
    assert "occurs 2 times, at lines 3, 5" in said.message
    assert draft.changes() == ()


def test_a_long_text_that_differs_in_its_middle_is_compared_where_it_differs() -> None:
    """``edits`` alone takes minutes for this one."""
    lines = [f"    x{i} = layer(x{i}, {i * 7919 % 1000})" for i in range(3000)]
    draft = Draft({"train.py": "\n".join(lines).encode()}, SCOPE)
    wanted = lines[1000:1400]
    wanted[250] = wanted[250].replace("layer", "laier")
    said = refused(draft.str_replace, "train.py", "\n".join(wanted), "pass").message
    assert "lines 249-260 only" in said and "Nearest is line 1249" in said
    wanted = lines[1000:1100] + lines[1101:1200]
    said = refused(draft.str_replace, "train.py", "\n".join(wanted), "pass").message
    assert "train.py: your text was compared by its lines 99-110" in said
    wanted = lines[1000:1014] + lines[10:30]
    said = refused(draft.str_replace, "train.py", "\n".join(wanted), "pass").message
    assert "compared by its lines 13-24" in said


def test_a_text_for_which_an_exact_search_would_take_seconds_is_refused() -> None:
    draft = Draft({"train.py": b"a" * 900_000}, SCOPE)
    assert "too many places" in refused(draft.str_replace, "train.py", "a" * 5000, "x").message
    assert "occurs 900,000 times, first at line 1" in refused(draft.str_replace, "train.py", "a", "x").message
    assert "before or after them" in refused(draft.str_replace, "train.py", "a" * 5000 + "b", "x").message


def test_a_long_text_that_is_there_once_is_replaced() -> None:
    lines = [f"    x{i} = layer(x{i}, {i * 7919 % 1000})" for i in range(3000)]
    draft = Draft({"train.py": "\n".join(lines).encode()}, SCOPE)
    draft.str_replace("train.py", "\n".join(lines[500:2500]), "    pass")
    assert draft.text("train.py") == "\n".join([*lines[:500], "    pass", *lines[2500:]])


def test_line_endings_stay_the_files_own(draft: Draft) -> None:
    draft.str_replace("src/model.py", "WIDTH = 64\nDEPTH = 4", "WIDTH = 96\nDEPTH = 5")
    draft.insert("src/model.py", 2, "HEADS = 4")
    assert changed(draft)["src/model.py"] == b"WIDTH = 96\r\nDEPTH = 5\r\nHEADS = 4\r\n"
    draft.create("src/model.py", "A = 1\nB = 2\n")
    assert changed(draft)["src/model.py"] == b"A = 1\r\nB = 2\r\n"
    assert "CRLF" in draft.view("src/model.py") and "\r" not in draft.view("src/model.py")


def test_insert_counts_lines_as_an_editor_does(draft: Draft) -> None:
    draft.insert("train.py", 0, "# top")
    assert draft.text("train.py").startswith("# top\nimport model\n")
    draft.insert("train.py", 6, "END = 1\n")
    assert draft.text("train.py").endswith("LR2 = 0.02\nEND = 1\n")
    assert "there is no line 99" in refused(draft.insert, "train.py", 99, "x").message
    assert "there is no line -1" in refused(draft.insert, "train.py", -1, "x").message
    assert "empty" in refused(draft.insert, "train.py", 0, "").message


def test_a_file_can_be_made_rewritten_and_deleted_within_the_scope(draft: Draft) -> None:
    assert "is new" in draft.create("src/new/block.py", "A = 1\n")
    assert "was rewritten" in draft.create("train.py", "B = 1\n")
    draft.delete("src/model.py")
    assert changed(draft) == {"src/model.py": None, "src/new/block.py": b"A = 1\n", "train.py": b"B = 1\n"}
    assert "deleted" in refused(draft.view, "src/model.py").message
    assert "deleted already" in refused(draft.delete, "src/model.py").message
    assert "deleted" in refused(draft.str_replace, "src/model.py", "a", "b").message
    draft.delete("src/new/block.py")
    draft.create("src/model.py", "WIDTH = 1\n")
    assert set(changed(draft)) == {"src/model.py", "train.py"}


def test_a_replacement_of_nothing_or_by_the_same_is_refused(draft: Draft) -> None:
    assert "empty" in refused(draft.str_replace, "train.py", "", "x").message
    assert "equals" in refused(draft.str_replace, "train.py", "LR = 0.02\n", "LR = 0.02\n").message


def test_what_is_not_text_is_left_alone(draft: Draft) -> None:
    for call in (draft.view, lambda p: draft.str_replace(p, "a", "b"), lambda p: draft.insert(p, 0, "b")):
        assert "not UTF-8" in refused(call, "src/data.bin").message
    assert "cannot express" in refused(draft.create, "train.py", "\ud800").message
    assert draft.changes() == ()


def test_sizes_are_bounded(draft: Draft) -> None:
    assert "at most" in refused(draft.create, "train.py", "x" * (LARGEST_FILE + 1)).message
    for number in range(4):
        draft.create(f"src/big{number}.py", "x" * (LARGEST_FILE - 10))
    assert "all changes together" in refused(draft.create, "src/big4.py", "x" * LARGEST_FILE).message
    many = Draft({}, SCOPE)
    for number in range(MOST_CHANGES):
        many.create(f"src/f{number}.py", "1\n")
    assert "more than" in refused(many.create, "src/one_more.py", "1\n").message
    assert len(many.changes()) == MOST_CHANGES


# --- viewing -----------------------------------------------------------------------------------------


def test_view_shows_numbered_lines_of_a_range(draft: Draft) -> None:
    assert draft.view("train.py", (3, 4)) == "train.py, lines 3-4 of 5\n     3\tLR = 0.02\n     4\tSTEPS = 100"
    assert draft.view("train.py", (4, -1)).endswith("     5\tLR2 = 0.02")
    assert draft.view("train.py", (4, 999)).endswith("     5\tLR2 = 0.02")
    assert "read only" in draft.view("evaluate.py").partition("\n")[0]
    assert draft.view("empty.py") == "empty.py is empty"


@pytest.mark.parametrize("span", [(0, 2), (6, 7), (4, 3), (-3, -1), (2, 0), (10**12, 10**13)])
def test_a_range_that_is_none_is_refused_with_the_files_length(draft: Draft, span: tuple[int, int]) -> None:
    said = refused(draft.view, "train.py", span)
    assert "train.py has 5" in said.message and "from 1 to 5" in said.mend


def test_view_of_a_folder_lists_what_is_there_and_what_may_be_edited(draft: Draft) -> None:
    for path in ("", ".", "/", "./", "/repo"):
        listed = draft.view(path)
        assert "train.py (5 lines, editable)" in listed and "evaluate.py (1 lines, read only)" in listed
    assert draft.view("src").split("\n")[1] == "src/model.py (2 lines, editable)"
    assert draft.view("/repo/src/") == draft.view("src")


def test_a_long_file_is_cut_with_the_range_to_ask_for() -> None:
    draft = Draft({"train.py": b"x = 1  # long enough\n" * 5000, "empty.py": b"y" * 200_000}, SCOPE)
    head = draft.view("train.py").partition("\n")[0]
    last = int(head.partition("lines 1-")[2].partition(" ")[0])
    assert f"ask for view_range [{last + 1}, 5000]" in head
    assert f"{last + 1:>6}\tx = 1" in draft.view("train.py", (last + 1, -1))
    assert "this line goes on" in draft.view("empty.py") and len(draft.view("empty.py")) < 70_000


def test_files_that_are_not_readable_are_not_there() -> None:
    draft = Draft(FILES, SCOPE, readable=("train.py", "README.md"))
    assert set(draft.files) == {"train.py", "README.md"}
    assert "you may read" in refused(draft.view, "evaluate.py").message


def test_a_draft_can_start_from_a_change_that_failed_less_what_is_outside_the_scope() -> None:
    start = (FileChange("train.py", b"new\n"), FileChange("evaluate.py", b"cheat\n"), FileChange("empty.py", None))
    draft = Draft(FILES, SCOPE, start=start)
    assert changed(draft) == {"train.py": b"new\n", "empty.py": None}


# --- paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("train.py", "train.py"),
        ("./train.py", "train.py"),
        (" train.py\n", "train.py"),
        (".//train.py", "train.py"),
        ("src/../train.py", "train.py"),
        ("/train.py", "train.py"),
        ("/repo/train.py", "train.py"),
        ("/home/user/project/src/model.py", "src/model.py"),
        ("src//model.py", "src/model.py"),
        ("train.py/", "train.py"),
    ],
)
def test_a_path_as_models_write_it_means_the_one_file_that_it_can_mean(
    draft: Draft, written: str, meant: str
) -> None:
    assert draft.resolve(written) == meant
    draft.create(written, "X = 1\n")
    assert set(changed(draft)) == {meant}


@pytest.mark.parametrize(
    "written",
    [
        "../train.py",
        "/../train.py",
        "src/../../train.py",
        "/etc/passwd",
        "nothing.py",
        "a\0b",
        "\ud800",
        "a/" * 5000,
        "x" * 300,
        "~/train.py2",
        "C:\\train.py",
        "src",
        ".git/config",
        "..",
        "src/frozen/x.py",
        "",
        " ",
        "/",
        "./.",
    ],
)  # fmt: skip
def test_a_path_that_means_no_file_is_refused_with_the_list_of_those_there_are(draft: Draft, written: str) -> None:
    said = refused(draft.resolve, written)
    assert "train.py" in said.mend and "src/model.py" in said.mend
    assert len(said.message) < 400


def test_a_root_too_many_is_put_straight_for_a_file_that_must_be_there_and_refused_for_one_that_may_be_new(
    draft: Draft,
) -> None:
    assert draft.resolve("project/train.py") == "train.py"
    draft.str_replace("project/train.py", "STEPS = 100", "STEPS = 200")
    assert set(changed(draft)) == {"train.py"}
    assert "may mean train.py or a new file" in refused(draft.create, "project/train.py", "x").message


def test_a_near_name_is_suggested(draft: Draft) -> None:
    assert "did you mean train.py?" in refused(draft.view, "trian.py").message


def test_a_path_that_may_mean_two_files_is_refused() -> None:
    draft = Draft({"a/train.py": b"1\n", "train.py": b"2\n"}, Scope(("train.py",)))
    said = refused(draft.resolve, "/repo/a/train.py")
    assert "a/train.py or train.py" in said.message
    assert draft.resolve("/repo/train.py") == "train.py"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("/src/new.py", "src/new.py"), ("/repo/src/new.py", "src/new.py"), ("./src/deep/new.py", "src/deep/new.py")],
)
def test_a_new_file_may_be_named_by_an_absolute_path_into_a_folder_that_is_there(
    draft: Draft, written: str, meant: str
) -> None:
    draft.create(written, "X = 1\n")
    assert set(changed(draft)) == {meant}


def test_a_new_file_below_a_made_up_root_is_taken_only_where_it_is_plain() -> None:
    anywhere = Draft({"app/a.py": b"1\n"}, Scope(("*.py",)))
    anywhere.create("/workspace/new.py", "1\n")
    assert set(changed(anywhere)) == {"new.py"}
    assert "may mean" in refused(anywhere.create, "/app/other.py", "1\n").message
    assert "no file" in refused(anywhere.create, "/unheard/of/other.py", "1\n").message


@pytest.mark.parametrize(
    "path", ["evaluate.py", "README.md", "ratchet.toml", ".git/hooks/x", "src/frozen/a.py", "x.py"]
)
def test_what_is_outside_the_scope_is_refused_with_what_may_be_changed(draft: Draft, path: str) -> None:
    before = draft.files
    for call in (
        lambda: draft.create(path, "x\n"),
        lambda: draft.str_replace(path, "def", "x"),
        lambda: draft.insert(path, 0, "x"),
        lambda: draft.delete(path),
    ):
        assert "train.py" in refused(call).mend
    assert draft.files == before


def test_a_file_is_no_folder_and_a_folder_no_file(draft: Draft) -> None:
    assert "src/model.py is a file" in refused(draft.create, "src/model.py/x.py", "1").message
    open_draft = Draft({"lib/a.py": b"1\n"}, Scope(("lib", "lib/")))
    assert "is a folder" in refused(open_draft.create, "lib", "1").message


PIECES = st.sampled_from(["..", ".", "", "src", "train.py", "model.py", "evaluate.py", ".git", "ratchet.toml", "repo", "é", "\0", "\ud800", "frozen"])  # fmt: skip
PATHS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=6).map("/".join), st.sampled_from(sorted(FILES)))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["create", "str_replace", "insert", "delete"]), PATHS, st.text(max_size=20)),
        max_size=6,
    )
)
def test_no_path_ever_changes_a_file_outside_the_scope(calls: list[tuple[str, str, str]]) -> None:
    draft = Draft(FILES, SCOPE)
    for command, path, text in calls:
        before = draft.files
        arguments = {"create": (text,), "str_replace": (text, "new"), "insert": (0, text), "delete": ()}[command]
        try:
            getattr(draft, command)(path, *arguments)
        except EditRejected as refusal:
            assert refusal.message
            assert draft.files == before, "a refused operation changed something"
    for change in draft.changes():
        assert SCOPE.check(change.path) is None
    for path in ("evaluate.py", "README.md"):
        assert draft.files[path] == FILES[path]
