"""When this person last looked at this project: one small file a project and user, for the summary on return.

A lost or damaged file costs that summary and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LastSeen:
    """``event``: the newest that was shown; ``spent``: billionths of a dollar; ``at``: wall seconds."""

    campaign: int
    event: int
    at: float
    spent: int = 0
    engine: bool = False  # whether one ran


def place(state_dir: Path, environ: Mapping[str, str], uid: int) -> Path | None:
    """Under $XDG_STATE_HOME, else ~/.local/state; None where there is neither."""
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        home = environ.get("HOME", "")
        if not home.startswith("/"):
            return None
        base = f"{home}/.local/state"
    digest = hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]
    return Path(base) / "ratchet" / "seen" / f"{uid}-{digest}.json"


def load(path: Path) -> LastSeen | None:
    """None when there is none, or none that can be understood."""
    try:
        found = json.loads(path.read_text())
        return LastSeen(
            int(found["campaign"]),
            int(found["event"]),
            float(found["at"]),
            int(found.get("spent", 0)),
            bool(found.get("engine", False)),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def save(path: Path, seen: LastSeen) -> None:
    """Whole or not at all. A full or read-only disk is no reason to bother anybody."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            draft.write_text(json.dumps(asdict(seen)))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
