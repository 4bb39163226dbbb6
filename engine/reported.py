"""What a trial says its scores are: the strict number, the rule for the objective. Pure.

A trial may state its objective in several places (a final block, METRIC lines, JSON lines, a file).
The rule that makes one number of them, or a typed problem, lives here once, for all sources:

1. A *configured* source (``[metric] pattern`` or ``file``) is the only source of the objective.
2. Otherwise a final ``---`` block decides. Two blocks must agree, and so must every statement outside
   it, except a channel that had been reporting changing values *before* the block: that was a curve.
3. Otherwise a *statement* (a value given without a step) beats the end of a *curve* (values with
   steps). Within one channel the last one counts, for scripts report repeatedly during training; two
   channels must agree. Between curves the one that reaches the higher step counts.

Agreement allows for rounding: 0.9979 and 0.99790012 are the same number printed twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from difflib import get_close_matches
from math import inf, isfinite, isnan, nan

from engine.types import Point, Score, TrialOutcome

SCORES_LIMIT = 256  # a hostile script must not fill the history with scores

_NUMBER = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = {b"nan": nan, b"inf": inf, b"infinity": inf}


def number(token: bytes) -> float | None:
    """A plain decimal number, NaN or infinity; None for anything else.

    Stricter than ``float()``: no underscores, thousands separators, hexadecimal or unicode digits.
    1e999 is infinite, and -0.0 is 0.0, so that comparisons and the history see one zero.
    """
    if _NUMBER.fullmatch(token):
        return float(token) + 0.0
    word = token.lower()
    sign = -1.0 if word[:1] == b"-" else 1.0
    value = _NOT_FINITE.get(word[1:] if word[:1] in (b"-", b"+") else word)
    return None if value is None else sign * value


@dataclass(frozen=True, slots=True)
class Report:
    """One mention of the objective. ``value`` None: there was a value, but it is no number."""

    value: float | None
    text: str  # as printed, for people and for its number of digits
    where: str  # "final block, line 12"
    step: float | None = None
    torn: bool = False  # one JSON object gave the key twice: no reader may choose between the two

    def agrees(self, other: Report) -> bool:
        """The same number, allowing for a coarser rounding of at least three significant digits."""
        if self.torn or other.torn:
            return False
        a, b = self.value, other.value
        if a is None or b is None:
            return a is b and self.text == other.text
        if a == b or (isnan(a) and isnan(b)):
            return True
        if not (isfinite(a) and isfinite(b)):
            return False
        unit, digits = max(_resolution(self.text, a), _resolution(other.text, b))
        return digits >= 3 and abs(a - b) <= 0.5 * unit * (1 + 1e-9)


@dataclass(frozen=True, slots=True)
class Reported:
    """What one source (or, after ``combine``, the trial) reported.

    ``objective`` is None exactly when ``problem`` is set. ``scores`` are all finite final numbers, the
    objective first. ``detail`` is one line for people: what, where, and on a problem the mend.
    """

    scores: tuple[Score, ...]
    objective: float | None
    problem: TrialOutcome | None
    detail: str
    name: str = ""  # of the objective
    report: Report | None = None  # where the objective, or the trouble with it, was found
    configured: bool = False  # ratchet.toml names this source: it alone gives the objective
    first_not_finite: Point | None = None  # where a series first went NaN or infinite
    fail_line: int | None = None  # where autoresearch's FAIL was printed


@dataclass(slots=True)
class _Channel:
    """The reports of one format. ``varied``: its statements changed before the first block came."""

    stated: Report | None = None
    curve: Report | None = None
    varied: bool = False
    stated_after_block: bool = False


@dataclass(slots=True)
class Finals:
    """Collects final numbers from one source and answers with a ``Reported``."""

    objective: str
    source: str = "reported"
    configured: str = ""  # the channel that alone counts, "" = all
    last: dict[str, float] = field(default_factory=dict)  # newest value of every name that may be final
    first_not_finite: Point | None = None
    fail_line: int | None = None
    near: str = ""  # a line that nearly reported the objective, for the message
    damage: str = ""  # lines that could not be read, for the message
    _channels: dict[str, _Channel] = field(default_factory=dict)
    _block: Report | None = None
    _clash: tuple[Report, Report] | None = None
    _block_scores: dict[str, Report] = field(default_factory=dict)
    _block_disputed: set[str] = field(default_factory=set)

    def in_block(self, name: str, report: Report) -> None:
        """A ``key: value`` line of a final block."""
        if name == self.objective:
            if self._block is not None and self._clash is None and not report.agrees(self._block):
                self._clash = (self._block, report)
            self._block = report
        elif report.value is not None and len(self._block_scores) < SCORES_LIMIT:
            before = self._block_scores.setdefault(name, report)
            if not report.agrees(before):
                self._block_disputed.add(name)

    def mention(self, channel: str, report: Report) -> None:
        """The objective, outside a block. With a step it is a point of a curve, else a statement."""
        state = self._channels.setdefault(channel, _Channel())
        if report.step is not None:
            state.curve = report
            return
        if self._block is not None:
            state.stated_after_block = True
        elif state.stated is not None and not report.agrees(state.stated):
            state.varied = True
        state.stated = report

    def reported(self) -> Reported:
        return _settle(self, *self._decide())

    def _decide(self) -> tuple[Report | None, tuple[Report, Report] | None]:
        """The report that counts, and the two that contradict each other if there are such."""
        if self.configured:
            only = self._channels.get(self.configured, _Channel())
            return only.stated or only.curve, None
        if self._clash:
            return self._block, self._clash
        channels = self._channels.values()
        if self._block is not None:
            others = [c.stated for c in channels if c.stated and (c.stated_after_block or not c.varied)]
            return self._block, _first_clash([self._block, *others])
        return choose([r for c in channels if (r := c.stated or c.curve) is not None])

    def secondary(self) -> dict[str, float]:
        """Every other final number; one that blocks dispute is left out."""
        scores = {name: r.value for name, r in self._block_scores.items() if r.value is not None}
        scores |= {name: value for name, value in self.last.items() if name not in scores}
        return {n: v for n, v in scores.items() if isfinite(v) and n not in self._block_disputed}

    def names(self) -> list[str]:
        return [*self._block_scores, *self.last]


def choose(reports: Sequence[Report]) -> tuple[Report | None, tuple[Report, Report] | None]:
    """Rule 3 of the module: statements beat curves, and what is of one rank must agree."""
    stated = [r for r in reports if r.step is None]
    if stated:
        return stated[0], _first_clash(stated)
    if not reports:
        return None, None
    furthest = max(r.step or 0.0 for r in reports)
    ends = [r for r in reports if (r.step or 0.0) == furthest]
    return ends[0], _first_clash(ends)


def combine(log: Reported, metrics_file: Reported | None = None, result_file: Reported | None = None) -> Reported:
    """One answer from the log, the RATCHET_METRICS file and the result file; None = there is none.

    A configured source (a result file, or the log with a pattern) alone gives the objective, whatever
    the others say, and its problem is the trial's problem. Otherwise silent sources are set aside and
    the rest must agree; statements beat curves, as within one source. Of agreeing values, and of
    secondary scores under one name, the more precise source is taken: result file, metrics file, log.
    """
    given = [r for r in (result_file, metrics_file, log) if r is not None]
    deciding = [r for r in given if r.configured]
    if not deciding:
        deciding = [r for r in given if r.report is not None] or [log]
    clash = None
    chosen = next((r for r in deciding if r.problem is TrialOutcome.CONFLICT), None)
    if chosen is None:
        report, clash = choose([r.report for r in deciding if r.report is not None])
        chosen = next((r for r in deciding if r.report is report), deciding[0])
    whole = replace(
        chosen,
        scores=_merged(chosen.name, [chosen, *given]),
        first_not_finite=next((r.first_not_finite for r in given if r.first_not_finite), None),
        fail_line=next((r.fail_line for r in given if r.fail_line is not None), None),
    )
    if clash is None:
        return whole
    return replace(
        whole,
        scores=tuple(s for s in whole.scores if s.name != whole.name),
        objective=None,
        problem=TrialOutcome.CONFLICT,
        detail=_clash_line(whole.name, *clash),
    )


def with_training(reported: Reported, training: Iterable[Reported]) -> Reported:
    """Add what earlier steps printed (peak memory, steps done), but never anything under the objective's
    name: in evaluated mode only the engine's own evaluation may give that one (TRUST.md row 2).
    """
    return replace(reported, scores=_merged(reported.name, [reported, *training]))


def _merged(objective: str, reports: Sequence[Reported]) -> tuple[Score, ...]:
    """Scores by name, the first report's before the others'; the objective from the first alone."""
    scores: dict[str, Score] = {s.name: s for s in reports[0].scores}
    for report in reports[1:]:
        for score in report.scores:
            if score.name != objective:
                scores.setdefault(score.name, score)
    return tuple(scores.values())[:SCORES_LIMIT]


def problem_of(report: Report | None) -> TrialOutcome | None:
    """What keeps this report from being a score."""
    if report is None or (report.value is None and not report.torn):
        return TrialOutcome.NO_METRIC
    if report.torn:
        return TrialOutcome.CONFLICT
    return None if report.value is not None and isfinite(report.value) else TrialOutcome.NOT_FINITE


def shown(text: str, width: int = 60) -> str:
    """Foreign text made safe for a one-line message: printable characters only, and not too many."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: width + 1])
    return clean if len(clean) <= width else clean[: width - 1] + "…"


def _settle(finals: Finals, report: Report | None, clash: tuple[Report, Report] | None) -> Reported:
    name = finals.objective
    problem = TrialOutcome.CONFLICT if clash else problem_of(report)
    objective = report.value if report is not None and problem is None else None
    if clash:
        detail = _clash_line(name, *clash)
    elif report is None:
        detail = _absent_line(finals)
    else:
        detail = _found_line(name, report, problem)
    own = () if objective is None else (Score(name, objective, source=finals.source),)
    rest = (Score(n, v, source=finals.source) for n, v in finals.secondary().items() if n != name)
    return Reported(
        scores=(*own, *rest)[:SCORES_LIMIT],
        objective=objective,
        problem=problem,
        detail=detail,
        name=name,
        report=report,
        configured=bool(finals.configured),
        first_not_finite=finals.first_not_finite,
        fail_line=finals.fail_line,
    )


def _found_line(name: str, report: Report, problem: TrialOutcome | None) -> str:
    text = f"{shown(name)} = {shown(report.text, 40)} ({report.where})"
    if report.step is not None:
        text += f" at step {report.step:g}, the end of its curve"
    if problem is TrialOutcome.NOT_FINITE:
        return text + ": not a finite number, so there is nothing to compare; look where the loss went"
    if problem is TrialOutcome.CONFLICT:
        return text + ": one JSON object gives this key twice; write it once"
    if problem is TrialOutcome.NO_METRIC:
        return text + ': not a number; print it bare, like "0.9979" (no unit, no thousands separator)'
    return text


def _clash_line(name: str, a: Report, b: Report) -> str:
    return (
        f"{shown(name)} was given twice with different values: {shown(a.text, 40)} ({a.where}) and "
        f"{shown(b.text, 40)} ({b.where}); report it once, at the end (during training give "
        f'"METRIC {shown(name)}=VALUE step=N")'
    )


def _absent_line(finals: Finals) -> str:
    name = shown(finals.objective)
    if finals.configured:
        return f"the pattern of [metric] matched no {name} in the output; mend [metric] pattern"
    text = f"{name} was not reported"
    if finals.fail_line is not None:
        text += f" (the script printed FAIL on line {finals.fail_line})"
    elif finals.near:
        text += f" in a form that can be read: {finals.near}"
    elif names := finals.names():
        close = get_close_matches(finals.objective, names, n=1)
        found = ", ".join(shown(n, 30) for n in (close or names[:5]))
        text += f"; {'did you mean' if close else 'found'} {found}"
    if finals.damage:
        text += f" ({finals.damage})"
    return text + f'; print "METRIC {name}=VALUE" at the end, or set [metric] name, pattern or file'


def _first_clash(reports: Sequence[Report]) -> tuple[Report, Report] | None:
    return next(((reports[0], r) for r in reports[1:] if not r.agrees(reports[0])), None)


def _resolution(text: str, value: float) -> tuple[float, int]:
    """The value of the last printed digit, and how many significant digits there are."""
    try:
        _, digits, exponent = Decimal(text).as_tuple()
        return (10.0**exponent if isinstance(exponent, int) else 0.0), len(digits)
    except (ArithmeticError, ValueError):  # not decimal text (JSON, CSV objects): its shortest repr
        _, digits, exponent = Decimal(repr(value)).as_tuple()
        return (10.0**exponent if isinstance(exponent, int) else 0.0), len(digits)
