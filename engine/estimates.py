"""Noise, seed correlation and differences of means, from finished runs. Pure functions of their arguments.

Scores are compared only within one hardware fingerprint: every estimate splits by ``Run.hardware`` first.
Screening runs are left out of noise and correlation, since passing the screen selects them for luck.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.types import Effect, Goal, Purpose, Run, TrialOutcome

SAME = 1e-9  # scores closer than this share of their size are the same number, printed or summed twice
UNLIKE_POOL = 0.001  # F test, each side: a version this unlike the rest teaches nothing about their noise
UNLIKE_SELF = 0.01  # F test: a candidate this much noisier than the pool is tested with its own noise
PAIRED_FREEDOM = 6  # degrees of freedom behind a correlation before anything may rest on it,
PAIRED_DOUBT = 0.1  # and the F test's chance that pairs only seemed quieter: picking them then flatters


@dataclass(frozen=True, slots=True)
class Pooled:
    """Standard deviation of one run, in the metric's unit. ``sigma`` is 0 when seeds change nothing and
    NaN without a degree of freedom. ``versions`` were pooled, ``set_aside`` were too unlike the rest."""

    sigma: float
    degrees_of_freedom: int
    versions: int = 0
    set_aside: int = 0


@dataclass(frozen=True, slots=True)
class SeedCorrelation:
    """``rho``: correlation of two versions' scores on one seed, from ``n`` runs on shared seeds.

    ``residual`` is the standard deviation of one run once version and seed are accounted for, so that a
    difference on one seed has variance 2 * residual**2. Without a degree of freedom rho is 0.
    """

    rho: float
    residual: float
    degrees_of_freedom: int
    n: int


NO_SEEDS = SeedCorrelation(0.0, math.nan, 0, 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Gain of candidate over incumbent (positive is better) with its standard error and Student's df."""

    gain: float
    error: float
    degrees_of_freedom: float
    n_candidate: int
    n_incumbent: int
    paired: bool = False
    note: str = ""

    @property
    def t(self) -> float:
        if self.error > 0:
            return self.gain / self.error
        return math.copysign(math.inf, self.gain) if self.gain else 0.0

    def quantile(self, alpha: float) -> float:
        """What ``t`` must reach in a one-sided test at level ``alpha``."""
        return student_quantile(1 - alpha, self.degrees_of_freedom)

    def effect(self) -> Effect:
        """With the two-sided 90 % interval."""
        half = self.quantile(0.05) * self.error if self.error > 0 else 0.0
        return Effect(
            self.gain, self.gain - half, self.gain + half, self.n_candidate, self.n_incumbent, self.paired
        )


@lru_cache(maxsize=4096)
def student_quantile(p: float, degrees_of_freedom: float) -> float:
    """Inverse of Student's cumulative distribution; infinite without a degree of freedom."""
    if degrees_of_freedom <= 0:
        return math.inf
    from scipy.special import ndtri, stdtrit  # lazily: the console imports this package too

    return float(ndtri(p) if math.isinf(degrees_of_freedom) else stdtrit(degrees_of_freedom, p))


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def identical(values: Sequence[float]) -> bool:
    """Whether all scores are one number, but for the last digits of a float."""
    return max(values) - min(values) <= SAME * max(map(abs, values))


def scored(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs that ended OK with a score."""
    return tuple(run for run in runs if run.outcome is TrialOutcome.OK and run.score is not None)


def by_hardware(runs: Iterable[Run]) -> dict[str, dict[int, float]]:
    """hardware -> seed -> score. One run a seed, the earliest: a repeat on the same seed would look like
    a replicate without noise."""
    blocks: dict[str, dict[int, float]] = {}
    for run in sorted(scored(runs), key=lambda run: run.trial):
        assert run.score is not None
        blocks.setdefault(run.hardware, {}).setdefault(run.seed, run.score)
    return blocks


def variance(values: Sequence[float]) -> float:
    """Unbiased, of at least two values; exactly 0 when they are identical."""
    if identical(values):
        return 0.0
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)


def _samples(runs: Iterable[Run]) -> dict[str, dict[int, float]]:
    """``by_hardware`` of what teaches noise: no screening runs, two seeds at least."""
    blocks = by_hardware(run for run in runs if run.purpose is not Purpose.SCREEN)
    return {hardware: block for hardware, block in blocks.items() if len(block) > 1}


def _replicates(runs: Sequence[Run]) -> list[list[float]]:
    """The scores whose scatter is noise. A kept version's confirmations stand apart from its other runs:
    they were selected together, as a mean, so the step from them to its anchor runs is the winner's curse.
    """
    if len(runs) < 2:  # most versions have their screening run only
        return []
    chosen = [run for run in runs if run.purpose is Purpose.CONFIRM]
    others = [run for run in runs if run.purpose is not Purpose.CONFIRM]
    return [list(block.values()) for part in (others, chosen) for block in _samples(part).values()]


def _unlikely(above: float, below: float, above_df: float, below_df: float) -> float:
    """P(a variance ratio at least this large) when both variances are the same (F test)."""
    if below == 0:
        return 0.0 if above > 0 else 1.0
    from scipy.special import fdtrc

    return float(fdtrc(above_df, below_df, above / below))


def _pool(groups: Sequence[Sequence[Run]]) -> tuple[Pooled, list[int]]:
    """The pooled noise, and which of ``groups`` took part.

    Grows outwards from a reference, nearest variance first, and sets aside what an F test finds unlike:
    one unstable candidate would otherwise blind the judge for the rest of the campaign, and a baseline
    that ignored its seed would make an incumbent that does not look noiseless.
    """
    samples = [(number, values) for number, runs in enumerate(groups) for values in _replicates(runs)]
    if not samples:
        return Pooled(math.nan, 0), []
    spread = [(variance(values), len(values) - 1, number) for number, values in samples]
    first = spread[0] if spread[0][2] == 0 and spread[0][1] >= 2 else max(spread, key=lambda s: s[1])
    spread.remove(first)
    pooled, freedom, members, aside = first[0], first[1], {first[2]}, set()

    def apart(item: tuple[float, int, int]) -> float:
        if item[0] == first[0]:
            return 0.0
        return abs(math.log(item[0] / first[0])) if item[0] > 0 and first[0] > 0 else math.inf

    for value, df, number in sorted(spread, key=apart):
        if min(_unlikely(value, pooled, df, freedom), _unlikely(pooled, value, freedom, df)) < UNLIKE_POOL:
            aside.add(number)
            continue
        pooled = (pooled * freedom + value * df) / (freedom + df)
        freedom += df
        members.add(number)
    out = Pooled(math.sqrt(pooled), freedom, len(members), len(aside - members))
    return out, sorted(members - aside)


def pooled_sigma(replicates: Sequence[Sequence[Run]]) -> Pooled:
    """Standard deviation of one run, pooled over groups (one group = one version, different seeds).

    The first group is the reference when it has two degrees of freedom (give the incumbent's first),
    otherwise the largest is. sigma**2 = sum((n_g - 1) * s_g**2) / sum(n_g - 1).
    """
    return _pool(replicates)[0]


def seed_correlation(*versions: Sequence[Run]) -> SeedCorrelation:
    """Least-squares fit of score = version + seed + residual over seeds that versions share.

    rho = 1 - residual variance / variance within a version (two-way analysis of variance, unbalanced).
    Versions unlike the first in noise are left out, as in ``pooled_sigma``.
    """
    # Seeds are known by their hardware too: nothing is shared between kinds of it.
    table = {
        ((number, hardware), (hardware, seed)): score
        for number in _pool(versions)[1]
        for hardware, sample in _samples(versions[number]).items()
        for seed, score in sample.items()
    }
    while True:  # a version or seed met once fits its own parameter and carries no residual
        rows, columns = Counter(v for v, _ in table), Counter(s for _, s in table)
        kept = {key: score for key, score in table.items() if rows[key[0]] > 1 and columns[key[1]] > 1}
        if len(kept) == len(table):
            break
        table = kept
    if not table:
        return SeedCorrelation(0.0, math.nan, 0, 0)
    import numpy as np

    row = {version: i for i, version in enumerate(rows)}
    column = {seed: i for i, seed in enumerate(columns)}
    scores = np.zeros((len(row), len(column)))
    met = np.zeros((len(row), len(column)))
    centre = mean(list(table.values()))  # large offsets would cost digits
    for (version, seed), score in table.items():
        scores[row[version], column[seed]], met[row[version], column[seed]] = score - centre, 1.0
    each_row, each_column = met.sum(axis=1), met.sum(axis=0)
    freedom = len(table) - len(row) - len(column) + _parts(table)
    within = float(((scores - met * (scores.sum(axis=1) / each_row)[:, None]) ** 2).sum())
    within /= len(table) - len(row)
    if freedom <= 0 or within == 0:
        return SeedCorrelation(0.0, math.nan, 0, len(table))
    # Least squares with the seeds eliminated: what is left to solve is as small as the number of versions.
    off = met * (scores - scores.sum(axis=0) / each_column)
    normal = np.diag(each_row) - (met / each_column) @ met.T
    effects = np.linalg.lstsq(normal, off.sum(axis=1), rcond=None)[0]
    rest = off - met * (effects[:, None] - (met.T @ effects) / each_column)
    left = float((rest**2).sum()) / freedom
    return SeedCorrelation(max(-1.0, 1 - left / within), math.sqrt(left), freedom, len(table))


def _parts(pairs: Iterable[tuple[object, object]]) -> int:
    """Into how many parts versions and seeds fall that no run connects: each takes one effect of the fit."""
    part: dict[object, object] = {}

    def end(of: object) -> object:
        while part.setdefault(of, of) != of:
            of = part[of]
        return of

    for version, seed in pairs:
        part[end((0, version))] = end((1, seed))
    return len({end(of) for of in list(part)})


def compare(
    goal: Goal, candidate: Sequence[Run], incumbent: Sequence[Run], noise: Pooled, seeds: SeedCorrelation
) -> Comparison | None:
    """Gain of ``candidate`` over ``incumbent``: paired by seed where that resolves more, else blocked by
    hardware. None when no kind of hardware has runs of both."""
    plain = _blocked(goal, candidate, incumbent, noise)
    pairs = _paired(goal, candidate, incumbent, seeds) if pairs_are_quieter(noise, seeds) else None
    if plain is None or pairs is None:
        return plain
    # The smaller detectable difference wins. It depends on spreads and counts only, never on the gain.
    return pairs if pairs.quantile(0.05) * pairs.error < plain.quantile(0.05) * plain.error else plain


def _blocked(goal: Goal, candidate: Sequence[Run], incumbent: Sequence[Run], noise: Pooled) -> Comparison | None:
    ours, theirs = by_hardware(candidate), by_hardware(incumbent)
    blocks = [(list(ours[h].values()), list(theirs[h].values())) for h in ours if h in theirs]
    if not blocks:
        return None
    # Each block's difference weighted by its precision 1 / (1/n_c + 1/n_i).
    weights = [1 / (1 / len(c) + 1 / len(i)) for c, i in blocks]
    total = math.fsum(weights)
    share = [weight / total for weight in weights]
    gains = [goal.sign * (mean(c) - mean(i)) for c, i in blocks]
    gain = math.fsum(s * g for s, g in zip(share, gains, strict=True))
    per_candidate = math.fsum(s * s / len(c) for s, (c, _) in zip(share, blocks, strict=True))
    per_incumbent = math.fsum(s * s / len(i) for s, (_, i) in zip(share, blocks, strict=True))
    n_c, n_i = sum(len(c) for c, _ in blocks), sum(len(i) for _, i in blocks)
    own = [(variance(c), len(c) - 1) for c, _ in blocks if len(c) > 1]
    own_df = sum(df for _, df in own)
    own_variance = math.fsum(v * df for v, df in own) / own_df if own_df else 0.0
    pooled, df = noise.sigma**2, float(noise.degrees_of_freedom)
    if own_df and _unlikely(own_variance, pooled, own_df, df) < UNLIKE_SELF:
        # Welch (1947): equal variances are refuted, so the candidate's mean carries its own.
        a, b = own_variance * per_candidate, pooled * per_incumbent
        freedom = (a + b) ** 2 / (a * a / own_df + b * b / df)
        note = f"its own scatter, {math.sqrt(own_variance):.3g}, is far above the pooled one: Welch's test"
        return Comparison(gain, math.sqrt(a + b), freedom, n_c, n_i, note=note)
    error = noise.sigma * math.sqrt(per_candidate + per_incumbent)
    return Comparison(gain, error, df, n_c, n_i)


def _paired(
    goal: Goal, candidate: Sequence[Run], incumbent: Sequence[Run], seeds: SeedCorrelation
) -> Comparison | None:
    gains = paired_gains(goal, candidate, incumbent)
    if len(gains) < max(2, sum(map(len, by_hardware(candidate).values()))):
        return None  # a candidate's run without its partner would be thrown away
    n, freedom, spread = len(gains), float(seeds.degrees_of_freedom), 2 * seeds.residual**2
    note = ""
    if _unlikely(variance(gains), spread, n - 1, freedom) < UNLIKE_SELF:
        spread, freedom = variance(gains), n - 1.0
        note = "its differences scatter far more than earlier pairs did: judged by their own scatter"
    return Comparison(mean(gains), math.sqrt(spread / n), freedom, n, n, paired=True, note=note)


def paired_gains(goal: Goal, candidate: Sequence[Run], incumbent: Sequence[Run]) -> list[float]:
    """Gains on seeds that both have run on the same hardware, in the candidate's order."""
    ours, theirs = by_hardware(candidate), by_hardware(incumbent)
    return [
        goal.sign * (score - theirs[h][seed])
        for h, block in ours.items()
        for seed, score in block.items()
        if seed in theirs.get(h, {})
    ]


def pairs_are_quieter(noise: Pooled, seeds: SeedCorrelation) -> bool:
    """Whether a correlation of seeds is established, and not merely seen in a few pairs."""
    if seeds.degrees_of_freedom < PAIRED_FREEDOM or not noise.sigma > 0:
        return False
    doubt = _unlikely(noise.sigma**2, seeds.residual**2, noise.degrees_of_freedom, seeds.degrees_of_freedom)
    return doubt < PAIRED_DOUBT


def pairing_pays(noise: Pooled, seeds: SeedCorrelation, n: int, n_incumbent: int) -> bool:
    """Whether ``n`` fresh seeds run by both resolve more than the same ``n`` extra runs of the incumbent
    spent on its mean: t * sqrt(2 * residual**2 / n) < t * sigma * sqrt(1/n + 1/(n_incumbent + n))."""
    if n < 2 or not pairs_are_quieter(noise, seeds):
        return False
    paired = student_quantile(0.95, seeds.degrees_of_freedom) * seeds.residual * math.sqrt(2 / n)
    plain = student_quantile(0.95, noise.degrees_of_freedom) * noise.sigma
    return paired < plain * math.sqrt(1 / n + 1 / (n_incumbent + n))


def chance_to_pass(gains: Sequence[float], planned: int, threshold: float, spread: float, hoped: float) -> float:
    """P(the mean of ``planned`` gains reaches ``threshold``), when the missing ones are drawn around
    ``hoped`` with standard deviation ``spread`` (conditional power; Lachin 2005)."""
    missing = planned - len(gains)
    if missing <= 0 or spread <= 0:
        return 1.0
    needed = (planned * threshold - math.fsum(gains)) / missing
    return 0.5 * math.erfc((needed - hoped) / (spread * math.sqrt(2 / missing)))
