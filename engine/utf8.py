"""Text that UTF-8 can hold: what JSON (``"\\ud800"``) or an undecodable file name may bring cannot be stored,
printed or sent. Pure."""

from __future__ import annotations

from typing import Any


def whole(text: str) -> str:
    """``text`` with halves of a surrogate pair joined where they meet, and U+FFFD in place of lone ones."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def whole_data(value: Any) -> Any:
    """The same JSON data with every string in it whole (names included)."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return {whole(str(name)): whole_data(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [whole_data(one) for one in value]
    return value
