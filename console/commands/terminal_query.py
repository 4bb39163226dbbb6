"""A terminal asked for itself: how long its answer takes, and how fast it swallows bytes. It is left as it was."""

from __future__ import annotations

import os
import re
import select
import statistics
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.clock import Clock

ASK = b"\x1b[c"  # primary device attributes: every terminal since the VT100 answers
ANSWER = re.compile(rb"\x1b\[\?[0-9;]*c")
SECONDS, TIMES = 1.0, 5
LOAD = b"\x1b[m" * 5461  # 16 KB that change nothing on the screen


@dataclass(frozen=True, slots=True)
class Answered:
    """``seconds``: the median way there and back, None without an answer; ``rate``: bytes/s, None if unknown."""

    seconds: float | None = None
    rate: float | None = None
    why: str = ""  # why nothing was asked


def query(clock: Clock, path: str = "/dev/tty") -> Answered:
    """Ask the terminal that this process belongs to. Bounded: a silent one costs ``SECONDS``. Never raises."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return Answered(why="no terminal belongs to this process")
    try:
        if os.tcgetpgrp(fd) != os.getpgrp():  # asking would stop this process
            return Answered(why="this process is in the background")
        with _quiet(fd):
            return _measure(fd, clock)
    except (OSError, termios.error) as error:
        return Answered(why=f"the terminal cannot be asked: {error}")
    finally:
        os.close(fd)


@contextmanager
def _quiet(fd: int) -> Iterator[None]:
    """No echo, no waiting for a line; ctrl+c works. What comes late is thrown away: it is no command line."""
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)


def _measure(fd: int, clock: Clock) -> Answered:
    took = []
    for _ in range(TIMES):
        one = _round(fd, clock, ASK)
        if one is None:
            return Answered()
        took.append(one)
    middle = statistics.median(took)
    loaded = _round(fd, clock, LOAD + ASK, 3 * SECONDS)
    if loaded is None:
        return Answered(middle, len(LOAD) / (3 * SECONDS))  # at most
    return Answered(middle, len(LOAD) / max(loaded - middle, 1e-4))


def _round(fd: int, clock: Clock, asked: bytes, seconds: float = SECONDS) -> float | None:
    began = clock.monotonic()
    heard = b""
    left = memoryview(asked)
    while (room := began + seconds - clock.monotonic()) > 0:
        readable, writable, _ = select.select([fd], [fd] if left else [], [], room)
        if writable:
            left = left[os.write(fd, left[:4096]) :]
        if readable:
            heard = (heard + os.read(fd, 4096))[-4096:]
            if not left and ANSWER.search(heard):
                return clock.monotonic() - began
    return None
