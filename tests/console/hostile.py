"""Text as the worst program, model or file name would write it, the same for the same seed."""

from __future__ import annotations

import random
import unicodedata

MARK = "PWNED"  # stands in every payload that must never reach a terminal as a command
ESCAPES = (
    f"\x1b]0;{MARK}\x07", f"\x1b]2;{MARK}\x1b\\", f"\x1b]52;c;{MARK}\x07", f"\x1b]8;;http://{MARK}\x1b\\link\x1b]8;;\x1b\\",
    f"\x1b]1337;File=inline=1:{MARK}\x07", f"\x1bP1$r{MARK}\x1b\\", f"\x1bPq#0;2;0;0;0{MARK}\x1b\\", f"\x1b_G{MARK}\x1b\\",
    f"\x1b^{MARK}\x1b\\", f"\x1bX{MARK}\x1b\\", f"\x9d0;{MARK}\x9c", f"\x90{MARK}\x9c", "\x1b[2J", "\x1b[H", "\x1b[31;1m",
    "\x1b[?1049l", "\x1b[?1003h", "\x1b[6n", "\x1b[c", "\x1b[>q", "\x1b[21t", "\x1bc", "\x1b(0", "\x1b#8", "\x1bN", "\x9b31m",
    "\x1b[99999;99999H", "\x1b[", "\x1b", "\x1b]", "\x1bP", "\x1b[1;", "\x1b\x1b[", "\x1b]0;\x1b[", "\x1b[38;2;1;2", "\x1b[1\x1b[2J",
    f"\x1b\n]0;{MARK}\x07", f"\x1b]0;{MARK}\n\x07", "\x1b[\n2J", f"\x1b\x00]0;{MARK}\x07", "\x84\x85\x8d\x9e",
)  # fmt: skip
CONTROLS = (*map(chr, range(32)), "\x7f", "\x80", "\x85", "\x9b", "\x9c", "\r\n", "\b\b\b", "\r", "\t")
MARKUP = (
    "[bold red]", "[/]", "[/bold]", "[blink]", "[link=http://x]", "[@click=app.quit]", "\\[", "[[", "]]", "[$error]",
    "[on #ff0000]", "{}", "%s", "%(x)s", "<b>", "`rm -rf`", ":smile:", "$(id)", "&amp;",
)  # fmt: skip
WIDE = ("漢字", "ｆｕｌｌ", "한글", "🐍", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "☺️", "❤️‍🔥", "\u3000", "１２", "ﷺ", "𒐫", "⸻")
COMBINING = (
    "e\u0301",
    "a" + "\u0300\u0301\u0302" * 9,
    "\u0301",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A",
    "\u20dd",
    "क्षि",
    "\u1ab0",
    "\u0e33",
    "\u200dx",
)
ODD = (
    "\u202eevil\u202c", "\u2066x\u2069", "\u200b", "\u2028", "\u2029", "\ufeff", "\ufffe", "\uffff", "\ue000", "\U000e0041",
    "\u061c", "\u2060", "\ufff9a\ufffab\ufffb", "\u00ad", "\U0010ffff", "\ufe0f", "\u180e", "\x00",
)  # fmt: skip
DIFFS = (
    "diff --git a/x b/x\n", "--- a/x\n", "+++ b/x\n", "@@ -1,3 +1,3 @@\n", "@@ -1 +999999999999 @@ x\n", "+added\n", "-gone\n",
    " same\n", "\\ No newline at end of file\n", "Binary files a and b differ\n", "rename from x\n", "new file mode 100755\n",
)  # fmt: skip
PLAIN = (
    "loss",
    " ",
    "0.123",
    "step 7",
    "\n",
    "a/b.py",
    '{"x": 1}',
    "x" * 300,
    "",
    "- item",
    "# head",
    "```",
    "NaN",
)
KINDS = (ESCAPES, CONTROLS, MARKUP, WIDE, COMBINING, ODD, DIFFS, PLAIN)
SURROGATES = ("\ud800", "\udfff", "\udc80")  # what os.fsdecode makes of bytes that are no UTF-8


def text(chance: random.Random, *, storable: bool = False) -> str:
    """``storable``: without lone surrogates, which no database or file takes as text."""
    parts = [chance.choice(chance.choice(KINDS)) for _ in range(chance.randint(1, 9))]
    if not storable and chance.random() < 0.1:
        parts.insert(0, chance.choice(SURROGATES))
    if chance.random() < 0.2:
        parts.append(chr(chance.choice((chance.randrange(0x20, 0x3000), chance.randrange(0xE000, 0x110000)))))
    whole = "".join(parts)
    return whole[: chance.randint(0, len(whole))] if chance.random() < 0.2 else whole


def raw(chance: random.Random) -> bytes:
    """As a program prints it: often no UTF-8 at all."""
    found = bytearray(text(chance).encode("utf-8", "surrogatepass"))
    for _ in range(chance.choice((0, 0, 1, 3))):
        found.insert(chance.randint(0, len(found)), chance.randrange(128, 256))
    return bytes(found)


BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def leaks(shown: str) -> list[str]:
    """Characters of ``shown`` that a terminal would obey, not show."""
    return [
        f"{c!r} in {shown!r}"
        for c in shown
        if (not " " <= c <= "~") and (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in BIDI)
    ]
