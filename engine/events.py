"""What happened, for people and for tests: one small class per fact, and their union.

An event commits in the same transaction as the state that it tells of; it is append-only and never
pruned. Streamed text, metric points and device readings are not events.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EngineStarted:
    epoch: int
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class EngineStopped:
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class CampaignCreated:
    name: str
    baseline: str  # commit
    seed: int


@dataclass(frozen=True, slots=True)
class CampaignPaused:
    reason: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class CampaignResumed:
    by: str


@dataclass(frozen=True, slots=True)
class CampaignFinished:
    reason: str


@dataclass(frozen=True, slots=True)
class ProtocolOpened:
    protocol: int
    why: str


@dataclass(frozen=True, slots=True)
class Calibrated:
    protocol: int
    mean: float
    sigma: float
    runs: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExperimentMoved:
    number: int
    source: str
    target: str
    title: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class TrialQueued:
    trial: int
    number: int | None  # of the experiment that asked; None for calibration
    purpose: str
    seed: int


@dataclass(frozen=True, slots=True)
class TrialStarted:
    trial: int
    attempt: int
    slot: str  # with its host in front where a campaign has several
    identity: str


@dataclass(frozen=True, slots=True)
class TrialEnded:
    trial: int
    number: int | None
    purpose: str
    outcome: str
    score: float | None
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AttemptLost:
    trial: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class VerdictGiven:
    number: int
    title: str
    verdict: str
    reason: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class RatchetAdvanced:
    number: int
    previous: str
    commit: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class DecisionTaken:
    number: int
    action: str
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    request: int
    kind: str
    outcome: str


@dataclass(frozen=True, slots=True)
class ConfigReloaded:
    what: str


@dataclass(frozen=True, slots=True)
class Steered:
    """A person told the proposer something."""

    note: int
    text: str
    actor: str


@dataclass(frozen=True, slots=True)
class NoteUsed:
    note: int
    number: int  # of the experiment whose brief carried it first


@dataclass(frozen=True, slots=True)
class AutopilotSet:
    """The next ``count`` waiting proposals and keeps are accepted without asking; 0: no more."""

    count: int
    actor: str


@dataclass(frozen=True, slots=True)
class SteppedBack:
    """A person put an earlier keep (number 0: the baseline) in force again, as a new commit."""

    number: int
    previous: str
    commit: str
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plateau:
    """So many proposals were judged since the last keep."""

    proposals: int


@dataclass(frozen=True, slots=True)
class BudgetReached:
    """Nothing more fits under the dollar limit. Billionths of a dollar."""

    cap: int
    spent: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a person should see; nothing stopped."""

    message: str
    mend: str = ""


Event = (
    EngineStarted
    | EngineStopped
    | CampaignCreated
    | CampaignPaused
    | CampaignResumed
    | CampaignFinished
    | ProtocolOpened
    | Calibrated
    | ExperimentMoved
    | TrialQueued
    | TrialStarted
    | TrialEnded
    | AttemptLost
    | VerdictGiven
    | RatchetAdvanced
    | DecisionTaken
    | RequestAnswered
    | ConfigReloaded
    | Steered
    | NoteUsed
    | Plateau
    | AutopilotSet
    | SteppedBack
    | BudgetReached
    | Warned
)

_KINDS: dict[str, type[Any]] = {c.__name__: c for c in Event.__args__}


def to_row(event: Event) -> tuple[str, dict[str, Any]]:
    return type(event).__name__, asdict(event)


def from_row(kind: str, data: dict[str, Any]) -> Event | None:
    """The event of a stored row; None for a kind that a newer version wrote. Unknown fields are ignored."""
    cls = _KINDS.get(kind)
    if cls is None:
        return None
    known = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in cls.__slots__}
    event: Event = cls(**known)
    return event
