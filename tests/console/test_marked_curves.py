"""Marked experiments' curves out of a real store: the run that compares best, read once, bounded."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from console.charting import MOST_MARKS
from console.outbox import Watch
from console.sources import MarkedCurves, beside, tokens_series
from engine.store import reading
from engine.store.reading import Reader
from tests.console.test_feed import Follower
from tests.seeded import seeded_store


def add_points(state_dir: Path, trial: int, series: str, values: list[float]) -> None:
    with sqlite3.connect(state_dir / "store.db") as conn:
        rows = [(trial, series, i, float(i), v, i / 10) for i, v in enumerate(values)]
        conn.executemany("INSERT INTO point (trial, series, seq, step, value, at) VALUES (?, ?, ?, ?, ?, ?)", rows)
    conn.close()


def trial_of(state_dir: Path, number: int) -> int:
    reader = Reader(state_dir / "store.db")
    row = reading.experiment(reader.conn, 1, number)
    assert row is not None
    found = [t.id for t in reading.trials(reader.conn, 1, experiment=row.id)]
    reader.close()
    return found[-1]


def test_marked_experiments_are_laid_over_the_chart_with_reasons_for_those_without_a_curve(tmp_path: Path) -> None:
    seeded_store(tmp_path, 5)
    add_points(tmp_path, trial_of(tmp_path, 2), "train_loss", [3.0, 2.5, 2.0])
    add_points(tmp_path, trial_of(tmp_path, 5), "other", [3.0, 2.5, 2.0])
    follower = Follower(tmp_path, Watch(marked=(2, 5, 4, 7, 99)))
    follower.look()
    state = follower.state
    assert [(c.number, [y for _, y in c.points], c.seconds) for c in state.marked] == [
        (2, [3.0, 2.5, 2.0], (0.0, 0.1, 0.2))
    ]
    assert dict(state.unmarked) == {
        5: "it has no train_loss", 4: "it has no curve", 7: "it has not run", 99: "no such experiment",
    }  # fmt: skip
    before = state.marked[0]
    assert follower.look() == []
    follower.feed.watch(Watch(marked=(2,)))
    follower.look()
    assert follower.state.marked[0] is before and follower.state.unmarked == ()
    follower.feed.watch(Watch())
    follower.look()
    assert follower.state.marked == ()


def test_no_more_than_a_handful_are_read_and_ended_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded_store(tmp_path, 20, running=False)
    reader = Reader(tmp_path / "store.db")
    for number in range(1, 11):
        add_points(tmp_path, trial_of(tmp_path, number), "loss", [2.0, 1.0])
    asked: list[int] = []
    points = reading.points
    monkeypatch.setattr(
        reading, "points", lambda conn, trial, series: (asked.append(trial), points(conn, trial, series))[1]
    )
    marked = MarkedCurves()
    for _ in range(3):
        curves, without = marked.read(reader.conn, 1, tuple(range(1, 11)), None, "")
        assert (len(curves), without) == (MOST_MARKS, ())
    assert len(asked) == MOST_MARKS
    reader.close()


def test_the_budget_and_the_tokens_come_with_the_curve(tmp_path: Path) -> None:
    seeded_store(tmp_path, 3)
    spec = json.dumps({"measurement": {"trial": {"steps": 215, "train_seconds": 20.0}}})
    with sqlite3.connect(tmp_path / "store.db") as conn:
        conn.execute("UPDATE protocol SET spec = ?", (spec,))
        live = conn.execute("SELECT id FROM trial WHERE state = 'running'").fetchone()[0]
    conn.close()
    add_points(tmp_path, live, "tokens_seen", [0.0, 4096.0, 8192.0])
    follower = Follower(tmp_path)
    follower.look()
    curve = follower.state.live
    assert curve is not None and (curve.budget_steps, curve.budget_seconds) == (215.0, 20.0)
    assert curve.tokens[:3] == pytest.approx((0.0, 4096 * 215 / 400, 4096 * 430 / 400))
    assert follower.state.reference is not None and follower.state.reference.tokens == ()


def test_a_series_counts_tokens_by_its_name_and_no_rate_does() -> None:
    assert tokens_series(["loss", "tokens/s", "tok/sec", "tokens_per_second", "total_tokens_M", "lr"]) is None
    for name in ("tokens", "tokens_seen", "train/tokens", "num_tokens", "n_tokens", "Tokens", "total tokens"):
        assert tokens_series(["loss", name]) == name
    assert tokens_series(["tokens_seen", "tokens"]) == "tokens"


def test_a_count_that_does_not_grow_is_no_axis() -> None:
    assert beside([(0.0, 0.0), (10.0, 100.0)], [0.0, 5.0, 20.0]) == (0.0, 50.0, 200.0)
    for counted in (
        [],
        [(0.0, 1.0)],
        [(0.0, 5.0), (1.0, 5.0)],
        [(0.0, 5.0), (1.0, 4.0)],
        [(1.0, 1.0), (1.0, 2.0)],
    ):
        assert beside(counted, [0.0]) == ()
