"""A tool call's input, read without trust: it may be any JSON. Every fault is explained for the model. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TypeVar

from engine.errors import EditRejected
from engine.fencing import clean

T = TypeVar("T")

LONGEST = 1 << 20  # characters of one text


class ToolInput:
    """``given``: what the model sent. A missing property and null are the same.

    Every method raises EditRejected when the property is not what it must be, or is missing without a default.
    """

    def __init__(self, tool: str, given: object) -> None:
        if not isinstance(given, dict):
            raise EditRejected(f"{tool}: the input is {_kind(given)}, not an object", "call the tool again")
        self._tool, self._given = tool, given

    def text(self, name: str, default: str | None = None) -> str:
        value = self._given.get(name)
        if value is None:
            return self._default(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a text", value)
        if len(value) > LONGEST:
            raise EditRejected(f"{self._tool}: {name} has more than {LONGEST:,} characters", "write less")
        return value

    def words(self, name: str, most: int) -> str:
        """A text that says something, at most ``most`` characters, cleaned, whitespace around it taken off.

        It goes to terminals, into commit messages and other briefs: no escape sequence may travel in it.
        """
        value = clean(self.text(name, "")).strip()
        if not value:
            raise EditRejected(f"{self._tool}: {name} is empty", "say it in words")
        if len(value) > most:
            raise EditRejected(
                f"{self._tool}: {name} has {len(value):,} characters", f"say it in at most {most:,}"
            )
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._given.get(name)
        if value is None:
            return self._default(name, default)
        return self._integer(name, value)

    def pair(self, name: str) -> tuple[int, int] | None:
        """Two integers, or None when there are none."""
        value = self._given.get(name)
        if value is None or value == []:
            return None
        if not isinstance(value, list) or len(value) != 2:
            raise self._wrong(name, "two line numbers, [first, last]", value)
        return self._integer(name, value[0]), self._integer(name, value[1])

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._given.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number", value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._wrong(name, "a finite number", value)
        return number

    def flag(self, name: str, default: bool) -> bool:
        value = self._given.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def choice(self, name: str, options: Sequence[str], default: str | None = None) -> str:
        value = self._given.get(name)
        if value is None:
            return self._default(name, default)
        if not isinstance(value, str) or value not in options:
            raise self._wrong(name, f"one of {', '.join(options)}", value)
        return value

    def _integer(self, name: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**15:
            raise self._wrong(name, "a whole number", value)
        return value

    def _default(self, name: str, default: T | None) -> T:
        if default is None:
            known = ", ".join(sorted(str(key)[:40] for key in self._given)[:12]) or "none"
            raise EditRejected(f"{self._tool}: {name} is missing", f"give it; the properties given were: {known}")
        return default

    def _wrong(self, name: str, wanted: str, value: object) -> EditRejected:
        return EditRejected(f"{self._tool}: {name} must be {wanted}, not {_said(value)}", "call the tool again")


def _kind(value: object) -> str:
    kinds = {str: "a text", list: "a list", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _said(value: object) -> str:
    try:
        return json.dumps(value)[:80]
    except (TypeError, ValueError, RecursionError):
        return "that"
