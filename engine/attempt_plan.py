"""What an attempt is to do on its host: steps, environment, caps, and the frozen files that judge it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from engine.config import Config, expand_command
from engine.config_sections import SMOKE_SECONDS
from engine.environment import trial_environment
from engine.post import Post
from engine.runners import AttemptPlan, Step
from engine.runners.allocations import allocation_environment
from engine.runners.far import send_file
from engine.store.rows import AttemptRow, TrialRow
from engine.types import Allocation, Purpose
from engine.workspace import Workspace

SMOKE_BUDGET, SMOKE_STEPS = 2, 2  # seconds and steps of a smoke run


@dataclass(frozen=True, slots=True)
class AttemptPlans:
    """Makes them from a campaign's versions; ``state`` keeps the frozen files of each."""

    workspace: Workspace
    state: Path

    async def of(self, trial: TrialRow, attempt: AttemptRow, post: Post, config: Config) -> AttemptPlan:
        """Raises HostFault where the frozen files cannot be put on the host."""
        allocation, grounds = allocation_of(attempt), post.grounds
        directory = directory_of(post, attempt)
        work = f"{directory}/work"
        environment = dict(
            trial_environment(
                config,
                grounds.project,
                Path(work),
                trial.seed,
                allocation_environment(allocation),
                grounds.inherited(),
                grounds.environment,
            )
        )
        values = {
            "seed": trial.seed,
            "seconds": f"{config.trial.train_seconds:.15g}",
            "steps": config.trial.steps,
            "gpus": len(allocation.devices),
            "port": allocation.port,
            "out": work,
        }
        deadline = float(config.trial.timeout_seconds)
        steps = []
        if config.trial.smoke and trial.purpose == Purpose.SCREEN:
            # First, with a tiny budget and nowhere to leave metrics: a broken candidate costs seconds.
            small = (
                f"export RATCHET_TIME_BUDGET={SMOKE_BUDGET} RATCHET_STEPS={SMOKE_STEPS} RATCHET_METRICS=/dev/null"
            )
            command = expand_command(config.trial.smoke, {**values, "seconds": SMOKE_BUDGET, "steps": SMOKE_STEPS})
            steps.append(Step("smoke", f"{small}\n{command}", min(deadline, SMOKE_SECONDS)))
        if config.trial.prepare:
            steps.append(Step("prepare", expand_command(config.trial.prepare, values), deadline))
        steps.append(Step("train", expand_command(config.trial.command, values), deadline))
        if config.trial.evaluate:
            # The frozen files come back from the base version before they judge: what training did to its
            # own copies does not count.
            environment["RATCHET_FROZEN"] = await self._frozen(trial.sha, post, config)
            command = expand_command(config.trial.evaluate, values)
            steps.append(Step("evaluate", f'tar -xf "$RATCHET_FROZEN" && {{ {command}\n}}', deadline))
        return AttemptPlan(
            directory=directory,
            token=attempt.token,
            steps=tuple(steps),
            environment=environment,
            allocation=allocation,
            wrap=post.host.containment.wrap,
            memory_bytes=int(config.trial.memory_gb * (1 << 30)),
            log_cap_bytes=int(config.trial.log_mb * (1 << 20)),
        )

    async def _frozen(self, sha: str, post: Post, config: Config) -> str:
        """A tar of the frozen files on the trial's host, named by the version: put there once, read by all."""
        made = await self._frozen_here(sha, config)
        if post.grounds.variables is None or post.grounds.transport is None:
            return str(made)
        sent = f"{post.grounds.root}/archives/{made.name}"
        await send_file(post.grounds.transport, sent, made.read_bytes())
        return sent

    async def _frozen_here(self, sha: str, config: Config) -> Path:
        globs = hashlib.sha256("\0".join(config.project.frozen).encode()).hexdigest()[:12]
        path = self.state / "archives" / f"frozen-{sha}-{globs}.tar"
        if not path.exists():
            files = await self.workspace.files(sha, config.project.frozen)
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                for name, content in sorted(files.items()):
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mode = len(content), 0o644
                    tar.addfile(entry, io.BytesIO(content))
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            partial.write_bytes(buffer.getvalue())
            partial.rename(path)
        return path


def allocation_of(attempt: AttemptRow) -> Allocation:
    """The allocation of a stored attempt."""
    values = dict(attempt.allocation)
    values["devices"] = tuple(values.get("devices", ()))
    values["cpus"] = tuple(values.get("cpus", ()))
    return Allocation(**values)


def directory_of(post: Post, attempt: AttemptRow) -> str:
    """Where the attempt lies on its host."""
    return f"{post.grounds.root}/{attempt.directory}"
