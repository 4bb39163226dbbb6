"""What the tools ``history`` and ``trial_log`` answer: the past in words, fenced and cut. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from engine.fencing import clean, fence, one_line
from engine.types import Effect, Goal, PastExperiment

LIST_BYTES = 24_000
DIFF_BYTES = 24_000
LOGS_BYTES = 30_000
CURVE_POINTS = 40  # of one series
CURVES = 12
_HYPOTHESIS, _REASON = 280, 280  # bytes in a list
_WHOLE = 4000  # of one text of one experiment


def experiments(found: Sequence[PastExperiment], matching: int, known: int, metric: str, goal: Goal) -> str:
    """A list of ``found``, the newest of ``matching`` among ``known`` experiments."""
    if not found:
        return f"No experiment matches; {known} are known." if known else "There is no earlier experiment."
    rows = [_row(one) for one in found]
    shown, left_out = last_that_fit(rows, LIST_BYTES)
    note = f" but the {left_out} oldest of them" if left_out else ""
    return fence(
        "\n".join(shown),
        f"{matching} of {known} experiments match, the newest {len(found)} in order{note}. {_units(metric, goal)}",
    )


def experiment(one: PastExperiment, diff: str, metric: str, goal: Goal) -> str:
    """All about one experiment."""
    lines = [
        _head(one),
        f"hypothesis: {one_line(one.hypothesis, _WHOLE)}",
        f"reason: {one_line(one.reason, _WHOLE)}",
    ]
    if one.parameters:
        lines.append(f"parameters: {one_line(str(dict(one.parameters)), _WHOLE)}")
    told = fence("\n".join(lines), f"Experiment #{one.number}. {_units(metric, goal)}")
    if not diff:
        return f"{told}\nIt has no diff."
    rows = clean(diff).split("\n")
    shown, left_out = first_that_fit(rows, DIFF_BYTES)
    note = f", its first {len(shown)} lines; {left_out} more are cut" if left_out else ""
    return f"{told}\n{fence(chr(10).join(shown), f'Its diff against its base version{note}')}"


def logs(number: int, found: Iterable[tuple[str, str]]) -> str:
    """What the newest trials printed last."""
    parts, room = [], LOGS_BYTES
    for where, text in found:
        rows = clean(text).split("\n")
        shown, left_out = last_that_fit(rows, max(room, 400))
        room -= sum(len(row.encode()) + 1 for row in shown)
        note = f"; {left_out} lines before are cut" if left_out else ""
        parts.append(fence("\n".join(shown), f"The log of {where}{note}"))
    return "\n\n".join(parts) or f"No trial of experiment #{number} has run yet, so there is no log."


def curves(number: int, found: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    """Learning curves as columns of step and value, thinned out evenly."""
    parts = []
    for name, points in found[:CURVES]:
        shown = thinned(points)
        values = [value for _, value in points if math.isfinite(value)]
        span = f", values from {min(values):.6g} to {max(values):.6g}" if values else ""
        head = f"{one_line(name, 160)}: {len(points)} points{span}"
        rows = [f"{step:.10g} {value:.6g}" for step, value in shown]
        parts.append("\n".join([head, *(rows or ["(none)"])]))
    if not parts:
        return f"No trial of experiment #{number} has reported a series of numbers."
    more = f"; {len(found) - CURVES} more series are cut" if len(found) > CURVES else ""
    return fence("\n\n".join(parts), f"Learning curves of experiment #{number}: step and value{more}")


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most CURVE_POINTS of ``points``, evenly spread, the first and the last among them."""
    if len(points) <= CURVE_POINTS:
        return points
    last = len(points) - 1
    return [points[round(index * last / (CURVE_POINTS - 1))] for index in range(CURVE_POINTS)]


def last_that_fit(rows: Sequence[str], limit: int) -> tuple[Sequence[str], int]:
    """(the last rows of at most ``limit`` bytes together, how many were left out); never nothing."""
    first = len(rows)
    while first > 0 and (limit := limit - len(rows[first - 1].encode()) - 1) >= 0:
        first -= 1
    if first == len(rows) and rows:
        return [one_line(rows[-1], max(limit + len(rows[-1].encode()), 80))], len(rows) - 1
    return rows[first:], first


def first_that_fit(rows: Sequence[str], limit: int) -> tuple[Sequence[str], int]:
    """(the first rows of at most ``limit`` bytes together, how many were left out); never nothing."""
    shown, left_out = last_that_fit(rows[::-1], limit)
    return shown[::-1], left_out


def settled_as(one: PastExperiment) -> str:
    return one.verdict.value if one.verdict else f"open ({one.state})"


def _row(one: PastExperiment) -> str:
    return (
        f"{_head(one)}\n    hypothesis: {one_line(one.hypothesis, _HYPOTHESIS) or '-'}"
        f"\n    reason: {one_line(one.reason, _REASON) or '-'}"
    )


def _head(one: PastExperiment) -> str:
    score = "none" if one.score is None else f"{one.score:.6g}"
    kind = f", {one_line(one.kind, 40)}" if one.kind else ""
    base = "the incumbent" if one.on_incumbent else "an earlier incumbent"
    return (
        f"#{one.number} {settled_as(one)}: {one_line(one.title, 200)}\n"
        f"    by {one.author.value}{kind}, on {base}; effect {_effect(one.effect)}; score {score}"
    )


def _effect(effect: Effect | None) -> str:
    if effect is None:
        return "not measured"
    return f"{effect.estimate:+.4g} [{effect.low:+.4g}, {effect.high:+.4g}]"


def _units(metric: str, goal: Goal) -> str:
    better = "lower" if goal is Goal.MINIMIZE else "higher"
    return (
        f"Effect: improvement of {one_line(metric, 60)} on the incumbent with its 90 % interval, positive is "
        f"better. Score: {better} is better"
    )
