"""Hosts played back: at each moment as the engine's own store had them then, never as they were in the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.conductor import RunLimits
from engine.store import reading_hosts, writes
from engine.store.host_life import host_lives, noticed
from engine.store.playback import Playback
from engine.store.recording import of_store, scrubbed
from tests.engine.test_fleet import WORTH, campaign
from tests.engine.virtual_campaign import measured


def shape(conn: sqlite3.Connection) -> dict[str, tuple[object, ...]]:
    """Who drained it is in no event: only that it was."""
    return {
        row.name: (row.state, row.reason, bool(row.drained), sorted(row.lent)) for row in reading_hosts.hosts(conn)
    }


async def test_a_replay_shows_each_host_as_it_stood_then(tmp_path: Path) -> None:
    c = campaign(tmp_path, measured(WORTH), drafts=8, limits=RunLimits(hours=8))
    c.devices = True
    seen: list[tuple[float, dict[str, tuple[object, ...]]]] = []

    async def look() -> None:
        await c.clock.sleep(30)
        seen.append((c.clock.now(), shape(c.conn)))
        await c.clock.sleep(1)  # what follows comes at another moment

    async def say(kind: str, **args: object) -> None:
        """As the service does."""
        state, outcome = await c.ask(kind, **args)
        assert state == "done", outcome
        await c.store.write(writes.request_answered, c.campaign.id, 1, kind, outcome)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running() == 4, "all at work")
        await look()
        c.hosts["two"].go_down("connection timed out")
        await c.until(lambda: c.rows()["two"].state == "away", "the row to say so", hours=0.2)
        await look()
        since = reading_hosts.away_since(c.conn)
        assert since.keys() == {"two"} and 0 <= c.clock.now() - since["two"] < 600
        c.hosts["two"].come_back()
        await c.until(lambda: c.rows()["two"].state == "ready", "it to be used again", hours=0.5)
        await look()
        assert reading_hosts.away_since(c.conn) == {}
        await say("drain", name="one")
        await look()
        await say("undrain", name="one")
        await look()
        await say("lend", name="two", hours=1, device="GPU-two-1")
        await look()
        await say("lend", name="one", hours=2)
        await look()
        c.conductor.stop("enough")
        await c.ended()

    await c.run(work)
    assert len({repr(found) for _, found in seen}) == 5, "three moments of peace, four of trouble"
    taken = of_store(c.state / "store.db")
    (tmp_path / "replay").mkdir()
    playback = Playback(taken, tmp_path / "replay")
    try:
        for at, then in [*seen, *reversed(seen)]:  # forward, and back again
            if at < playback.at:
                playback.back(at)
            playback.forward(at)
            conn = sqlite3.connect(tmp_path / "replay" / "store.db")
            assert shape(conn) == then, at - playback.timeline.start
            conn.close()
    finally:
        playback.close()


def test_what_only_looks_like_word_of_a_host_is_none() -> None:
    assert noticed("host box 1 is set aside: no route: host x is back") == ("box 1", "no route: host x is back")
    assert noticed("host box is back") == ("box", "")
    for odd in ("", "host ", "host box is back to normal", "the host box is set aside", "host box: processes"):
        assert noticed(odd) is None, odd


def host(name: str, **more: Any) -> Mapping[str, Any]:
    return {
        "name": name, "state": "ready", "reason": "", "mend": "", "devices": "[]", "drained": "", "lent": "{}",
        "updated_at": 50.0, **more,
    }  # fmt: skip


def test_the_last_word_leaves_a_row_as_it_was_found_and_hosts_that_are_gone_are_passed_over() -> None:
    rows = {
        "host": [host("a", state="away", reason="dead", drained="ada")],
        "attempt": [{"host": "b", "created_at": 3}],
    }
    events = [
        (5.0, "Warned", {"message": "host b is set aside: x"}),
        (6.0, "RequestAnswered", {"kind": "drain", "outcome": "host b gets no more trials; 2 go on to their end"}),
        (
            7.0,
            "RequestAnswered",
            {"kind": "lend", "outcome": "GPU-none is lent for 2 h; what runs there goes on to its end"},
        ),
    ]
    lives = host_lives(rows, events, 1.0)
    now: dict[str, Any] = {}
    times = []
    for change in lives["a"].changes():
        now |= dict(zip(change.columns, change.values, strict=True))
        times.append(change.at)
    assert lives.keys() == {"a"} and now == rows["host"][0] and times == [1.0, 50.0]


def test_devices_of_a_scrubbed_recording_keep_names_of_their_own(tmp_path: Path) -> None:
    from tests.histories import make_histories

    make_histories(tmp_path / "store.db").close()
    uuids = [f"GPU-5b1c2d3e-1111-2222-3333-44445555666{n}" for n in range(3)]
    with sqlite3.connect(tmp_path / "store.db") as conn:
        conn.executemany(
            "INSERT INTO reading (host, device, at, data) VALUES ('local', ?, 5, '{}')", [(one,) for one in uuids]
        )
    conn.close()
    found = scrubbed(of_store(tmp_path / "store.db", "c9"))
    named = [row["device"] for row in found.rows["reading"] if row["device"] != "cpu"]
    assert len(set(named)) == len(named) >= 3 and not any(one[4:] in repr(found) for one in uuids)
