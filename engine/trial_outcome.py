"""How a trial that exited ended: its outcome, its objective, one line for people, and every score it reported."""

from __future__ import annotations

from typing import NamedTuple

from engine import metrics
from engine.attempt_watch import AttemptWatch
from engine.config_sections import SMOKE_SECONDS
from engine.environment import METRICS_FILE
from engine.runners import Exited, Host, StepExit
from engine.types import Score, TrialOutcome

FILE_LIMIT = 16 << 20  # bytes of a file that a trial reports with
_OUTCOMES = {
    "failed": TrialOutcome.CRASH,
    "timeout": TrialOutcome.TIMEOUT,
    "memory": TrialOutcome.MEMORY,
    "output": TrialOutcome.OUTPUT,
}


class Ended(NamedTuple):
    outcome: TrialOutcome
    objective: float | None
    detail: str
    scores: list[Score]


async def outcome_of(watch: AttemptWatch, host: Host, directory: str, exit: Exited, stopping: str | None) -> Ended:
    """``stopping``: why a person ended it; None: nobody did. Raises HostFault where its files cannot be read."""
    if exit.reason == "cancelled":
        if watch.stop is not None:
            return Ended(watch.stop.outcome, None, watch.stop.detail, [])
        return Ended(TrialOutcome.CANCELLED, None, stopping or "cancelled on the host", [])
    if exit.reason != "finished":
        return Ended(_OUTCOMES.get(exit.reason, TrialOutcome.CRASH), None, _why(watch, exit), [])
    reported = await _collect(watch, host, directory)
    scores = list(reported.scores)
    if exit.steps:
        scores.append(Score("train_seconds", _training(exit.steps), "run", "engine"))
    if reported.problem is not None:
        return Ended(reported.problem, None, reported.detail, scores)
    broken = metrics.check_constraints(watch.config.metric.constraints, reported.scores)
    if broken:
        return Ended(TrialOutcome.CONSTRAINT, None, broken, scores)
    return Ended(TrialOutcome.OK, reported.objective, reported.detail, scores)


async def _collect(watch: AttemptWatch, host: Host, directory: str) -> metrics.Reported:
    metric = watch.config.metric
    file = result = None
    if metric.mode == "reported":
        found = await host.read(directory, METRICS_FILE, FILE_LIMIT)
        if found:
            file = metrics.read_metrics_file(next(iter(found.values())), metric.name)
    if metric.file:
        glob, _ = metrics.split_result_spec(metric.file)
        result = metrics.read_result_file(metric.file, await host.read(directory, glob, FILE_LIMIT), metric.name)
    return watch.reported(file, result)


def _why(watch: AttemptWatch, exit: Exited) -> str:
    last = exit.steps[-1] if exit.steps else None
    line = watch.last_line()
    said = f": {line[:200]}" if line else ""
    trial = watch.config.trial
    if exit.reason == "timeout":
        smoke = last is not None and last.name == "smoke"
        limit = min(trial.timeout_seconds, SMOKE_SECONDS) if smoke else trial.timeout_seconds
        return f"{last.name if last else 'a step'} was still running after {limit:g} s"
    if exit.reason == "memory":
        return f"used more than {trial.memory_gb:g} GB"
    if exit.reason == "output":
        return f"printed more than {trial.log_mb:g} MB, and this file system cannot punch holes"
    if last is None:
        return f"{exit.reason}{said}"
    how = f"was killed by signal {last.code - 128}" if last.code > 128 else f"exited with {last.code}"
    return f"{last.name} {how}{said}"


def _training(steps: tuple[StepExit, ...]) -> float:
    return sum(s.seconds for s in steps if s.name == "train")
