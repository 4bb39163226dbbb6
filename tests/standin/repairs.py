"""A plausible repair of a run that crashed: what a person would do on reading the end of its output."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from tests.standin.ideas import Edit, constant, times

_NAME = re.compile(r"(?:undefined name|no attribute|\bname) '(\w+)'")
_HINT = re.compile(r"[Dd]id you mean:? '(\w+)'")
_ERROR = re.compile(r"^(?:\w+\| ?)?(\w*(?:Error|Exception)\b.*)$", re.MULTILINE)


def mend(output: str, text: str) -> tuple[str, Sequence[Edit]] | None:
    """(title, edits) for the file ``text`` whose run printed ``output``; None when the idea itself is broken."""
    if match := _NAME.search(output):
        return _misspelt(match[1], output, text)
    if re.search(r"out of memory|MemoryError", output):
        return _fits(
            "Repair: half the batch, it ran out of memory", constant("BATCH_SIZE", times(0.5))(text), text
        )
    if re.search(r"^FAIL\s*$|\bnan\b", output, re.MULTILINE | re.IGNORECASE):
        return _fits(
            "Repair: half the learning rate, it diverged", constant("LEARNING_RATE", times(0.5))(text), text
        )
    hunks = list(_undone(output))  # to take back all of a change leaves nothing to try
    return _fits("Repair: take the last part back", hunks[-1:] if len(hunks) > 1 else None, text)


def names_one(output: str) -> bool:
    """Whether a name that is not there is what ``output`` complains of, in a checker's words or in Python's."""
    return bool(_NAME.search(output))


def error(output: str) -> str:
    """The last line of ``output`` that names an error, or ""."""
    found = _ERROR.findall(output)
    return found[-1] if found else ""


def _fits(title: str, edits: Sequence[Edit] | None, text: str) -> tuple[str, Sequence[Edit]] | None:
    return (title, edits) if edits and all(text.count(old) == 1 for old, _ in edits) else None


def _misspelt(name: str, output: str, text: str) -> tuple[str, Sequence[Edit]] | None:
    """Every line that has the unknown name, with the name in the file that is most like it."""
    hint = _HINT.search(output)
    others = sorted(set(re.findall(r"[A-Za-z_]\w*", text)) - {name})
    right = hint[1] if hint else next(iter(difflib.get_close_matches(name, others, 1, 0.8)), None)
    if right is None:
        return None
    lines = [line for line in text.split("\n") if re.search(rf"\b{name}\b", line)]
    return _fits(
        f"Repair: {name} should be {right}", [(ln, re.sub(rf"\b{name}\b", right, ln)) for ln in lines], text
    )


def _undone(diff: str) -> Iterator[Edit]:
    """The reverse of each hunk of a unified diff."""
    for hunk in re.split(r"^@@.*$", diff, flags=re.MULTILINE)[1:]:
        before, after = list[str](), list[str]()
        for line in hunk.strip("\n").split("\n"):
            if line[:1] not in (" ", "+", "-", "") or line.startswith(("---", "+++")):
                break
            if line[:1] != "+":
                before.append(line[1:])
            if line[:1] != "-":
                after.append(line[1:])
        yield "\n".join(after), "\n".join(before)
