"""Keys to requests, through the real screen: what is filed, and above all what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.layout import Pane
from console.screens.confirm import ConfirmScreen, ReasonScreen
from console.screens.help import HelpScreen
from console.screens.live import Doors, LiveScreen
from engine.inbox import Inbox
from tests.console.pilots import console
from tests.seeded import seeded_store


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """Experiment 9 waits in review, revision 3."""
    seeded_store(tmp_path, 7, awaiting=True)
    return tmp_path


async def test_accept_carries_the_number_and_revision_that_were_seen(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("enter")
        await c.look_at_it()
        await c.press("a")
        assert [(r.kind, r.args, r.actor) for r in c.filed()] == [("accept", {"number": 9, "revision": 3}, "ada")]
        await c.look_at_it()
        await c.press("a")  # once is enough
        assert len(c.filed()) == 1


async def test_a_key_typed_before_the_diff_could_be_read_decides_nothing(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("enter", "a")
        await c.press("2", "a", "3", "a")  # moving between panes starts the moment anew
        assert c.filed() == []
        assert c.app.live.state.notice is not None and "look at it first" in c.app.live.state.notice.text


async def test_keys_decide_nothing_outside_the_proposal_and_the_diff(waiting: Path) -> None:
    async with console(waiting) as c:
        for pane in ("1", "4", "5", "6"):
            await c.press(pane)
            await c.look_at_it()
            await c.press("a", "r")
        assert c.filed() == []


async def test_another_experiment_than_the_waiting_one_cannot_be_decided(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("j", "j", "3")
        await c.look_at_it()
        await c.press("a", "r")
        assert c.filed() == [] and not isinstance(c.app.screen, ReasonScreen)


async def test_reject_asks_why_and_sends_the_reason(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("3")
        await c.look_at_it()
        await c.press("r")
        assert isinstance(c.app.screen, ReasonScreen)
        await c.press(*"too big", "enter")
        assert [(r.kind, r.args) for r in c.filed()] == [
            ("reject", {"number": 9, "revision": 3, "reason": "too big"})
        ]


async def test_escape_leaves_the_proposal_waiting(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("3")
        await c.look_at_it()
        await c.press("r", "x", "escape")
        assert c.filed() == [] and c.app.screen is c.app.live


async def test_leaving_while_a_reason_is_typed_decides_nothing(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("3")
        await c.look_at_it()
        await c.press("r", "n", "o")
        c.app.exit(0)
    assert c.filed() == []


async def test_reading_pins_the_experiment_against_following(waiting: Path) -> None:
    async with console(waiting) as c:
        seen = [c.app.live.view]
        for keys in (("3",), ("escape", "g")):
            await c.press(*keys)
            seen.append(c.app.live.view)
        assert [(v.cursor, v.focus) for v in seen] == [
            (None, Pane.EXPERIMENTS),
            (9, Pane.DIFF),
            (None, Pane.EXPERIMENTS),
        ]


async def test_stopping_a_trial_asks_first_and_a_key_typed_ahead_is_no_answer(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("x", "y")
        assert isinstance(c.app.screen, ConfirmScreen) and c.filed() == []
        await c.press("n")
        assert c.filed() == []
        await c.press("x")
        await c.look_at_it()
        await c.press("y")
        assert [(r.kind, r.args) for r in c.filed()] == [("stop_trial", {"trial": 38})]


async def test_a_request_to_a_dead_engine_waits_visibly_and_can_be_withdrawn(waiting: Path) -> None:
    async with console(waiting, alive=False) as c:
        await c.press("P")
        c.app.live.feed.cycle()
        await c.settle()
        assert [r.state for r in c.filed()] == ["waiting"]
        assert c.app.live.state.notice is not None and "no engine runs" in c.app.live.state.notice.text
        await c.press("u")
        assert [r.state for r in c.filed()] == ["withdrawn"]


async def test_what_was_asked_before_the_engine_started_is_asked_again(waiting: Path) -> None:
    inbox = Inbox(waiting / "inbox.db")
    inbox.ask("accept", "ada", 1.0, number=9, revision=3)
    inbox.put_to_sleep()
    inbox.close()
    async with console(waiting) as c:
        assert [r.state for r in c.app.live.state.asleep] == ["asleep"]
        await c.press("c", "y")
        assert [r.state for r in c.filed()] == ["asleep"]  # y came before the question could be read
        await c.look_at_it()
        await c.press("y")
        assert [r.state for r in c.filed()] == ["waiting"]


async def test_stopping_the_engine_asks_first_then_leaves(waiting: Path) -> None:
    stopped: list[bool] = []
    async with console(waiting, doors=Doors(stop=lambda: stopped.append(True))) as c:
        await c.press("Q", "n")
        assert stopped == []
        await c.press("Q")
        await c.look_at_it()
        await c.press("y")
        assert stopped == [True] and c.app.return_value == 0


async def test_leaving_files_nothing(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("3", "q")
        assert c.app.return_value == 0
    assert c.filed() == []


async def test_help_opens_and_closes_and_keys_meant_for_it_do_nothing_else(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("question_mark")
        opened = type(c.app.screen)
        await c.press("P", "escape")
        assert (opened, type(c.app.screen), c.filed()) == (HelpScreen, LiveScreen, [])


async def test_with_no_store_every_key_is_harmless_and_no_file_is_made(tmp_path: Path) -> None:
    async with console(tmp_path, alive=False) as c:
        for key in (
            "j",
            "k",
            "G",
            "g",
            "2",
            "3",
            "4",
            "5",
            "6",
            "1",
            "enter",
            "a",
            "r",
            "P",
            "x",
            "Q",
            "S",
            "c",
            "u",
            "w",
            "space",
            "p",
            "equals_sign",
            "minus",
            "H",
            "L",
            "v",
            "V",
            "t",
            "left",
            "right",
            "0",
            "+",
            "_",
        ):
            await c.press(key)
        assert c.app.is_running
    assert list(tmp_path.iterdir()) == []


async def test_every_size_can_be_reached_while_it_runs(waiting: Path) -> None:
    async with console(waiting) as c:
        for size in [(200, 60), (80, 24), (40, 10), (1, 1), (120, 40), (60, 16), (300, 90)] * 2:
            await c.pilot.resize_terminal(*size)
            await c.press("tab")
        assert c.app.is_running
