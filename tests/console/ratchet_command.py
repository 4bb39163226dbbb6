"""The command `ratchet` as a person meets it: a process with arguments, output and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.project_factory import git

COMMAND = [sys.executable, "-P", "-m", "console.cli"]  # -P: the folder that it runs in is no part of the program
SECONDS = 120.0


def ratchet(*arguments: str, at: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `ratchet arguments` in the folder ``at``, without a terminal, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=at,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def well(*arguments: str, at: Path) -> str:
    """Standard output of a command that must succeed."""
    done = ratchet(*arguments, at=at)
    assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def data(*arguments: str, at: Path) -> Any:
    """What a command prints with --json; NaN and infinity are no JSON and are refused."""
    return json.loads(well(*arguments, "--json", at=at), parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def begin(*arguments: str, at: Path) -> subprocess.Popen[str]:
    """The command running, in a session of its own as under a terminal; both its outputs in one pipe."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=at,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def untouched(project: Path) -> dict[str, object]:
    """All that is the user's: files, index, HEAD and every ref. Ratchet's own .ratchet is left out."""
    files = {
        str(path.relative_to(project)): path.read_bytes()
        for path in sorted(project.rglob("*"))
        if path.is_file() and not {".git", ".ratchet"} & set(path.relative_to(project).parts)
    }
    if not (project / ".git").exists():
        return {"files": files}
    return {
        "files": files,
        "index": (project / ".git" / "index").read_bytes(),
        "HEAD": (project / ".git" / "HEAD").read_text(),
        "refs": git(project, "for-each-ref"),
        "status": git(project, "status", "--porcelain"),
    }


def living_in(folder: Path) -> list[str]:
    """Command lines of processes that work in ``folder``: trials, whatever namespace hides their pids.

    An engine is none of them: it has let go of its lock before its process is gone.
    """
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            where = (process / "cwd").readlink()
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if where.is_relative_to(folder) and "engine.service" not in line:
            found.append(f"{process.name} {line}")
    return found
