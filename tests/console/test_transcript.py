"""A draft's conversation as lines: two that a stop of the engine cut are told apart, on the screen and in print."""

from __future__ import annotations

from console.transcript import CUT, lines
from console.widgets import story
from engine.store.rows import MessageRow
from tests.console.test_screen_painters import EVIL, check


def messages(*roles: str) -> list[MessageRow]:
    return [MessageRow(i, role, f"what {role} {i} said", 1.0) for i, role in enumerate(roles)]


def test_a_conversation_that_begins_anew_is_marked_where_the_first_was_cut() -> None:
    found = lines(messages("system", "user", "assistant", "note", "system", "user", "assistant"))
    assert found.count(CUT) == 1 and found.index("what note 3 said") < found.index(CUT) < found.index(
        "what system 4 said"
    )


def test_one_conversation_has_no_mark() -> None:
    assert CUT not in lines(messages("system", "user", "assistant", "user", "note", "assistant"))
    assert lines([]) == []


def test_what_a_message_says_is_never_taken_for_the_mark_of_another_style() -> None:
    talk = [*lines(messages("system", "system")), EVIL]
    shown = story.talk_lines(talk, 60)
    told = check(shown, 60)
    assert CUT in told
    assert [style for line in shown for text, style in line.spans if text == CUT] == ["warn"]
