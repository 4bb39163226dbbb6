"""What SQLite's complaints mean and what mends them: only a damaged file asks for a backup."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from engine.errors import RatchetError

# Primary result code -> what is wrong, what to do. https://www.sqlite.org/rescode.html
_WORDS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: (
        "another process holds it locked",
        "it is tried again; `ratchet status` names the engine",
    ),
    sqlite3.SQLITE_LOCKED: (
        "another process holds it locked",
        "it is tried again; `ratchet status` names the engine",
    ),
    sqlite3.SQLITE_FULL: ("its disk is full", "free space there; nothing is lost"),
    sqlite3.SQLITE_READONLY: (
        "it is read-only to you",
        "make the file and its folder writable: `ls -ld` shows the owner",
    ),
    sqlite3.SQLITE_PERM: (
        "it may not be opened",
        "make the file and its folder readable: `ls -ld` shows the owner",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "make the file and its folder readable, and see that the disk is there: `ls -ld` shows both",
    ),
    sqlite3.SQLITE_IOERR: ("its disk does not answer as it should", "see `dmesg` and `df`; then try again"),
    sqlite3.SQLITE_NOMEM: ("there is no memory left", "free memory, then try again"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "`ratchet restore` puts back the newest good backup"),
    sqlite3.SQLITE_NOTADB: ("it is no database", "`ratchet restore` puts back the newest good backup"),
    sqlite3.SQLITE_INTERRUPT: ("the reading was interrupted", "try again"),
    sqlite3.SQLITE_SCHEMA: ("another process changed its tables", "try again"),
}
_CODED = {
    "locked": sqlite3.SQLITE_BUSY,
    "disk is full": sqlite3.SQLITE_FULL,
    "readonly": sqlite3.SQLITE_READONLY,
    "malformed": sqlite3.SQLITE_CORRUPT,
    "not a database": sqlite3.SQLITE_NOTADB,
    "disk I/O": sqlite3.SQLITE_IOERR,
    "unable to open": sqlite3.SQLITE_CANTOPEN,
}
_ODD = ("it is not what this version expects", "`ratchet doctor` looks at it")


def meaning(error: BaseException) -> tuple[str, str]:
    """(what is wrong with the store, what mends it) of an error that SQLite raised."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by Python's module itself, or passed through sqlite-utils
        code = next((code for words, code in _CODED.items() if words in str(error)), -1)
    return _WORDS.get(code & 0xFF if code >= 0 else -1, _ODD)


def unreadable(path: Path, error: BaseException) -> RatchetError:
    what, mend = meaning(error)
    return RatchetError(f"cannot read the store {path}: {what} ({error})", mend)
