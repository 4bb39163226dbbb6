"""A seeded store with everything that the further screens show: money, decisions, repairs, a conversation, curves of
settled experiments, several hosts, and trouble in the event log."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path

from engine import events
from tests.seeded import _curve, seeded_store

FOREIGN = {"name": "NVIDIA A100 80GB PCIe", "utilisation": 99.0, "memory_used_mb": 80_100.0,
           "memory_total_mb": 81_920.0, "power_w": 291.0, "temperature_c": 88.0, "foreign": 3}  # fmt: skip
TALK = (
    ("user", "Propose one change. The incumbent is 3.1."),
    ("assistant", [
        {"type": "thinking", "thinking": "The schedule was tried; the model was not."},
        {"type": "text", "text": "I look at the block first."},
        {"type": "tool_use", "name": "view", "input": {"path": "train.py"}},
    ]),
    ("user", [{"type": "tool_result", "content": "88 def forward(self, x):"}]),
)  # fmt: skip


def full_store(state_dir: Path, experiments: int = 1000, *, running: bool = True, awaiting: bool = False) -> int:
    """Returns the number of the experiment that has it all; it mends the one before, and is a keep."""
    seeded_store(state_dir, experiments, running=running, awaiting=awaiting)
    with sqlite3.connect(state_dir / "store.db") as conn:
        now = conn.execute("SELECT MAX(at) FROM event").fetchone()[0]
        (number,) = conn.execute(
            "SELECT MAX(number) FROM experiment WHERE verdict = 'keep' AND number > 1"
        ).fetchone()
        _rich(conn, number, now)
        _draft(conn, number + 1)
        _hosts(conn, now)
        _troubles(conn, now, number)
    conn.close()
    return int(number)


def _rich(conn: sqlite3.Connection, number: int, now: float) -> None:
    conn.execute("UPDATE experiment SET repairs = ? WHERE id = ?", (number - 1, number))
    conn.execute("UPDATE experiment SET asked = 'lines > 5', asked_at = ? WHERE id = ?", (now - 900, number))
    conn.execute(
        "UPDATE proposal SET kind = 'optimizer', refuted_by = 'no gain at 2x steps' WHERE id = ?", (number,)
    )
    conn.execute("UPDATE proposal SET kind = 'schedule' WHERE id % 3 = 0")
    conn.execute(
        "INSERT INTO decision (experiment, action, actor, reason, revision, created_at) VALUES (?, 'accept', 'ada',"
        " 'worth its seconds', 2, ?)", (number, now - 800),
    )  # fmt: skip
    usage = {"input_tokens": 1200, "output_tokens": 3400, "cache_read_tokens": 42_000}
    for kind, what, spent, used in (
        ("model", "claude-opus-5-5", 312_400_000, usage),
        ("device", "box1", 41_000_000, {}),
    ):
        conn.execute(
            "INSERT INTO spend (campaign, experiment, kind, what, state, reserved, spent, epoch, usage, created_at)"
            " VALUES (1, ?, ?, ?, 'settled', ?, ?, 1, ?, ?)",
            (number, kind, what, spent, spent, json.dumps(used), now),
        )
    for seq, (role, content) in enumerate(TALK):
        conn.execute(
            "INSERT INTO transcript (experiment, seq, role, content, at) VALUES (?, ?, ?, ?, ?)",
            (number, seq, role, json.dumps(content), now),
        )
    chance = random.Random(5)
    for trial, version in conn.execute(
        "SELECT t.id, t.version FROM trial t WHERE t.experiment IN (?, ?) AND t.purpose IN ('screen', 'confirm')",
        (number, number - 1),
    ).fetchall():
        conn.execute("DELETE FROM point WHERE trial = ?", (trial,))
        _curve(conn, chance, trial, 200, 3.1 - 0.0001 * (version % 7), 1.0)


def _draft(conn: sqlite3.Connection, number: int) -> None:
    """A draft that came to no proposal."""
    conn.execute(
        "UPDATE experiment SET verdict = 'cancelled', outcome = 'duplicate', reason = 'the same change as #3',"
        " proposal = NULL, candidate = NULL, effect = NULL, score = NULL WHERE id = ?", (number,),
    )  # fmt: skip


def _hosts(conn: sqlite3.Connection, now: float) -> None:
    for host, device, age in (("box1", "GPU-9f", 1.0), ("box1", "GPU-8e", 400.0)):
        conn.execute(
            "INSERT INTO reading (host, device, at, data) VALUES (?, ?, ?, ?)",
            (host, device, now - age, json.dumps(FOREIGN)),
        )
    allocation = json.dumps({"devices": ["GPU-0a1b"], "host": "local", "slot": "gpu0"})
    conn.execute("UPDATE attempt SET allocation = ?, slot = 'gpu0', containment = 'bubblewrap'", (allocation,))


def _troubles(conn: sqlite3.Connection, now: float, number: int) -> None:
    found: tuple[events.Event, ...] = (
        events.Warned("the host box1 does not answer", "`ssh gpu1` by hand"),
        events.Plateau(12),
        events.BudgetReached(20_000_000_000, 19_900_000_000, 0),
        events.DecisionTaken(number, "accept", "ada", "worth its seconds"),
        events.CampaignPaused("paused by ada", "`ratchet resume` goes on"),
        events.CampaignResumed("ada"),
        events.TrialStarted(7, 1, "gpu0", "x"),
        events.EngineStopped(1, "the store's disk is full"),
    )
    for i, event in enumerate(found):
        kind, data = events.to_row(event)
        conn.execute(
            "INSERT INTO event (at, campaign, kind, data) VALUES (?, 1, ?, ?)", (now + i, kind, json.dumps(data))
        )
