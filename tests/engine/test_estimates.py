"""Noise, correlation and comparisons against figures worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from engine import estimates
from engine.estimates import NO_SEEDS, Pooled, SeedCorrelation
from engine.types import Goal, Purpose, Run, TrialOutcome


def group(*scores: float, first_seed: int = 1, hardware: str = "h", purpose: Purpose = Purpose.CALIBRATE):
    return tuple(
        Run(100 * first_seed + i, first_seed + i, purpose, TrialOutcome.OK, score, hardware)
        for i, score in enumerate(scores)
    )


def test_importing_the_judge_does_not_import_scipy_or_numpy():
    code = "import sys, engine.judge; print(*{'scipy', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "\n"


def test_student_quantiles_are_those_of_the_printed_tables():
    assert estimates.student_quantile(0.95, 6) == pytest.approx(1.943, abs=5e-4)
    assert estimates.student_quantile(0.95, math.inf) == pytest.approx(1.645, abs=5e-4)
    assert estimates.student_quantile(0.95, 0) == math.inf


def test_pooled_variance_weighs_groups_by_their_degrees_of_freedom():
    # (4 * 2.5 + 2 * 1) / 6 = 2
    pooled = estimates.pooled_sigma([group(10, 11, 12, 13, 14), group(8, 9, 10)])
    assert pooled == Pooled(pytest.approx(math.sqrt(2)), 6, 2, 0)


def test_a_single_run_and_a_screening_run_teach_no_noise():
    lucky = (*group(8, 9, 10), Run(1, 99, Purpose.SCREEN, TrialOutcome.OK, -50.0, "h"))
    assert estimates.pooled_sigma([lucky, group(7)]).sigma == 1.0
    assert math.isnan(estimates.pooled_sigma([group(7)]).sigma)


def test_failed_runs_and_repeats_of_a_seed_teach_no_noise():
    crashed = Run(5, 50, Purpose.ANCHOR, TrialOutcome.CRASH, None, "h")
    repeat = Run(900, 1, Purpose.AUDIT, TrialOutcome.OK, 8.0, "h")  # seed 1 again: no scatter at all
    assert estimates.pooled_sigma([(*group(8, 9, 10), crashed, repeat)]) == Pooled(1.0, 2, 1, 0)


def test_an_offset_between_kinds_of_hardware_is_not_noise():
    mixed = group(8, 9, 10) + group(108, 109, 110, first_seed=4, hardware="other")
    assert estimates.pooled_sigma([mixed]) == Pooled(1.0, 4, 1, 0)


def test_the_step_from_selected_confirmations_to_anchors_is_not_noise():
    kept = group(8, 9, 10, first_seed=1, purpose=Purpose.CONFIRM) + group(
        28, 29, 30, first_seed=4, purpose=Purpose.ANCHOR
    )
    assert estimates.pooled_sigma([kept]) == Pooled(1.0, 4, 1, 0)


def test_one_unstable_version_does_not_blind_the_judge():
    steady = [group(10, 11, 12, 13, 14), group(8, 9, 10), group(7, 8, 9)]
    wild = [group(0, 500, 1000), group(0, 700, 900)]  # two of them must not excuse each other
    pooled = estimates.pooled_sigma([*steady, *wild])
    assert (pooled.sigma, pooled.set_aside) == (estimates.pooled_sigma(steady).sigma, 2)


def test_a_baseline_that_ignored_its_seed_does_not_make_a_noisy_incumbent_look_noiseless():
    incumbent, baseline = group(8.0, 9.0, 10.0), group(3.0, 3.0, 3.0, 3.0, 3.0)
    assert estimates.pooled_sigma([incumbent, baseline]).sigma == 1.0


def test_scores_that_differ_in_the_last_digits_of_a_float_are_identical():
    assert estimates.pooled_sigma([group(0.1 + 0.2, 0.3, 0.3)]).sigma == 0.0
    assert estimates.pooled_sigma([group(0.3, 0.3, 0.3001)]).sigma > 0


def test_correlation_of_two_versions_on_three_shared_seeds():
    # differences 1, 2, 0: residual variance 2 / (2 * 2) = 0.5; within versions (14 + 8) / 4 = 5.5
    found = estimates.seed_correlation(group(1, 2, 6), group(2, 4, 6))
    assert found == SeedCorrelation(pytest.approx(1 - 0.5 / 5.5), pytest.approx(math.sqrt(0.5)), 2, 6)


def test_correlation_needs_shared_seeds_on_the_same_hardware():
    assert estimates.seed_correlation(group(1, 2, 6), group(2, 4, 6, first_seed=7)).degrees_of_freedom == 0
    assert estimates.seed_correlation(group(1, 2, 6), group(2, 4, 6, hardware="x")).degrees_of_freedom == 0
    assert estimates.seed_correlation(group(1, 2, 6), group(2)).degrees_of_freedom == 0


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_correlation_is_recovered_from_many_versions_with_different_seeds(rho):
    random = np.random.default_rng(7)
    luck = random.normal(size=400)
    versions = []
    for number in range(130):  # each shares three seeds with the next
        own = random.normal(size=6)
        seeds = luck[3 * number : 3 * number + 6]
        scores = 5 + random.normal() + math.sqrt(rho) * seeds + math.sqrt(1 - rho) * own
        versions.append(group(*map(float, scores), first_seed=3 * number))
    found = estimates.seed_correlation(*versions)
    print(f"rho {rho}: found {found.rho:.3f} from {found.n} runs, {found.degrees_of_freedom} df (seed 7)")
    assert found.rho == pytest.approx(rho, abs=0.1)
    assert found.residual == pytest.approx(math.sqrt(1 - rho), rel=0.08)


def test_comparison_of_means_by_hand():
    noise = Pooled(math.sqrt(2), 6)
    found = estimates.compare(Goal.MINIMIZE, group(8, 9, 10), group(10, 11, 12, 13, 14), noise, NO_SEEDS)
    assert found is not None
    assert (found.gain, found.error) == (pytest.approx(3), pytest.approx(math.sqrt(2 * (1 / 3 + 1 / 5))))
    effect = found.effect()
    assert (effect.low, effect.high) == (
        pytest.approx(3 - 1.9432 * 1.0328, abs=1e-3),
        pytest.approx(5.007, abs=1e-3),
    )
    assert (effect.n_candidate, effect.n_incumbent, effect.paired) == (3, 5, False)


def test_hardware_is_blocked_and_runs_without_counterpart_are_left_out():
    # a: 12 -> 10 with 1 and 1 runs (weight 1/2); b: 102 -> 98 with 2 and 2 (weight 1): (2 + 2 * 4) / 3
    candidate = group(10) + group(97, 99, first_seed=2, hardware="b") + group(0, first_seed=5, hardware="c")
    incumbent = group(12) + group(101, 103, first_seed=2, hardware="b")
    found = estimates.compare(Goal.MINIMIZE, candidate, incumbent, Pooled(2.0, 9), NO_SEEDS)
    assert found is not None
    assert found.gain == pytest.approx(10 / 3)
    assert found.error == pytest.approx(2 * math.sqrt(1 / 1.5))
    assert (found.n_candidate, found.n_incumbent) == (3, 3)
    assert estimates.compare(Goal.MINIMIZE, group(1), group(2, hardware="b"), Pooled(1, 9), NO_SEEDS) is None


def test_a_candidate_that_scatters_beyond_the_pool_is_tested_with_its_own_noise():
    found = estimates.compare(
        Goal.MINIMIZE, group(-20, 0, 20), group(10, 11, 12, 13, 14), Pooled(1.0, 20), NO_SEEDS
    )
    assert found is not None and "Welch" in found.note
    a, b = 400 / 3, 1 / 5
    assert found.error == pytest.approx(math.sqrt(a + b))
    assert found.degrees_of_freedom == pytest.approx((a + b) ** 2 / (a * a / 2 + b * b / 20))


def test_pairs_are_used_only_where_the_correlation_is_established():
    candidate, incumbent = group(9, 10, 14), group(10, 11.1, 14.9)
    noise = Pooled(2.0, 20)
    strong, weak = SeedCorrelation(0.97, 0.3, 8, 30), SeedCorrelation(0.97, 0.3, 4, 12)
    paired = estimates.compare(Goal.MINIMIZE, candidate, incumbent, noise, strong)
    assert paired is not None and paired.paired
    assert paired.gain == pytest.approx(1.0)
    assert paired.error == pytest.approx(math.sqrt(2 * 0.09 / 3))
    plain = estimates.compare(Goal.MINIMIZE, candidate, incumbent, noise, weak)
    assert plain is not None and not plain.paired
    seeming = SeedCorrelation(0.3, 1.68, 8, 30)  # F(20, 8) = 1.42: seen by chance once in three times
    plain = estimates.compare(Goal.MINIMIZE, candidate, incumbent, noise, seeming)
    assert plain is not None and not plain.paired
    partnerless = estimates.compare(Goal.MINIMIZE, candidate, incumbent[:2], noise, strong)
    assert partnerless is not None and not partnerless.paired


def test_pairing_pays_above_a_correlation_and_not_below():
    # n = 3 against 5 + 3 runs: 2 (1 - rho) / 3 < 1/3 + 1/8, so from rho = 0.3125 (same quantiles)
    noise = Pooled(1.0, 4000)
    at = {rho: SeedCorrelation(rho, math.sqrt(1 - rho), 4000, 9000) for rho in (0.30, 0.33)}
    assert not estimates.pairing_pays(noise, at[0.30], 3, 5)
    assert estimates.pairing_pays(noise, at[0.33], 3, 5)


def test_chance_to_pass_by_hand():
    # the two missing gains must average (3 * 1 - 0) / 2 = 1.5: P(N(2, 1/2) > 1.5) = Phi(0.7071)
    assert estimates.chance_to_pass([0.0], 3, 1.0, 1.0, 2.0) == pytest.approx(0.7602, abs=1e-4)
    assert estimates.chance_to_pass([-9.0, -9.0], 3, 1.0, 1.0, 2.0) < 1e-9
    assert estimates.chance_to_pass([0.0] * 3, 3, 1.0, 1.0, 2.0) == 1.0
