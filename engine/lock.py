"""One engine a project: a lock that dies with its holder, and a record of who that is.

``flock`` guards against a second engine on this machine and is released by the kernel when the holder dies,
however it dies. The record names host and boot, for the rare folder that two machines share: there ``flock``
may not reach, and the record is believed until a person says otherwise (``--take-over``). Behind both stands
the epoch in the store, which refuses the writes of whoever was overtaken.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from engine.errors import EngineHeld, RatchetError

if TYPE_CHECKING:  # `ratchet status` asks who lives, and should not pay for asyncio
    from engine.clock import Clock


@dataclass(frozen=True, slots=True)
class Holder:
    """``ready``: its campaign is open and requests are answered. ``released``: it ended in good order.

    ``error``, ``mend`` and ``code`` (the exit code) tell whoever started it why it could not.
    """

    host: str
    boot_id: str
    pid: int
    epoch: int = 0
    ready: bool = False
    released: bool = False
    error: str = ""
    mend: str = ""
    code: int = 1


def this_host() -> str:
    return socket.gethostname()


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class EngineLock:
    def __init__(self, state: Path) -> None:
        self.path = state / "engine.lock"
        self._handle: TextIO | None = None

    async def acquire(self, clock: Clock, *, take_over: bool = False) -> Holder:
        """Become the holder. Raises EngineHeld naming the one that is."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = self.path.open("a+")
        except OSError as error:
            raise RatchetError(
                f"cannot write {self.path}: {error.strerror}", "make the folder writable, or free space"
            ) from error
        for attempt in range(10):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt < 9:
                    await clock.sleep(0.05)  # a console's `living` holds it shared for an instant
        else:
            if not take_over:
                handle.close()
                raise self._held(holder(self.path.parent)) from None
        previous = holder(self.path.parent)
        elsewhere = previous is not None and not previous.released and previous.host != this_host()
        if elsewhere and not take_over:
            handle.close()
            raise self._held(previous)
        self._handle = handle
        mine = Holder(this_host(), boot_id(), os.getpid())
        self.record(mine)
        return mine

    def _held(self, found: Holder | None) -> EngineHeld:
        if found is None:
            return EngineHeld("another engine is just starting here", "try again in a moment")
        if found.host != this_host():
            return EngineHeld(
                f"an engine on host {found.host} (pid {found.pid}) holds this project",
                "stop it there; if that host is gone for good: `ratchet start --take-over`",
            )
        return EngineHeld(
            f"an engine (pid {found.pid}) runs this project already",
            "`ratchet` attaches to it, `ratchet stop` ends it",
        )

    def record(self, mine: Holder) -> None:
        # Rewritten in place: a rename would leave the flock on the old, unlinked file.
        if self._handle is None:
            return
        try:
            self._handle.seek(0)
            self._handle.truncate()
            json.dump(asdict(mine), self._handle)
            self._handle.flush()
        except OSError as error:
            raise RatchetError(f"cannot write {self.path}: {error.strerror}", "free space on that disk") from error

    def release(self, mine: Holder) -> None:
        if self._handle is not None:
            self.record(mine)
            self._handle.close()
            self._handle = None


def holder(state: Path) -> Holder | None:
    """Who the record names, alive or not."""
    try:
        data = json.loads((state / "engine.lock").read_text())
        return Holder(**data)
    except (OSError, ValueError, TypeError):
        return None


def living(state: Path) -> Holder | None:
    """The engine that holds the lock on this machine at this moment, or the record of another host's."""
    path = state / "engine.lock"
    try:
        with path.open("r") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return holder(state) or Holder(this_host(), boot_id(), 0)
    except OSError:
        return None
    found = holder(state)
    if found is not None and found.host != this_host() and not found.released:
        return found
    return None
