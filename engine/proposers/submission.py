"""What a model hands in, and why it may be refused before any money or device time goes into it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.errors import EditRejected
from engine.fencing import clean, one_line
from engine.proposers.lookups import settled_as
from engine.proposers.static_check import DOUBT, ERROR, Problem
from engine.proposers.tool_definitions import KINDS
from engine.proposers.tool_input import ToolInput
from engine.types import Brief, FileChange, Goal, PastExperiment

TITLE_LENGTH = 100
HYPOTHESIS_LENGTH = 4000
WORDS_LENGTH = 1500
_SHOWN = 20  # problems named in a refusal


class Refused(EditRejected):
    """A submission that is not taken. ``outcome``: the name of ``types.NoProposal`` if it stays so, or ''."""

    def __init__(self, message: str, mend: str, outcome: str = "") -> None:
        super().__init__(message, mend)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Submission:
    """``expected_effect`` is new score minus the incumbent's, in the metric's unit. ``warnings``: for people."""

    title: str
    hypothesis: str
    expected_effect: float
    effect_reason: str
    refuted_by: str
    kind: str
    despite: str
    changes: tuple[FileChange, ...]
    fingerprint: str
    warnings: tuple[str, ...] = ()


def read(given: ToolInput, changes: tuple[FileChange, ...], fingerprint: str, brief: Brief) -> Submission:
    """The fields of ``submit``. Raises EditRejected, explained, for one that is missing, empty or too long."""
    change = given.number("expected_effect")
    if change * brief.goal.sign < 0:
        better = "lower" if brief.goal is Goal.MINIMIZE else "higher"
        metric = one_line(brief.metric, 60)
        raise Refused(
            f"submit: expected_effect is {change:g}, which makes {metric} worse: {better} is better",
            f"give the new score minus the incumbent's: {brief.goal.sign * abs(change):+g} is an improvement of "
            f"{abs(change):g}; a change from which you expect harm is not worth a run",
        )
    title = one_line(given.words("title", TITLE_LENGTH), TITLE_LENGTH * 4)
    if not title:
        raise Refused("submit: title is empty", "say it in words")
    return Submission(
        title=title,
        hypothesis=given.words("hypothesis", HYPOTHESIS_LENGTH),
        expected_effect=change,
        effect_reason=given.words("effect_reason", WORDS_LENGTH),
        refuted_by=given.words("refuted_by", WORDS_LENGTH),
        kind=given.choice("kind", KINDS),
        despite=clean(given.text("despite", "")).strip()[:WORDS_LENGTH],
        changes=changes,
        fingerprint=fingerprint,
        warnings=tuple(_warnings(title, brief)),
    )


def refuse_unchanged(brief: Brief, changes: Sequence[FileChange], same_program: bool) -> None:
    """Raise when there is nothing to measure. ``same_program``: only comments and the like differ."""
    if not changes:
        raise Refused(
            "no change: your working copy equals the base version", "edit first, then submit", "no change"
        )
    if same_program:
        raise Refused(
            "no change: only comments, docstrings or formatting differ from the base version",
            "a run would measure the same program: make the change that your hypothesis speaks of",
            "no change",
        )
    if brief.failure is not None and brief.failure.changes and tuple(changes) == brief.failure.changes:
        raise Refused(
            f"no change: this is what failed as #{brief.failure.number}, to the byte",
            "mend what made it fail, then submit",
            "no change",
        )


def refuse_errors(problems: Iterable[Problem]) -> None:
    """Raise when a changed file cannot be compiled or parsed."""
    errors = [problem for problem in problems if problem.severity == ERROR]
    if errors:
        raise Refused(
            f"{_count(errors, 'file')} not compile or parse: {errors[0]}",
            _listed(errors[1:]) + "mend this, `check`, then submit again; nothing was submitted",
            "invalid edit",
        )


def refuse_duplicate(fingerprint: str, history: Iterable[PastExperiment], number: int) -> None:
    """Raise when an earlier experiment was the very same program."""
    for past in history:
        if past.fingerprint and past.fingerprint == fingerprint and past.number != number:
            raise Refused(
                f"duplicate: this is the same program as #{past.number}, {settled_as(past)}: "
                f"{one_line(past.title, 120)}",
                f"read it with history (number {past.number}) and propose something that differs in more than "
                "comments and formatting",
                "duplicate",
            )


class Doubts:
    """What may be wrong but need not be: refused once, then taken with a reason if nothing else has changed."""

    def __init__(self) -> None:
        self._told: tuple[str, frozenset[str]] = ("", frozenset())

    def refuse(self, problems: Iterable[Problem], more: Iterable[str], submitted: Submission) -> None:
        """Raise when there is a doubt that was not told before about these changes, or no reason is given."""
        doubts = [str(problem) for problem in problems if problem.severity == DOUBT] + [*more]
        if not doubts:
            return
        state = digest(submitted.changes)
        told = self._told[0] == state and self._told[1].issuperset(doubts)
        if told and submitted.despite:
            return
        self._told = (state, frozenset(doubts))
        shown = "\n".join(f"- {doubt}" for doubt in doubts[:_SHOWN])
        rest = f"\n- and {len(doubts) - _SHOWN} more" if len(doubts) > _SHOWN else ""
        if told:
            mend = "the doubts are the same as before: give your reason in `despite`, or mend them"
        else:
            mend = "mend it; or, where this is mistaken, submit again unchanged with the reason in `despite`"
        raise Refused(f"doubtful: {doubts[0]}", f"{mend}. All doubts:\n{shown}{rest}", "invalid edit")


def unlikely(submitted: Submission, brief: Brief) -> list[str]:
    """Doubts about the expected effect."""
    score = brief.incumbent_score
    if score and abs(submitted.expected_effect) > abs(score):
        return [
            f"expected_effect {submitted.expected_effect:g} exceeds the incumbent's whole score, {score:.6g}: "
            "it is a difference in the metric's own unit, not a percentage and not the new score"
        ]
    return []


def digest(changes: Iterable[FileChange]) -> str:
    """Equal for equal changes only."""
    total = hashlib.sha256()
    for change in changes:
        content = b"-" if change.content is None else b"+" + change.content
        path = change.path.encode("utf-8", "surrogatepass")
        total.update(f"{len(path)} {len(content)}\n".encode() + path + content)
    return total.hexdigest()


def _warnings(title: str, brief: Brief) -> Iterable[str]:
    plain = title.casefold()
    same = [past.number for past in brief.history if " ".join(past.title.split()).casefold() == plain]
    if same and brief.failure is None:
        yield f"#{same[-1]} has the same title"


def _count(found: Sequence[Problem], noun: str) -> str:
    files = len({problem.path for problem in found})
    return f"1 {noun} does" if files == 1 else f"{files} {noun}s do"


def _listed(problems: Sequence[Problem]) -> str:
    shown = "\n".join(f"- {problem}" for problem in problems[:_SHOWN])
    return f"also:\n{shown}\n" if shown else ""
