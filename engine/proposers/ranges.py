"""The values among which a constant may be searched: a scale, its ends, and coordinates on it.

A sampler works in *coordinates* (natural logarithms, log-odds, plain numbers) in which one step means
the same everywhere; ``value_at`` brings it back to a value that a person would have written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from engine.errors import ConfigError
from engine.proposers.spelling import Value

Scale = Literal["log", "complement", "odds", "linear", "ladder", "choice"]
_SMALLEST_FACTOR = math.log(1.3)  # a smaller move of a logarithmic constant drowns in the noise


@dataclass(frozen=True, slots=True)
class Range:
    """``scale``:

    log         a positive (or, mirrored, negative) number, equal factors
    complement  just below 1 (betas, momenta): equal factors of 1 - value
    odds        a fraction between 0 and 1: equal factors of value / (1 - value)
    linear      equal differences
    ladder      one of ``steps``, ascending numbers
    choice      one of ``steps``, in no order

    ``weight`` says how much constants of this role usually matter (1 = unknown), ``role`` what the
    constant seems to be, ``given`` whether a person gave the range (then its ends are hard).
    """

    scale: Scale
    low: float = 0.0
    high: float = 0.0
    steps: tuple[Value, ...] = ()
    integer: bool = False
    role: str = ""
    weight: float = 1.0
    given: bool = False

    def coordinate(self, value: Value) -> float:
        """Where ``value`` is; values outside the range are placed beyond its ends, where they can be."""
        if self.scale == "choice":
            return float(self.steps.index(value)) if value in self.steps else -1.0
        number = float(value)
        if self.scale == "ladder":
            return math.log(number) if float(self.steps[0]) > 0 and number > 0 else number
        if self.scale == "log":
            return math.log(max(abs(number), 1e-300))
        if self.scale == "complement":
            return -math.log(max(1.0 - number, 1e-12))
        if self.scale == "odds":
            inside = min(max(number, 1e-9), 1 - 1e-9)
            return math.log(inside / (1 - inside))
        return number

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest coordinate."""
        if self.scale == "choice":
            return 0.0, float(len(self.steps) - 1)
        ends = (self.steps[0], self.steps[-1]) if self.scale == "ladder" else (self.low, self.high)
        one, other = (self.coordinate(end) for end in ends)
        return min(one, other), max(one, other)

    def value_at(self, coordinate: float) -> Value:
        """The value at a coordinate: clamped to the range, rounded to two significant digits."""
        if self.scale == "choice":
            return self.steps[min(max(round(coordinate), 0), len(self.steps) - 1)]
        if self.scale == "ladder":
            return min(self.steps, key=lambda step: abs(self.coordinate(step) - coordinate))
        lowest, highest = self.bounds
        at = min(max(coordinate, lowest), highest)
        if self.scale == "log":
            number = math.copysign(significant(math.exp(at)), self.low)
        elif self.scale == "complement":
            number = round(1.0 - significant(math.exp(-at)), 12)
        elif self.scale == "odds":
            inside = 1.0 / (1.0 + math.exp(-at))
            number = significant(inside) if inside < 0.5 else round(1.0 - significant(1.0 - inside), 12)
        else:
            number = significant(at)
        number = min(max(number, self.low), self.high)  # rounding may have stepped over an end
        return max(round(number), math.ceil(self.low)) if self.integer else float(number)

    def differs(self, old: Value, new: Value) -> bool:
        """Whether going from ``old`` to ``new`` is a move worth a trial."""
        if new == old:
            return False
        if self.scale in ("ladder", "choice"):
            return True
        distance = abs(self.coordinate(new) - self.coordinate(old))
        if self.scale == "linear":
            return self.integer or distance >= 0.08 * (self.high - self.low)
        return distance >= (_SMALLEST_FACTOR if not self.integer or abs(float(old)) > 6 else 0.0)

    def including(self, value: Value) -> Range:
        """The same range, with room for the value that stands in the file now."""
        if self.scale in ("ladder", "choice"):
            if value in self.steps:
                return self
            steps = (*self.steps, value)
            return replace(self, steps=tuple(sorted(steps, key=float)) if self.scale == "ladder" else steps)
        return self

    def __str__(self) -> str:
        if self.steps:
            shown = [str(step) for step in self.steps]
            return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "...", shown[-1]])
        names = {"complement": "log of 1 - value", "odds": "log-odds"}
        return f"{self.low:.4g}..{self.high:.4g} {names.get(self.scale, self.scale)}"


@dataclass(frozen=True, slots=True)
class Excluded:
    """Why a constant is left as it is."""

    reason: str


def significant(number: float, digits: int = 2) -> float:
    """``number`` rounded to that many significant decimal digits."""
    return float(f"{number:.{digits - 1}e}")


def parse_range(text: str, value: Value) -> Range | Excluded:
    """A range as a person writes it: ``1e-4..1e-2 log``, ``4, 8, 16``, ``relu, gelu`` or ``no``.

    ``value`` is what stands in the file and decides the type. Raises ConfigError, saying what was
    expected.
    """
    words = text.strip()
    if words.lower() in ("no", "none", "fixed", "false"):
        return Excluded("a person said so")
    interval = words.split("..")
    if len(interval) == 2 and not isinstance(value, bool | str):
        high_text, *rest = interval[1].split()
        scale = rest[0].lower() if rest else ""
        try:
            low, high = _number(interval[0]), _number(high_text)
        except ValueError:
            raise _expected(text) from None
        if low >= high or len(rest) > 1 or scale not in ("", "log", "linear"):
            raise _expected(text)
        if scale == "log" and low * high <= 0:
            raise ConfigError(f"the range {text!r} is logarithmic and holds 0", "give two ends of one sign")
        integer = isinstance(value, int)
        if not scale:
            scale = "log" if low > 0 and high / low >= 10 else "linear"
        return Range(
            "log" if scale == "log" else "linear", low, high, integer=integer, role="given range",
            weight=5.0, given=True,
        )  # fmt: skip
    steps = [_step(part.strip(), value, text) for part in words.split(",") if part.strip()]
    distinct = tuple(dict.fromkeys(steps))
    if len(distinct) < 2:
        raise _expected(text)
    if isinstance(value, bool | str):
        return Range("choice", steps=distinct, role="given choices", weight=5.0, given=True)
    ordered = tuple(sorted(distinct, key=float))
    return Range("ladder", steps=ordered, role="given values", weight=5.0, given=True)


def _step(part: str, value: Value, text: str) -> Value:
    if isinstance(value, bool):
        if part.lower() in ("true", "false"):
            return part.lower() == "true"
        raise _expected(text)
    if isinstance(value, str):
        choice = part.strip("'\"")
        if not choice.isascii() or not choice.isprintable() or set(choice) & set("\\'\""):
            raise ConfigError(f"the choice {part!r} cannot be written safely", "use plain ASCII words")
        return choice
    try:
        number = _number(part)
    except ValueError:
        raise _expected(text) from None
    if isinstance(value, int):
        if number != int(number):
            raise ConfigError(f"{part} is no whole number, and the constant is one", "give whole numbers")
        return int(number)
    return number


def _number(text: str) -> float:
    """A finite number, also as ``2**15``. Raises ValueError."""
    base, power, exponent = text.strip().partition("**")
    number = float(base) ** float(exponent) if power and abs(float(exponent)) <= 64 else float(base or text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _expected(text: str) -> ConfigError:
    return ConfigError(
        f"the range {text!r} was not understood",
        'write "1e-4..1e-2 log", "8..64 linear", "4, 8, 16" or "no"',
    )
