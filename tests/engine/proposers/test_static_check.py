"""What can be seen without running: errors, undefined names, and only what the edit brought. Hostile text too."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from engine.errors import EditRejected
from engine.proposers import bounded, text_search
from engine.proposers.static_check import DOUBT, ERROR, HINT, PROBLEMS, Problem, check, check_apart


def told(problems: list[Problem]) -> list[tuple[str, int, str]]:
    return [(problem.severity, problem.line, problem.text) for problem in problems]


def test_a_file_that_does_not_compile_is_an_error_with_its_line() -> None:
    (problem,) = check({"a.py": b"x = 1\ny = (\n"})
    assert (problem.severity, problem.path, problem.line) == (ERROR, "a.py", 2)
    assert "does not compile" in problem.text and "never closed" in problem.text
    assert str(problem).startswith("error: a.py:2: ")


def test_an_undefined_name_is_a_doubt_and_an_unused_import_a_hint() -> None:
    found = check({"a.py": b"import os\n\ndef f():\n    return undefined_thing + later\n\nlater = 1\n"})
    assert told(found) == [
        (DOUBT, 4, "undefined name 'undefined_thing'"),
        (HINT, 1, "'os' imported but unused"),
    ]


def test_a_warning_of_the_compiler_is_a_hint_and_is_not_printed(recwarn: pytest.WarningsRecorder) -> None:
    (problem,) = check({"a.py": b"x = 1\nprint(x is 1)\n"})
    assert (problem.severity, problem.line) == (HINT, 2) and '"is" with a literal' in problem.text
    assert not recwarn.list


def test_only_what_the_base_version_does_not_have_is_reported() -> None:
    base = b"import os\n\nprint(missing)\nprint(missing)\n"
    moved = b"import os\n\n\nX = 1\nprint(missing)\nprint(missing)\n"
    assert check({"a.py": moved}, {"a.py": base}) == []
    more = base + b"print(missing)\nprint(other)\n"
    assert told(check({"a.py": more}, {"a.py": base})) == [
        (DOUBT, 5, "undefined name 'missing'"),
        (DOUBT, 6, "undefined name 'other'"),
    ]
    assert check({"a.py": base}, {"a.py": base}) == []


def test_the_new_one_of_two_equal_complaints_is_the_one_on_a_new_line() -> None:
    base = b"a = 1\nprint(missing)\n"
    (problem,) = check({"a.py": b"a = missing\nprint(missing)\n"}, {"a.py": base})
    assert problem.line == 1


def test_where_the_base_does_not_compile_here_an_error_is_only_a_hint() -> None:
    """The project's Python may be newer than the engine's."""
    base = b"type X = int\nfoo = (\n"
    (problem,) = check({"a.py": b"type Y = int\nz = ]\n"}, {"a.py": base})
    assert problem.severity == HINT and "the base version does not compile" in problem.text


def test_nothing_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    source = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nraise SystemExit(3)\n".encode()
    assert check({"a.py": source, "conftest.py": source, "sitecustomize.py": source}) == []
    assert not mark.exists()


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("c.json", b'{"a": 1,}', "no JSON"),
        ("c.toml", b"a = \n", "no TOML"),
        ("c.toml", b"\xff", "no TOML"),
        ("c.yaml", b"a: [1\n", "no YAML"),
        ("c.yml", b"\x00", "no YAML"),
        ("c.json", b"[" * 100_000, "nested too deep"),
        ("c.yaml", b"[" * 2000, "no YAML"),
    ],
    ids=range(7),
)
def test_a_settings_file_that_does_not_parse_is_an_error(path: str, content: bytes, said: str) -> None:
    (problem,) = check({path: content})
    assert problem.severity == ERROR and said in problem.text


def test_settings_that_parse_and_other_files_are_fine() -> None:
    good = {"a.json": b"{}", "a.toml": b"a = 1", "a.yaml": b"a: &x [1]\nb: [*x, *x]\nc: !!python/object:os.x {}\n"}
    assert check({**good, "a.txt": b"(((", "a.sh": b"fi", "Makefile": b"\xff"}) == []


N = 100_000
DEEP = {
    "minus": b"x = " + b"-" * N + b"1\n",
    "not": b"x = " + b"not " * N + b"1\n",
    "attribute": b"x = a" + b".b" * N + b"\n",
    "sum": b"x = 1" + b"+1" * N + b"\n",
    "index": b"x = a" + b"[0]" * N + b"\n",
    "call": b"x = a" + b"()" * N + b"\n",
    "lambda": b"x = " + b"lambda: " * N + b"0\n",
    "elif": b"if a: pass\n" + b"elif a: pass\n" * N,
    "power": b"x = 1" + b"**1" * N + b"\n",
    "paren": b"(" * N + b")" * N,
    "indent": b"".join(b" " * i + b"if 1:\n" for i in range(900)) + b" " * 900 + b"pass\n",
    "f-string": b"x = " + b"f'{" * 200 + b"1" + b"}'" * 200,
}


async def test_no_nesting_kills_the_check_and_each_is_an_error() -> None:
    found = await check_apart({f"{name}.py": source for name, source in DEEP.items()}, {})
    assert {problem.path.removesuffix(".py") for problem in found if problem.severity == ERROR} == set(DEEP)
    assert any("nested too deep" in problem.text for problem in found)


async def test_what_compiles_and_is_too_deep_for_its_names_is_only_told() -> None:
    (problem,) = await check_apart({"a.py": b"x = 1" + b"+1" * 900 + b"\n"}, {})
    assert problem.severity == HINT and "names were not checked" in problem.text


@pytest.mark.parametrize(
    "content", [b"x = 1\0", b"# coding: nonsense\n", b"x = '\xff'\n", b"\xff\xfe", b"x = 1" * 300_000]
)
def test_bytes_that_are_no_source_are_an_error(content: bytes) -> None:
    (problem,) = check({"a.py": content})
    assert problem.severity == ERROR


def test_the_report_is_bounded() -> None:
    found = check({"a.py": b"".join(b"print(name%d)\n" % i for i in range(500)) + b"import os\n"})
    assert len(found) == PROBLEMS and all(problem.severity == DOUBT for problem in found)


# --- the bounded child -------------------------------------------------------------------------------


async def test_both_ways_of_checking_agree() -> None:
    files = {"a.py": b"import os\nprint(x\xc3\xa9)\n", "b.py": b"(", "c.json": b"["}
    base = {"a.py": b"import os\n"}
    assert await check_apart(files, base) == check(files, base)


async def test_the_child_gets_no_key_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")
    ran: list[dict[str, str]] = []
    real = subprocess.run

    def spy(*args: object, **named: object) -> object:
        ran.append(named["env"])  # type: ignore[arg-type]
        return real(*args, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", spy)
    assert (await check_apart({"a.py": b"x\n"}, {}))[0].severity == DOUBT
    assert ran and set(ran[0]) <= {"PATH", "LD_LIBRARY_PATH"} and "canary" not in str(ran)


async def test_a_child_that_dies_is_a_doubt_and_not_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "_START", "import os; os.kill(os.getpid(), 11)")
    (problem,) = await check_apart({"a.py": b"x = 1\n"}, {})
    assert problem.severity == DOUBT and "could not be checked" in problem.text
    monkeypatch.setattr(bounded.sys, "executable", "/nonexistent")
    (problem,) = await check_apart({"a.py": b"x = 1\n"}, {})
    assert "no process could be started" in problem.text


# --- search, which lives in the same child -----------------------------------------------------------

FILES = {"a.py": "LR = 0.02\r\nlr_scale = 2\n", "b/c.py": "def f(x):\n    return LR * x"}


async def test_plain_text_and_regular_expressions_find_lines() -> None:
    hits = await text_search.search(FILES, "LR", regex=False)
    assert [(h.path, h.line, h.text) for h in hits.shown] == [
        ("a.py", 1, "LR = 0.02"),
        ("b/c.py", 2, "    return LR * x"),
    ]
    hits = await text_search.search(FILES, r"(?i)^lr\b.*=|(?<=def )f", regex=True)
    assert [(h.path, h.line) for h in hits.shown] == [("a.py", 1), ("b/c.py", 1)]
    assert (await text_search.search(FILES, r"0.02$", regex=False)).total == 0


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's limit, shorter than it is."""
    start = bounded._START.replace("serve()", "import engine.proposers.bounded as b; b.SECONDS = 1; serve()")
    monkeypatch.setattr(bounded, "_START", start)


@pytest.mark.usefixtures("one_second")
async def test_a_regular_expression_that_never_ends_is_given_up_while_the_engine_goes_on() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    going = asyncio.create_task(turn())
    try:
        with pytest.raises(EditRejected, match="given up: it took longer") as caught:
            await text_search.search({"a": "a" * 60 + "!"}, r"(a+)+$", regex=True)
        assert "simpler" in caught.value.mend
    finally:
        going.cancel()
    assert turns > 20


@pytest.mark.parametrize(
    ("pattern", "regex", "said"),
    [
        ("", False, "empty"),
        ("x" * 501, True, "longer than"),
        ("a\nb", False, "newline"),
        ("(", True, "malformed"),
        ("a{99999999999999}", True, "malformed"),
        ("(?P<a>x)(?P<a>y)", True, "malformed"),
    ],
    ids=range(6),
)
async def test_a_pattern_that_will_not_do_is_refused_in_words(pattern: str, regex: bool, said: str) -> None:
    with pytest.raises(EditRejected, match=said) as caught:
        await text_search.search(FILES, pattern, regex=regex)
    assert caught.value.mend


async def test_hits_are_bounded_and_long_lines_cut() -> None:
    hits = await text_search.search({"a": ("needle" + "x" * 1000 + "\n") * 5000}, "needle", regex=True)
    assert hits.total == 5000 and len(hits.shown) == text_search.HITS
    assert max(len(hit.text) for hit in hits.shown) < 300


@pytest.mark.usefixtures("one_second")
async def test_a_pattern_that_eats_memory_ends_the_child_only() -> None:
    with pytest.raises(EditRejected, match="given up"):
        await text_search.search({"a": "a" * 200_000}, "((a*)*)*b", regex=True)
