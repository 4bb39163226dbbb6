"""What the further screens read, one class a screen. All of it runs in the page's thread.

Each remembers what it read and reads only what may have changed; what is the same stays the very same object,
so that the screen need not look twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from console import event_words, sources
from console.event_words import EventFilter, Said
from console.staircase import RatchetView, Summary, staircase, summary
from console.state import Curve, Detail
from console.transcript import lines as transcript_lines
from engine.store import reading, reading_hosts, reading_money, reading_screens
from engine.store.reading_hosts import HostRow, HostUse
from engine.store.reading_money import Money
from engine.store.reading_screens import BusyRow, DecisionRow, HistoryRow
from engine.store.rows import CampaignRow, ReadingRow, TrialRow

# --- the history -------------------------------------------------------------------------------------


class HistoryPage:
    """All rows once; then those that are open, were open, or that an event told of."""

    def __init__(self) -> None:
        self._rows: dict[int, HistoryRow] = {}
        self._shown: tuple[HistoryRow, ...] | None = None
        self._campaign = 0
        self._event = 0
        self._open: frozenset[int] = frozenset()

    def __call__(self, conn: sqlite3.Connection, campaign: CampaignRow, wanted: object) -> tuple[HistoryRow, ...]:
        if self._shown is None or campaign.id != self._campaign:
            self._campaign = campaign.id
            self._event = reading.last_event(conn)
            self._rows = {row.number: row for row in reading_screens.history(conn, campaign.id)}
            self._open = reading_screens.open_numbers(conn, campaign.id)
            self._shown = tuple(self._rows.values())
            return self._shown
        told, self._event = reading_screens.told_since(conn, campaign.id, self._event)
        now = reading_screens.open_numbers(conn, campaign.id)
        rows = reading_screens.history(conn, campaign.id, told | now | self._open)
        self._open = now
        changed = {row.number: row for row in rows if self._rows.get(row.number) != row}
        if changed:
            self._rows |= changed
            self._shown = tuple(self._rows.values())
        return self._shown


# --- one experiment ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExperimentWish:
    """``trial`` None: the one that says most. ``talk``: the conversation is in sight."""

    number: int
    trial: int | None = None
    talk: bool = False


@dataclass(frozen=True, slots=True)
class Whole:
    """An experiment with all that is known of it; ``detail`` None: there is none of this number.

    ``curve`` is of ``chosen``, ``base`` of the trial of its base that compares best; ``talk`` None: not read.
    """

    detail: Detail | None
    newest: int = 0
    metric: str = ""
    goal: str = "minimize"
    decisions: tuple[DecisionRow, ...] = ()
    mends: tuple[int, ...] = ()
    mended_by: tuple[int, ...] = ()
    money: Money | None = None
    chosen: TrialRow | None = None
    curve: Curve | None = None
    base: Curve | None = None
    why_no_curve: str = ""
    talk: tuple[str, ...] | None = None


class ExperimentPage:
    def __init__(self) -> None:
        self._old: Whole | None = None
        self._talk: tuple[tuple[int, int], tuple[str, ...]] | None = None  # (experiment, messages) -> lines
        self._chain: tuple[tuple[int, int], tuple[tuple[int, ...], tuple[int, ...]]] | None = None

    def __call__(self, conn: sqlite3.Connection, campaign: CampaignRow, wanted: ExperimentWish) -> Whole:
        old = self._old
        detail = sources.detail(conn, campaign.id, wanted.number, old.detail if old else None)
        newest = reading_screens.newest(conn, campaign.id)
        if detail is None:
            self._old = Whole(None, newest)
            return self._old
        key = (detail.row.id, newest)  # a repair is an experiment of its own: none comes without a new number
        if self._chain is None or self._chain[0] != key:
            self._chain = (key, reading_screens.repairs(conn, detail.row.id))
        before, after = self._chain[1]
        whole = Whole(
            detail, newest, campaign.metric, campaign.goal, tuple(reading_screens.decisions(conn, detail.row.id)),
            before, after, reading_money.money_of(conn, detail.row.id),
        )  # fmt: skip
        whole = self._with_curves(conn, campaign, whole, wanted.trial)
        if wanted.talk:
            whole = replace(whole, talk=self._conversation(conn, detail.row.id))
        if old is not None and whole == old:
            return old
        self._old = whole
        return whole

    def _with_curves(
        self, conn: sqlite3.Connection, campaign: CampaignRow, whole: Whole, wanted: int | None
    ) -> Whole:
        assert whole.detail is not None
        trials = whole.detail.trials
        chosen = next((t for t in trials if t.id == wanted), None) or telling_trial(trials)
        if chosen is None:
            return replace(whole, why_no_curve="it has no trial yet")
        curve, name = self._curve(conn, campaign, chosen, f"seed {chosen.seed}")
        if curve is None:
            why = "its points were pruned, or it printed no numbers" if chosen.state == "done" else "no points yet"
            return replace(whole, chosen=chosen, why_no_curve=f"no curve of trial {chosen.id}: {why}")
        versions = reading.trials(conn, campaign.id, version=whole.detail.row.base)
        other = sources.reference_trial(versions, chosen)
        base = None
        if other is not None:
            base = self._kept(sources.curve(conn, other, f"base seed {other.seed}", name, ()))
        return replace(whole, chosen=chosen, curve=curve, base=base)

    def _curve(
        self, conn: sqlite3.Connection, campaign: CampaignRow, trial: TrialRow, label: str
    ) -> tuple[Curve | None, str]:
        names = reading.series(conn, trial.id)
        name = sources.choose_series(names, campaign.metric)
        if name is None:
            return None, ""
        return self._kept(sources.curve(conn, trial, label, name, names)), name

    def _kept(self, curve: Curve | None) -> Curve | None:
        """The same object as before where it is the same: charts are built for objects."""
        old = self._old
        known = (old.curve, old.base) if old is not None else ()
        return next((one for one in known if one == curve), curve)

    def _conversation(self, conn: sqlite3.Connection, experiment: int) -> tuple[str, ...]:
        messages = reading.transcript(conn, experiment)
        key = (experiment, len(messages))
        if self._talk is None or self._talk[0] != key:
            self._talk = (key, tuple(line[: sources.LINE_LIMIT] for line in transcript_lines(messages)))
        return self._talk[1]


def telling_trial(trials: Sequence[TrialRow]) -> TrialRow | None:
    """The one whose curve is shown unasked: one that runs, else the newest that came to a score, else any."""
    ran = [t for t in trials if t.started_at is not None or t.attempts]
    return max(ran, key=lambda t: (t.state == "running", t.outcome == "ok", t.id), default=None)


# --- two experiments ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Two:
    """Either may be None: there is none of that number."""

    first: Whole
    second: Whole
    metric: str
    sigma: float | None = None


class ComparisonPage:
    """Both as whole experiments; the second one's curve is chosen to compare with the first one's."""

    def __init__(self) -> None:
        self._pages = (ExperimentPage(), ExperimentPage())
        self._old: Two | None = None

    def __call__(self, conn: sqlite3.Connection, campaign: CampaignRow, wanted: tuple[int, int]) -> Two:
        first = self._pages[0](conn, campaign, ExperimentWish(wanted[0]))
        like = first.chosen
        trial = None
        if like is not None:
            row = reading.experiment(conn, campaign.id, wanted[1])
            trials = reading.trials(conn, campaign.id, experiment=row.id) if row else []
            same = [t for t in trials if t.seed == like.seed and t.protocol == like.protocol and t.outcome == "ok"]
            trial = same[-1].id if same else None
        second = self._pages[1](conn, campaign, ExperimentWish(wanted[1], trial))
        sigma = (campaign.calibration or {}).get("sigma")
        found = Two(first, second, campaign.metric, sigma if isinstance(sigma, float) else None)
        if self._old is None or found != self._old:
            self._old = found
        return self._old


# --- hosts -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machines:
    """Readings by host and device, and what holds which of them; ``queued`` trials wait for a slot.

    ``aside``: since when the hosts that were set aside are; ``uses``: what each host did for the campaign.
    """

    readings: tuple[ReadingRow, ...]
    busy: tuple[BusyRow, ...]
    queued: int = 0
    hosts: tuple[HostRow, ...] = ()
    aside: Mapping[str, float] = field(default_factory=dict)
    uses: Mapping[str, HostUse] = field(default_factory=dict)


class HostsPage:
    def __init__(self) -> None:
        self._old: Machines | None = None
        self._rows = sources.Hosts()
        self._event = -1  # sums over all trials are made anew only when something has happened
        self._aside: Mapping[str, float] = {}
        self._uses: Mapping[str, HostUse] = {}

    def __call__(self, conn: sqlite3.Connection, campaign: CampaignRow, wanted: object) -> Machines:
        hosts = self._rows.read(conn)
        if (event := reading.last_event(conn)) != self._event:
            self._event = event
            self._uses = reading_hosts.uses(conn, campaign.id)
            self._aside = reading_hosts.away_since(conn) if any(row.state == "away" for row in hosts) else {}
        found = Machines(
            tuple(reading.readings(conn)), tuple(reading_screens.busy(conn, campaign.id)),
            reading_screens.queued(conn, campaign.id), hosts, self._aside, self._uses,
        )  # fmt: skip
        if self._old is None or found != self._old:
            self._old = found
        return self._old


# --- the ratchet -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Climb:
    """``view`` without cursor, over experiments; ``detail`` of the experiment that was asked for."""

    view: RatchetView
    summary: Summary
    metric: str
    detail: Detail | None = None


class RatchetPage:
    """The rows are read anew only when an event tells of another settlement; ``wanted``: the cursor's number."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._climb: Climb | None = None

    def __call__(self, conn: sqlite3.Connection, campaign: CampaignRow, wanted: int) -> Climb:
        mean = (campaign.calibration or {}).get("mean")
        settled = reading_screens.settled(conn, campaign.id)
        key = (campaign.id, campaign.goal, mean, campaign.head, settled)
        if self._climb is None or key != self._key:
            self._key = key
            view = staircase(
                reading_screens.tries(conn, campaign.id), reading.keeps(conn, campaign.line), goal=campaign.goal,
                baseline=float(mean) if isinstance(mean, int | float) else None, began=campaign.created_at,
            )  # fmt: skip
            spent = reading_money.balance(conn, campaign.id).spent
            of = summary(
                view, device_seconds=reading_screens.device_seconds(conn, campaign.id),
                active_seconds=campaign.active_seconds, dollars=spent / 1e9 if spent else None,
            )  # fmt: skip
            old = self._climb.detail if self._climb else None
            self._climb = Climb(view, of, campaign.metric, old)
        detail = sources.detail(conn, campaign.id, wanted, self._climb.detail) if wanted else None
        if detail != self._climb.detail:
            self._climb = replace(self._climb, detail=detail)
        return self._climb


# --- the event log -----------------------------------------------------------------------------------

CHUNK = 2000
MOST_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class EventWish:
    """``rows``: so many matching ones at least, as far back as need be. ``every``: what is only routine too."""

    text: str = ""
    every: bool = False
    rows: int = 300


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Matching events, newest first; ``oldest`` read so far, 0 when that is the beginning."""

    said: tuple[Said, ...]
    oldest: int
    problem: str = ""


class EventsPage:
    """Reads backwards until there is enough to show, and forwards what is new."""

    def __init__(self) -> None:
        self._for: tuple[str, bool] | None = None
        self._log = Log((), 0)
        self._newest = 0

    def __call__(self, conn: sqlite3.Connection, campaign: CampaignRow, wanted: EventWish) -> Log:
        by = event_words.parse(wanted.text)
        without = () if wanted.every else event_words.ROUTINE
        newest = reading.last_event(conn)
        if self._for != (wanted.text, wanted.every):
            self._for = (wanted.text, wanted.every)
            self._log, self._newest = Log((), newest + 1, by.problem), newest
        if newest > self._newest:
            fresh = self._between(conn, self._newest, newest, by, without)
            if fresh:
                said = (*fresh, *self._log.said)[:MOST_KEPT]
                self._log = Log(said, self._log.oldest, by.problem)
            self._newest = newest
        said_now, oldest = list(self._log.said), self._log.oldest
        while oldest and len(said_now) < min(wanted.rows, MOST_KEPT):
            rows, oldest = reading_screens.events_before(conn, oldest, CHUNK, without)
            said_now += event_words.chosen(rows, by)
        if oldest != self._log.oldest:
            self._log = Log(tuple(said_now), oldest, by.problem)
        return self._log

    def _between(
        self,
        conn: sqlite3.Connection,
        after: int,
        newest: int,
        by: EventFilter,
        without: Sequence[str],
    ) -> list[Said]:
        found: list[Said] = []
        before = newest + 1
        while before:
            rows, before = reading_screens.events_before(conn, before, CHUNK, without)
            found += event_words.chosen([row for row in rows if row.id > after], by)
            if not rows or rows[-1].id <= after:
                break
        return found
