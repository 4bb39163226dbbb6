"""Two real consoles on one real engine: one decision wins and the other is told; words reach the next brief."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.ratchet_command import ratchet
from tests.console.terminal import Terminal
from tests.engine.engine_process import query, start, until
from tests.project_factory import make_project

PROGRAM = """
import sys
from pathlib import Path
from console.app import run
from engine import lock
state = Path(sys.argv[1])
sys.exit(run(state, lambda: lock.living(state), actor=sys.argv[2]))
"""


def console(project: Path, actor: str) -> Terminal:
    command = [sys.executable, "-c", PROGRAM, str(project / ".ratchet"), actor]
    return Terminal(command, 140, 40, environment={"XDG_CONFIG_HOME": str(project.parent)})


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[Path]:
    """An engine that asks before each proposal; the first waits. What it notifies of is in ``told``."""
    command = f'echo "$RATCHET_EVENT $RATCHET_MESSAGE" >> {shlex.quote(str(tmp_path / "told"))}'
    project = make_project(tmp_path, review="proposals", config=f"[notify]\ncommand = '''{command}'''\n")
    start(project, experiments=2)
    until(lambda: waits(project, 1), "the first proposal")
    yield project
    ratchet("stop", at=project)


def waits(project: Path, number: int) -> bool:
    return bool(query(project, "SELECT 1 FROM experiment WHERE number = ? AND state = 'review'", number))


def test_two_people_decide_at_once_and_one_of_them_is_told_that_the_other_did(reviewed: Path) -> None:
    with console(reviewed, "ada") as ada, console(reviewed, "bob") as bob:
        for terminal in (ada, bob):
            terminal.until(lambda text: "1 waits for you" in text)
            terminal.type("3")
            terminal.until(lambda text: "run it?  a accept" in text)
        for terminal in (ada, bob):
            terminal.type("a")
        answers = "SELECT COUNT(*) FROM event WHERE kind = 'RequestAnswered'"
        until(lambda: query(reviewed, answers)[0][0] == 2, "both to be answered")
        decided = query(reviewed, "SELECT actor FROM decision")
        assert len(decided) == 1 and decided[0][0] in ("ada", "bob")
        first, second = (ada, bob) if decided[0][0] == "ada" else (bob, ada)
        second.until(lambda text: "accept #1: experiment 1" in text and f"({decided[0][0]}: accept)" in text)
        first.until(lambda text: "accept #1: experiment 1 accepted" in text)

        # A message waits in sight, and is marked with the proposal that was written with it.
        until(lambda: waits(reviewed, 2), "the second proposal")
        ada.type("2m")
        ada.until(lambda text: "Message to the proposer" in text)
        ada.type("look at the data order\r")
        until(lambda: query(reviewed, "SELECT 1 FROM note"), "the message")
        bob.type("2")
        bob.until(lambda text: "look at the data order" in text and "waits for the next brief" in text)
        ada.type("1g3")
        ada.until(lambda text: "#2 waits: run it?  a accept" in text)
        ada.type("r")
        ada.until(lambda text: "Reject #2?" in text)
        ada.type("tried last week\r")
        until(lambda: query(reviewed, "SELECT used_by FROM note")[0][0] is not None, "a brief that carries it")
        bob.until(lambda text: "#3 waits" in text or "#3 was written with this message" in text)
        bob.type("1g2")
        bob.until(lambda text: "#3 was written with this message" in text and "look at the data order" in text)

        # A rejection can be taken back; it was ada's, so it is hers.
        bob.type("u")
        bob.until(lambda text: "nothing to take back" in text)
        ada.type("u")
        until(lambda: waits(reviewed, 2), "the rejected one to wait again")
        assert query(reviewed, "SELECT action, actor FROM decision ORDER BY id")[1:] == [
            ("reject", "ada"), ("undo", "ada"),
        ]  # fmt: skip
        for terminal in (ada, bob):
            terminal.type("q")
            assert terminal.wait() == 0
    told = (reviewed.parent / "told").read_text()
    assert told.startswith("waiting #1 waits for your decision (run it? LEVEL 10 ->"), told
