"""The top of the screen: what campaign, is the engine alive, how far, how good, who waits; the news."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from console import plain
from console.formats import dollars, duration, fit, number, one_or_more
from console.keymap import press
from console.layout import DECIDING, PANES
from console.plain_text import clean
from console.state import SILENT_SECONDS, State, asked, to_withdraw
from console.steering import autopilot
from console.widgets import device_lines
from console.widgets.budget_bar import progress_spans
from console.widgets.lines import Line, Scene, Span, two_sided
from engine import events

MOST_NUMBERS = 4  # devices of which the strip says each


@dataclass(frozen=True, slots=True)
class Situation:
    """How the engine is, in a word; ``why`` and ``mend`` where there is something to do."""

    word: str
    style: str
    why: str = ""
    mend: str = ""


def situation(state: State, now: float, can_start: bool = False) -> Situation:
    campaign, engine = state.campaign, state.engine
    if state.problem:
        return Situation("no store", "bad", state.problem, state.mend)
    if state.replay:
        return Situation(state.replay, "accent")
    if campaign is None:
        return Situation("no campaign", "warn", "", "`ratchet run` starts one")
    start = f"{press('start_engine')} starts it" if can_start else "`ratchet start`"
    if campaign.state == "finished":
        return Situation("finished", "good", campaign.pause_reason, "`ratchet start --experiments N` goes on")
    if state.alive is False:
        if engine is not None and engine.ended_at is None:
            ago = duration(max(0.0, now - engine.beat_at) // 60 * 60) if now - engine.beat_at >= 60 else "seconds"
            return Situation("engine died", "bad", f"no sign of life for {ago}; nothing is lost", start)
        return Situation("no engine", "warn", "the engine was stopped", start)
    if state.trouble:
        mend = f"{state.trouble_mend}; it goes on by itself then" if state.trouble_mend else ""
        return Situation("in trouble", "bad", state.trouble, mend)
    if campaign.state == "paused":
        return Situation(
            "paused", "warn", campaign.pause_reason, campaign.pause_mend or f"{press('pause')} resumes"
        )
    if engine is not None and state.alive and now - engine.beat_at > SILENT_SECONDS:
        silent = duration((now - engine.beat_at) // 10 * 10)
        return Situation("silent", "warn", f"the engine lives but said nothing for {silent}", "see engine.log")
    if state.hosts and all(row.state == "away" or row.drained for row in state.hosts):
        why = "no trial can start: every host is set aside or drained"
        return Situation("no host", "bad", why, f"{press('hosts')} shows why")
    if campaign.calibration is None:
        trials = [t for t in state.baseline if t.purpose == "calibrate"]
        done = len([t for t in trials if t.state == "done"])
        return Situation(f"calibrating {done} of {len(trials)}" if trials else "calibrating", "accent")
    if state.steering.standing.budget is not None:
        cap, _ = state.steering.standing.budget
        why = f"the limit of {dollars(cap)} is reached: no more drafts; what runs goes on"
        return Situation("budget reached", "warn", why, "raise dollars in [limits] of ratchet.toml")
    return Situation("running", "good") if state.alive else Situation("...", "dim")


def best(state: State) -> tuple[float | None, float | None]:
    """The incumbent's mean score, and by how much it beats the baseline's (positive is better)."""
    campaign = state.campaign
    scores = [t.score for t in state.incumbent if t.score is not None]
    if campaign is None:
        return None, None
    mean = (campaign.calibration or {}).get("mean")
    baseline = float(mean) if isinstance(mean, int | float) else None
    if not scores:
        return baseline, None
    if campaign.incumbent == campaign.baseline:
        return fmean(scores), None
    found = fmean(scores)
    sign = 1 if campaign.goal == "maximize" else -1
    return found, None if baseline is None else sign * (found - baseline)


def inputs(scene: Scene) -> tuple[object, ...]:
    state = scene.state
    return (
        state.campaign,
        state.counts,
        state.awaiting,
        state.requests,
        state.notice,
        state.events,
        state.settles,
        state.steering,
        state.hosts,
        situation(state, scene.now, scene.can_start),
        best(state),
    )


def _best_spans(state: State) -> list[Span]:
    campaign = state.campaign
    if campaign is None:
        return []
    value, gain = best(state)
    spans: list[Span] = [(f"{clean(campaign.metric)} ", "dim"), (number(value), "bold")]
    if gain is not None:
        spans.append((f" {gain:+.4f}", "good" if gain > 0 else "bad"))
    return spans


def _waiting_spans(state: State, short: bool = False) -> list[Span]:
    """What somebody should do something about."""
    waiting = len(state.awaiting)
    spans: list[Span] = []
    if waiting and not state.replay:
        spans += [(f" {waiting} {'waits' if waiting == 1 else 'wait'} for you ", "alarm")]
    if state.asleep:
        spans += [(f" {one_or_more(len(state.asleep), 'request')} asleep ", "alarm")]
    if ahead := autopilot(state.campaign):
        told = "in advance" if short else f"accepted in advance: {press('accept_next')} ends it"
        spans += [(f" {ahead.left} {told} ", "accent_bar")]
    if lost := sum(row.state == "away" for row in state.hosts):
        spans += [(f" {one_or_more(lost, 'host')} set aside ", "warn_bar")]
    if plateau := state.steering.standing.plateau:
        spans += [(" plateau " if short else f" plateau: {plateau} since a keep ", "warn_bar")]
    return spans


def painter(scene: Scene, width: int, height: int) -> list[Line]:
    state = scene.state
    now = situation(state, scene.now, scene.can_start)
    name = clean(state.campaign.name) if state.campaign else ""
    left: list[Span] = [(" ratchet ", "strong"), (name + " ", ""), (f" ● {now.word}", now.style)]
    if now.word == state.replay:
        left = [(" ratchet ", "strong"), (f" {clean(state.replay)} ", "accent_bar")]
    if height == 1:
        middle: list[Span] = [("  ", ""), *_best_spans(state)]
        return [two_sided([*left, *middle], _waiting_spans(state, short=width < 100), width, "bar")]
    if height < 6 or width < 60:
        left_best = [(" ", ""), *_best_spans(state)] if width >= 60 else None
        if left_best is None:
            return tiny(scene, width, height, now)
        second = [(" ", ""), *progress_spans(state, width)]
        return [
            two_sided(left, [*_waiting_spans(state), *left_best, (" ", "")], width, "bar"),
            two_sided(second, kept_spans(state), width),
            news(scene, width, now),
        ][:height]
    return tiny(scene, width, height, now)


def kept_spans(state: State) -> list[Span]:
    kept, crashed = state.counts.get("keep", 0), state.counts.get("crash", 0)
    spans: list[Span] = [(f"{kept} kept", "good" if kept else "dim")]
    if crashed:
        spans += [(" · ", "faint"), (f"{crashed} crashed", "bad")]
    if failed := state.steering.failed_drafts:
        spans += [(" · ", "faint"), (one_or_more(failed, "failed draft"), "warn")]
    return [*spans, (" ", "")]


def tiny(scene: Scene, width: int, height: int, now: Situation) -> list[Line]:
    """Under 60x16: never refuse to run."""
    state = scene.state
    name = clean(state.campaign.name) if state.campaign else ""
    lines = [
        Line(((f"ratchet {name}", "strong"),), "bar"),
        Line(((f"● {now.word}", now.style),)),
        Line(tuple(_best_spans(state))),
        Line(tuple(progress_spans(state, width))),
        Line(tuple(_waiting_spans(state, short=True))),
        Line(((clean(now.why), "dim"),)),
        Line(((clean(now.mend), "dim"),)),
        Line(((f"{press('detach')} leaves", "faint"),)),
    ]
    return [content for content in lines if content.spans and any(t for t, _ in content.spans)][:height]


def news(scene: Scene, width: int, now: Situation) -> Line:
    """One line of what matters most: a request that waits, what is wrong, an answer, the latest event."""
    state = scene.state
    if state.asleep:
        told = f' asked before this engine started: "{asked(state.asleep[0])}"'
        told += f"   {press('confirm_asleep')} still do it   {press('undo')} withdraw"
        return Line(((fit(told, width), "alarm"),))
    if state.alive is False and (waiting := to_withdraw(state, scene.actor)) is not None:
        told = f' waits for an engine: "{asked(waiting)}"   {press("undo")} withdraws it'
        return Line(((fit(told, width), "warn"),))
    if state.notice is not None:
        return Line(((fit(" " + clean(state.notice.text), width), state.notice.style),))
    if state.requests:
        return Line(((fit(f' sent: "{asked(state.requests[0])}"', width), "dim"),))
    if now.why or now.mend:
        why = clean(now.why)
        mend = clean(now.mend)
        return Line(((f" {why}", now.style), ("  mend: " if why and mend else " ", "faint"), (mend, "")))
    for row in reversed(state.events):
        told = say(row.event)
        if told:
            return Line(((fit(" " + clean(told), width), "dim"),))
    return Line(())


def say(event: events.Event) -> str:
    """An event in words for the news line; '' for what is seen elsewhere on the screen."""
    match event:
        case events.VerdictGiven(number=n, title=title, verdict=verdict, reason=reason):
            return f"#{n} {verdict}: {title} ({reason})"
        case events.RatchetAdvanced(number=n, commit=sha):
            return f"the ratchet turned: #{n} is the incumbent now ({sha[:8]})"
        case events.AttemptLost(trial=trial, reason=reason):
            return f"trial {trial} was lost ({reason}); it runs again"
        case events.Calibrated(mean=mean, sigma=sigma, runs=runs):
            return f"calibrated: {mean:.5g}, sigma {sigma:.2g} over {runs} runs"
        case events.DecisionTaken(number=n, action=action, actor=actor):
            return f"#{n} {plain.DONE.get(action, action)} by {actor}"
        case events.EngineStarted(host=host, pid=pid):
            return f"engine started on {host} (pid {pid})"
        case events.EngineStopped(reason=reason):
            return f"engine stopped: {reason}"
        case events.ProtocolOpened(why=why):
            return f"new protocol: {why}"
        case events.Warned(message=message, mend=mend):
            return f"{message}{' - ' + mend if mend else ''}"
        case (
            events.Steered()
            | events.NoteUsed()
            | events.AutopilotSet()
            | events.SteppedBack()
            | events.Plateau()
            | events.BudgetReached()
            | events.ConfigReloaded()
        ):
            return plain.line(event) or ""
    return ""


# --- tabs and strip: the small terminal --------------------------------------------------------------


def tab_inputs(scene: Scene) -> tuple[object, ...]:
    return scene.view.focus, scene.state.awaiting


def tabs(scene: Scene, width: int, height: int) -> list[Line]:
    spans: list[Span] = []
    for pane in PANES:
        here = pane is scene.view.focus
        badge = "◆" if pane in DECIDING and scene.state.awaiting else ""
        word = pane.heading if width >= 76 or here else pane.heading[:5]
        spans.append((f" {pane.digit} {word}{badge} ", "strong" if here else "warn" if badge else "dim"))
    return [Line(tuple(spans), "quiet")]


def strip_inputs(scene: Scene) -> tuple[object, ...]:
    stale = tuple(device_lines.stale(r, scene.now) for r in scene.state.readings)
    return (*inputs(scene), scene.state.readings, scene.state.running, stale)


def strip(scene: Scene, width: int, height: int) -> list[Line]:
    """The news when there is any for the person, else progress."""
    state = scene.state
    now = situation(state, scene.now, scene.can_start)
    if state.requests or state.notice or now.why or state.campaign is None:
        return [news(scene, width, now)]
    fresh = [r for r in state.readings if not device_lines.stale(r, scene.now)]
    busy = [b for r in fresh if (b := device_lines.number_of(r, "utilisation")) is not None]
    shown = [f"{b:.0f}" for b in busy] if len(busy) <= MOST_NUMBERS else [f"{len(busy)} devices {fmean(busy):.0f}"]
    right: list[Span] = [(f" {'/'.join(shown)} % busy ", "dim")] if shown else []
    return [two_sided([(" ", ""), *progress_spans(state, min(width, 69))], right, width)]
