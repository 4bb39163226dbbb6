"""Which constants to move next, and where to: probes first, then Optuna's TPE.

The tree-structured Parzen estimator (Bergstra et al., 2011; multivariate: Falkner et al., 2018) draws
from the density of the better experiments where it most exceeds that of the rest. It needs a few
observations of a constant before it is better than chance, and a research campaign has few. So a
constant is first *probed*: moved alone, a meaningful step up or down, and further the same way for as
long as that wins. Once both ways are known, TPE places it, alone or together with another.

Which constant comes next is drawn at random in proportion to how much its role usually matters times
how often moving it has helped here (the mean of a Beta posterior). Everything is rebuilt from the
history each time and depends on nothing else but the seed.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.proposers.moves import NEAR_MISS, Move, identity
from engine.proposers.ranges import Range
from engine.proposers.spelling import Value
from engine.types import Goal

_RIPE = 2  # moves of a constant that TPE wants to have seen
_SHARPNESS = 1.5  # 1: in proportion to the expected use, larger: the best-known constants more often
# What lost both ways is near its best value: TPE refines it, once the others have been looked at.
_BRACKETED = 0.3
_ENOUGH = 30  # experiments, from which on TPE's densities are worth more than "one valley"
_STEP = (0.2, 0.5)  # a probe's length, as a share of the way to the range's end


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a suggestion depends on. ``base`` holds the incumbent's values of all searched constants."""

    base: Mapping[str, Value]
    ranges: Mapping[str, Range]
    moves: tuple[Move, ...]
    goal: Goal
    incumbent_score: float | None
    seed: int
    subset: int
    taken: frozenset[tuple[tuple[str, Value], ...]] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``values`` of the changed constants. ``method``: probe, tpe, or sweep (what is left to try)."""

    values: Mapping[str, Value]
    method: str
    reason: str


def suggest(now: Situation) -> Suggestion | None:
    """The next change, or None when everything that can be tried has been."""
    rng = random.Random(now.seed)
    if now.subset > 1 and rng.random() < 0.35:
        together = _combine(now)
        if together is not None:
            return together
    for attempt in range(24):
        main = _draw(now, rng, exclude=())
        if main is None:
            break
        suggestion = _probe(now, main, rng)
        if suggestion is None:
            keys = [main]
            while len(keys) < now.subset and rng.random() < 0.5:
                other = _draw(now, rng, exclude=keys, ripe_only=True)
                if other is None:
                    break
                keys.append(other)
            suggestion = _tpe(now, keys, now.seed * 31 + attempt)
        if suggestion is not None:
            return suggestion
    return _sweep(now, rng)


# --- which constants ---------------------------------------------------------------------------------


def _draw(now: Situation, rng: random.Random, exclude: Sequence[str], ripe_only: bool = False) -> str | None:
    keys: list[str] = []
    weights: list[float] = []
    for key, range_ in now.ranges.items():
        if key in exclude or any(_tied(range_, now.ranges[other]) for other in exclude):
            continue
        tries, wins = _record(now, key)
        if ripe_only and tries < 1:
            continue
        keys.append(key)
        weight = range_.weight * (1.0 + 2.0 * wins) / (1.0 + tries)
        if range_.scale != "choice" and all(way is False for way in _directions(now, key).values()):
            weight *= _BRACKETED
        weights.append(weight**_SHARPNESS)
    return rng.choices(keys, weights)[0] if keys else None


def _tied(one: Range, other: Range) -> bool:
    """Widths and numbers of heads must divide each other: never move two of them at once."""
    roles = {"dimension", "heads", "head size"}
    return one.role in roles and other.role in roles


def _record(now: Situation, key: str) -> tuple[float, float]:
    """How often ``key`` was moved (a shared move counts in part), and how often that helped."""
    tries = wins = 0.0
    for move in now.moves:
        if key in move.before and (move.gain is not None or move.pending):
            share = 1.0 / len(move.before)
            tries += share
            wins += share * (move.gain or 0.0)
    return tries, wins


# --- where to ----------------------------------------------------------------------------------------


def _probe(now: Situation, key: str, rng: random.Random) -> Suggestion | None:
    """A step of one constant in a direction not yet known to be bad; None when both are known."""
    range_, base = now.ranges[key], now.base[key]
    if range_.scale == "choice":
        return _other_choice(now, key, rng)
    verdicts = _directions(now, key)
    if sum(1 for d in verdicts if verdicts[d] is not None) >= _RIPE:
        return None
    ways = [d for d in (1, -1) if verdicts[d] is True] or [d for d in (1, -1) if verdicts[d] is None]
    rng.shuffle(ways)
    at = range_.coordinate(base)
    lowest, highest = range_.bounds
    for way in ways:
        room = (highest - at) if way > 0 else (at - lowest)
        if room <= 0:
            continue
        for _ in range(8):
            value = range_.value_at(at + way * room * rng.uniform(*_STEP))
            if value == base and range_.scale == "ladder":
                beyond = [s for s in range_.steps if (float(s) - float(base)) * way > 0]
                value = min(beyond, key=lambda s: abs(float(s) - float(base))) if beyond else base
            if value == base and range_.integer:
                value = int(base) + way if range_.low <= int(base) + way <= range_.high else base
            if range_.differs(base, value) and _fresh(now, {key: value}):
                word = "raised" if way > 0 else "lowered"
                won = verdicts[way] is True
                return Suggestion(
                    {key: value},
                    "probe",
                    f"moving it this way has helped before, so it is {word} further"
                    if won
                    else f"it has not been {word} from here yet",
                )
    return None


def _directions(now: Situation, key: str) -> dict[int, bool | None]:
    """For up (+1) and down (-1): helped (True), did not or is being tried (False), unknown (None)."""
    known: dict[int, bool | None] = {1: None, -1: None}
    range_ = now.ranges[key]
    for move in now.moves:
        if move.changed != (key,) or not (move.pending or move.gain is not None):
            continue
        step = range_.coordinate(move.values[key]) - range_.coordinate(move.before[key])
        way = 1 if step > 0 else -1
        if move.gain == 1.0:
            # What stands behind us was the worse one.
            known = {way: True, -way: False}
        else:
            known[way] = False
    return known


def _other_choice(now: Situation, key: str, rng: random.Random) -> Suggestion | None:
    steps = [s for s in now.ranges[key].steps if s != now.base[key] and _fresh(now, {key: s})]
    tried = {m.values[key] for m in now.moves if m.changed == (key,) and (m.pending or m.gain is not None)}
    steps = [s for s in steps if s not in tried]
    if not steps:
        return None
    return Suggestion({key: rng.choice(steps)}, "probe", "this choice has not been tried yet")


def _combine(now: Situation) -> Suggestion | None:
    """Moves that each scored better than this base, yet not by enough to be kept, made together.

    Small gains drown one by one in the noise of a run; their sum may not.
    """
    near: dict[str, tuple[float, Value]] = {}
    for move in now.moves:
        key = move.changed[0]
        if len(move.changed) > 1 or key not in now.ranges or not move.same_code:
            continue
        if move.gain != NEAR_MISS or move.before[key] != now.base[key]:
            continue
        if move.advantage > near.get(key, (0.0, None))[0]:
            near[key] = move.advantage, move.values[key]
    best = sorted(near, key=lambda key: near[key][0], reverse=True)
    values: dict[str, Value] = {}
    for key in best:
        if len(values) < now.subset and not any(_tied(now.ranges[key], now.ranges[k]) for k in values):
            values[key] = near[key][1]
    if len(values) < 2 or not _fresh(now, values):
        return None
    return Suggestion(values, "combination", "each alone scored better than its base, within the noise")


def _tpe(now: Situation, keys: Sequence[str], seed: int) -> Suggestion | None:
    """Values for ``keys`` from a study rebuilt of all earlier scores; the others stay the incumbent's."""
    for drawn in _ask(now, keys, seed):
        values = {
            k: v for k, v in drawn.items() if now.ranges[k].differs(now.base[k], v) and not _past_a_loss(now, k, v)
        }
        if values and _fresh(now, values):
            return Suggestion(
                values, "tpe", "there the density of the better experiments most exceeds that of the rest"
            )
    return None


def _past_a_loss(now: Situation, key: str, value: Value) -> bool:
    """Whether ``value`` lies further out than one that, moved alone from here, has already lost.

    With few observations TPE likes the far ends, where nothing was measured; a response with one
    valley says otherwise. Once there is enough to estimate densities from, TPE may go where it likes.
    """
    range_, base = now.ranges[key], now.base[key]
    if range_.scale == "choice" or len(now.moves) >= _ENOUGH:
        return False
    at, to = range_.coordinate(base), range_.coordinate(value)
    lost = [
        range_.coordinate(m.values[key])
        for m in now.moves
        if m.changed == (key,) and m.gain == 0.0 and m.same_code and m.before[key] == base
    ]
    return any(at < x <= to or to <= x < at for x in lost)


def _ask(now: Situation, keys: Sequence[str], seed: int, times: int = 8) -> Iterator[dict[str, Value]]:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Once, for good: warnings.catch_warnings swaps process-wide state and is unsafe in a thread.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    sampler = optuna.samplers.TPESampler(
        seed=seed % 2**31, multivariate=True, constant_liar=True, n_startup_trials=0
    )
    direction = optuna.study.StudyDirection[now.goal.name]
    study = optuna.create_study(sampler=sampler, direction=direction)
    told = list(_observations(now, keys))
    distributions: dict[str, BaseDistribution] = {}
    for key in keys:
        range_ = now.ranges[key]
        if range_.scale == "choice":
            distributions[key] = CategoricalDistribution(list(range(len(range_.steps))))
        else:
            # What was measured outside of today's range still says something about its ends.
            places = [at[key] for at, _, _ in told]
            low, high = range_.bounds
            distributions[key] = FloatDistribution(min(low, *places), max(high, *places))
    for at, score, running in told:
        # Only ranks count for TPE. A crash is told as pruned without a value: behind every score,
        # whatever the unit. A running one is told as running: the constant liar keeps away from it.
        state = TrialState.RUNNING if running else TrialState.PRUNED
        if score is not None:
            state = TrialState.COMPLETE
        params = {k: max(int(x), 0) if now.ranges[k].scale == "choice" else x for k, x in at.items()}
        study.add_trial(create_trial(state=state, params=params, distributions=distributions, value=score))
    for _ in range(times):
        trial = study.ask(distributions)
        yield {key: now.ranges[key].value_at(float(trial.params[key])) for key in keys}
        study.tell(trial, state=TrialState.FAIL)  # refused before it ran: no evidence


def _observations(now: Situation, keys: Sequence[str]) -> Iterator[tuple[dict[str, float], float | None, bool]]:
    """Coordinates, score (None: crashed, or not known) and whether it runs, of all that was measured.

    Only on today's code: a score of other code is on another scale. Incumbents of the past count too.
    """

    def at(values: Mapping[str, Value]) -> dict[str, float]:
        return {key: now.ranges[key].coordinate(values.get(key, now.base[key])) for key in keys}

    yield at(now.base), now.incumbent_score, now.incumbent_score is None
    bases = {identity(now.base)}
    for move in now.moves:
        if not move.same_code:
            continue
        origin = {key: {**move.values, **move.before}.get(key, now.base[key]) for key in now.base}
        if move.base_score is not None and identity(origin) not in bases:
            bases.add(identity(origin))
            yield at(origin), move.base_score, False
        if move.dead or move.pending or move.score is not None:
            yield at(move.values), None if move.dead or move.pending else move.score, move.pending


def _sweep(now: Situation, rng: random.Random) -> Suggestion | None:
    """Whatever is still untried, for small spaces that are nearly used up."""
    keys = list(now.ranges)
    rng.shuffle(keys)
    for key in keys:
        range_ = now.ranges[key]
        low, high = range_.bounds
        candidates: list[Value] = list(range_.steps)
        candidates = candidates or [range_.value_at(low + (high - low) * i / 40) for i in range(41)]
        rng.shuffle(candidates)
        for value in candidates:
            if range_.differs(now.base[key], value) and _fresh(now, {key: value}):
                return Suggestion({key: value}, "sweep", "it is among the few values not yet tried")
    return None


def _fresh(now: Situation, changed: Mapping[str, Value]) -> bool:
    """Not the base and not a program that was proposed before."""
    return identity({**now.base, **changed}) not in now.taken
