"""What a terminal says when a program asks it something: identity, modes, cursor, size, colours. As xterm does.

A program that asks and hears nothing may wait, or do without what it asked for (synchronised frames): figures
taken on a terminal that is mute are figures of another program.
"""

from __future__ import annotations

import re

import pyte

ASKED = re.compile(
    rb"\x1b\[(?P<csi>[<-?]?[0-9;]*[ -/]*[cnpqtu])"  # narrowed below: only some of these are questions
    rb"|\x1b\](?P<osc>1[0-2];\?)(?:\x07|\x1b\\)"
    rb"|\x1bP(?P<dcs>[^\x1b]*)\x1b\\"
    rb"|\x1b[_^X][^\x1b]*\x1b\\"  # APC, PM, SOS: nothing to see, nothing to say
)
UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]P_^X][^\x07\x1b]{0,4096}\x1b?)?$")
MODES = frozenset({1, 7, 25, 1000, 1002, 1003, 1004, 1006, 1015, 1049, 2004, 2026})


def answer(asked: re.Match[bytes], screen: pyte.Screen) -> bytes | None:
    """The reply, b"" to something that a terminal takes silently, None when it is no question at all."""
    if asked["osc"] is not None:
        number = int(asked["osc"].partition(b";")[0])
        return b"\x1b]%d;rgb:%s\x1b\\" % (number, b"1c1c/1c1c/1c1c" if number == 11 else b"d0d0/d0d0/d0d0")
    if asked["csi"] is None:
        return _string(asked["dcs"] or b"")
    return _control(asked["csi"], screen)


def _string(said: bytes) -> bytes:
    if said.startswith(b"+q"):  # XTGETTCAP
        return b"\x1bP0+r\x1b\\"
    if said.startswith(b"$q"):  # DECRQSS
        return b"\x1bP0$r\x1b\\"
    return b""


def _control(said: bytes, screen: pyte.Screen) -> bytes | None:
    if mode := re.fullmatch(rb"\?(\d+)\$p", said):  # DECRQM: 2 is known and reset, 0 unknown
        return b"\x1b[?%d;%d$y" % (int(mode[1]), 2 if int(mode[1]) in MODES else 0)
    width, height = screen.columns, screen.lines
    replies = {
        b"c": b"\x1b[?62;22c",  # DA1: a VT220 with colours
        b"0c": b"\x1b[?62;22c",
        b">c": b"\x1b[>41;370;0c",  # DA2
        b">0c": b"\x1b[>41;370;0c",
        b"=c": b"\x1bP!|00000000\x1b\\",  # DA3
        b"5n": b"\x1b[0n",  # DSR
        b"6n": b"\x1b[%d;%dR" % (screen.cursor.y + 1, screen.cursor.x + 1),
        b"?6n": b"\x1b[?%d;%dR" % (screen.cursor.y + 1, screen.cursor.x + 1),
        b"?996n": b"\x1b[?997;1n",  # dark
        b">q": b"\x1bP>|XTerm(370)\x1b\\",  # XTVERSION
        b">0q": b"\x1bP>|XTerm(370)\x1b\\",
        b"14t": b"\x1b[4;%d;%dt" % (16 * height, 8 * width),
        b"16t": b"\x1b[6;16;8t",
        b"18t": b"\x1b[8;%d;%dt" % (height, width),
        b"?u": b"",  # kitty's keyboard: xterm does not know it
    }
    if said in replies:
        return replies[said]
    return b"" if said[:1] in b"<=>" or said[-1:] == b"t" else None  # settings that pyte would misread
