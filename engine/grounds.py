"""Where trials live on a host, and what they find there: the host's own root, project, HOME and variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.config import Config
from engine.environment import EnvironmentPaths, data_links
from engine.runners.transport import Transport


@dataclass(frozen=True, slots=True)
class Grounds:
    """All paths are the host's own, absolute.

    ``local``: the root is this engine's state folder, so that a trial's log is at hand for everybody who reads it.
    ``variables``: the environment that trials inherit from; None is this process's own, as it is when asked.
    """

    root: str
    project: Path
    home: Path
    local: bool = True
    variables: Mapping[str, str] | None = None
    environment: EnvironmentPaths = field(default_factory=EnvironmentPaths)
    transport: Transport | None = None  # the way to its machine, for commands that are no trial's

    @classmethod
    def here(cls, state: Path, project: Path, environment: EnvironmentPaths | None = None) -> Grounds:
        return cls(str(state), project, Path.home(), environment=environment or EnvironmentPaths())

    def inherited(self) -> Mapping[str, str]:
        return os.environ if self.variables is None else self.variables

    def links(self, config: Config) -> dict[str, str]:
        """``Host.stage``'s links for [data]. On another machine nobody looked whether the targets are there."""
        if self.variables is None:
            return data_links(config, self.project, self.home)
        links: dict[str, str] = {}
        for path in config.data.visible:
            if path.startswith("~/"):
                links[f"../home/{path[2:].rstrip('/')}"] = f"{self.home}/{path[2:]}"
            elif not path.startswith("/"):
                links[path.removeprefix("./").rstrip("/")] = f"{self.project}/{path}"
        return links
