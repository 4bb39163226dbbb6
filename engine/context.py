"""History into a brief: what a proposer is told about the base version and everything tried before.

Facts only; ``engine.prompting`` turns them into Claude's words under a token budget.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from statistics import fmean

from engine.config import Config
from engine.store import reading_brief
from engine.store.reading_brief import HistoryRow
from engine.store.rows import CampaignRow, ExperimentRow
from engine.types import (
    Author,
    Brief,
    Effect,
    Failure,
    Goal,
    Note,
    PastExperiment,
    Remaining,
    Verdict,
)

DETAIL_LINES = 5  # of what a failed trial said last
_JUDGED = (Verdict.DISCARD, Verdict.CRASH, Verdict.INVALID)


class Told:
    """What earlier briefs of a campaign told of each experiment: read anew only where it changed, and shared by
    the briefs, of which there may be hundreds at once."""

    def __init__(self) -> None:
        self.by_id: dict[int, tuple[reading_brief.Mark, bool, PastExperiment]] = {}


def past(conn: sqlite3.Connection, campaign: CampaignRow, told: Told | None = None) -> tuple[PastExperiment, ...]:
    """Every experiment that became a proposal: settled ones in the order of their verdicts, then open ones."""
    known = (told or Told()).by_id
    marks = reading_brief.marks(conn, campaign.id)
    stale = {
        mark.id for mark in marks if mark.id not in known or known[mark.id][:2] != (mark, _on(mark.base, campaign))
    }
    changed = {row.id: row for row in reading_brief.history(conn, campaign.id, stale)} if stale else {}
    for mark in marks:
        if mark.id in stale:
            known[mark.id] = (mark, _on(mark.base, campaign), _past(changed[mark.id], campaign))
    return tuple(known[mark.id][2] for mark in marks)


def _on(base: int, campaign: CampaignRow) -> bool:
    return base == campaign.incumbent


def _past(row: HistoryRow, campaign: CampaignRow) -> PastExperiment:
    effect = None
    if row.effect is not None and row.effect_low is not None and row.effect_high is not None:
        effect = Effect(
            row.effect,
            row.effect_low,
            row.effect_high,
            int(row.effect_detail.get("n_candidate", 0)),
            int(row.effect_detail.get("n_incumbent", 0)),
            bool(row.effect_detail.get("paired", False)),
        )
    settled = row.verdict if row.state == "settled" else None
    return PastExperiment(
        number=row.number,
        title=row.title,
        author=Author(row.author),
        verdict=Verdict(settled) if settled else None,
        score=row.score,
        effect=effect,
        parameters=row.parameters,
        on_incumbent=_on(row.base, campaign),
        hypothesis=row.hypothesis,
        reason=_reason(row),
        kind=row.kind,
        state=row.state,
        author_detail=row.author_detail,
        fingerprint=row.fingerprint,
        outcome=row.outcome,
    )


def _reason(row: HistoryRow) -> str:
    """The verdict's words, and behind a crash what the trial said last."""
    last = "\n".join(line for line in row.detail.splitlines()[-DETAIL_LINES:] if line.strip())
    return row.reason if not last or last in row.reason else f"{row.reason}: {last}"


def plateau(history: Iterable[PastExperiment]) -> int:
    """Proposals judged since the last keep. Open and cancelled ones were not judged and do not count."""
    count = 0
    for experiment in history:
        if experiment.verdict is Verdict.KEEP:
            count = 0
        elif experiment.verdict in _JUDGED:
            count += 1
    return count


def incumbent_score(conn: sqlite3.Connection, campaign: CampaignRow) -> float | None:
    """Mean of the incumbent's runs that took no part in a decision about it."""
    scores = reading_brief.incumbent_scores(conn, campaign.incumbent, campaign.protocol)
    return fmean(scores) if scores else None


def build(
    conn: sqlite3.Connection,
    campaign: CampaignRow,
    experiment: ExperimentRow,
    config: Config,
    files: Mapping[str, bytes],
    checkout: str = "",
    *,
    remaining: Remaining | None = None,
    failure: Failure | None = None,
    told: Told | None = None,
) -> Brief:
    """The brief of ``experiment``. ``files`` are the incumbent's; the caller knows what remains of the limits,
    and what failed when this one is to mend it."""
    history = past(conn, campaign, told)
    return Brief(
        campaign=campaign.name,
        number=experiment.number,
        seed=campaign.seed,
        base=campaign.incumbent_sha,
        goal=Goal(campaign.goal),
        metric=campaign.metric,
        files=files,
        editable=tuple(config.project.edit),
        history=history,
        incumbent_score=incumbent_score(conn, campaign),
        noise=campaign.calibration["sigma"] if campaign.calibration else None,
        checkout=checkout,
        notes=tuple(Note(r.text, r.actor, r.id, r.number) for r in reading_brief.said(conn, campaign.id)),
        experiment=experiment.id,
        context=tuple(config.project.context),
        frozen=tuple(config.project.frozen),
        # A budget in steps is not one in seconds: then the project's own files say what a run may use.
        trial_seconds=0.0 if config.trial.steps else float(config.trial.train_seconds),
        constraints=tuple(config.metric.constraints),
        plateau=plateau(history),
        plateau_after=config.proposer.plateau,
        remaining=remaining or Remaining(),
        failure=failure,
    )
