"""Leaving when the terminal is gone, or somebody sends SIGTERM.

Textual writes to the terminal through a queue of 30; once nobody reads it, the event loop blocks on that queue and
an orderly exit (which writes, too) would wait for ever. So a lost terminal ends the process from outside of the
loop: what the person asked is on disk first, nothing else is owed to anybody, and nothing is decided.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable

ORDERLY_SECONDS = 3.0


class Leaving:
    """``settle`` finishes what was asked (it may block); ``orderly`` asks the program to end, from any thread."""

    def __init__(self, settle: Callable[[], None], orderly: Callable[[], None]) -> None:
        self._settle, self._orderly = settle, orderly
        self._begun = threading.Lock()

    def watch(self) -> None:
        # signal.signal, not the loop's handlers: those never run while the loop is blocked on a dead terminal.
        signal.signal(signal.SIGHUP, lambda *_: self._start(self._at_once))
        signal.signal(signal.SIGTERM, lambda *_: self._start(self._politely))
        threading.Thread(target=self._until_hang_up, name="terminal", daemon=True).start()

    def _start(self, leave: Callable[[], None]) -> None:
        threading.Thread(target=leave, name="leaving", daemon=True).start()

    def _until_hang_up(self) -> None:
        """A terminal can go without SIGHUP (nohup): its end then reads as an endless end of file."""
        poll = select.poll()
        poll.register(0, 0)  # hang-up and errors are always told
        if any(found & (select.POLLHUP | select.POLLERR) for _, found in poll.poll()):
            self._at_once()

    def _at_once(self) -> None:
        if self._begun.acquire(blocking=False):
            self._settle()
            os._exit(0)

    def _politely(self) -> None:
        """SIGTERM with a living terminal: give it back in good order, if that is still possible."""
        self._orderly()
        threading.Event().wait(ORDERLY_SECONDS)
        self._at_once()
