"""The console in a real terminal: it comes, it is quiet, it goes, and nothing is decided by its going."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.console.terminal import TerminalConsole
from tests.seeded import seeded_store


def whole(text: str) -> bool:
    return "1 Experiments" in text and "6 Log" in text and "? help" in text


def test_the_first_paint_is_whole_and_sent_once(tmp_path: Path) -> None:
    seeded_store(tmp_path, 400, running=False)
    with TerminalConsole(tmp_path, 160, 50) as terminal:
        terminal.until(whole)
        terminal.pump(1.0)
        assert terminal.wire < 60_000  # one full screen is 30,000 bytes; three of them were the default
        assert terminal.pump(3.0) < 3_000  # nothing happens, so (almost) nothing is sent
        terminal.type("q")
        assert terminal.wait() == 0


def test_hostile_titles_and_logs_reach_no_terminal(tmp_path: Path) -> None:
    seeded_store(tmp_path, 5)
    with sqlite3.connect(tmp_path / "store.db") as conn:
        conn.execute("UPDATE proposal SET title = ? WHERE id = 5", ("\x1b]0;owned\x07\x1b[2J[blink]evil[/blink]",))
    log = next(tmp_path.glob("trials/*/attempt-1/control/log"))
    log.write_bytes(b"\x1b]0;owned\x07\x1b[31mloud\x1b[0m\n" * 20)
    with TerminalConsole(tmp_path, 160, 50) as terminal:
        terminal.until(lambda text: whole(text) and "loud" in text and "[blink]evil[/blink]" in text)
        assert "owned" not in terminal.screen.title + terminal.text  # the escape did nothing, and is not shown


@pytest.mark.parametrize("how", ["hang up", "SIGTERM"])
def test_a_closed_terminal_ends_the_console_and_decides_nothing(tmp_path: Path, how: str) -> None:
    seeded_store(tmp_path, 5, awaiting=True)
    with TerminalConsole(tmp_path, 120, 40) as terminal:
        terminal.until(lambda text: "waits for you" in text)
        terminal.type("3")
        terminal.until(lambda text: "run it?  a accept" in text)
        terminal.type("r")
        terminal.until(lambda text: "Reject #7?" in text)
        if how == "hang up":
            terminal.hang_up()
        else:
            os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait() in (0, -signal.SIGHUP)
    assert not (tmp_path / "inbox.db").exists()


def test_a_terminal_that_nobody_reads_and_then_vanishes_leaves_no_process_behind(tmp_path: Path) -> None:
    seeded_store(tmp_path, 50)
    with TerminalConsole(tmp_path, 160, 50) as terminal:
        terminal.until(whole)
        for _ in range(40):  # far more than the pseudo-terminal's buffer and the writer's queue hold
            terminal.type("GgGg")
        terminal.hang_up()
        assert terminal.wait() in (0, -signal.SIGHUP)


def test_the_mouse_is_left_alone_over_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded_store(tmp_path, 3)
    for remote, asked in ((False, True), (True, False)):
        monkeypatch.delenv("SSH_TTY", raising=False)
        monkeypatch.delenv("SSH_CONNECTION", raising=False)
        if remote:
            monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
        with TerminalConsole(tmp_path, 80, 24) as terminal:
            terminal.until(lambda text: "1 Experiments" in text)
            modes = {int(m) >> 5 for m in re.findall(r"\d+", " ".join(map(str, terminal.screen.mode)))}
            assert (1003 in modes) is asked, modes
