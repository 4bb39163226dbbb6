"""The part of a prompt that is new each time: where things stand, what is under way, what people say; or what is
to be mended. Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from engine.condensing import UNNAMED, Tally, full, kind, line
from engine.fencing import PERSON, code, fence, head, last_lines, one_line, quote, tail, tokens
from engine.prompt_templates import Template
from engine.types import Brief, Failure, Goal, Note, PastExperiment, Remaining, Verdict

EVIDENCE_LINES = 50


@dataclass(frozen=True, slots=True)
class _Detail:
    """How much of everything that others wrote is shown."""

    recent: int  # experiments
    whole: bool  # with hypothesis and reason
    open: int
    crashes: int
    notes: int
    words: int  # characters of one note or text
    kinds: int
    failure: float  # share of the task's tokens for a diff, and for its evidence


_DETAILS = (
    _Detail(20, True, 30, 8, 30, 2000, 20, 0.3),
    _Detail(20, False, 20, 5, 20, 1000, 12, 0.25),
    _Detail(8, False, 8, 2, 8, 400, 6, 0.2),
    _Detail(3, False, 3, 1, 3, 160, 3, 0.15),
    _Detail(1, False, 1, 1, 1, 120, 1, 0.1),
)


def task(brief: Brief, template: Template, rest: Sequence[PastExperiment], budget: int) -> str:
    """``template`` (repair.md for a brief with a failure, else propose.md), as much as fits ``budget`` tokens.

    ``rest``: settled experiments that are in no complete block of the history yet.
    """
    text = ""
    for detail in _DETAILS:
        values = {
            "number": str(brief.number),
            "standing": _standing(brief),
            "notes": _notes(brief.notes, detail),
            "open": _open(brief, detail),
            "remaining": _remaining(brief.remaining),
        }
        if brief.failure is None:
            values |= {
                "recent": _recent(rest, detail),
                "crashes": _crashes(brief.history, detail),
                "kinds": _kinds(brief.history, detail),
                "plateau": _plateau(brief),
            }
        else:
            values |= _failure(brief, brief.failure, detail, budget)
        text = template.render(values)
        if tokens(text) <= budget:
            break
    return text


def _standing(brief: Brief) -> str:
    name = code(brief.metric)
    better = "lower is better" if brief.goal is Goal.MINIMIZE else "higher is better"
    if brief.incumbent_score is None:
        first = f"The incumbent has no {name} yet: it is being measured ({better})."
    else:
        first = f"The incumbent's {name} is {brief.incumbent_score:.6g} ({better})."
    if brief.noise is None:
        return f"{first} How much single runs scatter is not known yet."
    if brief.noise == 0:
        return f"{first} Its runs do not scatter at all: any strict gain counts."
    sigma = brief.noise
    return (
        f"{first} The noise floor: single runs of the same program scatter by sigma = {sigma:.3g}. One run cannot "
        f"show an effect below that. A gain of 3 sigma ({3 * sigma:.3g}) is nearly always recognised on the fresh "
        f"seeds that confirm it, one of 1 sigma ({sigma:.3g}) seldom. Effects are gains over the incumbent of "
        "their time, positive is better, with their 90 % interval in brackets."
    )


def _recent(rest: Sequence[PastExperiment], detail: _Detail) -> str:
    if not rest:
        return "None since the history above."
    shown = rest[-detail.recent :]
    lines = [full(past, score=True) if detail.whole else line(past) for past in shown]
    left_out = len(rest) - len(shown)
    label = "The newest experiments, oldest first" + (f" ({left_out} older left out)" if left_out else "")
    return fence("\n".join(lines), label)


_STATES = {
    "review": "waits for a person's review",
    "ready": "waits for a device",
    "measuring": "is being measured",
    "judging": "is being measured",
    "keep_review": "was found better and waits for a person",
    "merging": "was found better and is being merged",
}


def _open(brief: Brief, detail: _Detail) -> str:
    found = [past for past in brief.history if past.verdict is None and past.number != brief.number]
    if not found:
        return "None."
    lines = []
    for past in found[-detail.open :]:
        says = f": {quote(past.hypothesis, 300)}" if detail.whole and past.hypothesis.strip() else ""
        state = _STATES.get(past.state, past.state)
        lines.append(f"#{past.number} {state} | {kind(past)} | by {past.author} | {quote(past.title, 120)}{says}")
    left_out = len(found) - len(lines)
    label = "Under way: do not propose these again" + (f" ({left_out} more)" if left_out else "")
    return fence("\n".join(lines), label)


def _crashes(history: Sequence[PastExperiment], detail: _Detail) -> str:
    found = [past for past in history if past.verdict in (Verdict.CRASH, Verdict.INVALID)]
    if not found:
        return "None so far."
    room = 500 if detail.whole else 160
    lines = [
        f"#{past.number} {past.verdict} | {quote(past.title, 120)}: {quote(past.reason, room)}"
        for past in found[-detail.crashes :]
    ]
    return fence("\n".join(lines), f"The newest {len(lines)} of {len(found)} that crashed or were invalid")


def _kinds(history: Sequence[PastExperiment], detail: _Detail) -> str:
    tally = Tally(history)
    if not tally.count:
        return "Nothing has been tried yet."
    return fence("\n".join(tally.lines(detail.kinds)), f"All {tally.count} settled experiments by kind of change")


def _plateau(brief: Brief) -> str:
    count = brief.plateau
    if not brief.plateau_after or count < brief.plateau_after:
        return f"{count} proposal{'' if count == 1 else 's'} judged since the last keep: no plateau."
    kinds = Tally(one for one in brief.history if kind(one) != UNNAMED).kinds
    most = sorted(kinds, key=lambda name: (-kinds[name].verdicts.total(), name))[:5]
    listed = f"\n{fence(chr(10).join(most), 'The kinds tried most')}" if most else ""
    return (
        f"PLATEAU: the last {count} judged proposals brought no keep. More of the same will most likely not help. "
        "Propose another kind of change this time, none of those tried most: read the files again, ask of each "
        "part what limits learning within the budget, and change something that nobody has touched; or remove "
        f"something. The person has been told.{listed}"
    )


def _notes(notes: Sequence[Note], detail: _Detail) -> str:
    """What people said, oldest first: the newest ones are kept, and the newest counts most."""
    if not notes:
        return "Nothing."
    lines = []
    for note in notes[-detail.notes :]:
        about = f"rejected #{note.number}" if note.number is not None else "says"
        lines.append(f"{one_line(note.actor, 60) or 'somebody'} {about}: {quote(note.text, detail.words)}")
    left_out = len(notes) - len(lines)
    label = "Said by people, the newest last" + (f" ({left_out} older left out)" if left_out else "")
    return fence("\n".join(lines), label, PERSON)


def _remaining(left: Remaining) -> str:
    parts = []
    if left.experiments is not None:
        parts.append(f"{left.experiments} experiment{'' if left.experiments == 1 else 's'}")
    if left.hours is not None:
        parts.append(f"{left.hours:.1f} hours")
    if left.dollars is not None:
        parts.append(f"{left.dollars:.2f} US dollars")
    return f"Left for this campaign: {', '.join(parts)}." if parts else "No limit is set for this campaign."


# --- repairs ------------------------------------------------------------------------------------------

_WAYS = {
    "crash": "It crashed.",
    "smoke": "It failed the smoke test, a run of seconds that only asks whether the program works.",
    "invalid edit": "Its edit was refused before anything ran.",
    "stale": "The incumbent moved on meanwhile, and merging the change onto it met a conflict.",
    "conflict": "The incumbent moved on meanwhile, and merging the change onto it met a conflict.",
}


def _failure(brief: Brief, failure: Failure, detail: _Detail, budget: int) -> dict[str, str]:
    room = int(budget * detail.failure)
    evidence = failure.evidence.rstrip()
    last = last_lines(evidence, EVIDENCE_LINES)
    all_lines = evidence.count("\n") + 1
    shown = f"its last {EVIDENCE_LINES} lines of {all_lines}" if all_lines > EVIDENCE_LINES else "all of it"
    return {
        "failed": fence(
            f"title: {quote(failure.title, 200)}\nhypothesis: {quote(failure.hypothesis, detail.words)}",
            f"Experiment #{failure.number}",
        ),
        "failure": _WAYS.get(failure.kind, f"It failed ({one_line(failure.kind, 40)})."),
        "diff": fence(_diff(brief, failure, room), "Its change against the files above"),
        "evidence": fence(tail(last, room), f"What was said, {shown}") if evidence else "There is no output.",
        "attempt": f"This is repair {failure.attempt}.",
    }


def _diff(brief: Brief, failure: Failure, room: int) -> str:
    parts = []
    for change in failure.changes:
        old = _text(brief.files.get(change.path))
        new = _text(change.content)
        if old is None or new is None:
            parts.append(f"{change.path}: not UTF-8 text, not shown")
            continue
        parts += difflib.unified_diff(
            old.splitlines(), new.splitlines(), f"a/{change.path}", f"b/{change.path}", lineterm=""
        )
    return head("\n".join(parts) or "(no difference)", room)


def _text(content: bytes | None) -> str | None:
    """'' for a file that is not there; None for one that is not text."""
    try:
        return (content or b"").decode("utf-8")
    except UnicodeDecodeError:
        return None
