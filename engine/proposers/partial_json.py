"""The strings of a JSON object while it is still being written. Pure.

A model's tool call arrives as pieces of JSON; what a person wants to watch is the edit growing inside it.
Only for showing: nothing is ever applied from here (the whole input is parsed strictly when it is complete).
"""

from __future__ import annotations

from collections.abc import Iterator

_SIMPLE = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class GrowingStrings:
    """Feed it pieces; it gives (key, more text) for the object's own string values, in order.

    Nested values are passed over. Never raises: after something that is not JSON it stays silent.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escape = ""  # what was read of an escape: "\\", "\\u", "\\u0", ...
        self._high = ""  # the first half of a surrogate pair
        self._text: list[str] = []  # of the string that is being read, as far as it was not given out
        self._key = ""
        self._is_value = False  # at depth 1: after a colon
        self._broken = False
        self.complete: dict[str, str] = {}  # string values that have been closed
        self._whole: list[str] = []

    def feed(self, piece: str) -> Iterator[tuple[str, str]]:
        """What ``piece`` adds, joined to one text a key."""
        for character in piece:
            if self._broken:
                return
            if self._in_string:
                closed = self._inside(character)
                if closed and self._showing:
                    yield from self._given()
                    self.complete[self._key] = "".join(self._whole)
                if closed and self._depth == 1 and not self._is_value:
                    self._key = "".join(self._text)
                if closed:
                    self._text, self._whole = [], []
            else:
                self._outside(character)
        if self._in_string and self._showing:
            yield from self._given()

    @property
    def _showing(self) -> bool:
        return self._depth == 1 and self._is_value

    def _given(self) -> Iterator[tuple[str, str]]:
        if text := "".join(self._text):
            self._whole.append(text)
            self._text = []
            yield self._key, text

    def _outside(self, character: str) -> None:
        if character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
            self._broken = self._depth == 1 and character == "["
        elif character in "}]":
            self._depth -= 1
            self._broken = self._depth <= 0
        elif self._depth == 0:
            self._broken = not character.isspace()
        elif self._depth == 1 and character in ":,":
            self._is_value = character == ":"

    def _inside(self, character: str) -> bool:
        """Read one character of a string; True when it closed it."""
        if self._escape:
            self._escaped(character)
        elif character == "\\":
            self._escape = "\\"
        elif character == '"':
            self._lone()
            self._in_string = False
            return True
        else:
            self._lone()
            self._text.append(character)
        return False

    def _escaped(self, character: str) -> None:
        if self._escape == "\\" and character != "u":
            self._lone()
            self._text.append(_SIMPLE.get(character, ""))
            self._broken, self._escape = character not in _SIMPLE, ""
            return
        self._escape += character
        if len(self._escape) < 6:
            return
        digits, self._escape = self._escape[2:], ""
        try:
            code = int(digits, 16)
        except ValueError:
            self._broken = True
            return
        if 0xD800 <= code < 0xDC00:
            self._lone()
            self._high = chr(code)
        elif 0xDC00 <= code < 0xE000:
            pair = (ord(self._high) - 0xD800) * 0x400 + code - 0xDC00 + 0x10000 if self._high else 0xFFFD
            self._text.append(chr(pair))
            self._high = ""
        else:
            self._lone()
            self._text.append(chr(code))

    def _lone(self) -> None:
        """Half a pair that never got its other half: what every store and terminal can hold."""
        if self._high:
            self._text.append("\ufffd")
            self._high = ""
