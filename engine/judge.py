"""The rule by which the ratchet advances (docs: "when a change is an improvement"). Pure functions.

``decide`` keeps nothing between calls: after every trial it is given all evidence again, and either asks
for the runs that its present stage still misses or rules. A stage that led to requests is never taken
back by runs that arrive later, so the same evidence plus more runs cannot swing a verdict to and fro.

    screen   one run on a seed of the incumbent must beat the incumbent's mean by a margin
    confirm  fresh seeds, the screening run excluded: Student's t, one-sided, pooled noise
    anchor   fresh seeds for both, no part of the decision: the reported effect comes from these alone

To come: certification of the head (a sequential probability ratio test on fresh pairs), and the
simplification lane (non-inferiority of a change that only removes code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine import estimates
from engine.calibration import calibrate
from engine.case import HOST_ENDINGS, POOL, Case
from engine.estimates import Comparison, identical, mean
from engine.evidence import (
    CANDIDATE,
    INCUMBENT,
    Ask,
    BaselineFailed,
    Calibration,
    Evidence,
    Rules,
    Ruling,
    TrialRequest,
)
from engine.incumbent import ask_incumbent, take, top_up, unmeasured
from engine.types import Effect, Purpose, Run, TrialOutcome, Verdict

__all__ = [
    "Ask",
    "BaselineFailed",
    "Calibration",
    "Evidence",
    "Rules",
    "Ruling",
    "TrialRequest",
    "calibrate",
    "decide",
]

HOPED_SIGMA = 2.0  # futility grants the missing runs a gain of this much, or the screen's if larger
FUTILE = 0.01  # and stops when even so the chance to pass is below this


def decide(evidence: Evidence) -> Ask | Ruling:
    """What is missing for a verdict on the candidate, or the verdict."""
    case = Case(evidence)
    if ruling := _failure(case):
        return ruling
    if evidence.rules.mode == "single":
        return _single(case)
    return _screen(case) or _confirm(case) or _anchor(case)


# --- a candidate that did not come to a score ----------------------------------------------------

_ENDINGS = (  # in this order when several seeds ended badly
    (Verdict.CRASH, "crash", ("crash", "timeout", "memory", "output", "no_metric")),
    (Verdict.INVALID, "invalid", ("not_finite", "conflict", "constraint")),
    (Verdict.DISCARD, "stopped", ("stopped",)),
    (Verdict.CANCELLED, "cancelled", ("cancelled",)),
    (Verdict.CANCELLED, "host", ("lost",)),
)


def _failure(case: Case) -> Ruling | None:
    """One bad seed of several is enough. On anchor seeds only the program's own failures count: the score
    there revokes nothing, but a head that crashes on some seeds would spoil all that follows."""
    for verdict, word, outcomes in _ENDINGS:
        for run in case.judged:
            if run.outcome.value not in outcomes:
                continue
            if run.purpose is Purpose.ANCHOR and run.outcome in HOST_ENDINGS:
                continue
            text = f"{run.outcome.value} on seed {run.seed} ({run.purpose.value} trial {run.trial})"
            case.say(f"{text}{': ' + run.detail if run.detail else ''}")
            return Ruling(verdict, f"{word}: {text}", None, case.arithmetic)
    return None


# --- single: autoresearch's own rule --------------------------------------------------------------


def _single(case: Case) -> Ask | Ruling:
    if not case.screen:
        return _ask_screen(case)
    run = case.screen
    assert run.score is not None
    kept = [r for r in case.incumbent if r.hardware == run.hardware]
    if not kept:
        return ask_incumbent(case, run.hardware, 1)
    score = kept[0].score  # the first: the one it was kept for
    assert score is not None
    gain = case.sign * (run.score - score)
    noise = case.noise({run.hardware})
    effect: Effect | None = None
    if noise.degrees_of_freedom:
        effect = Comparison(gain, noise.sigma * math.sqrt(2), noise.degrees_of_freedom, 1, 1).effect()
    case.say(f"single run: {run.score:.6g} against the incumbent's {score:.6g}: {gain:+.6g}")
    verdict = Verdict.KEEP if gain > 0 else Verdict.DISCARD
    words = f"{'better' if gain > 0 else 'not better'} in one run ({gain:+.6g})"
    return Ruling(verdict, f"{'kept' if gain > 0 else 'single'}: {words}", effect, case.arithmetic)


# --- screen ---------------------------------------------------------------------------------------


def _ask_screen(case: Case) -> Ask:
    asked = case.waiting(CANDIDATE, Purpose.SCREEN)
    requests = () if asked else (TrialRequest(CANDIDATE, Purpose.SCREEN, case.screen_seed()),)
    return Ask(requests, "screen", "one run on a seed that the incumbent has run")


def _screen(case: Case) -> Ask | Ruling | None:
    """None: passed. A screen that led to confirmations has passed, whatever came later."""
    if not case.screen:
        return _ask_screen(case)
    run, rules = case.screen, case.rules
    passed_before = bool(case.confirm or case.waiting(CANDIDATE, Purpose.CONFIRM))
    before = case.first_trial(Purpose.CONFIRM)
    pool = case.pool({run.hardware}, before)
    noise = case.noise({run.hardware}, before)
    if not pool or noise.degrees_of_freedom < 2:
        if ask := top_up(case, {run.hardware}, "incumbent"):
            return ask
        pool, noise = case.pool({run.hardware}), case.noise({run.hardware})
        if not pool or noise.degrees_of_freedom == 0:
            return unmeasured(case)
    comparison = estimates.compare(rules.goal, [run], pool, noise, estimates.NO_SEEDS)
    assert comparison is not None and run.score is not None
    case.say_noise(noise)
    case.say_pool("incumbent", pool, noise.sigma)
    margin = rules.screen_sigma * noise.sigma
    gain = comparison.gain
    if noise.sigma == 0:
        passed, needs = case.beyond_rounding(gain, run.score), "any strict gain"
    else:
        margin_text = case.show(margin, noise.sigma, True)
        passed, needs = gain >= margin, f"{margin_text} ({rules.screen_sigma:g} sigma)"
    size = f" ({gain / noise.sigma:+.1f} sigma)" if noise.sigma else ""
    case.say(
        f"screen: seed {run.seed} scored {case.show(run.score, noise.sigma)}, "
        f"gain {case.show(gain, noise.sigma, True)}{size}, needs {needs}: "
        + ("passed" if passed else "passed when it was decided" if passed_before else "not passed")
    )
    if passed or passed_before:
        return None
    reason = f"screen: gain {case.show(gain, noise.sigma, True)}, needs {needs}"
    return Ruling(Verdict.DISCARD, reason, comparison.effect(), case.arithmetic)


# --- confirm --------------------------------------------------------------------------------------


def _confirm(case: Case) -> Ask | Ruling | None:
    """None: passed. Looked at once, when complete; before that it may only be given up as futile."""
    assert case.screen is not None
    rules, home = case.rules, case.screen.hardware
    waiting = case.waiting(CANDIDATE, Purpose.CONFIRM)
    seeds = [run.seed for run in case.confirm] + [p.seed for p in waiting]
    # A program that seeds do not move, on either side, needs one replicate to be believed.
    still = case.noise({home}).sigma == 0 and identical([r.score or 0.0 for r in (case.screen, *case.confirm)])
    planned = 1 if still else rules.confirm_seeds
    missing = planned - len(seeds)
    if missing > 0:
        return _ask_confirm(case, seeds, missing, still)
    hardware = {home, *(run.hardware for run in case.confirm)}
    theirs = None if still or case.anchor_seeds else top_up(case, hardware, "confirm", seeds)
    if theirs and theirs.requests:
        return theirs
    if waiting:
        return _futile(case, seeds) or Ask((), "confirm", f"{len(waiting)} confirmations under way")
    partners = [p for p in case.waiting(INCUMBENT, *POOL) if p.seed in seeds]
    if theirs or (partners and not case.anchor_seeds):
        return Ask((), "confirm", "the incumbent's runs are under way")
    before = case.first_trial(Purpose.ANCHOR)
    pool, noise = case.pool(hardware, before), case.noise(hardware, before)
    comparison = estimates.compare(rules.goal, case.confirm, pool, noise, case.seed_correlation(before))
    if comparison is None or noise.degrees_of_freedom == 0:
        return unmeasured(case)
    return _test(case, comparison, noise, pool)


def _ask_confirm(case: Case, seeds: list[int], missing: int, still: bool) -> Ask:
    assert case.screen is not None
    home = case.screen.hardware
    fresh = take(case.evidence.fresh_seeds, missing)
    requests = [TrialRequest(CANDIDATE, Purpose.CONFIRM, seed, home) for seed in fresh]
    why = f"{missing} fresh seed{'s' * (missing > 1)}, the screening run excluded"
    pays = estimates.pairing_pays(
        case.noise({home}), case.seed_correlation(), len(seeds) + missing, len(case.pool({home}))
    )
    if still:
        pass
    elif pays and not seeds:
        requests += [TrialRequest(INCUMBENT, Purpose.ANCHOR, seed, home) for seed in fresh]
        why += "; the incumbent on the same seeds, since the seeds' correlation makes pairs cheaper"
    elif theirs := top_up(case, {home}, "confirm", [*seeds, *fresh], spent=missing):
        requests += theirs.requests
        why += f"; the incumbent topped up to {case.rules.incumbent_seeds}" * bool(theirs.requests)
    return Ask(tuple(requests), "confirm", why)


def _futile(case: Case, seeds: list[int]) -> Ruling | None:
    """Give up when the missing runs could hardly make it pass. There is no early acceptance."""
    assert case.screen is not None and case.screen.score is not None
    home = case.screen.hardware
    pool, noise = case.pool({home}), case.noise({home})
    if not case.confirm or not pool or not noise.sigma > 0 or not noise.degrees_of_freedom:
        return None
    if any(run.hardware != home for run in case.confirm):
        return None
    n, level, pairs = len(seeds), 1 - case.rules.confirm_alpha, case.seed_correlation()
    centre = mean([run.score or 0.0 for run in pool])
    hoped = max(HOPED_SIGMA * noise.sigma, case.sign * (case.screen.score - centre))
    gains = [case.sign * ((run.score or 0.0) - centre) for run in case.confirm]
    error = noise.sigma * math.sqrt(1 / n + 1 / max(len(pool), case.rules.incumbent_seeds))
    threshold = estimates.student_quantile(level, noise.degrees_of_freedom) * error
    chance = estimates.chance_to_pass(gains, n, threshold, noise.sigma, hoped)
    partners = {run.seed for run in pool} | {p.seed for p in case.waiting(INCUMBENT, *POOL)}
    if partners.issuperset(seeds) and estimates.pairs_are_quieter(noise, pairs):
        # The end may be judged in pairs: give up only when that way is as hopeless.
        by_pair = estimates.paired_gains(case.rules.goal, case.confirm, pool)
        spread, t = pairs.residual * math.sqrt(2), estimates.student_quantile(level, pairs.degrees_of_freedom)
        chance = max(chance, estimates.chance_to_pass(by_pair, n, t * spread / math.sqrt(n), spread, hoped))
    if chance >= FUTILE:
        return None
    shown = ", ".join(case.show(gain, noise.sigma, True) for gain in gains)
    case.say(
        f"confirm: {len(gains)} of {n} in, gains {shown}; the mean must reach "
        f"{case.show(threshold, noise.sigma)}. Were the true gain {case.show(hoped, noise.sigma)}, "
        f"the chance to get there would be at most {max(chance, 0.001):.1%}: given up as futile"
    )
    so_far = estimates.compare(case.rules.goal, case.confirm, pool, noise, estimates.NO_SEEDS)
    reason = f"futile: after {len(gains)} of {n} confirmations"
    return Ruling(Verdict.DISCARD, reason, so_far.effect() if so_far else None, case.arithmetic)


def _test(case: Case, comparison: Comparison, noise: estimates.Pooled, pool: Sequence[Run]) -> Ruling | None:
    sigma, alpha = noise.sigma, case.rules.confirm_alpha
    case.say_pool("confirm", case.confirm, sigma)
    case.say_pool("incumbent", pool, sigma)
    gain = comparison.gain
    if comparison.error == 0:
        score = case.confirm[0].score or 0.0
        passed, needs = case.beyond_rounding(gain, score), "the scores do not scatter: any strict gain passes"
        case.say(f"test: gain {gain:+.6g}; {needs}")
    else:
        needed = comparison.quantile(alpha)
        passed = comparison.t >= needed
        how = (
            f"pairs by seed, n = {comparison.n_candidate}"
            if comparison.paired
            else f"{comparison.n_candidate} against {comparison.n_incumbent} runs"
        )
        needs = f"t = {comparison.t:.2f}, needs {needed:.2f}"
        case.say(
            f"test: gain {case.show(gain, sigma, True)}, standard error {case.show(comparison.error, sigma)} "
            f"({how}, sigma {sigma:.3g}); {needs} (Student's t, "
            f"{comparison.degrees_of_freedom:.3g} degrees of freedom, one-sided alpha {alpha:g})"
        )
        if comparison.note:
            case.say(f"note: {comparison.note}")
    if passed or case.anchor_seeds:
        case.say("confirm: passed" if passed else "confirm: passed when it was decided; later runs moved it")
        case.confirmed = comparison
        return None
    case.say("confirm: not passed")
    reason = f"confirm: gain {case.show(gain, sigma, True)}, {needs}"
    return Ruling(Verdict.DISCARD, reason, comparison.effect(), case.arithmetic)


# --- anchor ---------------------------------------------------------------------------------------


def _anchor(case: Case) -> Ask | Ruling:
    """The decision is made; these runs say how large the gain is, free of the winner's curse."""
    assert case.screen is not None and case.confirmed is not None
    rules, home = case.rules, case.screen.hardware
    comparison, unbiased = case.confirmed, False
    if comparison.error == 0:
        case.say("anchor: not needed, nothing scatters")
    elif rules.anchor_seeds == 0:
        case.say("anchor: switched off; the effect is that of the deciding runs and flatters")
    else:
        if ask := _ask_anchor(case, home):
            return ask
        ours = [r for r in case.runs(CANDIDATE, Purpose.ANCHOR) if r.seed in case.anchor_seeds]
        theirs = [r for r in case.incumbent if r.purpose in POOL and r.seed in case.anchor_seeds]
        hardware = {run.hardware for run in ours}
        noise = case.noise(hardware)
        found = estimates.compare(rules.goal, ours, theirs, noise, case.seed_correlation())
        if found is None:
            case.say("anchor: no comparable pair of runs came back; the effect is that of the deciding runs")
        else:
            comparison, unbiased = found, True
            case.say_pool("anchor", ours, noise.sigma)
            case.say_pool("incumbent on fresh seeds", theirs, noise.sigma)
    effect = comparison.effect()
    sigma = case.noise({home}).sigma
    low, high = case.show(effect.low, sigma, True), case.show(effect.high, sigma, True)
    size = f"{case.show(effect.estimate, sigma, True)} (90 % interval {low} to {high})"
    case.say(f"effect: {size}" + (", from seeds that took no part in the decision" if unbiased else ""))
    if effect.high < 0:
        case.say(
            "warning: on fresh seeds the kept version is worse, its whole interval lies below zero. The keep "
            "stands, for the decision came first; look at it, or reject it by hand"
        )
    return Ruling(Verdict.KEEP, f"kept: {size}", effect, case.arithmetic)


def _ask_anchor(case: Case, home: str) -> Ask | None:
    """Both sides on ``anchor_seeds`` seeds; a seed on which a run was lost is replaced, up to as many."""
    wanted = case.rules.anchor_seeds
    sides = {
        side: {r.seed: r for r in case.every(side) if r.purpose in POOL and r.seed in case.anchor_seeds}
        for side in (CANDIDATE, INCUMBENT)
    }
    queued = {side: {p.seed for p in case.waiting(side, *POOL)} for side in sides}
    requests, usable = [], 0
    for seed in sorted(case.anchor_seeds):
        ended = [sides[side][seed] for side in sides if seed in sides[side]]
        if any(run.outcome is not TrialOutcome.OK for run in ended):
            continue
        usable += 1
        requests += [
            TrialRequest(side, Purpose.ANCHOR, seed, home)
            for side in sides
            if seed not in sides[side] and seed not in queued[side]
        ]
    extra = min(wanted - usable, 2 * wanted - len(case.anchor_seeds))
    for seed in take(case.evidence.fresh_seeds, max(0, extra)):
        requests += [TrialRequest(side, Purpose.ANCHOR, seed, home) for side in (CANDIDATE, INCUMBENT)]
    if requests:
        return Ask(tuple(requests), "anchor", f"both on {wanted} seeds that took no part in the decision")
    if any(queued[side] & case.anchor_seeds for side in sides):
        return Ask((), "anchor", "anchor runs are under way")
    return None
