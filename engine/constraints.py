"""``[metric] constraints``: what must hold besides the objective, e.g. ``peak_vram_mb <= 80000``. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite

from engine.errors import UsageError
from engine.reported import number, shown
from engine.types import Score


@dataclass(frozen=True, slots=True)
class Constraint:
    """``name op bound``, e.g. ``peak_vram_mb <= 80000``: must hold for a trial to count."""

    name: str
    op: str
    bound: float

    def __str__(self) -> str:
        return f"{self.name} {self.op} {self.bound:g}"


_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONSTRAINT = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=|==|<|>)\s*(\S+)\s*")


def parse_constraint(text: str) -> Constraint:
    """Read ``peak_vram_mb <= 80000``. Raises UsageError that names what was expected."""
    match = _CONSTRAINT.fullmatch(text)
    bound = number(match[3].encode("utf-8", "replace")) if match else None
    if match is None or bound is None or not isfinite(bound):
        raise UsageError(
            f'a constraint reads "name <= number", not "{shown(text)}"',
            "use one of <=, <, >=, > or == and a plain number, e.g. peak_vram_mb <= 80000",
        )
    return Constraint(match[1], match[2], bound)


def check_constraints(constraints: Sequence[str], scores: Iterable[Score]) -> str | None:
    """The first constraint that does not hold, in a line for people; None when all do.

    One whose name was not reported does not hold: what was not measured cannot be promised.
    """
    values = {score.name: score.value for score in scores}
    for text in constraints:
        constraint = parse_constraint(text)
        value = values.get(constraint.name)
        if value is None:
            seen = get_close_matches(constraint.name, values, n=1)
            hint = f"; did you mean {shown(seen[0])}" if seen else ""
            return f"constraint {constraint}: {constraint.name} was not reported{hint}"
        if not _OPERATORS[constraint.op](value, constraint.bound):
            return f"constraint {constraint} does not hold: {constraint.name} = {value:g}"
    return None
