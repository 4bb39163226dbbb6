"""What happens to trials and their attempts, written: intent, evidence, end. Each statement runs inside one fenced
transaction (``Store.write``) and is safe to repeat."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from engine import events
from engine.series import SeriesChange
from engine.store import spending
from engine.store.core import Transaction
from engine.types import Allocation, AttemptState, Score, TrialOutcome, TrialState


def new_attempt(
    tx: Transaction,
    trial: int,
    allocation: Allocation,
    containment: str,
    directory: str,
    seconds: float = 0.0,
    cap: int | None = None,
) -> int:
    """The intent to run: an attempt with its token and allocation, before anything happens on the host.

    ``directory`` may hold ``{attempt}``. An attempt that is already open is returned as it is. What ``seconds``,
    the longest it may take, cost on the allocation is set aside: OverBudget when that passes ``cap``.
    """
    row = tx.execute(
        "SELECT id FROM attempt WHERE trial = ? AND state NOT IN (?, ?)",
        (trial, AttemptState.ENDED, AttemptState.LOST),
    ).fetchone()
    if row:
        return int(row[0])
    spending.device_started(tx, trial, allocation, seconds, cap)
    number = tx.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM attempt WHERE trial = ?", (trial,)).fetchone()[0]
    attempt = tx.insert(
        "attempt",
        trial=trial,
        number=number,
        epoch=tx.epoch,
        token=secrets.token_hex(16),
        directory=directory.format(attempt=number),
        host=allocation.host,
        slot=allocation.slot,
        allocation=json.dumps(asdict(allocation)),
        containment=containment,
        state=AttemptState.STAGED,
        created_at=tx.now,
    )
    tx.execute("UPDATE trial SET state = ?, host = ? WHERE id = ?", (TrialState.LAUNCHING, allocation.host, trial))
    return attempt


def attempt_launched(tx: Transaction, attempt: int) -> None:
    tx.execute(
        "UPDATE attempt SET state = ? WHERE id = ? AND state = ?",
        (AttemptState.LAUNCHED, attempt, AttemptState.STAGED),
    )


def attempt_started(tx: Transaction, campaign: int, trial: int, attempt: int, slot: str, identity: str) -> None:
    """Positive evidence that the job runs. Its points are read anew from the log's first byte."""
    number = tx.execute("SELECT number FROM attempt WHERE id = ?", (attempt,)).fetchone()[0]
    changed = tx.execute(
        "UPDATE attempt SET state = ?, identity = ?, started_at = COALESCE(started_at, ?)"
        " WHERE id = ? AND state <> ?",
        (AttemptState.RUNNING, identity, tx.now, attempt, AttemptState.RUNNING),
    ).rowcount
    tx.execute(
        "UPDATE trial SET state = ?, started_at = COALESCE(started_at, ?) WHERE id = ?",
        (TrialState.RUNNING, tx.now, trial),
    )
    tx.execute("DELETE FROM point WHERE trial = ?", (trial,))
    if changed:
        tx.emit(campaign, events.TrialStarted(trial, number, slot, identity))


def attempt_unknown(tx: Transaction, attempt: int) -> None:
    tx.execute("UPDATE attempt SET state = ? WHERE id = ?", (AttemptState.UNKNOWN, attempt))


def attempt_reached(tx: Transaction, attempt: int) -> None:
    """Its host answers again: it is what it was before nobody knew."""
    tx.execute(
        "UPDATE attempt SET state = CASE WHEN identity = '' THEN ? ELSE ? END WHERE id = ? AND state = ?",
        (AttemptState.LAUNCHED, AttemptState.RUNNING, attempt, AttemptState.UNKNOWN),
    )


def attempt_scheduled(tx: Transaction, attempt: int, words: str) -> None:
    """Where a batch system has it, in its own words; its end overwrites them."""
    tx.execute("UPDATE attempt SET reason = ? WHERE id = ?", (words, attempt))


def attempt_cleared(tx: Transaction, attempt: int) -> None:
    tx.execute("UPDATE attempt SET cleared = ? WHERE id = ?", (tx.now, attempt))


def attempt_lost(
    tx: Transaction,
    campaign: int,
    trial: int,
    attempt: int,
    reason: str,
    *,
    retry: bool,
    seconds: float | None = None,
    outcome: TrialOutcome = TrialOutcome.LOST,
    detail: str = "",
) -> None:
    """The attempt is gone without an exit: the trial queues for another one, or ends as ``outcome``.

    It held its allocation for ``seconds`` at most; None: nobody knows.
    """
    tx.execute(
        "UPDATE attempt SET state = ?, reason = ?, ended_at = ? WHERE id = ?",
        (AttemptState.LOST, reason, tx.now, attempt),
    )
    number = tx.execute("SELECT number FROM attempt WHERE id = ?", (attempt,)).fetchone()[0]
    tx.emit(campaign, events.AttemptLost(trial, number, reason))
    spending.device_ended(tx, trial, seconds, reason, at_most=True)
    tx.execute("DELETE FROM point WHERE trial = ?", (trial,))
    if retry:
        tx.execute("UPDATE trial SET state = ? WHERE id = ?", (TrialState.QUEUED, trial))
    else:
        _end_trial(tx, campaign, trial, outcome, None, detail or f"lost: {reason}", 0.0, "")


def attempt_withdrawn(
    tx: Transaction, trial: int, attempt: int, reason: str, seconds: float | None = None
) -> None:
    """The attempt ended for a reason that is not the trial's (engine stopped, device busy): queue again.

    It held its allocation for ``seconds``; None: nobody knows.
    """
    tx.execute(
        "UPDATE attempt SET state = ?, reason = ?, ended_at = ? WHERE id = ?",
        (AttemptState.ENDED, reason, tx.now, attempt),
    )
    spending.device_ended(tx, trial, seconds, reason)
    tx.execute("DELETE FROM point WHERE trial = ?", (trial,))
    tx.execute(
        "UPDATE trial SET state = ? WHERE id = ? AND state <> ?", (TrialState.QUEUED, trial, TrialState.DONE)
    )


def trial_ended(
    tx: Transaction,
    campaign: int,
    trial: int,
    attempt: int,
    outcome: TrialOutcome,
    objective: float | None,
    detail: str,
    scores: Sequence[Score],
    reason: str,
    steps: Sequence[Mapping[str, Any]],
    seconds: float,
    peak_memory: int,
    hardware: str,
    tail: str = "",
    joules: float | None = None,
) -> None:
    """Everything that a finished attempt brought, in one transaction. ``tail``: a failed one's last output."""
    tx.execute("UPDATE trial SET tail = ? WHERE id = ?", (tail, trial))
    tx.execute(
        "UPDATE attempt SET state = ?, reason = ?, steps = ?, peak_memory = ?, ended_at = ? WHERE id = ?",
        (AttemptState.ENDED, reason, json.dumps([dict(s) for s in steps]), peak_memory, tx.now, attempt),
    )
    spending.device_ended(tx, trial, seconds, joules=joules)
    for score in scores:
        tx.execute(
            "INSERT OR REPLACE INTO score (trial, name, split, source, value) VALUES (?, ?, ?, ?, ?)",
            (trial, score.name, score.split, score.source, score.value),
        )
    _end_trial(tx, campaign, trial, outcome, objective, detail, seconds, hardware)


def trial_dropped(tx: Transaction, campaign: int, trial: int, detail: str) -> None:
    """A queued trial that nobody needs any more."""
    _end_trial(tx, campaign, trial, TrialOutcome.CANCELLED, None, detail, 0.0, "")


def _end_trial(
    tx: Transaction,
    campaign: int,
    trial: int,
    outcome: TrialOutcome,
    objective: float | None,
    detail: str,
    seconds: float,
    hardware: str,
) -> None:
    tx.execute(
        "UPDATE trial SET state = ?, outcome = ?, score = ?, detail = ?, seconds = ?, hardware = ?,"
        " ended_at = ? WHERE id = ?",
        (TrialState.DONE, outcome, objective, detail, seconds, hardware, tx.now, trial),
    )
    experiment, purpose, number = tx.execute(
        "SELECT t.experiment, t.purpose, e.number FROM trial t LEFT JOIN experiment e ON e.id = t.experiment"
        " WHERE t.id = ?",
        (trial,),
    ).fetchone()
    if experiment is not None:
        tx.execute(
            "UPDATE experiment SET updated_at = ?, score = (SELECT AVG(t.score) FROM trial t"
            " WHERE t.experiment = ? AND t.version = experiment.candidate AND t.score IS NOT NULL)"
            " WHERE id = ?",
            (tx.now, experiment, experiment),
        )
    tx.emit(campaign, events.TrialEnded(trial, number, purpose, outcome, objective, seconds, detail))


def add_points(tx: Transaction, trial: int, changes: Sequence[SeriesChange]) -> None:
    """New rows of the trial's series; ``rewrite`` replaces a series after it was decimated."""
    for change in changes:
        if change.rewrite:
            tx.execute("DELETE FROM point WHERE trial = ? AND series = ?", (trial, change.series))
        first = tx.execute(
            "SELECT COALESCE(MAX(seq), -1) + 1 FROM point WHERE trial = ? AND series = ?",
            (trial, change.series),
        ).fetchone()[0]
        tx.conn.executemany(
            "INSERT INTO point (trial, series, seq, step, value, at) VALUES (?, ?, ?, ?, ?, ?)",
            [(trial, change.series, first + i, p.step, p.value, p.at) for i, p in enumerate(change.rows)],
        )
