"""The statements that change the store. Each runs inside one fenced transaction (``Store.write``) and emits the
events that tell of it. Safe to repeat: whoever restarts calls again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from engine import events
from engine.errors import MovedOn
from engine.store.core import Transaction
from engine.types import (
    Author,
    Effect,
    ExperimentState,
    Message,
    Proposal,
    Purpose,
    TrialState,
    Verdict,
)

# Lower runs first: what a decision waits for goes before what opens a new question.
PRIORITY: Mapping[Purpose, int] = {
    Purpose.CALIBRATE: 0,
    Purpose.ANCHOR: 1,
    Purpose.CONFIRM: 1,
    Purpose.SCREEN: 2,
}


# --- engine and campaign ----------------------------------------------------------------------------


def engine_started(tx: Transaction, host: str, pid: int) -> None:
    tx.emit(None, events.EngineStarted(tx.epoch, host, pid))


def engine_stopped(tx: Transaction, reason: str) -> None:
    tx.execute("UPDATE fence SET ended_at = ?", (tx.now,))
    tx.emit(None, events.EngineStopped(tx.epoch, reason))


def beat(tx: Transaction, campaign: int, seconds: float) -> None:
    """The engine lives; ``seconds`` of work since the last beat count towards ``limits.hours``."""
    tx.execute("UPDATE fence SET beat_at = ?", (tx.now,))
    tx.execute("UPDATE campaign SET active_seconds = active_seconds + ? WHERE id = ?", (seconds, campaign))


def create_campaign(
    tx: Transaction, name: str, metric: str, goal: str, seed: int, baseline: str, line: str = "main"
) -> int:
    """A campaign with its baseline version and its one line. Returns the id; an existing one is returned."""
    row = tx.execute("SELECT id FROM campaign WHERE name = ?", (name,)).fetchone()
    if row:
        return int(row[0])
    campaign = tx.insert(
        "campaign", name=name, metric=metric, goal=goal, seed=seed, state="running", created_at=tx.now
    )
    version = tx.insert("version", campaign=campaign, sha=baseline, kind="baseline", created_at=tx.now)
    tx.insert("line", campaign=campaign, name=line, baseline=version, head=baseline, incumbent=version)
    tx.emit(campaign, events.CampaignCreated(name, baseline, seed))
    return campaign


def set_limits(tx: Transaction, campaign: int, limits: Mapping[str, Any]) -> None:
    tx.execute("UPDATE campaign SET limits = ? WHERE id = ?", (json.dumps(dict(limits)), campaign))


def set_campaign_state(
    tx: Transaction, campaign: int, state: str, reason: str = "", mend: str = "", by: str = "engine"
) -> bool:
    """running, paused or finished. Returns False when it is that already (no second event)."""
    row = tx.execute("SELECT state, pause_reason FROM campaign WHERE id = ?", (campaign,)).fetchone()
    if row == (state, reason) or (row[0] == state == "running"):
        return False
    tx.execute(
        "UPDATE campaign SET state = ?, pause_reason = ?, pause_mend = ? WHERE id = ?",
        (state, reason, mend, campaign),
    )
    event: events.Event = events.CampaignResumed(by)
    if state == "paused":
        event = events.CampaignPaused(reason, mend)
    elif state == "finished":
        event = events.CampaignFinished(reason)
    tx.emit(campaign, event)
    return True


def open_protocol(
    tx: Transaction, campaign: int, key: str, spec: str, config_sha: str, config_text: str, why: str
) -> int:
    """The protocol with ``key``, made if need be, becomes the one in force."""
    tx.execute(
        "INSERT OR IGNORE INTO config (sha256, text, created_at) VALUES (?, ?, ?)",
        (config_sha, config_text, tx.now),
    )
    config = tx.execute("SELECT id FROM config WHERE sha256 = ?", (config_sha,)).fetchone()[0]
    row = tx.execute("SELECT id FROM protocol WHERE campaign = ? AND key = ?", (campaign, key)).fetchone()
    if row:
        protocol = int(row[0])
    else:
        protocol = tx.insert("protocol", campaign=campaign, key=key, spec=spec, config=config, created_at=tx.now)
        tx.emit(campaign, events.ProtocolOpened(protocol, why))
    tx.execute("UPDATE campaign SET protocol = ? WHERE id = ?", (protocol, campaign))
    return protocol


def calibrated(tx: Transaction, campaign: int, protocol: int, calibration: Mapping[str, Any]) -> None:
    tx.execute("UPDATE protocol SET calibration = ? WHERE id = ?", (json.dumps(dict(calibration)), protocol))
    tx.emit(
        campaign,
        events.Calibrated(
            protocol,
            calibration["mean"],
            calibration["sigma"],
            calibration["n"],
            tuple(calibration.get("notes", ())),
        ),
    )


def warn(tx: Transaction, campaign: int | None, message: str, mend: str = "") -> None:
    tx.emit(campaign, events.Warned(message, mend))


# --- experiments ------------------------------------------------------------------------------------


def new_experiment(tx: Transaction, campaign: int, author: Author, repairs: int | None = None) -> int:
    """An experiment in ``drafting`` against the incumbent; ``repairs`` is the failed one that it is to mend.

    Returns its row id.
    """
    line, incumbent = tx.execute(
        "SELECT id, incumbent FROM line WHERE campaign = ? ORDER BY id LIMIT 1", (campaign,)
    ).fetchone()
    number = tx.execute(
        "SELECT COALESCE(MAX(number), 0) + 1 FROM experiment WHERE campaign = ?", (campaign,)
    ).fetchone()[0]
    return tx.insert(
        "experiment",
        campaign=campaign,
        line=line,
        number=number,
        state=ExperimentState.DRAFTING,
        author=author,
        base=incumbent,
        repairs=repairs,
        created_at=tx.now,
        updated_at=tx.now,
    )


def redrafted_by(tx: Transaction, experiment: int, author: Author) -> None:
    """Another author than the row was made for drafts it, as a proposal of its own."""
    tx.execute("UPDATE experiment SET author = ?, repairs = NULL WHERE id = ?", (author, experiment))


def add_stream(tx: Transaction, experiment: int, items: Sequence[tuple[str, str]]) -> None:
    for channel, text in items:
        tx.insert("stream", experiment=experiment, at=tx.now, channel=channel, text=text)


def forget_streams(tx: Transaction, campaign: int, keep: int) -> None:
    """Drop what settled experiments streamed, but for the newest ``keep``; their transcripts stay."""
    tx.execute(
        "DELETE FROM stream WHERE experiment IN (SELECT id FROM experiment"
        " WHERE campaign = ? AND state = 'settled' ORDER BY id DESC LIMIT -1 OFFSET ?)",
        (campaign, keep),
    )


def add_transcript(tx: Transaction, experiment: int, messages: Sequence[Message]) -> None:
    """The next messages of a draft's conversation."""
    seq = tx.execute(
        "SELECT COALESCE(MAX(seq), -1) + 1 FROM transcript WHERE experiment = ?", (experiment,)
    ).fetchone()[0]
    for number, message in enumerate(messages, seq):
        tx.insert(
            "transcript",
            experiment=experiment,
            seq=number,
            role=message.role,
            content=json.dumps(message.content, ensure_ascii=False),
            at=tx.now,
        )


def add_note(tx: Transaction, campaign: int, text: str, actor: str) -> int:
    """What a person tells the proposer; it waits for the next brief."""
    note = tx.insert("note", campaign=campaign, text=text, actor=actor, created_at=tx.now)
    tx.emit(campaign, events.Steered(note, text, actor))
    return note


def notes_used(tx: Transaction, experiment: int, notes: Sequence[int]) -> None:
    """The brief of ``experiment`` carried these notes; the first that did is remembered."""
    for note in notes:
        changed = tx.execute(
            "UPDATE note SET used_by = ?, used_at = ? WHERE id = ? AND used_by IS NULL",
            (experiment, tx.now, note),
        ).rowcount
        if changed:
            campaign, number = tx.execute(
                "SELECT campaign, number FROM experiment WHERE id = ?", (experiment,)
            ).fetchone()
            tx.emit(campaign, events.NoteUsed(note, number))


def plateau(tx: Transaction, campaign: int, proposals: int) -> None:
    tx.emit(campaign, events.Plateau(proposals))


def proposal_stored(
    tx: Transaction,
    experiment: int,
    base: int,
    proposal: Proposal,
    candidate: str,
    diff: str,
    added: int,
    removed: int,
    target: ExperimentState,
    asked: str = "",
) -> int | None:
    """The draft is a proposal with a candidate commit; the experiment goes on to ``target``.

    ``asked``: the rule by which a person is asked, when ``target`` is review. Where another experiment is the same
    program already, this one is settled as its duplicate, and that one's number is returned: only here, in one
    transaction, do drafts that were handed in at once see each other.
    """
    campaign, parent = tx.execute(
        "SELECT e.campaign, r.proposal FROM experiment e LEFT JOIN experiment r ON r.id = e.repairs"
        " WHERE e.id = ?",
        (experiment,),
    ).fetchone()
    twin = tx.execute(
        "SELECT e.number FROM experiment e JOIN proposal p ON p.id = e.proposal WHERE p.campaign = ?"
        " AND p.fingerprint = ? AND p.fingerprint <> '' AND e.id <> ? ORDER BY e.number LIMIT 1",
        (campaign, proposal.fingerprint, experiment),
    ).fetchone()
    if twin is not None:
        why = f"no proposal (duplicate): the same program as #{twin[0]}, handed in at the same time"
        source, settled = ExperimentState.DRAFTING, ExperimentState.SETTLED
        ruled(tx, experiment, source, settled, Verdict.CANCELLED, why, outcome="duplicate")
        return int(twin[0])
    row = add_proposal(tx, campaign, base, parent, proposal, diff, added, removed)
    version = add_version(tx, campaign, candidate, "candidate", base)
    tx.execute(
        "UPDATE experiment SET proposal = ?, candidate = ?, base = ?, asked = ?, asked_at = ? WHERE id = ?",
        (row, version, base, asked, tx.now if target is ExperimentState.REVIEW else None, experiment),
    )
    move(tx, experiment, ExperimentState.DRAFTING, target)
    return None


def add_proposal(
    tx: Transaction,
    campaign: int,
    base: int,
    parent: int | None,
    proposal: Proposal,
    diff: str,
    added: int,
    removed: int,
) -> int:
    """The row of a proposal; ``parent``: the one that it repairs or was edited from."""
    return tx.insert(
        "proposal",
        campaign=campaign,
        base=base,
        parent=parent,
        refuted_by=proposal.refuted_by,
        kind=proposal.kind,
        fingerprint=proposal.fingerprint,
        author=proposal.author,
        author_detail=proposal.author_detail,
        title=proposal.title,
        hypothesis=proposal.hypothesis,
        expected_effect=proposal.expected_effect,
        parameters=json.dumps(dict(proposal.parameters)),
        diff=diff,
        added=added,
        removed=removed,
        created_at=tx.now,
    )


def add_version(tx: Transaction, campaign: int, sha: str, kind: str, parent: int) -> int:
    """The row of a commit, made if need be; returns its id."""
    tx.execute(
        "INSERT OR IGNORE INTO version (campaign, sha, kind, parent, created_at) VALUES (?, ?, ?, ?, ?)",
        (campaign, sha, kind, parent, tx.now),
    )
    return int(tx.execute("SELECT id FROM version WHERE campaign = ? AND sha = ?", (campaign, sha)).fetchone()[0])


def rebased(
    tx: Transaction,
    experiment: int,
    source: ExperimentState,
    base: int,
    candidate: str,
    diff: str,
    why: str,
) -> None:
    """The proposal was merged onto a newer incumbent: it is to be measured anew, as merged."""
    campaign = tx.execute("SELECT campaign FROM experiment WHERE id = ?", (experiment,)).fetchone()[0]
    version = add_version(tx, campaign, candidate, "merged", base)
    move(tx, experiment, source, ExperimentState.READY, why=why)
    tx.execute(
        "UPDATE experiment SET base = ?, candidate = ?, merged = ?, stage = '', score = NULL, verdict = NULL"
        " WHERE id = ?",
        (base, version, version, experiment),
    )
    tx.execute(
        "UPDATE proposal SET diff = ? WHERE id = (SELECT proposal FROM experiment WHERE id = ?)",
        (diff, experiment),
    )


def move(
    tx: Transaction,
    experiment: int,
    source: ExperimentState,
    target: ExperimentState,
    *,
    why: str = "",
    stage: str | None = None,
    intent: str | None = None,
) -> None:
    """One transition; refuses when the experiment is not in ``source`` any more."""
    row = tx.execute(
        "SELECT e.campaign, e.number, e.state, COALESCE(p.title, '') FROM experiment e"
        " LEFT JOIN proposal p ON p.id = e.proposal WHERE e.id = ?",
        (experiment,),
    ).fetchone()
    campaign, number, state, title = row
    if state != source:
        raise MovedOn(f"experiment {number} is {state}, not {source}")
    tx.execute(
        "UPDATE experiment SET state = ?, stage = COALESCE(?, stage), intent = ?, revision = revision + 1,"
        " updated_at = ? WHERE id = ?",
        (target, stage, intent, tx.now, experiment),
    )
    tx.emit(campaign, events.ExperimentMoved(number, source, target, title, why))


def queue_trials(
    tx: Transaction,
    campaign: int,
    protocol: int,
    wanted: Iterable[tuple[int, Purpose, int] | tuple[int, Purpose, int, str]],
    *,
    experiment: int | None = None,
    source: ExperimentState | None = None,
    stage: str = "",
) -> list[int]:
    """Queue (version, purpose, seed) where no such trial exists; an ``experiment`` goes from ``source`` to
    measuring. A fourth word is the kind of hardware that it must run on. Returns the new trials' ids."""
    number = None
    if experiment is not None and source is not None:
        number = tx.execute("SELECT number FROM experiment WHERE id = ?", (experiment,)).fetchone()[0]
        move(tx, experiment, source, ExperimentState.MEASURING, stage=stage)
    made = []
    for version, purpose, seed, *kind in wanted:
        cursor = tx.execute(
            "INSERT OR IGNORE INTO trial (campaign, version, protocol, experiment, purpose, seed, priority,"
            " state, created_at, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                campaign,
                version,
                protocol,
                experiment,
                purpose,
                seed,
                PRIORITY.get(purpose, 3),
                TrialState.QUEUED,
                tx.now,
                kind[0] if kind else "",
            ),
        )
        if cursor.rowcount:
            trial = int(cursor.lastrowid or 0)
            made.append(trial)
            tx.emit(campaign, events.TrialQueued(trial, number, purpose, seed))
    return made


def ruled(
    tx: Transaction,
    experiment: int,
    source: ExperimentState,
    target: ExperimentState,
    verdict: Verdict,
    reason: str,
    effect: Effect | None = None,
    arithmetic: Sequence[str] = (),
    score: float | None = None,
    outcome: str = "",
) -> None:
    """A verdict with its arithmetic; ``target`` is settled, or keep_review / merging for a keep.

    ``outcome`` names a draft's end without a proposal (``types.NoProposal``).
    """
    settled = tx.now if target is ExperimentState.SETTLED else None
    waits = tx.now if target is ExperimentState.KEEP_REVIEW else None
    tx.execute("UPDATE experiment SET outcome = ?, asked_at = ? WHERE id = ?", (outcome, waits, experiment))
    tx.execute(
        "UPDATE experiment SET verdict = ?, reason = ?, arithmetic = ?, effect = ?, effect_low = ?,"
        " effect_high = ?, effect_detail = ?, score = COALESCE(?, score), settled_at = ? WHERE id = ?",
        (
            verdict,
            reason,
            json.dumps(list(arithmetic)),
            effect.estimate if effect else None,
            effect.low if effect else None,
            effect.high if effect else None,
            json.dumps(asdict(effect)) if effect else None,
            score,
            settled,
            experiment,
        ),
    )
    campaign, number, title = tx.execute(
        "SELECT e.campaign, e.number, COALESCE(p.title, '') FROM experiment e"
        " LEFT JOIN proposal p ON p.id = e.proposal WHERE e.id = ?",
        (experiment,),
    ).fetchone()
    tx.emit(
        campaign,
        events.VerdictGiven(
            number,
            title,
            verdict,
            reason,
            effect.estimate if effect else None,
            effect.low if effect else None,
            effect.high if effect else None,
        ),
    )
    move(tx, experiment, source, target)


def merge_intended(tx: Transaction, experiment: int, intent: Mapping[str, Any]) -> None:
    tx.execute("UPDATE experiment SET intent = ? WHERE id = ?", (json.dumps(dict(intent)), experiment))


def merged(tx: Transaction, experiment: int, previous: str, sha: str, note: str, source: ExperimentState) -> None:
    """The branch moved: the keep, the line's head and incumbent, and the settlement, all at once."""
    campaign, line, number, candidate = tx.execute(
        "SELECT campaign, line, number, candidate FROM experiment WHERE id = ?", (experiment,)
    ).fetchone()
    tx.execute(
        "INSERT OR IGNORE INTO keep (line, experiment, previous, sha, created_at) VALUES (?, ?, ?, ?, ?)",
        (line, experiment, previous, sha, tx.now),
    )
    tx.execute(
        "INSERT OR IGNORE INTO version (campaign, sha, kind, parent, same_as, created_at)"
        " VALUES (?, ?, 'keep', ?, ?, ?)",
        (campaign, sha, candidate, candidate, tx.now),
    )
    tx.execute("UPDATE line SET head = ?, incumbent = ? WHERE id = ?", (sha, candidate, line))
    tx.execute("UPDATE experiment SET settled_at = ? WHERE id = ?", (tx.now, experiment))
    tx.emit(campaign, events.RatchetAdvanced(number, previous, sha, note))
    move(tx, experiment, source, ExperimentState.SETTLED)


# --- requests and configuration --------------------------------------------------------------------


def request_answered(tx: Transaction, campaign: int, request: int, kind: str, outcome: str) -> None:
    tx.emit(campaign, events.RequestAnswered(request, kind, outcome))


def config_taken_up(
    tx: Transaction, campaign: int, key: str, spec: str, config_sha: str, config_text: str, what: str
) -> None:
    """A changed ratchet.toml: its text is kept, and its protocol is in force."""
    open_protocol(tx, campaign, key, spec, config_sha, config_text, what)
    tx.emit(campaign, events.ConfigReloaded(what))
