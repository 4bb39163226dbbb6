"""Programs in a real pseudo-terminal: what reaches the wire, and what a person would see (pyte)."""

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pyte
from wcwidth import wcwidth

from tests.console.terminal_answers import ASKED, UNFINISHED, answer

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from console.app import run
alive = sys.argv[2] == "alive"
sys.exit(run(Path(sys.argv[1]), lambda: alive))
"""


class Terminal:
    """One program on a terminal that answers its questions. Use as a context manager.

    ``wire`` counts every byte that the program wrote; ``received`` holds them when they are to be kept.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        width: int = 160,
        height: int = 50,
        *,
        environment: Mapping[str, str] | None = None,
        at: Path | None = None,
        keep: bool = False,
    ) -> None:
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self._unfinished = b""
        self.wire = 0
        self.read_at = 0.0  # when the last bytes came, on perf_counter
        self.received = bytearray()
        self._keep = keep
        self.started = time.perf_counter()
        full = {
            **os.environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }
        for name in ("COLUMNS", "LINES"):
            full.pop(name, None)
        size = struct.pack("HHHH", height, width, 0, 0)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:  # the child: only async-signal-safe things until exec
            # Before the program looks: a busy machine may run it long before its parent again.
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            if at is not None:
                os.chdir(at)
            os.execvpe(arguments[0], list(arguments), full)
        self.status: int | None = None

    def __enter__(self) -> Self:
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
            if self.read(left) is None:
                break
        return self.wire - before

    def read(self, seconds: float) -> bytes | None:
        """The next bytes, b"" when none come within ``seconds``, None once the program has left."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return b""
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the program has left
            return None
        self.read_at = time.perf_counter()
        self.wire += len(data)
        if self._keep:
            self.received += data
        self._show(data)
        return data or None

    def _show(self, data: bytes) -> None:
        """To the screen, but for questions: those are answered at the place where they stand."""
        data = self._unfinished + data
        tail = UNFINISHED.search(data)
        self._unfinished = data[tail.start() :] if tail else b""
        data = data[: len(data) - len(self._unfinished)]
        shown = 0
        for asked in ASKED.finditer(data):
            self._stream.feed(data[shown : asked.start()])
            reply = answer(asked, self.screen)
            shown = asked.start() if reply is None else asked.end()
            if reply:
                try:
                    os.write(self.fd, reply)
                except OSError:  # it has left already
                    pass
        self._stream.feed(data[shown:])

    @property
    def lines(self) -> list[str]:
        """The rows as they are seen. pyte's own ``display`` breaks over half a wide character."""
        screen = self.screen
        return [
            "".join(row[x].data or ("" if x and wcwidth(row[x - 1].data[:1] or " ") == 2 else " ") for x in range(screen.columns))
            for row in (screen.buffer[y] for y in range(screen.lines))
        ]  # fmt: skip

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def until(self, what: Callable[[str], bool], seconds: float = 20.0) -> float:
        """Seconds since the start when ``what(text)`` became true; raises with the screen otherwise."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if what(self.text):
                return time.perf_counter() - self.started
            if self.read(max(0.0, min(0.2, end - time.perf_counter()))) is None:
                break
        if what(self.text):
            return time.perf_counter() - self.started
        raise AssertionError(f"not seen within {seconds} s; the screen shows\n{self.text}")

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def resize(self, width: int, height: int) -> None:
        """Another size, as a window manager gives it: the kernel tells the program."""
        self.screen.resize(height, width)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def hang_up(self) -> None:
        """Close the terminal, as losing an SSH session does."""
        os.close(self.fd)
        self.fd = -1

    def wait(self, seconds: float = 10.0) -> int:
        """The exit code, or minus the signal; reads on, so that the program is never blocked by us."""
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
        raise AssertionError(f"the program did not end within {seconds} s\n{self.text}")


class TerminalConsole(Terminal):
    """The console on ``state_dir``, with an engine that is said to be alive or dead."""

    def __init__(
        self, state_dir: Path, width: int = 160, height: int = 50, alive: bool = True, **more: object
    ) -> None:
        arguments = [sys.executable, "-c", PROGRAM, str(state_dir), "alive" if alive else "dead"]
        super().__init__(arguments, width, height, **more)  # type: ignore[arg-type]
