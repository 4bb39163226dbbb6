"""A store played back: at every moment what the engine's own store held then, and in the end all of it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.inbox import Request
from engine.requests import Requests
from engine.store import reading, recording
from engine.store.playback import Playback
from engine.store.reading import Reader
from engine.store.recording import Recording
from engine.types import NoProposal
from tests.engine.virtual_campaign import Turn, VirtualCampaign, measured
from tests.histories import dump, make_histories

# Columns of which a store keeps no trace of what they were before: the newest value is all there is.
UNTOLD = {
    "experiment": {"arithmetic", "effect_detail", "intent", "updated_at", "asked", "asked_at", "outcome", "effect",
                   "effect_low", "effect_high", "reason"},
    "attempt": {"state"},  # when a launch was acknowledged is not recorded
    "campaign": {"active_seconds", "limits"},
    "fence": {"beat_at", "epoch", "started_at", "ended_at", "host", "boot_id", "pid"},
    "proposal": {"diff"},
    "spend": {"usage", "detail", "what"},
}  # fmt: skip
PRUNABLE = {"point", "reading", "stream", "config", "host"}  # not facts: a point may be a second late


def everything(conn: sqlite3.Connection, skip: Mapping[str, set[str]] = {}) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, but the columns of ``skip``."""
    found = {}
    tables = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1").fetchall()
    for (table,) in tables:
        columns = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
        kept = [column for column in columns if column not in skip.get(table, ())]
        found[table] = sorted(conn.execute(f"SELECT {', '.join(kept)} FROM {table}").fetchall(), key=repr)
    return found


def played(taken: Recording, folder: Path) -> Playback:
    folder.mkdir(parents=True)
    return Playback(taken, folder)


def contents(playback: Playback) -> dict[str, list[tuple[Any, ...]]]:
    conn = sqlite3.connect(f"file:{playback.folder / 'store.db'}?mode=ro", uri=True)
    try:
        return everything(conn)
    finally:
        conn.close()


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("histories") / "store.db"
    make_histories(path).close()
    return path


@pytest.mark.parametrize("index", range(0, 20, 3))
def test_in_the_end_a_replay_reads_as_its_source(histories: Path, tmp_path: Path, index: int) -> None:
    source = Reader(histories)
    playback = played(recording.of_store(histories, f"c{index}"), tmp_path / "scratch")
    playback.forward(playback.timeline.end)
    replayed = Reader(tmp_path / "scratch" / "store.db")
    assert dump(replayed) == {f"c{index}": dump(source)[f"c{index}"]}
    campaign = source.campaign(f"c{index}")
    theirs = [row for row in reading.events(source.conn, 0, 10**6) if row.id in _ids(source.conn, campaign.id)]
    assert reading.events(replayed.conn, 0, 10**6) == theirs
    playback.close()
    assert not (tmp_path / "scratch").exists()


def _ids(conn: sqlite3.Connection, campaign: int) -> set[int]:
    return {row[0] for row in conn.execute("SELECT id FROM event WHERE campaign = ?", (campaign,))}


def test_a_store_is_taken_while_its_engine_writes_and_is_left_as_it_was(histories: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store.db"
    copy.write_bytes(histories.read_bytes())
    engine = sqlite3.connect(copy, isolation_level=None)
    engine.execute("PRAGMA journal_mode = WAL")
    engine.execute("UPDATE campaign SET pause_reason = 'committed' WHERE name = 'c4'")
    engine.execute("BEGIN IMMEDIATE")
    engine.execute("UPDATE campaign SET pause_reason = 'not yet' WHERE name = 'c4'")
    before = copy.read_bytes()
    taken = recording.of_store(copy, "c4")
    assert taken.rows["campaign"][0]["pause_reason"] == "committed"
    assert copy.read_bytes() == before
    engine.execute("COMMIT")  # nothing of the reader is in its way
    engine.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.close()


@pytest.mark.parametrize("seed", range(4))
def test_however_one_gets_to_a_moment_the_store_is_the_same(histories: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    taken = recording.of_store(histories, f"c{chance.randrange(20)}")
    walked, jumped = played(taken, tmp_path / "walked"), played(taken, tmp_path / "jumped")
    start, end = walked.timeline.start, walked.timeline.end
    for moment in sorted(chance.uniform(start - 1, end + 1) for _ in range(12)):
        walked.forward(moment)
        jumped.back(moment)
        assert contents(walked) == contents(jumped)
        jumped.back(chance.uniform(start, end))
    for playback in (walked, jumped):
        playback.close()


# --- against an engine that was watched ------------------------------------------------------------------


class Watched(VirtualCampaign):
    """Keeps what its store held, every now and then, at moments at which nothing happens."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.seen: list[tuple[float, dict[str, list[tuple[Any, ...]]]]] = []

    async def watch(self, every: float) -> None:
        while True:
            await self.clock.sleep(every)
            self.seen.append((self.clock.now(), everything(self.conn, UNTOLD)))


async def a_person(c: Watched, chance: random.Random) -> None:
    """Accepts most, rejects some, takes some of that back, pauses once, says something."""
    asked = 0
    while True:
        await c.clock.sleep(chance.choice([401.0, 907.0]))
        for row in [e for e in c.experiments() if e.state in ("review", "keep_review")]:
            asked += 1
            action = "reject" if asked % 4 == 0 else "accept"
            request = Request(1, c.clock.now(), "tester", action, {"number": row.number, "revision": row.revision,
                                                                   "reason": "so"}, "waiting", "")  # fmt: skip
            await Requests(c.conductor).carry_out(request)
            if asked % 8 == 0:
                await c.ask("undo", number=row.number)
        if asked == 3:
            await c.ask("pause")
            await c.clock.sleep(333.0)
            await c.ask("resume")
        if asked == 5:
            await c.ask("steer", text="the middle knobs")


@pytest.mark.parametrize(("mode", "capacity", "seed"), [("auto", 2, 1), ("all", 2, 2), ("keeps", 3, 3)])
async def test_at_every_moment_a_replay_holds_what_the_engine_s_store_held(
    tmp_path: Path, mode: str, capacity: int, seed: int
) -> None:
    chance = random.Random(seed)
    print(f"mode {mode}, seed {seed}")
    worth = {n: chance.choice([6.0, 5.0, -2.0, 0.0]) for n in range(24)}
    script: list[Turn | NoProposal] = [Turn(n) for n in range(8)]
    script[3] = Turn(3, path="elsewhere.py")  # an edit that is refused
    c = Watched(
        tmp_path, program=measured(worth), script=script, drafts=3, review=mode, capacity=capacity, seed=seed
    )

    async def work() -> str:
        await c.engine()
        watcher = asyncio.create_task(c.watch(97.03))
        person = asyncio.create_task(a_person(c, chance))
        try:
            await c.clock.sleep(2003.0)
            await c.kill()  # and another engine takes over
            await c.engine()
            return await c.ended()
        finally:
            watcher.cancel()
            person.cancel()

    await c.run(work)
    taken = recording.of_store(c.state / "store.db")
    playback = played(taken, tmp_path / "scratch")
    kept, rejected = len(c.kept()), [e for e in c.experiments() if e.verdict == "cancelled"]
    assert kept and len(c.seen) > 30
    assert mode != "all" or rejected
    wrong = []
    conn = sqlite3.connect(tmp_path / "scratch" / "store.db")
    for at, then in c.seen:
        playback.forward(at)
        now = everything(conn, UNTOLD)
        for table in set(then) - PRUNABLE:
            if not alike(now[table], then[table]):
                wrong.append((round(at - playback.timeline.start), table, _difference(then[table], now[table])))
    conn.close()
    assert not wrong, f"{len(wrong)}: {wrong[:6]}"
    playback.forward(playback.timeline.end)
    assert contents(playback) == everything(c.conn), "and in the end everything"
    playback.close()


def alike(ours: Sequence[tuple[Any, ...]], theirs: Sequence[tuple[Any, ...]]) -> bool:
    """Means may differ in the last digit; and on the virtual clock a draft may begin in the very moment in which the
    ratchet advances: nothing tells then on which side of it."""

    def plain(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        rounded = [
            tuple(float(f"{v:.9g}") if isinstance(v, float) and v < 1e6 else v for v in row) for row in rows
        ]
        return [row if "drafting" not in row else (row[0], "drafting") for row in rounded]

    return plain(ours) == plain(theirs)


def _difference(then: Sequence[Any], now: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    return [row for row in then if row not in now], [row for row in now if row not in then]
