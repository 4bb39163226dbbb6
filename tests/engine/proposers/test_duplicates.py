"""The fingerprint of a candidate: equal when nothing that runs differs, another one when something does."""

from __future__ import annotations

import ast
import string

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.proposers.duplicates import fingerprint

SOURCE = '''"""Trains."""
import math

LR = 1e-3  # found by hand
STEPS = 1000
NAMES = ("a", 'b')


class Model:
    """A model."""

    depth: int = 4

    def forward(self, x: float) -> float:
        """Forward."""
        return math.tanh(x) * (LR + self.depth)


def train(steps=STEPS, *, warm=0.1):
    total = 0.0
    for step in range(steps):
        if step % 10 == 0 and warm:
            total += Model().forward(step / 7)
    return f"{total:.3f}"


print(train())
'''


def of(source: str | bytes, path: str = "train.py") -> str:
    return fingerprint({path: source if isinstance(source, bytes) else source.encode()})


def changed(old: str, new: str) -> str:
    assert old in SOURCE
    return SOURCE.replace(old, new)


def test_the_spelling_of_a_program_is_not_the_program() -> None:
    same = [
        ast.unparse(ast.parse(SOURCE)),
        changed("1e-3  # found by hand", "0.001"),
        changed("1000", "1_000"),
        changed("1000", "0x3e8"),
        changed('"a"', "'a'"),
        changed('"a"', 'u"a"'),
        changed('    """A model."""\n\n', ""),
        changed('        """Forward."""\n', ""),
        changed('"""Trains."""\n', '"""Trains quite another thing."""\n'),
        changed("    total = 0.0", '    "set to nothing"\n    total = 0.0  # here'),
        changed("(x) * (LR", "(x)*(\n            LR"),
        SOURCE.replace("\n", "\r\n"),
        SOURCE.replace("    ", "  "),
        SOURCE + "\n\n# the end",
        "\ufeff" + SOURCE,
    ]
    assert {of(source) for source in same} == {of(SOURCE)}


def test_whatever_runs_otherwise_has_another_fingerprint() -> None:
    others = [
        changed("1e-3", "1e-4"),
        changed("1000", "1000.0"),
        changed("depth: int = 4", "depth: int = 5"),
        changed("% 10 == 0 and warm", "% 10 == 0 or warm"),
        changed("warm=0.1", "warm=-0.1"),
        changed(":.3f", ":.4f"),
        changed('"a"', 'b"a"'),
        changed("print(train())", ""),
        changed("warm=0.1", "warm=True"),
        changed("warm=0.1", "warm=1"),
    ]
    assert len({of(source) for source in (*others, SOURCE)}) == len(others) + 1


NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text()
)


@given(NUMBERS, NUMBERS)
@example(1, 1.0)
@example(1, True)
@example(0.0, -0.0)
def test_a_constant_is_told_apart_exactly_when_python_tells_it_apart(one: object, other: object) -> None:
    alike = repr(one) == repr(other)
    assert (of(f"X = {one!r}") == of(f"X = {other!r}")) is alike


@given(st.floats(min_value=1e-30, max_value=1e30, allow_nan=False))
def test_a_number_may_be_spelled_in_any_way(value: float) -> None:
    spellings = {
        repr(value),
        f"{value:.17e}",
        f"{value:.17e}".replace("e", "E"),
        f"0{value:.17e}".lstrip("0") or "0.0",
    }
    assert len({of(f"X = {text}") for text in spellings}) == 1


@given(st.lists(st.sampled_from(["# note", "", "    # indented", "\t", "#\u2028", '"""said"""'])), st.data())
def test_comments_and_blank_lines_anywhere_change_nothing(added: list[str], data: st.DataObject) -> None:
    lines = SOURCE.splitlines()
    places = [0] + [i for i, line in enumerate(lines) if line[:1] in ("", "c", "d", "p", "L", "S", "N")]
    for text in added:
        if text.startswith('"'):
            lines.append(text)
        else:
            lines.insert(data.draw(st.sampled_from(places)), text)
    assert of("\n".join(lines)) == of(SOURCE)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(["a.py", "a.yaml", "a"]))
def test_any_bytes_have_a_fingerprint_that_is_the_same_again(content: bytes, path: str) -> None:
    assert of(content, path) == of(content, path)


def test_what_python_cannot_parse_or_write_down_is_compared_as_text() -> None:
    deep = "x = " + "(" * 5000 + ")" * 5000
    long = f"x = {'9' * 5000}"
    for source in (deep, long, "def f(:\n", b"x = '\xff'", b"x = 1\0"):
        text = source if isinstance(source, bytes) else source.encode()
        assert of(text) == of(text + b"  \n\n")
        assert of(text) != of(text + b"y")


def test_other_files_keep_their_indentation_and_lose_their_trailing_blanks() -> None:
    nested = "a:\n  b: 1\n  c: 2\n"
    assert of(nested, "c.yaml") == of("a:  \r\n  b: 1\r\n\r\n  c: 2", "c.yaml")
    assert of(nested, "c.yaml") != of("a:\n  b: 1\nc: 2\n", "c.yaml")
    assert of(nested, "c.yaml") != of("a:\n  b: 1\n  c: 2.0\n", "c.yaml")


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), st.binary(max_size=20), max_size=4))
def test_files_are_told_apart_by_name_and_number_and_not_by_order(files: dict[str, bytes]) -> None:
    assert fingerprint(dict(reversed(files.items()))) == fingerprint(files)
    assert fingerprint({**files, "9": b""}) != fingerprint(files)
    for path, content in files.items():
        renamed = {("9" if name == path else name): content for name, content in files.items()}
        assert fingerprint(renamed) != fingerprint(files) and content is files[path]


def test_moving_text_between_files_is_a_change() -> None:
    assert fingerprint({"a": b"xy", "b": b""}) != fingerprint({"a": b"x", "b": b"y"})
    assert fingerprint({"a": b"", "b": b"xy"}) != fingerprint({"a": b"xy", "b": b""})
