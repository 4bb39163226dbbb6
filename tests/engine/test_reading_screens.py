"""The lean rows behind the console's further screens, on a store as a campaign leaves it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store import reading, reading_screens
from engine.store.reading import Reader
from tests.seeded import seeded_store


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Thirty settled experiments and three open ones; writable, for what a test adds."""
    seeded_store(tmp_path, 30)
    found = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    yield found
    found.close()


def test_the_history_has_every_experiment_as_the_whole_row_tells_it(conn: sqlite3.Connection) -> None:
    lean = reading_screens.history(conn, 1)
    whole = reading.experiments(conn, 1)
    assert [row.number for row in lean] == [row.number for row in whole] == list(range(1, 34))
    for a, b in zip(lean, whole, strict=True):
        for name in ("id", "state", "author", "author_detail", "title", "hypothesis", "kind", "verdict", "reason",
                     "effect", "effect_low", "effect_high", "score", "stage", "outcome", "created_at", "settled_at"):  # fmt: skip
            assert getattr(a, name) == getattr(b, name), name
    assert all(row.dollars is None for row in lean)


def test_some_of_the_history_is_what_is_asked_for_however_many(conn: sqlite3.Connection) -> None:
    assert [row.number for row in reading_screens.history(conn, 1, {7, 3, 99})] == [3, 7]
    assert len(reading_screens.history(conn, 1, range(1, 2000))) == 33
    assert reading_screens.history(conn, 1, ()) == []


def test_money_is_summed_for_each_experiment_without_what_was_released(conn: sqlite3.Connection) -> None:
    for state, spent in (("settled", 5), ("forfeited", 7), ("released", 100)):
        conn.execute(
            "INSERT INTO spend (campaign, experiment, kind, what, state, reserved, spent, epoch, created_at)"
            " VALUES (1, 4, 'model', 'm', ?, 50, ?, 1, 0)",
            (state, spent),
        )
    found = {row.number: row.dollars for row in reading_screens.history(conn, 1)}
    assert found[4] == 12 and found[5] is None


def test_events_tell_which_rows_to_read_again(conn: sqlite3.Connection) -> None:
    last = reading.last_event(conn)
    assert reading_screens.told_since(conn, 1, last) == (frozenset(), last)
    for kind, data in (
        ("VerdictGiven", {"number": 9}),
        ("Warned", {"message": "x"}),
        ("TrialEnded", {"number": None}),
    ):
        conn.execute("INSERT INTO event (at, campaign, kind, data) VALUES (0, 1, ?, ?)", (kind, json.dumps(data)))
    assert reading_screens.told_since(conn, 1, last) == (frozenset({9}), last + 3)
    assert reading_screens.open_numbers(conn, 1) == {31, 32, 33}
    assert reading_screens.newest(conn, 1) == 33
    assert reading_screens.newest(conn, 2) == 0


def test_tries_are_the_settled_ones(conn: sqlite3.Connection) -> None:
    found = reading_screens.tries(conn, 1)
    assert [row.number for row in found] == list(range(1, 31))
    keeps = sum(row.verdict == "keep" for row in found)
    assert reading_screens.settled(conn, 1) == (30, keeps)


def test_device_seconds_count_each_device_of_a_trial(conn: sqlite3.Connection) -> None:
    before = reading_screens.device_seconds(conn, 1)
    assert before == pytest.approx(conn.execute("SELECT SUM(seconds) FROM trial").fetchone()[0])
    trial, seconds = conn.execute("SELECT id, seconds FROM trial WHERE state = 'done' AND seconds > 0").fetchone()
    allocation = json.dumps({"devices": ["GPU-a", "GPU-b", "GPU-c"]})
    conn.execute(
        "INSERT INTO attempt (trial, number, epoch, token, directory, host, slot, allocation, state, created_at)"
        " VALUES (?, 1, 1, 'other', 'd', 'local', 's', ?, 'ended', 0)",
        (trial, allocation),
    )
    assert reading_screens.device_seconds(conn, 1) == pytest.approx(before + 2 * seconds)
    assert reading_screens.device_seconds(conn, 2) == 0.0


def test_decisions_come_with_who_and_why(conn: sqlite3.Connection) -> None:
    conn.execute(
        "INSERT INTO decision (experiment, action, actor, reason, revision, created_at)"
        " VALUES (3, 'reject', 'ada', 'seen before', 2, 5.0)"
    )
    assert [(d.action, d.actor, d.reason, d.at) for d in reading_screens.decisions(conn, 3)] == [
        ("reject", "ada", "seen before", 5.0)
    ]
    assert reading_screens.decisions(conn, 4) == []


def test_a_chain_of_repairs_is_followed_both_ways_and_a_loop_ends(conn: sqlite3.Connection) -> None:
    conn.execute("UPDATE experiment SET repairs = 5 WHERE id = 8")
    conn.execute("UPDATE experiment SET repairs = 8 WHERE id = 11")
    assert reading_screens.repairs(conn, 11) == ((5, 8), ())
    assert reading_screens.repairs(conn, 8) == ((5,), (11,))
    assert reading_screens.repairs(conn, 5) == ((), (8, 11))
    conn.execute("UPDATE experiment SET repairs = 11 WHERE id = 5")  # no engine writes this
    before, after = reading_screens.repairs(conn, 5)
    assert set(before) == set(after) == {5, 8, 11}


def test_what_runs_is_known_with_the_devices_it_holds(conn: sqlite3.Connection) -> None:
    (one,) = reading_screens.busy(conn, 1)
    assert (one.number, one.host, one.slot, one.devices, one.state) == (31, "local", "cpu0", (), "running")
    conn.execute("UPDATE attempt SET allocation = ?", (json.dumps({"devices": ["GPU-0a1b"]}),))
    assert reading_screens.busy(conn, 1)[0].devices == ("GPU-0a1b",)
    conn.execute("UPDATE attempt SET allocation = ?", (json.dumps({"devices": "odd"}),))
    assert reading_screens.busy(conn, 1)[0].devices == ()
    assert reading_screens.queued(conn, 1) == 0


def test_events_are_read_backwards_to_the_beginning_in_parts(conn: sqlite3.Connection) -> None:
    every = [row.id for row in reading.events(conn)]
    found: list[int] = []
    before: int | None = None
    for _ in range(100):
        rows, before = reading_screens.events_before(conn, before, 7)
        found += [row.id for row in rows]
        if not before:
            break
    assert found == every[::-1] and len(found) > 20
    kinds = {
        type(row.event).__name__ for row in reading_screens.events_before(conn, None, 500, ("VerdictGiven",))[0]
    }
    assert "VerdictGiven" not in kinds and kinds


def test_a_reader_of_consoles_may_ask_all_of_it(tmp_path: Path) -> None:
    seeded_store(tmp_path, 3)
    reader = Reader(tmp_path / "store.db")  # read-only
    try:
        assert len(reading_screens.history(reader.conn, 1)) == 6
        assert reading_screens.busy(reader.conn, 1)
    finally:
        reader.close()
