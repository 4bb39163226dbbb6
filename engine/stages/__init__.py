"""What a stage works on and with. A stage is a row's way from one state to the next; one module each family."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clock import Clock
from engine.config import Config
from engine.fleet import Fleet
from engine.ledger import Ledger
from engine.stages.pacing import Pace
from engine.store.core import StoreThread
from engine.store.rows import CampaignRow, ExperimentRow, TrialRow
from engine.types import Proposer
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.trials import TrialDesk


@dataclass
class Situation:
    """What one turn sees. Read once, so that every decision of a turn rests on the same rows."""

    campaign: CampaignRow
    experiments: list[ExperimentRow]  # not settled
    trials: list[TrialRow]  # not done
    drafted: int  # proposals so far, all told
    finished: dict[int, tuple[int, int]]  # experiment that is measured -> ended runs of its candidate, of its base

    @cached_property
    def by_version(self) -> dict[int, list[TrialRow]]:
        """The open trials."""
        found: dict[int, list[TrialRow]] = {}
        for trial in self.trials:
            found.setdefault(trial.version, []).append(trial)
        return found


@dataclass
class Setting:
    """One campaign's facts and services. ``campaign`` and ``config`` are renewed as they change."""

    campaign: CampaignRow
    config: Config
    store: StoreThread
    workspace: Workspace
    fleet: Fleet
    proposer: Proposer
    clock: Clock
    state: Path
    pause: Callable[[str, str], Awaitable[None]]
    wake: Callable[[], None]
    ledger: Ledger | None = None  # None: nothing here costs money
    pace: Pace = field(default_factory=Pace)
    desk: TrialDesk = field(init=False)
