"""Copying inside a real tmux, on a server of its own: what is copied can be pasted, whole, whatever it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.commands import tmux
from console.commands.tmux import copy_door
from engine.errors import RatchetError
from tests.console.terminal import ROOT, Terminal
from tests.seeded import seeded_store

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
PROGRAM = """
import sys
from pathlib import Path
from console.app import run
from console.commands.tmux import copy_door
sys.exit(run(Path(sys.argv[1]), lambda: True, copy=copy_door()))
"""


class Server:
    """A tmux server that knows nothing of the tester's; killed by its own command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"ratchet-test-{os.getpid()}"
        outside = {
            name: value for name, value in os.environ.items() if name not in ("TMUX", "TMUX_PANE", "NO_COLOR")
        }
        self.environ = {
            **outside, "TMUX_TMPDIR": str(folder), "TERM": "xterm-256color", "LANG": "C.UTF-8",
            "XDG_CONFIG_HOME": str(folder), "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def tmux(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.name, "-f", os.devnull, *words],
            env=self.environ, capture_output=True, timeout=20, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0 or not check, (words, done.stderr)
        return done.stdout.decode()

    @property
    def inside(self) -> dict[str, str]:
        """What a program inside has to know."""
        return {**self.environ, "TMUX": self.tmux("display-message", "-p", "#{socket_path},#{pid},0").strip()}

    def until(self, what: Callable[[], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.tmux("capture-pane", "-p", "-t", "t", check=False)
            time.sleep(0.05)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "t")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("x")  # a socket's path has to be short
    found = Server(folder)
    found.tmux("new-session", "-d", "-s", "t", "-x", "120", "-y", "40", "sleep 600")
    try:
        yield found
    finally:
        found.tmux("kill-server", check=False)


@pytest.mark.parametrize(
    "text", ["one line", "+a\n-b\n\ttab\n", "学習 ±\n", "x" * 300_000, "-w", "$(true) `true` \\ \"'"],
    ids=["line", "diff", "letters", "large", "an option", "a shell's"],
)  # fmt: skip
def test_what_is_copied_is_what_is_pasted(server: Server, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TMUX", server.inside["TMUX"])
    door = copy_door()
    assert door is not None
    assert "tmux's buffer" in door(text)
    assert server.tmux("show-buffer") == text


def test_the_console_inside_of_tmux_copies_into_its_buffer(server: Server, tmp_path: Path) -> None:
    seeded_store(tmp_path, 20, awaiting=True)
    server.tmux("respawn-pane", "-k", "-t", "t", "-e", f"XDG_CONFIG_HOME={server.folder}",
                "-e", f"PYTHONPATH={ROOT}", sys.executable, "-c", PROGRAM, str(tmp_path))  # fmt: skip
    server.until(lambda: "1 Experiments" in server.screen() and "? help" in server.screen())
    server.tmux("send-keys", "-t", "t", "3")
    server.until(lambda: "waits: run it?" in server.screen())
    server.tmux("send-keys", "-t", "t", "y")
    server.until(lambda: "copied the diff" in server.screen() and "tmux's buffer" in server.screen())
    assert server.tmux("show-buffer").startswith("diff --git a/train.py b/train.py\n")
    server.tmux("send-keys", "-t", "t", "y", "1", "y")
    server.until(lambda: "Copy" in server.screen() and "`ratchet show 22`" in server.screen())
    server.tmux("send-keys", "-t", "t", "c")
    server.until(lambda: "copied `ratchet show 22`" in server.screen())
    assert server.tmux("show-buffer") == "ratchet show 22"


def test_it_reaches_the_clipboard_of_the_terminal_around_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """set-clipboard is tmux's default, external: a program's own OSC 52 would be dropped, load-buffer -w is not."""
    command = ["tmux", "-L", server.name, "attach", "-t", "t"]
    around = {**server.environ, "TMUX": ""}
    with Terminal(command, 120, 40, environment=around, keep=True) as outer:
        server.until(lambda: (outer.pump(0.05), "t" in server.tmux("list-clients", "-F", "#{session_name}"))[1])
        monkeypatch.setenv("TMUX", server.inside["TMUX"])
        door = copy_door()
        assert door is not None
        door("through tmux")
        server.until(lambda: (outer.pump(0.05), b"\x1b]52;" in outer.received)[1])
        assert b"dGhyb3VnaCB0bXV4" in outer.received
        server.tmux("detach-client", "-s", "t")
        outer.wait()


def test_outside_of_tmux_there_is_no_door() -> None:
    assert copy_door({}) is None and copy_door({"TMUX": ""}) is None


def test_a_tmux_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX", f"{tmp_path}/gone,1,0")
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    door = copy_door()
    assert door is not None
    with pytest.raises(RatchetError, match="tmux: "):
        door("text")


def test_a_tmux_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "tmux"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMUX", "x,1,0")
    monkeypatch.setattr(tmux, "SECONDS", 0.3)
    door = copy_door()
    assert door is not None
    with pytest.raises(RatchetError, match="no answer within"):
        door("text")


def test_an_old_tmux_without_w_is_asked_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "tmux"
    fake.write_text(
        f'#!/bin/sh\n[ "$2" = -w ] && {{ echo "unknown option -- w" >&2; exit 1; }}\ncat > {tmp_path}/got\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMUX", "x,1,0")
    door = copy_door()
    assert door is not None and door("text") == "into tmux's buffer (prefix ] pastes it)"
    assert (tmp_path / "got").read_text() == "text"
