"""The store as typed updates: one thread that asks cheaply whether anything changed and reads only that.

``PRAGMA data_version`` is asked 20 times a second; what it announces is read at a rate that fits what it is
(facts 10 Hz, streamed text 4 Hz, curves and devices 1 Hz), nothing for panes that are hidden. Updates wait in
a small coalesced outbox, so a terminal that does not read for an hour costs no memory, and the console then
catches up with one batch.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from console import away_source
from console.following import StoreFollower
from console.last_seen import LastSeen
from console.outbox import Outbox, Schedule, Watch
from console.state import AliveSeen, AwayRead, RequestsRead, StoreReplaced, StoreSeen, Update
from engine.clock import Clock
from engine.errors import RatchetError
from engine.inbox import Inbox, Request
from engine.lock import Holder
from engine.store import faults
from engine.store.reading import Reader

POLL_SECONDS = 0.08


class Feed:
    """``start`` begins the thread; ``notify`` is called from it when the outbox stops being empty."""

    def __init__(
        self,
        state_dir: Path,
        alive: Callable[[], Holder | bool | None],
        clock: Clock,
        campaign: str | None = None,
        seen: LastSeen | None = None,
    ) -> None:
        self.state_dir = state_dir
        self.campaign = campaign  # None: the newest
        self._alive = alive
        self._clock = clock
        self._seen = seen  # until what happened since is told
        self._looks = 0
        self._watch = Watch()
        self._outbox = Outbox()
        self._schedule = Schedule(clock)
        self._reader: Reader | None = None
        self._follower: StoreFollower | None = None
        self._inode = 0
        self._inbox: Inbox | None = None
        self._inbox_version = -1
        self._told: frozenset[int] = frozenset()  # answered requests of this console
        self._wake = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    # --- the console's side ---

    def start(self, notify: Callable[[], object]) -> None:
        self._outbox.notify = notify
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
        else:
            self._close()

    def watch(self, watch: Watch) -> None:
        if watch != self._watch:
            self._watch = watch
            self._wake.set()

    def nudge(self) -> None:
        """Look at the inbox at once."""
        self._schedule.dirty.add("inbox")
        self._wake.set()

    def reopen(self) -> None:
        """The store has become another file: look at once."""
        self._schedule.postpone("file", 0.0)
        self._wake.set()

    def take(self) -> list[Update]:
        """Everything new since the last call, coalesced, in order."""
        return self._outbox.take()

    # --- the thread ---

    def _run(self) -> None:
        while not self._ended:
            self.cycle()
            if self._wake.wait(POLL_SECONDS):
                self._wake.clear()
        self._close()

    def cycle(self) -> None:
        """One look at everything. Also called directly, before the first paint and by tests."""
        watch = self._watch
        if self._schedule.ready("file"):
            self._open()
        if self._schedule.ready("alive"):
            self._guarded(self._read_alive)
        if self._follower is not None:
            self._guarded(lambda: self._look(watch))
        if "inbox" in self._schedule.dirty or self._schedule.ready("inbox"):
            self._guarded(self._read_inbox)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Odd data or a vanished store is something to show, never an end: a later cycle tries again."""
        try:
            work()
        except sqlite3.Error as error:
            what, mend = faults.meaning(error)
            self._trouble(f"the store cannot be read: {what} ({error})", mend)
        except RatchetError as error:
            self._trouble(error.message, error.mend)
        except OSError as error:
            self._trouble(f"the store cannot be read: {error}", "see that its disk is there: `ratchet doctor`")
        except Exception as error:  # a row that this version cannot understand
            self._trouble(f"something in the store is not understood: {error!r}", "run `ratchet doctor`")

    def _trouble(self, problem: str, mend: str) -> None:
        self._close()
        self._schedule.postpone("file", 1.0)  # not 20 times a second
        self._schedule.postpone("inbox", 1.0)
        self._problem(problem, mend)

    def _problem(self, problem: str, mend: str) -> None:
        if problem != self._outbox.state.problem:
            self._outbox.say(StoreSeen(problem, mend))

    # --- the store's file ---

    def _open(self) -> None:
        """Open the store, or notice that it went away or is another file (restored from a backup)."""
        path = self.state_dir / "store.db"
        try:
            inode = path.stat().st_ino
        except OSError:
            self._close()
            if self._outbox.state.campaign is not None:
                self._problem(f"{path} is gone", "put it back: `ratchet restore`")
            else:
                self._problem("no campaign here yet", "`ratchet run` starts one, `ratchet demo` shows one")
            return
        if self._reader is not None and inode == self._inode:
            return
        self._close()
        try:
            self._reader = Reader(path)
        except RatchetError as error:
            self._problem(error.message, error.mend)
            return
        if self._inode not in (0, inode):
            self._outbox.say(StoreReplaced())
        self._inode = inode
        self._follower = StoreFollower(self._reader, self._outbox, self._schedule, self.state_dir, self.campaign)

    def _look(self, watch: Watch) -> None:
        assert self._follower is not None
        self._follower.look(watch)
        self._looks += 1
        self._problem("", "")  # only once a whole look succeeded: no flicker over a row that stays odd
        if self._seen is not None and self._looks > 1:  # the first paint does not wait for it
            self._say_away(self._seen)

    def _say_away(self, seen: LastSeen) -> None:
        campaign = self._outbox.state.campaign
        if campaign is None or self._reader is None:
            return
        self._seen = None
        found = away_source.read(self._reader.conn, campaign, seen, self._clock.now())
        if found is not None:
            self._outbox.say(AwayRead(found))

    def _close(self) -> None:
        self._follower = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._inbox is not None:
            self._inbox.close()
            self._inbox = None

    # --- engine and inbox ---

    def _read_alive(self) -> None:
        found = self._alive()
        told = AliveSeen(bool(found))
        if isinstance(found, Holder) and found.ready:  # before that, the error is why it could not start
            told = AliveSeen(True, found.error, found.mend)
        state = self._outbox.state
        if told != AliveSeen(bool(state.alive), state.trouble, state.trouble_mend) or state.alive is None:
            self._outbox.say(told)

    def _read_inbox(self) -> None:
        if self._inbox is None:
            if not (self.state_dir / "inbox.db").exists():
                return
            self._inbox = Inbox(self.state_dir / "inbox.db")
            self._inbox_version = -1
        known = self._outbox.state.requests
        version = self._inbox.data_version()
        # The console may learn its request's number only after the engine answered it.
        late = self._watch.mine - self._told - {request.id for request in known}
        if version == self._inbox_version and "inbox" not in self._schedule.dirty and not late:
            return
        self._schedule.dirty.discard("inbox")
        self._inbox_version = version
        waiting = tuple(self._inbox.waiting(("waiting", "asleep")))
        answered = tuple(_answered(self._inbox, self._watch.mine - self._told - {r.id for r in waiting}))
        if waiting != known or answered:
            self._told |= {request.id for request in answered}
            self._outbox.say(RequestsRead(waiting, answered))


def _answered(inbox: Inbox, wanted: Iterable[int]) -> Iterable[Request]:
    for number in sorted(wanted):
        found = inbox.get(number)
        if found is not None and found.state not in ("waiting", "asleep"):
            yield found
