"""What is known of a running attempt while its log comes in: curves, reports, and whether it is hopeless."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine import early_stop, metrics
from engine.config import Config
from engine.constraints import parse_constraint
from engine.series import Curves

TAIL_BYTES = 6000  # of the log, kept to say why a trial failed


@dataclass
class AttemptWatch:
    """One attempt, under the configuration that its trial began with. Times are seconds of the monotonic clock."""

    config: Config
    parser: metrics.LogParser
    curves: Curves = field(default_factory=Curves)
    reports: list[metrics.Reported] = field(default_factory=list)  # of the steps before the one that scores
    tail: bytes = b""
    step: str = ""
    flushed_at: float = 0.0
    started_at: float = 0.0
    begun: bool = False  # its job was seen to have claimed the attempt
    deaf: bool = False  # nothing was heard since its host went away: that silence is not the program's
    stop: early_stop.Stop | None = None

    @classmethod
    def of(cls, config: Config, now: float) -> AttemptWatch:
        """While training only a script that scores itself may print the objective (evaluated mode: nobody)."""
        return cls(config, _parser(config, config.metric.mode == "reported"), started_at=now)

    def step_started(self, name: str) -> None:
        if self.step == "smoke":
            # A smoke run's numbers are of another budget: neither a score nor a curve.
            self.parser = _parser(self.config, self.config.metric.mode == "reported")
        self.step = name
        if name == "evaluate" and self.config.metric.mode != "reported":
            # What the candidate printed while training stays a report without the objective's name.
            self.reports.append(self.parser.finish())
            self.parser = _parser(self.config, True)

    def read(self, data: bytes, now: float) -> None:
        """Bytes of the log."""
        self.deaf = False
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        points = self.parser.feed(data, now - self.started_at)
        if self.step != "smoke":
            self.curves.add(points)

    def end(self, now: float) -> None:
        """No more bytes come."""
        self.curves.add(self.parser.flush(now - self.started_at))

    def hopeless(self, now: float) -> early_stop.Stop | None:
        """Why it cannot come to anything, as far as its log tells."""
        if self.deaf or not self.config.judge.early_stop or self.step == "evaluate":
            return None
        trial = self.config.trial
        budget = early_stop.Budget(
            seconds=0.0 if trial.steps else float(trial.train_seconds),
            steps=float(trial.steps),
            deadline=float(trial.timeout_seconds),
        )
        points = [point for series in self.curves for point in self.curves.rows(series)]
        points += self.parser.trailing_odd()
        return early_stop.check(points, budget, now - self.started_at)

    def reported(
        self, metrics_file: metrics.Reported | None, result_file: metrics.Reported | None
    ) -> metrics.Reported:
        """Everything it reported: its log, and what its files hold; None = there is none."""
        combined = metrics.combine(self.parser.finish(), metrics_file, result_file)
        return metrics.with_training(combined, self.reports) if self.reports else combined

    def last_line(self) -> str:
        """The last thing it said; "" when it said nothing."""
        lines = [x.strip() for x in self.tail.decode("utf-8", "replace").replace("\r", "\n").splitlines()]
        return next((x for x in reversed(lines) if x), "")


def _parser(config: Config, objective: bool) -> metrics.LogParser:
    metric = config.metric
    return metrics.LogParser(
        metric.name if objective else "",
        (metric.pattern or None) if objective else None,
        watch=[parse_constraint(c).name for c in metric.constraints],
        source="evaluated" if objective and metric.mode != "reported" else "reported",
    )
