"""The statements by which people (and the rules that they set) decide; each one fenced transaction.

Every decision is a row with its actor, carries the revision of what was seen, and says why it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from engine import events
from engine.store import reading
from engine.store.core import Transaction
from engine.store.writes import PRIORITY, add_proposal, add_version, move, ruled
from engine.types import ExperimentState as S
from engine.types import Proposal, Purpose, TrialState, Verdict

STALE = "experiment {number} changed since you saw it (revision {found}, yours {yours}); look again"


def decided(tx: Transaction, experiment: int, action: str, actor: str, reason: str, revision: int | None) -> str:
    """An accept or reject. Returns '' when taken, else why it is refused (stale, too late)."""
    number, state, found, campaign = _state(tx, experiment)
    if revision is not None and revision != found:
        return STALE.format(number=number, found=found, yours=revision)
    if state not in (S.REVIEW, S.KEEP_REVIEW):
        return f"experiment {number} is {state}: it does not wait for a decision"
    _note(tx, campaign, experiment, number, action, actor, reason, found)
    if action == "accept":
        target = S.READY if state == S.REVIEW else S.MERGING
        move(tx, experiment, S(state), target, why=f"accepted by {actor}")
    elif state == S.REVIEW:
        why = f"rejected by {actor}" + (f": {reason}" if reason else "")
        ruled(tx, experiment, S.REVIEW, S.SETTLED, Verdict.CANCELLED, why, outcome="rejected")
    else:
        # A keep that a person refuses is an override: the judge's arithmetic stays beside it.
        keep = reading.experiment(tx.conn, campaign, number)
        assert keep is not None
        tx.execute(
            "UPDATE experiment SET verdict = ?, reason = ?, settled_at = ? WHERE id = ?",
            (
                Verdict.DISCARD,
                f"overruled by {actor}" + (f": {reason}" if reason else "") + f" (judge: {keep.reason})",
                tx.now,
                experiment,
            ),
        )
        move(tx, experiment, S.KEEP_REVIEW, S.SETTLED, why=f"rejected by {actor}")
    return ""


def undone(tx: Transaction, experiment: int, actor: str) -> str:
    """Take the newest decision about an experiment back, as long as it has not been carried out.

    Returns '' when taken back, else why not.
    """
    number, state, found, campaign = _state(tx, experiment)
    row = tx.execute(
        "SELECT action, actor FROM decision WHERE experiment = ? ORDER BY id DESC LIMIT 1", (experiment,)
    ).fetchone()
    if row is None or row[0] not in ("accept", "reject"):
        return f"nothing was decided about experiment {number} that could be undone"
    verdict, intent, trials = tx.execute(
        "SELECT verdict, intent, (SELECT COUNT(*) FROM trial WHERE experiment = e.id) FROM experiment e"
        " WHERE id = ?",
        (experiment,),
    ).fetchone()
    why = f"{row[0]} undone by {actor}"
    if row[0] == "accept" and state == S.READY and not trials:
        target = S.REVIEW
    elif row[0] == "accept" and state == S.MERGING and intent is None:
        target = S.KEEP_REVIEW
    elif row[0] == "reject" and state == S.SETTLED:
        target = S.REVIEW if verdict == Verdict.CANCELLED else S.KEEP_REVIEW
    else:
        return f"the {row[0]} of experiment {number} has been carried out already: it is {state}"
    _note(tx, campaign, experiment, number, "undo", actor, "", found)
    move(tx, experiment, S(state), target, why=why)
    keep = target == S.KEEP_REVIEW
    tx.execute(
        "UPDATE experiment SET verdict = ?, reason = ?, outcome = '', settled_at = NULL, asked_at = ?"
        " WHERE id = ?",
        (Verdict.KEEP if keep else None, why if keep else "", tx.now, experiment),
    )
    return ""


def edited(
    tx: Transaction,
    experiment: int,
    proposal: Proposal,
    candidate: str,
    diff: str,
    added: int,
    removed: int,
    actor: str,
    revision: int,
) -> str:
    """A person's changed version of a proposal that waits for review; it waits on, as edited."""
    number, state, found, campaign = _state(tx, experiment)
    if revision != found:
        return STALE.format(number=number, found=found, yours=revision)
    if state != S.REVIEW:
        return f"experiment {number} is {state}: only a proposal that waits for review can be edited"
    base, parent = tx.execute("SELECT base, proposal FROM experiment WHERE id = ?", (experiment,)).fetchone()
    row = add_proposal(tx, campaign, base, parent, proposal, diff, added, removed)
    version = add_version(tx, campaign, candidate, "candidate", base)
    tx.execute("UPDATE experiment SET proposal = ?, candidate = ? WHERE id = ?", (row, version, experiment))
    _note(tx, campaign, experiment, number, "edit", actor, "", found)
    move(tx, experiment, S.REVIEW, S.REVIEW, why=f"edited by {actor}")
    return ""


def autopilot_set(tx: Transaction, campaign: int, count: int, actor: str) -> None:
    """Accept the next ``count`` waiting proposals and keeps without asking; 0 ends it."""
    text = json.dumps({"left": count, "actor": actor}) if count > 0 else ""
    tx.execute("UPDATE campaign SET autopilot = ? WHERE id = ?", (text, campaign))
    tx.emit(campaign, events.AutopilotSet(count, actor))


def accepted_automatically(tx: Transaction, experiment: int) -> str:
    """One of the acceptances that a person gave in advance. Returns '' or why none is left."""
    campaign = _state(tx, experiment)[3]
    text = tx.execute("SELECT autopilot FROM campaign WHERE id = ?", (campaign,)).fetchone()[0]
    order = json.loads(text) if text else {"left": 0}
    if order["left"] < 1:
        return "no acceptance is left"
    refusal = decided(tx, experiment, "accept", f"{order['actor']} (in advance)", "", None)
    if not refusal:
        left = order["left"] - 1
        text = json.dumps({**order, "left": left}) if left else ""
        tx.execute("UPDATE campaign SET autopilot = ? WHERE id = ?", (text, campaign))
    return refusal


def pinned(tx: Transaction, campaign: int, experiment: int, actor: str, on: bool) -> None:
    """A mark that every console shows."""
    tx.execute("DELETE FROM mark WHERE campaign = ? AND experiment = ?", (campaign, experiment))
    if on:
        tx.insert("mark", campaign=campaign, experiment=experiment, actor=actor, created_at=tx.now)


def seeds_added(
    tx: Transaction, experiment: int, protocol: int, seeds: Sequence[int], actor: str, kind: str = ""
) -> tuple[int, str]:
    """Queue further runs of an experiment's base and candidate on the same ``seeds``, for comparison only.

    They change no verdict; ``kind`` is the hardware that they must run on. Returns how many were queued, and
    '' or why none were.
    """
    number, state, found, campaign = _state(tx, experiment)
    versions = tx.execute("SELECT base, candidate FROM experiment WHERE id = ?", (experiment,)).fetchone()
    if versions[1] is None:
        return 0, f"experiment {number} never became a candidate: there is nothing to run"
    if state in (S.REVIEW, S.READY):
        return 0, f"experiment {number} is {state}: its first runs come first"
    made = 0
    for seed in seeds:
        for version in versions:
            cursor = tx.execute(
                "INSERT OR IGNORE INTO trial (campaign, version, protocol, experiment, purpose, seed, priority,"
                " state, created_at, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    campaign,
                    version,
                    protocol,
                    experiment,
                    Purpose.COMPARE,
                    seed,
                    PRIORITY.get(Purpose.COMPARE, 3),
                    TrialState.QUEUED,
                    tx.now,
                    kind,
                ),
            )
            if cursor.rowcount:
                made += 1
                tx.emit(campaign, events.TrialQueued(int(cursor.lastrowid or 0), number, Purpose.COMPARE, seed))
    _note(tx, campaign, experiment, number, "rerun", actor, f"{len(seeds)} seeds", found)
    return made, ""


def stepped_back(
    tx: Transaction, line: int, previous: str, sha: str, incumbent: int, number: int, actor: str, reason: str
) -> str:
    """An earlier keep is in force again, as a new commit on top. Returns '' or why not (the head moved)."""
    campaign, head = tx.execute("SELECT campaign, head FROM line WHERE id = ?", (line,)).fetchone()
    if head != previous:
        return "the branch has moved meanwhile; look again"
    merging = tx.execute(
        "SELECT number FROM experiment WHERE campaign = ? AND state = ?", (campaign, S.MERGING)
    ).fetchone()
    if merging:
        return f"experiment {merging[0]} is being merged just now; ask again in a moment"
    tx.insert(
        "step_back",
        line=line,
        previous=previous,
        sha=sha,
        incumbent=incumbent,
        actor=actor,
        reason=reason,
        created_at=tx.now,
    )
    tx.execute(
        "INSERT OR IGNORE INTO version (campaign, sha, kind, parent, same_as, created_at)"
        " VALUES (?, ?, 'keep', ?, ?, ?)",
        (campaign, sha, incumbent, incumbent, tx.now),
    )
    tx.execute("UPDATE line SET head = ?, incumbent = ? WHERE id = ?", (sha, incumbent, line))
    tx.emit(campaign, events.SteppedBack(number, previous, sha, actor, reason))
    return ""


def _state(tx: Transaction, experiment: int) -> tuple[int, str, int, int]:
    row = tx.execute(
        "SELECT number, state, revision, campaign FROM experiment WHERE id = ?", (experiment,)
    ).fetchone()
    return int(row[0]), str(row[1]), int(row[2]), int(row[3])


def _note(
    tx: Transaction,
    campaign: int,
    experiment: int,
    number: int,
    action: str,
    actor: str,
    reason: str,
    revision: int,
) -> None:
    tx.insert(
        "decision",
        experiment=experiment,
        action=action,
        actor=actor,
        reason=reason,
        revision=revision,
        created_at=tx.now,
    )
    tx.emit(campaign, events.DecisionTaken(number, action, actor, reason))
