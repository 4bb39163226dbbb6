"""The tables of ``ratchet.toml`` (DESIGN.md), one frozen model each. Pure.

A field's ``description`` is the comment that ``ratchet init`` writes above it, so that the file, its
documentation and this schema cannot drift apart.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from engine.errors import UsageError
from engine.scope import matches
from engine.types import Goal
from engine.variables import bad_placeholders, is_secret, placeholders


def as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """One table of the file. Strict: ``"300"`` is not a number, ``true`` is not 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """(key, message) for values that are each well-formed and yet make no sense together."""
        return iter(())


def _bad_paths(key: str, patterns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        if not pattern.strip() or pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            yield key, f'expected a path or glob inside the project, got "{pattern}"'


def _bad_globs(key: str, patterns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        if not pattern.strip() or pattern.startswith("~") or ".." in pattern.split("/"):
            yield key, f'expected a file or glob of the project, got "{pattern}"'
            continue
        try:
            matches((pattern,), "train.py")
        except UsageError as error:
            yield key, f"{error.message} ({error.mend})"


class ProjectSection(Section):
    """Which files matter: globs as in .gitignore (``train.py`` at any depth, ``/train.py`` at the top)."""

    edit: Names = Field(default=("train.py",), description="files that proposals may change")
    frozen: Names = Field(
        default=("prepare.py", "evaluate.py"),
        description="files that measure: never changed by a proposal, hashed into the protocol",
    )
    context: Names = Field(default=("program.md", "README.md"), description="files that proposers also read")

    def contradictions(self) -> Iterator[tuple[str, str]]:
        for key in ("edit", "frozen", "context"):
            yield from _bad_globs(key, getattr(self, key))
        if not self.edit:
            yield "edit", "expected at least one file or glob, got []"
        for pattern in self.edit:
            if pattern in self.frozen:
                yield "frozen", f'"{pattern}" is both editable and frozen: name it in one of the two'


class EnvironmentSection(Section):
    """The software that trials run with. Built once, then only read."""

    key: Names = Field(default=(), description="files whose content decides when to build again (lock files)")
    setup: str = Field(
        default="", description='command that builds it, e.g. "uv sync --frozen"; "" = use what is there'
    )
    path: Names = Field(default=(), description='directories put first on PATH, e.g. [".venv/bin"]')
    pass_: Names = Field(
        default=(), alias="pass", description="further variables let through from your own environment"
    )
    set: dict[str, str] = Field(
        default={}, description='variables given to every trial, e.g. { OMP_NUM_THREADS = "1" }'
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from _bad_paths("key", self.key)
        for name in self.pass_:
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                yield "pass", f'expected the name of a variable, got "{name}"'
            elif is_secret(name):
                yield "pass", f'"{name}" looks like a secret, and secrets are never given to training code'
        for name, text in self.set.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                yield "set", f'expected the name of a variable, got "{name}"'
            elif name.startswith("RATCHET_"):
                yield f"set.{name}", "names that start with RATCHET_ are set by the engine"
            yield from ((f"set.{name}", message) for message in bad_placeholders(text))


class DataSection(Section):
    """Data that git ignores: paths of the project, or ``~/...``, which a trial finds in its own home."""

    train: Names = Field(default=(), description="training data")
    validation: Names = Field(default=(), description="validation data (kept from training in scored mode)")
    holdout: Names = Field(default=(), description="a second split that no proposer ever sees a score of")
    link: Names = Field(default=(), description='data that the script finds by itself, e.g. ["data/"]')

    @property
    def visible(self) -> tuple[str, ...]:
        """What a trial may find in its work directory: everything but the holdout, each path once."""
        return tuple(dict.fromkeys(self.train + self.validation + self.link))

    def contradictions(self) -> Iterator[tuple[str, str]]:
        for key in ("train", "validation", "holdout", "link"):
            for path in getattr(self, key):
                if not path.strip() or ".." in path.split("/"):
                    yield key, f'expected a path without "..", got "{path}"'
                elif path.strip("/") in ("", "."):
                    yield key, f'"{path}" is the whole tree: name the directories that hold the data'


class MetricSection(Section):
    """The objective, and where it comes from."""

    name: str = Field(default="", description="the number to improve, as the run names it")
    goal: Annotated[Goal, Field(strict=False, description="minimize | maximize")] = Goal.MINIMIZE
    mode: Literal["reported", "evaluated", "scored"] = Field(
        default="reported",
        description="who computes it. reported: the training command | evaluated: [trial] evaluate, run by "
        "the engine | scored: a trusted scorer",
    )
    file: str = Field(default="", description='read it from a file, not the output: "out/*.json:val.loss"')
    pattern: str = Field(
        default="", description='or by a regular expression with one group: "final loss = ([0-9.]+)"'
    )
    constraints: Names = Field(default=(), description='what must also hold, e.g. ["peak_vram_mb <= 80000"]')

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if not self.name and self.mode != "scored":
            yield "name", 'missing: name the number to improve, e.g. name = "val_loss"'
        if self.file and self.pattern:
            yield "pattern", "give file or pattern, not both"
        if self.file:
            glob, colon, key = self.file.partition(":")
            if not (colon and glob and key):
                yield "file", f'expected "glob:key.path", e.g. "out/*.json:val.loss", got "{self.file}"'
            yield from _bad_paths("file", (glob,))
        if self.pattern:
            try:
                groups = re.compile(self.pattern).groups
            except re.error as error:
                yield "pattern", f"not a regular expression: {error}"
            else:
                if groups < 1:
                    yield "pattern", "expected a group ( ) around the number"
        for constraint in self.constraints:
            if message := _bad_constraint(constraint):
                yield "constraints", message


SMOKE_SECONDS = 120.0  # deadline of the smoke step: imports and compilation are not free


class TrialSection(Section):
    """What is run, and for how long."""

    command: str = Field(
        default="",
        description="trains and prints the metric; given to sh in a copy of the files.\n"
        "{seed} {seconds} {steps} {gpus} {port} {out} are filled in, {{seed}} stays as {seed}",
    )
    prepare: str = Field(default="", description="run before it, on the same budget of time-out")
    evaluate: str = Field(
        default="", description="run after it, from a pristine copy of the frozen files (mode = evaluated)"
    )
    smoke: str = Field(default="", description="a command of seconds that fails for a broken candidate")
    train_seconds: Positive = Field(default=300, description="training budget, given as RATCHET_TIME_BUDGET")
    timeout_seconds: Positive = Field(default=600, description="a run is killed after this, start-up included")
    steps: Count = Field(default=0, description="the training budget in steps, as RATCHET_STEPS; 0 = by time")
    gpus: Count = Field(default=1, description="devices of one trial (on a machine without any: ignored)")
    memory_gb: Amount = Field(default=0, description="kill a trial whose processes use more; 0 = no limit")
    log_mb: Positive = Field(default=64, description="keep this much output (its head and its last megabyte)")

    def deadlines(self, *, smoke: bool) -> list[float]:
        """Seconds of each step of a trial. ``smoke``: one that begins with the smoke step, where there is any."""
        whole = float(self.timeout_seconds)
        steps = [whole, *(whole for text in (self.prepare, self.evaluate) if text)]
        return [*steps, min(whole, SMOKE_SECONDS)] if smoke and self.smoke else steps

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if not self.command.strip():
            yield "command", 'missing: the command that trains, e.g. command = "python train.py"'
        for key in ("command", "prepare", "evaluate", "smoke"):
            text: str = getattr(self, key)
            yield from ((key, message) for message in bad_placeholders(text))
            if not self.steps and "steps" in placeholders(text):
                yield key, "uses {steps}, but [trial] steps is 0"
        if self.timeout_seconds <= self.train_seconds:
            yield (
                "timeout_seconds",
                f"expected more than train_seconds ({self.train_seconds:g}), got {self.timeout_seconds:g}: "
                "start-up and evaluation need time too",
            )


class JudgeSection(Section):
    """When a change counts as better."""

    mode: Literal["confirmed", "single"] = Field(
        default="confirmed",
        description="confirmed: on fresh seeds, by a test | single: one run each, any gain (autoresearch's)",
    )
    calibrate_seeds: Count = Field(default=5, description="runs of the baseline that measure the noise")
    confirm_seeds: Annotated[int, Field(ge=1)] = Field(
        default=3, description="fresh seeds that a promising change must win on"
    )
    confirm_alpha: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="accepted rate of false keeps"
    )
    screen_sigma: Amount = Field(
        default=1.0, description="confirm what gains more than this many standard deviations"
    )
    anchor_seeds: Count = Field(default=3, description="runs of the incumbent when the protocol changes")
    early_stop: bool = Field(default=True, description="stop a run that cannot win any more")

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.mode == "confirmed" and self.calibrate_seeds < 2:
            yield "calibrate_seeds", f"expected at least 2 (noise needs two runs), got {self.calibrate_seeds}"


class ProposerSection(Section):
    """Who proposes changes."""

    kind: Literal["search", "command", "claude"] = Field(
        default="search",
        description="search: tunes the constants it finds, no key needed | command: any program | claude",
    )
    command: str = Field(
        default="", description="kind = command: edits the files in its directory and prints a title"
    )
    ranges: dict[str, str] = Field(default={}, description='kind = search: { LR = "1e-4..1e-2 log", ACT = "no" }')
    model: str = Field(default="claude-opus-5-5", description="kind = claude")
    effort: Literal["low", "medium", "high", "xhigh", "max"] = Field(default="medium", description="kind = claude")
    drafts: Count = Field(
        default=0,
        description="proposals prepared ahead; 0 = as many as keep the devices busy, by the times they take",
    )
    repairs: Count = Field(default=2, description="attempts at mending a candidate that crashes")
    fallback_models: Names = Field(
        default=(), description='kind = claude: asked when the model refuses or is overloaded, ["claude-opus-5"]'
    )
    max_tokens: Annotated[int, Field(ge=1024)] = Field(
        default=16_000, description="kind = claude: output of one request at most, thinking included"
    )
    requests: Annotated[int, Field(ge=1)] = Field(
        default=40, description="kind = claude: requests for one proposal at most; then it gave up"
    )
    brief_tokens: Annotated[int, Field(ge=2000)] = Field(
        default=60_000, description="kind = claude: the brief is condensed to this many tokens"
    )
    plateau: Count = Field(default=20, description="this many proposals without a keep are a plateau; 0 = never")
    stall_seconds: Positive = Field(default=180, description="kind = claude: silence after which a stream is cut")
    base_url: str = Field(default="", description="kind = claude: another server that speaks /v1/messages")
    headers: dict[str, str] = Field(default={}, description="kind = claude: sent with every request")
    without: Annotated[
        tuple[Literal["effort", "thinking", "cache", "strict", "eager", "editor"], ...], BeforeValidator(as_tuple)
    ] = Field(
        default=(),
        description="kind = claude: parts of the API that the server does not speak: effort, thinking, cache,\n"
        "strict, eager, editor",
    )
    key_file: str = Field(
        default="", description="a file (mode 0600) with the API key; else the variable ANTHROPIC_API_KEY"
    )
    key_command: str = Field(default="", description='or a command that prints it, e.g. "pass show anthropic"')
    prompts: str = Field(
        default="", description="a directory of the project whose system.md, propose.md, repair.md replace ours"
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.kind == "command" and not self.command.strip():
            yield "command", 'missing: kind = "command" needs the program to run'
        if self.key_file and self.key_command:
            yield "key_command", "give key_file or key_command, not both"
        if self.prompts:
            yield from _bad_paths("prompts", (self.prompts,))
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            yield "base_url", f'expected an address such as "http://localhost:8000", got "{self.base_url}"'
        for name in self.headers:
            if not re.fullmatch(r"[A-Za-z0-9-]+", name):
                yield f"headers.{name}", "expected the name of an HTTP header"
            elif name.lower() in ("authorization", "x-api-key"):
                yield f"headers.{name}", "a key does not belong in this file: use key_file or key_command"


class PriceSection(Section):
    """What a model costs, in US dollars a million tokens; takes the place of the built-in price."""

    input: Amount = Field(description="input that is not cached")
    output: Amount = Field(description="output, thinking included")
    cache_write_5m: Amount | None = Field(default=None, description="absent: 1.25 x input")
    cache_write_1h: Amount | None = Field(default=None, description="absent: 2 x input")
    cache_read: Amount | None = Field(default=None, description="absent: as input")
    read_on: str = Field(default="", description="when and where you read it")


class ReviewSection(Section):
    """What waits for a person."""

    mode: Literal["auto", "proposals", "keeps", "all"] = Field(
        default="auto",
        description="auto: nothing | proposals: before a run | keeps: before the branch advances | all: both",
    )
    ask_if: Names = Field(default=(), description='also ask by rule, e.g. ["lines > 80", "paths: data/**"]')
    unanswered_after: str = Field(default="", description='what then, e.g. "30m: reject"; "" = wait')

    def contradictions(self) -> Iterator[tuple[str, str]]:
        from engine.review import check_rule, parse_unanswered

        for rule in self.ask_if:
            try:
                check_rule(rule)
            except UsageError as error:
                yield "ask_if", f"{error.message} ({error.mend})"
        try:
            parse_unanswered(self.unanswered_after)
        except UsageError as error:
            yield "unanswered_after", f"{error.message} ({error.mend})"


class LimitsSection(Section):
    """When a campaign stops. Absent = no limit, 0 = none may be spent."""

    experiments: Count | None = Field(default=None, description="proposals to try, e.g. experiments = 100")
    hours: Amount | None = Field(default=None, description="wall time, e.g. hours = 10")
    dollars: Amount | str | None = Field(
        default=None, description='model and device money, e.g. dollars = 20.0, or "unlimited"'
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if isinstance(self.dollars, str) and self.dollars != "unlimited":
            yield "dollars", f'expected a number or "unlimited", got "{self.dollars}"'


class SandboxSection(Section):
    """How trials are contained; ``ratchet doctor`` shows what this machine can do."""

    kind: Literal["auto", "bubblewrap", "unshare", "cgroup", "sweep"] = Field(
        default="auto", description="auto (the strongest that works) | bubblewrap | unshare | cgroup | sweep"
    )
    require: Annotated[tuple[Literal["processes", "files", "network"], ...], BeforeValidator(as_tuple)] = Field(
        default=("processes",),
        description="refuse to run unless contained: processes (none outlives its run), files, network",
    )


class StorageSection(Section):
    """What is kept on disk."""

    max_gb: Positive = Field(default=50, description="pause when the state directory grows past this")
    keep_artifacts: Literal["kept", "all", "none"] = Field(
        default="kept", description="artifacts of which versions: kept | all | none"
    )


class NotifySection(Section):
    """A command of yours that is run when something happens that you may want to know of elsewhere."""

    command: str = Field(
        default="",
        description="given to sh with RATCHET_EVENT, RATCHET_MESSAGE, RATCHET_CAMPAIGN and RATCHET_PROJECT, e.g.\n"
        '\'notify-send "$RATCHET_PROJECT" "$RATCHET_MESSAGE"\'',
    )
    on: Annotated[
        tuple[Literal["waiting", "keep", "finished", "paused", "plateau", "budget"], ...],
        BeforeValidator(as_tuple),
    ] = Field(
        default=("waiting", "keep", "finished", "paused", "plateau", "budget"),
        description="waiting (for your decision), keep, finished, paused (by itself), plateau, budget (reached)",
    )
    seconds: Positive = Field(default=30, description="it is ended after this")


class HostSection(Section):
    """A machine that runs trials."""

    name: str = Field(default="local", description="how the history names it")
    ssh: str = Field(default="", description='a name that ssh knows, e.g. "gpu1" or "-p 2222 me@gpu1"; "" = here')
    directory: str = Field(default="", description="where trials live there")
    slurm: dict[str, str | int | float | bool] = Field(
        default={}, description='options of sbatch: { partition = "gpu", time = "00:15:00" }'
    )
    slots: Count = Field(default=0, description="trials at once; 0 = all GPUs, or one without any")
    usd_per_hour: Amount = Field(default=0, description="what an hour costs, for the dollar limit")
    project: str = Field(
        default="",
        description="with ssh: where this project lies there; [data] and [environment] path are looked for in it",
    )
    foreign: Literal["avoid", "share"] = Field(
        default="avoid", description="devices on which other people's processes are: avoid | share"
    )
    trials_per_device: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="small trials may share a GPU: this many on each. They slow each other down, so their scores "
        "are compared\nonly with those of others that shared; best with a budget of steps. Memory is not divided",
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        try:
            words = shlex.split(self.ssh)
        except ValueError as error:
            yield "ssh", f"cannot be split into words: {error}"
        else:
            if words and words[-1].startswith("-"):
                yield "ssh", f'expected a name that ssh knows at the end, got "{self.ssh}"'
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            yield "name", f'expected letters, digits, ".", "_" and "-", got "{self.name}"'
        if self.slurm and self.trials_per_device > 1:
            yield (
                "trials_per_device",
                "Slurm gives every job devices of its own: take it out, or share them by Slurm's own means, "
                'e.g. slurm = { gres = "shard:1" }',
            )
        elif self.slots % self.trials_per_device:
            yield (
                "trials_per_device",
                f"slots = {self.slots} would leave a trial alone on its device, and faster than those that it is "
                f"compared with: make slots a multiple of {self.trials_per_device}",
            )
        if self.slurm:
            from engine.runners.slurm_options import parse_options

            try:
                parse_options(self.slurm)
            except UsageError as error:
                yield "slurm", f"{error.message} ({error.mend})" if error.mend else error.message


def _bad_constraint(text: str) -> str:
    from engine.constraints import parse_constraint  # only a file that has constraints needs their reader

    try:
        parse_constraint(text)
    except UsageError as error:
        return f"{error.message} ({error.mend})"
    return ""
