"""The console in a real pseudo-terminal: what reaches the wire, and what a person would see (pyte)."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from console.app import run
alive = sys.argv[2] == "alive"
sys.exit(run(Path(sys.argv[1]), lambda: alive))
"""


class TerminalConsole:
    """Use as a context manager. ``wire`` counts every byte that the console wrote."""

    def __init__(self, state_dir: Path, width: int = 160, height: int = 50, alive: bool = True) -> None:
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self.wire = 0
        self.started = time.perf_counter()
        arguments = [sys.executable, "-c", PROGRAM, str(state_dir), "alive" if alive else "dead"]
        environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONPATH": str(ROOT),
        }
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        size = struct.pack("HHHH", height, width, 0, 0)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:  # the child: only async-signal-safe things until exec
            # Before the console looks: a busy machine may run it long before its parent again.
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execve(sys.executable, arguments, environment)
        self.status: int | None = None

    def __enter__(self) -> TerminalConsole:
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(5)
        if self.fd >= 0:
            os.close(self.fd)

    def pump(self, seconds: float) -> int:
        """Read what comes for ``seconds``; returns how many bytes that was."""
        before, end = self.wire, time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            if not self._read(left):
                break
        return self.wire - before

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if ready:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # EIO: the console has left
                return False
            self.wire += len(data)
            self._stream.feed(data)
            return bool(data)
        return True

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def until(self, what: Callable[[str], bool], seconds: float = 20.0) -> float:
        """Seconds since the start when ``what(text)`` became true; raises with the screen otherwise."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if what(self.text):
                return time.perf_counter() - self.started
            if not self._read(max(0.0, min(0.2, end - time.perf_counter()))):
                break
        if what(self.text):
            return time.perf_counter() - self.started
        raise AssertionError(f"not seen within {seconds} s; the screen shows\n{self.text}")

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def hang_up(self) -> None:
        """Close the terminal, as losing an SSH session does."""
        os.close(self.fd)
        self.fd = -1

    def wait(self, seconds: float = 10.0) -> int:
        """The exit code, or minus the signal; reads on, so that the console is never blocked by us."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.status = os.waitstatus_to_exitcode(status)
                return self.status
            if self.fd >= 0:
                self.pump(0.05)
            else:
                time.sleep(0.05)
        raise AssertionError(f"the console did not end within {seconds} s\n{self.text}")
