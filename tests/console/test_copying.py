"""What is copied is whole or said to be cut, and can do nothing to the terminal that it is pasted into."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from console.copying import OSC_52_BYTES, copies, cut, natural, size_words
from console.layout import Pane
from console.plain_text import copyable
from console.state import State
from tests.console.scenes import detail, row, state


def some() -> State:
    return state(
        row(1), row(2), detail=replace(detail(2), diff=("--- a/x", "+++ b/x", "@@ -1 +1 @@", "-\ta", "+\tb"))
    )


def test_the_diff_is_copied_as_git_wrote_it() -> None:
    found = {one.id: one.text for one in copies(some(), 2, ())}
    assert found["diff"] == "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-\ta\n+\tb\n"
    assert found["title"] == "#2 title 2" and found["command"] == "ratchet show 2"
    assert found["commit"] == "c" and found["hypothesis"] == "because"


def test_each_pane_has_what_it_gives_without_asking() -> None:
    found = copies(some(), 2, ("step 1", "step 2"))
    given_ = {pane: one.id if (one := natural(found, pane)) else None for pane in Pane}
    assert given_ == {
        Pane.DIFF: "diff", Pane.PROPOSAL: "hypothesis", Pane.LOG: "log",
        Pane.EXPERIMENTS: None, Pane.CHART: None, Pane.DEVICES: None,
    }  # fmt: skip
    assert next(one.text for one in found if one.id == "log") == "step 1\nstep 2\n"


def test_what_is_not_there_is_not_offered() -> None:
    assert copies(State(), None, ()) == []
    assert {one.id for one in copies(some(), 1, ())} == {"title", "command"}  # another's detail is not its own


def test_every_letter_chooses_one_thing() -> None:
    letters = [one.letter for one in copies(some(), 2, ("x",))]
    assert len(set(letters)) == len(letters)


def test_pasting_a_hostile_diff_drives_no_terminal() -> None:
    hostile = "+\x1b[201~rm -rf ~\r\x1b]52;c;AAAA\x07\u202eevil\ttab\n-\x9b2Jx\n"
    assert copyable(hostile) == "+rm -rf ~evil\ttab\n-x\n"


@given(st.text())
def test_a_copy_has_no_control_characters_but_tab_and_line_end(text: str) -> None:
    assert not [c for c in copyable(text) if (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160]


@given(st.text(alphabet="aé学\n", max_size=80), st.integers(1, 40))
def test_a_cut_keeps_whole_characters_from_the_begin_and_is_told(text: str, most: int) -> None:
    kept, missing = cut(text, most)
    assert text.startswith(kept) and len(kept.encode()) <= most and missing == (kept != text)


def test_a_cut_keeps_whole_lines_where_there_are_any() -> None:
    text = "line\n" * 40_000
    kept, missing = cut(text)
    assert missing and kept.endswith("line\n") and OSC_52_BYTES - 5 <= len(kept) <= OSC_52_BYTES
    assert size_words(text) == "40,000 lines, 200.0 KB" and size_words("ab") == "2 bytes"
