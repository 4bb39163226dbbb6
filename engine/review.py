"""By which rules a person is asked, and what happens when nobody answers ([review] of ratchet.toml). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import UsageError
from engine.scope import matches

_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+import\b|import\s+([\w.]+))")
_LINES = re.compile(r"(lines|added|removed|files)\s*(>=|>|<=|<)\s*(\d+)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ACTIONS = ("accept", "reject")


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What is decided for a person who says nothing for ``seconds``."""

    seconds: float
    action: str


def parse_unanswered(text: str) -> Unanswered | None:
    """``30m: reject`` or ``2h: accept``; a duration alone rejects, for silence is no consent. "" = wait.

    Raises UsageError.
    """
    if not text.strip():
        return None
    duration, _, action = (part.strip() for part in text.partition(":"))
    action = action or "reject"
    if action not in ACTIONS:
        raise UsageError(f'expected "accept" or "reject" after the colon, got "{action}"', 'e.g. "30m: reject"')
    found = _DURATION.fullmatch(duration)
    if not found or float(found[1]) <= 0:
        raise UsageError(f'expected a duration such as 90s, 30m or 2h, got "{duration}"', 'e.g. "30m: reject"')
    return Unanswered(float(found[1]) * _UNITS[found[2]], action)


def check_rule(rule: str) -> None:
    """Raises UsageError for what is no rule."""
    if rule == "new import" or _LINES.fullmatch(rule.strip()):
        return
    kind, colon, pattern = rule.partition(":")
    if kind.strip() == "paths" and colon and pattern.strip():
        matches((pattern.strip(),), "train.py")
        return
    raise UsageError(
        f'no rule: "{rule}"', 'rules are "lines > 80", "added > 50", "files > 1", "paths: data/**", "new import"'
    )


def asked(rules: Sequence[str], diff: str) -> str:
    """The first of ``rules`` that holds for a unified diff, as it was written; "" when none does."""
    facts = _facts(diff)
    return next((rule for rule in rules if _holds(rule.strip(), facts)), "")


@dataclass(frozen=True, slots=True)
class _Facts:
    files: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def _facts(diff: str) -> _Facts:
    files, added, removed = [], [], []
    in_hunk = False
    # Not splitlines, which splits at form feeds and the like too: what follows one would hide from the rules.
    for line in diff.split("\n"):
        if line.startswith("diff --git "):
            in_hunk = False
            files.append(line.rpartition(" b/")[2].rstrip('"'))
        elif line.startswith("@@"):
            in_hunk = True
        elif in_hunk and line.startswith("+"):
            added.append(line[1:])
        elif in_hunk and line.startswith("-"):
            removed.append(line[1:])
    return _Facts(tuple(files), tuple(added), tuple(removed))


def _holds(rule: str, facts: _Facts) -> bool:
    if rule == "new import":
        return bool(_imports(facts.added) - _imports(facts.removed))
    if found := _LINES.fullmatch(rule):
        counts = {
            "lines": len(facts.added) + len(facts.removed),
            "added": len(facts.added),
            "removed": len(facts.removed),
            "files": len(facts.files),
        }
        count, limit = counts[found[1]], int(found[3])
        return {">": count > limit, ">=": count >= limit, "<": count < limit, "<=": count <= limit}[found[2]]
    pattern = rule.partition(":")[2].strip()
    return any(matches((pattern,), path) for path in facts.files)


def _imports(lines: Sequence[str]) -> set[str]:
    # One line of a diff may be several of Python's, which a form feed or a bare carriage return divides.
    parts = (part for line in lines for part in line.splitlines())
    return {found[1] or found[2] for part in parts if (found := _IMPORT.match(part))}
