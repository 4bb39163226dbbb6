"""What consoles read about decisions agrees with what the engine then does with them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from engine import events
from engine.store import reading, reading_steering
from engine.store.core import Store, Transaction
from engine.store.reading_steering import Standing
from engine.types import NoProposal
from tests.engine.virtual_campaign import Turn, VirtualCampaign, measured
from tests.seeded import seeded_store


def campaign(folder: Path, **settings: object) -> VirtualCampaign:
    given = {
        "script": [Turn(1), Turn(2), Turn(3)],
        "after": NoProposal("exhausted", "enough"),
        "program": measured(dict.fromkeys((1, 2, 3), 6.0)),
    }
    return VirtualCampaign(folder, **(given | settings))  # type: ignore[arg-type]


def forces(c: VirtualCampaign) -> list[int]:
    return [keep.number for keep in reading_steering.in_force(c.conn, c.campaign.line)]


def reversible(c: VirtualCampaign) -> list[tuple[int, str, str]]:
    return [(d.number, d.action, d.actor) for d in reading_steering.reversible(c.conn, c.campaign.id)]


async def test_what_is_told_to_be_reversible_is_taken_back_and_the_rest_is_refused(tmp_path: Path) -> None:
    c = campaign(tmp_path, review="proposals", drafts=1)

    def state_of(number: int) -> str:
        row = reading.experiment(c.conn, c.campaign.id, number)
        return row.state if row is not None else ""

    async def work() -> None:
        await c.engine()
        await c.until(lambda: state_of(1) == "review", "a proposal")
        await c.ask("pause")
        assert reversible(c) == []
        await c.ask("accept", number=1)
        assert reversible(c) == [(1, "accept", "tester")]
        assert (await c.ask("undo", number=1))[0] == "done" and reversible(c) == []
        await c.ask("reject", number=1, reason="no")
        assert reversible(c) == [(1, "reject", "tester")]
        assert (await c.ask("undo", number=1))[0] == "done" and reversible(c) == []
        await c.ask("accept", number=1)
        await c.ask("resume")
        await c.until(lambda: state_of(1) == "measuring", "its first run")
        assert reversible(c) == [] and (await c.ask("undo", number=1))[0] == "refused"

    await c.run(work)


async def test_the_keeps_in_force_follow_every_step_back(tmp_path: Path) -> None:
    c = campaign(tmp_path, drafts=1)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: len(c.kept()) == 2, "two keeps")
        await c.ask("pause")
        assert forces(c) == [1, 2]
        assert (await c.ask("step_back", number=1))[0] == "done"
        assert forces(c) == [1]
        assert (await c.ask("step_back", number=2))[0] == "done", "forward again is a step like any other"
        assert forces(c) == [1, 2]
        assert (await c.ask("step_back", number=0))[0] == "done"
        assert forces(c) == []
        await c.ask("resume")
        await c.until(lambda: len(c.kept()) == 3, "a keep on the baseline")
        assert forces(c) == [3]

    await c.run(work)


def test_a_damaged_chain_of_keeps_does_not_turn_for_ever(tmp_path: Path) -> None:
    seeded_store(tmp_path, 40)
    conn = sqlite3.connect(tmp_path / "store.db")
    whole = reading_steering.in_force(conn, 1)
    assert len(whole) >= 2 and [k.number for k in whole] == [k.number for k in reading.keeps(conn, 1)]
    conn.execute("UPDATE keep SET previous = sha")
    assert len(reading_steering.in_force(conn, 1)) <= len(whole) + 1
    assert reading_steering.in_force(conn, 99) == []
    conn.close()


def test_a_plateau_and_a_reached_limit_hold_until_something_ends_them(tmp_path: Path) -> None:
    seeded_store(tmp_path, 3)
    from engine.clock import RealClock

    store = Store(tmp_path / "store.db", RealClock())
    store.take_over("here", "boot", 1)

    def after(*found: events.Event) -> Standing:
        def write(tx: Transaction) -> None:
            for event in found:
                tx.emit(1, event)

        store.write(write)
        return reading_steering.standing(store.conn, 1)

    assert after() == Standing()
    assert after(events.Plateau(20)) == Standing(plateau=20)
    assert after(events.BudgetReached(20, 19, 0)) == Standing(plateau=20, budget=(20, 19))
    assert after(events.RatchetAdvanced(4, "a", "b")) == Standing(budget=(20, 19))
    assert after(events.ConfigReloaded("other settings")) == Standing()
    store.close()


async def test_consoles_learn_of_settings_that_change_while_the_engine_runs(tmp_path: Path) -> None:
    from engine import config as configuration

    c = campaign(tmp_path, review="proposals", drafts=1)

    async def work() -> None:
        conductor = await c.engine()
        text = c.config_text.replace('unanswered_after = ""', 'unanswered_after = "5m: accept"')
        await c.reload(configuration.parse(text + "[limits]\ndollars = 3.0\n"), conductor)
        limits = c.campaign.limits
        assert (limits["unanswered_after"], limits["review"], limits["dollars"]) == (
            "5m: accept",
            "proposals",
            3.0,
        )

    await c.run(work)
