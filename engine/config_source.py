"""Where in ratchet.toml something stands, and how to say what is wrong with it. Pure.

``tomllib`` gives values without positions, so the lines are found by a scan of our own that follows
strings and brackets only as far as it must to see where each key starts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

FILENAME = "ratchet.toml"  # here, so that finding a project imports no pydantic

Path = tuple[str | int, ...]

_KEY_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the file; ``where`` is like ``("trial", "gpus")`` or ``("hosts", 1, "ssh")``."""

    where: Path
    message: str

    def render(self, filename: str, lines: Mapping[Path, int]) -> str:
        line = line_of(lines, self.where)
        place = f"{filename}:{line}" if line else filename
        return f"{place}: {show(self.where)}: {self.message}"


def show(path: Path) -> str:
    """``[trial] gpus``, ``[[hosts]] #2 ssh``, ``[proposer] ranges.LR``: as a reader would look for it."""
    if not path:
        return "the file"
    table, rest = str(path[0]), list(path[1:])
    head = f"[{table}]"
    if rest and isinstance(rest[0], int):
        head = f"[[{table}]] #{int(rest.pop(0)) + 1}"
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest).lstrip(".")
    return f"{head} {name}".strip()


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of ``path``, else that of the nearest thing around it, else 0."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0


def nearest(name: str, valid: Iterable[str]) -> str:
    """``; did you mean "gpus"?`` when something valid is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def locate(text: str) -> dict[Path, int]:
    """Line number (from 1) of every table header and key of a valid TOML text.

    Keys inside inline tables have no entry of their own; ``line_of`` falls back to their parent.
    """
    found: dict[Path, int] = {}
    tables: dict[str, int] = {}  # how many [[name]] were seen
    prefix: Path = ()
    number = 0
    lines = text.splitlines()
    while number < len(lines):
        line = lines[number]
        stripped = line.strip()
        start = number + 1
        if stripped.startswith("[["):
            keys, _ = _keys(stripped[2:])
            name = keys[0] if keys else ""
            prefix = (name, tables.get(name, 0), *keys[1:])
            tables[name] = tables.get(name, 0) + 1
            found.setdefault((name,), start)
            found[prefix] = start
        elif stripped.startswith("["):
            keys, _ = _keys(stripped[1:])
            prefix = tuple(keys)
            if keys and keys[0] in tables:  # [hosts.slurm] belongs to the last [[hosts]]
                prefix = (keys[0], tables[keys[0]] - 1, *keys[1:])
            for length in range(1, len(prefix) + 1):
                found.setdefault(prefix[:length], start)
        elif stripped and not stripped.startswith("#"):
            keys, rest = _keys(stripped)
            for length in range(1, len(keys) + 1):
                found.setdefault((*prefix, *keys[:length]), start)
            value = rest.removeprefix("=")
            while _open(value) and number + 1 < len(lines):
                number += 1
                value += "\n" + lines[number]
        number += 1
    return found


def _keys(text: str) -> tuple[list[str], str]:
    """The dotted key at the start of ``text``, and what follows it."""
    keys: list[str] = []
    while match := _KEY_PART.match(text):
        keys.append(next(part for part in match.groups() if part is not None))
        text = text[match.end() :]
        if not text.startswith("."):
            break
        text = text[1:]
    return keys, text


_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"""|\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]',
    re.DOTALL,
)


def _open(value: str) -> bool:
    """Whether a value goes on after the last line of ``value``: an unclosed bracket or long string."""
    depth = 0
    for token in _TOKEN.findall(value):
        if token in ('"""', "'''"):  # only an unclosed one is matched alone
            return True
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token, 0)
    return depth > 0


def unknown_key(name: str, valid: Sequence[str], what: str = "key") -> str:
    return f'unknown {what} "{name}"{nearest(name, valid)} (valid: {", ".join(valid)})'
