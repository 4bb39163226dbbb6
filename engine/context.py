"""History into a brief: what a proposer is told about the base version and everything tried before.

Claude's prompt (its token budget, fences, caching) will grow from here; for now the brief is data.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from statistics import fmean

from engine.config import Config
from engine.store import reading
from engine.store.reading import CampaignRow, ExperimentRow
from engine.types import Author, Brief, Effect, Goal, PastExperiment, Purpose, Verdict

HISTORY_LIMIT = 2000


def past(conn: sqlite3.Connection, campaign: CampaignRow) -> tuple[PastExperiment, ...]:
    """Every earlier experiment that became a proposal, oldest first."""
    rows = reading.experiments(conn, campaign.id, last=HISTORY_LIMIT)
    return tuple(_past(r, campaign) for r in rows if r.candidate is not None)


def _past(row: ExperimentRow, campaign: CampaignRow) -> PastExperiment:
    effect = None
    if row.effect is not None and row.effect_low is not None and row.effect_high is not None:
        effect = Effect(row.effect, row.effect_low, row.effect_high, 0, 0)
    settled = row.verdict if row.state == "settled" else None
    return PastExperiment(
        number=row.number,
        title=row.title,
        author=Author(row.author),
        verdict=Verdict(settled) if settled else None,
        score=row.score,
        effect=effect,
        parameters=row.parameters,
        on_incumbent=row.base == campaign.incumbent,
    )


def incumbent_score(conn: sqlite3.Connection, campaign: CampaignRow) -> float | None:
    """Mean of the incumbent's runs that took no part in a decision about it."""
    runs = [
        t.score
        for t in reading.trials(conn, campaign.id, version=campaign.incumbent)
        if t.score is not None
        and t.protocol == campaign.protocol
        and t.purpose in (Purpose.CALIBRATE, Purpose.ANCHOR)
    ]
    return fmean(runs) if runs else None


def build(
    conn: sqlite3.Connection,
    campaign: CampaignRow,
    experiment: ExperimentRow,
    config: Config,
    files: Mapping[str, bytes],
    checkout: str = "",
) -> Brief:
    return Brief(
        campaign=campaign.name,
        number=experiment.number,
        seed=campaign.seed,
        base=campaign.incumbent_sha,
        goal=Goal(campaign.goal),
        metric=campaign.metric,
        files=files,
        editable=tuple(config.project.edit),
        history=past(conn, campaign),
        incumbent_score=incumbent_score(conn, campaign),
        noise=campaign.calibration["sigma"] if campaign.calibration else None,
        checkout=checkout,
    )
