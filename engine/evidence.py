"""What the judge is given and what it answers: frozen facts, no arithmetic (that is ``engine.judge``)."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.errors import UsageError
from engine.types import Effect, Goal, Purpose, Run, Verdict

CANDIDATE = "candidate"
INCUMBENT = "incumbent"
MODES = ("confirmed", "single")


@dataclass(frozen=True, slots=True)
class Rules:
    """[judge] and [metric] of ratchet.toml. ``screen_sigma`` counts standard deviations of one run.

    ``mode`` "single" is autoresearch's own rule: one run, keep if strictly better than the incumbent's
    kept score. ``anchor_seeds`` 0 skips re-anchoring; the reported effect then flatters.
    """

    goal: Goal
    mode: str = "confirmed"
    calibrate_seeds: int = 5
    screen_sigma: float = 1.0
    confirm_seeds: int = 3
    confirm_alpha: float = 0.05
    incumbent_seeds: int = 5
    anchor_seeds: int = 3

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"[judge] mode = {self.mode!r} is not known", f"write one of {', '.join(MODES)}")
        if self.mode == "single":
            return
        # Fewer than two seeds leave no degree of freedom: there would be no noise to judge by.
        least = {"calibrate_seeds": 2, "confirm_seeds": 1, "incumbent_seeds": 2, "anchor_seeds": 0}
        for key, low in least.items():
            if getattr(self, key) < low:
                raise UsageError(
                    f"[judge] {key} = {getattr(self, key)}: a confirmed verdict needs at least {low}",
                    f'raise {key}, or write mode = "single" for one run a proposal',
                )
        if not 0 < self.confirm_alpha < 0.5:
            raise UsageError(
                f"[judge] confirm_alpha = {self.confirm_alpha}: expected a rate between 0 and 0.5",
                "0.05 is the default",
            )
        if not self.screen_sigma >= 0:
            raise UsageError(f"[judge] screen_sigma = {self.screen_sigma} is negative", "1.0 is the default")


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """The judge wants this run. Identity is (side, purpose, seed).

    ``hardware`` is where it should run so that its score is comparable ("" = anywhere); it is a wish and
    no part of the identity: a run placed elsewhere is blocked by its own fingerprint.
    """

    side: str  # CANDIDATE or INCUMBENT
    purpose: Purpose
    seed: int
    hardware: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known when the judge is asked; it keeps nothing between two calls.

    A version is a candidate against one incumbent only (its base; a merge is a new version). Trial ids
    grow in the order in which trials were asked for. ``replicates`` holds one group of finished runs a
    version, these two included; ``fresh_seeds`` are seeds that no trial, queued or finished, has used.
    """

    rules: Rules
    incumbent: tuple[Run, ...]
    candidate: tuple[Run, ...]
    replicates: tuple[tuple[Run, ...], ...]
    fresh_seeds: tuple[int, ...]
    pending: tuple[TrialRequest, ...] = ()  # asked for and not finished


@dataclass(frozen=True, slots=True)
class Ask:
    """The runs still missing in ``stage``; none of them when everything needed is already pending."""

    requests: tuple[TrialRequest, ...]
    stage: str  # calibrate | screen | incumbent | confirm | anchor
    why: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict. ``reason`` is ``word: explanation`` with a stable first word; ``arithmetic`` is the way
    there in words and numbers, one line a step. After a ruling, runs still pending are of no use."""

    verdict: Verdict
    reason: str
    effect: Effect | None
    arithmetic: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The baseline's mean and the standard deviation of one run, over ``n`` runs on one kind of hardware.

    With ``n`` 1 (mode "single") ``sigma`` is 0 and means "not known", which ``notes`` says: it is stored as
    JSON, which has no NaN.
    """

    mean: float
    sigma: float
    n: int
    seed_has_effect: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BaselineFailed:
    """The untouched program did not come to a score: nothing can be compared. ``reason`` is stable: the
    trial outcome's name, ``host`` or ``hardware``; ``detail`` is a sentence for a person."""

    reason: str
    detail: str
