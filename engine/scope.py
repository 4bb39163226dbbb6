"""Which files a proposal may touch: an allow-list of globs (TRUST.md row 20). Pure.

Globs are those of ``.gitignore``, so nobody has a new dialect to learn:

- ``train.py`` or ``*.py``: no slash, so a file of that name at any depth;
- ``/train.py`` or ``model/*.py``: a slash at the start or inside anchors it to the project folder;
- ``*`` and ``?`` and ``[a-z]`` never cross a ``/``; ``**`` does (``src/**/*.py``, ``**/conf``, ``src/**``);
  ``?`` is one character (git says byte, which differs beyond ASCII);
- ``src/`` is everything below directories called ``src``; so is ``src``, which also is a file of that name;
- ``\\`` takes the next character literally. ``!`` (re-inclusion) is refused: write ``frozen`` instead.

``frozen`` wins over ``edit``. ``ratchet.toml``, and whatever belongs to git or to Ratchet itself, can
never be edited, whatever the globs say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.errors import UsageError

_LONGEST_NAME, _LONGEST_PATH = (
    255,
    1024,
)  # bytes; Linux's NAME_MAX, and PATH_MAX less room for a trial's folder


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    """The regular expression of one glob, for full matches against a file's path.

    Raises UsageError for an empty pattern or one that starts with ``!``.
    """
    body = glob.removeprefix("./")
    if body.startswith("!"):
        raise UsageError(f"the glob {glob!r} starts with '!'", "list what must not be edited under `frozen`")
    below_only = body.endswith("/")
    body = body.rstrip("/")
    anchored = "/" in body
    body = body.lstrip("/")
    if body in ("", "."):
        if not glob:
            raise UsageError("an empty glob", "remove it, or write '**' for every file")
        body = "**"
    out = [] if anchored or body == "**" else ["(?:.*/)?"]
    position = 0
    while position < len(body):
        rest = body[position:]
        if rest.startswith("**/") and (position == 0 or body[position - 1] == "/"):
            out.append("(?:.*/)?")
            position += 3
        elif rest == "**" and (position == 0 or body[position - 1] == "/"):
            out.append(".+")
            position += 2
        elif rest[0] == "*":
            out.append("[^/]*")
            position += 1
        elif rest[0] == "?":
            out.append("[^/]")
            position += 1
        elif rest[0] == "[" and (end := rest.find("]", 3 if rest[1:2] in ("!", "^") else 2)) > 0:
            inner = rest[1:end]
            negated = inner[0] in "!^"
            inner = inner[1:] if negated else inner
            members = inner.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("^", "\\^")
            out.append(f"(?!/)[{'^' if negated else ''}{members}]")
            position += end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            out.append(re.escape(rest[1]))
            position += 2
        else:
            out.append(re.escape(rest[0]))
            position += 1
    # A glob that names a directory holds for everything below it.
    out.append("/.+" if below_only and body != "**" else "(?:/.*)?")
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error as fault:
        raise UsageError(f"the glob {glob!r} is malformed: {fault}", "see .gitignore's syntax") from fault


def matches(globs: Sequence[str], path: str) -> bool:
    """Whether any of ``globs`` holds for the file ``path`` (relative to the project folder, POSIX)."""
    return any(_compiled(glob).fullmatch(path) for glob in globs)


def _bare(name: str) -> str:
    """A path segment as a careless file system sees it: no invisible characters, case, trailing dots."""
    return "".join(c for c in name if unicodedata.category(c) != "Cf").casefold().rstrip(". ")


def malformed(path: str) -> str | None:
    """Why ``path`` is no plain relative path to a file below the project folder; None when it is."""
    if not path:
        return "the path is empty"
    if "\0" in path:
        return "the path holds a NUL character"
    if path.startswith("/"):
        return "the path is absolute; give it relative to the project folder"
    parts = path.split("/")
    if ".." in parts:
        return "the path leaves the project folder through '..'"
    if "" in parts or "." in parts:
        return "the path is not in its plain form ('//', './' or a trailing '/')"
    try:
        encoded = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "the path cannot be encoded as UTF-8"
    if len(encoded) > _LONGEST_PATH:
        return f"the path is longer than {_LONGEST_PATH} bytes"
    if any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME for part in parts):
        return f"a name in the path is longer than {_LONGEST_NAME} bytes"
    return None


@dataclass(frozen=True, slots=True)
class Scope:
    """The allow-list: ``edit`` may be edited, less ``frozen``. Bad globs raise UsageError at once."""

    edit: tuple[str, ...]
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for glob in (*self.edit, *self.frozen):
            _compiled(glob)

    def check(self, path: str) -> str | None:
        """Why ``path`` may not be touched, in words for the edit's author; None when it may."""
        if reason := malformed(path):
            return reason
        names = [_bare(part) for part in path.split("/")]
        # git itself refuses these spellings (.GIT, ".git ", git~1, zero-width joiners) since 2014:
        # some file system somewhere takes each of them for .git, and a hook there is code that runs.
        if any(name in (".git", "git~1", ".gitmodules") for name in names):
            return "it belongs to git itself"
        if ".ratchet" in names:
            return "it belongs to Ratchet's own state"
        if names == ["ratchet.toml"]:
            return "ratchet.toml says how candidates are measured; no candidate may change it"
        if matches(self.frozen, path):
            return "it is frozen (ratchet.toml, [project] frozen)"
        if not matches(self.edit, path):
            allowed = ", ".join(self.edit) or "nothing"
            return f"it is outside what may be edited ({allowed}; ratchet.toml, [project] edit)"
        return None
