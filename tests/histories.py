"""Twenty small histories, the same every time: the stored fixtures of each schema version are made of them.

``python -m tests.histories`` writes tests/fixtures/store-v<latest>.db and .json; do so once for a release
that brings a new schema, never again for an old one.
"""

from __future__ import annotations

import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.series import SeriesChange
from engine.store import attempting, reading, writes
from engine.store.core import Store
from engine.store.migrations import LATEST
from engine.store.reading import Reader
from engine.store.rows import AttemptRow, TrialRow
from engine.types import (
    Allocation,
    Author,
    Effect,
    ExperimentState,
    Point,
    Proposal,
    Purpose,
    Score,
    TrialOutcome,
    Verdict,
)

S = ExperimentState
CAMPAIGNS = 20


class SteppedClock:
    """Each look at the clock is a second later: times are part of what must stay identical."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def now(self) -> float:
        self.seconds += 1
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    async def timeout(self, work: Any, seconds: float) -> Any:
        return await work


def make_histories(path: Path) -> Reader:
    store = Store(path, SteppedClock())
    store.take_over("machine", "boot", 1)
    for index in range(CAMPAIGNS):
        _campaign(store, index, random.Random(index))
    store.close()
    return Reader(path)


def _campaign(store: Store, index: int, rng: random.Random) -> None:
    goal = "minimize" if index % 2 else "maximize"
    campaign = store.write(writes.create_campaign, f"c{index}", "loss", goal, index, f"{index:040x}")
    protocol = store.write(
        writes.open_protocol, campaign, f"key{index}", "{}", f"config{index}", "[trial]\n", "first"
    )
    row = reading.campaign(store.conn, f"c{index}")
    assert row is not None
    trials = store.write(
        writes.queue_trials, campaign, protocol, [(row.baseline, Purpose.CALIBRATE, s) for s in (1, 2)]
    )
    for trial in trials:
        _run(store, campaign, trial, rng)
    calibration = {"mean": 3.0, "sigma": 0.1, "n": 2, "seed_has_effect": True, "notes": ["a note"]}
    store.write(writes.calibrated, campaign, protocol, calibration)
    for number in range(1, 1 + index % 5 + 2):
        _experiment(store, campaign, protocol, number, rng)
    if index % 4 == 3:
        store.write(writes.set_campaign_state, campaign, "paused", "disk", "free some")


def _experiment(store: Store, campaign: int, protocol: int, number: int, rng: random.Random) -> None:
    experiment = store.write(writes.new_experiment, campaign, Author.SEARCH)
    row = reading.campaign(store.conn, f"c{campaign - 1}")
    assert row is not None
    proposal = Proposal(f"LR {number}", "it may help", (), Author.SEARCH, "tpe", parameters={"LR": number})
    sha = f"{campaign:020x}{number:020x}"
    store.write(
        writes.proposal_stored, experiment, row.incumbent, proposal, sha, f"+LR = {number}\n", 1, 1, S.READY
    )
    candidate = store.conn.execute("SELECT candidate FROM experiment WHERE id = ?", (experiment,)).fetchone()[0]
    (trial,) = store.write(
        writes.queue_trials,
        campaign,
        protocol,
        [(candidate, Purpose.SCREEN, 1)],
        experiment=experiment,
        source=S.READY,
        stage="screen",
    )
    _run(store, campaign, trial, rng)
    store.write(writes.move, experiment, S.MEASURING, S.JUDGING)
    verdict = rng.choice([Verdict.KEEP, Verdict.DISCARD, Verdict.CRASH])
    effect = Effect(0.2, 0.1, 0.3, 3, 5) if verdict is Verdict.KEEP else None
    target = S.MERGING if verdict is Verdict.KEEP else S.SETTLED
    store.write(writes.ruled, experiment, S.JUDGING, target, verdict, "a reason", effect, ("one", "two"))
    if verdict is Verdict.KEEP:
        store.write(writes.merge_intended, experiment, {"parent": row.head})
        store.write(writes.merged, experiment, row.head, sha[::-1], "", S.MERGING)


def _run(store: Store, campaign: int, trial: int, rng: random.Random) -> None:
    allocation = Allocation("local", "cpu0", cpus=(0,), hardware="cpu x1")
    attempt = store.write(
        attempting.new_attempt, trial, allocation, "sweep", f"trials/{trial}/attempt-{{attempt}}"
    )
    store.conn.execute("UPDATE attempt SET token = ? WHERE id = ?", (f"token{attempt}", attempt))
    store.write(attempting.attempt_launched, attempt)
    store.write(attempting.attempt_started, campaign, trial, attempt, "cpu0", "1 2 boot")
    points = tuple(Point("loss", float(i), 3.0 - i / 10, float(i)) for i in range(3))
    store.write(attempting.add_points, trial, [SeriesChange("loss", False, points)])
    score = round(rng.gauss(3, 0.1), 6)
    store.write(
        attempting.trial_ended,
        campaign,
        trial,
        attempt,
        TrialOutcome.OK,
        score,
        "loss",
        [Score("loss", score)],
        "finished",
        [{"name": "train", "code": 0, "seconds": 1.5}],
        1.5,
        1000,
        "cpu x1",
    )


WHOLE = (("share", 0), ("shares", 1))


def dump(reader: Reader) -> dict[str, Any]:
    """Everything that a person can see of each campaign, as plain data."""
    conn = reader.conn
    return {
        c.name: _plain(
            {
                "campaign": asdict(c),
                "experiments": [asdict(e) for e in reading.experiments(conn, c.id)],
                "diffs": [reading.diff(conn, c.id, e.number) for e in reading.experiments(conn, c.id)],
                "trials": [_trial(t) for t in reading.trials(conn, c.id)],
                "attempts": [
                    _attempt(a) for t in reading.trials(conn, c.id) for a in reading.attempts(conn, t.id)
                ],
                "scores": [reading.scores(conn, t.id) for t in reading.trials(conn, c.id)],
                "points": [reading.points(conn, t.id, "loss") for t in reading.trials(conn, c.id)],
                "keeps": [asdict(k) for k in reading.keeps(conn, c.line)],
            }
        )
        for c in reading.campaigns(conn)
    }


def _trial(row: TrialRow) -> dict[str, Any]:
    """What its attempts say stands with these."""
    return {name: value for name, value in asdict(row).items() if name not in ("attempt", "said")}


def _attempt(row: AttemptRow) -> dict[str, Any]:
    """A whole device is its only share, and stores of before did not say so."""
    allocation = {name: value for name, value in row.allocation.items() if (name, value) not in WHOLE}
    return {**asdict(row), "allocation": allocation}


def _plain(value: Any) -> Any:
    import json

    return json.loads(json.dumps(value))


if __name__ == "__main__":
    import json

    folder = Path(__file__).parent / "fixtures"
    folder.mkdir(exist_ok=True)
    path = folder / f"store-v{LATEST}.db"
    if path.exists() and "--again" not in sys.argv:
        sys.exit(f"{path} exists: a released schema's fixture is never made again (--again before a release)")
    path.unlink(missing_ok=True)
    made = make_histories(path)
    path.with_suffix(".json").write_text(json.dumps(dump(made), separators=(",", ":")) + "\n")
    made.conn.close()
    import sqlite3

    conn = sqlite3.connect(path)
    conn.execute("PRAGMA journal_mode = DELETE")
    conn.execute("VACUUM")
    conn.close()
