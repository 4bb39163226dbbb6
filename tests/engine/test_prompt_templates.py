"""prompts/*.md and a project's own: strict variables, errors that tell the mend, hot reload that keeps the last good."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError
from engine.prompt_templates import LARGEST, VARIABLES, PromptSet, Template
from engine.prompt_watching import PromptWatcher

OURS = PromptSet.load()
GOOD = OURS.propose.text + "\nBe bold.\n"


def own(directory: Path, name: str, text: str | bytes) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return directory


def refused(directory: Path) -> str:
    with pytest.raises(ConfigError) as error:
        PromptSet.load(directory)
    assert error.value.mend
    return error.value.message


# --- templates ----------------------------------------------------------------------------------------


def test_our_own_prompts_are_valid_and_use_every_variable_there_is() -> None:
    for template in (OURS.system, OURS.propose, OURS.repair):
        assert not list(template.problems())
        values = {name: f"<{name}>" for name in VARIABLES[template.name]}
        text = template.render(values)
        assert "{{" not in text and all(value in text for value in values.values())
        assert template.source == f"prompts/{template.name}"


def test_our_prompts_ask_for_no_narrated_reasoning_and_name_both_last_tools() -> None:
    text = OURS.system.text.lower()
    assert "`check`" in text and "`submit`" in text and "no shell" in text
    assert not any(
        word in text for word in ("think step by step", "narrate", "show your reasoning", "think aloud")
    )


def test_a_project_replaces_one_prompt_and_keeps_the_others(tmp_path: Path) -> None:
    found = PromptSet.load(own(tmp_path / "p", "propose.md", GOOD))
    assert found.propose.text == GOOD and found.propose.source == str(tmp_path / "p" / "propose.md")
    assert (found.system, found.repair) == (OURS.system, OURS.repair)
    assert PromptSet.load(own(tmp_path / "empty", "notes.txt", "x")) == OURS


def test_an_unknown_variable_is_named_with_file_line_and_the_nearest_name(tmp_path: Path) -> None:
    message = refused(own(tmp_path / "p", "propose.md", GOOD + "\n{{plato}} and\n{{ recnt }}"))
    lines = GOOD.count("\n") + 2
    assert f'p/propose.md:{lines}: unknown variable {{{{plato}}}}; did you mean "plateau"?' in message
    assert f'p/propose.md:{lines + 1}: unknown variable {{{{recnt}}}}; did you mean "recent"?' in message
    assert "known here: number, standing" in message


def test_a_variable_of_another_prompt_is_unknown_here(tmp_path: Path) -> None:
    assert "propose.md" in refused(own(tmp_path / "p", "propose.md", GOOD + "{{evidence}}"))


def test_a_prompt_that_would_hide_what_must_be_told_is_refused(tmp_path: Path) -> None:
    message = refused(own(tmp_path / "p", "propose.md", GOOD.replace("{{notes}}", "").replace("{{kinds}}", "")))
    assert "propose.md: {{notes}} is missing" in message and "kinds" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "{{no name}}", "{{no name}} is no variable; write \\{{"),
        (GOOD + "{{}}", "{{}} is no variable"),
        (GOOD + "\n\n{{open", "{{ without }}"),
        ("", "propose.md: empty"),
        (GOOD.encode() + b"\xff", "not UTF-8 text (byte"),
        (GOOD + "x" * LARGEST, "larger than"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert words in refused(own(tmp_path / "p", "propose.md", text))


def test_a_misspelt_file_name_is_no_silent_default(tmp_path: Path) -> None:
    message = refused(own(tmp_path / "p", "sytem.md", "x"))
    assert 'sytem.md: not the name of a prompt; did you mean "system.md"?' in message
    assert "cannot be read" in refused(tmp_path / "nowhere")


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    own(tmp_path / "p", "propose.md", "{{numbr}}")
    message = refused(own(tmp_path / "p", "repair.md", "{{numbr}}"))
    assert "propose.md:1" in message and "repair.md:1" in message and "{{diff}} is missing" in message


def test_values_are_filled_in_once_and_two_braces_can_be_written() -> None:
    template = Template("propose.md", "p.md", "\\{{number}} {{ number }} {{notes}}")
    assert template.render({"number": "7", "notes": "{{number}}"}) == "{{number}} 7 {{number}}"
    with pytest.raises(ConfigError, match=r"p\.md:2: unknown variable \{\{nmber\}\}; did you mean \"number\""):
        Template("propose.md", "p.md", "\n{{nmber}}").render({"number": "7"})


# --- hot reload ---------------------------------------------------------------------------------------


class Notices:
    """An injected source of changes; remembers what it was asked to watch."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.watched: list[list[Path]] = []

    async def __call__(self, directories: Sequence[Path]) -> AsyncGenerator[Any, None]:
        self.watched.append(list(directories))
        while True:
            item = await self.queue.get()
            if item is not None:
                raise item
            yield {"changed"}


async def test_a_valid_edit_is_taken_up_and_an_invalid_one_leaves_the_last_good_in_force(tmp_path: Path) -> None:
    place, notices = own(tmp_path / "p", "propose.md", GOOD), Notices()
    first = PromptSet.load(place)
    watcher = PromptWatcher(place, first, lambda directories: notices(directories))
    updates = watcher.updates()
    async with asyncio.timeout(20):
        own(place, "propose.md", GOOD + "Bolder.")  # between the loading and the watch
        news = await anext(updates)
        assert isinstance(news, PromptSet) and news.propose.text.endswith("Bolder.") and watcher.current is news
        own(place, "propose.md", "{{numbr}}")
        for _ in range(3):
            notices.queue.put_nowait(None)  # told once
        error = await anext(updates)
        assert isinstance(error, ConfigError) and "numbr" in error.message and watcher.current is news
        waiting = asyncio.ensure_future(anext(updates))
        while notices.queue.qsize():
            await asyncio.sleep(0)
        own(place, "propose.md", GOOD + "Bolder.")
        notices.queue.put_nowait(None)
        assert await waiting == news  # as before, and said, for an error was told
        await updates.aclose()


async def test_a_directory_made_anew_is_watched_anew(tmp_path: Path) -> None:
    place, notices = own(tmp_path / "p", "propose.md", GOOD), Notices()
    watcher = PromptWatcher(place, PromptSet.load(place), lambda directories: notices(directories))
    updates = watcher.updates()
    async with asyncio.timeout(20):
        waiting = asyncio.ensure_future(anext(updates))
        while not notices.watched:
            await asyncio.sleep(0)
        shutil.rmtree(place)
        notices.queue.put_nowait(None)
        assert isinstance(await waiting, ConfigError)
        waiting = asyncio.ensure_future(anext(updates))
        while notices.watched[-1] != [tmp_path]:
            await asyncio.sleep(0)
        own(place, "propose.md", GOOD + "Again.")
        notices.queue.put_nowait(None)
        back = await waiting
        assert isinstance(back, PromptSet) and back.propose.text.endswith("Again.")
        waiting = asyncio.ensure_future(anext(updates))
        while notices.watched[-1] != [tmp_path, place]:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})


async def test_without_a_directory_there_is_nothing_to_follow_and_a_failed_watch_is_told(tmp_path: Path) -> None:
    assert [news async for news in PromptWatcher(None, OURS).updates()] == []
    gone = PromptWatcher(tmp_path / "no" / "where", OURS)
    assert [isinstance(news, ConfigError) async for news in gone.updates()] == [True]
    place, notices = own(tmp_path / "p", "propose.md", GOOD), Notices()
    notices.queue.put_nowait(OSError(28, "inotify watches are used up"))
    watcher = PromptWatcher(place, PromptSet.load(place), lambda directories: notices(directories))
    async with asyncio.timeout(20):
        (told,) = [news async for news in watcher.updates()]
    assert isinstance(told, ConfigError) and "used up" in told.message


async def test_the_operating_systems_notices_arrive_without_polling(tmp_path: Path) -> None:
    place = own(tmp_path / "p", "propose.md", GOOD)
    watcher = PromptWatcher(place, PromptSet.load(place))
    updates = watcher.updates()
    async with asyncio.timeout(30):
        waiting = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0.1)  # the watch stands; a change before it would be seen too
        own(place, "propose.md", "{{")
        assert isinstance(await waiting, ConfigError)
        # as editors write: a new file, renamed over the old one
        own(place, "propose.md.new", GOOD + "Bolder.").joinpath("propose.md.new").replace(place / "propose.md")
        news = await anext(updates)
        assert isinstance(news, PromptSet) and news.propose.text.endswith("Bolder.")
        waiting = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        await updates.aclose()
