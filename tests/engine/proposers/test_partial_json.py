"""Strings out of JSON that is still being written."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from engine.proposers.partial_json import GrowingStrings
from engine.proposers.redaction import HIDDEN, RedactedStream, Redaction


def grown(pieces: list[str]) -> dict[str, str]:
    strings, found = GrowingStrings(), dict[str, str]()
    for piece in pieces:
        for key, text in strings.feed(piece):
            found[key] = found.get(key, "") + text
    return found


def test_a_value_is_given_out_while_it_grows() -> None:
    strings = GrowingStrings()
    assert list(strings.feed('{"path": "train.py", "new_str": "LR = ')) == [
        ("path", "train.py"),
        ("new_str", "LR = "),
    ]
    assert list(strings.feed("0.03\\nWARM")) == [("new_str", "0.03\nWARM")]
    assert strings.complete == {"path": "train.py"}
    assert list(strings.feed('"}')) == []
    assert strings.complete["new_str"] == "LR = 0.03\nWARM"


def test_escapes_cut_anywhere_come_out_whole() -> None:
    text = 'a"b\\c/\n\t\u00e9\U0001f600 \u2028'
    written = json.dumps({"new_str": text})
    for cut in range(len(written)):
        assert grown([written[:cut], written[cut:]]) == {"new_str": text}
    assert grown(list(written)) == {"new_str": text}


def test_nested_values_and_others_than_strings_are_passed_over() -> None:
    written = (
        '{"view_range": [1, "x"], "deep": {"new_str": "no", "l": ["{"]}, "n": 1.5, "new_str": "yes", "z": null}'
    )
    assert grown([written]) == {"new_str": "yes"}


def test_half_a_surrogate_pair_becomes_what_can_be_stored() -> None:
    for written in ('{"a": "x\\ud83dy"}', '{"a": "x\\ude00y"}', '{"a": "x\\ud83d"}', '{"a": "x\\ud83d\\n"}'):
        found = grown([written])["a"]
        found.encode()
        assert found.startswith("x\ufffd")


def test_what_is_no_json_is_silence_and_no_crash() -> None:
    for written in ("[1, 2]", "null", '"text"', '{"a": "\\x"}', '{"a": "\\uzzzz"}', "}{", '{"a": tr}', ""):
        grown([written, ' "b": "c"}'])


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _VALUES, max_size=5), st.booleans(), st.lists(st.integers(0, 300), max_size=6))
def test_every_object_gives_its_strings_however_it_is_cut(
    value: dict[str, object], escaped: bool, cuts: list[int]
) -> None:
    written = json.dumps(value, ensure_ascii=escaped)
    places = [0, *sorted(min(cut, len(written)) for cut in cuts), len(written)]
    pieces = [written[a:b] for a, b in itertools.pairwise(places)]
    wanted = {key: text for key, text in value.items() if isinstance(text, str)}
    strings = GrowingStrings()
    for piece in pieces:
        list(strings.feed(piece))
    assert strings.complete == wanted
    assert grown(pieces) == {key: text for key, text in wanted.items() if text}


@given(st.text())
def test_no_text_whatever_raises(written: str) -> None:
    grown([written])
    grown(['{"a": "', written])


# --- keys ------------------------------------------------------------------------------------------------

SECRET = "sk-ant-api03-AbC_123-xyz"


@given(st.text(), st.text(), st.lists(st.integers(0, 200), max_size=8))
def test_a_key_cut_into_pieces_never_shows(before: str, after: str, cuts: list[int]) -> None:
    text = f"{before} {SECRET} {after}"
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    stream = RedactedStream(Redaction("another-key-entirely"))
    shown = "".join([stream.feed(text[a:b]) for a, b in itertools.pairwise(places)] + [stream.close()])
    assert SECRET not in shown and HIDDEN in shown
    assert shown.replace(HIDDEN, SECRET) == text.replace(HIDDEN, SECRET)


def test_a_key_of_another_form_is_removed_because_it_is_the_key() -> None:
    redaction = Redaction("proxy-token-77")
    stream = RedactedStream(redaction)
    assert "".join(
        [stream.feed("it is pro"), stream.feed("xy-tok"), stream.feed("en-77 there"), stream.close()]
    ) == (f"it is {HIDDEN} there")
    assert redaction.data({"a": ["x proxy-token-77", 1, None]}) == {"a": [f"x {HIDDEN}", 1, None]}
    assert "proxy" not in repr(redaction)


def test_what_only_begins_like_a_key_is_shown_in_the_end() -> None:
    stream = RedactedStream(Redaction("proxy-token-77"))
    assert stream.feed("this is sk") + stream.feed("ill") + stream.feed(" s") + stream.close() == "this is skill s"


def test_no_key_removes_nothing() -> None:
    assert Redaction("").text("none of it") == "none of it"
    assert Redaction("none").text("none of it") == "none of it"
