"""Runs of the incumbent that a verdict on its candidate still misses. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.case import POOL, Case
from engine.evidence import INCUMBENT, Ask, Ruling, TrialRequest
from engine.types import Purpose, Verdict


def ask_incumbent(case: Case, hardware: str, wanted: int) -> Ask | Ruling:
    """Mode "single", on a kind of hardware that the incumbent never saw."""
    if case.waiting(INCUMBENT, *POOL):
        return Ask((), "incumbent", "the incumbent's runs are under way")
    if case.wasted(hardware) >= 2 * wanted:
        return unmeasured(case)
    requests = tuple(
        TrialRequest(INCUMBENT, Purpose.ANCHOR, seed, hardware) for seed in take(case.evidence.fresh_seeds, wanted)
    )
    return Ask(requests, "incumbent", f"the incumbent on {hardware or 'this hardware'}, to compare with")


def top_up(
    case: Case, hardware: set[str], stage: str, preferred: Sequence[int] = (), spent: int = 0
) -> Ask | None:
    """The incumbent's runs still missing on ``hardware``; None when it has enough, or no more are to be had.

    Takes the candidate's own fresh seeds first (``preferred``): the same cost, and the shared seeds
    measure the correlation. ``spent`` seeds at the front of the fresh ones are among them already.
    """
    wanted = case.rules.incumbent_seeds
    waiting = case.waiting(INCUMBENT, *POOL)
    used = {run.seed for run in case.every(INCUMBENT)} | {p.seed for p in waiting}
    seeds = [seed for seed in preferred if seed not in used]
    seeds += [seed for seed in case.evidence.fresh_seeds[spent:] if seed not in used and seed not in seeds]
    requests: list[TrialRequest] = []
    short, credit = False, len(waiting)
    for kind in sorted(hardware):
        missing = wanted - len(case.pool({kind}, fall_back=False))
        if missing <= 0 or case.wasted(kind) >= 2 * wanted:
            continue
        short = True
        covered = min(missing, credit)  # where a queued run will land is not known: count it once
        credit -= covered
        for _ in range(missing - covered):
            if not seeds:
                raise ValueError("fresh_seeds ran out: give the judge more of them")
            requests.append(TrialRequest(INCUMBENT, Purpose.ANCHOR, seeds.pop(0), kind))
    if not short:
        return None
    return Ask(tuple(requests), stage, f"the incumbent on {wanted} seeds of the same hardware")


def unmeasured(case: Case) -> Ruling:
    text = "the incumbent could not be measured on the candidate's hardware"
    case.say(text)
    return Ruling(Verdict.CANCELLED, f"host: {text}", None, case.arithmetic)


def take(seeds: Sequence[int], count: int) -> tuple[int, ...]:
    if len(seeds) < count:
        raise ValueError(f"fresh_seeds ran out: {count} wanted, {len(seeds)} given")
    return tuple(seeds[:count])
