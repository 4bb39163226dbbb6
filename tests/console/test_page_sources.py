"""What the further screens read: complete, only what changed, and the very same object where nothing did."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from console import transcript
from console.page_sources import (
    CHUNK,
    ComparisonPage,
    EventsPage,
    EventWish,
    ExperimentPage,
    ExperimentWish,
    HistoryPage,
    HostsPage,
    RatchetPage,
)
from engine import events
from engine.store import reading
from engine.store.rows import CampaignRow, MessageRow
from tests.console.full_store import full_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    path = tmp_path_factory.mktemp("store")
    return path, full_store(path, 120)


@pytest.fixture
def conn(made: tuple[Path, int]) -> Iterator[sqlite3.Connection]:
    """What a test writes is rolled back."""
    found = sqlite3.connect(made[0] / "store.db", isolation_level=None)
    found.execute("BEGIN")
    yield found
    found.execute("ROLLBACK")
    found.close()


@pytest.fixture
def campaign(conn: sqlite3.Connection) -> CampaignRow:
    found = reading.campaign(conn)
    assert found is not None
    return found


def tell(conn: sqlite3.Connection, event: events.Event) -> None:
    kind, data = events.to_row(event)
    conn.execute("INSERT INTO event (at, campaign, kind, data) VALUES (1e9, 1, ?, ?)", (kind, json.dumps(data)))


def test_the_history_is_read_once_then_only_what_an_event_told_of(
    conn: sqlite3.Connection, campaign: CampaignRow
) -> None:
    page = HistoryPage()
    first = page(conn, campaign, "history")
    assert [row.number for row in first] == list(range(1, 124))
    assert page(conn, campaign, "history") is first
    conn.execute("UPDATE experiment SET reason = 'changed' WHERE number IN (5, 6)")
    assert page(conn, campaign, "history") is first  # nobody told of it
    tell(conn, events.VerdictGiven(5, "t", "keep", "r"))
    second = page(conn, campaign, "history")
    changed = [a.number for a, b in zip(first, second, strict=True) if a != b]
    assert changed == [5] and second[4].reason == "changed"


def test_open_rows_of_the_history_are_followed_until_they_are_settled(
    conn: sqlite3.Connection, campaign: CampaignRow
) -> None:
    page = HistoryPage()
    page(conn, campaign, "history")
    conn.execute("UPDATE experiment SET state = 'settled', verdict = 'crash' WHERE number = 121")
    assert page(conn, campaign, "history")[120].verdict == "crash"
    conn.execute("INSERT INTO experiment (campaign, line, number, state, author, base, created_at, updated_at)"
                 " VALUES (1, 1, 124, 'drafting', 'claude', 1, 0, 0)")  # fmt: skip
    assert [row.number for row in page(conn, campaign, "history")][-1] == 124


def test_an_experiment_comes_whole(
    conn: sqlite3.Connection, campaign: CampaignRow, made: tuple[Path, int]
) -> None:
    number = made[1]
    page = ExperimentPage()
    whole = page(conn, campaign, ExperimentWish(number))
    assert whole.detail is not None and whole.detail.row.number == number
    assert whole.newest == 123 and whole.mends == (number - 1,)
    assert [d.actor for d in whole.decisions] == ["ada"]
    assert whole.money is not None and whole.money.spent == 353_400_000
    assert whole.curve is not None and len(whole.curve.points) == 200
    assert whole.talk is None  # it is not in sight
    assert page(conn, campaign, ExperimentWish(number)) is whole
    talk = page(conn, campaign, ExperimentWish(number, talk=True)).talk
    assert talk is not None and "--- thinking ---" in talk and "I look at the block first." in talk
    assert page(conn, campaign, ExperimentWish(number - 1)).mended_by == (number,)


def test_every_trials_curve_can_be_chosen_and_why_there_is_none_is_said(
    conn: sqlite3.Connection, campaign: CampaignRow, made: tuple[Path, int]
) -> None:
    page = ExperimentPage()
    detail = page(conn, campaign, ExperimentWish(made[1])).detail
    assert detail is not None and len(detail.trials) > 1
    for trial in detail.trials:
        whole = page(conn, campaign, ExperimentWish(made[1], trial.id))
        assert whole.chosen == trial and whole.curve is not None and whole.curve.trial == trial.id
    conn.execute("DELETE FROM point")
    assert "pruned" in page(conn, campaign, ExperimentWish(made[1])).why_no_curve
    assert page(conn, campaign, ExperimentWish(123)).why_no_curve == "it has no trial yet"
    assert page(conn, campaign, ExperimentWish(999)).detail is None


def test_two_experiments_are_compared_on_trials_that_are_alike(
    conn: sqlite3.Connection, campaign: CampaignRow, made: tuple[Path, int]
) -> None:
    number = made[1]
    page = ComparisonPage()
    two = page(conn, campaign, (number - 1, number))
    assert two.first.chosen is not None and two.second.chosen is not None
    assert two.first.chosen.seed == two.second.chosen.seed
    assert two.first.curve is not None and two.second.curve is not None
    assert page(conn, campaign, (number - 1, number)) is two
    assert page(conn, campaign, (number, 999)).second.detail is None


def test_hosts_come_with_what_runs_on_their_devices(conn: sqlite3.Connection, campaign: CampaignRow) -> None:
    page = HostsPage()
    found = page(conn, campaign, "hosts")
    assert {row.host for row in found.readings} == {"local", "box1"}
    assert [one.devices for one in found.busy] == [("GPU-0a1b",)]
    assert page(conn, campaign, "hosts") is found


def test_the_staircase_is_made_anew_only_when_one_more_settled(
    conn: sqlite3.Connection, campaign: CampaignRow, made: tuple[Path, int]
) -> None:
    page = RatchetPage()
    climb = page(conn, campaign, 0)
    assert len(climb.view.points) == 119 and climb.summary.dollars == pytest.approx(0.3534)  # one was cancelled
    assert climb.summary.keeps == len(climb.view.steps) > 1 and climb.summary.device_seconds > 0
    assert page(conn, campaign, 0) is climb
    other = page(conn, campaign, made[1])
    assert other.view is climb.view and other.detail is not None and other.detail.row.number == made[1]
    conn.execute("UPDATE experiment SET state = 'settled', verdict = 'crash', settled_at = 1e9 WHERE number = 121")
    assert len(page(conn, campaign, 0).view.points) == 120


def test_the_event_log_reads_back_as_far_as_it_must_and_forward_what_is_new(
    conn: sqlite3.Connection, campaign: CampaignRow
) -> None:
    conn.execute("DELETE FROM event")
    for i in range(3 * CHUNK):
        if i == 10:
            tell(conn, events.Warned("the only one", "do this"))
        tell(conn, events.VerdictGiven(i, "t", "discard", "r"))
    page = EventsPage()
    log = page(conn, campaign, EventWish(rows=50))
    assert log.oldest and len(log.said) == CHUNK  # no further than asked
    assert page(conn, campaign, EventWish(rows=50)) is log
    tell(conn, events.Plateau(9))
    tell(conn, events.TrialQueued(1, 1, "screen", 1))
    newer = page(conn, campaign, EventWish(rows=50))
    assert [said.kind for said in newer.said[:2]] == ["plateau", "discard"] and len(newer.said) == CHUNK + 1
    found = page(conn, campaign, EventWish("is:trouble", rows=50))
    assert [said.kind for said in found.said] == ["plateau", "warning"] and found.oldest == 0
    ids = [said.id for said in page(conn, campaign, EventWish(rows=10**6)).said]
    assert len(ids) == 3 * CHUNK + 2 and ids == sorted(set(ids), reverse=True)
    assert page(conn, campaign, EventWish(every=True, rows=1)).said[0].kind == "queued"
    assert "trouble" in page(conn, campaign, EventWish("is:odd")).problem


def test_a_conversation_lets_no_escape_out_whoever_wrote_it() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m"
    blocks = [{"type": "tool_use", "name": evil, "input": {evil: evil}}, {"type": evil, "x": evil}, evil, 7]
    for content in (evil, blocks, {"type": "tool_result", "content": [{"type": "text", "text": evil}]}, None):
        assert all(line.isprintable() for line in transcript.lines([MessageRow(1, evil, content, 0.0)]))
