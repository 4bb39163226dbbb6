"""Earlier experiments of the search proposer, read back from the history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.proposers.spelling import Value
from engine.types import Goal, PastExperiment, Verdict

NEAR_MISS = 0.3  # what "better than its base, but not kept" counts as evidence that a constant matters


@dataclass(frozen=True, slots=True)
class Move:
    """An earlier experiment of this proposer, read back from what it stored."""

    values: Mapping[str, Value]
    before: Mapping[str, Value]  # of the changed constants only
    score: float | None
    base_score: float | None  # the incumbent's score when this was proposed
    gain: float | None  # 1 kept, NEAR_MISS better but not kept, 0 worse or failed, None not known (yet)
    advantage: float  # of its score over its base's, in the metric's unit; 0 when not known
    pending: bool
    dead: bool  # crashed or invalid: worse than any score
    same_code: bool  # its program differs from today's in searched constants only

    @property
    def changed(self) -> tuple[str, ...]:
        return tuple(self.before)


def read_moves(
    history: Sequence[PastExperiment], goal: Goal, skeleton: str, unsearched: Mapping[str, Value]
) -> tuple[Move, ...]:
    """The experiments in ``history`` that a search proposer made; others carry no parameters of ours."""
    moves: list[Move] = []
    for past in history:
        stored = past.parameters
        values, before = stored.get("values"), stored.get("before")
        if not isinstance(values, Mapping) or not isinstance(before, Mapping) or not before:
            continue
        told = stored.get("base_score")
        base_score = float(told) if isinstance(told, int | float) and math.isfinite(told) else None
        score = past.score if past.score is not None and math.isfinite(past.score) else None
        dead = past.verdict in (Verdict.CRASH, Verdict.INVALID)
        gain, advantage = None, 0.0
        if past.verdict is Verdict.KEEP:
            gain = 1.0
        elif past.verdict is Verdict.DISCARD or dead:
            gain = 0.0
            if score is not None and not dead and base_score is not None:
                advantage = goal.sign * (score - base_score)
                gain = NEAR_MISS if advantage > 0 else 0.0
        moves.append(
            Move(
                values=values,
                before=before,
                score=None if dead else score,
                base_score=base_score,
                gain=gain,
                advantage=advantage,
                pending=past.verdict is None,
                # A stopped or failed run has no score, yet it is known to be bad.
                dead=dead or (past.verdict is Verdict.DISCARD and score is None),
                same_code=stored.get("skeleton") == skeleton
                and all(values.get(key, value) == value for key, value in unsearched.items()),
            )
        )
    return tuple(moves)


def identity(values: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """Equal for equal programs (of one skeleton)."""
    return tuple(sorted(values.items()))
