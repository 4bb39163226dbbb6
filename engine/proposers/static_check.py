"""What is wrong with source files that anybody can see without running them. Executes nothing of theirs.

Python is compiled and its names are looked up by pyflakes; JSON, TOML and YAML are parsed. ``check`` is meant for
hostile text too, yet a parser written in C has the last word on its own stack: the engine calls ``check_apart``,
the same in a child process.
"""

from __future__ import annotations

import ast
import json
import sys
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from engine.proposers import bounded

ERROR = "error"  # it does not compile or parse: the trial would crash
DOUBT = "doubt"  # a name that nothing defines: nearly always a crash, but the analysis may be wrong
HINT = "hint"  # odd, and harmless or not to be judged
LARGEST = 1 << 20  # bytes of a file that is looked at
PROBLEMS = 100  # reported at most
_PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"
_DEEP = (RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class Problem:
    """``line`` is 1-based, 0 for the whole file. ``severity``: ERROR, DOUBT or HINT."""

    path: str
    line: int
    text: str
    severity: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{self.severity}: {where}: {self.text}"


def check(files: Mapping[str, bytes], base: Mapping[str, bytes] | None = None) -> list[Problem]:
    """Problems of ``files`` (path -> content) that those of the same path in ``base`` do not have already.

    The worst first, at most PROBLEMS. Where the base version does not compile here either, its language is newer
    than this Python or it was broken before: then what does not compile is a hint.
    """
    found: list[Problem] = []
    for path in sorted(files):
        before = base.get(path) if base else None
        if before == files[path]:
            continue
        found += _new(files[path], _problems(path, files[path]), before, _problems(path, before) if before else [])
    order = (ERROR, DOUBT, HINT)
    return sorted(found, key=lambda p: (order.index(p.severity), p.path, p.line))[:PROBLEMS]


async def check_apart(files: Mapping[str, bytes], base: Mapping[str, bytes]) -> list[Problem]:
    """``check`` in a child process of little memory and time; a check that cannot be finished is a doubt."""
    both = [{path: content.decode("latin-1") for path, content in some.items()} for some in (files, base)]
    try:
        rows = await bounded.call("engine.proposers.static_check:check_in_child", both)
    except bounded.GaveUp as fault:
        return [Problem(path, 0, f"it could not be checked: {fault.message}", DOUBT) for path in sorted(files)]
    return [Problem(*row) for row in rows]


def check_in_child(argument: Any) -> Any:
    files, base = ({path: text.encode("latin-1") for path, text in some.items()} for some in argument)
    return [astuple(problem) for problem in check(files, base)]


async def fingerprints_apart(*candidates: Mapping[str, bytes]) -> list[str]:
    """``duplicates.fingerprint`` of each; '' for all when it cannot be finished.

    In the child as well: in Python 3.11 two threads that build syntax trees at once end in a SystemError.
    """
    try:
        found: list[str] = await bounded.call(
            "engine.proposers.static_check:fingerprints_in_child",
            [{path: content.decode("latin-1") for path, content in files.items()} for files in candidates],
        )
    except bounded.GaveUp:
        return [""] * len(candidates)
    return found


def fingerprints_in_child(argument: Any) -> Any:
    from engine.proposers.duplicates import fingerprint

    return [fingerprint({path: text.encode("latin-1") for path, text in files.items()}) for files in argument]


def _new(content: bytes, found: list[Problem], before: bytes | None, old: list[Problem]) -> Iterator[Problem]:
    """The problems of ``found`` that are not among ``old``. Lines have moved: text tells them apart."""
    if before is None:
        yield from found
        return
    broken = any(problem.severity == ERROR for problem in old)
    lines, old_lines = content.split(b"\n"), before.split(b"\n")
    # First those on a line that reads as before, then the same complaint on any line, each of the old ones once.
    exact = Counter((p.text, _line(old_lines, p.line)) for p in old)
    rest: list[Problem] = []
    left = Counter(p.text for p in old)
    for problem in found:
        key = (problem.text, _line(lines, problem.line))
        if exact[key] > 0:
            exact[key] -= 1
            left[problem.text] -= 1
        else:
            rest.append(problem)
    for problem in rest:
        if left[problem.text] > 0:
            left[problem.text] -= 1
        elif problem.severity == ERROR and broken:
            said = (
                f"{problem.text}; the base version does not compile under {_PYTHON} either, so this may be right"
            )
            yield Problem(problem.path, problem.line, said, HINT)
        else:
            yield problem


def _line(lines: list[bytes], number: int) -> bytes:
    return lines[number - 1].strip() if 0 < number <= len(lines) else b""


def _problems(path: str, content: bytes) -> list[Problem]:
    kind = path.rpartition(".")[2].lower()
    reader = {"py": _python, "json": _json, "toml": _toml, "yaml": _yaml, "yml": _yaml}.get(kind)
    if reader is None:
        return []
    if len(content) > LARGEST:
        return [Problem(path, 0, f"it is larger than {LARGEST:,} bytes, too large to be checked", ERROR)]
    try:
        return list(reader(path, content))
    except _DEEP:
        return [Problem(path, 0, "it is nested too deep to be read", ERROR)]


def _python(path: str, content: bytes) -> Iterator[Problem]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            compile(content, path, "exec", dont_inherit=True, optimize=0)
            tree = ast.parse(content, path)
        except SyntaxError as fault:
            yield Problem(path, fault.lineno or 0, f"it does not compile under {_PYTHON}: {fault.msg}", ERROR)
            return
        except (ValueError, LookupError, OverflowError) as fault:  # NULs, a codec that does not exist
            yield Problem(path, 0, f"it does not compile under {_PYTHON}: {fault}", ERROR)
            return
    warned = dict.fromkeys((w.lineno or 0, str(w.message)) for w in caught)
    yield from (Problem(path, line, text, HINT) for line, text in warned)
    lines = {line for line, _ in warned}
    # pyflakes repeats some of the compiler's warnings in its own words.
    yield from (p for p in _names(path, tree) if p.severity == DOUBT or p.line not in lines)


def _names(path: str, tree: ast.AST) -> Iterable[Problem]:
    from pyflakes import checker, messages  # type: ignore[import-untyped]

    doubtful = (messages.UndefinedName, messages.UndefinedLocal, messages.UndefinedExport)
    try:
        found = checker.Checker(tree, filename=path).messages
    except _DEEP:
        return [Problem(path, 0, "its names were not checked: it is nested too deep", HINT)]
    return [
        Problem(path, m.lineno, str(m.message % m.message_args), DOUBT if isinstance(m, doubtful) else HINT)
        for m in sorted(found, key=lambda m: (m.lineno, m.col))
    ]


def _json(path: str, content: bytes) -> Iterator[Problem]:
    try:
        json.loads(content)
    except ValueError as fault:
        yield Problem(path, getattr(fault, "lineno", 0), f"it is no JSON: {fault}", ERROR)


def _toml(path: str, content: bytes) -> Iterator[Problem]:
    try:
        tomllib.loads(content.decode("utf-8"))
    except ValueError as fault:
        yield Problem(path, 0, f"it is no TOML: {fault}", ERROR)


def _yaml(path: str, content: bytes) -> Iterator[Problem]:
    import yaml

    try:
        # Events only: aliases are not expanded, and no tag makes an object.
        for _ in yaml.parse(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            pass
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        yield Problem(path, line, f"it is no YAML: {getattr(fault, 'problem', None) or fault}", ERROR)
    except ValueError as fault:
        yield Problem(path, 0, f"it is no YAML: {fault}", ERROR)
