"""The summary on return: counted from events, told once, and never in the way."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from console import last_seen
from console.away import Away, absence, summary, words
from console.last_seen import LastSeen
from console.screens.away import AwayScreen, away_text
from console.screens.live import Doors
from engine import events
from engine.events import Event
from engine.store.rows import EventRow
from tests.console.pilots import Console, console
from tests.seeded import seeded_store


def rows(*found: Event) -> list[EventRow]:
    return [EventRow(n, 100.0 + n, event) for n, event in enumerate(found, 1)]


def verdict(number: int, word: str, effect: float | None = None, reason: str = "r") -> events.VerdictGiven:
    return events.VerdictGiven(number, f"t{number}", word, reason, effect)


# --- counting ------------------------------------------------------------------------------------------


def test_a_night_in_one_line() -> None:
    found = summary(
        rows(
            verdict(1, "discard", -0.01),
            verdict(2, "keep", 0.008),
            events.RatchetAdvanced(2, "a", "b"),
            verdict(3, "crash"),
            events.EngineStopped(1, "stopped by ada"),
            events.EngineStarted(2, "box", 7),
            verdict(4, "discard", 0.001),
            verdict(5, "keep", 0.005),
            events.RatchetAdvanced(5, "b", "c"),
            verdict(6, "discard", 0.0),
            verdict(7, "discard", 0.0),
            verdict(8, "cancelled", reason="no proposal (failed): overloaded"),
            verdict(9, "cancelled", reason="rejected by ada"),
        ),
        7 * 3600 + 12 * 60,
        3_200_000_000,
        engine_ran=True,
    )
    assert words(found, "val_bpb", "minimize") == (
        "7 tried, 2 kept, val_bpb -0.013, $3.20 spent, 1 crash, 1 failed draft, engine stopped once"
    )
    assert "val_bpb +0.013" in words(found, "val_bpb", "maximize")
    assert absence(found.seconds) == "7 h 12 min"


def test_an_engine_that_died_is_told_apart_from_one_that_stopped() -> None:
    died = summary(
        rows(events.EngineStarted(2, "box", 7), events.EngineStarted(3, "box", 8)), 600, engine_ran=True
    )
    assert (died.stopped, died.died) == (0, 2)
    began = summary(rows(events.EngineStarted(2, "box", 7)), 600, engine_ran=False)
    assert (began.stopped, began.died, began.anything) == (0, 0, False)


def test_a_keep_that_a_person_overruled_is_not_kept_and_a_gain_is_only_told_when_it_is_known() -> None:
    found = summary(rows(verdict(1, "keep", 0.5)), 600)
    assert (found.tried, found.kept, found.gain) == (1, 0, None)
    merged = summary(
        rows(events.RatchetAdvanced(1, "a", "b"), verdict(2, "keep", 0.1), events.RatchetAdvanced(2, "b", "c")),
        600,
    )
    assert (merged.kept, merged.gain) == (2, None), "the first's effect was told before we left"


def test_what_else_somebody_should_know_is_said_once_and_the_newest_last() -> None:
    paused = events.CampaignPaused("the host is gone")
    found = summary(rows(paused, events.Plateau(20), paused, events.BudgetReached(20 * 10**9, 0, 0)), 600)
    assert found.told == (
        "paused: the host is gone",
        "a plateau: 20 proposals since the last keep",
        "the limit of $20.00 was reached",
    )
    assert away_text(found, "m", "minimize", 2)[-1] == "2 wait for your decision"
    hostile = summary(rows(events.CampaignPaused("\x1b]0;owned\x07\nx")), 600)
    assert all(line.isprintable() for line in away_text(hostile, "\x1b[2Jm", "minimize", 0))


def test_nothing_is_nothing() -> None:
    assert not summary([], 600).anything and not Away(1e9).anything
    assert absence(5) == "1 min" and absence(50 * 3600) == "2 days 2 h"


# --- the file ------------------------------------------------------------------------------------------


def test_what_was_seen_is_kept_a_user_and_project(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "HOME": "/nowhere"}
    one = last_seen.place(tmp_path / "a", environ, 7)
    assert one is not None and one.is_relative_to(tmp_path / "state")
    assert one != last_seen.place(tmp_path / "b", environ, 7) and one != last_seen.place(
        tmp_path / "a", environ, 8
    )
    assert last_seen.load(one) is None
    last_seen.save(one, LastSeen(1, 42, 100.5, 7, True))
    assert last_seen.load(one) == LastSeen(1, 42, 100.5, 7, True)
    assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700 and list(one.parent.iterdir()) == [one]
    home = last_seen.place(tmp_path / "a", {"XDG_STATE_HOME": "relative", "HOME": "/h"}, 7)
    assert home is not None and home.is_relative_to("/h/.local/state")
    assert last_seen.place(tmp_path, {}, 7) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"campaign": "x"}', '{"campaign": 1, "event": 1, "at": 1e999}', "\x00"]
)
def test_a_damaged_file_costs_only_the_summary(tmp_path: Path, text: str) -> None:
    path = tmp_path / "seen.json"
    path.write_text(text)
    found = last_seen.load(path)
    assert found is None or found.at == float("inf")


def test_a_folder_that_cannot_be_written_bothers_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    last_seen.save(tmp_path / "file" / "seen.json", LastSeen(1, 1, 1.0))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# --- on the screen -------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> tuple[Path, LastSeen]:
    """40 settled, one waiting; last looked at two hours ago, in the middle of the history."""
    seeded_store(tmp_path, 40, awaiting=True)
    with sqlite3.connect(tmp_path / "store.db") as conn:
        event, at = conn.execute("SELECT id, at FROM event ORDER BY id LIMIT 1 OFFSET 20").fetchone()
    conn.close()
    return tmp_path, LastSeen(1, event, at - 1.0)


async def arrived(c: Console) -> None:
    for _ in range(200):
        await c.pilot.pause(0.01)
        if c.app.live.state.away is not None:
            break
    await c.pilot.pause(0.02)


async def test_who_comes_back_is_told_and_the_key_that_puts_it_away_does_nothing_else(
    project: tuple[Path, LastSeen],
) -> None:
    folder, seen = project
    async with console(folder, seen=seen) as c:
        await arrived(c)
        screen = c.app.screen
        assert isinstance(screen, AwayScreen)
        assert screen.lines[0].startswith("While you were away (") and " tried, " in screen.lines[1]
        assert screen.lines[-1] == "1 waits for your decision"
        await c.press("Q")
        assert c.app.screen is c.app.live and c.filed() == []
        await c.press("escape")
        assert c.app.screen is c.app.live, "told once"


async def test_a_decision_key_pressed_at_the_summary_decides_nothing(project: tuple[Path, LastSeen]) -> None:
    folder, seen = project
    async with console(folder, seen=seen) as c:
        await arrived(c)
        await c.press("a")
        c.app.live.focus_pane(c.app.live.view.focus)
        await c.press("3", "a")
        assert c.filed() == [] and c.app.screen is c.app.live


async def test_a_moments_absence_another_campaign_or_no_news_are_no_absence(
    project: tuple[Path, LastSeen],
) -> None:
    from console import away_source
    from engine.store import reading

    folder, seen = project
    conn = sqlite3.connect(folder / "store.db")
    campaign = reading.campaign(conn)
    assert campaign is not None
    last = reading.last_event(conn)
    assert away_source.read(conn, campaign, seen, seen.at + 30) is None
    assert away_source.read(conn, campaign, LastSeen(9, 0, 0.0), seen.at + 1e4) is None
    assert away_source.read(conn, campaign, LastSeen(1, last, seen.at), seen.at + 1e4) is None
    found = away_source.read(conn, campaign, seen, seen.at + 1e4)
    # A store that was put back from a backup counts its events anew: then their times tell.
    restored = away_source.read(conn, campaign, LastSeen(1, last + 10**6, seen.at), seen.at + 1e4)
    assert found is not None and restored is not None and 0 < found.tried <= restored.tried <= found.tried + 1
    conn.close()


async def test_a_console_remembers_what_it_showed_now_and_then_and_at_its_end(
    project: tuple[Path, LastSeen],
) -> None:
    folder, _ = project
    kept: list[LastSeen] = []
    async with console(folder, doors=Doors(remember=kept.append)) as c:
        c.app.live.now_and_then()
        await c.settle()
        assert len(kept) == 1, "once a minute"
        c.clock.added += 61
        c.app.live.now_and_then()
        await c.settle()
        assert len(kept) == 2
        newest = c.app.live.state.events[-1].id
    with sqlite3.connect(folder / "store.db") as conn:
        assert newest == conn.execute("SELECT MAX(id) FROM event").fetchone()[0]
    conn.close()
    assert kept[-1].event == newest and kept[-1].campaign == 1 and kept[-1].engine


def test_leaving_by_any_way_remembers(tmp_path: Path) -> None:
    """Through the real program: q, then a hang-up."""
    import sys

    from tests.console.terminal import Terminal

    seeded_store(tmp_path, 5)
    program = (
        "import sys\nfrom pathlib import Path\nfrom console.app import run\n"
        "sys.exit(run(Path(sys.argv[1]), lambda: True, seen=Path(sys.argv[2])))\n"
    )
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    for how in ("q", "hang up"):
        file = tmp_path / how / "seen.json"
        command = [sys.executable, "-c", program, str(tmp_path), str(file)]
        with Terminal(command, 120, 40, environment=environment, keep=True) as terminal:
            terminal.until(lambda shown: "1 Experiments" in shown and "? help" in shown)
            terminal.pump(0.3)
            file.unlink(missing_ok=True)
            if how == "q":
                assert terminal.received.count(b"\x1b[22;2t\x1b]2;ratchet: val_bpb ") == 1
                terminal.type("q")
            else:
                terminal.hang_up()
            terminal.wait()
            assert terminal.received.count(b"\x1b[23;2t") == (how == "q"), "the title is given back"
        assert json.loads(file.read_text())["campaign"] == 1, how
