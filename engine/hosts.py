"""From ``[[hosts]]`` of ratchet.toml to the fleet: which kind of host each is, and where trials live on it."""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypedDict

from engine.clock import Clock
from engine.config import Config
from engine.config_sections import HostSection
from engine.environment import EnvironmentPaths, environment_key
from engine.errors import HostFault, UsageError
from engine.fleet import Fleet
from engine.grounds import Grounds
from engine.host_environment import ensure_environment_there
from engine.post import Post
from engine.runners import Containment, Host
from engine.runners.local import LocalHost
from engine.runners.transport import LocalTransport, Transport

DIRECTORY = "~/ratchet"  # on a host that is elsewhere
# NUL-separated, so that no value can be taken for a name.
ABOUT = """
printf 'HOME=%s\\0' "$HOME"
for d in "$HOME"/.local/lib/python3*; do [ -d "$d" ] && printf 'PYTHONUSERBASE=%s\\0' "$HOME/.local" && break; done
exec env -0
"""


def make_fleet(
    config: Config,
    project: Path,
    state: Path,
    clock: Clock,
    environment: EnvironmentPaths,
    check: Callable[[Containment], None],
) -> Fleet:
    """All hosts of the file, none opened yet. ``check`` raises for a containment that is too weak.

    Raises UsageError for what a host cannot be given.
    """
    posts, taken = [], False
    for section in config.hosts:
        refuse_lost_paths(config, section)
        # The state folder itself is the first local host's: its logs and artifacts are at hand there.
        at_state = not section.ssh and not section.directory and not taken
        taken = taken or at_state
        directory = str(state) if at_state else _directory(section, project, state)
        posts.append(_post(section, config, project, state, directory, clock, environment, check))
    return Fleet(posts, clock)


def refuse_lost_paths(config: Config, section: HostSection) -> None:
    """Raises UsageError where a host elsewhere is to find files of the project and nobody said where."""
    if not section.ssh or section.project:
        return
    data = [path for path in config.data.visible if not path.startswith(("~/", "/"))]
    paths = [path for path in config.environment.path if not path.startswith("/")]
    for key, found in (("[data]", data), ("[environment] path", paths)):
        if found:
            raise UsageError(
                f'host {section.name}: {key} names "{found[0]}" of this project: where is that there?',
                'add where the project lies on that host: project = "~/my-project", or write an absolute path',
            )


def is_local(section: HostSection) -> bool:
    """Whether its trials run on this machine's own processors and devices."""
    return not section.ssh and not section.slurm


def _directory(section: HostSection, project: Path, state: Path) -> str:
    """A directory of this project's own: trials of two projects have the same numbers."""
    if not section.ssh and not section.directory:
        return str(state / "hosts" / section.name)
    mark = hashlib.sha256(f"{socket.gethostname()}\0{state}".encode()).hexdigest()[:10]
    directory = f"{section.directory or DIRECTORY}/{project.name}-{mark}"
    return directory if section.ssh else str(Path(directory).expanduser().absolute())


def _post(
    section: HostSection,
    config: Config,
    project: Path,
    state: Path,
    directory: str,
    clock: Clock,
    environment: EnvironmentPaths,
    check: Callable[[Containment], None],
) -> Post:
    host, transport = make_host(section, config, directory, clock)
    # As the files are now: an engine's trials all have one environment, however often a host is opened anew.
    key = environment_key(config, project) if section.ssh and config.environment.setup.strip() else ""

    async def local(opened: Host, tell: Callable[[str], None]) -> Grounds:
        check(opened.containment)
        at_state = directory == str(state)
        return Grounds(directory, project, Path.home(), at_state, environment=environment, transport=transport)

    async def distant(opened: Host, tell: Callable[[str], None]) -> Grounds:
        check(opened.containment)
        return await survey(section, config, project, opened, transport, key, tell)

    prepare: Callable[[Host, Callable[[str], None]], Awaitable[Grounds]] = distant if section.ssh else local
    sort = "slurm" if section.slurm else "ssh" if section.ssh else "local"
    return Post(host, prepare, section.usd_per_hour, section.foreign == "avoid", sort)


class Shape(TypedDict):
    """What a host's machine is cut into, as LocalHost and RemoteHost name it."""

    gpus_per_trial: int
    slots: int | None
    trials_per_device: int


def make_host(section: HostSection, config: Config, directory: str, clock: Clock) -> tuple[Host, Transport]:
    """The host of a section, with trials under ``directory``, and the way to its machine."""
    gpus, slots = (0, None) if section.slurm else (config.trial.gpus, section.slots or None)
    shape = Shape(gpus_per_trial=gpus, slots=slots, trials_per_device=section.trials_per_device)
    transport: Transport
    files: Host
    if section.ssh:
        from engine.runners.remote import RemoteHost
        from engine.runners.ssh import SshTransport

        *options, name = shlex.split(section.ssh)
        transport = connection = SshTransport(name, clock, options)
        files = remote = RemoteHost(section.name, connection, directory, clock, **shape)
        keeper: RemoteHost | LocalHost = remote
    else:
        transport = LocalTransport(clock)
        files = keeper = LocalHost(section.name, Path(directory), clock, **shape)
    if not section.slurm:
        return files, transport
    from engine.runners.slurm_attempt import allowance_of
    from engine.runners.slurm_host import SlurmHost
    from engine.runners.slurm_options import parse_options

    return SlurmHost(
        section.name,
        keeper,
        transport,
        parse_options(section.slurm),
        clock,
        slots=section.slots or 1,
        allocation="" if section.ssh else os.environ.get("SLURM_JOB_ID", ""),
        needs=allowance_of(config.trial.deadlines(smoke=True)),
    ), transport


async def survey(
    section: HostSection,
    config: Config,
    project: Path,
    host: Host,
    transport: Transport,
    key: str,
    tell: Callable[[str], None],
) -> Grounds:
    """What a host elsewhere has for trials: its own HOME and variables, and environment ``key``, built there."""
    done = await transport.run(["sh", "-c", ABOUT], seconds=60.0)
    if done.code != 0:
        raise HostFault(f"{section.name}: its environment cannot be read: {done.complaint}", "it needs `env -0`")
    words = [item.partition("=") for item in done.stdout.decode("utf-8", "surrogateescape").split("\0") if item]
    variables = {name: value for name, _, value in words}
    home = variables.pop("HOME", "") or "/"
    root = str(getattr(host, "directory", "") or getattr(getattr(host, "_files", None), "directory", ""))
    there = section.project or f"{root}/project"
    if there == "~" or there.startswith("~/"):
        there = home + there[1:]
    environment = await ensure_environment_there(config, project, host, transport, root, key, tell)
    return Grounds(root, Path(there), Path(home), False, variables, environment, transport)
