"""The campaign's finished runs by version, and the seeds it used, kept as they come: a judge asks after every run.

Reading them all each time would make a campaign's cost grow with the square of its length.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable

from engine.store import reading
from engine.store.rows import TrialRow
from engine.types import Purpose, Run, TrialOutcome


class Finished:
    """What one campaign's trials have brought so far. ``refresh`` reads only what is new."""

    def __init__(self, campaign: int, seed: int) -> None:
        self._campaign, self._seed = campaign, seed
        self._event = 0
        self._trial = 0
        self._used: set[int] = set()
        self._next = 0  # every seed before this index is used
        self._groups: dict[int, dict[int, list[Run]]] = {}  # protocol -> version -> runs
        self._known: set[int] = set()

    def refresh(self, conn: sqlite3.Connection) -> None:
        ended, self._event = reading.trials_ended(conn, self._campaign, self._event)
        for trial in ended:
            if trial.id not in self._known:
                self._known.add(trial.id)
                self._groups.setdefault(trial.protocol, {}).setdefault(trial.version, []).append(run_of(trial))
        for number, seed in reading.seeds_since(conn, self._campaign, self._trial):
            self._trial = number
            self._used.add(seed)

    def runs(self, protocol: int, version: int | None) -> tuple[Run, ...]:
        return tuple(self._groups.get(protocol, {}).get(version or -1, ()))

    def groups(self, protocol: int) -> Iterable[tuple[Run, ...]]:
        """One a version, in the order in which their first runs ended."""
        return tuple(tuple(runs) for runs in self._groups.get(protocol, {}).values())

    def fresh_seeds(self, count: int = 64) -> tuple[int, ...]:
        """The next seeds that no trial of the campaign has used. The harness picks them, never a candidate."""
        while seed_at(self._seed, self._next) in self._used:
            self._next += 1
        found: list[int] = []
        index = self._next
        while len(found) < count:
            seed = seed_at(self._seed, index)
            if seed not in self._used:
                found.append(seed)
            index += 1
        return tuple(found)


def run_of(trial: TrialRow) -> Run:
    return Run(
        trial=trial.id,
        seed=trial.seed,
        purpose=Purpose(trial.purpose),
        outcome=TrialOutcome(trial.outcome or TrialOutcome.LOST),
        score=trial.score,
        hardware=trial.hardware,
        detail=trial.detail,
    )


def seed_at(campaign_seed: int, index: int) -> int:
    """The campaign's ``index``-th trial seed: 31 bits, so that every library takes it."""
    digest = hashlib.blake2b(f"{campaign_seed}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
