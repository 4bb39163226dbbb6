"""The further screens' keys: nothing bound twice on a screen, nothing bound to nothing, all of it on the help page."""

from __future__ import annotations

from collections import Counter

import pytest
from textual.binding import Binding

from console import screen_keys
from console.screen_keys import SCREENS, ScreenKeys
from console.screens.comparison import ComparisonScreen
from console.screens.events import EventsScreen
from console.screens.experiment import ExperimentScreen
from console.screens.help import help_text
from console.screens.history import HistoryScreen
from console.screens.hosts import HostsScreen
from console.screens.ratchet import RatchetScreen
from console.screens.reading import ReadingScreen

CLASSES: tuple[type[ReadingScreen], ...] = (
    HistoryScreen, ExperimentScreen, ComparisonScreen, HostsScreen, RatchetScreen, EventsScreen,
)  # fmt: skip


def test_every_screen_has_its_table_of_keys() -> None:
    assert tuple(one.KEYS for one in CLASSES) == SCREENS


@pytest.mark.parametrize("screen", CLASSES)
def test_no_key_means_two_things_on_one_screen_and_each_does_something(screen: type[ReadingScreen]) -> None:
    keys = screen.KEYS.all
    assert [k for k, n in Counter(k for key in keys for k in key.keys).items() if n > 1] == []
    assert [k for k, n in Counter(key.id for key in keys).items() if n > 1] == []
    assert [key.id for key in keys if not callable(getattr(screen, f"do_{key.id}", None))] == []
    bound = {binding.id for binding in screen.BINDINGS if isinstance(binding, Binding)}
    assert bound == {f"{screen.KEYS.name}.{key.id}" for key in keys}


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
def test_every_screen_can_be_left_helped_and_changed_for_another(screen: ScreenKeys) -> None:
    ids = {key.id for key in screen.all}
    assert {"back", "leave", "help", "detach"} <= ids
    assert {"history", "hosts", "ratchet", "events"} - ids <= {screen.name}
    assert {k for key in screen.all if key.id == "leave" for k in key.keys} == {"q"}


def test_the_help_page_groups_the_keys_by_screen_with_the_present_one_first() -> None:
    for screen in SCREENS:
        shown = help_text(screen).plain
        assert shown.startswith(screen.heading)
        assert [key.id for key in screen.all if key.what not in shown] == []
    assert [heading for heading, _ in screen_keys.groups()][1:] == [screen.heading for screen in SCREENS]
