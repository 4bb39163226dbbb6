"""``ratchet doctor``: what this machine and this project have and lack, each with its mend.

Changes nothing: the proof of effect and the containment probe run in directories of their own.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine.checks import Check as Check
from engine.clock import Clock, RealClock
from engine.config import Config, load
from engine.effect import refusal
from engine.effect_run import interpreter_of, prove_checkout
from engine.environment import EnvironmentPaths, environment_key, trial_environment
from engine.errors import HostFault, RatchetError
from engine.host_checks import check_hosts, check_logout, device_names
from engine.kernel_check import check_kernel, imports_torch
from engine.project_tree import git, list_files
from engine.runners.allocations import NVIDIA_SMI, parse_devices, visible_devices
from engine.runners.transport import LocalTransport
from engine.sandbox import probe
from engine.state_folder import filesystem_of, read_mounts, state_folder

LOW_DISK_GB, NO_DISK_GB = 10.0, 1.0
OLDEST_GIT = (2, 38)  # `merge-tree --write-tree`


async def diagnose(project: Path, clock: Clock | None = None, effect_seconds: float = 120.0) -> list[Check]:
    """All checks, in order of what depends on what. A check that breaks is a finding, not an end."""
    clock = clock or RealClock()
    project = project.resolve()
    config, about_config = read_config(project)
    transport = LocalTransport(clock)
    try:
        checks = [check_git(project), about_config, check_python(), check_state(project)]
        later: list[tuple[str, Callable[[], Awaitable[Check]]]] = [
            ("devices", lambda: check_devices(transport, config)),
            ("containment", lambda: check_containment(clock, config)),
            ("logout", lambda: check_logout(transport)),
        ]
        if config is not None:
            later.append(("interpreter", lambda: check_interpreter(transport, config, project)))
            later.append(("kernel", lambda: check_torch(transport, config, project)))
            later.append(("effect", lambda: check_effect(config, project, clock, effect_seconds)))
        for name, check in later:
            try:
                checks.append(await check())
            except RatchetError as error:
                checks.append(Check(name, "fail", error.message, error.mend))
            except OSError as error:
                checks.append(Check(name, "fail", str(error), "see the error; the other checks went on"))
        if config is not None:
            checks += await check_hosts(config, project, clock)
        return checks
    finally:
        await transport.close()


def read_config(project: Path) -> tuple[Config | None, Check]:
    try:
        config = load(project)
    except RatchetError as error:
        return None, Check("ratchet.toml", "fail", error.message, error.mend)
    if missing := config.unsupported():
        detail = "asks for what this version does not do yet: " + "; ".join(missing)
        return config, Check("ratchet.toml", "fail", detail, "take it out")
    return config, Check("ratchet.toml", "ok", f"{config.metric.goal} {config.metric.name}")


def check_git(project: Path) -> Check:
    version = git(project, "version")
    if version is None:
        return Check("git", "fail", "git is not installed, or not on PATH", "install git")
    words = version.split()[2].split(".")
    if tuple(int(word) for word in words[:2] if word.isdigit()) < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        return Check("git", "fail", version.strip(), f"install git {oldest} or newer")
    if git(project, "rev-parse", "--git-dir") is None:
        return Check("git", "fail", f"{project} is in no git repository", "git init && git add -A && git commit")
    if git(project, "rev-parse", "--verify", "HEAD") is None:
        return Check("git", "fail", "the repository has no commit yet", "git add -A && git commit")
    return Check("git", "ok", f"{version.strip()}, {len(list_files(project))} files")


def check_python() -> Check:
    detail = f"Ratchet runs on {platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    return Check("python", "ok", detail)


def check_state(project: Path) -> Check:
    """Where the store is, on what kind of disk, and whether there is room."""
    try:
        folder = state_folder(project)
    except RatchetError as error:
        return Check("disk", "fail", error.message, error.mend)
    existing = next(path for path in (folder.path, *folder.path.parents) if path.exists())
    kind = filesystem_of(existing.resolve(), read_mounts()).kind
    free = shutil.disk_usage(existing).free / 1e9
    detail = f"state in {folder.why}, {kind}, {free:.0f} GB free"
    if not os.access(existing, os.W_OK):
        return Check("disk", "fail", f"{detail}, not writable", f"make {existing} writable for you")
    if free < NO_DISK_GB:
        return Check("disk", "fail", detail, "free some space: the history and every trial's log go there")
    if kind == "tmpfs":
        return Check("disk", "warn", detail, "this disk is memory: the history is lost when the machine restarts")
    if free < LOW_DISK_GB:
        return Check("disk", "warn", detail, "free some space, or lower [storage] max_gb")
    return Check("disk", "ok", detail)


async def check_devices(transport: LocalTransport, config: Config | None) -> Check:
    """What ``nvidia-smi`` shows. No device is fine: trials then run on CPU cores."""
    wanted = config.trial.gpus if config else 0
    if shutil.which("nvidia-smi") is None:
        return Check("devices", "ok", f"no nvidia-smi: trials run on the {os.cpu_count()} CPU cores")
    shown = await transport.run(NVIDIA_SMI)
    if shown.code != 0 and b"No devices" not in shown.stdout + shown.stderr:
        return Check(
            "devices", "fail", f"nvidia-smi: {shown.complaint}", "mend the driver, or set [trial] gpus = 0"
        )
    every = parse_devices(shown.stdout.decode(errors="replace"))
    seen = visible_devices(every, os.environ.get("CUDA_VISIBLE_DEVICES"))
    names = device_names(seen)
    hidden = f"; CUDA_VISIBLE_DEVICES hides {len(every) - len(seen)}" if len(seen) < len(every) else ""
    if seen and wanted > len(seen):
        mend = f"set [trial] gpus to {len(seen)} or less"
        return Check("devices", "fail", f"{names}{hidden}; a trial asks for {wanted}", mend)
    return Check("devices", "ok", f"{names}{hidden}")


async def check_containment(clock: Clock, config: Config | None) -> Check:
    """Which rung was proved here, against what ratchet.toml requires."""
    try:
        found = await probe(clock)
    except HostFault as error:
        return Check("containment", "fail", error.message, error.mend)
    refused = "".join(f"; not {kind}: {why}" for kind, why in found.refused.items())
    detail = f"{found.kind}: {found.proof}{refused}"
    required = config.sandbox.require if config else ("processes",)
    if found.kind == "sweep" and "processes" in required:
        mend = "allow user namespaces (util-linux's unshare), or set [sandbox] require = []"
        return Check("containment", "fail", detail, mend)
    return Check("containment", "warn" if found.kind == "sweep" else "ok", detail)


async def check_interpreter(transport: LocalTransport, config: Config, project: Path) -> Check:
    """Whether the Python that the command names starts with a trial's variables. torch may be absent."""
    if config.environment.setup:
        environment_key(config, project)  # raises when a lock file is missing
        return Check("interpreter", "ok", f"built once by `{config.environment.setup}` before the first trial")
    environment = trial_environment(config, project, project, 0, {}, os.environ)
    argv = interpreter_of(config.trial.command, environment["PATH"], project)
    if (
        argv[0] == "uv"
        and "UV_PROJECT_ENVIRONMENT" in environment
        and shutil.which("uv", path=environment["PATH"])
    ):
        argv = [environment["UV_PROJECT_ENVIRONMENT"] + "/bin/python"]  # uv itself would look at the files
    program = shutil.which(argv[0], path=environment["PATH"]) if "/" not in argv[0] else str(project / argv[0])
    if program is None or not os.access(program, os.X_OK):
        mend = 'choose it: [environment] path = [".venv/bin"], or its whole path in [trial] command'
        return Check("interpreter", "fail", f"{argv[0]} is not on a trial's PATH", mend)
    asked = [
        "env", "-i", f"PATH={environment['PATH']}", "HOME=/nonexistent", "PYTHONDONTWRITEBYTECODE=1",
        program, *argv[1:], "-c", _ABOUT,
    ]  # fmt: skip
    answer = await transport.run(asked, seconds=60.0)
    if answer.code != 0:
        return Check(
            "interpreter", "fail", f"{program}: {answer.complaint}", "mend that Python, or choose another"
        )
    return Check("interpreter", "ok", f"{program}: {answer.stdout.decode(errors='replace').strip()}")


async def check_torch(transport: LocalTransport, config: Config, project: Path) -> Check:
    """A product on every device of this machine, with a trial's variables and the caller's devices."""
    environment = trial_environment(config, project, project, 0, {}, os.environ)
    passed = [f"{name}={environment[name]}" for name in ("PATH", "LD_LIBRARY_PATH") if name in environment]
    passed += [f"{name}={os.environ[name]}" for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ]
    before = ["env", "-i", *passed, "HOME=/nonexistent", "PYTHONDONTWRITEBYTECODE=1"]
    devices = None
    if shutil.which("nvidia-smi") is not None and (shown := await transport.run(NVIDIA_SMI)).code == 0:
        every = parse_devices(shown.stdout.decode(errors="replace"))
        devices = len(visible_devices(every, os.environ.get("CUDA_VISIBLE_DEVICES")))
    needs = imports_torch(config, project)
    return await check_kernel(
        "kernel", config, transport, str(project), before, devices=devices, needs_torch=needs
    )


_ABOUT = """
import importlib.util, platform
names = [n for n in ("torch", "numpy", "jax") if importlib.util.find_spec(n)]
print("Python " + platform.python_version() + ", " + (", ".join(names) or "without torch"))
"""


async def check_effect(config: Config, project: Path, clock: Clock, limit: float) -> Check:
    """That edits reach the run: see ``engine.effect``."""
    if config.environment.setup:
        state = state_folder(project).path / "environments" / environment_key(config, project)
        if not (state / "ready").is_file():
            return Check(
                "effect", "warn", "the environment is not built yet", "it is proved when a campaign starts"
            )
        paths = EnvironmentPaths(
            state.name, (str(state / "venv" / "bin"),), (("VIRTUAL_ENV", str(state / "venv")),)
        )
    else:
        paths = EnvironmentPaths()
    effects = await prove_checkout(config, project, clock, paths, limit)
    if not effects:
        return Check(
            "effect", "fail", "no file matches [project] edit", "name the files that proposals may change"
        )
    if why := refusal(effects):
        first = next(effect for effect in effects if not effect.unproven)
        return Check("effect", "fail", why.split("\n")[0] + f": {first.evidence}", first.mend)
    reached = [effect.path for effect in effects if effect.reached]
    missed = [effect for effect in effects if not (effect.reached or effect.unproven)]
    unproven = [effect.path for effect in effects if effect.unproven]
    detail = f"edits of {', '.join(reached) or 'nothing'} reach the run"
    if unproven:
        detail += f"; not Python, so not proven: {', '.join(unproven)}"
    if missed:
        detail += "; " + "; ".join(f"{effect.path}: {effect.evidence}" for effect in missed)
        return Check("effect", "warn", detail, missed[0].mend)
    return Check("effect", "ok", detail)
