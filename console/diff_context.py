"""The same diff with less context, or with more where the old file's text is known. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from console.diffs import Diff, File, Hunk, Row

STORED = 3  # lines of context that the engine asks git for
LEVELS = (0, 1, STORED)

_ENCLOSES = re.compile(r"[A-Za-z_$]|\s+(?:async\s+def|def|class)\s")


def recut(diff: Diff, context: int, texts: Mapping[str, str] | None = None) -> Diff:
    """``diff`` with ``context`` lines around each change; ``texts`` maps an old path to the file's old text.

    Without the text of a file there is never more context than its hunks came with.
    """
    return tuple(_file(file, context, (texts or {}).get(file.old or "")) for file in diff)


def _file(file: File, context: int, text: str | None) -> File:
    hunks: Iterable[Hunk] = file.hunks
    if text is not None and _belongs(file, lines := text.split("\n")):
        hunks = _grown(file.hunks, lines[: len(lines) - (lines[-1] == "")], context, text.endswith("\n"))
    return replace(file, hunks=tuple(part for hunk in hunks for part in _parts(hunk, context)))


def _belongs(file: File, lines: Sequence[str]) -> bool:
    """Whether the hunks were made from this text: a wrong line of context would be a lie."""
    return all(
        row.old is None or (0 < row.old <= len(lines) and lines[row.old - 1] == row.text)
        for hunk in file.hunks
        for row in hunk.rows
    ) and not any(row.sign == "?" for hunk in file.hunks for row in hunk.rows)


def _grown(hunks: Sequence[Hunk], lines: Sequence[str], context: int, newline: bool) -> list[Hunk]:
    """Hunks with up to ``context`` more lines at either end; those that meet become one."""
    found: list[Hunk] = []
    for i, hunk in enumerate(hunks):
        start, past = _spot(hunk.old_start, hunk.old_count), _spot(hunk.old_start, hunk.old_count) + hunk.old_count
        shift = _spot(hunk.new_start, hunk.new_count) - start
        low = max(1, start - context)
        if i and (before := found[-1]) and low <= before.old_start + before.old_count:
            low = before.old_start + before.old_count
        following = hunks[i + 1] if i + 1 < len(hunks) else None
        stop = _spot(following.old_start, following.old_count) if following else len(lines) + 1
        high = min(stop, past + context)
        after = shift + hunk.new_count - hunk.old_count
        rows = [Row(" ", n, n + shift, lines[n - 1]) for n in range(low, start)]
        rows += hunk.rows
        rows += [Row(" ", n, n + after, lines[n - 1], newline or n < len(lines)) for n in range(past, high)]
        whole = _hunk(rows, low, low + shift, hunk.heading)
        if i and low == found[-1].old_start + found[-1].old_count:
            whole = _hunk((*found[-1].rows, *rows), found[-1].old_start, found[-1].new_start, found[-1].heading)
            found.pop()
        found.append(whole)
    return found


def _spot(start: int, count: int) -> int:
    """The first line that a side of a hunk is about: with a count of 0, the line before is named."""
    return start + (count == 0)


def _parts(hunk: Hunk, context: int) -> Iterable[Hunk]:
    """``hunk`` cut to ``context`` lines around its changes; runs of more than twice that many part it."""
    rows = hunk.rows
    changed = [i for i, row in enumerate(rows) if row.sign != " "]
    if not changed:
        return (hunk,)
    spans: list[list[int]] = []
    for i in changed:
        if spans and i - context <= spans[-1][1] + context:
            spans[-1][1] = i + 1
        else:
            spans.append([i, i + 1])
    if len(spans) == 1 and spans[0][0] <= context and len(rows) - spans[0][1] <= context:
        return (hunk,)
    found: list[Hunk] = []
    old, new = _spot(hunk.old_start, hunk.old_count), _spot(hunk.new_start, hunk.new_count)
    heading, at = hunk.heading, 0
    for first, past in spans:
        low, high = max(at, first - context), min(len(rows), past + context)
        for row in rows[at:low]:
            old, new = old + (row.old is not None), new + (row.new is not None)
            if row.new is not None and _ENCLOSES.match(row.text):
                heading = row.text
        part = rows[low:high]
        found.append(_hunk(part, old, new, heading))
        for row in part:
            old, new = old + (row.old is not None), new + (row.new is not None)
            if row.new is not None and _ENCLOSES.match(row.text):
                heading = row.text
        at = high
    return found


def _hunk(rows: Sequence[Row], old: int, new: int, heading: str) -> Hunk:
    olds = sum(row.old is not None for row in rows)
    news = sum(row.new is not None for row in rows)
    return Hunk(old - (olds == 0), olds, new - (news == 0), news, heading.strip(), tuple(rows))
