"""Colours of a diff's code by Pygments, as names: ``widgets/lines.py`` gives each name its colour.

Pygments is imported by the first call, 70 ms, and lexes 10 to 35 lines a millisecond: callers do it off the
message path. Whole sides of a hunk are lexed, for a line alone may be the inside of a string.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

from console.diffs import Diff, File, Hunk, Row, shown

Colours = tuple[tuple[int, str], ...]  # of one line: (past its last character, name), ascending; '' is plain
LINES = 4000  # of one side of one hunk; a longer one is no code that somebody reads
LENGTH = 400  # characters of one line; a longer one stays plain: it is data, and patterns may be slow on it
NAMES = ("keyword", "string", "comment", "number", "defined", "tag")

# By the words of Pygments' token types, the most special first.
_NAMED = (
    ("Comment", "comment"), ("Literal.String.Doc", "string"), ("Literal.String.Interpol", ""),
    ("Literal.String", "string"), ("Literal.Number", "number"), ("Literal.Date", "number"),
    ("Keyword.Constant", "number"), ("Keyword", "keyword"), ("Operator.Word", "keyword"),
    ("Name.Function", "defined"), ("Name.Class", "defined"), ("Name.Decorator", "defined"),
    ("Name.Tag", "tag"), ("Name.Attribute", "tag"), ("Generic.Heading", "defined"),
    ("Generic.Subheading", "defined"), ("Generic.Strong", "keyword"),
)  # fmt: skip


# A file's whole name or its ending -> Pygments' name of the language.
_LANGUAGES = {
    "py": "python", "pyi": "python", "pyx": "cython", "ipynb": "json", "json": "json", "jsonl": "json",
    "toml": "toml", "lock": "toml", "yaml": "yaml", "yml": "yaml", "ini": "ini", "cfg": "ini", "conf": "ini",
    "sh": "bash", "bash": "bash", "zsh": "bash", "md": "markdown", "rst": "rst", "c": "c", "h": "c",
    "cpp": "cpp", "cc": "cpp", "cxx": "cpp", "hpp": "cpp", "cu": "cuda", "cuh": "cuda", "rs": "rust",
    "go": "go", "jl": "julia", "lua": "lua", "java": "java", "js": "javascript", "ts": "typescript",
    "html": "html", "css": "css", "sql": "sql", "cmake": "cmake", "dockerfile": "docker", "makefile": "make",
    "mk": "make", "slurm": "bash", "sbatch": "bash",
}  # fmt: skip


class Lexer(Protocol):
    def get_tokens(self, text: str) -> Iterable[tuple[object, str]]: ...


def of_hunk(file: File, hunk: Hunk) -> Iterator[tuple[str, int, Colours]]:
    """(side, line number, colours): side '-' for removed lines, '+' for the others. Never raises."""
    for side, path in (("+", file.new or file.old), ("-", file.old or file.new)):
        wanted = "-" if side == "-" else "+ "
        rows = [row for row in hunk.rows if row.sign == " " or row.sign == side]
        if not any(row.sign in wanted for row in rows):
            continue
        lexer = _lexer(path or "")
        if lexer is None or len(rows) > LINES:
            continue
        for row, colours in zip(rows, of_lines([shown(row.text) for row in rows], lexer), strict=True):
            number = row.old if side == "-" else row.new
            if row.sign in wanted and number is not None and colours:
                yield side, number, colours


def of_lines(lines: Sequence[str], lexer: Lexer) -> list[Colours]:
    """The colours of each line; all plain where the lexer fails."""
    lines = [line if len(line) <= LENGTH else "" for line in lines]
    opening = '"""\n' if _begins_inside(lines) else ""
    text = opening + "\n".join(lines)
    try:
        runs = [(len(value), _name(str(token))) for token, value in lexer.get_tokens(text)]
    except Exception:  # a lexer that stumbles over odd code must not cost the diff
        return [()] * len(lines)
    ends = list(accumulate(length for length, _ in runs))
    found: list[Colours] = []
    at = len(opening)
    for line in lines:
        found.append(_cut(runs, ends, at, at + len(line), line))
        at += len(line) + 1
    return found


def _cut(runs: Sequence[tuple[int, str]], ends: Sequence[int], start: int, stop: int, line: str) -> Colours:
    """What of the runs falls on [start, stop), from its start; neighbours of one name are one."""
    found: list[tuple[int, str]] = []
    run = bisect_right(ends, start)
    at = start
    while at < stop and run < len(runs):
        past = min(stop, ends[run])
        name = runs[run][1]
        if found and (found[-1][1] == name or line[at - start : past - start].isspace()):
            found[-1] = (past - start, found[-1][1])  # blanks have no colour: fewer changes on the wire
        else:
            found.append((past - start, name))
        at, run = past, run + 1
    return () if all(not name for _, name in found) else tuple(found)


_OPENERS = ("=", "(", "[", "{", ",", ":", "+", "return")  # what stands before a string that begins


def _begins_inside(lines: Sequence[str]) -> bool:
    """Whether the first triple quote in sight ends a string whose begin is above the hunk.

    Nothing above is known, so this goes by how such lines look: an ending one has words before it, or stands
    alone with no head of a function above.
    """
    if sum(line.count('"""') for line in lines) % 2 == 0:
        return False
    above = ""
    for line in lines:
        head, quotes, tail = line.partition('"""')
        head = head.strip()
        if quotes and head:
            return not head.endswith(_OPENERS) and head.lower() not in ("r", "f", "b", "u", "rb", "fr")
        if quotes:
            return not tail.strip() and above != "" and not above.endswith(_OPENERS)
        above = line.strip() or above
    return False


@lru_cache(maxsize=512)
def _name(token: str) -> str:
    token = token.removeprefix("Token.")
    for prefix, name in _NAMED:
        if token == prefix or token.startswith(prefix + "."):
            return name
    return ""


@lru_cache(maxsize=64)
def _lexer(path: str) -> Lexer | None:
    """By the file's name; None for one that tells nothing.

    Not by Pygments' own search: it tries 500 languages' patterns, and a candidate would choose whose lexer runs.
    """
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    name = path.rpartition("/")[2].lower()
    language = _LANGUAGES.get(name) or _LANGUAGES.get(name.rpartition(".")[2] if "." in name else "")
    if language is None:
        return None
    found: Lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)  # stripping would move all lines
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Coloured:
    """What has been coloured of ``files`` so far: (file, side, line number) -> colours."""

    files: Diff
    lines: Mapping[tuple[int, str, int], Colours]

    def of(self, file: int, row: Row) -> Colours:
        side, number = ("-", row.old) if row.sign == "-" else ("+", row.new)
        return self.lines.get((file, side, number), ()) if number is not None else ()


def coloured(files: Diff, near: int = 0, first: int = 150) -> Iterator[Coloured]:
    """Colours from the ``near``-th hunk on, then of those before; told after ``first`` rows and at the end."""
    hunks = [(f, file, hunk) for f, file in enumerate(files) for hunk in file.hunks]
    near = min(max(0, near), len(hunks))
    found: dict[tuple[int, str, int], Colours] = {}
    rows = 0
    for f, file, hunk in (*hunks[near:], *hunks[:near]):
        found.update(((f, side, number), colours) for side, number, colours in of_hunk(file, hunk))
        if rows < first <= rows + len(hunk.rows):
            yield Coloured(files, dict(found))
        rows += len(hunk.rows)
    yield Coloured(files, found)
