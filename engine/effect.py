"""Proof that edits reach the run: throw-away candidates that raise must make the command fail. Pure but for
what its caller's ``run`` and ``lookup`` do.

A package installed editable makes every candidate import the user's checkout: all trials then measure the
baseline, and only chance is kept. Nothing in a log shows it. So before a campaign, each editable Python
file is given a first statement that prints a marker and raises; a file whose marker appears is reached.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from engine.scope import matches

if TYPE_CHECKING:
    from engine.clock import Clock
    from engine.config import Config
    from engine.environment import EnvironmentPaths
    from engine.workspace import Workspace

# Each round of raising finds the first file that runs, at the price of the command's start-up. Beyond this
# many, one last round marks what is left without raising and costs the whole time limit instead.
RAISING_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class CommandResult:
    """``output`` is stdout and stderr together; ``code`` is 128+n after a signal."""

    code: int
    output: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """Where the run's Python would find the module of a file, were it imported."""

    file: str
    module: str
    inside: bool  # in the candidate's own files
    root: str = ""  # directory of the project that has to be on PYTHONPATH for the candidate's to win
    overrides: str = ""  # a finder that comes before PYTHONPATH and cannot be beaten by it
    distribution: str = ""  # the editable install that it belongs to


@dataclass(frozen=True, slots=True)
class FileEffect:
    """What was found about one editable file. ``unproven``: no Python, so nothing was tried."""

    path: str
    reached: bool
    evidence: str
    imported_from: str | None = None
    mend: str = ""
    unproven: bool = False
    python_path: str = ""  # adding this directory of the project to PYTHONPATH would mend it


Run = Callable[[Mapping[str, bytes]], Awaitable[CommandResult]]
Lookup = Callable[[Sequence[str]], Awaitable[Mapping[str, Imported]]]


async def prove(
    files: Mapping[str, bytes], editable: Sequence[str], run: Run, lookup: Lookup | None = None
) -> list[FileEffect]:
    """One FileEffect for each of ``files`` that the globs ``editable`` name, in order of path.

    ``run`` executes the training command on a tree with a time limit; ``lookup`` says where the command's
    Python finds the modules of the files given.
    """
    named = set(editable)
    chosen = [path for path in sorted(files) if path in named or matches(editable, path)]
    python = [path for path in chosen if path.endswith((".py", ".pyw"))]
    token = hashlib.sha256(b"\0".join(files[path] for path in python)).hexdigest()[:12]
    waiting = {path: f"ratchet-effect-{token}-{index}." for index, path in enumerate(python)}
    found: dict[str, FileEffect] = {}
    result: CommandResult | None = None
    for turn in range(len(python)):
        raises = turn < RAISING_ROUNDS
        marked = {path: mark(files[path], marker, raises) for path, marker in waiting.items()}
        result = await run({**files, **marked})
        seen = [path for path, marker in waiting.items() if marker in result.output]
        for path in seen:
            found[path] = FileEffect(path, True, _how_reached(result, raises))
            del waiting[path]
        if not (seen and waiting and raises):
            break
    if waiting and result is not None:
        places = await lookup(list(waiting)) if lookup else {}
        for path in waiting:
            found[path] = _unreached(path, result, places.get(path), bool(found))
    for path in chosen:
        if path not in python:
            found[path] = FileEffect(path, False, "not Python: not proven", unproven=True)
    return [found[path] for path in chosen]


async def prove_project(
    project: Path,
    config: Config,
    workspace: Workspace,
    environment: EnvironmentPaths,
    snapshot: str,
    clock: Clock,
) -> list[FileEffect]:
    """``prove`` for the version ``snapshot`` as ``config`` runs it, without the files that are unproven."""
    from engine.effect_run import prove_files  # the real processes are that module's, and it needs this one

    files = await workspace.files(snapshot, ["**"])
    found = await prove_files(config, project, files, clock, environment)
    return [effect for effect in found if not effect.unproven]


def refusal(effects: Iterable[FileEffect]) -> str | None:
    """Why a campaign must not start, or None. It may when a Python file is reached, or none was to be."""
    tried = [effect for effect in effects if not effect.unproven]
    if any(effect.reached for effect in tried) or not tried:
        return None
    lines = [f"{effect.path}: {effect.evidence}\n  mend: {effect.mend}" for effect in tried]
    return "no edit reaches the run, so every candidate would equal the baseline\n" + "\n".join(lines)


def mark(content: bytes, marker: str, raises: bool) -> bytes:
    """``content`` with a first statement that prints ``marker`` and, if ``raises``, fails.

    It stands after the docstring and ``from __future__`` lines, which Python wants first. It writes to file
    descriptor 2, so that a program which catches the exception or replaces ``sys.stderr`` still shows it.
    """
    statement = f'__import__("os").write(2, b"\\n{marker}\\n")'
    if raises:
        statement += f'; raise RuntimeError("{marker}")'
    lines = content.splitlines(keepends=True)
    after = _header_lines(content)
    end = b"\r\n" if b"\r\n" in content else b"\n"
    if 0 < after <= len(lines) and not lines[after - 1].endswith((b"\n", b"\r")):
        lines[after - 1] += end
    elif after == 0 and lines and lines[0].startswith(b"\xef\xbb\xbf"):
        lines[0] = lines[0][3:]
        return b"\xef\xbb\xbf" + statement.encode() + end + b"".join(lines)
    # An encoding comment counts only on the first two lines: keep it, and "#!", in place.
    while after < min(2, len(lines)) and lines[after].lstrip().startswith(b"#"):
        after += 1
    return b"".join([*lines[:after], statement.encode() + end, *lines[after:]])


def _header_lines(content: bytes) -> int:
    """How many lines the docstring and the ``from __future__`` imports take; 0 when it does not parse."""
    try:
        body = ast.parse(content).body
    except (SyntaxError, ValueError):
        return 0
    last = 0
    for index, node in enumerate(body):
        match node:
            case ast.Expr(value=ast.Constant(value=str())) if index == 0:
                last = node.end_lineno or last
            case ast.ImportFrom(module="__future__"):
                last = node.end_lineno or last
            case _:
                break
    return last


def _how_reached(result: CommandResult, raises: bool) -> str:
    if not raises:
        return "the command ran it"
    if result.timed_out:
        return "the command ran it, caught its error and went on"
    if result.code == 0:
        return "the command ran it, caught its error and still ended with 0"
    return "an error in it made the command fail"


def _unreached(path: str, result: CommandResult, place: Imported | None, others: bool) -> FileEffect:
    """Say what happened instead, name the file really imported, and what would mend it."""
    if place is not None and not place.inside:
        owner = f" (installed editable as {place.distribution})" if place.distribution else ""
        evidence = f"the command imports {place.module} from {place.file}{owner}, not from the candidate"
        if place.overrides:
            name = place.distribution or place.module.split(".")[0]
            hook = f"its import hook {place.overrides} comes before PYTHONPATH"
            mend = f"{hook}: install {name} without -e, or uninstall it"
            return FileEffect(path, False, evidence, place.file, mend)
        if place.root in ("", ".", "src"):
            mend = "the command's Python ignores PYTHONPATH: run it without -I and -E"
            return FileEffect(path, False, evidence, place.file, mend)
        mend = f'put the candidate first: [environment] set = {{ PYTHONPATH = "{place.root}" }}'
        return FileEffect(path, False, evidence, place.file, mend, python_path=place.root)
    said = _last_line(result.output)
    if result.timed_out:
        evidence = "the command ran until the time limit without running it"
    elif result.code == 0:
        evidence = "the command ended well without running it"
    else:
        evidence = f"the command failed (code {result.code}) before it got there: {said}"
        if not others:
            return FileEffect(path, False, evidence, None, _mend_failure(result, said))
    mend = "take it out of [project] edit, or make [trial] command use it"
    return FileEffect(path, False, evidence, None, mend)


def _mend_failure(result: CommandResult, said: str) -> str:
    if missing := re.search(r"No module named '([^']+)'", said):
        name = missing[1].split(".")[0]
        return (
            f"install {name} where the command's Python finds it, or choose that Python: "
            '[environment] path = [".venv/bin"]'
        )
    if result.code in (126, 127):
        return "the program is not on a trial's PATH: [environment] path, or its whole path in [trial] command"
    if "No such file or directory" in said or "FileNotFound" in said:
        return "if git ignores that file, name it in [data] link"
    return "make [trial] command work in a fresh clone of the project"


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"


def module_names(path: str) -> list[tuple[str, str]]:
    """(module, root) pairs under which ``path`` may be imported, longest module first."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    pairs = []
    for start in range(len(parts)):
        if all(part.isidentifier() for part in parts[start:]):
            pairs.append((".".join(parts[start:]), "/".join(parts[:start])))
    return pairs
