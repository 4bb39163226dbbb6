"""What terminals do to a console, and what it must not do to a campaign (TRUST.md row 36). Real processes, real ptys.

RATCHET_CONSOLE_KILLS (10) and RATCHET_UNREAD_SECONDS (3) give the full figures: 100 and 10.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from engine import lock
from tests.console.terminal import Terminal, TerminalConsole
from tests.engine.engine_process import query, start, until
from tests.project_factory import make_project
from tests.seeded import seeded_store

KILLS = int(os.environ.get("RATCHET_CONSOLE_KILLS", "10"))
UNREAD_SECONDS = float(os.environ.get("RATCHET_UNREAD_SECONDS", "3"))
SEED = 20251121
LEAVING = ("SIGKILL", "SIGHUP", "SIGTERM", "hang up")


class Request(NamedTuple):
    kind: str
    number: int
    revision: int
    state: str


def whole(text: str) -> bool:
    return "1 Experiments" in text and "? help" in text


def console(project: Path, width: int = 120, height: int = 40) -> Terminal:
    command = [sys.executable, "-P", "-m", "console.cli", "console", str(project), "--attach-only"]
    return Terminal(command, width, height)


def requests(project: Path) -> list[Request]:
    path = project / ".ratchet" / "inbox.db"
    if not path.exists():
        return []
    # For writing: a console killed in the middle of one leaves a journal, which whoever reads next rolls back.
    conn = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5)
    try:
        found = conn.execute(
            "SELECT kind, json_extract(args, '$.number'), json_extract(args, '$.revision'), state FROM request ORDER BY id"
        ).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # made, and nothing written to it
            return []
        raise
    finally:
        conn.close()
    return [Request(*row) for row in found]


def in_review(project: Path) -> tuple[int, int] | None:
    """Number and revision of the proposal that waits."""
    rows = query(project, "SELECT number, revision FROM experiment WHERE state = 'review' ORDER BY number")
    return (rows[0][0], rows[0][1]) if rows else None


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Path]:
    """A project whose real engine asks about every proposal; ended by conftest."""
    project = make_project(tmp_path, seconds=0.1, review="proposals")
    start(project, experiments=10_000)
    until(lambda: in_review(project), "a proposal in review")
    yield project


# --- it dies -----------------------------------------------------------------------------------------


def leave(terminal: Terminal, how: str) -> None:
    """End the console in one of the ways in which consoles end, and see it gone."""
    if how == "hang up":
        terminal.hang_up()
    else:
        os.kill(terminal.pid, getattr(signal, how))
    terminal.wait(20)


def test_a_killed_console_decides_nothing_that_the_person_had_not_completed(asking: Path) -> None:
    """Each time: attach, look at the diff, begin to decide or decide, and die at some moment of it."""
    chance = random.Random(SEED)
    holder = lock.living(asking / ".ratchet")
    assert holder is not None
    done = dict.fromkeys(("too early", "a reason half typed", "completed"), 0)
    taken = 0
    for turn in range(KILLS):
        before = requests(asking)
        number, revision = until(lambda: in_review(asking), "the next proposal in review")
        scene = list(done)[turn % 3] if turn < 3 else chance.choice(list(done))
        how = LEAVING[turn % 4] if turn < 4 else chance.choice(LEAVING)
        with console(asking) as terminal:
            terminal.until(lambda text: whole(text) and "waits for you" in text)
            if scene == "too early":
                terminal.type("3a")  # the diff was never looked at
            else:
                terminal.type("3")
                terminal.until(lambda text: "run it?  a accept" in text)
                if scene == "completed":
                    terminal.type("a" if chance.random() < 0.5 else "rtoo bold\r")
                else:
                    terminal.type("r")
                    terminal.until(lambda text, n=number: f"Reject #{n}?" in text)
                    terminal.type("no bec")
            terminal.pump(chance.choice((0.0, 0.0, 0.02, 0.1, 0.3)))
            leave(terminal, how)
        fresh = requests(asking)[len(before) :]
        if scene == "completed":
            # "r" may still have been a question when the console died: nothing, or the whole decision, never more.
            assert len(fresh) <= 1, fresh
            assert all((r.number, r.revision) == (number, revision) for r in fresh), (fresh, number, revision)
            for request in fresh:
                until(lambda: requests(asking)[-1].state == "done", f"{request} carried out")
            taken += len(fresh)
        else:
            assert fresh == [], (turn, scene, how, fresh)
            assert in_review(asking) == (number, revision), (turn, scene, how)
        done[scene] += 1
        assert lock.living(asking / ".ratchet") == holder, "the engine moved"
    with console(asking) as terminal:
        terminal.until(lambda text: whole(text) and "waits for you" in text)
        terminal.type("q")
        assert terminal.wait() == 0
    decisions = query(asking, "SELECT experiment, COUNT(*) FROM decision GROUP BY experiment")
    assert len(decisions) == taken and all(count == 1 for _, count in decisions)
    print(f"seed {SEED}: {KILLS} consoles ended {done}: 0 decisions nobody made, {taken} of {done['completed']} completed"
          " ones carried out once, engine unmoved, every next attach complete")  # fmt: skip


def test_two_presses_in_a_row_file_one_accept(tmp_path: Path) -> None:
    """Typed in one go, so that the second is handled before the first is on disk; nobody answers either."""
    seeded_store(tmp_path / ".ratchet", 7, awaiting=True)
    with TerminalConsole(tmp_path / ".ratchet", 120, 40) as terminal:
        terminal.until(lambda text: "waits for you" in text)
        terminal.type("3")
        terminal.until(lambda text: "run it?  a accept" in text)
        terminal.type("aaa")
        until(lambda: requests(tmp_path), "the request")
        terminal.until(lambda text: "accept #9" in text and "run it?" not in text)
        terminal.type("aq")
        assert terminal.wait() == 0
    assert requests(tmp_path) == [Request("accept", 9, 3, "waiting")]


def test_two_presses_and_two_consoles_are_one_accept(asking: Path) -> None:
    waiting = until(lambda: in_review(asking), "a proposal")
    number, revision = waiting
    with console(asking) as one, console(asking) as other:
        for terminal in (one, other):
            terminal.until(lambda text: whole(text) and "waits for you" in text)
            terminal.type("3")
            terminal.until(lambda text: "run it?  a accept" in text)
        one.type("aa")
        other.type("aa")
        until(lambda: in_review(asking) != waiting, "the decision")
        for terminal in (one, other):
            terminal.pump(0.5)
            terminal.type("q")
            assert terminal.wait() == 0
    until(lambda: all(r.state != "waiting" for r in requests(asking)), "all requests answered")
    found = [r for r in requests(asking) if r.number == number]
    assert 1 <= len(found) <= 2, f"two presses in one console are one request: {found}"
    assert {(r.kind, r.revision) for r in found} == {("accept", revision)}
    assert [r.state for r in found].count("done") == 1, found
    counted = "SELECT COUNT(*) FROM decision d JOIN experiment e ON e.id = d.experiment WHERE e.number = ?"
    assert query(asking, counted, number) == [(1,)]


# --- it is not read ----------------------------------------------------------------------------------


def test_a_terminal_that_reads_nothing_for_a_while_harms_nothing(tmp_path: Path) -> None:
    """The engine goes on meanwhile; afterwards the console shows what is true then and answers keys."""
    project = make_project(tmp_path, seconds=0.1)
    start(project, experiments=10_000)
    until(lambda: query(project, "SELECT number FROM experiment WHERE state = 'settled'"), "the first verdict")
    settled = "SELECT COUNT(*) FROM experiment WHERE state = 'settled'"
    with console(project, 160, 50) as terminal:
        terminal.until(lambda text: whole(text) and "keep" in text)
        before, (holder, wire) = query(project, settled)[0][0], (lock.living(project / ".ratchet"), terminal.wire)
        end = time.monotonic() + UNREAD_SECONDS
        while time.monotonic() < end:  # keys go in, and not one byte is taken out
            terminal.type("Gg36_1")
            time.sleep(0.05)
        assert terminal.wire == wire
        after = until(lambda: (n := query(project, settled)[0][0]) > before and n, "the engine to go on")
        terminal.pump(1.0)
        assert lock.living(project / ".ratchet") == holder
        terminal.type("1g")
        newest = "SELECT MAX(number) FROM experiment WHERE state = 'settled'"
        terminal.until(lambda text: whole(text) and f" {query(project, newest)[0][0]} " in text)
        terminal.type("?")
        terminal.until(lambda text: "Moving" in text and "The diff" in text)
        terminal.type("\x1b")
        terminal.until(lambda text: whole(text) and "Moving" not in text)  # q right behind esc would be alt+q
        terminal.type("q")
        assert terminal.wait() == 0
    print(f"unread for {UNREAD_SECONDS:g} s: the engine settled {after - before} experiments meanwhile")
    assert requests(project) == []


# --- it is resized -----------------------------------------------------------------------------------


def test_thirty_resizes_in_a_row_end_in_a_whole_screen(tmp_path: Path) -> None:
    seeded_store(tmp_path, 200, awaiting=True)
    chance = random.Random(SEED)
    with TerminalConsole(tmp_path, 160, 50) as terminal:
        terminal.until(whole)
        for i in range(30):
            terminal.resize(
                *chance.choice([(300, 100), (1, 1), (20, 5), (60, 16), (80, 24), (120, 40), (200, 60)])
            )
            if i % 5 == 0:
                terminal.type(chance.choice("123456"))
            if i % 3 == 0:
                terminal.pump(0.05)
        for size in ((80, 24), (120, 40)):
            terminal.resize(*size)
            terminal.type("1")
            terminal.until(lambda text: whole(text) and "waits for you" in text and " 200 " in text)
            # Every line is this size's own: nothing of a larger screen is left over.
            terminal.pump(0.3)
            lines = terminal.lines
            assert lines[0].startswith(" ratchet november") and "? help" in lines[-1], terminal.text
        terminal.type("q")
        assert terminal.wait() == 0
    assert not (tmp_path / "inbox.db").exists()
