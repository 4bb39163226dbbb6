"""What is shown, as one frozen value, and the pure reducer that every update goes through.

The feed produces updates, ``reduce`` folds them in, the widgets paint the result. Nothing here knows Textual,
SQLite or time: whoever needs ``now`` passes it in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from console.away import Away
from console.charting import ChartView, Mark
from console.diff_moves import DiffView
from console.keymap import press
from console.layout import DECIDING, PANES, Pane
from console.steering import Steering
from engine.events import CampaignPaused, DecisionTaken, RequestAnswered, TrialEnded, Warned
from engine.inbox import Request
from engine.store.reading_hosts import HostRow
from engine.store.rows import CampaignRow, EngineRow, EventRow, ExperimentRow, ReadingRow, TrialRow

AWAITING = ("review", "keep_review")
SENT = "your decision is sent"
VISIBLE_SECONDS = 0.4  # how long a person must have seen what they decide on
SILENT_SECONDS = 20.0  # four missed beats
EVENTS_KEPT = 50
SETTLES_KEPT = 60


# --- facts -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the experiments list: a row without its long texts, so that 10,000 take a few MB."""

    number: int
    id: int
    state: str
    author: str
    title: str
    verdict: str | None
    effect: float | None
    low: float | None
    high: float | None
    stage: str
    revision: int
    settled_at: float | None

    @property
    def awaits(self) -> bool:
        return self.state in AWAITING


def listed(row: ExperimentRow) -> Listed:
    return Listed(
        row.number, row.id, row.state, row.author, row.title[:300], row.verdict, row.effect, row.effect_low,
        row.effect_high, row.stage, row.revision, row.settled_at,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Detail:
    """The selected experiment whole."""

    row: ExperimentRow
    diff: tuple[str, ...]  # lines as git wrote them: whoever shows them cleans them
    trials: tuple[TrialRow, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One series of one trial; ``points`` are (x, y), x in steps or in seconds (``unit``).

    ``seconds`` and ``tokens`` stand beside the points, () where they are not known; budgets are 0 where there
    is none. ``number``: the experiment's.
    """

    trial: int
    label: str
    series: str
    unit: str
    points: tuple[tuple[float, float], ...]
    seconds: tuple[float, ...] = ()
    tokens: tuple[float, ...] = ()
    budget_steps: float = 0.0
    budget_seconds: float = 0.0
    number: int | None = None


@dataclass(frozen=True, slots=True)
class LogTail:
    """The newest lines of a trial's log, clean. ``problem`` says why there are none."""

    trial: int
    label: str
    lines: tuple[str, ...] = ()
    size: int = 0
    problem: str = ""


# --- updates: what the feed may say ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoreSeen:
    """``problem`` '' when the store can be read."""

    problem: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class StoreReplaced:
    """The store is another file (a backup, or a replay that went back): what was read of the old one is void."""


@dataclass(frozen=True, slots=True)
class CampaignRead:
    campaign: CampaignRow | None
    engine: EngineRow | None
    counts: Mapping[str, int] = field(default_factory=dict)
    counted: int = 0  # settled proposals that count towards a limit


@dataclass(frozen=True, slots=True)
class AliveSeen:
    """``trouble``: what the living engine suffers from and cannot write to the store, such as a full disk."""

    alive: bool
    trouble: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentsRead:
    """Rows that are new or changed; numbers in ``covered`` (low, high) without a row do not exist."""

    rows: tuple[Listed, ...]
    covered: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class TrialsRead:
    """``running``: not done; ``incumbent``, ``baseline``: all trials of those versions."""

    running: tuple[TrialRow, ...]
    incumbent: tuple[TrialRow, ...]
    baseline: tuple[TrialRow, ...]


@dataclass(frozen=True, slots=True)
class EventsRead:
    rows: tuple[EventRow, ...]


@dataclass(frozen=True, slots=True)
class DetailRead:
    detail: Detail | None


@dataclass(frozen=True, slots=True)
class StreamRead:
    """The tail of what the proposer of ``experiment`` (row id) streamed: (channel, text) runs."""

    experiment: int
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReadingsRead:
    rows: tuple[ReadingRow, ...]


@dataclass(frozen=True, slots=True)
class HostsRead:
    """``aside``: since when those that were set aside are."""

    rows: tuple[HostRow, ...]
    aside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CurvesRead:
    """``marked``: one curve for each marked experiment that has one; ``unmarked``: (number, why there is none)."""

    live: Curve | None
    reference: Curve | None
    marked: tuple[Curve, ...] = ()
    unmarked: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LogRead:
    log: LogTail | None


@dataclass(frozen=True, slots=True)
class RequestsRead:
    """Requests not answered yet, and answers to this console's own."""

    open: tuple[Request, ...]
    answered: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class SteeringRead:
    steering: Steering


@dataclass(frozen=True, slots=True)
class AwayRead:
    """Once, when this person comes back."""

    away: Away


@dataclass(frozen=True, slots=True)
class Noted:
    """Something this console itself has to say, at once. ``number``: of the experiment that it is about."""

    text: str
    style: str = "dim"
    number: int | None = None


Update = (
    StoreSeen | StoreReplaced | CampaignRead | AliveSeen | ExperimentsRead | TrialsRead | EventsRead | DetailRead
    | StreamRead | ReadingsRead | HostsRead | CurvesRead | LogRead | RequestsRead | SteeringRead | AwayRead | Noted
)  # fmt: skip


# --- the state ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    problem: str = ""
    mend: str = ""
    campaign: CampaignRow | None = None
    engine: EngineRow | None = None
    alive: bool | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    counted: int = 0  # settled proposals that count towards a limit: not what went before it ever ran
    listed: Mapping[int, Listed | None] = field(default_factory=dict)  # None: no such number
    newest: int = 0
    settles: tuple[float, ...] = ()  # the newest settlements' times, ascending
    running: tuple[TrialRow, ...] = ()
    incumbent: tuple[TrialRow, ...] = ()
    baseline: tuple[TrialRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    detail: Detail | None = None
    stream: StreamRead | None = None
    readings: tuple[ReadingRow, ...] = ()
    hosts: tuple[HostRow, ...] = ()
    aside: Mapping[str, float] = field(default_factory=dict)  # host -> since when it is set aside
    live: Curve | None = None
    reference: Curve | None = None
    marked: tuple[Curve, ...] = ()
    unmarked: tuple[tuple[int, str], ...] = ()
    log: LogTail | None = None
    requests: tuple[Request, ...] = ()
    steering: Steering = field(default_factory=Steering)
    away: Away | None = None
    trouble: str = ""
    trouble_mend: str = ""
    replay: str = ""  # the banner of a replay, in place of the engine's state
    notice: Noted | None = None

    @property
    def awaiting(self) -> tuple[int, ...]:
        """Numbers that wait for a person, oldest first. Open rows are always loaded."""
        return self._open(AWAITING)

    def _open(self, states: Sequence[str]) -> tuple[int, ...]:
        return tuple(sorted(n for n, e in self.listed.items() if e is not None and e.state in states))

    @property
    def asleep(self) -> tuple[Request, ...]:
        return tuple(r for r in self.requests if r.state == "asleep")


def reduce(state: State, update: Update) -> State:
    """Fold one update in. Later updates win; nothing is ever half taken over."""
    match update:
        case StoreSeen(problem, mend):
            return replace(state, problem=problem, mend=mend)
        case StoreReplaced():
            return replace(_emptied(state), problem=state.problem, mend=state.mend, notice=state.notice)
        case CampaignRead(campaign, engine, counts, counted):
            if state.campaign and campaign and campaign.id != state.campaign.id:
                state = _emptied(state)
            return replace(state, campaign=campaign, engine=engine, counts=counts, counted=counted)
        case AliveSeen(alive, trouble, mend):
            return replace(state, alive=alive, trouble=trouble, trouble_mend=mend)
        case ExperimentsRead():
            return _with_rows(state, update)
        case TrialsRead(running, incumbent, baseline):
            return replace(state, running=running, incumbent=incumbent, baseline=baseline)
        case EventsRead(rows):
            return _with_events(state, rows)
        case DetailRead(detail):
            return replace(state, detail=detail)
        case StreamRead():
            return replace(state, stream=update)
        case ReadingsRead(rows):
            return replace(state, readings=rows)
        case HostsRead(rows, aside):
            return replace(state, hosts=rows, aside=aside)
        case CurvesRead(live, reference, marked, unmarked):
            return replace(state, live=live, reference=reference, marked=marked, unmarked=unmarked)
        case LogRead(log):
            return replace(state, log=log)
        case RequestsRead(waiting, answered):
            return _with_requests(state, waiting, answered)
        case SteeringRead(steering):
            return replace(state, steering=steering)
        case AwayRead(away):
            return replace(state, away=away)
        case Noted():
            return replace(state, notice=update)


def _emptied(state: State) -> State:
    """What does not come from the store stays."""
    return State(
        alive=state.alive,
        requests=state.requests,
        trouble=state.trouble,
        trouble_mend=state.trouble_mend,
        replay=state.replay,
    )


def _with_rows(state: State, update: ExperimentsRead) -> State:
    found = dict(state.listed)
    if update.covered is not None:
        for number in range(update.covered[0], update.covered[1] + 1):
            found.setdefault(number, None)
    settled = list(state.settles)
    for row in update.rows:
        before = found.get(row.number)
        found[row.number] = row
        if row.settled_at is not None and (before is None or before.settled_at is None):
            settled.append(row.settled_at)
    newest = max([state.newest, *(row.number for row in update.rows)])
    return replace(state, listed=found, newest=newest, settles=tuple(sorted(settled)[-SETTLES_KEPT:]))


def _with_events(state: State, rows: tuple[EventRow, ...]) -> State:
    known = state.events[-1].id if state.events else 0
    fresh = tuple(row for row in rows if row.id > known)
    # RequestAnswered comes through the inbox as well, with the request itself: say it once.
    telling = [row for row in fresh if not isinstance(row.event, RequestAnswered | CampaignPaused)]
    notice = state.notice
    if state.events and telling:  # history read at the start is no news
        last = telling[-1].event
        if isinstance(last, Warned):
            notice = Noted(f"{last.message}{' - ' + last.mend if last.mend else ''}", "warn")
        elif notice is not None and notice.style == "dim" and isinstance(last, TrialEnded):
            notice = None  # the world moved on
    return replace(state, events=(state.events + fresh)[-EVENTS_KEPT:], notice=notice)


def _with_requests(state: State, waiting: tuple[Request, ...], answered: tuple[Request, ...]) -> State:
    notice = state.notice
    for request in answered:
        style = {"done": "good", "refused": "warn"}.get(request.state, "dim")
        told = request.outcome or request.state
        if request.state == "refused" and (who := _decided_by(state, request)):
            told += f" ({who})"
        notice = Noted(f"{asked(request)}: {told}", style, _number(request))
    return replace(state, requests=waiting, notice=notice)


def _number(request: Request) -> int | None:
    number = request.args.get("number")
    return number if isinstance(number, int) else None


def _decided_by(state: State, request: Request) -> str:
    """Who was first, where a decision came too late and the events tell."""
    if request.kind not in ("accept", "reject", "edit"):
        return ""
    for row in reversed(state.events):
        if isinstance(row.event, DecisionTaken) and row.event.number == _number(request):
            return f"{row.event.actor}: {row.event.action}"
    return ""


def asked(request: Request) -> str:
    """A request in words."""
    args = request.args
    match request.kind:
        case "accept" | "reject" | "edit" | "pin" | "unpin":
            return f"{request.kind} #{args.get('number', '?')}"
        case "undo":
            return f"take back the decision about #{args.get('number', '?')}"
        case "rerun":
            return f"run #{args.get('number', '?')} again on {args.get('seeds', '?')} seeds"
        case "autopilot":
            count = args.get("count")
            return f"accept the next {count} in advance" if count else "ask about everything again"
        case "step_back":
            return f"step back to {'#' + str(args['number']) if args.get('number') else 'the baseline'}"
        case "steer":
            return "message to the proposer"
        case "stop_trial":
            return f"stop trial {args.get('trial', '?')}"
        case "stop":
            return "stop the engine"
        case "drain":
            return f"drain {args.get('name', '?')}"
        case "undrain":
            return f"use {args.get('name', '?')} again"
        case "lend":
            return f"lend {args.get('device') or args.get('name', '?')} for {args.get('hours', '?')} h"
        case kind:
            return kind


def to_withdraw(state: State, actor: str) -> Request | None:
    """The request that u takes back: one that is asked about again, else the newest of mine, else the newest."""
    if state.asleep:
        return state.asleep[0]
    mine = [request for request in state.requests if request.actor == actor]
    return next(iter(reversed(mine or list(state.requests))), None)


# --- what the person looks at ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """``cursor`` None follows what runs. ``seen`` is (number, revision) as painted since ``seen_since``."""

    focus: Pane = Pane.EXPERIMENTS
    enlarged: bool = False
    cursor: int | None = None
    offsets: Mapping[Pane, int] = field(default_factory=dict)  # lines scrolled; of the log: up from its end
    seen: tuple[int, int] | None = None
    seen_since: float = 0.0  # monotonic
    chart: ChartView = field(default_factory=ChartView)
    marks: tuple[Mark, ...] = ()  # experiments whose curves are laid over the chart
    diff: DiffView = field(default_factory=DiffView)


def selected(state: State, view: View) -> int | None:
    """The number that the detail panes show: the cursor, else who waits, else what runs, else the newest."""
    if view.cursor is not None:
        return min(max(1, view.cursor), max(1, state.newest)) if state.newest else None
    if waiting := state.awaiting:
        return waiting[0]
    for trial in state.running:
        if trial.number is not None and trial.state in ("running", "launching"):
            return trial.number
    return state.newest or None


def watched_trial(state: State, number: int | None) -> TrialRow | None:
    """Whose curve and log are shown: the selected experiment's trial, else one that runs."""
    running = [t for t in state.running if t.state == "running"]
    for trial in running:
        if trial.number == number:
            return trial
    detail = state.detail
    if detail is not None and detail.row.number == number and detail.trials:
        ran = [t for t in detail.trials if t.directory]
        if ran:
            return max(ran, key=lambda t: t.id)
    return running[0] if running else None


def why_not_decide(state: State, view: View, now: float, shown: Collection[Pane] = PANES) -> str:
    """'' when a or r may be carried out; else the reason, for the footer. ``now`` is monotonic.

    The guards of an approval: only with the proposal or diff in focus, only for what has been on the screen
    for VISIBLE_SECONDS in this very revision, only where somebody is asked. ``shown``: the panes in sight, among
    which the diff has to be.
    """
    number = selected(state, view)
    row = state.listed.get(number) if number is not None else None
    if row is None or not row.awaits:
        waiting = state.awaiting
        return f"#{waiting[0]} waits, not this one" if waiting else "nothing waits for a decision"
    if Pane.DIFF not in shown:
        return f"{press('pane_3')} shows the diff, then {press('accept')} or {press('reject')}"
    if view.focus not in DECIDING:
        return f"{press('pane_2')} or {press('pane_3')} to look, then {press('accept')} or {press('reject')}"
    detail = state.detail
    if detail is None or (detail.row.number, detail.row.revision) != (row.number, row.revision):
        return "it is still being read"
    if view.seen != (row.number, row.revision) or now - view.seen_since < VISIBLE_SECONDS:
        return "look at it first"
    return ""
