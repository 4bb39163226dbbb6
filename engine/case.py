"""One candidate's evidence, read the way the judge's stages need it. Pure; lives for one call."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from engine import estimates
from engine.estimates import Comparison, Pooled, SeedCorrelation, mean, scored
from engine.evidence import CANDIDATE, INCUMBENT, Evidence, TrialRequest
from engine.types import Purpose, Run, TrialOutcome

# Runs of an incumbent that nobody selected. Its own screening and confirming runs got it kept, so they
# flatter it (the winner's curse) and would make later honest gains look small.
POOL = (Purpose.CALIBRATE, Purpose.ANCHOR)
HOST_ENDINGS = (TrialOutcome.CANCELLED, TrialOutcome.LOST)  # these say nothing about the program
RECENT = 1000  # versions that teach the noise: more add nothing, and noise drifts as the program changes
RECENT_PAIRS = 60  # and the seeds' correlation: its least-squares fit grows with their square
DECIDING = (Purpose.SCREEN, Purpose.CONFIRM, Purpose.ANCHOR)


class Case:
    """Views of ``evidence`` and the arithmetic said so far."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.rules = evidence.rules
        self.sign = evidence.rules.goal.sign
        self.judged = sorted(
            (run for run in evidence.candidate if run.purpose in DECIDING), key=lambda run: run.trial
        )
        self.incumbent = sorted(scored(evidence.incumbent), key=lambda run: run.trial)
        screens = self.runs(CANDIDATE, Purpose.SCREEN)
        self.screen: Run | None = screens[0] if screens else None
        self.confirm = self.runs(CANDIDATE, Purpose.CONFIRM)
        # Only a candidate that passed its confirmation is ever asked for anchor runs.
        self.anchor_seeds = {run.seed for run in self.judged if run.purpose is Purpose.ANCHOR} | {
            p.seed for p in self.waiting(CANDIDATE, Purpose.ANCHOR)
        }
        self.confirmed: Comparison | None = None
        self._lines: list[str] = []

    # --- runs ---

    def every(self, side: str) -> tuple[Run, ...]:
        return self.evidence.candidate if side == CANDIDATE else self.evidence.incumbent

    def runs(self, side: str, purpose: Purpose) -> list[Run]:
        """Scored runs in the order in which they were asked for."""
        chosen = (run for run in scored(self.every(side)) if run.purpose is purpose)
        return sorted(chosen, key=lambda run: run.trial)

    def waiting(self, side: str, *purposes: Purpose) -> list[TrialRequest]:
        return [p for p in self.evidence.pending if p.side == side and p.purpose in purposes]

    def first_trial(self, purpose: Purpose) -> float:
        """The earliest trial that this experiment asked for in ``purpose``'s stage, for either side."""
        seeds = {run.seed for run in self.judged if run.purpose is purpose}
        ours = [run.trial for run in self.judged if run.purpose is purpose]
        theirs = [r.trial for r in self.evidence.incumbent if r.purpose is Purpose.ANCHOR and r.seed in seeds]
        return min([*ours, *theirs], default=math.inf) if ours else math.inf

    def pool(self, hardware: Collection[str], before: float = math.inf, fall_back: bool = True) -> list[Run]:
        """The incumbent's unselected runs on ``hardware``.

        ``before`` leaves out trials asked for later than that, so that a stage decided once is shown with
        the numbers that decided it. Only a kept version without any unselected run yet falls back on its
        confirmations, then on what there is.
        """
        runs = [run for run in self.incumbent if run.hardware in hardware]
        unselected = [run for run in runs if run.purpose in POOL]
        chosen = [run for run in unselected if run.trial < before] or unselected
        if chosen or not fall_back:
            return chosen
        return [run for run in runs if run.purpose is not Purpose.SCREEN] or runs

    def wasted(self, hardware: str) -> int:
        """Runs of the incumbent that failed, or landed elsewhere, since this candidate was screened."""
        since = self.screen.trial if self.screen else math.inf
        return sum(
            run.trial > since and (run.outcome is not TrialOutcome.OK or run.hardware != hardware)
            for run in self.evidence.incumbent
            if run.purpose in POOL and run.seed not in self.anchor_seeds
        )

    def screen_seed(self) -> int:
        """A seed that the incumbent has run. Turns with the number of versions measured: one fixed seed
        would let its own luck pass or fail every proposal of the campaign alike."""
        taken = {run.seed for run in self.evidence.candidate if run.purpose is Purpose.SCREEN}
        runs = [run for run in self.incumbent if run.purpose in POOL] or self.incumbent
        # While the first calibration runs are under way, a slot to spare screens on one of their seeds.
        offered = [run.seed for run in runs] or [p.seed for p in self.waiting(INCUMBENT, *POOL)]
        seeds = [seed for seed in dict.fromkeys(offered) if seed not in taken]
        if self.rules.mode == "single":
            seeds = seeds[:1]  # autoresearch's rule: the kept score's own seed
        seeds = seeds or list(self.evidence.fresh_seeds[:1])
        if not seeds:
            raise ValueError("fresh_seeds ran out: give the judge more of them")
        return seeds[len(self.evidence.replicates) % len(seeds)]

    # --- estimates ---

    def _groups(self, before: float) -> list[tuple[Run, ...]]:
        """Every version's runs, the incumbent's first (the reference), then the candidate's."""
        ours = (self.evidence.incumbent, self.evidence.candidate)
        known = {run for group in ours for run in group}
        groups = [group for group in self.evidence.replicates[-RECENT:] if len(group) > 1]
        others = [group for group in groups if known.isdisjoint(group)]
        if math.isinf(before):
            return [*ours, *others]
        return [tuple(run for run in group if run.trial < before) for group in (*ours, *others)]

    def noise(self, hardware: Collection[str], before: float = math.inf) -> Pooled:
        groups = self._groups(before)
        return estimates.pooled_sigma([[r for r in group if r.hardware in hardware] for group in groups])

    def seed_correlation(self, before: float = math.inf) -> SeedCorrelation:
        incumbent, candidate, *others = self._groups(before)
        return estimates.seed_correlation(incumbent, candidate, *others[-RECENT_PAIRS:])

    def beyond_rounding(self, gain: float, score: float) -> bool:
        return gain > estimates.SAME * max(abs(score), abs(score - self.sign * gain))

    # --- words ---

    def say(self, line: str) -> None:
        self._lines.append(line)

    @property
    def arithmetic(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def show(self, value: float, sigma: float, signed: bool = False) -> str:
        """To two digits of sigma: more would be read as meaning something."""
        if not sigma > 0 or not math.isfinite(value):
            return f"{value:{'+' if signed else ''}.6g}"
        digits = min(12, max(0, 1 - math.floor(math.log10(sigma))))
        return f"{value:{'+' if signed else ''}.{digits}f}"

    def say_noise(self, noise: Pooled) -> None:
        if noise.sigma == 0:
            self.say("noise: none, every seed gives the same score (does the program read RATCHET_SEED?)")
            return
        aside = f"; {noise.set_aside} unlike the rest set aside" if noise.set_aside else ""
        versions = f"{noise.versions} version{'s' * (noise.versions != 1)}"
        self.say(
            f"noise: sigma {noise.sigma:.3g} for one run ({noise.degrees_of_freedom} degrees of freedom "
            f"from {versions}{aside})"
        )

    def say_pool(self, name: str, runs: Sequence[Run], sigma: float) -> None:
        scores = [run.score for run in runs if run.score is not None]
        seeds = " ".join(str(run.seed) for run in runs)
        kinds = len({run.hardware for run in runs})
        blocks = f", on {kinds} kinds of hardware compared each with its own" if kinds > 1 else ""
        self.say(f"{name}: mean {self.show(mean(scores), sigma)} of {len(scores)} (seeds {seeds}{blocks})")
