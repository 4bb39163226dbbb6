"""The ledger: under one cap, whoever asks at once, whoever is killed; charged once and never too little.

TRUST.md row 17.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine import events
from engine.clock import RealClock, VirtualClock
from engine.config import PriceSection
from engine.errors import Fenced, OverBudget, RatchetError, StorageFull, UnknownPrice
from engine.ledger import KILL_SECONDS, Ledger, Room, attempt_seconds
from engine.prices import NANO, Prices
from engine.store import attempting, reading, reading_money, spending, writes
from engine.store.core import Store, StoreThread
from engine.store.reading_money import Balance
from engine.types import (
    Allocation,
    Author,
    ExperimentState,
    FileChange,
    Proposal,
    Purpose,
    Purse,
    TrialOutcome,
    Usage,
    Verdict,
)

OPUS = "claude-opus-5-5"
PRICES = Prices.load({"free": PriceSection(input=0.0, output=0.0), "coin": PriceSection(input=1.0, output=0.0)})
# A coin's token costs 1000 nano-dollars and its output nothing: amounts below count such tokens.
COIN = 1000
BOX = Allocation("box", "gpu0", nano_per_second=1_000_000)


@dataclass
class Books:
    """A store with one campaign, its experiments and a ledger whose cap a test may change."""

    thread: StoreThread
    campaign: int
    experiments: list[int]
    trials: list[int]
    ledger: Ledger
    cap: int | None

    @property
    def store(self) -> Store:
        return self.thread.store

    def rows(self) -> list[tuple[Any, ...]]:
        sql = "SELECT id, state, reserved, spent, what, detail FROM spend ORDER BY id"
        return self.store.conn.execute(sql).fetchall()

    def states(self) -> list[tuple[str, int]]:
        return [(state, spent) for _, state, _, spent, *_ in self.rows()]

    def told(self, kind: type[Any]) -> list[Any]:
        return [r.event for r in reading.events(self.store.conn) if isinstance(r.event, kind)]

    async def coins(self, tokens: int) -> int:
        return await self.ledger.reserve(self.experiments[0], "coin", tokens, 0)

    async def balance(self) -> tuple[int, int]:
        found = await self.ledger.balance()
        return found.spent // COIN, found.reserved // COIN


def fill(store: Store, experiments: int = 3, trials: int = 3) -> tuple[int, list[int], list[int]]:
    campaign = store.write(writes.create_campaign, "c", "loss", "minimize", 1, "a" * 40)
    made = [store.write(writes.new_experiment, campaign, Author.CLAUDE) for _ in range(experiments)]
    row = reading.campaign(store.conn)
    assert row is not None
    protocol = store.write(writes.open_protocol, campaign, "k", "{}", "sha", "", "first")
    wanted = [(row.baseline, Purpose.CALIBRATE, seed) for seed in range(trials)]
    return campaign, made, store.write(writes.queue_trials, campaign, protocol, wanted)


def open_books(path: Path, clock: Any = None, cap: int | None = None) -> Books:
    store = Store(path, clock or VirtualClock())
    store.take_over("host", "boot", os.getpid())
    campaign, experiments, trials = fill(store)
    thread = StoreThread(store, inline=True)
    books = Books(thread, campaign, experiments, trials, None, cap)  # type: ignore[arg-type]
    books.ledger = Ledger(thread, campaign, PRICES, lambda: books.cap)
    return books


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = open_books(tmp_path / "store.db")
    yield made
    made.thread.close()


def start(books: Books, trial: int, seconds: float, allocation: Allocation = BOX) -> int:
    return books.store.write(
        attempting.new_attempt,
        trial,
        allocation,
        "sweep",
        f"trials/{trial}/attempt-{{attempt}}",
        seconds,
        books.cap,
    )


def end(books: Books, trial: int, attempt: int, seconds: float, outcome: TrialOutcome = TrialOutcome.OK) -> None:
    books.store.write(
        attempting.trial_ended,
        books.campaign,
        trial,
        attempt,
        outcome,
        1.0,
        "",
        [],
        "finished",
        [],
        seconds,
        0,
        "",
    )


# --- requests ---------------------------------------------------------------------------------------


async def test_the_worst_case_is_set_aside_and_only_what_was_used_is_charged(books: Books) -> None:
    purse: Purse = books.ledger
    books.cap = 20 * NANO
    row = await purse.reserve(books.experiments[0], OPUS, 14_000, 4000, ttl="1h")
    assert await books.ledger.balance() == Balance(0, 14_000 * 8000 + 4000 * 20_000)
    assert await books.ledger.left() == 20 * NANO - 192_000_000
    await purse.settle(row, Usage(OPUS, 2000, 1500, cache_read_tokens=12_000))
    assert await books.ledger.balance() == Balance(2000 * 4000 + 1500 * 20_000 + 12_000 * 200, 0)


async def test_a_cut_off_stream_is_charged_in_full_and_a_refused_request_not_at_all(books: Books) -> None:
    cut, refused = await books.coins(10), await books.coins(20)
    await books.ledger.forfeit(cut, "no message_stop")
    await books.ledger.release(refused, "429")
    assert await books.balance() == (10, 0)
    assert [(r[1], r[5]) for r in books.rows()] == [("forfeited", "no message_stop"), ("released", "429")]


async def test_the_last_nano_dollar_may_be_set_aside_and_not_one_more(books: Books) -> None:
    books.cap = 100 * COIN
    first = await books.coins(60)
    with pytest.raises(OverBudget):
        await books.coins(41)
    await books.coins(40)
    with pytest.raises(OverBudget):
        await books.coins(1)
    assert len(books.rows()) == 2, "a refusal books nothing"
    await books.ledger.settle(first, Usage("coin", 10))
    await books.coins(50)
    assert await books.balance() == (10, 90)
    assert await books.ledger.left() == 0


async def test_a_refusal_says_what_was_asked_spent_set_aside_and_how_to_raise_the_limit(books: Books) -> None:
    books.cap = 20 * NANO
    await books.ledger.settle(await books.coins(5_000_000), Usage("coin", 5_000_000))
    await books.coins(14_900_000)
    with pytest.raises(OverBudget) as caught:
        await books.ledger.reserve(books.experiments[0], OPUS, 14_000, 4000, ttl="1h")
    for figure in (OPUS, "$0.192", "$5.00 spent", "$14.90 set aside", "$20.00"):
        assert figure in caught.value.message
    assert "dollars in [limits]" in caught.value.mend and "--dollars" in caught.value.mend


async def test_with_a_limit_of_nothing_only_what_is_free_may_be_used(books: Books) -> None:
    books.cap = 0
    with pytest.raises(OverBudget, match=r"limit is \$0\.00"):
        await books.coins(1)
    row = await books.ledger.reserve(books.experiments[0], "free", 10**6, 10**5, ttl="1h")
    await books.ledger.settle(row, Usage("free", 10**6, 10**5))
    start(books, books.trials[0], 600, Allocation("here", "cpu0"))
    assert await books.ledger.balance() == Balance(0, 0)
    with pytest.raises(OverBudget):
        start(books, books.trials[1], 600)


async def test_without_a_limit_all_fits_that_can_be_counted(books: Books) -> None:
    for _ in range(50):
        await books.ledger.reserve(books.experiments[0], OPUS, 10**6, 128_000)
    assert await books.ledger.left() is None
    assert await books.ledger.room_for(10**15)
    with pytest.raises(OverBudget):
        await books.coins(1 << 60)
    assert (await books.ledger.balance()).reserved == 50 * (10**6 * 4000 + 128_000 * 20_000)


async def test_an_unknown_price_refuses_before_anything_is_booked(books: Books) -> None:
    with pytest.raises(UnknownPrice, match="nobody knows"):
        await books.ledger.reserve(books.experiments[0], OPUS, 10, 10, fallbacks=("gpt-neo",))
    assert books.rows() == []


async def test_a_reservation_is_closed_once_and_whoever_tries_again_is_told(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "ratchet.ledger")
    ends = {
        "settled": lambda row: books.ledger.settle(row, Usage("coin", 3)),
        "forfeited": lambda row: books.ledger.forfeit(row, "cut"),
        "released": lambda row: books.ledger.release(row, "refused"),
    }
    told = 0
    for first in ends:
        row = await books.coins(7)
        await ends[first](row)
        after = books.rows()[-1]
        assert after[1] == first and not caplog.records[told:]
        for again in ends:
            await ends[again](row)
            told += 1
            assert books.rows()[-1] == after, f"{again} after {first}"
            assert f"reservation {row} was closed before" in caplog.records[-1].getMessage()
    assert told == len(caplog.records) == 9
    assert await books.balance() == (3 + 7 + 0, 0)
    with pytest.raises(RatchetError, match="no reservation 999"):
        await books.ledger.forfeit(999, "")


async def test_a_fallback_is_charged_at_its_own_price_and_under_its_own_name(books: Books) -> None:
    row = await books.ledger.reserve(books.experiments[0], "coin", 1000, 1000, fallbacks=(OPUS,))
    assert books.rows()[0][2] == PRICES.worst(OPUS, 1000, 1000)
    await books.ledger.settle(row, Usage("claude-opus-5-5-20261101", 10, 10))
    assert books.rows()[0][3:5] == (10 * 4000 + 10 * 20_000, OPUS)


async def test_a_model_without_a_price_that_answered_is_charged_the_worst_case_and_named_once(
    books: Books,
) -> None:
    for _ in range(3):
        await books.ledger.settle(await books.coins(9), Usage("some/other-model", 1))
    assert await books.balance() == (27, 0)
    (warned,) = books.told(events.Warned)
    assert '[prices."some/other-model"]' in warned.mend


@pytest.mark.parametrize(
    "usage",
    [Usage("coin", -5), Usage("coin", 1, -1), Usage("coin", 10**10), Usage("coin", "7"), Usage("coin", None),  # type: ignore[arg-type]
     Usage("coin", 1, cache_read_tokens=math.nan), Usage("coin", 1, cache_write_1h_tokens=2**80)],  # type: ignore[arg-type]
)  # fmt: skip
async def test_usage_that_cannot_be_is_charged_the_worst_case(books: Books, usage: Usage) -> None:
    await books.ledger.settle(await books.coins(9), usage)
    assert await books.balance() == (9, 0)
    assert books.rows()[0][1] == "forfeited" and "cannot be" in books.rows()[0][5]


async def test_what_cost_more_than_was_set_aside_is_booked_in_full_and_ends_the_spending(books: Books) -> None:
    books.cap = 10 * COIN
    await books.ledger.settle(await books.coins(10), Usage("coin", 25))
    assert await books.balance() == (25, 0)
    assert "cost $0.000025, and only $0.00001" in books.told(events.Warned)[0].message
    assert await books.ledger.left() == 0
    with pytest.raises(OverBudget):
        await books.coins(1)
    await books.ledger.reserve(books.experiments[0], "free", 1, 1)


async def test_a_cap_that_changes_counts_from_the_next_request_on(books: Books) -> None:
    books.cap = 10 * COIN
    row = await books.coins(10)
    books.cap = 5 * COIN
    await books.ledger.settle(row, Usage("coin", 6))
    with pytest.raises(OverBudget):
        await books.coins(1)
    books.cap = None
    await books.coins(10**6)


async def test_drafting_waits_while_money_is_set_aside_and_ends_when_it_is_spent(books: Books) -> None:
    books.cap = 100 * COIN
    assert await books.ledger.room() is Room.FREE
    row = await books.coins(80)
    with pytest.raises(OverBudget):
        await books.coins(50)
    assert await books.ledger.room() is Room.WAITS
    assert books.told(events.BudgetReached) == [], "it may yet fit"
    await books.ledger.settle(row, Usage("coin", 20))
    assert await books.ledger.room() is Room.FREE
    await books.ledger.settle(await books.coins(70), Usage("coin", 70))
    for _ in range(3):
        with pytest.raises(OverBudget):
            await books.coins(50)
    assert await books.ledger.room() is Room.REACHED
    assert books.told(events.BudgetReached) == [events.BudgetReached(100 * COIN, 90 * COIN, 0)], "told once"
    books.cap = 200 * COIN
    assert await books.ledger.room() is Room.FREE
    await books.ledger.settle(await books.coins(110), Usage("coin", 110))
    with pytest.raises(OverBudget):
        await books.coins(1)
    assert len(books.told(events.BudgetReached)) == 2, "once a cap"


async def test_a_trial_too_dear_for_what_is_left_does_not_end_the_drafting(books: Books) -> None:
    books.cap = 100 * COIN
    await books.ledger.settle(await books.coins(40), Usage("coin", 40))
    await books.ledger.refused(70 * COIN, "device")
    assert await books.ledger.room("device") is Room.REACHED
    assert await books.ledger.room() is Room.FREE
    await books.coins(60)
    assert await books.ledger.room("device") is Room.REACHED, "and drafting does not hide it"


# --- cancelled, fenced, killed ----------------------------------------------------------------------


async def test_a_task_cancelled_while_it_reserves_leaves_nothing_set_aside(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", RealClock())
    store.take_over("host", "boot", os.getpid())
    campaign, experiments, _ = fill(store)
    thread = StoreThread(store)
    ledger = Ledger(thread, campaign, PRICES, lambda: 10**6 * COIN)
    kept = 0
    for turns in range(40):
        task = asyncio.ensure_future(ledger.reserve(experiments[0], "coin", 1, 0))
        for _ in range(turns % 20):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await ledger.release(await task, "")
            kept += 1
        except asyncio.CancelledError:
            pass
    assert await ledger.balance() == Balance(0, 0)
    states = Counter(r[0] for r in store.conn.execute("SELECT state FROM spend"))
    assert set(states) <= {"released"}
    thread.close()
    print(f"40 cancelled, {kept} too late, {states.total()} booked, 0 left open")


async def test_a_task_cancelled_while_the_disk_is_full_ends_at_once(books: Books) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise StorageFull("no space")

    clock = books.store.clock
    assert isinstance(clock, VirtualClock)
    books.store.write = full  # type: ignore[assignment, method-assign]

    async def cancelled() -> None:
        task = asyncio.ensure_future(books.coins(5))
        await clock.sleep(10)
        assert not task.done(), "it waits for space"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await clock.run(cancelled())
    assert books.rows() == []


async def test_an_engine_that_was_taken_over_can_neither_reserve_nor_settle(books: Books, tmp_path: Path) -> None:
    row = await books.coins(5)
    newer = Store(tmp_path / "store.db", RealClock())
    newer.take_over("host", "boot", 2)
    for work in (books.coins(1), books.ledger.settle(row, Usage("coin", 1)), books.ledger.forfeit(row, ""),
                 books.ledger.release(row, ""), books.ledger.recover()):  # fmt: skip
        with pytest.raises(Fenced):
            await work
    with pytest.raises(Fenced):
        start(books, books.trials[0], 1)
    assert books.states() == [("reserved", 0)]
    newer.close()


async def test_requests_of_a_dead_engine_are_forfeited_and_trials_keep_their_device(books: Books) -> None:
    settled, open_1, open_2 = await books.coins(1), await books.coins(20), await books.coins(30)
    await books.ledger.settle(settled, Usage("coin", 1))
    attempt = start(books, books.trials[0], 10)
    assert await books.ledger.recover() == 0, "this engine's own requests live"
    books.store.take_over("host", "boot", 2)
    assert await books.ledger.recover() == 50 * COIN
    assert await books.ledger.recover() == 0
    rows = {r[0]: (r[1], r[3]) for r in books.rows()}
    assert rows[open_1] == ("forfeited", 20 * COIN) and rows[open_2] == ("forfeited", 30 * COIN)
    assert await books.ledger.balance() == Balance(51 * COIN, 10 * BOX.nano_per_second)
    (warned,) = books.told(events.Warned)
    assert "2 requests" in warned.message and "$0.00005" in warned.message
    end(books, books.trials[0], attempt, 4.25)
    assert await books.ledger.balance() == Balance(51 * COIN + 4_250_000, 0)


async def test_setting_the_wall_clock_changes_no_charge(tmp_path: Path) -> None:
    class Jumping(VirtualClock):
        at = iter([1.9e9, -5.0, 4e9, 0.0, 1e12] * 100)

        def now(self) -> float:
            return next(self.at)

    totals = []
    for name, clock in (("steady", VirtualClock()), ("jumping", Jumping())):
        books = open_books(tmp_path / f"{name}.db", clock, cap=10 * NANO)
        await books.ledger.settle(await books.coins(9), Usage("coin", 4))
        end(books, books.trials[0], start(books, books.trials[0], 600), 2.5)
        lost = start(books, books.trials[1], 3)
        books.store.take_over("host", "boot", 2)
        await books.ledger.recover()
        books.store.write(attempting.attempt_lost, books.campaign, books.trials[1], lost, "gone", retry=True)
        await books.coins(9)
        totals.append((books.states(), await books.ledger.balance()))
        books.thread.close()
    assert totals[0] == totals[1]
    assert totals[0][1] == Balance(4 * COIN + 5_500_000, 9 * COIN)


# --- devices ----------------------------------------------------------------------------------------


async def test_a_trial_sets_its_longest_time_aside_and_is_charged_the_time_it_took(books: Books) -> None:
    books.cap = 10 * NANO
    seconds = attempt_seconds([600, 600])
    assert seconds == 1200 + 2 * KILL_SECONDS
    attempt = start(books, books.trials[0], seconds)
    assert (await books.ledger.balance()).reserved == seconds * 1_000_000
    end(books, books.trials[0], attempt, 100.0, TrialOutcome.CRASH)
    end(books, books.trials[0], attempt, 100.0, TrialOutcome.CRASH)  # whoever restarts calls again
    assert await books.ledger.balance() == Balance(100 * 1_000_000, 0)
    (share,) = reading_money.money(books.store.conn, books.campaign).shares
    assert (share.kind, share.what, share.count) == ("device", "box", 1)


async def test_each_attempt_at_a_trial_pays_and_one_that_was_lost_pays_its_longest_time(books: Books) -> None:
    trial = books.trials[0]
    lost = start(books, trial, 50)
    assert start(books, trial, 50) == lost, "an open attempt is not booked twice"
    books.store.write(attempting.attempt_lost, books.campaign, trial, lost, "the machine restarted", retry=True)
    busy = start(books, trial, 50)
    books.store.write(attempting.attempt_withdrawn, trial, busy, "the device is busy", 0.0)
    stopped = start(books, trial, 50)
    books.store.write(attempting.attempt_withdrawn, trial, stopped, "the engine stopped", 12.0)
    silent = start(books, trial, 50)
    books.store.write(attempting.attempt_withdrawn, trial, silent, "the disk was full")
    assert await books.ledger.balance() == Balance((50 + 0 + 12 + 50) * 1_000_000, 0)
    end(books, trial, start(books, trial, 50), 20.005)
    assert await books.ledger.balance() == Balance(112_000_000 + 20_005_000, 0)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -1.0, 1e300])
async def test_a_time_that_cannot_be_is_charged_as_the_longest(books: Books, seconds: float) -> None:
    trial = books.trials[0]
    books.store.write(attempting.attempt_withdrawn, trial, start(books, trial, 50), "stopped", seconds)
    assert await books.ledger.balance() == Balance(50_000_000, 0)


async def test_models_and_devices_share_one_cap_and_a_running_trial_is_never_touched(books: Books) -> None:
    books.cap = 100_000_000
    running = start(books, books.trials[0], 60)
    row = await books.ledger.reserve(books.experiments[0], "coin", 30_000, 0)
    assert not await books.ledger.room_for(20_000_000)
    with pytest.raises(OverBudget, match="a run on box may cost up to"):
        start(books, books.trials[1], 20)
    assert reading.attempts(books.store.conn, books.trials[1]) == []
    waiting = reading.trial(books.store.conn, books.trials[1])
    assert waiting is not None and waiting.state == "queued"
    await books.ledger.settle(row, Usage("coin", 30_000))
    books.cap = 0  # the limit is taken away under it
    assert reading.attempts(books.store.conn, books.trials[0])[0].state == "staged"
    end(books, books.trials[0], running, 60.0)
    assert await books.ledger.balance() == Balance(90_000_000, 0)


async def test_a_device_that_costs_nothing_is_not_booked(books: Books) -> None:
    end(books, books.trials[0], start(books, books.trials[0], 50, Allocation("here", "cpu0")), 30.0)
    assert books.rows() == []


# --- what people are shown --------------------------------------------------------------------------


async def test_the_summary_tells_where_the_money_went(books: Books, tmp_path: Path) -> None:
    assert reading_money.money(books.store.conn, books.campaign) == reading_money.Money(
        (), reading_money.Tokens(), 0, 0
    )
    one, two, three = books.experiments
    await books.ledger.settle(
        await books.ledger.reserve(one, OPUS, 20_000, 4000, ttl="1h"),
        Usage(OPUS, 1000, 100, cache_write_1h_tokens=9000),
    )
    await books.ledger.settle(
        await books.ledger.reserve(one, OPUS, 20_000, 4000, ttl="1h"),
        Usage(OPUS, 1000, 200, cache_read_tokens=9000),
    )
    await books.ledger.forfeit(
        await books.ledger.reserve(two, "coin", 500, 0), "cut"
    )  # a draft that came to nothing
    await books.ledger.release(await books.ledger.reserve(three, "coin", 500, 0), "refused")
    await books.ledger.reserve(three, "coin", 700, 0)
    campaign = reading.campaign(books.store.conn)
    assert campaign is not None
    proposal = Proposal("title", "why", (FileChange("a.py", b""),), Author.CLAUDE)
    books.store.write(
        writes.proposal_stored, one, campaign.baseline, proposal, "b" * 40, "", 1, 1, ExperimentState.READY
    )
    own = reading.experiment(books.store.conn, books.campaign, 1)
    assert own is not None and own.candidate is not None
    (trial,) = books.store.write(
        writes.queue_trials, books.campaign, campaign.protocol, [(own.candidate, Purpose.SCREEN, 7)],
        experiment=one, source=ExperimentState.READY,
    )  # fmt: skip
    end(books, trial, start(books, trial, 100), 30.0)
    books.store.write(writes.move, one, ExperimentState.MEASURING, ExperimentState.JUDGING)
    books.store.write(writes.ruled, one, ExperimentState.JUDGING, ExperimentState.MERGING, Verdict.KEEP, "better")
    books.store.write(writes.merged, one, "a" * 40, "c" * 40, "", ExperimentState.MERGING)

    reader = sqlite3.connect(f"file:{tmp_path / 'store.db'}?mode=ro", uri=True)
    all_of_it = reading_money.money(reader, books.campaign)
    model = (1000 * 4 + 100 * 20 + 9000 * 8 + 1000 * 4 + 200 * 20) * 1000 + 9000 * 200
    assert {(s.kind, s.what): (s.count, s.spent, s.reserved) for s in all_of_it.shares} == {
        ("model", OPUS): (2, model, 0),
        ("model", "coin"): (2, 500 * COIN, 700 * COIN),
        ("device", "box"): (1, 30_000_000, 0),
    }
    assert (all_of_it.spent, all_of_it.reserved) == (model + 500 * COIN + 30_000_000, 700 * COIN)
    assert all_of_it.of("model") == Balance(model + 500 * COIN, 700 * COIN)
    assert (all_of_it.per_proposal, all_of_it.per_keep) == (model + 500 * COIN, all_of_it.spent)
    assert all_of_it.tokens == reading_money.Tokens(2000, 300, 9000, 0, 9000)
    assert all_of_it.tokens.cached == 0.45
    assert reading_money.balance(reader, books.campaign) == Balance(all_of_it.spent, all_of_it.reserved)
    mine = reading_money.money_of(reader, one)
    assert (mine.spent, mine.reserved, mine.proposals, mine.keeps) == (model + 30_000_000, 0, 1, 1)
    reader.close()


def test_the_reading_side_needs_nothing_but_the_standard_library() -> None:
    heavy = "{'sqlite_utils', 'pydantic', 'anthropic', 'textual', 'asyncio', 'numpy'}"
    code = f"import sys; from engine.store import reading_money; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


# --- many at once, and killed -----------------------------------------------------------------------

# A witness inside the database: whatever is committed has passed it, and it shares no code with the ledger.
WITNESS = """
CREATE TABLE high_water (mark INTEGER NOT NULL, changes INTEGER NOT NULL);
INSERT INTO high_water VALUES (0, 0);
CREATE TRIGGER booked AFTER INSERT ON spend BEGIN UPDATE high_water SET changes = changes + 1, mark = MAX(mark,
  (SELECT SUM(CASE state WHEN 'reserved' THEN reserved ELSE spent END) FROM spend)); END;
CREATE TRIGGER closed AFTER UPDATE ON spend BEGIN UPDATE high_water SET changes = changes + 1, mark = MAX(mark,
  (SELECT SUM(CASE state WHEN 'reserved' THEN reserved ELSE spent END) FROM spend)); END;
"""

ENGINE = """
import asyncio, json, os, random, sys
from pathlib import Path
from engine.clock import RealClock
from engine.errors import OverBudget
from engine.ledger import Ledger
from engine.prices import Prices
from engine.store import attempting, reading, writes
from engine.store.core import Store, StoreThread
from engine.types import Allocation, Usage

folder, seed, cap = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
clock = RealClock()
MODELS = ("claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-5")

def acknowledged(*words):
    os.write(journal, (json.dumps(words) + "\\n").encode())

async def draft(ledger, experiment):
    while True:
        model, size, output = chance.choice(MODELS), chance.randrange(1, 200_000), chance.randrange(1, 16_000)
        worst = ledger.prices.worst(model, size, output, "1h")
        try:
            row = await ledger.reserve(experiment, model, size, output, ttl="1h")
        except OverBudget:
            acknowledged("refused", 0, worst)
            await clock.sleep(chance.random() * 0.02)
            continue
        acknowledged("reserved", row, worst)
        await clock.sleep(chance.random() * 0.02)
        end = chance.random()
        if end < 0.45:
            cached = chance.randrange(size)
            usage = Usage(model, size - cached, chance.randrange(output) // 50, cached)
            await ledger.settle(row, usage)
            acknowledged("settled", row, ledger.prices.cost(usage))
        elif end < 0.5:
            await ledger.forfeit(row, "cut")
            acknowledged("forfeited", row, worst)
        else:
            await ledger.release(row, "refused")
            acknowledged("released", row, 0)

async def run(thread, ledger, trial):
    box = Allocation("box", "gpu0", nano_per_second=1_000_000)
    while True:
        try:
            attempt = await thread.write(
                attempting.new_attempt, trial, box, "", f"t/{trial}/{{attempt}}", chance.random() * 900, cap)
        except OverBudget:
            await clock.sleep(chance.random() * 0.02)
            continue
        await clock.sleep(chance.random() * 0.05)
        if chance.random() < 0.1:
            await thread.write(attempting.attempt_lost, 1, trial, attempt, "lost", retry=True)
        else:
            await thread.write(attempting.attempt_withdrawn, trial, attempt, "stopped", chance.random() * 5)

async def main():
    store = Store(folder / "store.db", clock)
    store.take_over("host", "boot", os.getpid())
    thread = StoreThread(store)
    ledger = Ledger(thread, 1, Prices.load(), lambda: cap)
    charged = await ledger.recover()
    trials = reading.trials(store.conn, 1)
    acknowledged("recovered", 0, charged)
    tasks = [draft(ledger, 1 + n % 3) for n in range(44)] + [run(thread, ledger, t.id) for t in trials]
    assert len(tasks) == 50
    await asyncio.gather(*tasks)

asyncio.run(main())
"""


def prepare(path: Path) -> None:
    store = Store(path, RealClock())
    store.take_over("host", "boot", os.getpid())
    fill(store, trials=6)
    store.conn.executescript(WITNESS)
    store.close()


class Witness:
    """An independent reader: its own connection, its own arithmetic, at every commit that it sees."""

    def __init__(self, path: Path, cap: int) -> None:
        self.conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        self.path, self.cap, self.seen, self.highest, self.version = path, cap, 0, 0, -1

    def look(self) -> None:
        version = self.conn.execute("PRAGMA data_version").fetchone()[0]
        if version == self.version:
            return
        self.version = version
        total = self.total()
        assert total <= self.cap, f"{total} > {self.cap}"
        self.seen, self.highest = self.seen + 1, max(self.highest, total)

    def total(self) -> int:
        rows = self.conn.execute("SELECT state, reserved, spent FROM spend").fetchall()
        return sum(reserved if state == "reserved" else spent for state, reserved, spent in rows)

    def forget(self) -> None:
        """Another cap: what stood under the last one is no measure of it (releases make room again)."""
        writing = sqlite3.connect(self.path, timeout=10)
        with writing:
            writing.execute("UPDATE high_water SET mark = 0")
        writing.close()
        self.highest = 0

    def mark(self) -> tuple[int, int]:
        mark, changes = self.conn.execute("SELECT mark, changes FROM high_water").fetchone()
        return int(mark), int(changes)


def killed_engine(folder: Path, chance: random.Random, cap: int, witness: Witness, after: str) -> None:
    """One engine over the books from its start to a SIGKILL at a random moment after its first ``after``."""
    journal = folder / "journal"
    journal.touch()
    before = journal.stat().st_size
    process = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(folder), str(chance.randrange(1 << 30)), str(cap)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        begun, deadline, until = False, time.monotonic() + 60, 0.0
        while not begun or time.monotonic() < until:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            witness.look()
            if not begun and after in journal.read_text()[before:]:
                begun, until = True, time.monotonic() + chance.uniform(0.0, 0.5)
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    witness.look()


@pytest.mark.slow
async def test_fifty_at_once_and_killed_at_random_never_pass_the_cap(tmp_path: Path) -> None:
    seed = int(os.environ.get("RATCHET_LEDGER_SEED", random.randrange(1 << 30)))
    kills = int(os.environ.get("RATCHET_LEDGER_KILLS", "8"))
    print(f"seed {seed}")
    chance, cap, path = random.Random(seed), 0, tmp_path / "store.db"
    prepare(path)
    witness = Witness(path, cap)
    for _ in range(kills):
        # Each engine may spend ten dollars more than is booked, and its fifty want about thirty at a time.
        cap = witness.cap = witness.total() + 10 * NANO
        witness.forget()
        killed_engine(tmp_path, chance, cap, witness, chance.choice(["recovered", "reserved", "refused"]))
        assert witness.mark()[0] <= cap
    # The check must have something to see: the cap stands in the way of one engine at least.
    killed_engine(tmp_path, chance, cap, witness, "refused")

    store = Store(path, RealClock())
    store.take_over("host", "boot", os.getpid())
    ledger = Ledger(StoreThread(store, inline=True), 1, Prices.load(), lambda: cap)
    await ledger.recover()
    witness.look()
    rows = {r[0]: r[1:] for r in store.conn.execute("SELECT id, state, reserved, spent, kind FROM spend")}
    journal = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    done = Counter(kind for kind, *_ in journal)
    lost = 0
    for kind, row, amount in journal:
        if kind == "reserved":
            lost += rows[row][1] != amount
        elif kind in ("settled", "forfeited", "released"):
            lost += (rows[row][0], rows[row][2]) != (kind, amount)
    assert lost == 0, "what was acknowledged is in the books"
    cut = [r for r in rows.values() if r[0] == "forfeited" and r[3] == "model"]
    assert all(reserved == spent for _, reserved, spent, _ in cut)
    assert not [r for r in rows.values() if r[0] == "reserved" and r[3] == "model"], (
        "no request outlives its engine"
    )
    mark, changes = witness.mark()
    assert mark <= cap and witness.highest <= mark
    assert done["refused"] > 0 and len(cut) > done["forfeited"]
    store.close()
    print(
        f"{kills + 1} kills, 50 at once: {changes} bookings, {witness.seen} commits looked at, {done['reserved']} reserved, "
        f"{done['refused']} refused, {len(cut) - done['forfeited']} cut off; highest {mark / cap:.4%} of the cap; "
        f"0 of {sum(done.values())} acknowledged lost"
    )


async def test_the_same_witness_sees_a_purse_that_looks_first_and_books_afterwards_pass_the_cap(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    prepare(path)
    store = Store(path, RealClock())
    store.take_over("host", "boot", os.getpid())
    thread = StoreThread(store)
    cap = 100 * COIN
    ledger = Ledger(thread, 1, PRICES, lambda: cap)

    async def careless() -> None:
        if await ledger.room_for(10 * COIN):
            await thread.write(spending.reserve, 1, "model", "coin", 10 * COIN, None)

    async def careful() -> None:
        try:
            await ledger.reserve(1, "coin", 10, 0)
        except OverBudget:
            pass

    witness = Witness(path, cap)
    await asyncio.gather(*(careful() for _ in range(50)))
    witness.look()
    assert witness.mark()[0] == cap
    await thread.call(lambda: store.conn.execute("DELETE FROM spend"))
    await asyncio.gather(*(careless() for _ in range(50)))
    with pytest.raises(AssertionError, match=">"):
        witness.look()
    assert witness.mark()[0] > cap
    thread.close()
