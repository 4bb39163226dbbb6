"""Exact replacements whose search or near-miss report would hold the engine up, answered cheaply instead. Pure."""

from __future__ import annotations

from engine import edits
from engine.errors import EditRejected

_SEARCH_COST = 1_000_000_000  # comparisons of characters; about half a second
_MANY = 500  # occurrences
_BEGINNING = 32  # characters; places that begin alike are compared to the end
_COMPARED_LINES = 12  # of a text that was not found; comparing hundreds takes minutes
_COMPARED_LENGTH = 1500


def refuse_costly(path: str, text: str, old: str) -> None:
    """Raise for a replacement whose report would take too long: of a long ``old`` from its lines that differ only.

    ``edits`` compares all of ``old`` by character, which takes minutes for some hundred lines that are not there,
    and at every place that begins like it when they are.
    """
    plain, wanted = text.replace("\r\n", "\n"), old.replace("\r\n", "\n")
    lines = wanted.split("\n")
    if wanted and wanted in plain:
        _refuse_repetitive(path, plain, wanted)
        return
    if len(lines) <= _COMPARED_LINES and len(wanted) <= _COMPARED_LENGTH:
        return  # edits' own report
    # The longest beginning, in lines, that does occur.
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high + 1) // 2
        if "\n".join(lines[:middle]) in plain:
            low = middle
        else:
            high = middle - 1
    first = max(0, low - 2)
    window = "\n".join(lines[first : first + _COMPARED_LINES])[:_COMPARED_LENGTH]
    where = f"{path}: your text was compared by its lines {first + 1}-{first + window.count(chr(10)) + 1} only: "
    if window not in plain:
        try:
            edits.replace(plain, window, window + "#")
        except EditRejected as fault:
            raise EditRejected(where + fault.message, fault.mend) from None
    raise EditRejected(
        f"{where}these do occur; what stands before or after them in your text differs",
        "copy the text exactly from the file, or replace a shorter piece that is unique",
    )


def _refuse_repetitive(path: str, plain: str, wanted: str) -> None:
    """Raise for a text that occurs, or begins to, at so many places that ``edits`` would take seconds."""
    count = plain.count(wanted)
    if count > _MANY:
        first = plain.count("\n", 0, plain.find(wanted)) + 1
        raise EditRejected(
            f"{path}: the text to replace occurs {count:,} times, first at line {first}",
            "take in more of the lines around the one you mean, so that it is unique",
        )
    if plain.count(wanted[:_BEGINNING]) * _BEGINNING * len(wanted) > _SEARCH_COST:
        raise EditRejected(
            f"{path}: the text to replace begins like too many places of the file",
            "replace a shorter piece that is unique",
        )
