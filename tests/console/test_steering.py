"""What people said and decided, on the screen: the decision bar, the status, the proposal's pane, the title."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from console.layout import Pane
from console.state import (
    AliveSeen,
    CampaignRead,
    EventsRead,
    Noted,
    RequestsRead,
    State,
    SteeringRead,
    StreamRead,
    View,
    reduce,
    to_withdraw,
    why_not_decide,
)
from console.steering import Autopilot, Steering, autopilot, note_words, unanswered
from console.title_line import POP, PUSH, TitleLine, title_of
from console.widgets import budget_bar, decision, footer, proposal_stream, status_bar
from console.widgets.lines import Line, Scene
from engine.events import DecisionTaken, NoteUsed, Plateau, Steered
from engine.lock import Holder
from engine.store.reading_money import Balance
from engine.store.reading_steering import Decided, Standing
from engine.store.rows import EventRow, KeepRow, NoteRow
from tests.console.scenes import CAMPAIGN, ENGINE, NOW, detail, request, row, state

LIMITS = {**CAMPAIGN.limits, "unanswered_after": "30m: reject"}
WAITS = state(
    row(1, "review"),
    detail=detail(1, state="review", asked="lines > 80", asked_at=NOW - 60.0, updated_at=NOW - 60.0),
)


def text(lines: list[Line]) -> str:
    return "\n".join("".join(t for t, _ in content.spans) for content in lines)


def bar(of: State, now: float = NOW, why_not: str = "") -> str:
    view = View(focus=Pane.DIFF, cursor=1)
    return text(decision.decision_lines(Scene(of, view, now, 1, why_not=why_not), 120))


# --- the decision bar ----------------------------------------------------------------------------------


def test_the_bar_says_by_which_rule_and_what_happens_without_an_answer() -> None:
    shown = replace(WAITS, campaign=replace(CAMPAIGN, limits=LIMITS))
    assert "a accept   r reject   e edit" in bar(shown)
    assert "asked because: lines > 80 · rejected without an answer in 29m00s" in bar(shown)
    assert bar(WAITS).count("\n") == 1, "no rule for the unanswered: nothing is said about it"
    keep = state(row(1, "keep_review"), detail=detail(1, state="keep_review"))
    assert "keep it?" in bar(keep) and "e edit" not in bar(keep)


@pytest.mark.parametrize(
    ("later", "alive", "paused", "told"),
    [
        (0.0, True, False, "rejected without an answer in 29m00s"),
        (28 * 60 + 30, True, False, "rejected without an answer in 30s"),
        (60 * 60, True, False, "rejected without an answer about now"),
        (0.0, False, False, "rejected without an answer 30m00s after an engine starts"),
        (60.0, True, True, "rejected without an answer in 28m00s, unless it stays paused"),
        (60 * 60, True, True, "rejected without an answer once it is resumed"),
    ],
)
def test_the_time_left_is_counted_as_the_engine_counts_it(
    later: float, alive: bool, paused: bool, told: str
) -> None:
    campaign = replace(CAMPAIGN, limits=LIMITS, state="paused" if paused else "running")
    found = detail(1, asked_at=NOW - 60, updated_at=NOW - 60).row
    assert unanswered(campaign, ENGINE, alive, found, NOW + later) == told


def test_an_engine_that_starts_counts_anew_and_so_does_an_edit() -> None:
    campaign = replace(CAMPAIGN, limits=LIMITS)
    old = detail(1, asked_at=NOW - 3000, updated_at=NOW - 3000).row
    fresh = replace(ENGINE, started_at=NOW - 60)
    assert unanswered(campaign, fresh, True, old, NOW) == "rejected without an answer in 29m00s"
    edited = replace(old, updated_at=NOW - 120)
    assert unanswered(campaign, ENGINE, True, edited, NOW) == "rejected without an answer in 28m00s"


@pytest.mark.parametrize("rule", [None, "", "soon", 7, "5m: maybe"])
def test_a_rule_that_is_none_promises_nothing(rule: object) -> None:
    campaign = replace(CAMPAIGN, limits={"unanswered_after": rule})
    assert unanswered(campaign, ENGINE, True, detail(1).row, NOW) == ""


def test_a_line_that_counts_down_does_not_change_every_second() -> None:
    shown = replace(WAITS, campaign=replace(CAMPAIGN, limits=LIMITS))
    told = {bar(shown, NOW + second) for second in range(60)}
    assert len(told) == 2


def test_what_went_wrong_stands_under_the_bar_of_its_experiment_only() -> None:
    refused = replace(request(number=1, state="refused"), outcome="it changed since you saw it")
    now = reduce(WAITS, RequestsRead((), (refused,)))
    assert "it changed since you saw it" in bar(now)
    other = replace(request(number=2, state="refused"), outcome="it changed since you saw it")
    assert "it changed" not in bar(reduce(WAITS, RequestsRead((), (other,))))
    assert "fine" not in bar(reduce(WAITS, Noted("fine", "good", 1)))


def test_who_was_first_is_told_with_a_refusal() -> None:
    taken = reduce(WAITS, EventsRead((EventRow(3, NOW, DecisionTaken(1, "accept", "bob")),)))
    refused = replace(request(number=1, state="refused"), outcome="experiment 1 is ready")
    now = reduce(taken, RequestsRead((), (refused,)))
    assert now.notice is not None and now.notice.text == "accept #1: experiment 1 is ready (bob: accept)"


def test_a_pending_edit_is_told_and_offers_nothing_else() -> None:
    asked = replace(WAITS, requests=(request("edit", number=1),))
    assert "edit #1: sent" in bar(asked) and "a accept" not in bar(asked)
    asleep = replace(WAITS, requests=(request("accept", "asleep", number=1),))
    assert "c still do it, u withdraw" in bar(asleep)


def test_a_decision_needs_the_diff_in_sight() -> None:
    shown, view = WAITS, View(focus=Pane.PROPOSAL, cursor=1, seen=(1, 3), seen_since=100.0)
    assert why_not_decide(shown, view, 200.0) == ""
    assert "3 shows the diff" in why_not_decide(shown, view, 200.0, (Pane.PROPOSAL,))


# --- messages and what is streamed ---------------------------------------------------------------------

NOTE = NoteRow(1, "look at the data order", "ada", None, NOW - 60)


def test_a_message_is_in_sight_until_it_is_read_and_then_beside_what_was_written_with_it() -> None:
    steering = Steering(notes=(NOTE, replace(NOTE, id=2, text="no schedules", used_by=1)))
    assert [what for what, _ in note_words(steering.notes, 1)] == [
        "#1 was written with this message", "waits for the next brief",
    ]  # fmt: skip
    assert [note.id for _, note in note_words(steering.notes, 2)] == [1]
    shown = state(row(1), detail=detail(1), steering=steering)
    assert shown.detail is not None
    told = text(proposal_stream.told(shown, shown.detail, 60))
    assert "no schedules" in told and "look at the data order" in told
    used = replace(shown, steering=Steering(notes=(replace(NOTE, used_by=7),)))
    assert used.detail is not None and "data order" not in text(proposal_stream.told(used, used.detail, 60))


def test_a_hostile_message_is_only_text() -> None:
    steering = Steering(notes=(replace(NOTE, text="\x1b]0;owned\x07[bold]x[/]\n\u202e", actor="\x1b[2Ja"),))
    shown = state(row(1), detail=detail(1), steering=steering)
    assert shown.detail is not None
    for line in proposal_stream.told(shown, shown.detail, 20):
        assert all(c.isprintable() for t, _ in line.spans for c in t)


def test_thinking_is_dim_calls_take_a_line_each_and_an_edit_grows_as_a_diff() -> None:
    parts = (
        ("thinking", "perhaps the " + "very " * 30 + "end"),
        ("tool", "view train.py\nstr_replace train.py " + "x" * 300 + "\n"),
        ("edit", "\n".join(f"    line {n}" for n in range(20)) + "\n"),
        ("text", "and now the schedule"),
        ("edit", "RATE = 2\n\tDEPTH = \x1b[31m4"),
    )
    shown = state(row(1, "drafting"), detail=detail(1, state="drafting"), stream=StreamRead(11, parts))
    assert shown.detail is not None
    lines = proposal_stream.stream_lines(shown, shown.detail, 60)
    styles = {t.strip(): name for line in lines for t, name in line.spans}
    assert next(name for t, name in styles.items() if t.startswith("perhaps the")) == "italic"
    calls = [line for line in lines if line.spans and line.spans[0][0] == "› "]
    assert len(calls) == 2 and all(sum(len(t) for t, _ in line.spans) <= 60 for line in calls)
    added = [line for line in lines if line.fill == "added"]
    assert len(added) == proposal_stream.EDIT_LINES + 2, "complete edits are cut, the growing one is whole"
    assert "12 more lines" in text(lines) and "RATE = 2" in text(added[-2:])
    assert all(c.isprintable() for line in lines for t, _ in line.spans for c in t)


# --- the status ----------------------------------------------------------------------------------------


def status(of: State, width: int = 160, height: int = 3) -> str:
    return text(status_bar.painter(Scene(of, View(), NOW, 1), width, height))


def test_acceptances_in_advance_a_plateau_and_failed_drafts_are_in_the_status() -> None:
    shown = state(
        row(1),
        campaign=replace(CAMPAIGN, autopilot='{"left": 3, "actor": "ada"}'),
        steering=Steering(
            standing=Standing(plateau=20), outcomes={"failed": 2, "invalid edit": 1, "rejected": 5, "exhausted": 1}
        ),
    )
    assert "3 accepted in advance: A ends it" in status(shown)
    assert "plateau: 20 since a keep" in status(shown) and "3 failed drafts" in status(shown)
    small = status(shown, 80, 1)
    assert "3 in advance" in small and "plateau" in small and len(small) == 80


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"left": "x"}', '{"left": 0}', "7"])
def test_a_damaged_order_is_none(damaged: str) -> None:
    assert autopilot(replace(CAMPAIGN, autopilot=damaged)) is None
    assert autopilot(None) is None
    assert autopilot(replace(CAMPAIGN, autopilot='{"left": 2, "actor": "b"}')) == Autopilot(2, "b")


def test_money_is_told_where_something_costs_money_and_only_there() -> None:
    assert "$" not in status(state(row(1)))
    money = Balance(3_200_000_000, 400_000_000)
    limited = replace(CAMPAIGN, limits={**CAMPAIGN.limits, "dollars": 20.0})
    shown = state(row(1), campaign=limited, steering=Steering(money=money))
    assert "$3.20 of $20.00 (+$0.40 set aside)" in status(shown)
    assert "$3.20" in status(replace(shown, campaign=CAMPAIGN)) and " of $" not in status(
        replace(shown, campaign=CAMPAIGN)
    )
    found = budget_bar.budget(replace(shown, steering=Steering(money=Balance(19_000_000_000, 0))))
    assert found is not None and found.fraction == pytest.approx(0.95), "the nearest limit fills the bar"


def test_a_full_disk_and_a_reached_budget_are_said_with_their_mend() -> None:
    shown = reduce(state(row(1)), AliveSeen(True, "no space left on /data", "free some disk space"))
    found = status_bar.situation(shown, NOW)
    assert (found.style, found.why) == ("bad", "no space left on /data")
    assert found.mend == "free some disk space; it goes on by itself then"
    assert "no space left" in status(shown) and "no space left" in text(
        status_bar.strip(Scene(shown, View(), NOW, 1), 80, 1)
    )
    assert status_bar.situation(reduce(shown, AliveSeen(True)), NOW).word == "running"
    another = reduce(shown, CampaignRead(replace(CAMPAIGN, id=2), ENGINE))
    assert status_bar.situation(another, NOW).style == "bad", "the disk is as full for another campaign"
    reached = reduce(state(row(1)), SteeringRead(Steering(standing=Standing(budget=(20 * 10**9, 19 * 10**9)))))
    found = status_bar.situation(reached, NOW)
    assert found.word == "budget reached" and "$20.00" in found.why and "[limits]" in found.mend


def test_steering_is_news_in_words() -> None:
    for event, told in (
        (Steered(1, "no schedules", "ada"), "ada to the proposer: no schedules"),
        (NoteUsed(1, 12), "#12 was drafted with that message"),
        (Plateau(20), "a plateau: 20 proposals"),
        (DecisionTaken(4, "undo", "ada"), "#4 decision undone by ada"),
    ):
        assert told in status_bar.say(event)


# --- what may be taken back ----------------------------------------------------------------------------


def keep(number: int) -> KeepRow:
    return KeepRow(number, f"t{number}", "", "", None, None, NOW)


def test_what_stepping_back_leaves_behind() -> None:
    steering = Steering(keeps=(keep(3), keep(7), keep(9)))
    behind = steering.left_behind(3)
    assert behind is not None and [k.number for k in behind] == [7, 9]
    assert steering.left_behind(9) == () and steering.left_behind(4) is None


def test_my_newest_decision_is_mine_or_given_by_me_in_advance() -> None:
    found = (
        Decided(9, "accept", "bob", NOW),
        Decided(8, "accept", "ada (in advance)", NOW),
        Decided(7, "reject", "ada", NOW),
    )
    steering = Steering(reversible=found)
    assert steering.newest_of("ada") == found[1] and steering.newest_of("eve") is None


def test_the_footer_offers_to_take_back_only_what_is_fresh() -> None:
    shown = state(row(1), steering=Steering(reversible=(Decided(9, "accept", "ada", NOW - 10),)))

    def offered(of: State, now: float) -> list[str]:
        return [word for _, word, _ in footer.keys(Scene(of, View(), now, 1, actor="ada"))]

    assert "undo accept #9" in offered(shown, NOW) and "undo accept #9" not in offered(shown, NOW + 3600)
    assert "withdraw" in offered(replace(shown, requests=(request(),)), NOW)


def test_u_withdraws_what_is_asked_again_then_mine_then_the_newest() -> None:
    mine, theirs = request(id=1), replace(request(id=2), actor="bob")
    asleep = request("pause", "asleep", id=3)
    assert to_withdraw(state(requests=(mine, theirs)), "ada") == mine
    assert to_withdraw(state(requests=(mine, theirs)), "eve") == theirs
    assert to_withdraw(state(requests=(mine, asleep)), "ada") == asleep
    assert to_withdraw(state(), "ada") is None


# --- the title -----------------------------------------------------------------------------------------


def test_the_title_says_who_waits_and_what_is_best() -> None:
    assert title_of(State()) == "ratchet"
    assert title_of(state()) == "ratchet: val_bpb 3.2000"
    waiting = state(row(1, "review"), row(2, "keep_review"), requests=(request("pause", "asleep"),))
    assert title_of(waiting) == "ratchet: 3 waiting - val_bpb 3.2000"
    hostile = state(campaign=replace(CAMPAIGN, metric="\x1b]0;x\x07loss\n"))
    assert title_of(hostile).isprintable()


def test_the_title_is_sent_only_when_it_changes_and_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    sent: list[str] = []

    def send(data: str) -> bool:
        sent.append(data)
        return True

    line = TitleLine(send, "xterm-256color")
    for _ in range(3):
        line.show(state())
    line.show(state(row(1, "review")))
    assert sent == [
        f"{PUSH}\x1b]2;ratchet: val_bpb 3.2000\x07", "\x1b]2;ratchet: 1 waiting - val_bpb 3.2000\x07",
    ]  # fmt: skip
    line.give_back()
    line.give_back()
    assert capfd.readouterr().err.count(POP) == 1


@pytest.mark.parametrize("term", ["", "dumb", "linux", "vt220", "ansi"])
def test_a_terminal_that_would_print_a_title_gets_none(term: str) -> None:
    sent: list[str] = []
    TitleLine(lambda data: bool(sent.append(data)) or True, term).show(state())
    assert sent == []


# --- the engine's trouble, through the feed ------------------------------------------------------------


def test_the_locks_record_brings_the_engines_trouble_to_the_screen(tmp_path: Path) -> None:
    from console.feed import Feed
    from engine.clock import VirtualClock

    holder: list[Holder | None] = [Holder("h", "b", os.getpid(), ready=True, error="disk full", mend="free space")]
    clock = VirtualClock()
    feed = Feed(tmp_path, lambda: holder[0], clock)

    def look() -> list[AliveSeen]:
        clock.advance(2.0)
        feed.cycle()
        return [u for u in feed.take() if isinstance(u, AliveSeen)]

    assert look() == [AliveSeen(True, "disk full", "free space")] and look() == []
    holder[0] = Holder("h", "b", os.getpid(), ready=True)
    assert look() == [AliveSeen(True)]
    holder[0] = None
    assert look() == [AliveSeen(False)]
    feed.stop()


def test_in_a_narrow_pane_the_time_left_is_not_cut_off() -> None:
    shown = replace(WAITS, campaign=replace(CAMPAIGN, limits=LIMITS))
    lines = decision.decision_lines(Scene(shown, View(focus=Pane.DIFF, cursor=1), NOW, 1), 52)
    assert [text([line]).strip() for line in lines[1:]] == [
        "asked because: lines > 80", "rejected without an answer in 29m00s",
    ]  # fmt: skip
