"""The words of the field as frozen facts (DESIGN.md, "Words"). Pure: no I/O, imports nothing of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class Goal(StrEnum):
    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def sign(self) -> int:
        """+1 when larger is better, -1 when smaller is: ``sign * (a - b) > 0`` reads "a beats b"."""
        return 1 if self is Goal.MAXIMIZE else -1


class Purpose(StrEnum):
    """Why a trial was run. Only the judge may ask for one."""

    CALIBRATE = "calibrate"
    SCREEN = "screen"
    CONFIRM = "confirm"
    ANCHOR = "anchor"
    CERTIFY = "certify"
    COMPARE = "compare"
    ABLATE = "ablate"
    AUDIT = "audit"


class ExperimentState(StrEnum):
    DRAFTING = "drafting"
    REVIEW = "review"
    READY = "ready"
    MEASURING = "measuring"
    JUDGING = "judging"
    KEEP_REVIEW = "keep_review"
    MERGING = "merging"
    SETTLED = "settled"


class Verdict(StrEnum):
    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    INVALID = "invalid"
    CANCELLED = "cancelled"


class TrialState(StrEnum):
    QUEUED = "queued"
    LAUNCHING = "launching"
    RUNNING = "running"
    DONE = "done"


class TrialOutcome(StrEnum):
    """How a trial ended. Only OK carries a score of the objective; everything else never does."""

    OK = "ok"
    CRASH = "crash"  # a step exited non-zero
    NO_METRIC = "no_metric"  # it ended well and printed no objective
    NOT_FINITE = "not_finite"  # the objective was NaN or infinite
    CONFLICT = "conflict"  # the objective was given twice with different values
    CONSTRAINT = "constraint"  # a constraint of [metric] does not hold
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"  # the log grew past what could be capped
    STOPPED = "stopped"  # early stopping: hopeless at this fraction of the budget
    CANCELLED = "cancelled"
    LOST = "lost"  # attempts were used up without one coming to an end


class AttemptState(StrEnum):
    STAGED = "staged"
    LAUNCHED = "launched"
    RUNNING = "running"
    UNKNOWN = "unknown"
    ENDED = "ended"
    LOST = "lost"


class Author(StrEnum):
    CLAUDE = "claude"
    SEARCH = "search"
    COMMAND = "command"
    PERSON = "person"
    IMPORT = "import"


# --- measurement ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Score:
    """One final number of a trial. ``source`` says who computed it: reported, evaluated or scored."""

    name: str
    value: float
    split: str = "validation"
    source: str = "reported"


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a series (a loss curve). ``step`` counts training steps, ``at`` seconds into the step."""

    series: str
    step: float
    value: float
    at: float


@dataclass(frozen=True, slots=True)
class Run:
    """What the judge sees of one finished trial. ``score`` is None unless ``outcome`` is OK."""

    trial: int
    seed: int
    purpose: Purpose
    outcome: TrialOutcome
    score: float | None
    hardware: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """Improvement over the incumbent, in the metric's unit; positive is better whatever the goal.

    ``low`` and ``high`` bound the two-sided 90 % interval (so that ``low > 0`` matches a one-sided test
    at alpha 0.05).
    """

    estimate: float
    low: float
    high: float
    n_candidate: int
    n_incumbent: int
    paired: bool = False


# --- proposals -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file's whole new content; ``content`` None deletes it. ``path`` is relative, POSIX, no ``..``."""

    path: str
    content: bytes | None
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """A hypothesis and edits against the brief's base version."""

    title: str
    hypothesis: str
    changes: tuple[FileChange, ...]
    author: Author
    author_detail: str = ""  # model, sampler or command
    expected_effect: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)  # what a search proposer must see again


@dataclass(frozen=True, slots=True)
class StreamText:
    """Something to watch while a proposal is written. ``channel``: thinking, text, tool, edit."""

    channel: str
    text: str


@dataclass(frozen=True, slots=True)
class NoProposal:
    """A proposer came back with nothing. ``outcome`` is a stable name (``exhausted``, ``failed`` ...)."""

    outcome: str
    message: str


ProposerEvent = StreamText | Proposal | NoProposal


@dataclass(frozen=True, slots=True)
class PastExperiment:
    """An earlier experiment as a proposer may see it. ``score`` is its screening score, if any."""

    number: int
    title: str
    author: Author
    verdict: Verdict | None  # None: not settled yet
    score: float | None
    effect: Effect | None
    parameters: Mapping[str, Any]
    on_incumbent: bool  # its base is the present incumbent


@dataclass(frozen=True, slots=True)
class Brief:
    """What a proposer gets. ``files`` are the base version's editable and context files, by path."""

    campaign: str
    number: int  # this experiment's number; also varies a sampler's seed
    seed: int
    base: str  # commit
    goal: Goal
    metric: str
    files: Mapping[str, bytes]
    editable: tuple[str, ...]  # globs
    history: tuple[PastExperiment, ...]
    incumbent_score: float | None = None
    noise: float | None = None  # pooled standard deviation of one run
    checkout: str = ""  # a private directory holding the whole base version, for proposers that need one
    notes: tuple[str, ...] = ()


class Proposer(Protocol):
    """One protocol for all authors: stream what happens, end in one Proposal or NoProposal."""

    name: str

    def propose(self, brief: Brief) -> AsyncIterator[ProposerEvent]: ...


# --- where trials run ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """A CUDA device as ``nvidia-smi`` names it. ``memory_mb`` is its total."""

    uuid: str
    index: int
    name: str
    memory_mb: int
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one attempt runs on. ``hardware`` is the fingerprint within which scores are comparable."""

    host: str
    slot: str  # stable name of the slot, e.g. "cpu0" or "gpu2,gpu3"
    devices: tuple[str, ...] = ()  # UUIDs
    cpus: tuple[int, ...] = ()
    port: int = 0
    hardware: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One telemetry sample. Percentages 0-100, megabytes, watts, Celsius; None where unknown."""

    host: str
    device: str  # UUID, or "cpu"
    name: str
    at: float
    utilisation: float | None = None
    memory_used_mb: float | None = None
    memory_total_mb: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    foreign: int = 0  # processes on the device that are not ours
