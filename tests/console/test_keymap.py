"""One table of keys: nothing bound twice, nothing bound to nothing, the help page made from it."""

from __future__ import annotations

from collections import Counter

from console.keymap import KEYS, groups
from console.screens.help import help_text
from console.screens.live import LiveScreen

TAKEN_BY_TERMINALS = {"ctrl+a", "ctrl+b", "ctrl+h", "ctrl+j", "ctrl+k", "ctrl+s", "ctrl+q", "ctrl+enter"}


def test_no_key_and_no_id_is_given_twice() -> None:
    assert [k for k, n in Counter(k for key in KEYS for k in key.keys).items() if n > 1] == []
    assert [k for k, n in Counter(key.id for key in KEYS).items() if n > 1] == []


def test_no_key_that_tmux_or_terminals_take() -> None:
    assert not TAKEN_BY_TERMINALS & {k for key in KEYS for k in key.keys}


def test_decisions_are_letters() -> None:
    for key in KEYS:
        if key.id in ("accept", "reject", "edit", "accept_next", "confirm_asleep", "undo", "step_back"):
            assert all(k.isalpha() and len(k) == 1 for k in key.keys)


def test_every_key_does_something() -> None:
    assert [key.id for key in KEYS if not callable(getattr(LiveScreen, f"do_{key.id}", None))] == []


def test_the_help_page_names_every_key() -> None:
    shown = help_text().plain
    assert [key.id for key in KEYS if key.shown not in shown or key.what not in shown] == []
    assert sum(len(keys) for _, keys in groups()) == len(KEYS)
