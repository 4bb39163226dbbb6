"""One opened store, followed: what changed since the last look, read at each source's own rate."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from console import sources
from console.layout import Pane
from console.outbox import Outbox, Schedule, Watch
from console.state import (
    CampaignRead,
    CurvesRead,
    DetailRead,
    EventsRead,
    ExperimentsRead,
    HostsRead,
    LogRead,
    ReadingsRead,
    State,
    SteeringRead,
    TrialsRead,
    View,
    listed,
    selected,
    watched_trial,
)
from console.steering import Steering
from console.steering_source import SteeringSource
from engine.events import DecisionTaken, ExperimentMoved, SteppedBack, VerdictGiven
from engine.store import reading, reading_hosts
from engine.store.reading import Reader
from engine.store.rows import CampaignRow, EventRow, TrialRow

FIRST_ROWS = 300
COUNTED = (ExperimentMoved, VerdictGiven, DecisionTaken, SteppedBack)  # what may change how many there are of each
EVENTS_AT_START = 40


class StoreFollower:
    """Says to ``outbox`` what it finds. A store that was replaced by another file gets a new follower."""

    def __init__(
        self, reader: Reader, outbox: Outbox, schedule: Schedule, state_dir: Path, campaign: str | None
    ) -> None:
        self._reader, self._outbox, self._schedule, self._name = reader, outbox, schedule, campaign
        self._version = -1
        self._last_event = 0
        self._open_numbers: frozenset[int] = frozenset()
        self._loaded = False  # the newest rows
        self._seen: tuple[State | None, View | None] = (None, None)  # when the selected number was looked up
        self._number: int | None = None
        self._newest = 0  # number, when the open rows were last read
        self._stream = sources.StreamTail()
        self._log = sources.LogFile(state_dir)
        self._marked = sources.MarkedCurves()
        self._steering = SteeringSource()
        self._hosts = sources.Hosts()
        self._shown: tuple[object, ...] = ()

    def look(self, watch: Watch) -> None:
        """Read what changed and is due. Raises sqlite3.Error, or whatever odd data makes of itself."""
        version = self._reader.data_version()
        if version != self._version:
            self._version = version
            self._schedule.dirty |= {"facts", "detail", "stream", "curves", "readings", "hosts", "steering"}
        if self._schedule.changed("facts"):
            self._read_facts(self._reader.conn)
        campaign = self._outbox.state.campaign
        if campaign is None:
            return
        conn = self._reader.conn
        if self._schedule.changed("steering"):
            self._say_steering(self._steering.now_and_then(conn, campaign))
        if self._schedule.changed("hosts"):
            self._read_hosts(conn)
        self._read_window(conn, campaign.id, watch.rows)
        if watch.panes:  # a screen that hides them all shows no selection either
            self._read_selection(conn, campaign, watch)
        if Pane.DEVICES in watch.panes and self._schedule.changed("readings"):
            rows = tuple(reading.readings(conn))
            if rows != self._outbox.state.readings:
                self._outbox.say(ReadingsRead(rows))

    def _read_hosts(self, conn: sqlite3.Connection) -> None:
        rows = self._hosts.read(conn)
        if rows != self._outbox.state.hosts:
            aside = reading_hosts.away_since(conn) if any(row.state == "away" for row in rows) else {}
            self._outbox.say(HostsRead(rows, aside))

    def _read_facts(self, conn: sqlite3.Connection) -> None:
        campaign = reading.campaign(conn, self._name)
        events = self._read_events(conn)
        counts, counted = self._outbox.state.counts, self._outbox.state.counted
        first = campaign is not None and (
            self._outbox.state.campaign is None or self._outbox.state.campaign.id != campaign.id
        )
        if campaign is not None and (first or any(isinstance(one.event, COUNTED) for one in events)):
            counts = reading.counts(conn, campaign.id)
            counted = reading.proposed(conn, campaign.id, settled_only=True)
        update = CampaignRead(campaign, reading.engine(conn), counts, counted)
        state = self._outbox.state
        before = CampaignRead(state.campaign, state.engine, state.counts, state.counted)
        if update != before:
            self._outbox.say(update)
        if campaign is None:
            return
        if first or not self._loaded:
            self._open_numbers, self._loaded = frozenset(), True
            self._first_rows(conn, campaign.id)
        newest = reading.newest_number(conn, campaign.id)
        if events or newest != self._newest or self._schedule.ready("rows"):
            self._newest = newest
            rows, self._open_numbers = sources.open_and_closed(conn, campaign.id, self._open_numbers)
            changed = tuple(r for r in rows.rows if self._outbox.state.listed.get(r.number) != r)
            if changed:
                self._outbox.say(ExperimentsRead(changed))
        self._read_trials(conn, campaign)
        self._say_steering(self._steering.after_events(conn, campaign, events))
        if events:
            self._outbox.say(EventsRead(tuple(events)))

    def _say_steering(self, found: Steering | None) -> None:
        if found is not None:
            self._outbox.say(SteeringRead(found))

    def _read_events(self, conn: sqlite3.Connection) -> list[EventRow]:
        if self._last_event == 0:
            self._last_event = max(0, reading.last_event(conn) - EVENTS_AT_START)
        events = reading.events(conn, self._last_event)
        if events:
            self._last_event = events[-1].id
        return events

    def _first_rows(self, conn: sqlite3.Connection, campaign: int) -> None:
        rows = reading.experiments(conn, campaign, last=FIRST_ROWS)
        if rows:
            found = tuple(listed(row) for row in rows)
            self._outbox.say(ExperimentsRead(found, (rows[0].number, rows[-1].number)))

    def _read_window(self, conn: sqlite3.Connection, campaign: int, wanted: tuple[int, int]) -> None:
        """Load what came into sight, in chunks of FIRST_ROWS, once each."""
        low, high = max(1, wanted[0]), min(wanted[1], self._outbox.state.newest)
        missing = [n for n in range(low, high + 1) if n not in self._outbox.state.listed]
        if missing:
            middle = (missing[0] + missing[-1]) // 2
            low = max(1, min(missing[0], middle - FIRST_ROWS // 2))
            self._outbox.say(sources.window(conn, campaign, low, max(missing[-1], low + FIRST_ROWS - 1)))

    def _read_trials(self, conn: sqlite3.Connection, campaign: CampaignRow) -> None:
        running = tuple(reading.trials(conn, campaign.id, open_only=True))
        incumbent = tuple(reading.trials(conn, campaign.id, version=campaign.incumbent))
        baseline = incumbent
        if campaign.baseline != campaign.incumbent:
            baseline = tuple(reading.trials(conn, campaign.id, version=campaign.baseline))
        state = self._outbox.state
        if (running, incumbent, baseline) != (state.running, state.incumbent, state.baseline):
            self._outbox.say(TrialsRead(running, incumbent, baseline))

    # --- what is selected ---

    def _read_selection(self, conn: sqlite3.Connection, campaign: CampaignRow, watch: Watch) -> None:
        state = self._outbox.state
        if self._seen[0] is not state or self._seen[1] is not watch.view:
            self._seen, self._number = (state, watch.view), selected(state, watch.view)
        number = self._number
        moved = (number,) != self._shown[:1]
        self._shown = (number, *self._shown[1:])
        if number is None:
            return
        if moved or self._schedule.changed("detail"):
            old = self._outbox.state.detail
            detail = sources.detail(conn, campaign.id, number, old)
            if detail != old:
                self._outbox.say(DetailRead(detail))
        row = self._outbox.state.listed.get(number)
        if row is not None and Pane.PROPOSAL in watch.panes and (moved or self._schedule.changed("stream")):
            stream = self._stream.read(conn, row.id)
            if stream is not None:
                self._outbox.say(stream)
        self._read_trial_output(conn, campaign, watch, number)

    def _read_trial_output(
        self, conn: sqlite3.Connection, campaign: CampaignRow, watch: Watch, number: int
    ) -> None:
        trial = watched_trial(self._outbox.state, number)
        key = (trial.id, trial.directory) if trial else None
        moved = (key, watch.panes, watch.marked) != self._shown[1:]
        self._shown = (number, key, watch.panes, watch.marked)
        if Pane.CHART in watch.panes and (moved or self._schedule.changed("curves")):
            curves = self._curves(conn, campaign, trial, watch.marked)
            state = self._outbox.state
            if curves != CurvesRead(state.live, state.reference, state.marked, state.unmarked):
                self._outbox.say(curves)
        if Pane.LOG in watch.panes and (moved or self._schedule.ready("log")):
            log = self._log.read(trial, sources.label(trial)) if trial and trial.directory else None
            if log is not None or (trial is None and self._outbox.state.log is not None):
                self._outbox.say(LogRead(log))

    def _curves(
        self,
        conn: sqlite3.Connection,
        campaign: CampaignRow,
        trial: TrialRow | None,
        marks: tuple[int, ...],
    ) -> CurvesRead:
        names = reading.series(conn, trial.id) if trial else {}
        name = sources.choose_series(names, campaign.metric)
        marked, unmarked = self._marked.read(conn, campaign.id, marks, trial, name or "")
        if trial is None or name is None:
            return CurvesRead(None, None, marked, unmarked)
        live = sources.curve(conn, trial, sources.label(trial), name, names)
        other = sources.reference_trial(self._outbox.state.incumbent, trial)
        reference = self._outbox.state.reference
        if other is None:
            reference = None
        elif reference is None or (reference.trial, reference.series) != (other.id, name):
            theirs = reading.series(conn, other.id)
            reference = sources.curve(conn, other, f"incumbent seed {other.seed}", name, theirs)
        return CurvesRead(live, reference, marked, unmarked)
