"""Reliable edits: exact unique replacement, with reports that let the author mend a near miss. Pure.

The method is the search/replace edit with the file in the prompt: 97-99 % of such edits are well formed
(aider's public table, 2025-05). The rest are nearly always whitespace or an ambiguous anchor, and the
report says which, with line numbers. Line endings are the file's, never the author's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import EditRejected
from engine.types import FileChange

_SHOWN = 12  # lines of the file a report shows at most
_NUMBERED = re.compile(r"^\s*\d+(\t|: |\| )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Replace:
    """Put ``new`` in place of ``old``, which must occur exactly once in the file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Put ``text`` as whole lines after line ``line`` (1-based; 0: before the first)."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Write:
    """The file's whole content: a new file, or the fallback when a replacement will not do."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Delete:
    path: str


Operation = Replace | Insert | Write | Delete


def replace(text: str, old: str, new: str) -> str:
    """``text`` with the one occurrence of ``old`` replaced by ``new``.

    Line endings in ``old`` match either style, and those of ``new`` become the file's. Raises
    EditRejected when ``old`` is empty, equals ``new``, or occurs not once: with the nearest lines and
    what differs (none), or with the line of every occurrence (several).
    """
    if not old:
        raise EditRejected("the text to replace is empty", "insert lines, or write the whole file")
    plain = old.replace("\r\n", "\n")
    if plain == new.replace("\r\n", "\n"):
        raise EditRejected("the replacement equals what it replaces", "leave this edit out, or change something")
    # A lookahead finds overlapping occurrences too: "a\na" in "a\na\na" is ambiguous, not unique.
    # The lookbehind keeps one CRLF from counting twice, as itself and as its bare newline.
    pattern = r"(?:\r\n|(?<!\r)\n)".join(re.escape(line) for line in plain.split("\n"))
    found = [match.span(1) for match in re.finditer(f"(?=({pattern}))", text)]
    if not found:
        raise EditRejected(_near_miss(text, plain), "copy the text exactly from the file, whitespace included")
    if len(found) > 1:
        lines = [text.count("\n", 0, start) + 1 for start, _ in found]
        shown = ", ".join(map(str, lines[:_SHOWN])) + (", ..." if len(lines) > _SHOWN else "")
        raise EditRejected(
            f"the text to replace occurs {len(found)} times, at lines {shown}",
            "take in more of the lines around the one you mean, so that it is unique",
        )
    start, end = found[0]
    return text[:start] + _as_in(text, new) + text[end:]


def insert(text: str, line: int, new: str) -> str:
    """``text`` with the lines ``new`` put after line ``line`` (1-based; 0: before the first).

    A file without a newline at its end stays one. Raises EditRejected when there is no such line.
    """
    lines = _lines(text)
    if not 0 <= line <= len(lines):
        raise EditRejected(
            f"there is no line {line}: the file has {len(lines)}", f"give a line from 0 to {len(lines)}"
        )
    if not new:
        raise EditRejected("the text to insert is empty", "leave this edit out")
    ending = _ending(text)
    block = _as_in(text, new)
    if not block.endswith("\n"):
        block += ending
    if line == len(lines) and text and not text.endswith("\n"):
        return text + ending + block.removesuffix(ending)
    return "".join(lines[:line]) + block + "".join(lines[line:])


def apply(files: Mapping[str, bytes], operations: Sequence[Operation]) -> tuple[FileChange, ...]:
    """The changes that ``operations``, in their order, make to ``files`` (path -> content).

    Only files that really differ afterwards are in the result. Raises EditRejected, naming operation
    and file, when one does not apply; then nothing was applied. Which files may be touched is no
    business of this module (``scope``).
    """
    after: dict[str, bytes | None] = dict(files)
    for number, operation in enumerate(operations, 1):
        path = operation.path
        try:
            after[path] = _apply_one(after.get(path), operation)
        except EditRejected as fault:
            raise EditRejected(f"edit {number} ({path}): {fault.message}", fault.mend) from None
    return tuple(
        FileChange(path, content) for path, content in sorted(after.items()) if content != files.get(path)
    )


def _apply_one(content: bytes | None, operation: Operation) -> bytes | None:
    if isinstance(operation, Write):
        return _encoded(operation.text)
    if content is None:
        raise EditRejected("there is no such file", "write it as a new file")
    if isinstance(operation, Delete):
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise EditRejected(f"the file is not UTF-8 text ({fault.reason} at byte {fault.start})") from None
    if isinstance(operation, Replace):
        return _encoded(replace(text, operation.old, operation.new))
    return _encoded(insert(text, operation.line, operation.text))


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # JSON may carry half a surrogate pair
        raise EditRejected("the text holds a character that UTF-8 cannot express") from None


def _lines(text: str) -> list[str]:
    """Lines with their endings. Not str.splitlines, which also splits at form feeds and U+2028."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _ending(text: str) -> str:
    """The line ending most of ``text`` uses."""
    windows = text.count("\r\n")
    return "\r\n" if windows * 2 > text.count("\n") else "\n"


def _as_in(text: str, new: str) -> str:
    """``new`` with the line endings of ``text``."""
    return new.replace("\r\n", "\n").replace("\n", _ending(text))


# --- the near-miss report ------------------------------------------------------------------------


def _near_miss(text: str, old: str) -> str:
    """Why ``old`` (with plain newlines) is not in ``text``: the nearest lines, and what differs."""
    wanted = old.strip("\n").split("\n")
    lines = text.replace("\r\n", "\n").split("\n")
    head = "the text to replace does not occur in the file"
    if old.strip() and text.find(old.strip("\n")) >= 0:
        return f"{head}: it begins or ends with blank lines that are not there"
    if _NUMBERED.match(old) and _NUMBERED.sub("", old) in "\n".join(lines):
        return f"{head}: it carries the line numbers of the listing; leave them out"
    start, likeness = _nearest(lines, wanted)
    if start < 0:
        return f"{head}, and nothing there is like it"
    window = lines[start : start + len(wanted)]
    report = [f"{head}. Nearest is line {start + 1} ({likeness:.0%} alike): {_difference(window, wanted)}"]
    shown = window[:_SHOWN]
    report += [f"{start + 1 + i:>6} | {line}" for i, line in enumerate(shown)]
    if len(window) > len(shown):
        report.append(f"       ... {len(window) - len(shown)} more")
    return "\n".join(report)


def _nearest(lines: Sequence[str], wanted: Sequence[str]) -> tuple[int, float]:
    """First line and likeness of the window of ``lines`` most like ``wanted``; (-1, 0.0) for none.

    Whitespace counts for nothing here. Windows are ranked by the lines they share before any is
    compared by character, so that a file of 10,000 lines costs milliseconds, not minutes.
    """
    squeezed = [" ".join(line.split()) for line in lines]
    target = [" ".join(line.split()) for line in wanted]
    size = len(target)
    votes: dict[int, float] = {}
    matcher = difflib.SequenceMatcher(autojunk=False)
    for offset, line in enumerate(target):
        if not line:
            continue
        matcher.set_seq2(line)
        for index, other in enumerate(squeezed):
            start = index - offset
            if not other or start < 0 or start + size > max(len(lines), size):
                continue
            if other == line:
                votes[start] = votes.get(start, 0.0) + 1.0
            elif offset < 8:  # the first lines tell the place; more of them only cost time
                matcher.set_seq1(other)
                if matcher.real_quick_ratio() > 0.6 and matcher.quick_ratio() > 0.6:
                    votes[start] = votes.get(start, 0.0) + matcher.quick_ratio() / 2
    best, likeness = -1, 0.0
    whole = "\n".join(target)
    for start in sorted(votes, key=lambda s: (-votes[s], s))[:5]:
        ratio = difflib.SequenceMatcher(None, "\n".join(squeezed[start : start + size]), whole, False).ratio()
        if ratio > likeness:
            best, likeness = start, ratio
    return (best, likeness) if likeness >= 0.5 else (-1, 0.0)


def _difference(window: Sequence[str], wanted: Sequence[str]) -> str:
    """In one sentence, the first thing that keeps ``wanted`` from being ``window``."""
    for number, (have, want) in enumerate(zip(window, wanted, strict=False), 1):
        if have == want:
            continue
        if have.rstrip() == want.rstrip():
            return f"whitespace at the end of its line {number} differs"
        if have.strip() == want.strip():
            indents = have[: len(have) - len(have.lstrip())], want[: len(want) - len(want.lstrip())]
            if ("\t" in indents[0]) != ("\t" in indents[1]):
                kinds = ["tabs" if "\t" in indent else "spaces" for indent in indents]
                return f"the file indents its line {number} with {kinds[0]}, your text with {kinds[1]}"
            return (
                f"the indentation of its line {number} differs "
                f"(file: {len(indents[0])} characters, yours: {len(indents[1])})"
            )
        if have.split() == want.split():
            return f"whitespace inside its line {number} differs"
        return f"its line {number} differs; yours is: {want}"
    return "the file ends before your text does"
