"""What the live console may not do itself: read a proposal's files from git, lend the terminal to an editor."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from console.editing import ChangedFile
from engine import api_key
from engine.clock import Clock
from engine.errors import RatchetError

FALLBACK = ("editor", "nano", "vi")


def candidate_reader(project: Path, state: Path, clock: Clock) -> Callable[[str, str], tuple[ChangedFile, ...]]:
    """(base, candidate), commits -> the files in which they differ. It blocks; raises RatchetError."""

    def read(base: str, candidate: str) -> tuple[ChangedFile, ...]:
        import asyncio

        from engine.config import load  # pydantic: the first paint must not wait for it
        from engine.workspace import Workspace

        edit = load(project).project.edit  # outside of it no proposal changes anything
        workspace = Workspace(project, state, clock)
        before = asyncio.run(workspace.files(base, edit))
        after = asyncio.run(workspace.files(candidate, edit))
        paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        if not paths:
            raise RatchetError("the proposal's files cannot be read", "were [project] edit or the branch changed?")
        return tuple(ChangedFile(path, before.get(path), after.get(path)) for path in paths)

    return read


def editor_command(environ: Mapping[str, str]) -> list[str]:
    """$VISUAL, $EDITOR, or what there is. Raises RatchetError."""
    for name in ("VISUAL", "EDITOR"):
        text = environ.get(name, "").strip()
        if text:
            try:
                return shlex.split(text)
            except ValueError as error:
                raise RatchetError(f"${name} cannot be understood: {error}", f"set {name} to a command") from error
    for program in FALLBACK:
        if (found := shutil.which(program, path=environ.get("PATH"))) is not None:
            return [found]
    raise RatchetError("no editor was found", "set VISUAL or EDITOR")


def open_editor(paths: Sequence[Path], folder: Path) -> str:
    """Lend the terminal to the person's editor until it ends; '' when it ended well, else what happened.

    It blocks. Called from the main thread the keys that end or stop programs reach the editor alone.
    """
    command = editor_command(os.environ)
    try:
        with _keys_are_the_editors():
            done = subprocess.run(
                [*command, *map(str, paths)], cwd=folder, env=api_key.environment_without(), check=False
            )
    except OSError as error:
        return f"{command[0]} cannot be started: {error.strerror}"
    if done.returncode < 0:
        return f"the editor was ended by signal {-done.returncode}"
    return f"the editor ended with {done.returncode}" if done.returncode else ""


@contextmanager
def _keys_are_the_editors() -> Iterator[None]:
    """Ctrl-C goes to everybody in the terminal's foreground: it must not end the console. Ctrl-Z stops both."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGQUIT)}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
