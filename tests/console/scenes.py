"""Rows and states for the console's pure tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from console.state import Detail, Listed, State
from engine.inbox import Request
from engine.store.rows import CampaignRow, EngineRow, ExperimentRow, TrialRow

NOW = 1_750_000_000.0

CAMPAIGN = CampaignRow(
    id=1, name="november", metric="val_bpb", goal="minimize", seed=1, state="running", pause_reason="", pause_mend="",
    protocol=1, active_seconds=3600.0, limits={"experiments": 100, "hours": 10, "experiments_before": 0},
    created_at=NOW - 4000, calibration={"mean": 3.2, "sigma": 0.01, "n": 5}, line=1, baseline=1, baseline_sha="b",
    head="b", incumbent=1, incumbent_sha="b",
)  # fmt: skip
ENGINE = EngineRow(1, "box", "boot", 7, NOW - 4000, NOW - 1, None)
EXPERIMENT = ExperimentRow(
    id=11, number=1, state="settled", author="search", author_detail="tpe", title="a title", hypothesis="because",
    expected_effect="", parameters={}, verdict="discard", reason="screen", arithmetic=("noise: sigma 0.01",),
    effect=-0.01, effect_low=-0.03, effect_high=0.01, score=3.21, stage="screen", revision=3, base=1, base_sha="b",
    candidate=2, candidate_sha="c", merged=None, intent=None, added=2, removed=1, commit=None, created_at=NOW - 100,
    updated_at=NOW - 50, settled_at=NOW - 50,
)  # fmt: skip
TRIAL = TrialRow(
    id=5, number=1, experiment=11, version=2, sha="c", protocol=1, purpose="screen", seed=7, priority=2,
    state="running", outcome=None, detail="", score=None, hardware="", host="local", seconds=0.0, created_at=NOW - 60,
    started_at=NOW - 50, ended_at=None, attempts=1, slot="cpu0", directory="trials/5/attempt-1",
)  # fmt: skip


def row(number: int, state: str = "settled", **more: Any) -> Listed:
    verdict = "discard" if state == "settled" else None
    base = Listed(number, 10 + number, state, "search", f"title {number}", verdict, None, None, None, "", 3,
                  NOW - 1000 + number if state == "settled" else None)  # fmt: skip
    return replace(base, **more)


def state(*rows: Listed, **more: Any) -> State:
    base = State(
        campaign=CAMPAIGN, engine=ENGINE, alive=True, counts={"discard": len(rows)}, counted=len(rows),
        listed={r.number: r for r in rows}, newest=max((r.number for r in rows), default=0),
    )  # fmt: skip
    return replace(base, **more)


def detail(number: int, **more: Any) -> Detail:
    found = replace(EXPERIMENT, id=10 + number, number=number, **more)
    return Detail(found, ("--- a/x", "+++ b/x", "@@ -1 +1 @@", "-a", "+b"), ())


def request(kind: str = "accept", state: str = "waiting", id: int = 1, **args: Any) -> Request:
    return Request(id, NOW, "ada", kind, args, state, "")
