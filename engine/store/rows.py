"""What the store holds, as it is read: one frozen class a table. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from engine.events import Event

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class EngineRow:
    epoch: int
    host: str
    boot_id: str
    pid: int
    started_at: float
    beat_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class CampaignRow:
    id: int
    name: str
    metric: str
    goal: str
    seed: int
    state: str
    pause_reason: str
    pause_mend: str
    protocol: int
    active_seconds: float
    limits: dict[str, Any]  # experiments, hours (absent = none), and start: numbers at this run's start
    created_at: float
    calibration: dict[str, Any] | None  # mean, sigma, n, notes
    line: int
    baseline: int
    baseline_sha: str
    head: str
    incumbent: int
    incumbent_sha: str
    autopilot: str = ""  # acceptances given in advance, as JSON: left, actor


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """The row of the history. ``effect`` is in the metric's unit, positive is better."""

    id: int
    number: int
    state: str
    author: str
    author_detail: str
    title: str
    hypothesis: str
    expected_effect: str
    parameters: dict[str, Any]
    verdict: str | None
    reason: str
    arithmetic: tuple[str, ...]
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    score: float | None
    stage: str
    revision: int
    base: int
    base_sha: str
    candidate: int | None
    candidate_sha: str | None
    merged: int | None
    intent: dict[str, Any] | None
    added: int
    removed: int
    commit: str | None  # on the campaign's branch, when kept
    created_at: float
    updated_at: float
    settled_at: float | None
    refuted_by: str = ""
    kind: str = ""  # of change
    fingerprint: str = ""
    outcome: str = ""  # name of a draft's end without a proposal
    repairs: int | None = None  # number of the failed experiment that this one mends
    asked: str = ""  # the rule by which a person is asked
    asked_at: float | None = None


@dataclass(frozen=True, slots=True)
class NoteRow:
    id: int
    text: str
    actor: str
    used_by: int | None  # number of the experiment whose brief carried it first
    created_at: float


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message of a draft's conversation; ``content`` as the proposer gave it."""

    seq: int
    role: str
    content: Any
    at: float


@dataclass(frozen=True, slots=True)
class TrialRow:
    id: int
    number: int | None  # the experiment's that asked first; None: calibration
    experiment: int | None
    version: int
    sha: str
    protocol: int
    purpose: str
    seed: int
    priority: int
    state: str
    outcome: str | None
    detail: str
    score: float | None
    hardware: str
    host: str
    seconds: float
    created_at: float
    started_at: float | None
    ended_at: float | None
    attempts: int
    slot: str
    directory: str  # of the newest attempt, relative to the state folder; '' before the first
    kind: str = ""  # hardware that it must run on; '' = any
    attempt: str = ""  # state of the newest attempt
    said: str = ""  # its reason: while it is open, a batch system's word on it


@dataclass(frozen=True, slots=True)
class AttemptRow:
    id: int
    trial: int
    number: int
    epoch: int
    token: str
    directory: str
    host: str
    allocation: dict[str, Any]
    containment: str
    state: str
    identity: str
    reason: str
    steps: tuple[dict[str, Any], ...]
    peak_memory: int
    created_at: float
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class KeepRow:
    number: int
    title: str
    previous: str
    sha: str
    effect: float | None
    score: float | None
    created_at: float


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    at: float
    event: Event


@dataclass(frozen=True, slots=True)
class StreamRow:
    id: int
    channel: str
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class ReadingRow:
    host: str
    device: str
    at: float
    data: dict[str, Any] = field(default_factory=dict)  # the fields of types.Reading


class Remembered(Generic[Row]):
    """Rows as they were last read, by their id, the first column.

    One that did not change is not made anew: most of what looking at a thousand of them again and again costs.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[Any, ...], Row]] = {}

    def rows(self, found: Iterable[tuple[Any, ...]], make: Callable[[tuple[Any, ...]], Row]) -> list[Row]:
        """In the order in which they were ``found``; what is not among them is forgotten."""
        known: dict[int, tuple[tuple[Any, ...], Row]] = {}
        for columns in found:
            before = self._known.get(columns[0])
            known[columns[0]] = before if before and before[0] == columns else (columns, make(columns))
        self._known = known
        return [row for _, row in known.values()]
