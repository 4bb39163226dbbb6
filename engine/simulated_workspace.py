"""Versions of one imagined train.py in memory, in the place of git: for `ratchet simulate`.

The program is KNOBS constants. What a setting of a knob is worth derives from the seed, so a version's true score
is known from its text, and merges are those of real lines.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from pathlib import Path

from engine.clock import Clock
from engine.refs import Advance
from engine.scope import Scope
from engine.simulated_host import SimulatedHost
from engine.types import FileChange
from engine.workspace import Candidate, FileStat, Workspace

KNOBS = 200
VALUES = 10_000  # settings that a knob can have
GAIN, HARM = 5.0, 1.0  # of a good and of any other setting, in standard deviations of one run


class Worth:
    """What settings are truly worth; ``keep_rate`` of them are good."""

    def __init__(self, seed: int, keep_rate: float) -> None:
        self._seed, self._keep_rate = seed, keep_rate
        self._known: dict[str, float] = {}

    def of(self, text: str) -> float:
        """Standard deviations by which a program beats the untouched one."""
        turned = re.findall(r"^K(\d+) = ([1-9]\d*)$", text, re.MULTILINE)
        return sum(self._setting(f"{knob}/{value}") for knob, value in turned)

    def _setting(self, name: str) -> float:
        if name not in self._known:
            good = random.Random(f"{self._seed}/{name}").random() < self._keep_rate
            self._known[name] = GAIN if good else -HARM
        return self._known[name]


class SimulatedWorkspace(Workspace):
    """The part of ``Workspace`` that a conductor uses. Nothing is written anywhere; no git is asked."""

    def __init__(self, project: Path, clock: Clock) -> None:
        self.project, self.state, self._clock = project, project, clock
        self._texts: dict[str, bytes] = {}
        self.baseline = self._add("".join(f"K{n} = 0\n# {n} a\n# {n} b\n# {n} c\n" for n in range(KNOBS)).encode())

    def _add(self, text: bytes, salt: str = "") -> str:
        sha = hashlib.sha1(text + salt.encode(), usedforsecurity=False).hexdigest()
        self._texts[sha] = text
        return sha

    def text(self, sha: str) -> str:
        return self._texts[sha].decode()

    async def files(self, sha: str, globs: Sequence[str]) -> dict[str, bytes]:
        return {"train.py": self._texts[sha]} if "train.py" in globs else {}

    async def candidate(
        self, base: str, changes: Sequence[FileChange], scope: Scope, *, message: str, at: float
    ) -> Candidate:
        content = changes[0].content or b""
        sha = self._add(content, f"{base}{message}")
        return Candidate(sha, sha, (FileStat("train.py", 1, 1),))

    async def keep_commit(self, parent: str, tree_of: str, *, message: str, at: float) -> str:
        return self._add(self._texts[tree_of], f"{parent}{message}")

    async def diff(self, base: str, candidate: str, context: int = 3) -> str:
        return f"-{base}\n+{candidate}\n"

    async def hold(self, campaign: str, key: str, sha: str) -> None:
        pass

    async def advance(self, campaign: str, old: str | None, new: str) -> Advance:
        return Advance(new, campaign, True)

    async def archive(self, sha: str) -> Path:
        return Path("/", sha)


class ArchiveHost(SimulatedHost):
    """Stages no files: an archive's name says which version it is."""

    async def stage(self, directory: str, archive: str, links: object) -> None:
        self._reach()
        self.machine.attempt(directory).files = {"version": Path(archive).name}
