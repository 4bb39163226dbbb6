"""[notify]: a person's own command hears of what matters, gets no secret, and is in nobody's way."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine import events
from engine.clock import RealClock
from engine.config import Config
from engine.config_sections import NotifySection
from engine.errors import ConfigError
from engine.notify import MESSAGE_CHARACTERS, Notices, environment, notice, one_line, run_command
from engine.store import reading, writes
from engine.store.core import Store, StoreThread, Transaction
from engine.types import Author
from engine.types import ExperimentState as S

PATH = {"PATH": os.environ["PATH"]}


class Hasty(RealClock):
    """Real time, but nobody sleeps long."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.01))


# --- what is told ------------------------------------------------------------------------------------


def test_only_what_a_person_would_cross_a_room_for_is_told() -> None:
    told: dict[str, events.Event] = {
        "waiting": events.ExperimentMoved(4, "drafting", "review", "a title"),
        "keep": events.RatchetAdvanced(4, "a", "b"),
        "finished": events.CampaignFinished("limit reached"),
        "paused": events.CampaignPaused("the host is gone", "look at it"),
        "plateau": events.Plateau(20),
        "budget": events.BudgetReached(20 * 10**9, 19 * 10**9, 0),
    }
    for kind, event in told.items():
        found = notice(event)
        assert found is not None and found.kind == kind
    assert set(told) == set(NotifySection().on)
    for event in (
        events.CampaignPaused("paused by ada"),  # she knows
        events.ExperimentMoved(4, "review", "review", "edited"),  # it waited before
        events.Warned("the command of [notify] failed"),
        events.VerdictGiven(4, "t", "discard", "r"),
    ):
        assert notice(event) is None


def test_words_of_a_model_become_one_plain_line() -> None:
    assert one_line("a\x1b[31m\nb\0c\ud800 d") == "a [31m b c d"
    assert len(one_line("x" * 10_000)) == MESSAGE_CHARACTERS


def test_no_secret_is_handed_on() -> None:
    given = {
        "HOME": "/h",
        "ANTHROPIC_API_KEY": "s",
        "GITHUB_TOKEN": "s",
        "AWS_PROFILE": "p",
        "RATCHET_KEY_FD": "5",
    }
    found = environment(given, "keep", "m", "c", "/p")
    assert "s" not in found.values() and not set(given) - {"HOME"} & set(found)
    assert {k: v for k, v in found.items() if k.startswith("RATCHET_")} == {
        "RATCHET_EVENT": "keep", "RATCHET_MESSAGE": "m", "RATCHET_CAMPAIGN": "c", "RATCHET_PROJECT": "/p",
    }  # fmt: skip


def test_an_unknown_kind_is_named_with_its_line() -> None:
    from engine.config import parse

    text = '[metric]\nname = "x"\n[trial]\ncommand = "x"\n[notify]\non = ["waiting", "kept"]\n'
    with pytest.raises(ConfigError, match=r":6: .*kept"):
        parse(text)


# --- the command -------------------------------------------------------------------------------------


async def test_a_command_that_fails_says_how(tmp_path: Path) -> None:
    assert await run_command("exit 0", tmp_path, PATH, 5, RealClock()) == ""
    assert await run_command("echo 'no such\nroom' >&2; exit 3", tmp_path, PATH, 5, RealClock()) == (
        "ended with 3: no such room"
    )
    assert await run_command("kill -9 $$", tmp_path, PATH, 5, RealClock()) == "was ended by signal 9"
    assert "could not be started" in await run_command("true", tmp_path / "gone", PATH, 5, RealClock())


async def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    command = "sleep 60 & echo $! > child; wait"
    told = await run_command(command, tmp_path, PATH, 0.3, RealClock())
    assert told == "was ended after 0.3 s"
    child = int((tmp_path / "child").read_text())
    for _ in range(200):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or re.search(r"\) Z ", state.read_text()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"process {child} outlived its command")


async def test_a_command_that_says_too_much_or_leaves_a_child_behind_holds_nobody_up(tmp_path: Path) -> None:
    loud = "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1"
    assert await run_command(loud, tmp_path, PATH, 20, RealClock()) == "ended with 1: " + "x" * 200
    assert await run_command("sleep 3 & exit 0", tmp_path, PATH, 20, RealClock()) == ""


# --- beside an engine --------------------------------------------------------------------------------


class Campaign:
    def __init__(self, folder: Path, command: str, **more: object) -> None:
        self.store = StoreThread(Store(folder / "store.db", Hasty()))
        self.store.store.take_over("here", "boot", 1)
        self.config = Config(notify=NotifySection.model_validate({"command": command, **more}))
        self.out = folder / "told"
        self.folder = folder

    def told(self) -> list[str]:
        return self.out.read_text().splitlines() if self.out.exists() else []

    async def emit(self, *found: events.Event) -> None:
        def write(tx: Transaction) -> None:
            for event in found:
                tx.emit(1, event)

        await self.store.write(write)

    async def until(self, lines: int) -> None:
        for _ in range(1000):
            if len(self.told()) >= lines:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{lines} lines awaited, told: {self.told()}")


@asynccontextmanager
async def campaign(folder: Path, command: str | None = None, **more: object) -> AsyncIterator[Campaign]:
    told = shlex.quote(str(folder / "told"))
    c = Campaign(folder, command or f'echo "$RATCHET_EVENT: $RATCHET_MESSAGE" >> {told}', **more)
    await c.store.write(writes.create_campaign, "night", "val_loss", "minimize", 1, "a" * 40)
    row = await c.store.read(reading.campaign, "night")
    assert row is not None
    notices = Notices(row, c.store, folder, c.store.store.clock, lambda: c.config)
    work = asyncio.create_task(notices.run())
    await asyncio.sleep(0.03)
    try:
        yield c
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        c.store.close()


async def test_what_happens_is_told_and_what_is_not_wanted_is_not(tmp_path: Path) -> None:
    async with campaign(tmp_path, on=["paused", "finished"]) as c:
        await c.emit(events.Plateau(20), events.CampaignPaused("the disk of `box`\nis full", "free space"))
        await c.until(1)
    assert c.told() == ["paused: paused: the disk of `box` is full (mend: free space)"]


async def test_the_end_of_a_campaign_is_told_although_the_engine_ends_with_it(tmp_path: Path) -> None:
    async with campaign(tmp_path) as c:
        await c.emit(events.CampaignFinished("limit reached: 3 experiments"))
    assert c.told() == ["finished: finished: limit reached: 3 experiments"]


async def test_a_flood_becomes_few_messages(tmp_path: Path) -> None:
    async with campaign(tmp_path) as c:
        await c.emit(*(events.Plateau(n) for n in range(500)))
        await c.until(1)
        await c.emit(*(events.Plateau(n) for n in range(500)))
    assert c.told() == [
        "plateau: a plateau: 499 proposals since the last keep (and 499 more)",
    ] * 2  # fmt: skip


async def test_a_proposal_that_was_decided_meanwhile_calls_nobody(tmp_path: Path) -> None:
    async with campaign(tmp_path) as c:
        experiment = await c.store.write(writes.new_experiment, 1, Author.SEARCH)
        await c.store.write(writes.move, experiment, S.DRAFTING, S.REVIEW)
        await c.until(1)
        await c.store.write(writes.move, experiment, S.REVIEW, S.READY)
        await c.emit(events.ExperimentMoved(1, "drafting", "review", "too late"), events.Plateau(3))
    assert [line.partition(":")[0] for line in c.told()] == ["waiting", "plateau"]
    assert c.told()[0].startswith("waiting: #1 waits for your decision (run it?")


async def test_a_failing_command_is_warned_of_once_and_stops_nothing(tmp_path: Path) -> None:
    async with campaign(tmp_path, "echo oops >&2; exit 7") as c:
        c_warned = "SELECT COUNT(*) FROM event WHERE kind = 'Warned'"
        for _ in range(3):
            await c.emit(events.CampaignPaused("again"))
            for _ in range(500):
                if c.store.store.conn.execute(c_warned).fetchone()[0]:
                    break
                await asyncio.sleep(0.01)
        warned = await c.store.read(reading.events)
    found = [r.event for r in warned if isinstance(r.event, events.Warned)]
    assert [w.message for w in found] == ["the command of [notify] ended with 7: oops"]
    assert "ratchet.toml" in found[0].mend


async def test_words_of_a_proposal_cannot_become_a_command(tmp_path: Path) -> None:
    async with campaign(tmp_path) as c:
        await c.emit(events.CampaignPaused("$(touch owned) `touch owned` ; touch owned"))
    assert not (tmp_path / "owned").exists() and "touch owned" in c.told()[0]
