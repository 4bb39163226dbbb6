"""Real engines whose proposer is Claude, against the stand-in over HTTP: small projects, scripted models."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.project_factory import git, make_project
from tests.standin.script import Answer, Body, Text, Thinking, ToolUse, Turn

KEY = "sk-ant-api03-canary-0123456789abcdef"
EDITOR = "str_replace_based_edit_tool"
SUBMISSION: Mapping[str, Any] = {
    "hypothesis": "The level matters.",
    "expected_effect": -1.0,
    "effect_reason": "as large as the step",
    "refuted_by": "a val_loss that does not fall",
    "kind": "other",
    "despite": "",
}


def make(folder: Path, *, limits: str = "dollars = 5.0", proposer: str = "", **settings: Any) -> Path:
    """The tiny project of ``project_factory`` with Claude as its proposer."""
    project = make_project(folder, **settings)
    file = project / "ratchet.toml"
    text = re.sub(r'kind = "command"\ncommand = .*\n', f'kind = "claude"\n{proposer}\n', file.read_text())
    file.write_text(text + f"[limits]\n{limits}\n")
    git(project, "commit", "-qam", "claude proposes")
    return project


def ratchet(
    *arguments: str, at: Path, url: str, key: str = KEY, seconds: float = 150
) -> subprocess.CompletedProcess[str]:
    """The command as a person calls it, with the key in the environment as the README says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANTHROPIC_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "console.cli", *arguments],
        cwd=at,
        env={**environment, "ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def level_in(body: Body) -> float:
    """LEVEL in the incumbent's train.py, as the prompt shows it."""
    return float(re.findall(r"LEVEL = ([-0-9.]+)", str(body["messages"][0]))[-1])


def number_in(body: Body) -> int:
    """A number of its own for each proposal, from the prompt."""
    found = re.search(r"#(\d+)", str(body["messages"][0]["content"][-1]))
    return int(found[1]) if found else 0


def replace_level(old: float, new: float, path: str = "train.py") -> ToolUse:
    words = {"command": "str_replace", "path": path, "old_str": f"LEVEL = {old:g}", "new_str": f"LEVEL = {new:g}"}
    return ToolUse(EDITOR, words)


def submit(title: str) -> ToolUse:
    return ToolUse("submit", {"title": title, **SUBMISSION})


class LevelResearcher:
    """Lowers the level, or raises it, in turn: every second proposal is a true gain."""

    def __init__(self) -> None:
        self.proposals = 0

    def __call__(self, body: Body, n: int) -> Answer:
        answers = sum(message["role"] == "assistant" for message in body["messages"])
        level = level_in(body)
        if answers == 0:
            self.proposals += 1
            new = level - 1 if self.proposals % 2 else level + self.proposals
            return Turn([Thinking("The level. "), Text(f"Set it to {new:g}."), replace_level(level, new)])
        if answers == 1:
            return Turn([ToolUse("check", {})])
        return Turn([submit(f"level, try {self.proposals}")])
