"""What there is to copy of the selected experiment, and how much of it a terminal takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.formats import count, one_or_more
from console.layout import Pane
from console.plain_text import clean, copyable
from console.state import State

OSC_52_BYTES = 74_994  # what 100,000 characters of base64 carry: xterm, tmux and others take no more


@dataclass(frozen=True, slots=True)
class Copy:
    """``letter`` chooses it in the list. ``text`` is safe to paste: no control characters but tab and line end."""

    id: str
    letter: str
    name: str
    text: str


def copies(state: State, number: int | None, log: Sequence[str]) -> list[Copy]:
    """All that can be copied now, the likeliest first. ``log``: the lines of the log that are in sight."""
    found: list[Copy] = []
    if number is not None:
        detail = state.detail if state.detail is not None and state.detail.row.number == number else None
        row = state.listed.get(number)
        title = clean(row.title if row is not None else detail.row.title if detail is not None else "")
        found.append(Copy("title", "i", f"#{number} and its title", f"#{number} {title}".rstrip()))
        if detail is not None and any(detail.diff):
            told = one_or_more(len(detail.diff) - (detail.diff[-1] == ""), "line")
            text = copyable("\n".join(detail.diff).rstrip("\n") + "\n")
            found.append(Copy("diff", "d", f"the diff ({told})", text))
        if detail is not None and detail.row.hypothesis:
            found.append(Copy("hypothesis", "h", "the hypothesis", copyable(detail.row.hypothesis)))
        found.append(Copy("command", "c", f"`ratchet show {number}`", f"ratchet show {number}"))
        if detail is not None and (sha := detail.row.commit or detail.row.candidate_sha):
            found.append(Copy("commit", "s", f"the commit's hash {sha[:10]}", clean(sha)))
    if log:
        told = one_or_more(len(log), "line")
        found.append(Copy("log", "l", f"the log in sight ({told})", copyable("\n".join(log) + "\n")))
    return found


NATURAL: dict[Pane | None, str] = {Pane.DIFF: "diff", Pane.PROPOSAL: "hypothesis", Pane.LOG: "log"}


def natural(found: Sequence[Copy], focus: Pane | None) -> Copy | None:
    """What ``y`` copies in this pane without asking; None where several things make as much sense."""
    return next((one for one in found if one.id == NATURAL.get(focus)), None)


def cut(text: str, most: int = OSC_52_BYTES) -> tuple[str, bool]:
    """``text`` in at most ``most`` bytes of UTF-8, whole lines where there are any; whether some is missing."""
    data = text.encode()
    if len(data) <= most:
        return text, False
    kept = data[:most].decode(errors="ignore")
    lines = kept.rfind("\n")
    return (kept[: lines + 1] if lines > 0 else kept), True


def size_words(text: str) -> str:
    """``3 lines, 1.2 KB``; only what says something."""
    lines, size = text.count("\n"), len(text.encode())
    told = f"{size} bytes" if size < 1000 else f"{size / 1000:.1f} KB"
    return f"{count(lines)} lines, {told}" if lines > 1 else told
