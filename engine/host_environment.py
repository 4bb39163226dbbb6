"""``[environment] setup`` on a host that is elsewhere: built there once for each content of the lock files."""

from __future__ import annotations

import asyncio
import logging
import secrets
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from engine.config import Config
from engine.environment import SETUP_SECONDS, EnvironmentPaths, environment_key
from engine.errors import HostFault
from engine.project_tree import list_files
from engine.runners import Host
from engine.runners.transport import Transport

log = logging.getLogger("ratchet.hosts")

# A connection that breaks runs this again while the first may still be at work: the lock makes it wait.
SETUP = """
folder=$1 fresh=$2 command=$3
shift 3
exec 9>"$folder/lock" && flock 9 || exit 1
[ -f "$folder/ready" ] && rm -rf "$folder"/source-* && exit 0
chmod -R u+w "$folder/venv" "$folder/source" 2>/dev/null
rm -rf "$folder/venv"
# The files of today, in their one place: those that failed yesterday may have been mended.
if [ -d "$fresh" ]; then
    rm -rf "$folder/source" && mv "$fresh" "$folder/source" || exit 1
fi
rm -rf "$folder"/source-*
cd "$folder/source/work" || exit 1
if ! env "$@" PATH="$folder/venv/bin:$PATH" sh -c "$command" >"$folder/setup.log" 2>&1 </dev/null 9>&-; then
    tail -n 12 "$folder/setup.log" >&2
    exit 1
fi
[ ! -d "$folder/venv" ] || chmod -R a-w "$folder/venv"
: >"$folder/ready"
"""


async def ensure_environment_there(
    config: Config,
    project: Path,
    host: Host,
    transport: Transport,
    root: str,
    key: str,
    tell: Callable[[str], None],
) -> EnvironmentPaths:
    """As ``environment.ensure_environment``, on ``host`` below ``root``. Raises HostFault with the log's end.

    ``key``: of the environment that the engine's trials have, though files may have changed since; "" = none.
    """
    if not key:
        return EnvironmentPaths()
    folder = f"{root}/environments/{key}"
    venv = f"{folder}/venv"
    variables = {"VIRTUAL_ENV": venv, "UV_PROJECT_ENVIRONMENT": venv}
    if (await transport.run(["test", "-f", f"{folder}/ready"])).code != 0:
        if environment_key(config, project) != key:
            raise HostFault(
                f"{host.name}: the files of [environment] key have changed since the engine started",
                "`ratchet stop`, then `ratchet start`: all trials then get the new environment",
            )
        doing = f"building its environment: {config.environment.setup} (its output: {folder}/setup.log there)"
        log.info("host %s: %s", host.name, doing)
        tell(doing)
        fresh = f"{folder}/source-{secrets.token_hex(8)}"
        with tempfile.TemporaryDirectory(prefix="ratchet-source-") as temporary:
            archive = Path(temporary, "source.tar")
            await asyncio.to_thread(_pack, project, archive)
            await host.stage(fresh, str(archive), {})
        given = [f"{name}={value}" for name, value in {**config.environment.set, **variables}.items()]
        done = await transport.run(
            ["sh", "-c", SETUP, "sh", folder, fresh, config.environment.setup, *given], seconds=SETUP_SECONDS
        )
        if done.code != 0:
            tail = done.stderr.decode("utf-8", "replace").strip()
            raise HostFault(
                f"{host.name}: [environment] setup failed: {config.environment.setup}\n{tail}",
                f"run it by hand there; the whole output is in {folder}/setup.log",
            )
    return EnvironmentPaths(key, (f"{venv}/bin",), (*variables.items(), ("UV_NO_SYNC", "1")))


def _pack(project: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        for name in list_files(project):
            tar.add(project / name, arcname=str(name), recursive=False)
