"""Measuring the untouched program: its mean, its noise, and whether seeds reach it at all. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine import estimates
from engine.case import HOST_ENDINGS, POOL
from engine.estimates import mean, scored
from engine.evidence import INCUMBENT, Ask, BaselineFailed, Calibration, Rules, TrialRequest
from engine.incumbent import take
from engine.types import Purpose, Run, TrialOutcome

NO_SEED = (
    "the seed has no effect: every seed gave the same score. Pass it to the program (read RATCHET_SEED "
    "from the environment, or put {seed} into [trial] command); until then a strictly better score decides"
)


def calibrate(
    rules: Rules,
    runs: Sequence[Run],
    fresh_seeds: Sequence[int],
    pending: Sequence[TrialRequest] = (),
) -> Ask | Calibration | BaselineFailed:
    """Measure the baseline's mean and noise over ``calibrate_seeds`` seeds (one in mode "single").

    ``runs`` are the baseline's finished runs. Lost and cancelled ones are replaced, up to as many again.
    """
    runs = [run for run in runs if run.purpose in POOL]
    wanted = 1 if rules.mode == "single" else rules.calibrate_seeds
    for run in sorted(runs, key=lambda run: run.trial):
        if run.outcome is not TrialOutcome.OK and run.outcome not in HOST_ENDINGS:
            return BaselineFailed(
                run.outcome.value,
                f"the untouched program ended in {run.outcome.value} on seed {run.seed}"
                + (f": {run.detail}" if run.detail else ""),
            )
    good = scored(runs)
    waiting = [p for p in pending if p.side == INCUMBENT and p.purpose in POOL]
    missing = wanted - len(good) - len(waiting)
    if missing > 0 and len(runs) - len(good) > wanted:
        return BaselineFailed("host", f"{len(runs) - len(good)} baseline runs were lost or cancelled")
    if missing > 0 or waiting:
        requests = tuple(
            TrialRequest(INCUMBENT, Purpose.CALIBRATE, seed) for seed in take(fresh_seeds, max(0, missing))
        )
        return Ask(requests, "calibrate", f"the baseline on {wanted} seeds, for its mean and its noise")
    blocks = estimates.by_hardware(good)
    _, block = max(blocks.items(), key=lambda item: len(item[1]))
    scores = list(block.values())
    notes = []
    if len(blocks) > 1:
        notes.append(
            f"the baseline ran on {len(blocks)} kinds of hardware, which are never compared: "
            f"the mean is that of the {len(scores)} runs on the most used one"
        )
    if wanted == 1:
        notes.append("one run: the noise is not known, so a keep may be luck")
        return Calibration(mean(scores), 0.0, 1, True, tuple(notes))
    noise = estimates.pooled_sigma([runs])
    if noise.degrees_of_freedom == 0:
        return BaselineFailed("hardware", "no two baseline runs shared a kind of hardware")
    if noise.sigma == 0:
        notes.append(NO_SEED)
    return Calibration(mean(scores), noise.sigma, len(scores), noise.sigma > 0, tuple(notes))
