"""A brief in Claude's words, under a token budget, in the order in which a prompt cache can read it.

``system`` never changes during a campaign; ``history`` only grows at its end (``engine.condensing``); ``files``
change with a keep; ``task`` is new each time. Everything that others wrote stands in a fence. Pure, but for
the loader of the templates (``PromptSet.load``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from engine.condensing import blocks, condense
from engine.fencing import PERSON, code, fence, head, hidden, tokens
from engine.prompt_task import task
from engine.prompt_templates import PromptSet, Template
from engine.prompt_watching import PromptWatcher
from engine.scope import matches
from engine.types import Brief, Goal

__all__ = ["Prompt", "PromptSet", "PromptWatcher", "Template", "render", "tokens"]

BRIEF_TOKENS = 60_000
LEAST = 3_600  # tokens for what varies that even the smallest budget gives, beside the prompts' own words
TASK_SHARE = 1 / 4  # of them: kept free for the task
HISTORY_SHARE = 1 / 8  # at least: the rest goes to the files first, for they are what is edited
GRAIN = 16  # the history's part moves in such fractions of the budget, so that a small edit does not move it


@dataclass(frozen=True, slots=True)
class Prompt:
    """The parts in the order in which they are sent; each may end in a cache breakpoint.

    Each block of ``history`` is to be a content block of its own: with a breakpoint on the last one, a prompt
    with one block more still finds the earlier entry.
    """

    system: str
    history: tuple[str, ...]  # complete blocks of older experiments
    files: str
    task: str

    @property
    def tokens(self) -> int:
        """The estimate for all of it (``fencing.tokens``)."""
        return sum(tokens(part) for part in (self.system, *self.history, self.files, self.task))


def render(brief: Brief, prompts: PromptSet, brief_tokens: int = BRIEF_TOKENS) -> Prompt:
    """The prompt of ``brief``, at most ``brief_tokens`` by the estimate.

    The floor: the prompts' own words, and LEAST tokens beside them. Raises ConfigError when a template does not
    fit the variables, which ``PromptSet.load`` rules out.
    """
    system = prompts.system.render(_system(brief))
    template = prompts.propose if brief.failure is None else prompts.repair
    room = max(LEAST, brief_tokens - tokens(system) - tokens(template.text))
    files = _files(brief, int(room * (1 - TASK_SHARE - HISTORY_SHARE)))
    grain = room // GRAIN
    taken = -(-tokens(files) // grain) * grain
    complete, rest = blocks(brief.history)
    history = condense(complete, max(int(room * HISTORY_SHARE), int(room * (1 - TASK_SHARE)) - taken))
    left = room - tokens(files) - sum(map(tokens, history))
    return Prompt(system, history, files, task(brief, template, rest, left + tokens(template.text)))


# --- what stays the same ------------------------------------------------------------------------------


def _system(brief: Brief) -> dict[str, str]:
    budget = "fixed, in steps; the project's files say how it is counted"
    if brief.trial_seconds:
        budget = (
            f"fixed: {brief.trial_seconds:g} seconds of training, unless the project's files count it otherwise"
        )
    return {
        "metric": code(brief.metric),
        "direction": "lower is better" if brief.goal is Goal.MINIMIZE else "higher is better",
        "editable": _globs(brief.editable) or "none",
        "frozen": _globs(brief.frozen) or "none are named",
        "constraints": "; ".join(code(text) for text in brief.constraints) or "none",
        "budget": budget,
    }


def _globs(patterns: Sequence[str]) -> str:
    return ", ".join(code(pattern) for pattern in patterns)


# --- files --------------------------------------------------------------------------------------------


def _files(brief: Brief, budget: int) -> str:
    """Instructions first, then editable, context and frozen files, each by path; what does not fit is cut."""
    parts = [f"# The files as they are now (version {brief.base[:12]})"]
    left = budget - tokens(parts[0]) - 60  # room for the names of what does not fit
    ranked = sorted(brief.files, key=lambda path: (_rank(brief, path), path))
    unseen = []
    for path in ranked:
        part = _file(brief, path, left)
        if part is None:
            unseen.append(path)
            continue
        parts.append(part)
        left -= tokens(part) + 1
    if unseen:
        names = ", ".join(code(path) for path in unseen)
        parts.append(head(f"{len(unseen)} files not shown for want of room, view them: {names}", max(50, left)))
    return "\n\n".join(parts) + "\n"


def _rank(brief: Brief, path: str) -> int:
    if matches(brief.editable, path):
        return 1
    if _is_instructions(path):
        return 0
    return 3 if matches(brief.frozen, path) else 2


def _is_instructions(path: str) -> bool:
    """autoresearch's convention. Never an editable file: a proposal must not write its own instructions."""
    return PurePosixPath(path).name.lower() == "program.md"


def _file(brief: Brief, path: str, budget: int) -> str | None:
    content = brief.files[path]
    rank = _rank(brief, path)
    role = ("instructions", "editable", "context", "frozen: never change it")[rank]
    label = f"{code(path)}: {role}"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return f"{code(path)}: {role}; {len(content):,} bytes, not UTF-8 text, not shown"
    if unseen := hidden(text):
        label += f"; {unseen} characters that do not show are left out"
    standing = {"standing": PERSON} if rank == 0 else {}
    whole = fence(text, label, **standing)
    if tokens(whole) <= budget:
        return whole
    lines = text.count("\n") + 1
    label += f"; its beginning, {lines} lines in all: view the rest"
    room = budget - tokens(fence("", label, **standing)) - 20
    return fence(head(text, room), label, **standing) if room >= 60 else None
