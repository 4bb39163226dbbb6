"""What a brief says of a campaign, read from a real store: history, people's words, incumbent, plateau."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import context
from engine.clock import VirtualClock
from engine.config import parse
from engine.store import reading
from engine.store.core import Store
from engine.types import Author, Brief, Failure, Note, PastExperiment, Remaining, Verdict
from tests.seeded import SIGMA, seeded_store

CONFIG = """
[project]
edit = ["train.py", "model/**"]
frozen = ["evaluate.py"]
context = ["program.md"]
[metric]
name = "val_bpb"
constraints = ["peak_vram_mb <= 80000"]
[trial]
command = "python train.py"
train_seconds = 77
[proposer]
plateau = 12
"""


class Campaign:
    """A seeded store, and what a test changes in it."""

    def __init__(self, folder: Path, experiments: int, *, running: bool = True) -> None:
        seeded_store(folder, experiments, clock=VirtualClock(1.7e9), running=running)
        self.store = Store(folder / "store.db", VirtualClock(1.7e9))
        self.conn: sqlite3.Connection = self.store.conn

    def sql(self, statement: str, *values: object) -> None:
        self.conn.execute("BEGIN IMMEDIATE")
        self.conn.execute(statement, values)
        self.conn.execute("COMMIT")

    def decide(self, number: int, action: str, reason: str, at: float) -> None:
        self.sql(
            "INSERT INTO decision (experiment, action, actor, reason, revision, created_at) VALUES"
            " ((SELECT id FROM experiment WHERE number = ?), ?, 'ada', ?, 1, ?)",
            number, action, reason, at,
        )  # fmt: skip

    def note(self, text: str, at: float) -> None:
        self.sql("INSERT INTO note (campaign, text, actor, created_at) VALUES (1, ?, 'ada', ?)", text, at)

    def build(self, config: str = CONFIG, **given: object) -> Brief:
        campaign = reading.campaign(self.conn)
        assert campaign is not None
        drafting = reading.experiments(self.conn, campaign.id, last=1)[0]
        files = {"train.py": b"LR = 1\n"}
        return context.build(self.conn, campaign, drafting, parse(config), files, **given)  # type: ignore[arg-type]


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path, 40)


def past(verdict: Verdict | None, number: int = 1) -> PastExperiment:
    return PastExperiment(number, "t", Author.CLAUDE, verdict, None, None, {}, True)


def test_a_brief_carries_what_the_configuration_and_its_caller_know(campaign: Campaign) -> None:
    failure = Failure(3, "t", "h", (), "crash", "Traceback")
    brief = campaign.build(remaining=Remaining(5, 1.5, 2.25), failure=failure, checkout="/copy")
    assert brief.editable == ("train.py", "model/**") and brief.frozen == ("evaluate.py",)
    assert brief.context == ("program.md",) and brief.constraints == ("peak_vram_mb <= 80000",)
    assert brief.trial_seconds == 77 and brief.plateau_after == 12 and brief.noise == SIGMA
    assert brief.remaining == Remaining(5, 1.5, 2.25) and brief.failure is failure and brief.checkout == "/copy"
    assert brief.number == 43 and brief.experiment == 43 and brief.files == {"train.py": b"LR = 1\n"}
    assert campaign.build().remaining == Remaining() and campaign.build().failure is None


def test_a_budget_in_steps_is_not_told_as_seconds(campaign: Campaign) -> None:
    assert campaign.build(CONFIG.replace("train_seconds = 77", "steps = 500")).trial_seconds == 0


def test_open_experiments_come_last_with_their_state_and_drafts_without_a_proposal_not_at_all(
    campaign: Campaign,
) -> None:
    brief = campaign.build()
    assert [(one.number, one.state, one.verdict) for one in brief.history[-2:]] == [
        (41, "measuring", None), (42, "ready", None)
    ]  # fmt: skip
    assert [one.number for one in brief.history] == list(range(1, 43))
    assert all(one.hypothesis for one in brief.history)


def test_an_experiment_that_settles_late_takes_its_place_at_the_end_of_the_settled_ones(
    campaign: Campaign,
) -> None:
    before = campaign.build().history
    end = "UPDATE experiment SET state = ?, verdict = ?, settled_at = ? WHERE number = ?"
    campaign.sql(end, "settled", "discard", 1.8e9, 42)
    after = campaign.build().history
    assert after[:40] == before[:40] and [one.number for one in after[40:]] == [42, 41]
    campaign.sql(end, "settled", "crash", 1.8e9 + 1, 41)
    assert campaign.build().history[:41] == after[:41]


def test_a_crash_comes_with_what_its_newest_failed_trial_said_last(campaign: Campaign) -> None:
    crashed = next(one.number for one in campaign.build().history if one.verdict is Verdict.CRASH)
    said = "\n".join(f"line {n}" for n in range(9)) + "\n\nZeroDivisionError: division by zero"
    campaign.sql("UPDATE trial SET detail = ? WHERE experiment = ?", said, crashed)
    found = {one.number: one for one in campaign.build().history}
    assert found[crashed].reason.startswith("crash: exit code 1")
    assert found[crashed].reason.endswith(": line 6\nline 7\nline 8\nZeroDivisionError: division by zero")
    assert all("ZeroDivision" not in one.reason for one in found.values() if one.verdict is Verdict.DISCARD)


def test_an_effect_tells_from_how_many_runs_it_comes(campaign: Campaign) -> None:
    detail = '{"estimate": 1, "low": 0, "high": 2, "n_candidate": 3, "n_incumbent": 5, "paired": true}'
    campaign.sql("UPDATE experiment SET effect = 1, effect_low = 0, effect_high = 2, effect_detail = ? WHERE number = 7",
                 detail)  # fmt: skip
    effect = campaign.build().history[6].effect
    assert effect is not None and (effect.n_candidate, effect.n_incumbent, effect.paired) == (3, 5, True)


def test_people_are_heard_in_order_and_a_rejection_with_its_reason_until_it_is_undone(campaign: Campaign) -> None:
    campaign.note("look at the data order", 10)
    campaign.decide(4, "reject", "too clever", 20)
    campaign.decide(5, "reject", "", 21)
    campaign.decide(6, "accept", "fine", 22)
    campaign.note("no new imports", 30)
    campaign.decide(7, "reject", "twice", 40)
    said = campaign.build().notes
    assert said == (
        Note("look at the data order", "ada", 1),
        Note("too clever", "ada", 0, 4),
        Note("no new imports", "ada", 2),
        Note("twice", "ada", 0, 7),
    )
    campaign.decide(7, "undo", "", 50)
    campaign.decide(4, "rerun", "2 seeds", 60)  # says nothing about the rejection
    assert campaign.build().notes == said[:3]


def test_the_incumbents_score_is_the_mean_of_runs_that_decided_nothing(campaign: Campaign) -> None:
    campaign.sql("DELETE FROM trial WHERE version = (SELECT incumbent FROM line)")
    assert campaign.build().incumbent_score is None
    for seed, purpose, score in (
        (1, "calibrate", 2.0),
        (2, "anchor", 4.0),
        (3, "confirm", 99.0),
        (4, "anchor", None),
    ):
        campaign.sql(
            "INSERT INTO trial (campaign, version, protocol, purpose, seed, priority, state, score, created_at)"
            " VALUES (1, (SELECT incumbent FROM line), 1, ?, ?, 0, 'done', ?, 0)",
            purpose, seed, score,
        )  # fmt: skip
    assert campaign.build().incumbent_score == 3.0


def test_a_long_history_takes_no_more_statements_than_a_short_one(tmp_path: Path) -> None:
    counts = []
    for experiments in (20, 300):
        campaign = Campaign(tmp_path / str(experiments), experiments)
        statements: list[str] = []
        campaign.conn.set_trace_callback(statements.append)
        brief = campaign.build()
        campaign.conn.set_trace_callback(None)
        assert len(brief.history) == experiments + 2
        counts.append(len(statements))
    assert counts[0] == counts[1] < 10, counts


def test_fingerprints_and_kinds_are_handed_on(campaign: Campaign) -> None:
    campaign.sql("UPDATE proposal SET fingerprint = 'f', kind = 'schedule' WHERE id = 3")
    one = campaign.build().history[2]
    assert (one.fingerprint, one.kind) == ("f", "schedule")


def test_a_plateau_counts_what_was_judged_since_the_last_keep() -> None:
    of = context.plateau
    discard, crash, invalid, keep = (
        past(v) for v in (Verdict.DISCARD, Verdict.CRASH, Verdict.INVALID, Verdict.KEEP)
    )
    unjudged = (past(Verdict.CANCELLED), past(None))
    assert of(()) == 0
    assert of((discard, crash, invalid)) == 3
    assert of((discard, keep)) == 0
    assert of((discard, keep, discard, *unjudged, crash)) == 2
    assert of((keep, *unjudged)) == 0


@given(st.lists(st.sampled_from([*Verdict, None])))
def test_a_plateau_is_the_length_of_the_judged_tail(verdicts: list[Verdict | None]) -> None:
    history = [past(verdict, number) for number, verdict in enumerate(verdicts, 1)]
    counted = context.plateau(history)
    last = max((i for i, verdict in enumerate(verdicts) if verdict is Verdict.KEEP), default=-1)
    tail = [one for one in verdicts[last + 1 :] if one not in (None, Verdict.CANCELLED)]
    assert counted == len(tail)
    assert context.plateau([*history, past(Verdict.DISCARD)]) == counted + 1
    assert context.plateau([replace(one, verdict=None) for one in history]) == 0


def test_the_briefs_plateau_is_that_of_its_history(campaign: Campaign) -> None:
    brief = campaign.build()
    assert brief.plateau == context.plateau(brief.history) > 0
