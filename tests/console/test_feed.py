"""The feed on a real store: reads what changed, survives what vanishes, says nothing when nothing happened."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from console.feed import Feed
from console.layout import PANES, Pane
from console.outbox import Outbox, Watch, coalesce
from console.sources import LOG_BYTES, LogFile
from console.state import (
    EventsRead,
    ExperimentsRead,
    LogRead,
    ReadingsRead,
    State,
    StreamRead,
    Update,
    View,
    reduce,
)
from engine.clock import VirtualClock
from engine.inbox import Inbox
from tests.console.scenes import TRIAL, row
from tests.seeded import seeded_store


class Follower:
    """A feed driven by hand on a virtual clock, with the state that a console would show."""

    def __init__(self, state_dir: Path, watch: Watch | None = None) -> None:
        self.clock = VirtualClock()
        self.alive = True
        self.feed = Feed(state_dir, lambda: self.alive, self.clock)
        self.feed.watch(watch or Watch())
        self.state = State()

    def look(self, seconds: float = 2.0) -> list[Update]:
        self.clock.advance(seconds)
        self.feed.cycle()
        updates = self.feed.take()
        for update in updates:
            self.state = reduce(self.state, update)
        return updates


def write(state_dir: Path, sql: str, *args: object) -> None:
    with sqlite3.connect(state_dir / "store.db") as conn:
        conn.execute(sql, args)
    conn.close()


def test_everything_is_there_after_one_look(tmp_path: Path) -> None:
    seeded_store(tmp_path, 40, awaiting=True)
    follower = Follower(tmp_path)
    follower.look()
    state = follower.state
    assert state.campaign is not None and state.campaign.name == "november"
    assert (state.newest, len(state.listed), state.awaiting) == (43, 43, (42,))
    assert state.detail is not None and state.detail.row.number == 42 and "train.py" in state.detail.diff[0]
    assert state.live is not None and state.reference is not None and len(state.live.points) == 240
    assert state.log is not None and state.log.lines[-1].startswith("step  129")
    assert len(state.readings) == 3 and state.running[0].slot == "cpu0" and state.alive is True


def test_nothing_is_said_when_nothing_changed(tmp_path: Path) -> None:
    seeded_store(tmp_path, 5)
    follower = Follower(tmp_path)
    follower.look()
    assert follower.look() == [] and follower.look() == []


def test_only_what_changed_is_said(tmp_path: Path) -> None:
    seeded_store(tmp_path, 5)
    follower = Follower(tmp_path)
    follower.look()
    write(tmp_path, "UPDATE experiment SET stage = 'confirm', revision = 9 WHERE number = 6")
    updates = follower.look()
    rows = [u for u in updates if isinstance(u, ExperimentsRead)]
    assert [r.number for r in rows[0].rows] == [6] and rows[0].rows[0].revision == 9
    assert not any(isinstance(u, ReadingsRead | StreamRead | LogRead | EventsRead) for u in updates)


def test_hosts_are_read_when_a_row_of_them_was_written_and_since_when_one_is_away(tmp_path: Path) -> None:
    seeded_store(tmp_path, 5)
    at = "INSERT INTO host (name, sort, state, updated_at) VALUES (?, 'ssh', ?, 1)"
    for name, how in (("a", "ready"), ("b", "away")):
        write(tmp_path, at.replace("?, 'ssh', ?", f"'{name}', 'ssh', '{how}'"))
    told = '{"message": "host b is set aside: no route", "mend": ""}'
    write(tmp_path, f"INSERT INTO event (at, campaign, kind, data) VALUES (77.0, 1, 'Warned', '{told}')")
    follower = Follower(tmp_path)
    follower.look()
    assert [row.name for row in follower.state.hosts] == ["a", "b"] and follower.state.aside == {"b": 77.0}
    assert follower.look() == []
    write(tmp_path, "UPDATE host SET state = 'ready', updated_at = 2 WHERE name = 'b'")
    follower.look()
    assert {row.state for row in follower.state.hosts} == {"ready"} and follower.state.aside == {}


def test_an_experiment_that_settles_is_read_a_last_time(tmp_path: Path) -> None:
    seeded_store(tmp_path, 5)
    follower = Follower(tmp_path)
    follower.look()
    write(tmp_path, "UPDATE experiment SET state = 'settled', verdict = 'keep' WHERE number = 6")
    follower.look()
    found = follower.state.listed[6]
    assert found is not None and (found.state, found.verdict) == ("settled", "keep")


def test_a_long_history_opens_at_its_end_and_loads_what_comes_into_sight(tmp_path: Path) -> None:
    seeded_store(tmp_path, 1500, running=False, trial_rows=False)
    follower = Follower(tmp_path)
    follower.look()
    assert follower.state.newest == 1500 and len(follower.state.listed) == 300
    follower.feed.watch(Watch(View(cursor=1), rows=(-20, 40)))
    follower.look()
    assert all(follower.state.listed[n] is not None for n in range(1, 41))
    assert len(follower.state.listed) <= 600 and follower.look() == []


def test_hidden_panes_are_not_read(tmp_path: Path) -> None:
    seeded_store(tmp_path, 5)
    follower = Follower(tmp_path, Watch(panes=frozenset({Pane.EXPERIMENTS})))
    follower.look()
    state = follower.state
    assert (state.live, state.log, state.readings, state.stream) == (None, None, (), None)
    follower.feed.watch(Watch(panes=frozenset(PANES)))
    follower.look()
    state = follower.state
    assert state.live is not None and state.log is not None and state.readings


def test_streamed_text_arrives_in_order_and_once(tmp_path: Path) -> None:
    seeded_store(tmp_path, 2)
    follower = Follower(tmp_path, Watch(View(cursor=5)))
    follower.look()
    write(tmp_path, "INSERT INTO stream (experiment, at, channel, text) VALUES (5, 0, 'text', ', gated')")
    follower.look()
    assert follower.state.stream is not None
    assert follower.state.stream.parts[-1] == (
        "text", "I want to try a gated MLP of the same number of parameters, gated",
    )  # fmt: skip


def test_a_store_that_is_absent_appears_vanishes_and_comes_back(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    follower.look()
    assert "no campaign" in follower.state.problem and "ratchet run" in follower.state.mend
    seeded_store(tmp_path, 3)
    follower.look()
    assert follower.state.problem == "" and follower.state.newest == 6
    away = tmp_path / "away"
    away.mkdir()
    for file in tmp_path.glob("store.db*"):
        file.rename(away / file.name)
    follower.look()
    assert "is gone" in follower.state.problem and follower.state.newest == 6
    seeded_store(tmp_path, 8)
    follower.look()
    assert follower.state.problem == "" and follower.state.newest == 11


@pytest.mark.parametrize("junk", [b"", b"this is no database at all" * 100])
def test_a_file_that_is_no_store_is_said_and_survived(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "store.db").write_bytes(junk)
    follower = Follower(tmp_path)
    follower.look()
    assert follower.state.problem and follower.state.mend


def test_a_row_that_cannot_be_understood_is_said_once_and_mends_itself(tmp_path: Path) -> None:
    seeded_store(tmp_path, 3)
    follower = Follower(tmp_path)
    follower.look()
    write(tmp_path, "UPDATE proposal SET parameters = '{broken' WHERE id = 4")
    follower.look()
    assert "not understood" in follower.state.problem
    assert follower.look() == []  # no flicker between trouble and none
    write(tmp_path, "UPDATE proposal SET parameters = '{}' WHERE id = 4")
    follower.look()
    assert follower.state.problem == ""


def test_requests_and_their_answers_come_through(tmp_path: Path) -> None:
    seeded_store(tmp_path, 3)
    follower = Follower(tmp_path)
    follower.look()
    assert not (tmp_path / "inbox.db").exists()  # looking makes no file
    inbox = Inbox(tmp_path / "inbox.db")
    mine = inbox.ask("pause", "ada", 1.0)
    other = inbox.ask("accept", "bob", 1.0, number=5, revision=1)
    follower.feed.watch(Watch(mine=frozenset({mine})))
    follower.look()
    assert [r.id for r in follower.state.requests] == [mine, other]
    inbox.answer(mine, "done", "paused", 2.0)
    inbox.put_to_sleep()
    follower.look()
    assert [r.state for r in follower.state.asleep] == ["asleep"]
    assert follower.state.notice is not None and follower.state.notice.text == "pause: paused"


def test_the_engines_death_is_noticed(tmp_path: Path) -> None:
    seeded_store(tmp_path, 3)
    follower = Follower(tmp_path)
    follower.look()
    follower.alive = False
    follower.look()
    assert follower.state.alive is False


# --- bounded, whatever comes -------------------------------------------------------------------------


def test_an_outbox_that_nobody_empties_stays_small() -> None:
    outbox = Outbox()
    for i in range(1, 500):
        outbox.say(ExperimentsRead((row(1, revision=i), row(2))))
        outbox.say(StreamRead(1, (("text", "x" * i),)))
    waiting = outbox.take()
    assert len(waiting) == 2
    assert isinstance(waiting[0], ExperimentsRead) and waiting[0].rows[0].revision == 499
    assert outbox.take() == []


def test_two_windows_of_rows_stay_two() -> None:
    pending: list[Update] = [ExperimentsRead((row(9),), (9, 9))]
    coalesce(pending, ExperimentsRead((row(1),), (1, 1)))
    coalesce(pending, ExperimentsRead((row(9, "review"),)))
    state = State()
    for update in pending:
        state = reduce(state, update)
    assert sorted(state.listed) == [1, 9] and state.awaiting == (9,)


def test_a_logs_tail_is_followed_by_offset(tmp_path: Path) -> None:
    control = tmp_path / TRIAL.directory / "control"
    control.mkdir(parents=True)
    log, file = LogFile(tmp_path), control / "log"
    first = log.read(TRIAL, "t")
    assert first is not None and first.problem == "no output yet" and log.read(TRIAL, "t") is None
    file.write_bytes(b"one\nprogress 1 %\rprogress 2 %\rtw")
    found = log.read(TRIAL, "t")
    assert found is not None and found.lines == ("one", "tw") and found.problem == ""
    with file.open("ab") as handle:
        handle.write(b"o\n\x1b[31m\xff\xfered\x1b[0m\n")
    found = log.read(TRIAL, "t")
    assert found is not None and found.lines == ("one", "two", "\ufffd\ufffdred")
    assert log.read(TRIAL, "t") is None
    file.write_bytes(b"anew\n")  # shorter: the job's cap cut it, or a new attempt began
    found = log.read(TRIAL, "t")
    assert found is not None and found.lines == ("anew",)
    file.write_bytes(b"x" * (5 * LOG_BYTES) + b"\nlast\n")
    found = log.read(TRIAL, "t")
    assert found is not None and found.lines[-1] == "last" and sum(map(len, found.lines)) < 2 * LOG_BYTES
    other = log.read(replace(TRIAL, id=77, directory="trials/77/attempt-1"), "u")
    assert other is not None and other.lines == ()


def test_the_seeded_store_is_a_real_one(tmp_path: Path) -> None:
    seeded_store(tmp_path, 20)
    conn = sqlite3.connect(tmp_path / "store.db")
    assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
    assert json.loads(conn.execute("SELECT limits FROM campaign").fetchone()[0])["experiments"] == 50
    conn.close()


def test_an_answer_that_was_given_before_the_console_knew_its_requests_number_is_told(tmp_path: Path) -> None:
    seeded_store(tmp_path, 2)
    inbox = Inbox(tmp_path / "inbox.db")
    number = inbox.ask("accept", "ada", 1.0, number=3, revision=3)
    inbox.answer(number, "refused", "too late", 1.0)
    follower = Follower(tmp_path)
    follower.look()
    assert follower.state.notice is None
    follower.feed.watch(Watch(mine=frozenset({number})))  # nothing in the inbox changes any more
    follower.look()
    assert follower.state.notice is not None and "too late" in follower.state.notice.text
    assert follower.look() == [], "told once"
    inbox.close()
