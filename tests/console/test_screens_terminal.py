"""The further screens in a real terminal: each opens by its key, shows what it promises, is quiet, and leads back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.full_store import full_store
from tests.console.terminal import TerminalConsole

SIZES = [(80, 24), (160, 50)]
ENTER, ESC, LEFT = "\r", "\x1b", "\x1b[D"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A thousand experiments; the console reads it only."""
    path = tmp_path_factory.mktemp("store")
    return path, full_store(path, 1000)


def live(text: str) -> bool:
    return "1 Experiments" in text and "? help" in text


def shows(*parts: str) -> Callable[[str], bool]:
    return lambda text: all(part in text.replace("# ▼", "#▼") for part in parts)


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_opens_by_its_key_shows_its_page_and_leads_back(
    store: tuple[Path, int], size: tuple[int, int]
) -> None:
    pages = {
        "h": ("The history", "1,003 experiments", "verdict", "#▼"),
        "d": ("Hosts and devices", "2 hosts", "box1", "97 %", "#1001 screen"),
        "R": ("The ratchet", "kept of", "experiments", "The change", "train.py"),
        "E": ("The event log", "12 proposals", "the store's disk is full", "box1 does not answer"),
        "i": ("One experiment", "#1001", "rotary embeddings", "Hypothesis"),
    }
    with TerminalConsole(store[0], *size) as terminal:
        terminal.until(live)
        for key, seen in pages.items():
            terminal.type(key)
            terminal.until(shows(*seen, "? help"))
            assert "november" in terminal.text.splitlines()[0]  # the status line stays
            terminal.type("q")
            terminal.until(live)
        for key in "hdRE":  # from one to the next without going back
            terminal.type(key)
            terminal.until(shows(pages[key][0]))
        terminal.type("?")
        terminal.until(lambda text: "is:trouble, is:decision" in text)  # this screen's keys come first
        terminal.type(ESC)
        terminal.until(lambda text: "is:trouble, is:decision" not in text and "The event log" in text)
        terminal.type(ESC)
        terminal.until(live)
        terminal.type("q")
        assert terminal.wait() == 0


@pytest.mark.parametrize("size", SIZES)
def test_the_history_is_filtered_sorted_marked_and_compared(
    store: tuple[Path, int], size: tuple[int, int]
) -> None:
    path, number = store
    with TerminalConsole(path, *size) as terminal:
        terminal.until(live)
        terminal.type("h")
        terminal.until(lambda text: "1,003 experiments" in text)
        terminal.type("/verdict:keep efect>1")
        terminal.until(lambda text: "effect?" in text)  # the slip is said while it is typed
        terminal.type("\x7f" * 8)
        with sqlite3.connect(path / "store.db") as conn:
            (kept,) = conn.execute("SELECT COUNT(*) FROM experiment WHERE verdict = 'keep'").fetchone()
        terminal.until(lambda text: f"{kept} of 1,003" in text and "discard" not in text)
        terminal.type(ENTER)
        terminal.type("o")
        terminal.until(lambda text: "by effect" in text)
        terminal.type("O")
        terminal.until(lambda text: "by effect, reversed" in text)
        terminal.type("c")
        terminal.until(lambda text: "mark two first" in text)  # a key that can do nothing says why
        terminal.type(" j c")
        terminal.until(lambda text: "Two experiments" in text and "effect" in text and "worse ┊ better" in text)
        terminal.type(ESC)
        terminal.until(lambda text: "by effect, reversed" in text)
        terminal.type(ESC)
        terminal.until(lambda text: "1,003 experiments" in text)  # out of the filter first
        terminal.type(ESC)
        terminal.until(live)
        assert number


@pytest.mark.parametrize("size", SIZES)
def test_an_experiment_is_opened_from_the_history_with_all_of_its_panes(
    store: tuple[Path, int], size: tuple[int, int]
) -> None:
    path, number = store
    with TerminalConsole(path, *size) as terminal:
        terminal.until(live)
        terminal.type("h")
        terminal.until(lambda text: "1,003 experiments" in text)
        terminal.type(f"/#{number}")
        terminal.until(lambda text: "1 of 1,003" in text)
        terminal.type(ENTER + ENTER)
        terminal.until(lambda text: "no gain at 2x steps" in text and f"#{number}" in text)
        terminal.type("G")
        terminal.until(lambda text: "$0.3124" in text and "mends #" in text)
        terminal.type("b")
        terminal.until(lambda text: "ada: worth its seconds" in text)
        terminal.type("2")
        terminal.until(lambda text: "confirm" in text and "1002" in text)
        terminal.type("k" + ENTER)
        terminal.until(lambda text: "4 Curve" in text and "● seed" in text and "train_loss" in text)
        terminal.type("3")
        terminal.until(lambda text: "LEARNING_RATE" in text)
        terminal.type("5")
        terminal.until(lambda text: "The schedule was tried; the model was not." in text)
        terminal.type(">")
        terminal.until(lambda text: f"#{number + 1}" in text)
        terminal.type("1")
        terminal.until(lambda text: "This draft came to no proposal" in text and "duplicate" in text)
        terminal.type(ESC)
        terminal.until(lambda text: "The history" in text)


def test_the_ratchets_cursor_goes_from_step_to_step_and_opens_what_is_behind_it(store: tuple[Path, int]) -> None:
    path, _ = store
    with sqlite3.connect(path / "store.db") as conn:
        keeps = [n for (n,) in conn.execute("SELECT e.number FROM keep k JOIN experiment e ON e.id = k.experiment"
                                            " ORDER BY k.id")]  # fmt: skip
    with TerminalConsole(path, 120, 40) as terminal:
        terminal.until(live)
        terminal.type("R")
        terminal.until(lambda text: "kept of" in text and "▲" in text and "device h" in text and "$0.35" in text)
        terminal.type(LEFT)
        terminal.until(lambda text: f"▲ #{keeps[-1]}" in text)
        terminal.type(LEFT)
        terminal.until(lambda text: f"▲ #{keeps[-2]}" in text and f"experiment {keeps[-2]}" in text)  # in its diff
        terminal.type("t")
        terminal.until(lambda text: "over time" in text and ("days" in text or "hours" in text))
        terminal.type(ENTER)
        terminal.until(lambda text: "One experiment" in text and f"#{keeps[-2]}" in text)


def test_the_event_log_is_filtered_and_leads_to_the_experiment(store: tuple[Path, int]) -> None:
    path, number = store
    with TerminalConsole(path, 120, 40) as terminal:
        terminal.until(live)
        terminal.type("E")
        terminal.until(lambda text: "12 proposals" in text)
        terminal.type("v")
        terminal.until(lambda text: "trial 7 on gpu0" in text)
        terminal.type("v/is:decision" + ENTER)
        terminal.until(lambda text: "by ada: worth its seconds" in text and "12 proposals" not in text)
        terminal.type("/" + "\x7f" * 20 + f"#{number} ada" + ENTER)
        terminal.until(lambda text: "1 event " in text)
        terminal.type(ENTER)
        terminal.until(lambda text: "One experiment" in text and f"#{number}" in text)


def test_nothing_is_sent_while_nothing_happens(tmp_path: Path) -> None:
    full_store(tmp_path, 300, running=False)
    with TerminalConsole(tmp_path, 160, 50) as terminal:
        terminal.until(live)
        for key in "hdREi":
            terminal.type(key)
            terminal.until(lambda text: not live(text) and "? help" in text)
            terminal.pump(1.0)
            sent = terminal.pump(2.0)
            print(f"{key}: {sent / 2:.0f} bytes a second")
            assert sent < 8000, key  # ages count on; a screen that is sent anew each second is 60,000
            terminal.type("q")
            terminal.until(live)


@pytest.mark.parametrize("size", [(50, 12), (30, 6), (20, 3)])
def test_no_terminal_is_too_small(store: tuple[Path, int], size: tuple[int, int]) -> None:
    with TerminalConsole(store[0], *size) as terminal:
        terminal.until(lambda text: "ratchet" in text)
        for key in "hdREi":
            terminal.type(key)
            terminal.pump(0.5)
            terminal.type("jG12345\t")
            terminal.pump(0.3)
            assert terminal.text.strip()
            terminal.type("q")
        terminal.until(lambda text: "ratchet" in text)
        terminal.type("\x03")
        assert terminal.wait() == 0


def test_a_store_that_vanishes_is_told_where_the_person_looks(tmp_path: Path) -> None:
    full_store(tmp_path, 40, running=False)
    with TerminalConsole(tmp_path, 120, 40) as terminal:
        terminal.until(live)
        terminal.type("h")
        terminal.until(lambda text: "40 experiments" in text)
        (tmp_path / "store.db").rename(tmp_path / "elsewhere.db")
        terminal.until(lambda text: "is gone" in text and "title" in text)  # the rows stay to be read
        (tmp_path / "elsewhere.db").rename(tmp_path / "store.db")
        terminal.until(lambda text: "is gone" not in text and "40 experiments" in text)
