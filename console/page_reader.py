"""A page's data, read in a thread of its own through a connection of its own, only while somebody looks.

``PRAGMA data_version`` is asked four times a second; what it announces is read at the page's pace, and what the
person asks for (another experiment, another curve) at once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from engine.clock import Clock
from engine.errors import RatchetError
from engine.store import faults, reading
from engine.store.reading import Reader
from engine.store.rows import CampaignRow

POLL_SECONDS = 0.25
PACE_SECONDS = 1.0  # least seconds between two readings of a store that keeps changing

W = TypeVar("W", bound=Hashable, contravariant=True)
D = TypeVar("D", covariant=True)
Wanted = TypeVar("Wanted", bound=Hashable)
Data = TypeVar("Data")


class Loader(Protocol[W, D]):
    """Reads what is wanted of a campaign; it may remember what it read before. A new store gets a new one."""

    def __call__(self, conn: sqlite3.Connection, campaign: CampaignRow, wanted: W) -> D: ...


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no page, and what to do."""

    message: str
    mend: str = ""


class PageReader(Generic[Wanted, Data]):
    """``ready`` is called from the thread with (wanted, what was read) whenever that is news."""

    def __init__(
        self,
        path: Path,
        campaign: str | None,
        clock: Clock,
        make: Callable[[], Loader[Wanted, Data]],
        ready: Callable[[Wanted, Data | Trouble], object],
        pace: float = PACE_SECONDS,
    ) -> None:
        self._path, self._campaign, self._clock, self._make = path, campaign, clock, make
        self._ready, self._pace = ready, pace
        self._loader = make()
        self._reader: Reader | None = None
        self._inode = 0
        self._version = -1
        self._read_at = float("-inf")
        self._done: tuple[Wanted, object] | None = None
        self._wanted: Wanted | None = None  # None: nobody looks
        self._some = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    # --- the screen's side ---

    def want(self, wanted: Wanted | None) -> None:
        """Read this and follow it; None: nobody looks, read nothing."""
        with self._some:
            if wanted == self._wanted or self._ended:
                return
            self._wanted = wanted
            self._some.notify()
        if wanted is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="page", daemon=True)
            self._thread.start()

    def close(self) -> None:
        with self._some:
            self._ended = True
            self._some.notify()

    # --- the thread ---

    def _run(self) -> None:
        while True:
            with self._some:
                while self._wanted is None and not self._ended:
                    self._close()  # nobody looks: the file may be moved away
                    self._some.wait()
                if self._ended:
                    break
                wanted = self._wanted
            assert wanted is not None
            self.cycle(wanted)
            with self._some:
                if self._wanted == wanted and not self._ended:
                    self._some.wait(POLL_SECONDS)
        self._close()

    def cycle(self, wanted: Wanted) -> None:
        """One look; tests call it directly."""
        try:
            self._look(wanted)
        except RatchetError as error:
            self._say(wanted, Trouble(error.message, error.mend))
        except sqlite3.Error as error:
            self._close()
            what, mend = faults.meaning(error)
            self._say(wanted, Trouble(f"the store cannot be read: {what} ({error})", mend))
        except OSError as error:
            self._close()
            self._say(wanted, Trouble(f"the store cannot be read: {error}", "run `ratchet doctor`"))
        except Exception as error:  # odd data is something to show, never an end
            self._close()
            self._say(wanted, Trouble(f"something in the store is not understood: {error!r}", "`ratchet doctor`"))

    def _look(self, wanted: Wanted) -> None:
        reader = self._open()
        now = self._clock.monotonic()
        version = reader.data_version()
        another = self._done is None or self._done[0] != wanted
        if not another and (version == self._version or now - self._read_at < self._pace):
            return
        self._version, self._read_at = version, now
        campaign = reading.campaign(reader.conn, self._campaign)
        if campaign is None:
            self._say(
                wanted, Trouble("no campaign here yet", "`ratchet run` starts one, `ratchet demo` shows one")
            )
            return
        self._say(wanted, self._loader(reader.conn, campaign, wanted))

    def _say(self, wanted: Wanted, found: Data | Trouble) -> None:
        """What is the very same again is no news."""
        if self._done is not None and self._done[0] == wanted:
            old = self._done[1]
            if old is found or (isinstance(found, Trouble) and old == found):
                return
        self._done = (wanted, found)
        self._ready(wanted, found)

    def _open(self) -> Reader:
        """The store, opened anew when another file took its place (a restored backup)."""
        try:
            inode = self._path.stat().st_ino
        except OSError:
            self._close()
            raise RatchetError(
                "no campaign here yet", "`ratchet run` starts one, `ratchet demo` shows one"
            ) from None
        if self._reader is None or inode != self._inode:
            if inode != self._inode:
                self._loader, self._done = self._make(), None
            self._close()
            self._reader, self._inode, self._version = Reader(self._path), inode, -1
        return self._reader

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
