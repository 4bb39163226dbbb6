"""No key in anything that is stored, shown or sent (TRUST.md row 12). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.utf8 import whole

HIDDEN = "[key removed]"
_KEYLIKE = re.compile(r"sk-ant-[A-Za-z0-9_-]{4,}")
_START = re.compile(r"(?<![A-Za-z0-9])s(?:k(?:-(?:a(?:n(?:t(?:-[A-Za-z0-9_-]*)?)?)?)?)?)?\Z")
_SHORTEST = 8  # a shorter "key" is a placeholder such as "none", and a word of the language
_LONGEST_HELD = 512


class Redaction:
    """Removes the key itself, and whatever looks like a key of Anthropic. Shows neither in its repr."""

    def __init__(self, key: str = "") -> None:
        self.__key = key if len(key) >= _SHORTEST else ""

    def __repr__(self) -> str:
        return "Redaction()"

    def text(self, text: str) -> str:
        """Without a key; and whole, for what goes out is stored, printed or sent."""
        text = whole(text)
        if self.__key:
            text = text.replace(self.__key, HIDDEN)
        return _KEYLIKE.sub(HIDDEN, text) if "sk-ant-" in text else text

    def data(self, value: Any) -> Any:
        """The same JSON data with every string in it redacted (names included)."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.data(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(one) for one in value]
        return value

    def held(self, text: str) -> int:
        """How many characters at the end of ``text`` may be the start of a key, or of a pair, that goes on."""
        if "\ud800" <= text[-1:] < "\udc00":
            return 1
        start = _START.search(text[-_LONGEST_HELD:])
        held = len(start.group()) if start else 0
        for length in range(min(len(self.__key) - 1, len(text)), held, -1):
            if text.endswith(self.__key[:length]):
                return length
        return held


class RedactedStream:
    """A text that arrives in pieces: a key cut in two by the network is found all the same."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._rest = ""

    def feed(self, piece: str) -> str:
        """What may be shown by now; the beginning of what could become a key is kept back."""
        text = self._rest + piece
        held = self._redaction.held(text)
        self._rest = text[len(text) - held :]
        return self._redaction.text(text[: len(text) - held])

    def close(self) -> str:
        rest, self._rest = self._rest, ""
        return self._redaction.text(rest)
