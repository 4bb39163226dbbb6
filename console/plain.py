"""Progress as plain lines, for `ratchet run`, logs and terminals that are none. Pure but for ``follow``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from console.formats import dollars
from console.plain_text import clean
from engine import events
from engine.clock import Clock
from engine.events import Event
from engine.store import reading
from engine.store.reading import Reader

POLL_SECONDS = 0.1
PROGRESS_SECONDS = 5.0
DONE = {
    "accept": "accepted",
    "reject": "rejected",
    "undo": "decision undone",
    "edit": "edited",
    "rerun": "run again",
}


def line(event: Event) -> str | None:
    """One line for an event, without its time; None for what a person need not read."""
    match event:
        case events.CampaignCreated(name, baseline, seed):
            return f"campaign {name}: baseline {baseline[:12]}, seed {seed}"
        case events.ProtocolOpened(protocol, why):
            return f"protocol {protocol}: {clean(why)}; the baseline is measured first"
        case events.Calibrated(_, mean, sigma, runs, notes):
            said = "".join(f"; {clean(n)}" for n in notes)
            return f"calibrated: mean {mean:.6g}, sigma {sigma:.3g} over {runs} runs{said}"
        case events.TrialStarted(trial, attempt, slot, _):
            again = f" (attempt {attempt})" if attempt > 1 else ""
            return f"  trial {trial} started on {slot}{again}"
        case events.TrialEnded(trial, number, purpose, outcome, score, seconds, detail):
            of = f"#{number} " if number is not None else ""
            result = f"{score:.6g}" if score is not None else f"{outcome}: {clean(detail)}"
            return f"  trial {trial} {of}{purpose}: {result} ({seconds:.0f} s)"
        case events.AttemptLost(trial, attempt, reason):
            return f"  trial {trial}, attempt {attempt} lost: {clean(reason)}; it is tried again"
        case events.ExperimentMoved(number, "drafting", target, title, _) if target != "settled":
            waits = ": waits for your decision" if target == "review" else ""
            return f"#{number} proposed: {clean(title)}{waits}"
        case events.ExperimentMoved(number, _, "keep_review", title, _):
            return f"#{number} would be kept: waits for your decision ({clean(title)})"
        case events.ExperimentMoved(number, _, _, title, why) if why:
            return f"#{number} {clean(why)}"
        case events.VerdictGiven(number, title, verdict, reason, effect, low, high):
            size = f" {effect:+.4g} [{low:+.4g}, {high:+.4g}]" if effect is not None else ""
            return f"#{number} {verdict.upper()}{size}  {clean(title)}  ({clean(reason)})"
        case events.RatchetAdvanced(number, _, commit, note):
            return f"#{number} the ratchet advanced to {commit[:12]}" + (f"; {clean(note)}" if note else "")
        case events.DecisionTaken(number, action, actor, reason):
            return f"#{number} {DONE.get(action, action)} by {clean(actor)}" + (
                f": {clean(reason)}" if reason else ""
            )
        case events.CampaignPaused(reason, mend):
            return f"PAUSED: {clean(reason)}" + (f"\n  mend: {clean(mend)}" if mend else "")
        case events.CampaignResumed(by):
            return f"running again ({clean(by)})"
        case events.CampaignFinished(reason):
            return f"finished: {clean(reason)}"
        case events.ConfigReloaded(what):
            return f"ratchet.toml taken up: {clean(what)}"
        case events.Steered(_, text, actor):
            return f"{clean(actor)} to the proposer: {clean(text)}"
        case events.NoteUsed(_, number):
            return f"#{number} was drafted with that message"
        case events.Plateau(proposals):
            return f"a plateau: {proposals} proposals since the last keep; another kind of change is asked for"
        case events.AutopilotSet(count, actor):
            return f"{clean(actor)} accepts the next {count} in advance" if count else "everything asks again"
        case events.SteppedBack(number, _, commit, actor, reason):
            to = f"#{number}" if number else "the baseline"
            return f"{clean(actor)} stepped back to {to}, {commit[:12]}" + (f": {clean(reason)}" if reason else "")
        case events.BudgetReached(cap, spent, _):
            return f"the limit of {dollars(cap)} is reached ({dollars(spent)} spent): what runs goes on"
        case events.Warned(message, mend):
            return f"warning: {clean(message)}" + (f"\n  mend: {clean(mend)}" if mend else "")
    return None


async def follow(reader: Reader, clock: Clock, after: int) -> AsyncIterator[str]:
    """Lines as things happen, and now and then where the running trials stand. Never ends."""
    seen = -1
    quiet_since = clock.monotonic()
    while True:
        version = reader.data_version()
        if version != seen:
            seen = version
            for row in reading.events(reader.conn, after):
                after = row.id
                text = line(row.event)
                if text is not None:
                    yield f"{datetime.fromtimestamp(row.at):%H:%M:%S} {text}"
        if clock.monotonic() - quiet_since >= PROGRESS_SECONDS:
            quiet_since = clock.monotonic()
            for text in progress(reader, clock.now()):
                yield f"{datetime.fromtimestamp(clock.now()):%H:%M:%S} {text}"
        await clock.sleep(POLL_SECONDS)


def progress(reader: Reader, now: float) -> list[str]:
    """One line a running trial: its newest point and how long it has run."""
    campaign = reading.campaign(reader.conn)
    if campaign is None:
        return []
    lines = []
    for trial in reading.trials(reader.conn, campaign.id, open_only=True):
        if trial.state != "running" or trial.started_at is None:
            continue
        point = newest_point(reader, trial.id)
        of = f"#{trial.number} " if trial.number is not None else ""
        lines.append(
            f"  trial {trial.id} {of}{trial.purpose}: {now - trial.started_at:.0f} s"
            + (f", step {point[1]:.0f}, {point[0]} {point[2]:.4f}" if point else ", starting")
        )
    return lines


def newest_point(reader: Reader, trial: int) -> tuple[str, float, float] | None:
    """(series, step, value) of the newest point of a trial's loss-like series."""
    names = reading.series(reader.conn, trial)
    if not names:
        return None
    known = [n for n in ("loss", "train loss", "train_loss") if n in names]
    best = [*known, *(n for n in sorted(names) if "loss" in n), *names][0]
    points = reading.points(reader.conn, trial, best)
    return (best, points[-1][0], points[-1][1]) if points else None
