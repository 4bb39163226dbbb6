"""Whether the programs that ratchet.toml names are there at all, asked before any device time is spent.

The proof of effect runs the training command, so a missing one shows there too; a missing evaluation would
show only after a whole training run.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from engine.config import Config
from engine.environment import EnvironmentPaths, trial_environment
from engine.errors import UsageError

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


def first_program(command: str) -> str | None:
    """The word that a shell would look for first; None when only the shell itself can tell."""
    try:
        lexer = shlex.shlex(command.strip(), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return None
    for word in words:
        if _ASSIGNMENT.fullmatch(word):
            continue
        # "(", "$RUNNER", "{gpus}" and the like: not a name to look up
        return word if re.fullmatch(r"[\w./+~-]+", word) and not word.startswith("~") else None
    return None


async def refuse_missing(config: Config, project: Path, paths: EnvironmentPaths) -> None:
    """Raise UsageError when the first program of a step is not on a trial's PATH.

    Paths inside the project are left to the run itself: an earlier step may make them.
    """
    environment = trial_environment(config, project, project, 0, {}, os.environ, paths)
    trial = config.trial
    for key, command in (("prepare", trial.prepare), ("command", trial.command), ("evaluate", trial.evaluate)):
        word = first_program(command)
        if word is None or ("/" in word and not word.startswith("/")):
            continue
        if not await asyncio.to_thread(_is_there, word, environment):
            raise UsageError(
                f"[trial] {key}: the program {word!r} is not on a trial's PATH ({environment['PATH']})",
                'install it, name its folder in [environment] path = [".venv/bin"], or write its whole path',
            )


def _is_there(word: str, environment: Mapping[str, str]) -> bool:
    # The shell itself is asked: it knows its builtins and reserved words (cd, exec, if) as well.
    asked = ["/bin/sh", "-c", 'command -v -- "$1" >/dev/null', "sh", word]
    done = subprocess.run(
        asked, env=dict(environment), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0
