"""The event log: every kind of event in words, none of it raw, and a filter that says what is wrong with it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from console import event_words
from console.event_words import DECISION, LEVELS, ROUTINE, ROUTINELY, TROUBLE
from engine import events
from engine.store.rows import EventRow

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n漢字\u202e"
VALUES: dict[str, Any] = {"int": 3, "float": 0.5, "str": "word", "int | None": 4, "float | None": 0.25}


def one_of_each(word: str = "word") -> list[EventRow]:
    found = []
    for i, kind in enumerate(events.Event.__args__):
        values = {
            field.name: word if field.type == "str" else VALUES.get(str(field.type), (word,))
            for field in fields(kind)
        }
        found.append(EventRow(i + 1, 1e9 + i, kind(**values)))
    return found


def test_every_kind_of_event_has_words_of_its_own() -> None:
    for row in one_of_each():
        said = event_words.say(row)
        assert said.level in LEVELS and said.kind and said.text
        assert type(row.event).__name__ not in said.text, f"{said.text}: give this kind its words"


def test_what_is_left_out_at_first_is_what_is_only_routine() -> None:
    told = {type(row.event).__name__: event_words.say(row).level for row in one_of_each()}
    assert {kind for kind, level in told.items() if level == ROUTINELY} == set(ROUTINE)


def test_a_pause_by_a_person_is_a_decision_and_one_by_a_fault_is_trouble_with_its_mend() -> None:
    by_person = event_words.say(EventRow(1, 0.0, events.CampaignPaused("paused by ada", "`ratchet resume`")))
    by_fault = event_words.say(EventRow(2, 0.0, events.CampaignPaused("the disk is full", "free some space")))
    assert by_person.level == DECISION
    assert (by_fault.level, by_fault.mend) == (TROUBLE, "free some space")


def test_no_event_lets_an_escape_out() -> None:
    for row in one_of_each(EVIL):
        said = event_words.say(row)
        assert f"{said.kind}{said.text}{said.mend}".isprintable()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("is:trouble", {"Warned", "CampaignPaused", "BudgetReached", "Plateau", "AttemptLost"}),
        ("autopilot", {"AutopilotSet"}), ('"taken up"', {"ConfigReloaded"}), ("taken -ratchet.toml", set()),
    ],
)  # fmt: skip
def test_a_filter_chooses_among_events(text: str, kinds: set[str]) -> None:
    by = event_words.parse(text)
    assert not by.problem
    chosen = {said.id for said in event_words.chosen(one_of_each(), by)}
    names = {row.id: type(row.event).__name__ for row in one_of_each()}
    assert kinds <= {names[i] for i in chosen} if text == "is:trouble" else {names[i] for i in chosen} == kinds


def test_events_of_one_experiment_are_found_by_its_number() -> None:
    row = EventRow(1, 0.0, events.DecisionTaken(41, "accept", "ada"))
    assert event_words.chosen([row], event_words.parse("#41"))
    assert not event_words.chosen([row], event_words.parse("#4"))
    assert not event_words.chosen([row], event_words.parse("-#41"))


def test_a_filter_that_is_wrong_says_what_there_is() -> None:
    assert "trouble, decision, news" in event_words.parse("is:bad").problem
    assert "trouble" in event_words.parse("is:").problem
