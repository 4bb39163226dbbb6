"""A person's settings: what is right counts, what is wrong is told with file, line and the nearest right name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.keys import _character_to_key

from console import keymap, preferences, remapping, screen_keys
from console.appearance import Looks, looks
from console.keymap import BY_ID, KEYS
from console.preferences import Preferences, parse, read
from console.remapping import FORBIDDEN, read_key, spoken
from console.state import View, why_not_decide
from console.widgets.decision import decision_lines
from console.widgets.lines import Scene
from tests.console.scenes import NOW, detail, row, state


@pytest.fixture(autouse=True)
def nobodys_keys() -> Iterator[None]:
    yield
    keymap.install({})


def problems(text: str) -> list[str]:
    return list(parse(text).problems)


# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", range(33, 127))
def test_a_character_is_named_as_textual_names_it(code: int) -> None:
    assert read_key(chr(code)) == _character_to_key(chr(code))


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("G", "G"), ("shift+g", "G"), ("ctrl+E", "ctrl+e"), ("pgup", "pageup"), ("Esc", "escape"), ("space", "space"),
        (" ", "space"), ("F5", "f5"), ("shift+tab", "shift+tab"), ("ctrl+pgdn", "ctrl+pagedown"), ("+", "plus"),
        ("slash", "slash"), ("ö", "ö"), ("ctrl++", "ctrl+plus"),
    ],
)  # fmt: skip
def test_keys_are_read_as_people_write_them(written: str, key: str) -> None:
    assert read_key(written) == key


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("alt+x", "alt"), ("meta+x", "alt"), ("ctrl+s", "stop their output"), ("ctrl+b", "tmux's prefix"),
        ("ctrl+h", "backspace"), ("ctrl+enter", "send it as enter"), ("ctrl+c", "always leaves"),
        ("escpe", 'did you mean "escape"'), ("ctr+x", "neither ctrl nor shift"), ("", "unknown key"),
        ("\x07", "control character"), ("ctrl+[", "send it for escape"), ("strg+", "unknown key"),
    ],
)  # fmt: skip
def test_keys_that_no_program_sees_and_keys_that_are_none_are_refused_with_the_reason(
    written: str, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        read_key(written)


def test_every_key_that_terminals_take_is_refused() -> None:
    taken = {f"ctrl+{letter}" for letter in "abhjklsq"} | {"ctrl+enter"}
    assert taken <= set(FORBIDDEN)
    assert not {key for one in KEYS for key in one.keys} & taken - {"ctrl+l"}  # it is only `repaint`'s own


@given(st.text(max_size=8))
def test_whatever_is_written_is_a_key_or_a_reason(written: str) -> None:
    try:
        key = read_key(written)
    except ValueError as error:
        assert str(error)
    else:
        assert key and key == key.strip() and "," not in key


def test_a_key_is_shown_as_it_is_written() -> None:
    for written in ("/", "G", "[", "ctrl+e", "f5", "%"):
        assert spoken(read_key(written)) == written
    assert spoken("escape") == "esc" and spoken("ctrl+up") == "ctrl+↑"
    assert all(unicodedata.name(spoken(name)) for name in ("left_square_bracket", "slash"))


# --- the file -----------------------------------------------------------------------------------------


def test_a_whole_file() -> None:
    found = parse(
        'theme = "light"\nmouse = false\nascii = true\n[keys]\nstop_trial = "X"\ndown = ["J", "ctrl+n"]\n'
        'filter = "ctrl+f"\n'
    )
    assert found == Preferences(
        {"stop_trial": ("X",), "down": ("J", "ctrl+n"), "filter": ("ctrl+f",)}, "light", False, True
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('theme = "drak"', 'console.toml:1: theme: expected one of dark, light, ansi, mono, got "drak"; did you mean "dark"?'),
        ("\nmouse = 1", "console.toml:2: mouse: expected true or false, got 1"),
        ("\n\nthem = 1", 'console.toml:3: them: unknown key "them"; did you mean "theme"?'),
        ("keys = 3", "console.toml:1: keys: expected a table [keys], got 3"),
        ('[keys]\nstop_trail = "X"', 'console.toml:2: [keys] stop_trail: unknown action "stop_trail"; did you mean "stop_trial"?'),
        ("[keys]\ndown = 4", 'console.toml:2: [keys] down: expected a key like "x" or a list'),
        ("[keys]\ndown = [4]", 'console.toml:2: [keys] down: expected a key like "x" or a list'),
        ("[keys]\ndown = []", "console.toml:2: [keys] down: expected a key, got none"),
        ('[keys]\n\ndown = "alt+j"', "console.toml:3: [keys] down: alt+j cannot be used"),
        ('[keys]\naccept = "f2"', "console.toml:2: [keys] accept: f2 cannot be used: what decides is a single letter"),
        ('[keys]\naccept = "7"', "a single letter"),
        ('[keys]\ndown = "x"', '"x" is stop_trial already on the live screen; give stop_trial another key as well'),
        ('[keys]\nup = "o"', '"o" is sort already on the screen history'),
        ("theme = ", "console.toml:1: not TOML: "),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_the_default_stays(text: str, told: str) -> None:
    found = parse(text)
    assert len(found.problems) == 1 and told in found.problems[0], found.problems
    assert (found.keys, found.theme, found.mouse, found.ascii) == ({}, None, None, None)


def test_a_mistake_costs_only_its_own_entry() -> None:
    found = parse('theme = "light"\nmouse = "no"\nsound = true\n[keys]\nup = "alt+k"\npause = "z"\n')
    assert found.theme == "light" and found.keys == {"pause": ("z",)}
    assert [one.split(":")[1] for one in found.problems] == ["2", "3", "5"]  # in the file's order


def test_two_actions_may_swap_their_keys() -> None:
    found = parse('[keys]\nup = "j"\ndown = "k"\n')
    assert not found.problems and found.keys == {"up": ("j",), "down": ("k",)}


def test_of_two_that_want_one_key_the_first_gets_it() -> None:
    found = parse('[keys]\nup = "z"\ndown = "z"\n')
    assert found.keys == {"up": ("z",)} and '[keys] down: "z" is up already' in found.problems[0]


def test_a_chain_of_clashes_ends() -> None:
    found = parse('[keys]\nup = "j"\ndown = "x"\n')  # x is stop_trial's: down keeps j, so up cannot have it
    assert found.keys == {} and len(found.problems) == 2


def test_the_way_out_stays() -> None:
    assert parse('[keys]\ndetach = "z"').keys == {"detach": ("z", "ctrl+c")}


def test_an_actions_own_default_may_always_be_written() -> None:
    text = "[keys]\n" + "".join(f"{key.id} = {list(key.keys)}\n" for key in KEYS).replace("'", '"')
    assert problems(text) == []


def test_no_table_of_the_consoles_own_clashes() -> None:
    for place, table in preferences.tables().items():
        keys = [key for one in table for key in one.keys]
        assert len(set(keys)) == len(keys), place


@given(st.text(max_size=60))
def test_any_text_is_settings_or_problems(text: str) -> None:
    found = parse(text)
    assert all(isinstance(one, str) and one for one in found.problems)


@pytest.mark.parametrize("kind", ["absent", "folder", "binary", "large", "loop"])
def test_a_file_that_cannot_be_read_stops_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "console.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif kind == "large":
        path.write_text("# " + "x" * 100_000)
    elif kind == "loop":
        path.symlink_to(path)
    found = read(path)
    assert found.theme is None and found.keys == {}
    assert bool(found.problems) is (kind != "absent") and all(str(path) in one for one in found.problems)


def test_the_file_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert preferences.place() == tmp_path / "ratchet" / "console.toml"


def test_many_problems_are_one_line_that_says_where_the_rest_is() -> None:
    assert preferences.words(Preferences()) == ""
    told = preferences.words(parse("a = 1\nb = 2\nc = 3"))
    assert (
        told.startswith('console.toml:1: a: unknown key "a"') and "and 2 more: `ratchet doctor --terminal`" in told
    )


# --- what becomes of it -------------------------------------------------------------------------------


def test_what_nobody_chose_goes_by_the_terminal() -> None:
    ssh = {"TERM": "linux", "SSH_TTY": "/dev/pts/1"}
    assert looks(Preferences(), ssh) == Looks("ansi", True, False, {})
    assert looks(Preferences({}, "dark", True, False), ssh) == Looks("dark", False, True, {})
    assert (
        looks(Preferences(theme="light"), {"NO_COLOR": "1", "TERM": "xterm"}).theme == "light"
    )  # a choice is one


def test_remapped_keys_are_what_every_list_of_keys_shows() -> None:
    from console.screens.help import help_text

    keymap.install({"stop_trial": "X", "down": "J ctrl+n"})
    assert BY_ID["stop_trial"].shown == "X" and BY_ID["up"].shown == "k ↑"
    shown = help_text().plain
    assert "  X            stop a trial" in shown and "  J ctrl+n     down" in shown
    assert screen_keys.HISTORY.by_id("down").shown == "J ctrl+n"


def test_what_asks_for_a_decision_names_ones_own_keys() -> None:
    keymap.install({"accept": "z", "pane_3": "f3"})
    waiting = state(row(1, "review"), detail=detail(1, state="review"))
    (line, *_) = decision_lines(Scene(waiting, View(), NOW, 1), 100)
    assert "z accept   r reject" in "".join(text for text, _ in line.spans)
    assert "f3" in why_not_decide(waiting, View(), 0.0)


def test_what_clashes_is_found_in_every_table() -> None:
    assert remapping.clash({}, preferences.tables()) is None
    assert remapping.clash({"down": ("k",)}, {"here": KEYS}) is not None


def test_the_signs_on_the_help_page_name_a_person_s_own_keys() -> None:
    from console.screens.help import help_text

    keymap.install({"message": "Z", "pin": "ctrl+e", "accept": "z", "reject": "n", "detach": "X"})
    told = help_text().plain
    assert "to the proposer (Z)" in told and "in every console (ctrl+e)" in told and "then z or n" in told
    assert "Leaving (X, or closing the terminal)" in told
