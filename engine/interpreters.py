"""Which Python a project means: its own environment, uv, conda, or whatever is on PATH. Reads only."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Interpreter:
    """``command`` starts it; ``path``, ``setup`` and ``key`` are for [environment]; ``why`` is for people."""

    command: str
    why: str
    path: tuple[str, ...] = ()
    setup: str = ""
    key: tuple[str, ...] = ()


def find_interpreter(project: Path) -> Interpreter:
    """The project's Python, the nearest first."""
    uses_uv = (project / "uv.lock").is_file()
    uv = shutil.which("uv")
    if uses_uv and uv and (project / ".venv" / "pyvenv.cfg").is_file():
        return Interpreter("uv run", "uv.lock and .venv are there: run by uv, never synced by a trial")
    if uses_uv and uv:
        why = "uv.lock is there: uv builds an environment once, apart from your files"
        return Interpreter("uv run", why, setup="uv sync --frozen", key=("uv.lock",))
    for name in (".venv", "venv", "env"):
        if (project / name / "pyvenv.cfg").is_file() and _python_in(project / name):
            return Interpreter("python", f"the project's own environment, {name}/", path=(f"{name}/bin",))
    active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    if active and _python_in(Path(active)):
        kind = "virtual" if os.environ.get("VIRTUAL_ENV") else "conda"
        return Interpreter("python", f"the {kind} environment that is active now", path=(f"{active}/bin",))
    name = "python" if shutil.which("python") else "python3"
    found = shutil.which(name)
    return Interpreter(name, found or "no Python is on PATH: set [environment] path")


def _python_in(environment: Path) -> bool:
    return os.access(environment / "bin" / "python", os.X_OK)
