"""The event log in words, each with how much it matters; and what a person types to choose among them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from console.formats import dollars, interval, one_or_more
from console.plain_text import clean
from engine import events
from engine.store.rows import EventRow

ROUTINE = ("TrialQueued", "TrialStarted", "TrialEnded", "ExperimentMoved", "RequestAnswered", "NoteUsed")
TROUBLE, DECISION, NEWS, ROUTINELY = "trouble", "decision", "news", "routine"
LEVELS = (TROUBLE, DECISION, NEWS, ROUTINELY)


@dataclass(frozen=True, slots=True)
class Said:
    """``kind`` is a short word for the column; ``number`` the experiment's that it tells of."""

    id: int
    at: float
    level: str
    kind: str
    text: str
    number: int | None = None
    mend: str = ""


def say(row: EventRow) -> Said:
    level, kind, text, number, mend = _words(row.event)
    return Said(row.id, row.at, level, clean(kind), clean(text), number, clean(mend))


def _words(event: events.Event) -> tuple[str, str, str, int | None, str]:
    match event:
        case events.Warned(message, mend):
            return TROUBLE, "warning", message, None, mend
        case events.CampaignPaused(reason, mend):
            by_person = reason.startswith("paused by ")
            return DECISION if by_person else TROUBLE, "paused", reason, None, mend
        case events.BudgetReached(cap, spent, reserved):
            told = f"{dollars(spent)} spent and {dollars(reserved)} set aside of {dollars(cap)}: nothing more fits"
            return TROUBLE, "budget", told, None, "raise limits.dollars in ratchet.toml"
        case events.Plateau(proposals):
            told = f"{one_or_more(proposals, 'proposal')} judged since the last keep"
            return TROUBLE, "plateau", told, None, "steer the proposer (m), or look at what fails"
        case events.AttemptLost(trial, attempt, reason):
            return TROUBLE, "lost", f"attempt {attempt} of trial {trial}: {reason}; it runs again", None, ""
        case events.EngineStopped(_, reason):
            return NEWS, "engine", f"stopped: {reason}", None, ""
        case events.EngineStarted(epoch, host, pid):
            return NEWS, "engine", f"started on {host}, pid {pid} (epoch {epoch})", None, ""
        case events.CampaignCreated(name, baseline, seed):
            return NEWS, "campaign", f"{name} began at {baseline[:12]} with seed {seed}", None, ""
        case events.CampaignResumed(by):
            return DECISION, "resumed", f"by {by}", None, ""
        case events.CampaignFinished(reason):
            return NEWS, "finished", reason, None, ""
        case events.ProtocolOpened(protocol, why):
            return NEWS, "protocol", f"{protocol}: {why}; the baseline is measured first", None, ""
        case events.Calibrated(_, mean, sigma, runs, notes):
            told = "".join(f"; {note}" for note in notes)
            return NEWS, "calibrated", f"mean {mean:.6g}, sigma {sigma:.3g} over {runs} runs{told}", None, ""
        case events.VerdictGiven(number, title, verdict, reason, effect, low, high):
            size = f"{interval(effect, low, high)}  " if effect is not None else ""
            return NEWS, verdict, f"{size}{title} ({reason})", number, ""
        case events.RatchetAdvanced(number, _, commit, note):
            return NEWS, "ratchet", f"advanced to {commit[:12]}" + (f"; {note}" if note else ""), number, ""
        case events.DecisionTaken(number, action, actor, reason):
            return DECISION, action, f"by {actor}" + (f": {reason}" if reason else ""), number, ""
        case events.Steered(_, text, actor):
            return DECISION, "steered", f"by {actor}: {text}", None, ""
        case events.AutopilotSet(count, actor):
            told = f"the next {count} are accepted without asking" if count else "everything asks again"
            return DECISION, "autopilot", f"{told} (by {actor})", None, ""
        case events.SteppedBack(number, _, commit, actor, reason):
            to = f"the keep of #{number}" if number else "the baseline"
            told = f"to {to} as {commit[:12]} by {actor}" + (f": {reason}" if reason else "")
            return DECISION, "back", told, number or None, ""
        case events.ConfigReloaded(what):
            return NEWS, "config", f"ratchet.toml taken up: {what}", None, ""
    return _routine(event)


def _routine(event: events.Event) -> tuple[str, str, str, int | None, str]:
    match event:
        case events.TrialQueued(trial, number, purpose, seed):
            return ROUTINELY, "queued", f"trial {trial}: {purpose}, seed {seed}", number, ""
        case events.TrialStarted(trial, attempt, slot, _):
            again = f", attempt {attempt}" if attempt > 1 else ""
            return ROUTINELY, "started", f"trial {trial} on {slot}{again}", None, ""
        case events.TrialEnded(trial, number, purpose, outcome, score, seconds, detail):
            result = f"{score:.6g}" if score is not None else f"{outcome}: {detail}"
            return ROUTINELY, "ended", f"trial {trial}, {purpose}: {result} ({seconds:.0f} s)", number, ""
        case events.ExperimentMoved(number, source, target, title, why):
            told = f"{source} → {target}" + (f"  {title}" if title else "") + (f" ({why})" if why else "")
            return ROUTINELY, "moved", told, number, ""
        case events.RequestAnswered(_, kind, outcome):
            return ROUTINELY, "answered", f"{kind}: {outcome}", None, ""
        case events.NoteUsed(note, number):
            return ROUTINELY, "note", f"message {note} is in this brief", number, ""
    return ROUTINELY, type(event).__name__[:10].lower(), str(event), None, ""


# --- choosing ----------------------------------------------------------------------------------------

_PART = re.compile(r'-?"[^"]*"?|\S+')


@dataclass(frozen=True, slots=True)
class EventFilter:
    tests: tuple[Callable[[Said], bool], ...] = ()
    problem: str = ""

    def matches(self, said: Said) -> bool:
        return all(test(said) for test in self.tests)


def parse(text: str) -> EventFilter:
    """Words (all must be there), ``#41``, ``is:trouble``, ``-`` before what must not be."""
    tests: list[Callable[[Said], bool]] = []
    problem = ""
    for part in _PART.findall(text):
        found = _test(part)
        if isinstance(found, str):
            problem = problem or found
        elif found is not None:
            tests.append(found)
    return EventFilter(tuple(tests), problem)


def _test(part: str) -> Callable[[Said], bool] | str | None:
    if part.startswith("-") and len(part) > 1:
        inner = _test(part[1:])
        return (lambda said: not inner(said)) if callable(inner) else inner
    if re.fullmatch(r"#\d{1,9}", part):
        wanted = int(part[1:])
        return lambda said: said.number == wanted
    if part.lower().startswith("is:"):
        level = part[3:].lower()
        if not level or not any(one.startswith(level) for one in LEVELS):
            return f"is: one of {', '.join(LEVELS)}"
        return lambda said: said.level.startswith(level)
    word = part.strip('"').lower()
    return (lambda said: word in f"{said.kind} {said.text} {said.mend}".lower()) if word else None


def chosen(rows: Iterable[EventRow], by: EventFilter) -> list[Said]:
    return [said for row in rows if by.matches(said := say(row))]
