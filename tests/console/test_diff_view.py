"""The diff's pane: exact widths, nothing raw, colours that fit their words, and the keys that move in it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import highlight
from console.app import ConsoleApp
from console.desk import Desk
from console.diff_moves import DiffView
from console.diffs import parse
from console.feed import Feed
from console.formats import width_of
from console.highlight import Coloured, coloured, of_lines
from console.layout import Pane
from console.screens.live import LiveScreen
from console.state import State, View, reduce
from console.widgets import diff_view
from console.widgets.colour_builder import ColourBuilder
from console.widgets.lines import FILLS, PALETTE, Line, Scene, strip_of
from engine.clock import RealClock
from tests.benchmarks.bench_diff import large_diff
from tests.console.scenes import NOW, detail, row, state
from tests.console.test_diffs import edited, unified
from tests.seeded import seeded_store

EVIL = "\x1b]0;owned\x07\x1b[2J[bold]x[/]\x9b31m\r\t漢字\u202e e\u0301\U0001f44d\U0001f3fd"
ODD = (
    f"diff --git a/{EVIL} b/{EVIL}", "old mode 100644", "new mode 100755", f"--- a/{EVIL}", f"+++ b/{EVIL}",
    f"@@ -1,3 +1,4 @@ {EVIL}", f" {EVIL}", f"-{EVIL}a", f"+{EVIL}b", "+" + "漢" * 3000, " end", "\\ No newline at end of file",
    f"? {EVIL}", "Binary files a/x and b/x differ", f"{EVIL}", "",
)  # fmt: skip


def scene(lines: tuple[str, ...], view: DiffView | None = None, **more: object) -> Scene:
    shown = state(row(1), detail=replace(detail(1), diff=lines))
    made = Scene(shown, View(cursor=1, diff=view or DiffView()), NOW, 1)
    return replace(made, **more)  # type: ignore[arg-type]


def text(lines: list[Line]) -> list[str]:
    return ["".join(t for t, _ in content.spans) for content in lines]


def in_colour(lines: tuple[str, ...]) -> Coloured:
    return list(coloured(diff_view.files_of(lines)))[-1]


def fits(lines: list[Line], width: int) -> None:
    for content in lines:
        assert all(c.isprintable() for t, _ in content.spans for c in t), content
        assert sum(width_of(t) for t, _ in content.spans) == width, content
        assert strip_of(content, width).cell_length == width
        for _, name in content.spans:
            of, _, fill = name.partition("@")
            assert of in PALETTE and fill in FILLS, name


@pytest.mark.parametrize("width", [1, 2, 8, 9, 20, 43, 44, 60, 72, 78, 110, 158])
@pytest.mark.parametrize("split", [None, True, False])
def test_every_row_fills_its_width_and_nothing_raw_gets_out(width: int, split: bool | None) -> None:
    for top in (0, 3):
        for height in (1, 3, 40):
            lines = diff_view.body(scene(ODD, DiffView(split, 3, top), coloured=in_colour(ODD)), width, height)
            assert len(lines) <= height
            fits(lines, width)


@given(edited(), st.integers(1, 130), st.booleans(), st.sampled_from([0, 1, 3]))
def test_any_diff_fills_its_width(
    texts: tuple[list[str], list[str]], width: int, split: bool, context: int
) -> None:
    lines = tuple(unified(*texts)) or ("",)
    for colours in (None, in_colour(lines)):
        shown = scene(lines, DiffView(split, context, 1), coloured=colours)
        fits([one for one in diff_view.body(shown, width, 30) if any(lines)], width) if any(lines) else None


def test_all_that_is_hidden_is_named_and_warned_of() -> None:
    lines = ("--- a/x", "+++ b/x", "@@ -1 +1 @@", "-a", "+a = '\x1b]'; wipe()\x07", "")
    painted = diff_view.body(scene(lines), 80, 10)
    assert "+a = '␛]'; wipe()␇" in text(painted)[-1]
    assert [t for t, name in painted[-1].spans if name.startswith("warn")] == ["␛", "␇"]


def test_a_line_that_goes_on_says_so_as_a_warning() -> None:
    lines = ("--- a/x", "+++ b/x", "@@ -0,0 +1 @@", "+x = 1" + " " * 100 + "; wipe()", "")
    painted = diff_view.body(scene(lines), 60, 10)[-1]
    assert painted.spans[-1] == ("…", "warn")


def test_a_carriage_return_that_came_or_went_is_seen() -> None:
    lines = ("--- a/x", "+++ b/x", "@@ -1,2 +1,2 @@", " same\r", "-a\r", "+a", "")
    assert [line.rstrip()[-2:] for line in text(diff_view.body(scene(lines), 80, 10))[-3:]] == ["me", "a␍", "+a"]


def test_wide_panes_show_two_sides_and_narrow_ones_no_numbers() -> None:
    lines = ("--- a/x", "+++ b/x", "@@ -7,2 +7,2 @@ def f():", " same", "-old", "+new", "")
    assert text(diff_view.body(scene(lines), 30, 10))[2:] == [
        " same".ljust(30),
        "-old".ljust(30),
        "+new".ljust(30),
    ]
    assert text(diff_view.body(scene(lines), 50, 10))[2:] == [
        " 7  same".ljust(50),
        " 8 -old".ljust(50),
        " 8 +new".ljust(50),
    ]
    assert [one.rstrip() for one in text(diff_view.body(scene(lines), 78, 10))[2:]] == [
        " 7  7  same", " 8    -old", "    8 +new"]  # fmt: skip
    wide = text(diff_view.body(scene(lines), 121, 10))
    assert wide[2:] == [
        " 7  same".ljust(60) + "│" + " 7  same".ljust(60),
        " 8 -old".ljust(60) + "│" + " 8 +new".ljust(60),
    ]


def test_the_files_name_stays_on_top_and_says_which_hunk() -> None:
    lines = tuple(large_diff(300, 12).split("\n"))
    index = diff_view.index_of(lines, DiffView(), 80)
    top = index.hunks[7] - 1
    first = text(diff_view.body(scene(lines, DiffView(top=top)), 80, 20))[0]
    assert first.startswith("▍model/part_6.py") and "hunk 8 of 12" in first
    assert not text(diff_view.body(scene(lines, DiffView(top=top)), 80, 2))[0].startswith("▍")  # no room for that
    assert text(diff_view.body(scene(lines, DiffView(top=10**6)), 80, 20))[-1].split()  # the end, not past it


def test_words_that_changed_stand_out_and_keep_their_colour() -> None:
    lines = ("--- a/x.py", "+++ b/x.py", "@@ -1 +1 @@", "-rate = 3 * scale", "+rate = 4 * scale", "")
    for split, fill in ((False, ""), (True, "@added")):
        painted = diff_view.body(scene(lines, DiffView(split), coloured=in_colour(lines)), 80, 10)[-1]
        assert ("4", "number@added_word") in painted.spans
        assert ("rate = ", f"added{fill}") in painted.spans


def test_a_change_inside_of_one_sign_of_two_characters_moves_no_column() -> None:
    thumb = "\U0001f44d\U0001f3fd = 1"  # a hand and its colour
    spans = diff_view.styled(thumb, 20, "added", "", "@added_word", (), ((1, 2),))
    assert sum(width_of(part) for part, _ in spans) == 20 and "".join(part for part, _ in spans).rstrip() == thumb


def test_colours_of_another_diff_are_not_laid_over_this_one() -> None:
    one, other = tuple(unified(["x = 1"], ["y = 2"])), tuple(unified(["import os"], ["import sys"]))
    assert diff_view.body(scene(one, coloured=in_colour(other)), 80, 9) == diff_view.body(scene(one), 80, 9)


# --- syntax ------------------------------------------------------------------------------------------


def names(lines: list[str], path: str = "x.py") -> list[list[tuple[str, str]]]:
    lexer = highlight._lexer(path)
    assert lexer is not None
    found = []
    for line, colours in zip(lines, of_lines(lines, lexer), strict=True):
        starts = [0, *(end for end, _ in colours)]
        found.append([(line[a:b], name) for a, (b, name) in zip(starts, colours, strict=False) if name])
    return found


def test_code_is_coloured_by_its_files_name() -> None:
    assert names(["def f(x):  # why", "    return 'a', 12"]) == [
        [("def ", "keyword"), ("f", "defined"), ("# why", "comment")],
        [("return ", "keyword"), ("'a'", "string"), ("12", "number")],
    ]
    assert names(["seconds = 300"], "a/ratchet.toml") == [[("300", "number")]]
    assert highlight._lexer("data.unknown") is None and highlight._lexer("") is None
    assert set(PALETTE) >= set(highlight.NAMES)


def test_a_string_over_many_lines_is_one_string() -> None:
    inside = ['x = """first', "import os", 'if else"""', "import os"]
    assert [[name for _, name in line] for line in names(inside)] == [
        ["string"],
        ["string"],
        ["string"],
        ["keyword"],
    ]


def test_a_string_that_began_above_the_hunk_ends_where_it_ends() -> None:
    assert [[n for _, n in line] for line in names(["and what it is for.", "", '"""', "import os"])] == [
        ["string"], [], ["string"], ["keyword"]]  # fmt: skip
    assert names(["import this, if that", 'and the end."""', "import os"])[2] == [("import ", "keyword")]
    assert names(["def f():", '    """What', "    import os"])[2] == [("    import os", "string")]


def test_removed_lines_are_coloured_as_a_part_of_the_old_side() -> None:
    lines = tuple(unified(['s = """', "import os", '"""'], ["s = 1", "import os", "t = 2"]))
    found = in_colour(lines)
    removed, kept = parse(lines)[0].hunks[0].rows[0], parse(lines)[0].hunks[0].rows[2]
    assert [name for _, name in found.of(0, removed)] == ["", "string"]
    assert kept.sign == " " and [name for _, name in found.of(0, kept)] == ["keyword", ""]  # as it is now


def test_a_lexer_that_stumbles_costs_colours_only() -> None:
    class Broken:
        def get_tokens(self, text: str) -> Iterator[tuple[object, str]]:
            yield "Token.Keyword", text[:1]
            raise RuntimeError("odd code")

    assert of_lines(["a", "b"], Broken()) == [(), ()]


def test_data_on_one_endless_line_stays_plain() -> None:
    assert names(["x = 1", "y = " + "1, " * 1000, "z = 3"])[1:] == [[], [("3", "number")]]


@given(st.lists(st.text(st.sampled_from("ab\"'#\\ \t:=("), max_size=10), max_size=12))
def test_colours_never_reach_beyond_their_line(lines: list[str]) -> None:
    lexer = highlight._lexer("x.py")
    assert lexer is not None
    for line, colours in zip(lines, of_lines(lines, lexer), strict=True):
        ends = [end for end, _ in colours]
        assert ends == sorted(set(ends)) and (not ends or ends[-1] == len(line))


def test_what_is_in_sight_is_coloured_first() -> None:
    files = parse(large_diff(900, 36).split("\n"))
    first, whole = list(coloured(files, near=30, first=50))
    assert first.of(5, files[5].hunks[0].rows[0]) and not first.of(0, files[0].hunks[0].rows[0])
    assert whole.of(0, files[0].hunks[0].rows[0])


def test_colours_come_from_a_thread_and_the_newest_wish_counts() -> None:
    files, other = parse(unified(["x = 1"], ["y = 2"])), parse(unified(["import os"], ["import sys"]))
    done, found = threading.Event(), []

    def ready(coloured: Coloured) -> None:
        found.append((threading.current_thread() is threading.main_thread(), coloured.files))
        if coloured.files is other:
            done.set()

    builder = ColourBuilder(ready)
    builder.want(files, 0)
    builder.want(other, 0)
    builder.want(other, 5)
    assert done.wait(20)
    builder.close()
    assert not any(in_main for in_main, _ in found)


def test_pygments_is_not_needed_for_the_first_paint() -> None:
    program = "import sys, console.screens.live; sys.exit(any(m.startswith('pygments') for m in sys.modules))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60).returncode == 0


# --- keys --------------------------------------------------------------------------------------------


async def test_keys_move_through_the_diff_that_is_in_focus(tmp_path: Path) -> None:
    seeded_store(tmp_path, 5, running=False)
    clock = RealClock()
    feed = Feed(tmp_path, lambda: False, clock)
    feed.cycle()
    shown = State()
    for update in feed.take():
        shown = reduce(shown, update)
    desk = Desk(tmp_path, clock, "ada")
    app = ConsoleApp(feed, shown, desk, clock)
    lines = tuple(large_diff(600, 24).split("\n"))
    try:
        async with app.run_test(size=(160, 40)) as pilot:
            live = app.live
            assert isinstance(live, LiveScreen) and live.state.detail is not None
            live.feed.stop()  # the store's diff must not come back
            await pilot.press("n")
            assert live.view.diff == DiffView() and live.state.notice is not None
            assert "diff" in live.state.notice.text
            await pilot.press("3", "+")
            assert live.view.focus is Pane.DIFF and live.state.detail is not None
            live.state = replace(live.state, detail=replace(live.state.detail, diff=lines))
            live.paint()
            index = diff_view.index_of(lines, live.view.diff, 158)
            assert index.split  # it is wide
            await pilot.press("n", "n", "n")
            assert live.view.diff.top == index.hunks[3] - 1
            await pilot.press("N", "j")
            assert live.view.diff.top == index.hunks[2]
            await pilot.press("s")
            assert live.view.diff.split is False
            await pilot.press("left_curly_bracket")
            assert live.view.diff.context == 1
            await pilot.press("right_curly_bracket", "right_curly_bracket")
            assert live.view.diff.context == 3
            assert live.state.notice is not None and "no more context" in live.state.notice.text
            await pilot.press("G")
            assert live.view.diff.top > 500
            await pilot.press("escape", "j")  # another experiment's diff begins at its top, in the same manner
            assert live.view.diff == DiffView(split=False)
    finally:
        feed.stop()
        desk.close()
