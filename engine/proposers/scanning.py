"""What a syntax module (Python, YAML, TOML) reports about one text, and what all of them share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine.proposers.spelling import Value


@dataclass(frozen=True, slots=True)
class Found:
    """One constant as a syntax module reports it. ``start`` and ``end`` count characters of the text."""

    name: str
    value: Value
    start: int
    end: int
    line: int
    comment: str = ""
    note: str = ""


class Scan(Protocol):
    """One parsed text."""

    @property
    def found(self) -> Sequence[Found]: ...

    def outline(self, masked: frozenset[str]) -> str:
        """Everything the parser understood, with the values of ``masked`` left out. Use it last: it
        may consume the parse tree."""
        ...


def unique_names(found: Sequence[Found]) -> list[Found]:
    """A name used twice in a file (``--lr`` of two sub-commands) gets ``#2``, ``#3`` ... in file order."""
    seen: dict[str, int] = {}
    result: list[Found] = []
    for item in sorted(found, key=lambda f: f.start):
        seen[item.name] = seen.get(item.name, 0) + 1
        result.append(item if seen[item.name] == 1 else replace(item, name=f"{item.name}#{seen[item.name]}"))
    return result


def comment_after(text: str, end: int) -> str:
    """The trailing ``# comment`` of the line on which character ``end`` stands (YAML and TOML)."""
    rest = re.split(r"[\r\n]", text[end : end + 2000], maxsplit=1)[0]
    match = re.search(r"(?:^|[\s,}\]])#\s?(.*)$", rest)
    return match.group(1).strip() if match else ""
