"""tmux, asked by its own command: the console starts no process, so copying goes through this door."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping

from engine.errors import RatchetError

SECONDS = 5.0


def copy_door(environ: Mapping[str, str] = os.environ) -> Callable[[str], str] | None:
    """Takes text to tmux's paste buffer and returns where it went, in words; None outside of tmux.

    Inside of tmux this is the way that always works: it drops what programs send to the clipboard unless
    ``set-clipboard`` is ``on``.
    """
    if not environ.get("TMUX") or shutil.which("tmux") is None:
        return None

    def copy(text: str) -> str:
        if _load(["-w"], text):  # since tmux 3.2: to the terminal's clipboard as well
            return "into tmux's buffer (prefix ] pastes it) and the terminal's clipboard, where tmux may set it"
        _load([], text, last=True)
        return "into tmux's buffer (prefix ] pastes it)"

    return copy


def _load(options: list[str], text: str, last: bool = False) -> bool:
    """Whether tmux took it. Raises RatchetError when it cannot, or when it was the ``last`` way to ask."""
    try:
        done = subprocess.run(
            ["tmux", "load-buffer", *options, "-"], input=text.encode(), capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RatchetError(f"tmux gave no answer within {SECONDS:.0f} s") from None
    except OSError as error:
        raise RatchetError(f"tmux could not be started: {error.strerror or error}") from None
    if done.returncode != 0 and last:
        told = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise RatchetError(f"tmux: {told}")
    return done.returncode == 0


def ask(*words: str) -> str | None:
    """tmux's answer to a question (``display-message``, ``show-options``), None where it has none."""
    try:
        done = subprocess.run(["tmux", *words], capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
