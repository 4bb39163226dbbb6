"""The console inside a real tmux, driven by keys, as over SSH: started, decided on, detached, attached.

Each test has a tmux server of its own, on a socket of its own, and ends it. Needs the program tmux.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import lock
from tests.console.terminal import ROOT, Terminal
from tests.engine.engine_process import query, until
from tests.project_factory import make_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (`make test-servers` does)"),
]
RATCHET = [sys.executable, "-P", "-m", "console.cli"]
PREFIX = "\x02"  # tmux's own: Ctrl-B


class Tmux:
    """A tmux server of this test's own; ``attach`` is a client on a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s"

    def run(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), "-f", "/dev/null", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert not check or done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def start(self, *command: str) -> Terminal:
        """A client, and in it a session ``work`` that runs ``command``."""
        # The session's environment is the server's: the one that the first client brings.
        return self._client("new-session", "-s", "work", *command)

    def attach(self) -> Terminal:
        return self._client("attach-session", "-t", "work")

    def _client(self, *arguments: str) -> Terminal:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", "-u", *arguments]
        return Terminal(command, 140, 45, environment={"TMUX": "", "PYTHONPATH": str(ROOT)})


@pytest.fixture
def tmux() -> Iterator[Tmux]:
    with tempfile.TemporaryDirectory(prefix="tmux-") as folder:  # pytest's folders are too long for a socket
        server = Tmux(Path(folder))
        try:
            yield server
        finally:
            server.run("kill-server", check=False)


@pytest.fixture(autouse=True)
def no_detached_engine_is_left(tmp_path: Path) -> Iterator[None]:
    """`ratchet` in a terminal starts the engine in a session of its own: nobody else would end it."""
    yield
    for name in ("project", "demo"):
        if lock.living(tmp_path / name / ".ratchet") is not None:
            command = [*RATCHET, "stop", str(tmp_path / name)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
            until(lambda state=tmp_path / name / ".ratchet": lock.living(state) is None, "the engine's end")


def waits(text: str) -> bool:
    return re.search(r"\d waits? for you", text) is not None


def accept_what_waits(terminal: Terminal, project: Path, seconds: float) -> int:
    """Look at the diff of the oldest proposal that waits and accept it by key; returns its number."""
    terminal.until(waits, seconds)
    number = int(query(project, "SELECT MIN(number) FROM experiment WHERE state = 'review'")[0][0])
    terminal.type("1g")  # whoever read a diff before still stands on it: follow what waits again
    terminal.until(lambda text: f"#{number} waits: run it?" in text)
    terminal.type("3")
    terminal.until(lambda text: f"#{number} waits: run it?  a accept" in text)
    terminal.type("a")
    until(
        lambda: query(project, "SELECT action FROM decision d JOIN experiment e ON e.id = d.experiment"
                      " WHERE e.number = ?", number) == [("accept",)],
        f"the decision about #{number}",
    )  # fmt: skip
    return number


def test_a_campaign_goes_on_while_its_console_is_detached_and_is_all_there_after(
    tmp_path: Path, tmux: Tmux
) -> None:
    """`ratchet` starts the engine; a proposal is accepted; the client goes, twice: by a key, and by a lost line."""
    project = make_project(tmp_path, seconds=0.2, review="proposals")
    with tmux.start(*RATCHET, str(project)) as client:
        number = accept_what_waits(client, project, 60)
        holder = lock.living(project / ".ratchet")
        client.type(PREFIX + "d")
        assert client.wait() == 0
    settled = "SELECT state FROM experiment WHERE number = ?"
    until(lambda: query(project, settled, number) == [("settled",)], f"#{number} measured with nobody looking")
    with tmux.attach() as client:
        client.until(lambda text: waits(text) and "▲ keep" in text and "3 Diff" in text, 30)
        client.hang_up()
        client.wait()
    assert tmux.run("list-sessions").startswith("work:")
    with tmux.attach() as client:
        again = accept_what_waits(client, project, 30)
        assert again > number
        client.type("q")  # the console's own way: its session has nothing else, so tmux ends with it
        assert client.wait() == 0
    assert lock.living(project / ".ratchet") == holder and holder is not None, "the engine goes on"
    with Terminal([*RATCHET, str(project)], 140, 45) as terminal:  # and a console outside of tmux finds it all
        terminal.until(lambda text: waits(text) and "▲ keep" in text and f" {again} " in text, 30)
        terminal.type("q")
        assert terminal.wait() == 0


def test_the_demo_is_started_decided_on_detached_and_attached(tmp_path: Path, tmux: Tmux) -> None:
    """`ratchet demo` with real training, cut to three steps a trial and one calibration run, asking first."""
    pytest.importorskip("torch", reason="the sample project trains with torch, which is not installed")
    from console.commands.demo import prepare

    project = tmp_path / "demo"
    prepare(project)
    file = project / "ratchet.toml"
    text = file.read_text()
    for old, new in (
        ('mode = "confirmed"', 'mode = "single"'),
        ("calibrate_seeds = 5", "calibrate_seeds = 1"),
        ("[trial]", "[trial]\nsteps = 3"),
    ):
        assert old in text, f"{old} is not in the sample project's ratchet.toml"
        text = text.replace(old, new, 1)
    file.write_text(text + '\n[review]\nmode = "proposals"\n')
    with tmux.start(*RATCHET, "demo", str(project), "--seed", "5") as client:
        number = accept_what_waits(client, project, 120)
        client.type(PREFIX + "d")
        assert client.wait() == 0
    ended = "SELECT t.outcome FROM trial t JOIN experiment e ON e.id = t.experiment WHERE e.number = ?"
    until(lambda: query(project, ended, number) not in ([], [(None,)]), f"#{number}'s trial", 120)
    with tmux.attach() as client:
        client.until(lambda text: waits(text) and "val_bpb" in text, 60)
        client.type("q")
        assert client.wait() == 0
    assert lock.living(project / ".ratchet") is not None, "the engine goes on"
    assert query(project, ended, number) == [("ok",)]
