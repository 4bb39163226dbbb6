"""What `--json` prints, and `export`: docs/json.md describes every field, a test compares the two."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.store import reading, reading_money
from engine.store.reading import Reader
from engine.store.reading_money import Money, Used
from engine.store.rows import CampaignRow, ExperimentRow, TrialRow


def dumps(data: object, indent: int | None = None) -> str:
    """JSON without NaN or infinity, which JSON does not have: they become null.

    Compact unless ``indent`` is given: a history of 10,000 experiments is read by programs, not by eyes.
    """
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(data, separators=separators, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(data), separators=separators, indent=indent, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


# field as printed -> attribute of ExperimentRow
EXPERIMENT = {
    "number": "number",
    "state": "state",
    "verdict": "verdict",
    "reason": "reason",
    "author": "author",
    "title": "title",
    "hypothesis": "hypothesis",
    "score": "score",
    "effect": "effect",
    "effect_low": "effect_low",
    "effect_high": "effect_high",
    "stage": "stage",
    "kind": "kind",
    "outcome": "outcome",
    "repairs": "repairs",
    "asked": "asked",
    "base": "base_sha",
    "candidate": "candidate_sha",
    "commit": "commit",
    "lines_added": "added",
    "lines_removed": "removed",
    "created_at": "created_at",
    "settled_at": "settled_at",
}


def experiment_shape(row: ExperimentRow) -> dict[str, Any]:
    return {name: getattr(row, attribute) for name, attribute in EXPERIMENT.items()}


def trial_shape(row: TrialRow, used: Used | None = None) -> dict[str, Any]:
    used = used or Used()
    return {
        "id": row.id,
        "experiment": row.number,
        "commit": row.sha,
        "purpose": row.purpose,
        "seed": row.seed,
        "state": row.state,
        "outcome": row.outcome,
        "detail": row.detail,
        "score": row.score,
        "hardware": row.hardware,
        "host": row.host,
        "slot": row.slot,
        "seconds": row.seconds,
        "attempts": row.attempts,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "device_seconds": used.device_seconds,
        "joules": used.joules,
    }


def used_shape(used: Used) -> dict[str, Any]:
    return {
        "trials": used.trials,
        "device_seconds": used.device_seconds,
        "metered": used.metered,
        "joules": used.joules,
    }


def waiting_words(rows: Sequence[TrialRow]) -> dict[str, list[str]]:
    """By host: what its batch system says of each trial that it has not started yet."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.state == "launching" and row.said:
            found.setdefault(row.host, []).append(row.said)
    return found


def campaign_shape(reader: Reader, row: CampaignRow, state: Path) -> dict[str, Any]:
    from engine import lock
    from engine.inbox import Inbox

    alive = lock.living(state)
    counts = reading.counts(reader.conn, row.id)
    keeps = reading.keeps(reader.conn, row.line)
    open_ = reading.experiments(reader.conn, row.id, open_only=True)
    trials = reading.trials(reader.conn, row.id, open_only=True)
    running = [t for t in trials if t.state == "running"]
    asleep = []
    if (state / "inbox.db").exists():  # looking makes no file
        inbox = Inbox(state / "inbox.db")
        asleep = inbox.waiting(("waiting", "asleep"))
        inbox.close()
    return {
        "campaign": row.name,
        "state": row.state,
        "pause_reason": row.pause_reason,
        "pause_mend": row.pause_mend,
        "engine": None if alive is None else {"pid": alive.pid, "host": alive.host, "ready": alive.ready},
        "metric": row.metric,
        "goal": row.goal,
        "seed": row.seed,
        "calibration": _calibration(row),
        "incumbent_score": _incumbent_score(reader, row),
        "branch": f"ratchet/{row.name}",
        "baseline": row.baseline_sha,
        "head": row.head,
        "counts": {k: counts.get(k, 0) for k in ("keep", "discard", "crash", "invalid", "cancelled", "open")},
        "keeps": [
            {"number": k.number, "title": k.title, "commit": k.sha, "effect": k.effect, "at": k.created_at}
            for k in keeps
        ],
        "waiting_for_you": [e.number for e in open_ if e.state in ("review", "keep_review")],
        "requests_waiting": [{"id": r.id, "kind": r.kind, "state": r.state} for r in asleep],
        "running": [trial_shape(t) for t in running],
        "queued": sum(t.state == "queued" for t in trials),
        "outcomes": reading.outcomes(reader.conn, row.id),
        "money": money_shape(reading_money.money(reader.conn, row.id), row),
        "used": used_shape(reading_money.used(reader.conn, row.id)),
        "notes": [
            {"id": n.id, "text": n.text, "by": n.actor, "used_by": n.used_by}
            for n in reading.notes(reader.conn, row.id)
        ],
        "limits": row.limits,
        "active_seconds": row.active_seconds,
    }


def money_shape(money: Money, row: CampaignRow | None = None) -> dict[str, Any]:
    """Dollars as numbers; what is set aside for requests and trials under way is ``reserved``."""

    def usd(nano: int | None) -> float | None:
        return None if nano is None else nano / 1e9

    tokens = money.tokens
    return {
        "limit": row.limits.get("dollars") if row is not None else None,
        "spent": usd(money.spent),
        "reserved": usd(money.reserved),
        "model": usd(money.of(reading_money.MODEL).spent),
        "device": usd(money.of(reading_money.DEVICE).spent),
        "per_proposal": usd(money.per_proposal),
        "per_keep": usd(money.per_keep),
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cached_share": tokens.cached,
    }


def _calibration(row: CampaignRow) -> dict[str, Any] | None:
    found = row.calibration
    # One run shows no noise: the stored 0 then means "not known".
    return found if found is None or found["n"] > 1 else found | {"sigma": None}


def _incumbent_score(reader: Reader, row: CampaignRow) -> float | None:
    """Mean of the incumbent's own runs; those that chose it count only where there are no others, because
    the best of many tries looks better than it is."""
    runs = [
        t
        for t in reading.trials(reader.conn, row.id, version=row.incumbent)
        if t.score is not None and t.protocol == row.protocol
    ]
    fresh = [t for t in runs if t.purpose in ("calibrate", "anchor")] or runs
    scores = [t.score for t in fresh if t.score is not None]
    return sum(scores) / len(scores) if scores else None
