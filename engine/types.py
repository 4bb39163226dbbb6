"""The words of the field as frozen facts (DESIGN.md, "Words"). Pure: no I/O, imports nothing of ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
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
    refuted_by: str = ""  # the measurement that would refute the hypothesis
    kind: str = ""  # of change: optimizer, architecture, schedule ... in the author's own word
    fingerprint: str = ""  # of the candidate's normalised syntax (``engine.proposers.duplicates``)


@dataclass(frozen=True, slots=True)
class StreamText:
    """Something to watch while a proposal is written. ``channel``: thinking, text, tool, edit."""

    channel: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a proposer's conversation, for the transcript. ``content`` is JSON data."""

    role: str  # system, user, assistant, or note (what happened between messages)
    content: Any


@dataclass(frozen=True, slots=True)
class NoProposal:
    """A proposer came back with nothing. ``outcome`` is a stable name, shown and counted.

    exhausted (nothing left to propose), over budget, refused, cut off, rate limited, overloaded, gave up,
    invalid edit, no change, duplicate, failed, timed out, rejected.
    """

    outcome: str
    message: str
    mend: str = ""


ProposerEvent = StreamText | Message | Proposal | NoProposal


@dataclass(frozen=True, slots=True)
class Usage:
    """What one request to a model used, in tokens, as the service reported it."""

    model: str  # the one that answered: a fallback has other prices
    input_tokens: int = 0  # neither read from nor written to the cache
    output_tokens: int = 0  # thinking included
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """What a person told the proposer, or a reason given with a rejection."""

    text: str
    actor: str
    id: int = 0  # 0: a rejection's reason
    number: int | None = None  # the experiment that was rejected


@dataclass(frozen=True, slots=True)
class Failure:
    """What a repair starts from: an earlier proposal that did not come to a score."""

    number: int
    title: str
    hypothesis: str
    changes: tuple[FileChange, ...]  # of its candidate against the brief's base
    kind: str  # crash, smoke, invalid edit, conflict
    evidence: str  # the traceback's or log's last lines, or what the merge said; untrusted text
    attempt: int = 1  # this is the n-th repair


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of the limits; None = no limit."""

    experiments: int | None = None
    hours: float | None = None
    dollars: float | None = None


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
    hypothesis: str = ""
    reason: str = ""  # of the verdict, in words
    kind: str = ""
    state: str = "settled"
    author_detail: str = ""
    fingerprint: str = ""
    outcome: str = ""


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
    notes: tuple[Note, ...] = ()  # steering and rejections' reasons, oldest first
    experiment: int = 0  # this experiment's row id: money and transcripts are booked on it
    context: tuple[str, ...] = ()  # globs of files to read besides the editable ones
    frozen: tuple[str, ...] = ()  # globs of files that measure: never to be changed
    trial_seconds: float = 0.0  # training budget of one run
    constraints: tuple[str, ...] = ()
    plateau: int = 0  # proposals judged since the last keep
    plateau_after: int = 0  # that many are a plateau; 0 = never
    remaining: Remaining = Remaining()
    failure: Failure | None = None  # mend this one instead of proposing something new


class Records(Protocol):
    """What a proposer may look up while it works. Read only; every text in it is untrusted."""

    async def history(self) -> tuple[PastExperiment, ...]:
        """All experiments of the campaign that became a proposal, oldest first, as of now."""
        ...

    async def diff(self, number: int) -> str:
        """The unified diff of an experiment; '' when there is none."""
        ...

    async def logs(self, number: int, lines: int) -> tuple[tuple[str, str], ...]:
        """(trial in words, last ``lines`` lines of its log) of the experiment's newest trials."""
        ...

    async def curve(self, number: int) -> tuple[tuple[str, tuple[tuple[float, float], ...]], ...]:
        """(series in words, (step, value) points) of the experiment's newest trial with points."""
        ...


class Purse(Protocol):
    """Money for requests to a model: reserved before sending, settled once afterwards (``engine.ledger``)."""

    async def reserve(
        self, experiment: int, model: str, input_tokens: int, max_tokens: int, *, ttl: str = ""
    ) -> int:
        """Set the worst case aside; returns the reservation's id. ``ttl``: "", "5m" or "1h" (cache writes).

        Raises OverBudget when it does not fit under the cap, UnknownPrice for a model without a price. When it
        is cancelled meanwhile, what was set aside is taken back.
        """
        ...

    async def settle(self, reservation: int, usage: Usage) -> None:
        """Charge what was used; the rest of the reservation is free again."""
        ...

    async def forfeit(self, reservation: int, why: str) -> None:
        """Charge the whole reservation: what was used is not known (a stream that was cut off)."""
        ...

    async def release(self, reservation: int, why: str) -> None:
        """Charge nothing: the request was refused before any work was done."""
        ...


class Proposer(Protocol):
    """One protocol for all authors: stream what happens, end in one Proposal or NoProposal."""

    name: str

    def propose(self, brief: Brief) -> AsyncGenerator[ProposerEvent, None]: ...


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
    nano_per_second: int = 0  # what it costs, in billionths of a US dollar
    share: int = 0  # which of ``shares`` trials on the same devices, from 1; 0: they are its own
    shares: int = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """One telemetry sample. Percentages 0-100, megabytes, watts, Celsius, megahertz; None where unknown."""

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
    clock_mhz: float | None = None  # of its streaming multiprocessors
    throttle: tuple[str, ...] | None = None  # what holds its clocks down, in words; () = nothing
    trouble: str = ""  # why it is read less well than it could be
