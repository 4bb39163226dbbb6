"""What one's own terminal gets: colours or none, the mouse or not, keys of one's own, the clipboard, pictures."""

from __future__ import annotations

import base64
import re
import sqlite3
from pathlib import Path

import pytest

from tests.console.terminal import TerminalConsole
from tests.seeded import seeded_store

SGR = re.compile(rb"\x1b\[([0-9;:]*)m")
TRUE = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """20 experiments, number 22 waits in review."""
    state = tmp_path / "state"
    state.mkdir()
    seeded_store(state, 20, awaiting=True)
    return state


def terminal(
    state: Path, width: int = 120, height: int = 40, settings: str = "", **environ: str
) -> TerminalConsole:
    """The console with nothing of the tester's own terminal around it."""
    home = state.parent / "config"
    (home / "ratchet").mkdir(parents=True, exist_ok=True)
    (home / "ratchet" / "console.toml").write_text(settings)
    bare = dict.fromkeys(("NO_COLOR", "TMUX", "STY", "SSH_TTY", "SSH_CONNECTION", "LC_ALL", "LC_CTYPE"), "")
    environment = {**bare, "LANG": "C.UTF-8", "XDG_CONFIG_HOME": str(home), **TRUE, **environ}
    return TerminalConsole(state, width, height, environment=environment, keep=True)


def whole(text: str) -> bool:
    return "1 Experiments" in text and "? help" in text


def sgr(found: TerminalConsole) -> set[int]:
    """Every parameter of every colour and attribute sequence that was sent."""
    return {int(part or 0) for run in SGR.findall(bytes(found.received)) for part in re.split(b"[;:]", run)}


def through_everything(console: TerminalConsole) -> None:
    """The diff, a question, the help, the palette, the history, a picture: all that paints."""
    console.until(whole)
    for key, seen in (
        ("3", "waits: run it?"), ("r", "Reject #"), ("\x1b", ""), ("?", "Moving"), ("\x1b", ""), (":", "Actions"),
        ("zoom", "zoom out"), ("\x1b", ""), ("h", "The history"), ("q", "1 Experiments"),
    ):  # fmt: skip
        console.type(key)
        console.until(lambda text, seen=seen, key=key: seen in text if seen else "Actions" not in text)  # type: ignore[misc]
        console.pump(0.5 if key == "3" else 0.15)


@pytest.mark.parametrize(
    "environ",
    [{"NO_COLOR": "1"}, {"TERM": "vt220", "COLORTERM": ""}],
    ids=["NO_COLOR", "a terminal without colour"],
)
def test_without_colour_no_colour_is_sent_at_all(campaign: Path, environ: dict[str, str]) -> None:
    with terminal(campaign, **environ) as console:
        through_everything(console)
        assert sgr(console) <= {0, 1, 4, 7}, sorted(sgr(console))
        assert {1, 7} <= sgr(console)  # bold and reversed: who waits still stands out
        assert b"\x1b]4;" not in console.received and b"\x1b]1" not in console.received
        console.type("q")
        assert console.wait() == 0


def test_a_terminal_of_16_colours_gets_its_own_and_no_other(campaign: Path) -> None:
    with terminal(campaign, TERM="linux", COLORTERM="", LANG="") as console:
        through_everything(console)
        allowed = {0, 1, 2, 3, 4, 7, 39, 49, *range(30, 38), *range(40, 48), 90}
        assert sgr(console) <= allowed, sorted(sgr(console) - allowed)
        assert {32, 31, 36, 30, 43} <= sgr(console)
        assert console.text.isascii()  # Linux's own console has no braille


@pytest.mark.parametrize(
    ("environ", "kind"), [(TRUE, b"38;2;"), ({"TERM": "tmux-256color", "COLORTERM": ""}, b"38;5;")]
)
def test_colours_are_sent_as_the_terminal_knows_them(campaign: Path, environ: dict[str, str], kind: bytes) -> None:
    other = b"38;5;" if kind == b"38;2;" else b"38;2;"
    with terminal(campaign, **environ) as console:
        console.until(whole)
        console.pump(0.3)
        assert kind in console.received and other not in console.received


def test_another_theme_repaints_everything_at_once(campaign: Path) -> None:
    with terminal(campaign) as console:
        console.until(whole)
        console.type(":theme light\r")
        console.until(lambda text: "theme: light" in text and whole(text) and "Actions" not in text)
        console.pump(0.5)
        grounds = {console.screen.buffer[y][x].bg for y in range(40) for x in range(120)}
        assert "ffffff" in grounds and not grounds & {"0d1117", "161b22"}, grounds
        console.type(":theme mono\r")
        console.until(lambda text: "theme: mono" in text and "Actions" not in text)
        console.pump(0.5)
        assert {console.screen.buffer[y][x].bg for y in range(40) for x in range(120)} == {"default"}


def test_the_settings_file_chooses_theme_signs_and_mouse(campaign: Path) -> None:
    settings = 'theme = "light"\nascii = true\nmouse = false\n'
    with terminal(campaign, settings=settings) as console:
        console.until(whole)
        console.pump(0.3)
        assert b"48;2;255;255;255" in console.received and console.text.isascii()
        assert b"\x1b[?1003h" not in console.received


def test_a_mistake_in_the_settings_is_said_and_the_default_stays(campaign: Path) -> None:
    with terminal(campaign, settings='[keys]\npause = "ctrl+s"\nhelp = "F1"\n', width=160) as console:
        console.until(lambda text: "console.toml:2: [keys] pause: ctrl+s cannot be used" in text)


def test_a_key_of_ones_own_works_and_is_shown_on_every_screen(campaign: Path) -> None:
    settings = '[keys]\ndown = "J"\nhelp = "f9"\npalette = "ctrl+o"\nfilter = "F"\n'
    with terminal(campaign, settings=settings) as console:
        console.until(lambda text: "1 Experiments" in text and "f9 help" in text)
        console.type("g")
        console.until(lambda text: "following" in text)
        console.type("j")  # not `down` any more
        console.pump(0.3)
        assert "following" in console.text
        console.type("J")
        console.until(lambda text: "following" not in text)
        console.type("\x0f")
        console.until(lambda text: "Actions" in text)
        console.type("down")
        console.until(lambda text: re.search(r"down +down +J ", text) is not None)
        console.type("\x1b")
        console.until(lambda text: "Actions" not in text)
        console.type("h")
        console.until(lambda text: "The history" in text and "F filter" in text)
        console.type("F")
        console.until(lambda text: "keep it" in text)  # a line to type the filter into


# --- the mouse ----------------------------------------------------------------------------------------


def modes(console: TerminalConsole) -> set[int]:
    """Private modes that are on, by what was sent last."""
    on: set[int] = set()
    for mode, how in re.findall(rb"\x1b\[\?(\d+)([hl])", bytes(console.received)):
        (on.add if how == b"h" else on.discard)(int(mode))
    return on


def test_the_mouse_goes_on_and_off_by_a_key_and_is_off_afterwards(campaign: Path) -> None:
    with terminal(campaign, SSH_TTY="/dev/pts/9") as console:
        console.until(whole)
        console.pump(0.3)
        assert not modes(console) & {1000, 1003, 1006}
        console.type("%")
        console.until(lambda text: "mouse on" in text)
        console.pump(0.3)
        assert modes(console) >= {1000, 1003, 1006}
        console.type("\x1b[<0;5;12M\x1b[<0;5;12m")  # a click into the list of experiments
        console.until(lambda text: "following" not in text)
        console.type("%")
        console.until(lambda text: "mouse off" in text)
        console.pump(0.3)
        assert not modes(console) & {1000, 1003, 1006}
        console.type("%")
        console.until(lambda text: "mouse on" in text)
        console.type("q")
        console.wait()
        assert not modes(console) & {1000, 1003, 1006, 1049, 2004}


# --- copying ------------------------------------------------------------------------------------------


def clipboard(console: TerminalConsole) -> list[str]:
    found = re.findall(rb"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", bytes(console.received))
    return [base64.b64decode(one, validate=True).decode() for one in found]


def test_each_pane_gives_what_it_shows_to_the_terminals_clipboard(campaign: Path) -> None:
    with terminal(campaign) as console:
        console.until(whole)
        console.type("3")
        console.until(lambda text: "waits: run it?" in text)
        console.type("y")
        console.until(lambda text: "sent the diff" in text and "by OSC 52" in text)
        console.type("2y")
        console.until(lambda text: "sent the hypothesis" in text)
        console.type("6y")
        console.until(lambda text: "sent the log in sight" in text)
        console.pump(0.2)
        diff, hypothesis, log = clipboard(console)
        assert diff.startswith("diff --git a/train.py b/train.py\n") and diff.endswith("\n")
        assert "\n+        hidden = self.mlp(self.norm2(x))\n" in diff
        assert hypothesis.startswith("The loss still falls")
        assert all(line in console.text for line in log.splitlines()) and "train_loss" in log


def test_where_several_things_make_sense_a_list_asks(campaign: Path) -> None:
    with terminal(campaign) as console:
        console.until(whole)
        console.type("y")
        console.until(lambda text: "Copy" in text and "`ratchet show 22`" in text and "and its title" in text)
        console.type("c")
        console.until(lambda text: "sent `ratchet show 22`" in text)
        console.type("y")
        console.until(lambda text: "─ Copy" in text)
        console.type("\r")
        console.until(lambda text: "sent #22 and its title" in text)
        console.pump(0.2)
        command, title = clipboard(console)
        assert command == "ratchet show 22" and title.startswith("#22 ")


def test_what_a_terminal_cannot_take_is_cut_and_said_to_be(campaign: Path) -> None:
    huge = "diff --git a/t.py b/t.py\n--- a/t.py\n+++ b/t.py\n@@ -1 +1,9000 @@\n-a\n" + "+0123456789\n" * 9000
    with sqlite3.connect(campaign / "store.db") as conn:
        conn.execute(
            "UPDATE proposal SET diff = ? WHERE id = (SELECT proposal FROM experiment WHERE number = 22)", (huge,)
        )
    conn.close()
    with terminal(campaign, width=160) as console:
        console.until(whole)
        console.type("3")
        console.until(lambda text: "waits: run it?" in text)
        console.type("y")
        console.until(lambda text: ", cut: of 9,005 lines, 108.1 KB a terminal takes no more" in text)
        console.pump(0.5)
        (sent,) = clipboard(console)
        assert huge.startswith(sent) and sent.endswith("+0123456789\n") and 74_900 < len(sent) < 74_994


# --- pictures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["\x1b[24~", ":svg\r"], ids=["f12", "the palette"])
def test_a_picture_is_kept_and_its_place_said(campaign: Path, how: str) -> None:
    with terminal(campaign, width=160) as console:
        console.until(whole)
        console.type(how)
        console.until(lambda text: "picture: " in text)
        (path,) = (campaign / "screenshots").iterdir()
        assert path.name in console.text and path.suffix == ".svg"
        picture = path.read_text()
        assert picture.startswith("<svg") and "Experiments" in picture and "Actions" not in picture


def test_a_file_in_the_pictures_place_is_said(campaign: Path) -> None:
    (campaign / "screenshots").write_text("in the way")
    with terminal(campaign, width=160) as console:
        console.until(whole)
        console.type("\x1b[24~")
        console.until(lambda text: "no picture: " in text)


# --- the palette --------------------------------------------------------------------------------------


def test_the_palette_does_what_is_chosen_at_80_columns(campaign: Path) -> None:
    with terminal(campaign, 80, 24) as console:
        console.until(lambda text: "1 Experiments" in text)
        console.type("\x10")  # ctrl+p
        console.until(lambda text: "Actions" in text and "part of a name" in text)
        console.type("7")
        console.until(lambda text: "go to experiment 7" in text)
        console.type("\r")
        console.until(lambda text: "Actions" not in text)
        console.type(":go to log\r")
        console.until(lambda text: "─ 6 Log" in text or "━ 6 Log" in text)
        console.type(":9999\r")
        console.until(lambda text: "there are 23" in text)


def test_no_decision_is_taken_through_the_palette(campaign: Path) -> None:
    """It hides what would be decided."""
    with terminal(campaign) as console:
        console.until(whole)
        console.type("3")
        console.until(lambda text: "run it?  a accept" in text)
        console.type(":accept the prop")
        console.until(lambda text: "by its own key, with the diff in sight" in text)
        console.type("\r")
        console.until(lambda text: "Actions" not in text and "by its own key" in text)
        console.pump(0.3)
    assert not (campaign / "inbox.db").exists()


def test_a_list_costs_few_bytes(campaign: Path) -> None:
    with terminal(campaign, 160, 50) as console:
        console.until(whole)
        console.pump(0.5)
        before = console.wire
        console.type(":")
        console.until(lambda text: "Actions" in text)
        console.pump(0.5)
        opened = console.wire - before
        console.type("z")
        console.until(lambda text: "zoom" in text)
        console.pump(0.5)
        typed = console.wire - before - opened
        print(f"palette at 160x50: {opened} bytes to open, {typed} for a letter")
        assert opened < 50_000 and typed < 12_000


@pytest.mark.parametrize(("key", "seen"), [(":", "Actions"), ("?", "Moving"), ("Q", "Stop the engine?")])
def test_what_happens_behind_a_question_does_not_send_the_whole_screen_again(
    campaign: Path, key: str, seen: str
) -> None:
    with terminal(campaign, 160, 50) as console:
        console.until(whole)
        console.type(key)
        console.until(lambda text: seen in text)
        console.pump(1.0)
        assert console.pump(3.0) < 3_000  # a whole screen is 29,000
        before = console.wire
        console.type("\x1b")
        console.until(lambda text: seen not in text)
        console.pump(0.7)
        assert console.wire - before < 40_000  # once
