"""inbox.db: what people ask of the engine, as rows; the engine answers in the same row.

Its own small database (rollback journal), so that a console never writes to the store. A request carries the
revision of what the person saw, so that nobody decides on something that changed under their fingers.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import RatchetError

KINDS = (
    "accept", "reject", "undo", "edit", "autopilot", "rerun", "pin", "unpin", "step_back", "steer",
    "pause", "resume", "stop", "stop_trial",
    "drain", "undrain", "lend",
)  # fmt: skip

_SCHEMA = """
CREATE TABLE IF NOT EXISTS request (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    args TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',   -- waiting | asleep | done | refused | withdrawn
    outcome TEXT NOT NULL DEFAULT '',
    answered_at REAL
)
"""


@dataclass(frozen=True, slots=True)
class Request:
    """``state`` asleep: made while no engine lived; it is asked again before it is carried out."""

    id: int
    at: float
    actor: str
    kind: str
    args: dict[str, Any]
    state: str
    outcome: str


class Inbox:
    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.conn = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            self.conn.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise RatchetError(
                f"cannot open {path}: {error}", "make the folder writable, or free space on its disk"
            ) from error

    def ask(self, kind: str, actor: str, at: float, **args: object) -> int:
        """File a request; returns its id, with which ``answer_of`` is asked."""
        if kind not in KINDS:
            raise ValueError(kind)
        cursor = self.conn.execute(
            "INSERT INTO request (at, actor, kind, args) VALUES (?, ?, ?, ?)",
            (at, actor, kind, json.dumps(args)),
        )
        return int(cursor.lastrowid or 0)

    def get(self, request: int) -> Request | None:
        row = self.conn.execute(
            "SELECT id, at, actor, kind, args, state, outcome FROM request WHERE id = ?", (request,)
        ).fetchone()
        return _request(row) if row else None

    def waiting(self, states: tuple[str, ...] = ("waiting",)) -> list[Request]:
        marks = ", ".join("?" for _ in states)
        rows = self.conn.execute(
            f"SELECT id, at, actor, kind, args, state, outcome FROM request WHERE state IN ({marks}) ORDER BY id",
            states,
        )
        return [_request(r) for r in rows]

    def data_version(self) -> int:
        return int(self.conn.execute("PRAGMA data_version").fetchone()[0])

    # --- the engine's side ---

    def answer(self, request: int, state: str, outcome: str, at: float) -> None:
        self.conn.execute(
            "UPDATE request SET state = ?, outcome = ?, answered_at = ? WHERE id = ?",
            (state, outcome, at, request),
        )

    def put_to_sleep(self) -> int:
        """At an engine's start: requests from before it are not carried out unasked. Returns how many."""
        return self.conn.execute("UPDATE request SET state = 'asleep' WHERE state = 'waiting'").rowcount

    # --- the person's side ---

    def repeat(self, request: int, at: float) -> None:
        """Yes, still: a sleeping request waits again."""
        self.conn.execute(
            "UPDATE request SET state = 'waiting', at = ? WHERE id = ? AND state = 'asleep'", (at, request)
        )

    def withdraw(self, request: int, at: float) -> None:
        self.conn.execute(
            "UPDATE request SET state = 'withdrawn', answered_at = ?"
            " WHERE id = ? AND state IN ('waiting', 'asleep')",
            (at, request),
        )

    def close(self) -> None:
        self.conn.close()


def _request(row: Any) -> Request:
    return Request(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5], row[6])
