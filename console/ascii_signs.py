"""The console's signs in ASCII, one column for one, for terminals whose font or character set has no others. Pure.

Letters of any language stay: only what the console itself draws is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SIGNS = {
    "·": ".", "…": "~", "±": "~", "−": "-", "°": "'", "²": "2", "≤": "<", "≥": ">", "≈": "~", "×": "x", "†": "+",
    "▲": "^", "△": "^", "▼": "v", "◀": "<", "▶": ">", "►": ">", "◄": "<", "›": ">", "‹": "<", "▸": ">", "◂": "<",
    "●": "*", "○": "o", "◆": "#", "◇": "o", "■": "#", "□": "o", "▪": "*", "▍": "|", "★": "*",
    "✗": "x", "✘": "x", "✓": "+", "✔": "+", "✎": "/", "⚠": "!", "⚑": "!", "✉": "@", "␍": "r", "␊": "n", "␉": "t",
    "←": "<", "→": ">", "↑": "^", "↓": "v", "↵": "<", "⏎": "<", "↔": "-", "⇧": "^", "⏸": "=",
    "‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "•": "*",
}  # fmt: skip


def _table() -> dict[int, str]:
    found = {ord(sign): plain for sign, plain in _SIGNS.items()}
    for code in range(0x2400, 0x2427):  # pictures of control characters
        found.setdefault(code, "?")
    for code in range(0x2500, 0x2580):  # box drawing
        found[code] = "+"
    for sign in "─━┄┅┈┉╌╍═╴╶╸╺╼╾":
        found[ord(sign)] = "-"
    for sign in "│┃┆┇┊┋╎╏║╵╷╹╻╽╿":
        found[ord(sign)] = "|"
    for sign, plain in (("╱", "/"), ("╲", "\\"), ("╳", "x")):
        found[ord(sign)] = plain
    for code in range(0x2580, 0x25A0):  # blocks: bars and their eighths
        found[code] = "#"
    for sign, plain in zip("▁▂▃▄▅▆▇", "_.,-=+*", strict=True):
        found[ord(sign)] = plain
    for sign in "▏▎▍▌":
        found[ord(sign)] = "|"
    for sign in "░▒":
        found[ord(sign)] = ":"
    for code in range(0x2800, 0x2900):
        found[code] = _dots(code - 0x2800)
    return found


def _dots(mask: int) -> str:
    """A cell of 2 x 4 dots: by the rows in which there are some."""
    if mask == 0:
        return " "
    rows = [bool(mask & bits) for bits in (0x09, 0x12, 0x24, 0xC0)]
    upper, lower = rows[0] or rows[1], rows[2] or rows[3]
    if sum(rows) >= 3:
        return "|"
    if upper and lower:
        return "-" if rows[1] and rows[2] else ":"
    return "'" if upper else "."


TABLE = _table()


def plain(text: str) -> str:
    """``text`` with the console's signs in ASCII; as many columns as before."""
    return text if text.isascii() else text.translate(TABLE)


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether this terminal is known to lack the signs: another character set, or Linux's own console."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    charset = re.sub(r"[^a-z0-9]", "", locale.partition(".")[2].partition("@")[0].lower())
    return environ.get("TERM") == "linux" or charset not in ("", "utf8")
