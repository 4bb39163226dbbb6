"""A replay in a real pseudo-terminal: what a newcomer sees, and what is left when it goes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.commands.replay import shipped
from console.replay.scratch import PREFIX
from tests.console.terminal import Terminal

RECORDED = shipped()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


def opened(home: Path, width: int, height: int, *arguments: str) -> Terminal:
    """`ratchet demo --replay` of a person with nothing: no torch, no git, no settings."""
    environment = {
        "TMPDIR": str(home / "tmp"), "HOME": str(home), "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"), "PATH": os.devnull, "TMUX": "", "SSH_CONNECTION": "",
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "console.cli", *(arguments or ("demo", "--replay"))]
    return Terminal(command, width, height, environment=environment, at=home)


def scratches(home: Path) -> list[str]:
    return [path.name for path in (home / "tmp").iterdir() if path.name.startswith(PREFIX)]


@pytest.fixture(params=[(80, 24), (160, 50)], ids=["80x24", "160x50"])
def console(request: pytest.FixtureRequest, home: Path) -> Iterator[Terminal]:
    with opened(home, *request.param) as terminal:
        yield terminal


def test_a_newcomer_sees_a_campaign_go_from_its_start_to_a_verdict_and_a_keep(
    console: Terminal, home: Path
) -> None:
    console.until(lambda text: "REPLAY of" in text and "recorded 20" in text and "x10" in text)
    console.until(lambda text: "scripted stand-in for Claude" in text)
    console.type(">>")
    console.until(lambda text: "x600" in text)
    console.until(lambda text: any(sign in text for sign in ("· discard", "✗ crash", "▲ keep")))
    console.until(lambda text: "▲ keep" in text)
    console.until(lambda text: "ended" in text)
    titles = [str(row["title"])[:20] for row in RECORDED.rows["proposal"][-3:]]
    assert all(title in console.text for title in titles), console.text
    console.type("a")
    console.until(lambda text: "this is a replay" in text)
    assert len(scratches(home)) == 1
    console.type("q")
    assert console.wait() == 0
    assert scratches(home) == []


def test_it_stands_steps_and_goes_back(console: Terminal) -> None:
    console.until(lambda text: "x10" in text)
    console.type(" ")
    console.until(lambda text: "paused" in text)
    console.type("n")
    console.until(lambda text: "▲ keep" in text)
    console.type("n")
    console.until(lambda text: text.count("▲ keep") == 2)
    console.type("N")
    console.until(lambda text: text.count("▲ keep") == 1)
    console.type("N")
    console.until(lambda text: "no earlier keep" in text)
    console.type(",")
    console.until(lambda text: "▲ keep" not in text and "paused" in text)
    console.type("?")
    console.until(lambda text: "once more from the start" in text and "to the next keep" in text)


def test_the_list_of_actions_has_the_player_s_and_says_why_others_are_off(home: Path) -> None:
    with opened(home, 120, 40) as console:
        console.until(lambda text: "x10" in text)
        console.type(":pause the ratchet")
        console.until(lambda text: "pause the ratchet, or resume it" in text and "this is a replay" in text)
        console.type("\x1b")
        console.until(lambda text: "pause the ratchet, or" not in text)
        console.type(":faster: x1\r")
        console.until(lambda text: "x60" in text)


def leave_by_sigterm(console: Terminal) -> None:
    os.kill(console.pid, signal.SIGTERM)


def leave_by_hang_up(console: Terminal) -> None:
    console.hang_up()


@pytest.mark.parametrize("leave", [leave_by_sigterm, leave_by_hang_up])
def test_nothing_is_left_however_it_ends(home: Path, leave: Callable[[Terminal], None]) -> None:
    with opened(home, 100, 30) as console:
        console.until(lambda text: "REPLAY of" in text)
        assert len(scratches(home)) == 1
        leave(console)
        assert console.wait() == 0
    assert scratches(home) == []


def test_what_a_killed_one_leaves_is_swept_by_the_next(home: Path) -> None:
    with opened(home, 100, 30) as console:
        console.until(lambda text: "REPLAY of" in text)
        os.kill(console.pid, signal.SIGKILL)
        assert console.wait() == -signal.SIGKILL
    left = scratches(home)
    assert len(left) == 1
    with opened(home, 100, 30) as console:
        console.until(lambda text: "REPLAY of" in text)
        assert len(scratches(home)) == 1 and scratches(home) != left


def test_it_begins_where_it_is_told(home: Path, tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "console" / "recorded" / "campaign.ratchet"
    last = max(int(row["number"]) for row in RECORDED.rows["experiment"])
    with opened(home, 160, 50, "replay", str(file), "--from", f"#{last}", "--speed", "1") as console:
        console.until(lambda text: "x1," in text and f"│    {last} " in text)
    with opened(home, 160, 50, "replay", str(file), "--from", "90:00:00") as console:
        console.until(lambda text: "it ends before 90:00:00" in text)
        assert console.wait() == 2
    assert scratches(home) == []
