"""The reducer, the selection and the guards of a decision, without Textual."""

from __future__ import annotations

from dataclasses import replace

from console.layout import Pane
from console.state import (
    VISIBLE_SECONDS,
    CampaignRead,
    EventsRead,
    ExperimentsRead,
    RequestsRead,
    State,
    StoreSeen,
    View,
    reduce,
    selected,
    watched_trial,
    why_not_decide,
)
from engine.events import CampaignResumed, Warned
from engine.store.rows import EventRow
from tests.console.scenes import CAMPAIGN, NOW, TRIAL, detail, request, row, state


def test_rows_are_added_changed_and_counted_once() -> None:
    now = reduce(State(), ExperimentsRead((row(1), row(2, "measuring")), (1, 2)))
    assert (now.newest, now.settles) == (2, (NOW - 999,))
    now = reduce(now, ExperimentsRead((row(2), row(3, "drafting"))))
    assert now.newest == 3 and now.listed[2] is not None and now.listed[2].verdict == "discard"
    assert now.settles == (NOW - 999, NOW - 998)
    assert reduce(now, ExperimentsRead((row(2),))).settles == now.settles


def test_a_number_that_does_not_exist_is_known_as_such() -> None:
    now = reduce(State(), ExperimentsRead((row(1), row(3)), (1, 3)))
    assert now.listed[2] is None and 4 not in now.listed


def test_another_campaign_starts_from_nothing() -> None:
    old = state(row(1), alive=True)
    now = reduce(old, CampaignRead(replace(CAMPAIGN, id=2), None))
    assert (dict(now.listed), now.newest, now.alive) == ({}, 0, True)


def test_a_vanished_store_keeps_what_was_seen() -> None:
    now = reduce(state(row(1)), StoreSeen("gone", "mend"))
    assert now.problem == "gone" and now.newest == 1
    assert reduce(now, StoreSeen()).problem == ""


def test_old_events_are_no_news_and_warnings_are() -> None:
    warned = EventRow(2, NOW, Warned("disk nearly full", "free space"))
    first = reduce(State(), EventsRead((EventRow(1, NOW, CampaignResumed("ada")), warned)))
    assert first.notice is None
    again = reduce(first, EventsRead((warned, EventRow(3, NOW, Warned("late", "mend it")))))
    assert again.notice is not None and again.notice.text == "late - mend it"
    assert [e.id for e in again.events] == [1, 2, 3]


def test_answers_are_said_with_their_outcome() -> None:
    answered = replace(request(number=4, state="refused"), outcome="it changed since you saw it")
    now = reduce(state(), RequestsRead((), (answered,)))
    assert now.notice is not None
    assert (now.notice.text, now.notice.style) == ("accept #4: it changed since you saw it", "warn")


def test_following_shows_who_waits_then_what_runs_then_the_newest() -> None:
    rows = [row(1), row(2, "measuring"), row(3, "review"), row(4, "drafting")]
    running = replace(TRIAL, number=2)
    assert selected(state(*rows, running=(running,)), View()) == 3
    assert selected(state(rows[0], rows[1], rows[3], running=(running,)), View()) == 2
    assert selected(state(rows[0], rows[3]), View()) == 4
    assert selected(state(*rows), View(cursor=1)) == 1
    assert selected(state(*rows), View(cursor=99)) == 4
    assert selected(State(), View(cursor=3)) is None


def test_output_is_the_selected_experiments_else_of_what_runs() -> None:
    other = replace(TRIAL, id=6, number=9)
    assert watched_trial(state(row(1), running=(other, TRIAL)), 1) == TRIAL
    assert watched_trial(state(row(2), running=(other,)), 2) == other
    done = replace(TRIAL, id=3, state="done", outcome="ok")
    shown = replace(detail(2), trials=(done, replace(done, id=4, directory="")))
    assert watched_trial(state(row(2), running=(other,), detail=shown), 2) == done
    assert watched_trial(state(row(2)), 2) is None


# --- the guards --------------------------------------------------------------------------------------


def looking(**more: object) -> tuple[State, View]:
    shown = state(row(1, "review"), detail=detail(1, state="review"))
    view = View(focus=Pane.DIFF, cursor=1, seen=(1, 3), seen_since=100.0)
    return shown, replace(view, **more)  # type: ignore[arg-type]


def test_what_was_seen_long_enough_in_focus_may_be_decided() -> None:
    shown, view = looking()
    assert why_not_decide(shown, view, 100.0 + VISIBLE_SECONDS) == ""
    shown, view = looking(focus=Pane.PROPOSAL)
    assert why_not_decide(shown, view, 100.5) == ""


def test_a_key_that_comes_too_early_decides_nothing() -> None:
    shown, view = looking()
    assert why_not_decide(shown, view, 100.0 + VISIBLE_SECONDS - 0.01)
    shown, view = looking(seen_since=float("inf"))
    assert why_not_decide(shown, view, 1e9)


def test_only_the_proposal_and_the_diff_take_decisions() -> None:
    for pane in (Pane.EXPERIMENTS, Pane.CHART, Pane.DEVICES, Pane.LOG):
        shown, view = looking(focus=pane)
        assert why_not_decide(shown, view, 200.0)


def test_a_revision_that_was_not_seen_is_not_decided() -> None:
    shown, view = looking()
    changed = replace(shown, listed={1: row(1, "review", revision=4)})
    assert why_not_decide(changed, view, 200.0)  # the diff on the screen is of revision 3
    read = replace(changed, detail=detail(1, state="review", revision=4))
    assert why_not_decide(read, view, 200.0)  # read, but not seen yet


def test_nobody_decides_where_nobody_is_asked() -> None:
    shown, view = looking()
    settled = replace(shown, listed={1: row(1)})
    assert why_not_decide(settled, view, 200.0) == "nothing waits for a decision"
    other = replace(shown, listed={1: row(1), 2: row(2, "keep_review")}, newest=2)
    assert why_not_decide(other, view, 200.0) == "#2 waits, not this one"
