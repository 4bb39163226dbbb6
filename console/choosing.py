"""A list to choose from by typing: what matches, in which order, and where one stands in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

WORD_START, NEIGHBOUR, FAR = 8, 5, 10  # points for a letter that begins a word, follows the last one; most lost


@dataclass(frozen=True, slots=True)
class Entry:
    """``aside`` stands beside the name, faint; ``off`` says why it can do nothing now, in its place."""

    id: str
    name: str
    key: str = ""
    off: str = ""
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    entry: Entry
    marked: tuple[int, ...] = ()  # letters of the name that were typed


@dataclass(frozen=True, slots=True)
class Place:
    """``at``: the row that is chosen; ``top``: the first one in sight."""

    query: str = ""
    at: int = 0
    top: int = 0


def match(query: str, text: str) -> tuple[int, tuple[int, ...]] | None:
    """(points, places in ``text``) when every word of ``query`` is a subsequence of it, else None. Case aside."""
    points, marked = 0, set[int]()
    lowered = text.lower()
    if len(lowered) != len(text):  # letters whose lower case is longer: places would not fit
        lowered = text
    for word in query.lower().split():
        best: tuple[int, tuple[int, ...]] | None = None
        at = lowered.find(word[0])
        while at >= 0:
            found = _from(word, lowered, at)
            if found is None:
                break  # what does not fit from here fits even less from further right
            if best is None or found[0] > best[0]:
                best = found
            at = lowered.find(word[0], at + 1)
        if best is None:
            return None
        points += best[0]
        marked.update(best[1])
    return points, tuple(sorted(marked))


def _from(word: str, text: str, start: int) -> tuple[int, tuple[int, ...]] | None:
    """The earliest way through ``text`` that begins at ``start``."""
    places = [start]
    points = WORD_START if _begins(text, start) else 0
    for letter in word[1:]:
        at = text.find(letter, places[-1] + 1)
        if at < 0:
            return None
        if at == places[-1] + 1:
            points += NEIGHBOUR
        else:
            points -= min(FAR, at - places[-1] - 1)
            points += WORD_START if _begins(text, at) else 0
        places.append(at)
    return points, tuple(places)


def _begins(text: str, at: int) -> bool:
    return at == 0 or not text[at - 1].isalnum()


def hits(entries: Sequence[Entry], query: str) -> list[Hit]:
    """The entries that match, the best first; all in their order without a query. The id matches for less."""
    if not query.strip():
        return [Hit(entry) for entry in entries]
    found: list[tuple[int, int, Hit]] = []
    for order, entry in enumerate(entries):
        by_name = match(query, entry.name)
        by_id = match(query, entry.id)
        if by_name is not None and (by_id is None or by_name[0] >= by_id[0] - 1):
            found.append((-by_name[0], order, Hit(entry, by_name[1])))
        elif by_id is not None:
            found.append((-by_id[0] + 1, order, Hit(entry)))
    found.sort(key=lambda one: one[:2])
    best = -found[0][0] if found else 0
    # letters strewn over a long sentence are no match where another has them side by side
    return [hit for points, _, hit in found if best <= 0 or -points * 2 >= best]


def typed(place: Place, text: str) -> Place:
    """More of the query, printable characters only; the best match is chosen again."""
    added = "".join(character for character in text if character.isprintable())
    return Place((place.query + added)[:80]) if added else place


def erased(place: Place, *, word: bool = False) -> Place:
    """Without the last character, or the last word."""
    if word:
        return Place(place.query.rstrip().rpartition(" ")[0] + (" " if " " in place.query.rstrip() else ""))
    return Place(place.query[:-1])


def moved(place: Place, step: int, count: int, rows: int) -> Place:
    """``step`` rows on among ``count``, of which ``rows`` fit; a step of one goes round at the ends."""
    if count <= 0:
        return replace(place, at=0, top=0)
    at = (place.at + step) % count if abs(step) == 1 else min(count - 1, max(0, place.at + step))
    top = min(max(place.top, at - rows + 1), at)
    return replace(place, at=at, top=top)
