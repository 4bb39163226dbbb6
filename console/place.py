"""From where a command was called to the project and its state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.config_source import FILENAME
from engine.errors import UsageError
from engine.inbox import Inbox
from engine.state_folder import state_directory
from engine.store.reading import Reader

F = TypeVar("F", bound=Callable[..., Any])


def find_project(start: str | None) -> Path:
    """The nearest folder at or above ``start`` with a ratchet.toml. Raises UsageError with the mend."""
    origin = Path(start or ".").resolve()
    if not origin.exists():
        raise UsageError(f"{origin} does not exist", "give the path of a training project")
    for folder in (origin, *origin.parents):
        if (folder / FILENAME).is_file():
            return folder
    raise UsageError(
        f"no {FILENAME} in {origin} or above it", "`ratchet init` looks at the project and writes one"
    )


def reader_of(project: Path) -> Reader:
    return Reader(state_directory(project) / "store.db")


def inbox_of(project: Path) -> Inbox:
    return Inbox(state_directory(project) / "inbox.db")


def project_option(command: F) -> F:
    return click.option(
        "-C", "--project", metavar="PATH", help="The project; default: here or the nearest folder above."
    )(command)


def campaign_option(command: F) -> F:
    return click.option("--campaign", metavar="NAME", help="Which campaign; default: the newest.")(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Machine-readable; shapes in docs/json.md.")(
        command
    )
