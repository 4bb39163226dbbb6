"""A training script whose loss is known, and a greedy ratchet that turns on it (no process, no clock).

Loss = 3 + sum of curvature * (distance in log space from the best value)^2 + noise: near its best value
every hyperparameter of a real script looks like this.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.proposers.constants import find_constants
from engine.proposers.search import SearchProposer
from engine.types import Author, Brief, Goal, NoProposal, PastExperiment, Proposal, Verdict

SCRIPT = b"""# a script of six constants
LEARNING_RATE = 1e-3    # peak, AdamW
BATCH_SIZE = 16
WARMUP_STEPS = 100
WEIGHT_DECAY = 0.1      # on matrices only
BETA2 = 0.99
INIT_STD = 0.02
SEED = 1337

print("---")
"""

# Loss per squared natural logarithm: the learning rate matters most, as everywhere.
CURVATURE = {
    "LEARNING_RATE": 0.25,
    "BATCH_SIZE": 0.06,
    "WARMUP_STEPS": 0.03,
    "WEIGHT_DECAY": 0.02,
    "BETA2": 0.04,
    "INIT_STD": 0.04,
}


@dataclass(frozen=True)
class Landscape:
    """``best``: where each constant is best, as a factor of its value in SCRIPT (BETA2: of 1 - beta)."""

    best: Mapping[str, float]
    noise: float = 0.02

    def loss(self, content: bytes) -> float:
        now = {c.name: c.value for c in find_constants("train.py", content)}
        start = {c.name: c.value for c in find_constants("train.py", SCRIPT)}
        total = 3.0
        for name, curvature in CURVATURE.items():
            value, first = float(now[name]), float(start[name])
            if name == "BETA2":
                value, first = 1 - value, 1 - first
            total += curvature * (math.log(value / first) - math.log(self.best[name])) ** 2
        return total


@dataclass(frozen=True)
class Outcome:
    gain: float  # true loss of the baseline minus true loss of the last incumbent
    possible: float
    keeps: int
    titles: tuple[str, ...]


async def turn(landscape: Landscape, seed: int, experiments: int = 12, subset: int = 2) -> Outcome:
    """Propose, measure, judge: screen at one sigma, then the mean of three fresh runs must win by 1.6 se."""
    rng = random.Random(seed)
    proposer = SearchProposer(subset=subset, threaded=False)
    incumbent = SCRIPT
    score = sum(landscape.loss(incumbent) + rng.gauss(0, landscape.noise) for _ in range(5)) / 5
    history: list[PastExperiment] = []
    for number in range(1, experiments + 1):
        brief = Brief(
            "sim", number, seed, "base", Goal.MINIMIZE, "loss", {"train.py": incumbent}, ("train.py",),
            tuple(history), incumbent_score=score, noise=landscape.noise,
        )  # fmt: skip
        proposal = [event async for event in proposer.propose(brief)][-1]
        if isinstance(proposal, NoProposal):
            break
        assert isinstance(proposal, Proposal)
        content = proposal.changes[0].content
        assert content is not None
        truth = landscape.loss(content)
        screening = truth + rng.gauss(0, landscape.noise)
        kept = False
        if screening < score - landscape.noise:
            mean = sum(truth + rng.gauss(0, landscape.noise) for _ in range(3)) / 3
            kept = mean < score - 1.86 * landscape.noise * math.sqrt(1 / 3 + 1 / 5)
            if kept:
                incumbent, score = content, mean
                history = [replace(past, on_incumbent=False) for past in history]
        verdict = Verdict.KEEP if kept else Verdict.DISCARD
        history.append(
            PastExperiment(number, proposal.title, Author.SEARCH, verdict, screening, None,
                           proposal.parameters, not kept)
        )  # fmt: skip
    first = landscape.loss(SCRIPT)
    keeps = sum(1 for past in history if past.verdict is Verdict.KEEP)
    titles = tuple(f"{past.title} [{past.verdict}]" for past in history)
    return Outcome(first - landscape.loss(incumbent), first - 3.0, keeps, titles)


def scattered(seed: int, spread: float = 1.1) -> Landscape:
    """Each constant a random factor away from its best: up to ``e**spread`` either way."""
    rng = random.Random(seed * 7919)
    return Landscape({name: math.exp(rng.uniform(-spread, spread)) for name in CURVATURE})
