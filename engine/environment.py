"""What a trial finds around it: its variables, the software it runs with, the data linked beside it.

``trial_environment`` and ``data_links`` are pure. ``ensure_environment`` runs the user's own setup command,
once for each content of the lock files.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.clock import Clock
from engine.config import Config, expand
from engine.errors import RatchetError
from engine.project_tree import copy_files, list_files
from engine.variables import is_secret

METRICS_FILE = "metrics.jsonl"
SETUP_SECONDS = 3600.0

# What passes from the engine's environment. A list of what may pass, never of what may not: a key has a
# thousand names (TRUST.md row 12). HOME and TMPDIR are the attempt's own and come from its runner.
_PASS = re.compile(
    r"PATH|LANG|LANGUAGE|LC_\w+|TZ|USER|LOGNAME|LD_LIBRARY_PATH|LIBRARY_PATH|CPATH|CUDA_(HOME|PATH|ROOT)|"
    r"CONDA_(PREFIX|DEFAULT_ENV)|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NVIDIA_\w+|ROCM_\w+"
)


@dataclass(frozen=True, slots=True)
class EnvironmentPaths:
    """A built environment. ``path`` goes first on PATH, ``variables`` to every trial."""

    key: str = ""  # hash of the setup command and the lock files; "" when nothing was built
    path: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


def trial_environment(
    config: Config,
    project_dir: Path,
    work_dir: Path,
    seed: int,
    allocation_env: Mapping[str, str],
    base_environ: Mapping[str, str],
    paths: EnvironmentPaths | None = None,
) -> dict[str, str]:
    """All variables of a trial but HOME and TMPDIR; nothing else is inherited.

    ``work_dir`` holds the candidate's files. Its root and ``src/`` come first on PYTHONPATH, before any
    installed package: else an editable install would import the user's checkout, and every candidate
    would be the baseline.
    """
    paths = paths or EnvironmentPaths()
    section, trial = config.environment, config.trial
    given = {
        name: value
        for name, value in base_environ.items()
        if (_PASS.fullmatch(name) or name in section.pass_) and not is_secret(name)
    }
    home = base_environ.get("HOME", "")
    if home and any(Path(home, ".local", "lib").glob("python3*")):
        given["PYTHONUSERBASE"] = str(Path(home, ".local"))  # `pip install --user`, with a HOME that is not there
    values = {
        "seed": seed,
        "seconds": f"{trial.train_seconds:.15g}",
        "steps": trial.steps,
        "gpus": trial.gpus,
        "port": allocation_env.get("RATCHET_PORT", allocation_env.get("MASTER_PORT", "0")),
        "out": work_dir,
    }
    chosen = {name: expand(text, values) for name, text in section.set.items()}
    environment = {
        **given,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # shared environments stay as they are
        "PYTHONHASHSEED": str(seed % 2**32),  # set order is part of the seed, not a noise of its own
        "TERM": "dumb",
        **_project_environment(config, project_dir),
        **dict(paths.variables),
        **chosen,
        **allocation_env,
        "RATCHET_SEED": str(seed),
        "RATCHET_TIME_BUDGET": f"{trial.train_seconds:.15g}",
        "RATCHET_TRIAL_DIR": str(work_dir),
        "RATCHET_METRICS": str(work_dir / METRICS_FILE),
    }
    if trial.steps:
        environment["RATCHET_STEPS"] = str(trial.steps)
    environment["PYTHONPATH"] = _python_path(project_dir, work_dir, environment.get("PYTHONPATH", ""))
    first = [*(str(project_dir / entry) for entry in section.path), *paths.path]
    environment["PATH"] = os.pathsep.join([*first, environment.get("PATH", "") or os.defpath])
    return environment


def _project_environment(config: Config, project: Path) -> dict[str, str]:
    """The project's own virtual environment, named to the tools that would look for it beside the files."""
    found: dict[str, str] = {}
    for entry in config.environment.path:
        folder = (project / entry).parent
        if (folder / "pyvenv.cfg").is_file():
            found["VIRTUAL_ENV"] = str(folder)
            break
    uses_uv = (project / "uv.lock").is_file() or re.search(r"\buvx?\b", config.trial.command)
    if uses_uv and (project / ".venv" / "pyvenv.cfg").is_file():
        # Otherwise `uv run` would build an environment for each trial, or change the user's own.
        found |= {"UV_PROJECT_ENVIRONMENT": str(project / ".venv"), "UV_NO_SYNC": "1"}
    return found


def _python_path(project: Path, work: Path, rest: str) -> str:
    """The candidate first; an entry inside the user's checkout becomes the candidate's own."""
    entries = [str(work), str(work / "src")]
    for entry in filter(None, rest.split(os.pathsep)):
        path = Path(entry)
        if path.is_absolute() and path.is_relative_to(project):
            path = path.relative_to(project)
        entries.append(os.path.normpath(work / path))
    return os.pathsep.join(dict.fromkeys(entries))


def data_links(config: Config, project: Path, home: Path) -> dict[str, str]:
    """Links that a trial needs: path relative to its work directory -> absolute target.

    ``data/`` of the project appears in the work directory; ``~/.cache/x`` of ``home`` in the attempt's own
    HOME, which stands beside it (``../home/.cache/x``). An absolute path needs no link. What does not
    exist is left out: the trial then says so in its own words.
    """
    links: dict[str, str] = {}
    for path in config.data.visible:
        if path.startswith("~/"):
            target, place = home / path[2:], f"../home/{path[2:].rstrip('/')}"
        elif Path(path).is_absolute():
            continue
        else:
            target, place = project / path, path.removeprefix("./").rstrip("/")
        if target.exists():
            links[place] = str(target.resolve())
    return links


def split_place(place: str) -> tuple[str, str]:
    """A key of ``data_links`` -> which directory of the attempt (work or home), and the path inside it."""
    inner = place.removeprefix("../home/")
    return ("work" if inner == place else "home"), inner


# --- building ------------------------------------------------------------------------------------


def environment_key(config: Config, project: Path) -> str:
    """Hash of all that decides what setup builds. Raises RatchetError for a lock file that is missing."""
    digest = hashlib.sha256(
        json.dumps([config.environment.setup, config.environment.set], sort_keys=True).encode()
    )
    for pattern in config.environment.key:
        found = sorted(path for path in project.glob(pattern) if path.is_file())
        if not found:
            raise RatchetError(f'[environment] key: no file matches "{pattern}"', "commit it, or take it out")
        for path in found:
            content = hashlib.sha256(path.read_bytes()).digest()
            digest.update(path.relative_to(project).as_posix().encode() + b"\0" + content)
    return digest.hexdigest()[:16]


async def ensure_environment(config: Config, project: Path, state: Path, clock: Clock) -> EnvironmentPaths:
    """Build the environment of ``[environment] setup`` unless it is there. Raises RatchetError.

    The command runs in a copy of the files, with VIRTUAL_ENV and UV_PROJECT_ENVIRONMENT naming the place to
    build in. It is built where it will stay, since scripts of a virtual environment hold absolute paths;
    ``ready``, written last, says that it is whole.
    """
    if not config.environment.setup.strip():
        return EnvironmentPaths()
    key = environment_key(config, project)
    folder = state / "environments" / key
    venv, ready, log = folder / "venv", folder / "ready", folder.with_suffix(".log")
    variables = {"VIRTUAL_ENV": str(venv), "UV_PROJECT_ENVIRONMENT": str(venv)}
    if not ready.is_file():
        remove_environment(folder)  # an earlier attempt that was cut short
        source = folder / "source"
        source.mkdir(parents=True)
        copy_files(project, list_files(project), source)
        path = os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", os.defpath)])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
        inherited.pop("PYTHONPATH", None)
        code = await _run(
            config.environment.setup,
            source,
            {**inherited, **config.environment.set, **variables, "PATH": path},
            log,
            clock,
        )
        if code != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            how = "took longer than an hour" if code is None else f"ended with {code}"
            raise RatchetError(
                f"[environment] setup {how}: {config.environment.setup}\n{tail}",
                f"run it by hand in a fresh clone; the whole output is in {log}",
            )
        _make_read_only(venv)
        ready.touch()
    return EnvironmentPaths(key, (str(venv / "bin"),), (*variables.items(), ("UV_NO_SYNC", "1")))


async def _run(command: str, cwd: Path, environment: Mapping[str, str], log: Path, clock: Clock) -> int | None:
    """Exit code, or None when it ran out of time; everything it started in its session is ended."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command,
            cwd=cwd, env=dict(environment), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        return await clock.timeout(process.wait(), SETUP_SECONDS)
    except TimeoutError:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        await process.wait()


def _make_read_only(folder: Path) -> None:
    """One candidate must not change what the next one imports (root may, and so needs the sandbox)."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)


def remove_environment(folder: Path) -> None:
    """Delete a built environment, read-only as it is."""
    if not folder.is_dir():
        return
    for where, _, _ in os.walk(folder):
        Path(where).chmod(0o700)
    shutil.rmtree(folder)
