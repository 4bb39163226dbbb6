"""What a person chose for every console of theirs: ``console.toml`` in the user's configuration folder.

A mistake in it costs only the entry that it is in: the rest counts, and the console says what is wrong and where.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import keymap, remapping, screen_keys, themes
from console.keymap import Key
from engine.config_source import Problem, line_of, locate, nearest, unknown_key

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FILENAME = "console.toml"
LARGEST = 64 * 1024  # bytes; more is no file of keys


@dataclass(frozen=True, slots=True)
class Preferences:
    """None: the console decides by the terminal. ``problems``: one sentence each, with file and line."""

    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # an action's id -> keys in Textual's words
    theme: str | None = None
    mouse: bool | None = None
    ascii: bool | None = None
    problems: tuple[str, ...] = ()


def place() -> Path:
    """``$XDG_CONFIG_HOME/ratchet/console.toml``, or where this system keeps such files."""
    import platformdirs

    return platformdirs.user_config_path("ratchet") / FILENAME


def read(path: Path) -> Preferences:
    """What the file says. No file: nothing was chosen. Never raises."""
    try:
        with path.open("rb") as handle:
            data = handle.read(LARGEST + 1)
        if len(data) > LARGEST:
            return Preferences(problems=(f"{path}: more than {LARGEST // 1024} KB: not read",))
        return parse(data.decode(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return Preferences()
    except OSError as error:
        return Preferences(problems=(f"{path}: {error.strerror or error}",))
    except UnicodeDecodeError:
        return Preferences(problems=(f"{path}: not UTF-8 text",))


def words(chosen: Preferences) -> str:
    """What is wrong, in one line; '' when nothing is."""
    more = len(chosen.problems) - 1
    rest = f"   and {more} more: `ratchet doctor --terminal` lists them" if more > 0 else ""
    return chosen.problems[0] + rest if chosen.problems else ""


def tables() -> dict[str, Sequence[Key]]:
    """Where keys mean something: a place in words -> its key table."""
    return {
        "on the live screen": keymap.KEYS,
        **{f"on the screen {one.name}": one.all for one in screen_keys.SCREENS},
    }


def parse(text: str, filename: str = FILENAME) -> Preferences:
    """``text`` of the file; what is wrong is left out and told in ``problems``."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, at = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", at)
        number = int(line[1]) if line else max(1, len(text.splitlines()))
        return Preferences(problems=(f"{filename}:{number}: not TOML: {what}",))
    if not document:
        return Preferences()
    found, problems = _valid(document)
    keys = _keys(found.pop("keys", None) or {}, problems)
    lines = locate(text)
    problems.sort(key=lambda problem: line_of(lines, problem.where))
    told = tuple(_told(problem, filename, lines) for problem in problems)
    return Preferences(keys, **found, problems=told)


def _valid(document: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The entries of the right type."""
    from typing import Literal

    from pydantic import BaseModel, ConfigDict, ValidationError

    class File(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        theme: Literal["dark", "light", "ansi", "mono"] | None = None
        mouse: bool | None = None
        ascii: bool | None = None
        keys: dict[str, str | list[str]] = {}

    problems: dict[tuple[str | int, ...], Problem] = {}
    try:
        File.model_validate(document)
    except ValidationError as error:
        for details in error.errors():
            where = details["loc"][:2] if details["loc"][0] == "keys" else details["loc"][:1]
            problems.setdefault(where, Problem(where, _explain(details, list(File.model_fields))))
    for where in problems:
        if len(where) == 2:
            document["keys"].pop(where[1])
        else:
            document.pop(str(where[0]))
    return document, list(problems.values())


def _explain(details: ErrorDetails, known: Sequence[str]) -> str:
    first, got = str(details["loc"][0]), details["input"]
    if details["type"] == "extra_forbidden":
        return unknown_key(first, known)
    if first == "theme":
        return f'expected one of {", ".join(themes.NAMES)}, got "{got}"{nearest(str(got), themes.NAMES)}'
    if first == "keys" and len(details["loc"]) > 1:
        return 'expected a key like "x" or a list like ["x", "ctrl+e"]'
    expected = "a table [keys]" if first == "keys" else "true or false"
    return f"expected {expected}, got {got!r}"


def _keys(chosen: Mapping[str, str | list[str]], problems: list[Problem]) -> dict[str, tuple[str, ...]]:
    actions = {key.id: key for table in reversed(tables().values()) for key in table}
    found: dict[str, tuple[str, ...]] = {}
    for action, texts in chosen.items():
        where = ("keys", action)
        if action not in actions:
            problems.append(Problem(where, f'unknown action "{action}"{nearest(action, actions)}'))
            continue
        try:
            keys = remapping.read_keys(actions[action], [texts] if isinstance(texts, str) else texts)
        except ValueError as error:
            problems.append(Problem(where, str(error)))
            continue
        if keys != actions[action].keys:
            found[action] = keys
    while (wrong := remapping.clash(found, tables())) is not None:
        action, why = wrong
        del found[action]
        problems.append(Problem(("keys", action), why))
    return found


def _told(problem: Problem, filename: str, lines: Mapping[tuple[str | int, ...], int]) -> str:
    line = line_of(lines, problem.where)
    name = "[keys] " + str(problem.where[1]) if len(problem.where) > 1 else str(problem.where[0])
    return f"{filename}{f':{line}' if line else ''}: {name}: {problem.message}"
