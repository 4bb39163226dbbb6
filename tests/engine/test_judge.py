"""Each stage of the rule against figures worked out by hand, and the promises of a stateless judge.

The worked example minimises: baseline 10 11 12 13 14 on seeds 1-5, so mean 12, sigma sqrt(2.5) = 1.5811.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.judge import (
    Ask,
    BaselineFailed,
    Calibration,
    Evidence,
    Rules,
    Ruling,
    TrialRequest,
    calibrate,
    decide,
)
from engine.types import Goal, Purpose, Run, TrialOutcome, Verdict

CALIBRATE, SCREEN, CONFIRM, ANCHOR = Purpose.CALIBRATE, Purpose.SCREEN, Purpose.CONFIRM, Purpose.ANCHOR
MINIMISE = Rules(Goal.MINIMIZE)
FRESH = tuple(range(6, 60))
_trial = itertools.count(1000)


def runs(purpose: Purpose, scores: dict[int, float], trial: int = 0, hardware: str = "h") -> tuple[Run, ...]:
    """Scores by seed; trial ids from ``trial``, or simply growing."""
    number = itertools.count(trial) if trial else _trial
    return tuple(
        Run(next(number), seed, purpose, TrialOutcome.OK, score, hardware) for seed, score in scores.items()
    )


def failed(purpose: Purpose, seed: int, outcome: TrialOutcome, detail: str = "") -> Run:
    return Run(next(_trial), seed, purpose, outcome, None, "h", detail)


BASELINE = runs(CALIBRATE, {1: 10, 2: 11, 3: 12, 4: 13, 5: 14}, trial=1)


def evidence(candidate=(), incumbent=BASELINE, pending=(), rules=MINIMISE, others=(), fresh=FRESH):
    used = {r.seed for r in (*candidate, *incumbent)} | {p.seed for p in pending}
    return Evidence(
        rules,
        tuple(incumbent),
        tuple(candidate),
        (tuple(incumbent), tuple(candidate), *others),
        tuple(seed for seed in fresh if seed not in used),
        tuple(pending),
    )


def asked(answer: Ask | Ruling, stage: str) -> list[tuple[str, Purpose, int]]:
    assert isinstance(answer, Ask), answer
    assert answer.stage == stage
    return [(r.side, r.purpose, r.seed) for r in answer.requests]


def ruled(answer: Ask | Ruling, verdict: Verdict, word: str) -> Ruling:
    assert isinstance(answer, Ruling), answer
    assert (answer.verdict, answer.reason.split(":")[0]) == (verdict, word), answer
    return answer


# --- calibrate ------------------------------------------------------------------------------------


def test_calibration_asks_for_five_fresh_seeds_and_then_waits():
    ask = calibrate(MINIMISE, (), (7, 3, 9, 4, 5, 6))
    assert asked(ask, "calibrate") == [("incumbent", CALIBRATE, seed) for seed in (7, 3, 9, 4, 5)]
    assert asked(calibrate(MINIMISE, (), (6,), ask.requests), "calibrate") == []
    half = BASELINE[:2]
    assert len(asked(calibrate(MINIMISE, half, FRESH, ask.requests[:1]), "calibrate")) == 2


def test_calibration_gives_mean_and_sigma():
    found = calibrate(MINIMISE, BASELINE, FRESH)
    assert found == Calibration(12.0, pytest.approx(math.sqrt(2.5)), 5, True, ())


def test_a_seed_without_effect_is_said_with_its_mend():
    found = calibrate(MINIMISE, runs(CALIBRATE, dict.fromkeys(range(1, 6), 3.25)), FRESH)
    assert isinstance(found, Calibration)
    assert (found.sigma, found.seed_has_effect) == (0.0, False)
    assert "RATCHET_SEED" in found.notes[0] and "{seed}" in found.notes[0]


@pytest.mark.parametrize("outcome", ["crash", "timeout", "memory", "no_metric", "not_finite", "conflict"])
def test_a_baseline_that_fails_is_named_with_seed_and_detail(outcome):
    bad = failed(CALIBRATE, 2, TrialOutcome(outcome), "exit 1")
    found = calibrate(MINIMISE, (BASELINE[0], bad), FRESH)
    assert isinstance(found, BaselineFailed)
    assert found.reason == outcome and "seed 2" in found.detail and "exit 1" in found.detail


def test_lost_baseline_runs_are_replaced_but_not_for_ever():
    lost = tuple(failed(CALIBRATE, seed, TrialOutcome.LOST) for seed in range(1, 7))
    assert len(asked(calibrate(MINIMISE, lost[:5], FRESH), "calibrate")) == 5
    found = calibrate(MINIMISE, lost, FRESH)
    assert isinstance(found, BaselineFailed) and found.reason == "host"


def test_a_baseline_spread_over_kinds_of_hardware_is_not_averaged_over_them():
    mixed = BASELINE[:3] + runs(CALIBRATE, {4: 112, 5: 113}, hardware="other")
    found = calibrate(MINIMISE, mixed, FRESH)
    assert isinstance(found, Calibration)
    assert (found.mean, found.n) == (11.0, 3) and "never compared" in found.notes[0]
    scattered = [dataclasses.replace(run, hardware=str(run.seed)) for run in BASELINE]
    found = calibrate(MINIMISE, scattered, FRESH)
    assert isinstance(found, BaselineFailed) and found.reason == "hardware"


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "sprt"},
        {"calibrate_seeds": 1},
        {"confirm_alpha": 0.0},
        {"screen_sigma": -1.0},
        {"anchor_seeds": -1},
    ],
)
def test_rules_that_cannot_judge_are_refused_with_a_mend(wrong):
    with pytest.raises(UsageError) as error:
        Rules(Goal.MINIMIZE, **wrong)
    assert next(iter(wrong)) in error.value.message and error.value.mend


# --- screen ---------------------------------------------------------------------------------------


def test_the_screen_is_one_run_on_a_seed_that_the_incumbent_has_run():
    ask = decide(evidence())
    [(side, purpose, seed)] = asked(ask, "screen")
    assert (side, purpose) == ("candidate", SCREEN) and seed in {1, 2, 3, 4, 5}
    assert asked(decide(evidence(pending=ask.requests)), "screen") == []


def test_the_screens_seed_turns_with_the_number_of_versions_measured():
    seeds = set()
    for count in range(10):
        others = tuple(runs(SCREEN, {1: 12.0}) for _ in range(count))
        seeds.add(asked(decide(evidence(others=others)), "screen")[0][2])
    assert seeds == {1, 2, 3, 4, 5}


def test_the_margin_is_one_sigma_from_the_mean_not_from_the_record():
    ruling = ruled(decide(evidence(runs(SCREEN, {1: 10.5}))), Verdict.DISCARD, "screen")  # 1.5 < 1.5811
    assert ruling.effect is not None and ruling.effect.estimate == pytest.approx(1.5)
    # sigma * sqrt(1 + 1/5) * t(0.95, 4) = 1.5811 * 1.0954 * 2.1318
    assert ruling.effect.high == pytest.approx(1.5 + 3.6924, abs=1e-3)
    assert asked(decide(evidence(runs(SCREEN, {1: 10.4}))), "confirm")  # 1.6, though the record is 10


def test_an_incumbents_own_lucky_runs_are_no_hurdle():
    kept = runs(SCREEN, {1: 2}) + runs(CONFIRM, {6: 5, 7: 6, 8: 4}) + runs(ANCHOR, {9: 10, 10: 11, 11: 12})
    ask = decide(evidence(runs(SCREEN, {9: 9.5}), incumbent=kept))  # 1.5 sigma below the anchors' mean 11
    # confirmations, and the incumbent topped up from 3 to 5, on seeds that the candidate runs too
    assert asked(ask, "confirm") == [
        *(("candidate", CONFIRM, seed) for seed in (12, 13, 14)),
        *(("incumbent", ANCHOR, seed) for seed in (12, 13)),
    ]


def test_an_incumbent_without_anchors_falls_back_on_its_confirmations():
    kept = runs(SCREEN, {1: 2}) + runs(CONFIRM, {6: 9, 7: 10, 8: 11})
    ruled(decide(evidence(runs(SCREEN, {6: 9.1}), incumbent=kept)), Verdict.DISCARD, "screen")
    confirm = asked(decide(evidence(runs(SCREEN, {6: 8.9}), incumbent=kept)), "confirm")
    assert sum(side == "incumbent" for side, _, _ in confirm) == 5


# --- confirm --------------------------------------------------------------------------------------

SCREENED = runs(SCREEN, {2: 9}, trial=50)
CONFIRMED = SCREENED + runs(CONFIRM, {6: 8, 7: 9, 8: 10}, trial=60)


def test_confirmations_are_asked_for_all_at_once_on_fresh_seeds():
    ask = decide(evidence(SCREENED))
    assert asked(ask, "confirm") == [("candidate", CONFIRM, seed) for seed in (6, 7, 8)]
    assert asked(decide(evidence(SCREENED, pending=ask.requests)), "confirm") == []
    # cut after one had been queued: the other two, on the next fresh seeds
    assert asked(decide(evidence(SCREENED, pending=ask.requests[:1])), "confirm") == [
        ("candidate", CONFIRM, 7),
        ("candidate", CONFIRM, 8),
    ]


def test_later_runs_of_the_incumbent_do_not_take_a_passed_screen_back():
    pending = [TrialRequest("candidate", CONFIRM, seed) for seed in (6, 7, 8)]
    late = runs(ANCHOR, dict.fromkeys(range(30, 40), 5.0))
    assert asked(decide(evidence(SCREENED, BASELINE + late, pending)), "confirm") == []


def test_the_t_test_by_hand():
    # sigma^2 = (4 * 2.5 + 2 * 1) / 6 = 2; error = sqrt(2) * sqrt(1/3 + 1/5) = 1.0328; needs 1.943 at 6 df
    answer = decide(evidence(CONFIRMED, rules=dataclasses.replace(MINIMISE, anchor_seeds=0)))
    kept = ruled(answer, Verdict.KEEP, "kept")
    assert any("t = 2.90, needs 1.94" in line and "6 degrees" in line for line in kept.arithmetic)
    assert kept.effect is not None
    assert (kept.effect.low, kept.effect.high) == (
        pytest.approx(3 - 1.9432 * 1.0328, abs=1e-3),
        pytest.approx(3 + 1.9432 * 1.0328, abs=1e-3),
    )
    nearly = SCREENED + runs(CONFIRM, {6: 9.15, 7: 10.15, 8: 11.15})  # enough if sigma were known: z = 1.79
    assert "t = 1.79" in ruled(decide(evidence(nearly)), Verdict.DISCARD, "confirm").reason
    weak = SCREENED + runs(CONFIRM, {6: 9.5, 7: 10.5, 8: 11.5})
    dropped = ruled(decide(evidence(weak)), Verdict.DISCARD, "confirm")
    assert "t = 1.45, needs 1.94" in dropped.reason
    assert dropped.effect is not None and dropped.effect.low < 0 < dropped.effect.estimate


def test_the_lucky_screening_run_takes_no_part_in_the_test():
    weak = runs(CONFIRM, {6: 9.5, 7: 10.5, 8: 11.5})
    effects = [
        ruled(decide(evidence(runs(SCREEN, {2: screen}) + weak)), Verdict.DISCARD, "confirm").effect
        for screen in (10.0, -1000.0)
    ]
    assert effects[0] == effects[1]


def test_hopeless_confirmations_are_given_up_and_good_ones_never_accepted_early():
    pending = [TrialRequest("candidate", CONFIRM, 8)]
    hopeless = SCREENED + runs(CONFIRM, {6: 13, 7: 14})
    ruling = ruled(decide(evidence(hopeless, pending=pending)), Verdict.DISCARD, "futile")
    assert "2 of 3" in ruling.reason and "futile" in ruling.arithmetic[-1]
    glorious = SCREENED + runs(CONFIRM, {6: -500, 7: -501})
    assert asked(decide(evidence(glorious, pending=pending)), "confirm") == []


def test_a_failing_incumbent_run_is_replaced_and_the_rest_still_judges():
    three = BASELINE[:3]
    ask = decide(evidence(SCREENED, incumbent=three))
    assert [seed for side, _, seed in asked(ask, "confirm") if side == "incumbent"] == [6, 7]
    crashed = (*three, failed(ANCHOR, 6, TrialOutcome.CRASH))
    assert asked(decide(evidence(CONFIRMED, incumbent=crashed)), "confirm") == [
        ("incumbent", ANCHOR, 7),
        ("incumbent", ANCHOR, 8),
    ]
    hopeless = (*three, *(failed(ANCHOR, seed, TrialOutcome.CRASH) for seed in range(20, 30)))
    assert asked(decide(evidence(CONFIRMED, incumbent=hopeless)), "anchor")  # 3 runs judge as well


# --- anchor ---------------------------------------------------------------------------------------

OURS = runs(ANCHOR, {9: 9, 10: 10, 11: 11}, trial=70)
THEIRS = runs(ANCHOR, {9: 12, 10: 13, 11: 14}, trial=80)


def test_anchor_runs_are_both_sides_on_fresh_seeds():
    ask = decide(evidence(CONFIRMED))
    assert set(asked(ask, "anchor")) == {
        (side, ANCHOR, seed) for side in ("candidate", "incumbent") for seed in (9, 10, 11)
    }
    assert asked(decide(evidence(CONFIRMED, pending=ask.requests)), "anchor") == []


def test_the_reported_effect_comes_from_the_anchor_runs_alone():
    ruling = ruled(decide(evidence(CONFIRMED + OURS, BASELINE + THEIRS)), Verdict.KEEP, "kept")
    # sigma^2 = (13.875 + 2 + 2) / 11; half-width = 1.2748 * sqrt(2/3) * t(0.95, 11) = 1.0408 * 1.7959
    assert ruling.effect is not None
    assert ruling.effect.estimate == pytest.approx(3)
    assert ruling.effect.high - 3 == pytest.approx(1.8692, abs=1e-3)
    assert (ruling.effect.n_candidate, ruling.effect.n_incumbent) == (3, 3)
    assert "no part in the decision" in ruling.arithmetic[-1]
    assert any("t = 2.90, needs 1.94" in line for line in ruling.arithmetic)  # as it was decided


def test_a_keep_is_not_revoked_by_its_anchor_but_a_bad_one_is_said():
    worse = runs(ANCHOR, {9: 19, 10: 20, 11: 21}, trial=70)
    ruling = ruled(decide(evidence(CONFIRMED + worse, BASELINE + THEIRS)), Verdict.KEEP, "kept")
    assert ruling.effect is not None and ruling.effect.high < 0
    assert ruling.arithmetic[-1].startswith("warning: on fresh seeds the kept version is worse")


def test_later_runs_of_the_incumbent_do_not_take_a_pass_back():
    late = runs(ANCHOR, {30: 4, 31: 5, 32: 6}, trial=65)  # another experiment's, finished late
    ruling = ruled(decide(evidence(CONFIRMED + OURS, BASELINE + THEIRS + late)), Verdict.KEEP, "kept")
    assert any("passed when it was decided" in line for line in ruling.arithmetic)
    later = runs(ANCHOR, {30: 4, 31: 5, 32: 6}, trial=90)
    ruling = ruled(decide(evidence(CONFIRMED + OURS, BASELINE + THEIRS + later)), Verdict.KEEP, "kept")
    assert any("t = 2.90, needs 1.94" in line for line in ruling.arithmetic)
    pending = [TrialRequest("candidate", ANCHOR, 9), TrialRequest("incumbent", ANCHOR, 9)]
    answer = decide(evidence(CONFIRMED, BASELINE + late, pending=pending))
    assert len(asked(answer, "anchor")) == 4


def test_a_lost_anchor_seed_is_replaced_up_to_as_many_again():
    partly = (*CONFIRMED, *OURS[:2], failed(ANCHOR, 11, TrialOutcome.LOST))
    answer = decide(evidence(partly, BASELINE + THEIRS))
    assert asked(answer, "anchor") == [("candidate", ANCHOR, 12), ("incumbent", ANCHOR, 12)]
    gone = CONFIRMED + tuple(failed(ANCHOR, seed, TrialOutcome.LOST) for seed in range(9, 15))
    ruling = ruled(decide(evidence(gone, BASELINE + THEIRS)), Verdict.KEEP, "kept")
    assert any("no comparable pair" in line for line in ruling.arithmetic)


# --- endings --------------------------------------------------------------------------------------

ENDINGS = [
    *((name, Verdict.CRASH, "crash") for name in ("crash", "timeout", "memory", "no_metric", "output")),
    *((name, Verdict.INVALID, "invalid") for name in ("not_finite", "conflict", "constraint")),
    ("stopped", Verdict.DISCARD, "stopped"),
    ("cancelled", Verdict.CANCELLED, "cancelled"),
    ("lost", Verdict.CANCELLED, "host"),
]


@pytest.mark.parametrize("mode", ["confirmed", "single"])
@pytest.mark.parametrize(("outcome", "verdict", "word"), ENDINGS)
def test_a_screening_run_without_a_score_decides(outcome, verdict, word, mode):
    bad = failed(SCREEN, 2, TrialOutcome(outcome), "exit 3")
    ruling = ruled(decide(evidence([bad], rules=Rules(Goal.MINIMIZE, mode))), verdict, word)
    assert "seed 2" in ruling.reason and "exit 3" in ruling.arithmetic[0]


@pytest.mark.parametrize(("outcome", "verdict", "word"), ENDINGS)
def test_one_bad_seed_of_several_confirmations_is_enough(outcome, verdict, word):
    candidate = (*CONFIRMED[:3], failed(CONFIRM, 8, TrialOutcome(outcome)))
    ruled(decide(evidence(candidate)), verdict, word)


def test_a_crash_on_an_anchor_seed_is_the_programs_own_failure():
    candidate = (*CONFIRMED, *OURS[:2], failed(ANCHOR, 11, TrialOutcome.CRASH))
    ruled(decide(evidence(candidate, BASELINE + THEIRS)), Verdict.CRASH, "crash")


# --- a program that seeds do not move ---------------------------------------------------------------

STILL = runs(CALIBRATE, dict.fromkeys(range(1, 6), 3.25), trial=1)


def test_without_noise_a_strictly_better_score_is_replicated_once_and_kept():
    ruled(decide(evidence(runs(SCREEN, {1: 3.25}), STILL)), Verdict.DISCARD, "screen")
    ruled(decide(evidence(runs(SCREEN, {1: 3.25 - 1e-12}), STILL)), Verdict.DISCARD, "screen")
    better = runs(SCREEN, {1: 3.24})
    assert asked(decide(evidence(better, STILL)), "confirm") == [("candidate", CONFIRM, 6)]
    ruling = ruled(decide(evidence(better + runs(CONFIRM, {6: 3.24}), STILL)), Verdict.KEEP, "kept")
    assert ruling.effect is not None
    assert ruling.effect.low == ruling.effect.high == pytest.approx(0.01)


def test_a_candidate_that_brings_noise_to_a_still_program_is_tested_with_it():
    better = runs(SCREEN, {1: 3.0}) + runs(CONFIRM, {6: 3.4})
    assert asked(decide(evidence(better, STILL)), "confirm") == [
        ("candidate", CONFIRM, 7),
        ("candidate", CONFIRM, 8),
    ]
    answer = decide(evidence(better + runs(CONFIRM, {7: 3.0, 8: 3.2}), STILL))
    ruling = ruled(answer, Verdict.DISCARD, "confirm")
    assert any("Welch" in line for line in ruling.arithmetic)


# --- hardware -------------------------------------------------------------------------------------


def test_on_hardware_the_incumbent_never_saw_it_is_measured_there_first():
    tempting = runs(SCREEN, {2: 1}, hardware="fast")  # 11 better, if kinds could be compared
    ask = decide(evidence(tempting))
    assert asked(ask, "incumbent") == [("incumbent", ANCHOR, seed) for seed in (6, 7, 8, 9, 10)]
    assert isinstance(ask, Ask) and {r.hardware for r in ask.requests} == {"fast"}
    assert asked(decide(evidence(tempting, pending=ask.requests)), "incumbent") == []
    there = BASELINE + runs(ANCHOR, {6: 0, 7: 1, 8: 2, 9: 1, 10: 1}, hardware="fast")
    ruled(decide(evidence(tempting, there)), Verdict.DISCARD, "screen")


def test_a_conductor_that_cannot_place_the_incumbent_there_is_not_asked_for_ever():
    tempting = runs(SCREEN, {2: 1}, hardware="fast", trial=50)
    elsewhere = runs(ANCHOR, dict.fromkeys(range(6, 16), 12.0), trial=51)
    assert asked(decide(evidence(tempting, BASELINE + elsewhere[:9])), "incumbent")
    ruled(decide(evidence(tempting, BASELINE + elsewhere)), Verdict.CANCELLED, "host")
    single = Rules(Goal.MINIMIZE, "single")
    assert len(asked(decide(evidence(tempting, rules=single)), "incumbent")) == 1
    ruled(decide(evidence(tempting, BASELINE + elsewhere, rules=single)), Verdict.CANCELLED, "host")


# --- single ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", list(Goal))
def test_single_keeps_whatever_is_strictly_better_in_one_run(goal):
    rules = Rules(goal, "single")
    incumbent = runs(SCREEN, {1: goal.sign * 5.0})
    assert asked(decide(evidence(incumbent=incumbent, rules=rules)), "screen") == [("candidate", SCREEN, 1)]
    for gain, verdict, word in [
        (1e-6, Verdict.KEEP, "kept"),
        (0.0, Verdict.DISCARD, "single"),
        (-1.0, Verdict.DISCARD, "single"),
    ]:
        candidate = runs(SCREEN, {1: goal.sign * (5.0 + gain)})
        ruling = ruled(decide(evidence(candidate, incumbent, rules=rules)), verdict, word)
        assert ruling.effect is None  # one run knows no interval


def test_single_calibrates_with_one_run_and_owns_that_it_knows_no_noise():
    rules = Rules(Goal.MINIMIZE, "single")
    assert len(asked(calibrate(rules, (), FRESH), "calibrate")) == 1
    found = calibrate(rules, BASELINE[:1], FRESH)
    assert isinstance(found, Calibration) and found.n == 1 and "not known" in found.notes[0]


# --- what a stateless judge promises ------------------------------------------------------------------


def replay(goal: Goal, scores: list[float], shuffle: int) -> list[object]:
    """Feed ``scores`` run by run in the order asked for; every answer, without its seeds' scores."""
    rules, supply, order = Rules(goal), iter(scores), random.Random(shuffle)
    sides: dict[str, list[Run]] = {"incumbent": list(BASELINE), "candidate": []}
    sides["incumbent"] = [dataclasses.replace(r, score=-goal.sign * (r.score or 0)) for r in BASELINE]
    queue: list[TrialRequest] = []
    seen: set[tuple[str, Purpose, int]] = set()
    answers: list[object] = []
    for trial in range(100, 200):
        # the order in which the store hands the rows out must not matter
        for side in sides.values():
            order.shuffle(side)
        answer = decide(evidence(sides["candidate"], sides["incumbent"], queue, rules))
        assert answer == decide(evidence(sides["candidate"], sides["incumbent"], queue, rules))
        if isinstance(answer, Ruling):
            return [*answers, answer.verdict, answer.reason, answer.effect]
        answers.append(answer)
        for request in answer.requests:
            assert (request.side, request.purpose, request.seed) not in seen, f"asked twice: {request}"
            seen.add((request.side, request.purpose, request.seed))
        queue += answer.requests
        request = queue.pop(order.randrange(len(queue)))
        score = -goal.sign * next(supply)
        sides[request.side].append(Run(trial, request.seed, request.purpose, TrialOutcome.OK, score, "h"))
    raise AssertionError("no verdict")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(40, 112), min_size=60, max_size=60), st.integers(0, 99))
def test_flipping_the_goal_and_the_signs_changes_nothing_and_nothing_is_asked_twice(eighths, shuffle):
    scores = [value / 8 for value in eighths]
    assert replay(Goal.MINIMIZE, scores, shuffle) == replay(Goal.MAXIMIZE, scores, shuffle)


def test_running_out_of_fresh_seeds_is_an_error_and_not_a_repeat():
    with pytest.raises(ValueError, match="fresh_seeds ran out"):
        decide(evidence(SCREENED, fresh=(6, 7)))
