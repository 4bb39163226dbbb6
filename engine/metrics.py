"""A trial's output -> points while it runs, scores when it ends. Pure: bytes in, no I/O, no clock.

Read with no configuration (FIELD.md): autoresearch's final block and progress lines, nanoGPT's lines,
``METRIC name=value [step=N]``, JSON lines, and ``name: value`` for the objective itself. Which number
becomes the objective is decided in ``engine.reported``; files are read in ``engine.result_files``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from math import isfinite

from engine.constraints import Constraint, check_constraints, parse_constraint
from engine.errors import UsageError
from engine.report_parser import MetricsFileParser, ReportParser, read_metrics_file
from engine.reported import Report, Reported, combine, number, shown, with_training
from engine.result_files import read_result_file, split_result_spec

__all__ = [
    "Constraint",
    "LogParser",
    "MetricsFileParser",
    "Reported",
    "check_constraints",
    "combine",
    "compile_pattern",
    "parse_constraint",
    "read_metrics_file",
    "read_result_file",
    "split_result_spec",
    "with_training",
]

PATTERN_LINE_LIMIT = 4096  # bytes of a line a user's pattern sees: some patterns take quadratic time
BLOCK_STRANGERS = 8  # lines of other writers (stderr) that may cut into a final block

_PROGRESS = re.compile(rb"step\s+([0-9]+)(?:/[0-9]+)?(?:\s+\(\s*([^\s%()]+)\s*%\))?\s*\|(.*)")
_MEASURE = re.compile(rb"([+-]?(?:[0-9][0-9,]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|nan|inf))\s?(?:%|[A-Za-z/]*)")
_EVALUATION = re.compile(rb"step ([0-9]+): train loss ([^\s,]+), val loss (\S+)")
_ITERATION = re.compile(rb"iter ([0-9]+): loss ([^\s,]+), time ([^\s,]+?)ms(?:, mfu ([^\s,]+?)%)?")
_KEY_VALUE = re.compile(rb"([A-Za-z_][^:]{0,127}?)\s*:\s*(\S.*)")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The user's regular expression: groups ``value`` (or the first), optionally ``step`` and ``name``.

    Raises UsageError when it does not compile or has no group.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"[metric] pattern is no regular expression: {error}") from error
    if not compiled.groups:
        raise UsageError(
            "[metric] pattern has no group around the number", r'write e.g. "final loss (?P<value>\S+)"'
        )
    return compiled


class LogParser(ReportParser):
    """One trial's output, or one step's, fed as it arrives.

    ``objective`` is the metric's name ("" where nothing printed may be it), ``pattern`` the regular
    expression of [metric], then the only source of the objective. ``watch`` are further names that may
    stand as plain ``name: value`` lines (those of constraints). ``source`` goes into the scores.
    """

    def __init__(
        self,
        objective: str,
        pattern: str | None = None,
        *,
        watch: Collection[str] = (),
        source: str = "reported",
    ) -> None:
        super().__init__(objective, source)
        self.fraction: float | None = None  # of the budget, 0-1, as the script itself last said
        self._pattern = compile_pattern(pattern) if pattern else None
        if self._pattern is not None:
            self._finals.configured = "pattern"
        for name in watch:  # known beforehand, so that no flood of other names can push them out
            self._name(name.encode("utf-8", "replace"))
        plain = b"|".join(re.escape(n.encode("utf-8", "replace")) for n in [objective, *watch] if n)
        self._plain = re.compile(rb"(%s)\s*[:=]\s*(\S.*)" % plain) if plain else None
        self._in_block = False
        self._strangers = 0

    def _read(self, line: bytes) -> None:
        if self._pattern is not None:
            self._by_pattern(line)
        first = line[:1]
        if first == b"{":
            self._json(line)
            self._in_block = False
        elif first == b"M" and line.startswith((b"METRIC ", b"METRIC\t")):
            self._metric(line)
            self._in_block = False
        elif line == b"---":
            self._in_block = True
            self._strangers = 0
        elif first in (b"s", b"i") and line.startswith((b"step ", b"iter ")) and self._training(line):
            self._in_block = False
        elif line == b"FAIL":
            if self._finals.fail_line is None:
                self._finals.fail_line = self._lines.number
        elif not (self._in_block and self._block_line(line)):
            self._plain_line(line)

    def mark_gap(self) -> None:
        super().mark_gap()
        self._in_block = False

    def _metric(self, line: bytes) -> None:
        """``METRIC name=value [name=value ...] [step=N]``."""
        if b" = " in line:
            line = line.replace(b" = ", b"=")
        pairs = [token.partition(b"=") for token in line.split()[1:]]
        step: float | None = None
        whole = True
        for name, equals, token in pairs:
            if not (name and equals):
                whole = False
            elif name == b"step":
                step = number(token)
                if step is None or not isfinite(step):  # still a point of a curve, as in JSON lines
                    step = float(self._counts.get(self._objective, 0))
        if not whole and not self._finals.near:
            self._finals.near = f'line {self._lines.number} reads "{_text(line)}", not METRIC name=value'
        for name, equals, token in pairs:
            if equals and name and name != b"step":
                # A stray word may belong to the number before it ("1 000"): then none of them counts.
                self._value("METRIC", name, token if whole else line[7:], step)

    def _training(self, line: bytes) -> bool:
        """Progress lines of autoresearch and nanoGPT. False when it is neither."""
        if match := _PROGRESS.fullmatch(line):
            self._progress(float(match[1]), match[2], match[3])
        elif match := _EVALUATION.fullmatch(line):
            step = float(match[1])
            self._value("nanoGPT", b"train_loss", match[2], step)
            self._value("nanoGPT", b"val_loss", match[3], step)
        elif match := _ITERATION.fullmatch(line):
            step = float(match[1])
            self._reading(step, b"loss", match[2])
            self._reading(step, b"time_ms", match[3])
            if match[4]:
                self._reading(step, b"mfu", match[4])
        else:
            return False
        return True

    def _progress(self, step: float, percent: bytes | None, rest: bytes) -> None:
        done = number(percent) if percent else None
        if done is not None and isfinite(done):
            self.fraction = min(max(done / 100, 0.0), 1.0)
            self._point("progress", step, self.fraction)
        for part in rest.split(b"|"):
            key, _, measure = part.partition(b":")
            self._reading(step, key.strip(), measure.strip())

    def _reading(self, step: float, raw: bytes, measure: bytes) -> None:
        """A number with a unit and thousands separators, as progress lines print it: for curves.

        Only when it is a bare number may it count for the objective (a project may optimise ``loss``).
        """
        match = _MEASURE.fullmatch(measure)
        name = self._name(raw)
        if match is None or not name:
            return
        self._point(name, step, float(match[1].replace(b",", b"")) + 0.0)
        if name == self._objective:
            self._mention("progress line", number(measure), measure.decode(), step)

    def _block_line(self, line: bytes) -> bool:
        """A line of the final block, or of somebody who cuts into it; False once the block is over."""
        match = _KEY_VALUE.fullmatch(line)
        if match is None:
            self._strangers += 1
            self._in_block = self._strangers <= BLOCK_STRANGERS
            return False
        name = self._name(match[1])
        value = number(match[2])
        if name and (value is not None or name == self._objective):
            text = match[2].decode("utf-8", "replace")[:200]
            self._finals.in_block(name, Report(value, text, f"final block, line {self._lines.number}"))
        return True

    def _plain_line(self, line: bytes) -> None:
        match = self._plain.fullmatch(line) if self._plain is not None else None
        if match is None:
            return
        if len(match[2].split()) == 1:
            self._value("plain line", match[1], match[2], None)
        elif not self._finals.near:
            self._finals.near = f'line {self._lines.number} reads "{_text(line)}", with more than a number'

    def _by_pattern(self, line: bytes) -> None:
        assert self._pattern is not None
        if len(line) > PATTERN_LINE_LIMIT:
            return
        match = self._pattern.search(line.decode("utf-8", "replace"))
        if match is None:
            return
        groups = match.groupdict()
        text = groups.get("value") if "value" in groups else match[1]
        if text is None:
            return
        name = groups.get("name") or self._objective
        step_text = groups.get("step")
        step = number(step_text.strip().encode("utf-8", "replace")) if step_text else None
        if step is not None and not isfinite(step):
            step = None
        self._value("pattern", name.encode("utf-8", "replace"), text.strip().encode("utf-8", "replace"), step)


def _text(line: bytes) -> str:
    return shown(line.decode("utf-8", "replace"))
