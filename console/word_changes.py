"""Which words of a changed line changed, and which removed line an added one replaces. Pure, of bounded cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache

Ranges = tuple[tuple[int, int], ...]  # (first, past the last) character
Pairs = tuple[tuple[int | None, int | None], ...]  # (removed, added), by their places in the block

TOKENS = 100  # of a line, beyond its common ends: difflib is quadratic
CHARACTERS = 1000
ALIKE = 0.4  # lines less alike than this are two lines, not one that changed
CELLS = 900  # pairs of lines of one block that are compared

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_WORD = re.compile(r"\w+")


@lru_cache(maxsize=2048)
def word_changes(old: str, new: str) -> tuple[Ranges, Ranges]:
    """Ranges of ``old`` and of ``new`` that differ; none where the lines are long or have little in common."""
    if old == new or max(len(old), len(new)) > CHARACTERS:
        return (), ()
    before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    first = 0
    while first < min(len(before), len(after)) and before[first] == after[first]:
        first += 1
    last = 0
    while last < min(len(before), len(after)) - first and before[-1 - last] == after[-1 - last]:
        last += 1
    left, right = before[first : len(before) - last], after[first : len(after) - last]
    if max(len(left), len(right)) > TOKENS:
        return (), ()
    kept = sum(len(t) for t in (*before[:first], *before[len(before) - last :]) if not t.isspace())
    codes = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    for tag, i, j, _, _ in codes:
        if tag == "equal":
            kept += sum(len(t) for t in left[i:j] if not t.isspace())
    length = sum(len(t) for t in (*before, *after) if not t.isspace())
    if 2 * kept < ALIKE * length:
        return (), ()
    start = sum(map(len, before[:first]))
    return (
        _ranges(left, start, [(i, j) for tag, i, j, _, _ in codes if tag != "equal" and j > i]),
        _ranges(right, start, [(i, j) for tag, _, _, i, j in codes if tag != "equal" and j > i]),
    )


def _ranges(tokens: Sequence[str], start: int, chosen: Sequence[tuple[int, int]]) -> Ranges:
    """Characters of the chosen tokens; two with only blanks between them are one, which reads calmer."""
    places = [start]
    for token in tokens:
        places.append(places[-1] + len(token))
    found: list[tuple[int, int]] = []
    past = -1
    for i, j in chosen:
        if found and all(t.isspace() for t in tokens[past:i]):
            found[-1] = (found[-1][0], places[j])
        else:
            found.append((places[i], places[j]))
        past = j
    return tuple(found)


@lru_cache(maxsize=512)
def paired(removed: tuple[str, ...], added: tuple[str, ...]) -> Pairs:
    """A block of removed and added lines, side by side in max(len) rows, in order, the most alike together.

    The shorter side is spread over the longer one; where that is too much to compare, one after the other.
    """
    if len(removed) > len(added):
        return tuple((a, b) for b, a in paired(added, removed))
    places = _places(removed, added)
    back = {place: i for i, place in enumerate(places)}
    return tuple((back.get(j), j) for j in range(len(added)))


def _places(short: tuple[str, ...], long: tuple[str, ...]) -> list[int]:
    """For each line of ``short`` its place in ``long``, ascending, with the greatest sum of likeness."""
    n, m = len(short), len(long)
    if n == 0 or n == m or n * m > CELLS:
        return list(range(n))
    left, right = [_words(text) for text in short], [_words(text) for text in long]
    # best[i][j]: what short[i:] can reach within long[j:]
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    best[:n] = [[float("-inf")] * (m + 1) for _ in range(n)]
    take = [[False] * m for _ in range(n)]
    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            words = len(left[i]) + len(right[j])
            likeness = 2 * len(left[i] & right[j]) / words if words else 0.0
            with_it, without = likeness + best[i + 1][j + 1], best[i][j + 1]
            take[i][j] = with_it >= without  # the first place of equal ones
            best[i][j] = max(with_it, without)
    places, j = [], 0
    for i in range(n):
        while not take[i][j]:
            j += 1
        places.append(j)
        j += 1
    return places


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text[:CHARACTERS]))
