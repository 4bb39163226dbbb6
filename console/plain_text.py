"""Text from a candidate or a model, made safe for a terminal. Pure; standard library only.

Every string that reaches a screen passes ``clean`` or ``clean_lines``: no escape sequence, no control
character, nothing that turns the reading direction around.
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC up to their end
    r"|\x1b[ -/]*[0-~]?"  # everything else, and a lone ESC
    r"|\x9b[0-?]*[ -/]*[@-~]"  # CSI in its one-byte form
)
# C0, C1, DEL, line and paragraph separators, bidirectional controls, joiners, variation selectors, skin tones
# (terminals disagree about their width), lone surrogates (they cannot be encoded), BOM.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ud800-\udfff\U0001f3fb-\U0001f3ff\U000e0000-\U000e01ef]"
)


def clean_lines(text: str, tab: int = 4) -> list[str]:
    """Lines that are safe to print; tabs expanded; a carriage return starts its line again."""
    found = []
    for line in text.split("\n"):
        if not line.isascii() or not line.isprintable():
            line = line.rstrip("\r")
            line = line[line.rfind("\r") + 1 :]
            line = _HIDDEN.sub("", _ESCAPES.sub("", line)).expandtabs(tab)
        found.append(line)
    return found


def clean(text: str) -> str:
    """One line that is safe to print."""
    if text.isascii() and text.isprintable():
        return text
    return " ".join(part for part in clean_lines(text) if part).strip()


def copyable(text: str) -> str:
    """Text for a clipboard: as it is but for what could drive the terminal that it is pasted into."""
    if text.isascii() and text.isprintable():
        return text
    return "\n".join(
        "\t".join(_HIDDEN.sub("", part) for part in _ESCAPES.sub("", line).split("\t"))
        for line in text.split("\n")
    )
