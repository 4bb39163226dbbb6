"""Curves on an axis: by step, tokens, seconds or part of the budget, whichever the run's output allows. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from console.state import Curve

AXES = ("step", "tokens", "seconds", "fraction")
AXIS_WORDS = {"step": "step", "tokens": "tokens", "seconds": "seconds", "fraction": "part of the budget"}
BEYOND = 1e300  # differences of what is drawn must stay within a float
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Trace:
    """A curve on an axis: ``xs`` finite and ascending, ``ys`` beside them, NaN where nothing is drawn."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]


def why_not(curve: Curve, axis: str) -> str:
    """'' when ``curve`` can be drawn on ``axis``, else the reason."""
    if axis == "step":
        return "" if curve.unit == "step" else "the run printed no step numbers"
    if axis == "tokens":
        return "" if curve.tokens else "the run printed no count of tokens"
    if axis == "seconds":
        return "" if _seconds(curve) else "no times were recorded"
    if curve.budget_steps > 0 and curve.unit == "step":
        return ""
    if curve.budget_seconds > 0 and not curve.budget_steps and _seconds(curve):
        return ""
    return "no budget is known for this trial"


def axis_for(wanted: str, curves: Sequence[Curve]) -> str:
    """``wanted``, or the first axis that the first curve can be drawn on."""
    wanted = wanted if wanted in AXES else AXES[0]
    if not curves or not why_not(curves[0], wanted):
        return wanted
    return next((axis for axis in AXES if not why_not(curves[0], axis)), wanted)


def places(curve: Curve, axis: str) -> tuple[float, ...]:
    """x of each of the curve's points on ``axis``; () where ``why_not`` says why."""
    if why_not(curve, axis):
        return ()
    if axis == "tokens":
        return curve.tokens
    if axis == "seconds":
        return _seconds(curve)
    if axis == "fraction" and not curve.budget_steps:
        return tuple(at / curve.budget_seconds for at in _seconds(curve))
    xs = tuple(x for x, _ in curve.points)
    return tuple(x / curve.budget_steps for x in xs) if axis == "fraction" else xs


def _seconds(curve: Curve) -> tuple[float, ...]:
    if len(curve.seconds) == len(curve.points):
        return curve.seconds
    return tuple(x for x, _ in curve.points) if curve.unit == "s" else ()


def budget_on(curve: Curve, axis: str) -> float | None:
    """Where the trial's budget ends on ``axis``."""
    if axis == "fraction":
        return 1.0
    if axis == "step" and curve.budget_steps > 0:
        return curve.budget_steps
    if axis == "seconds" and curve.budget_seconds > 0 and not curve.budget_steps:
        return curve.budget_seconds
    return None


def trace(curve: Curve, axis: str) -> Trace:
    """The curve on ``axis``, not smoothed. Points whose x is no number are left out, and what is not finite
    in y (or beyond all sense) is a gap; a run that counts its steps anew is put in order."""
    xs = places(curve, axis)
    ys = [y for _, y in curve.points[: len(xs)]]
    xs = xs[: len(ys)]
    if (
        not all(map(math.isfinite, xs))
        or list(xs) != sorted(xs)
        or (xs and not -BEYOND < xs[0] <= xs[-1] < BEYOND)
    ):
        pairs = sorted(
            (pair for pair in zip(xs, ys, strict=True) if -BEYOND < pair[0] < BEYOND), key=itemgetter(0)
        )
        xs, ys = tuple(x for x, _ in pairs), [y for _, y in pairs]
    return Trace(xs, tuple(y if -BEYOND < y < BEYOND else math.nan for y in ys))


def extent(traces: Sequence[Trace], *, positive: bool = False) -> Span | None:
    """Least and greatest x of all; only of those above zero where ``positive``."""
    lows, highs = [], []
    for one in traces:
        first = bisect_right(one.xs, 0.0) if positive else 0
        if first < len(one.xs):
            lows.append(one.xs[first])
            highs.append(one.xs[-1])
    return (min(lows), max(highs)) if lows else None
