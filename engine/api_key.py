"""How the API key reaches the engine, and what keeps it there (TRUST.md row 12).

Never on a command line, never in a process's environment for longer than it takes to read it: by a pipe, a
file that only its owner reads, or a command. ``/proc`` shows arguments and environments to others, and every
trial inherits whatever we forget to take away.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import RatchetError, UsageError

if TYPE_CHECKING:  # the console asks for the key's hiding, and should not pay for pydantic
    from engine.config_sections import ProposerSection

VARIABLE = "ANTHROPIC_API_KEY"
BY_PIPE = "RATCHET_KEY_FD"  # number of the inherited descriptor that holds it
COMMAND_SECONDS = 60
KEY_BYTES = 4096
_PR_SET_DUMPABLE = 4

_taken = ""
_asking: set[subprocess.Popen[bytes]] = set()


def hide(argv: list[str]) -> None:
    """Take the key out of this process's environment, which /proc shows, by starting it anew without.

    Returns in a process whose environment holds no key; ``taken`` has it. ``argv`` is the whole command.
    """
    global _taken
    if (number := os.environ.pop(BY_PIPE, "")).isdigit():
        with os.fdopen(int(number), "rb") as pipe:
            _taken = pipe.read(KEY_BYTES).decode("utf-8", "replace").strip()
        return
    key = os.environ.get(VARIABLE, "").strip()
    if not key:
        return
    reading, writing = os.pipe()
    os.write(writing, key.encode()[:KEY_BYTES])
    os.close(writing)
    os.set_inheritable(reading, True)
    os.execve(argv[0], argv, {**environment_without(), BY_PIPE: str(reading)})


def taken() -> str:
    """The key that this process was started with; "" when there was none."""
    return _taken or os.environ.get(VARIABLE, "").strip()


def take(text: str) -> None:
    """Remember a key that came by a pipe."""
    global _taken
    _taken = text.strip()


def environment_without() -> dict[str, str]:
    """This process's environment for one that gets the key in another way."""
    return {name: value for name, value in os.environ.items() if name not in (VARIABLE, BY_PIPE)}


def find(settings: ProposerSection, project: Path) -> str:
    """The key by file, by command, or as this process was given it. Raises RatchetError or UsageError."""
    if settings.key_file or settings.key_command:
        if settings.key_file:
            found = _from_file(Path(settings.key_file).expanduser(), project)
        else:
            found = _from_command(settings.key_command, project)
        take(found)  # so that the log knows what to leave out
        return found
    if found := taken():
        return found
    raise UsageError(
        f'[proposer] kind = "claude" needs an API key and there is none in {VARIABLE}',
        f"start the engine with {VARIABLE} set, or give [proposer] key_file (mode 0600) or key_command",
    )


def _from_file(path: Path, project: Path) -> str:
    path = path if path.is_absolute() else project / path
    try:
        # Opened once and asked about what was opened: the name may be another file a moment later.
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(KEY_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise UsageError(f"[proposer] key_file {path} cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(f"[proposer] key_file {path} can be read by others", f"chmod 600 {path}")
    if not text:
        raise UsageError(f"[proposer] key_file {path} is empty")
    return text


def _from_command(command: str, project: Path) -> str:
    process = subprocess.Popen(
        ["sh", "-c", command],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,  # to be ended with all that it started, which would keep the pipes open
    )
    _asking.add(process)
    try:
        output, complaint = process.communicate(timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise RatchetError(
            f"[proposer] key_command did not end within {COMMAND_SECONDS} s", "it must not ask for anything"
        ) from None
    finally:
        _asking.discard(process)
        _end(process)
    text = output[:KEY_BYTES].decode("utf-8", "replace").strip()
    if process.returncode or not text:
        # Its output may hold half a secret: only its complaint is shown.
        said = complaint.decode("utf-8", "replace").strip().splitlines()
        raise RatchetError(
            f"[proposer] key_command failed (exit status {process.returncode})" + (f": {said[-1]}" if said else "")
        )
    return text


def give_up() -> None:
    """End commands that still look for a key, in other threads: an engine that stops does not wait for them."""
    for process in tuple(_asking):
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def guard_process() -> bool:
    """No core dump, no /proc/PID/mem or environ for other processes of this user. False where unsupported."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        done: int = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        return done == 0
    except (OSError, AttributeError):
        return False


class Redacting(logging.Filter):
    """Every record that leaves the engine's log: without the key, and without what looks like one."""

    def filter(self, record: logging.LogRecord) -> bool:
        from engine.proposers.redaction import Redaction

        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
            record.exc_info = record.exc_text = None
        record.msg, record.args = Redaction(taken()).text(text), ()
        return True
