"""An attempt as Slurm runs it: the plan for a node not known yet, and what slurm.sh says of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.runners import KILL_GRACE_SECONDS, AttemptPlan, Exited
from engine.runners.slurm_commands import GRACE_SECONDS, parse_submitted


@dataclass(frozen=True, slots=True)
class Facts:
    """What an attempt's control/ holds. ``age``: seconds since it was claimed; None: it was not."""

    age: float | None
    exit: bool
    cancel: bool
    asked: bool
    submitted: bool
    job: str | None
    name: str
    limit: float
    said: str
    node: str = ""  # as Slurm calls it
    given_up: str = ""  # why it will never start


@functools.cache
def slurm_script() -> bytes:
    """The text of slurm.sh."""
    return Path(__file__).with_name("slurm.sh").read_bytes()


def allowance(plan: AttemptPlan) -> float:
    """Seconds from an attempt's start to its certain end: its deadlines, their grace, and some for ourselves."""
    return allowance_of([step.timeout_seconds for step in plan.steps], plan.kill_grace_seconds)


def allowance_of(deadlines: Sequence[float], grace: float = KILL_GRACE_SECONDS) -> float:
    """``allowance`` of a trial whose steps have these deadlines."""
    return sum(deadline + grace for deadline in deadlines) + GRACE_SECONDS


def seconds_of(exit: Exited) -> float:
    """For how long its steps ran."""
    return sum(step.seconds for step in exit.steps)


def job_name(plan: AttemptPlan) -> str:
    return f"ratchet-{plan.token}"


def run_words(plan: AttemptPlan) -> list[str]:
    """Arguments of slurm.sh on the attempt's node."""
    return ["run", plan.directory, str(len(plan.allocation.devices)), *plan.wrap]


def adapted(plan: AttemptPlan) -> AttemptPlan:
    """The plan for a node whose devices and cores Slurm chooses: they come from control/node.env there."""
    environment = dict(plan.environment)
    if plan.allocation.devices:
        environment.pop("CUDA_VISIBLE_DEVICES", None)
    # The dot needs a path with a slash in it, and this one is absolute.
    wrap = ("/bin/sh", "-c", '. "$0" && exec "$@"', f"{plan.directory}/control/node.env", *plan.wrap)
    return replace(
        plan,
        environment=environment,
        allocation=replace(plan.allocation, devices=(), cpus=()),
        wrap=wrap,
    )


def parse_facts(text: str) -> Facts:
    """From what ``slurm.sh facts`` prints; what is missing or odd counts as unknown."""
    values = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    claimed, now, limit = (_whole(values.get(key, "")) for key in ("claimed", "now", "limit"))
    return Facts(
        age=None if claimed is None else max((now or claimed) - claimed, 0.0),
        exit="exit" in values,
        cancel="cancel" in values,
        asked="asked" in values,
        submitted="submitted" in values,
        job=parse_submitted(values.get("jobid", "")),
        name=values.get("jobname", ""),
        limit=math.inf if limit is None else limit,
        given_up=values.get("given-up", ""),
        node=values.get("nodename", ""),
        said="".join(c for c in values.get("said", "") if c.isprintable())[:300],
    )


def _whole(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


def fault_line(words: str) -> str:
    """The line of a command's complaints that says what was wrong, or ""."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    # The last of them says why; those before it are notices of the site.
    return next(
        (line for line in reversed(lines) if "error" in line or "failed" in line), lines[-1] if lines else ""
    )


def mend(words: str) -> str:
    """What a person may do about a refusal of sbatch's, by its words (the same since Slurm 2)."""
    for said, mend in (
        ("nvalid partition", "name a partition that `sinfo` lists: slurm = { partition = ... }"),
        ("nvalid account", "name an account of yours (`sacctmgr show associations`): slurm = { account = ... }"),
        ("nvalid qos", "name a QoS that the account may use: slurm = { qos = ... }"),
        ("time limit", "ask for less: slurm = { time = ... }, or another partition"),
        ("generic resource", "see what the nodes have (`sinfo -o %G`): slurm = { gres = ... }"),
        ("Unable to contact", "the controller does not answer: it is tried again"),
        ("command not found", "say where it is: slurm = { bin = ... }"),
        ("not found", "say where it is: slurm = { bin = ... }"),
        ("unrecognized option", "take out the option that this Slurm does not have"),
    ):
        if said in words:
            return mend
    return ""
