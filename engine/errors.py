"""Faults, in two families that must never be confused.

``RatchetError`` is *ours* or the user's: a bad configuration, a full disk, a second engine. It carries
the mend and the exit code of the command line. An experiment that crashes, prints NaN or runs out
of time is no exception at all: it is an outcome (``types.TrialOutcome``), stored and shown.
"""

from __future__ import annotations


class RatchetError(Exception):
    """Something a person has to know. ``message`` says what and where, ``mend`` what to do."""

    exit_code = 1

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message}\n  mend: {self.mend}" if self.mend else self.message


class UsageError(RatchetError):
    """Bad arguments or a bad ratchet.toml (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """ratchet.toml: names file, line, key, what was expected and the nearest valid name."""


class NothingToDo(RatchetError):
    """The command was understood and there is nothing for it to act on (exit code 3)."""

    exit_code = 3


class EngineHeld(RatchetError):
    """Another engine holds the project; the message names host and pid."""


class Fenced(RatchetError):
    """A newer engine took over: this one's writes and launches are refused from now on."""


class MovedOn(RatchetError):
    """A row is no longer in the state that a stage saw: look again. Nothing was written."""


class StoreCorrupt(RatchetError):
    """The store failed its integrity check; the mend names the newest good backup."""


class StorageFull(RatchetError):
    """A write failed for want of space. Nothing is lost: the campaign pauses and tries again."""


class HostFault(RatchetError):
    """A host (not the candidate) failed: launch again, or set the host aside."""


class EditRejected(RatchetError):
    """A proposal touches what it may not, or does not apply. Carries an explanation for its author."""


class OverBudget(RatchetError):
    """The worst case of what was about to be spent does not fit under the dollar limit.

    ``waits``: it may, once what others have set aside is settled.
    """

    waits = False


class UnknownPrice(UsageError):
    """A model or host whose price nobody knows: nothing may be spent on it."""
