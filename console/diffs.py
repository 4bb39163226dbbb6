"""A unified diff as git writes it, read into files, hunks and rows. Pure; nothing of it is lost, nothing believed.

The counts in a hunk's head decide what is a row: a removed line ``-- x`` reads ``--- x``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from console.plain_text import clean_lines

LIMIT = 2000  # characters of one row that can ever be looked at
Lines = Sequence[str]  # split at "\n" alone, as git means it


class Row(NamedTuple):
    """``sign``: ' ', '-', '+', or '?' for a line that no hunk may hold. ``old``, ``new``: numbers of the line."""

    sign: str
    old: int | None
    new: int | None
    text: str  # as it was written, without sign and newline
    newline: bool = True  # False: the file ends here without one


@dataclass(frozen=True, slots=True)
class Hunk:
    """``heading``: what git thinks encloses it. A start is the line before where its count is 0."""

    old_start: int
    old_count: int
    new_start: int
    new_count: int
    heading: str
    rows: tuple[Row, ...]

    @property
    def head(self) -> str:
        def side(start: int, count: int) -> str:
            return f"{start}" if count == 1 else f"{start},{count}"

        return f"@@ -{side(self.old_start, self.old_count)} +{side(self.new_start, self.new_count)} @@"


@dataclass(frozen=True, slots=True)
class File:
    """``old``, ``new``: paths, None where the file is not there. ``notes``: lines of its head not understood."""

    old: str | None
    new: str | None
    change: str = "changed"  # changed, new, deleted, renamed, copied
    binary: bool = False
    modes: tuple[str, str] = ("", "")  # '' where it stayed
    alike: int | None = None  # percent, of a rename or copy
    hunks: tuple[Hunk, ...] = ()
    notes: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0

    @property
    def path(self) -> str:
        return self.new or self.old or "?"


Diff = tuple[File, ...]

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@ ?")
_ESCAPE = re.compile(r"\\([0-3][0-7]{2}|.)", re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_LETTERS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}


def parse(lines: Lines) -> Diff:
    """Files in their order. Never raises: what is no diff becomes notes of a file without a name."""
    files: list[File] = []
    file: _Reading | None = None
    i, end = 0, len(lines) - (1 if lines and lines[-1] == "" else 0)
    while i < end:
        line = lines[i]
        bare = line.startswith("--- ") and i + 1 < end and lines[i + 1].startswith("+++ ")
        if line.startswith("diff --") or (bare and (file is None or file.named)):
            if file is not None:
                files.append(file.done())
            file = _Reading()
        if file is None:
            file = _Reading()
        if bare:
            file.name(line[4:], lines[i + 1][4:])
            i += 2
        elif (found := _HUNK.match(line)) is not None:
            i = file.hunk(found, lines, i + 1, end)
        else:
            file.head(line)
            i += 1
    if file is not None:
        files.append(file.done())
    return tuple(files)


@dataclass(slots=True)
class _Reading:
    """One file while its lines are read."""

    old: str | None = None
    new: str | None = None
    named: bool = False  # its --- and +++ were read
    change: str = "changed"
    binary: bool = False
    patch: bool = False  # inside of git's own binary patch
    modes: list[str] = field(default_factory=lambda: ["", ""])
    alike: int | None = None
    hunks: list[tuple[tuple[int, int, int, int], str, list[Row]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    added: int = 0
    removed: int = 0

    def head(self, line: str) -> None:
        """One line outside of any hunk."""
        word, _, rest = line.partition(" ")
        if line.startswith("diff --git "):
            self.old, self.new = _both(line[11:])
        elif line.startswith(("rename from ", "copy from ")):
            self.change, self.old = ("renamed" if word == "rename" else "copied"), _unquoted(rest[5:])
        elif line.startswith(("rename to ", "copy to ")):
            self.new = _unquoted(rest[3:])
        elif line.startswith("new file mode "):
            self.change, self.old = "new", None
        elif line.startswith("deleted file mode "):
            self.change, self.new = "deleted", None
        elif line.startswith(("old mode ", "new mode ")):
            self.modes[word == "new"] = rest[5:]
        elif line.startswith("similarity index ") and rest[6:-1].isdecimal():
            self.alike = int(rest[6:-1][:3])
        elif line.startswith("Binary files ") or line == "GIT binary patch":
            self.binary, self.patch = True, word == "GIT"
        elif not line.startswith(("index ", "dissimilarity index ")) and not self.patch:
            self.odd(line)

    def odd(self, line: str) -> None:
        """Kept where it stands: it may say that the diff was cut off there."""
        if self.hunks:
            self.hunks[-1][2].append(Row("?", None, None, line))
        else:
            self.notes.append(line)

    def name(self, old: str, new: str) -> None:
        """From ``---`` and ``+++``, which name the file best; only /dev/null tells of a file's coming or going."""
        self.named = True
        before, after = _path(old), _path(new)
        if self.change not in ("renamed", "copied"):
            self.old, self.new = before, after
            if before is None or after is None:
                self.change = "new" if before is None else "deleted"

    def hunk(self, found: re.Match[str], lines: Lines, i: int, end: int) -> int:
        """Read the rows from line ``i`` on; returns where they end."""
        old, new = int(found[1]), int(found[3])
        olds, news = int(found[2] or 1), int(found[4] or 1)
        counts = (old, olds, new, news)
        old, new = old + (olds == 0), new + (news == 0)
        rows: list[Row] = []
        add = rows.append
        while i < end:
            line = lines[i]
            sign = line[:1]
            if sign == "\\":
                if rows:
                    rows[-1] = rows[-1]._replace(newline=False)
            elif olds <= 0 and news <= 0:
                break
            elif sign == "+" and news > 0:
                add(Row("+", None, new, line[1:]))
                new, news = new + 1, news - 1
                self.added += 1
            elif sign == "-" and olds > 0:
                add(Row("-", old, None, line[1:]))
                old, olds = old + 1, olds - 1
                self.removed += 1
            elif sign in (" ", "") and olds > 0 and news > 0:  # some mailers eat the blank of an empty line
                add(Row(" ", old, new, line[1:]))
                old, new, olds, news = old + 1, new + 1, olds - 1, news - 1
            elif line.startswith("diff --") or _HUNK.match(line):
                break  # the hunk is shorter than it says
            else:
                add(Row("?", None, None, line))
            i += 1
        self.hunks.append((counts, found.string[found.end() :], rows))
        return i

    def done(self) -> File:
        hunks = tuple(Hunk(*counts, heading, tuple(rows)) for counts, heading, rows in self.hunks)
        return File(
            self.old, self.new, self.change, self.binary, (self.modes[0], self.modes[1]), self.alike,
            hunks, tuple(self.notes), self.added, self.removed,
        )  # fmt: skip


# --- paths -------------------------------------------------------------------------------------------


def _both(names: str) -> tuple[str | None, str | None]:
    """Both paths of ``diff --git``; it does not quote blanks, so only equal names can be told apart."""
    quoted = _QUOTED.match(names)
    if quoted is not None:
        return _path(quoted[0]), _path(names[quoted.end() + 1 :])
    if names.endswith('"') and (at := names.find(' "')) > 0:
        return _path(names[:at]), _path(names[at + 1 :])
    middle = len(names) // 2
    if names[middle : middle + 1] == " " and names[2:middle] == names[middle + 3 :]:
        return _path(names[:middle]), _path(names[middle + 1 :])
    old, _, new = names.partition(" b/")
    return _path(old), new or None


def _path(name: str) -> str | None:
    """Without its prefix a/ or b/; None for /dev/null. git ends a name that has blanks with a tab."""
    name = _unquoted(name.removesuffix("\t"))
    if name == "/dev/null":
        return None
    return name[2:] if name[:2] in ("a/", "b/") else name


def _unquoted(name: str) -> str:
    """git quotes odd names as C does, bytes in octal."""
    if len(name) < 2 or not (name.startswith('"') and name.endswith('"')):
        return name
    found, at = bytearray(), 0
    inner = name[1:-1]
    for escape in _ESCAPE.finditer(inner):
        found += inner[at : escape.start()].encode("utf-8", "surrogatepass")
        code = escape[1]
        if len(code) == 3:
            found.append(int(code, 8))
        else:
            found += bytes([_LETTERS[code]]) if code in _LETTERS else code.encode("utf-8", "surrogatepass")
        at = escape.end()
    return (found + inner[at:].encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


# --- how a row reads ---------------------------------------------------------------------------------

# Printable by Unicode's word, and yet nothing is seen of them: fillers, joiners, variation selectors.
_SILENT = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810),
              *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)  # fmt: skip
ODD = re.compile("[\u2400-\u241f\u2421]|<U\\+[0-9A-F]{4,6}>")  # how ``shown`` writes what cannot be seen


def shown(text: str, tab: int = 4) -> str:
    """``text`` safe for a terminal, with nothing hidden from who reviews it: what has no look is named.

    Dropping an escape sequence, as ``clean`` does for logs, would also drop the code inside of it.
    """
    text = text[:LIMIT]
    if text.isascii() and text.isprintable():
        return text
    text = text.expandtabs(tab)
    if text.isascii() and text.isprintable():
        return text
    named = "".join(c if c.isprintable() and c not in _SILENT else _named(c) for c in text)
    return clean_lines(named)[0]  # the one promise that everything on the screen keeps


def _named(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"
