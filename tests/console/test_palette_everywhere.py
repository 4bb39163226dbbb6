"""The palette and copying on the further screens: their own actions, their own experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.keymap import KEYS
from console.screens.choice import ChoiceScreen
from console.screens.history import HistoryScreen
from console.screens.live import Doors
from tests.console.pilots import Console, console
from tests.seeded import seeded_store


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    seeded_store(tmp_path, 12, awaiting=True)
    return tmp_path


def notice(c: Console) -> str:
    return c.app.live.state.notice.text if c.app.live.state.notice else ""


async def typed(c: Console, text: str) -> None:
    await c.press(*("space" if character == " " else character for character in text))


async def test_every_action_of_the_live_screen_is_in_the_palette_with_its_key(campaign: Path) -> None:
    async with console(campaign) as c:
        found = {entry.id: entry for entry in c.app.live.palette_actions()}
        assert set(found) == {key.id for key in KEYS} - {"palette"}
        assert found["stop_trial"].key == "x" and found["mouse"].key == "%"
        assert found["confirm_asleep"].off == "no request is asleep" and found["restore"].off
        assert found["accept"].off and not found["history"].off


async def test_on_the_history_the_palette_has_its_actions(campaign: Path) -> None:
    async with console(campaign) as c:
        await c.press("h")
        assert isinstance(c.app.screen, HistoryScreen)
        await c.press("colon")
        await typed(c, "other way")
        await c.press("enter")
        assert isinstance(c.app.screen, HistoryScreen) and c.app.screen.look.upwards
        await c.press("colon")
        await typed(c, "7")
        await c.press("enter")
        assert c.app.screen is c.app.live and c.app.live.view.cursor == 7


async def test_what_is_copied_is_what_the_screen_is_about(campaign: Path) -> None:
    taken: list[str] = []

    def door(text: str) -> str:
        taken.append(text)
        return "into a list"

    async with console(campaign, doors=Doors(copy=door)) as c:
        await c.press("h")
        screen = c.app.screen
        assert isinstance(screen, HistoryScreen)
        await c.press("y", "c")
        await c.press("i", "y", "c")
        assert taken == [f"ratchet show {screen.number_in_sight()}"] * 2 and "into a list" in notice(c)


async def test_escape_chooses_nothing(campaign: Path) -> None:
    async with console(campaign) as c:
        for key in ("colon", "y", "Y"):
            await c.press(key)
            assert isinstance(c.app.screen, ChoiceScreen)
            await c.press("escape")
            assert c.app.screen is c.app.live
        assert c.filed() == []


async def test_letters_of_the_copy_list_find_by_name_once_something_is_typed(campaign: Path) -> None:
    async with console(campaign) as c:
        await c.press("Y")
        screen = c.app.screen
        assert isinstance(screen, ChoiceScreen)
        await c.press("t", "i")  # `i` alone would choose at once
        assert c.app.screen is screen and screen.place.query == "ti"


async def test_a_paste_goes_into_what_is_typed(campaign: Path) -> None:
    from textual.events import Paste

    async with console(campaign) as c:
        await c.press("colon")
        screen = c.app.screen
        assert isinstance(screen, ChoiceScreen)
        screen.post_message(Paste("pau\x1b[Ase\nrm -rf"))
        await c.settle()
        assert screen.place.query == "pau[Ase"


async def test_a_new_size_keeps_the_list_in_the_terminal(campaign: Path) -> None:
    async with console(campaign) as c:
        await c.press("colon")
        for size in ((40, 12), (200, 60), (60, 16)):
            await c.pilot.resize_terminal(*size)
            await c.settle()
            region = c.app.screen.query_one("#choices").region
            assert region.x >= 0 and region.right <= size[0] and region.y >= 0 and region.bottom <= size[1]
