"""``ratchet doctor`` on each host: what trials need there, found by commands that leave nothing behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from engine import sandbox
from engine.checks import Check
from engine.clock import Clock
from engine.config import Config
from engine.config_sections import HostSection
from engine.errors import HostFault, RatchetError
from engine.hosts import DIRECTORY, make_host, refuse_lost_paths
from engine.kernel_check import check_kernel, imports_torch
from engine.runners.allocations import NVIDIA_SMI, parse_devices, visible_devices
from engine.runners.slurm_host import SlurmHost
from engine.runners.slurm_options import parse_options
from engine.runners.ssh import SshTransport
from engine.runners.transport import Completed, Transport
from engine.state_folder import state_folder
from engine.types import Device

CONNECT_SECONDS = 60.0
LOW_DISK_KB, NO_DISK_KB = 10_000_000, 1_000_000
# What trials do without, and what is lost then; the rest is needed.
WISHED = {
    "setsid": "a trial may end with the connection that started it",
    "flock": "no device can be locked, and no environment be built",
    "taskset": "trials are not kept to their own cores",
}
MOST_OFFSET = 60.0  # seconds of the wall clock; nothing is judged by it, but logs are hard to read beyond

# Each answer is ended by a NUL: a login file may print what it likes before the first.
LOOK = r"""
directory=$1
case $directory in '~'*) directory=$HOME${directory#\~} ;; esac
while [ ! -d "$directory" ]; do directory=$(dirname -- "$directory"); done
printf '\0%s\0' "$(date +%s.%N)"
missing=
for tool in sh tar dd stat head find grep sed mkfifo mktemp sha256sum env setsid flock taskset; do
    command -v $tool >/dev/null || missing="$missing $tool"
done
printf '%s\0' "$missing"
printf '%s\0' "$(df -Pk -- "$directory" | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9-]*%.*/\1/p')"
[ -w "$directory" ] && printf 'yes\0' || printf 'no\0'
printf '%s\0' "$(loginctl show-user "$(id -un)" -p Linger --value 2>/dev/null)"
printf '%s\0' "$(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
    org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null)"
printf '%s\0' "${CUDA_VISIBLE_DEVICES-all}"
"""
NEAREST = r"""
directory=$1
case $directory in '~'*) directory=$HOME${directory#\~} ;; esac
while [ ! -d "$directory" ]; do directory=$(dirname -- "$directory"); done
printf %s "$directory"
"""


async def check_hosts(config: Config, project: Path, clock: Clock) -> list[Check]:
    """Every host that is not simply this machine; all at once, so that a dead one costs only its own time-out."""
    elsewhere = [section for section in config.hosts if section.ssh or section.slurm]
    found = await asyncio.gather(*(_check_host(section, config, project, clock) for section in elsewhere))
    return [check for checks in found for check in checks]


async def _check_host(section: HostSection, config: Config, project: Path, clock: Clock) -> list[Check]:
    name = section.name
    directory = section.directory or (DIRECTORY if section.ssh else str(state_folder(project).path))
    try:
        refuse_lost_paths(config, section)
        host, transport = make_host(section, config, directory, clock)
    except RatchetError as fault:
        return [Check(f"{name}: settings", "fail", fault.message, fault.mend)]
    checks: list[Check] = []
    try:
        if isinstance(transport, SshTransport):
            await transport.connect()  # once: what a person waits for is not asked again and again
        asked = clock.now()
        looked = await transport.run(["sh", "-c", LOOK, "sh", directory], seconds=CONNECT_SECONDS)
        checks = answers(name, directory, looked, (asked + clock.now()) / 2)
        if checks[0].status != "fail" and isinstance(host, SlurmHost):
            checks = [check for check in checks if not check.name.endswith(": logout")]  # Slurm keeps its jobs
            checks += await _cluster(section, config, clock, host, directory, transport)
        elif checks[0].status != "fail":
            about, seen = await _devices(name, config, transport)
            if (seen or config.environment.setup) and "no flock" in checks[0].detail:
                checks[0] = replace(checks[0], status="fail")
            checks += [about, await _kernel(section, config, project, transport, seen)]
            checks.append(await _containment(name, config, clock, transport))
        return checks
    except RatchetError as fault:
        # What was found before the connection broke is still true.
        return [*checks, Check(f"{name}: connection", "fail", fault.message, fault.mend)]
    finally:
        await host.close()


async def _cluster(
    section: HostSection, config: Config, clock: Clock, host: SlurmHost, directory: str, transport: Transport
) -> list[Check]:
    """What the cluster says, and a node of it, in an allocation such as a trial gets."""
    name, options = section.name, parse_options(section.slurm)
    try:
        await host.check_cluster()
    except HostFault as fault:
        return [Check(f"{name}: Slurm", "fail", fault.message.removeprefix(f"{name}: "), fault.mend)]
    partition = options.value("partition")
    where = f"partition {partition} is up" if partition else "it answers; its default partition is used"
    kind, count = options.gpus
    checks = [Check(f"{name}: Slurm", "ok", f"{where}; trials at once: {section.slots or 1}")]
    if count:
        checks.append(Check(f"{name}: devices", "ok", f"each trial asks for {kind} x {count}"))
    else:
        mend = 'add gres = "gpu:1" to slurm, or set [trial] gpus = 0' if config.trial.gpus else ""
        said = "slurm asks for none: trials run on CPU cores"
        checks.append(Check(f"{name}: devices", "warn" if mend else "ok", said, mend))
    async with host.node(options.probe) as node:
        if isinstance(node, str):
            mend = "ask again when one is free: files, containment and Python were not looked at"
            return [*checks, Check(f"{name}: node", "warn", node, mend)]
        there = cast(Transport, node)  # all but run() is for files, which are shared
        try:
            existing = await transport.run(["sh", "-c", NEAREST, "sh", directory])
            await host.check_shared(node, existing.stdout.decode("utf-8", "replace"))
            checks.append(Check(f"{name}: files", "ok", f"a node sees {directory} as it is here"))
        except HostFault as fault:
            checks.append(Check(f"{name}: files", "fail", fault.message.removeprefix(f"{name}: "), fault.mend))
        checks.append(await check_kernel(f"{name}: kernel", config, there, section.project or "/"))
        checks.append(await _containment(name, config, clock, there))
    return checks


def answers(name: str, directory: str, looked: Completed, now: float) -> list[Check]:
    """The checks that LOOK answers. ``now``: our own clock in the middle of the question."""
    words = looked.stdout.decode("utf-8", "replace").split("\0")[1:]
    if len(words) < 8:
        return [
            Check(f"{name}: shell", "fail", f"no sensible answer: {looked.complaint}", "see what login files do")
        ]
    at, missing, free, writable, linger, kills, _ = words[:7]
    return [
        _tools(f"{name}: shell", missing.split()),
        _disk(name, directory, free, writable == "yes"),
        _clock(f"{name}: clock", at, now),
        lingering(f"{name}: logout", linger, kills),
    ]


def _tools(name: str, missing: list[str]) -> Check:
    mend = "install {}, or mend PATH for what ssh runs: `ssh HOST 'echo $PATH'`"
    if needed := [tool for tool in missing if tool not in WISHED]:
        return Check(name, "fail", f"not there: {', '.join(needed)}", mend.format("them" if needed[1:] else "it"))
    if missing:
        lost = "; ".join(f"no {tool}: {WISHED[tool]}" for tool in missing)
        return Check(name, "warn", lost, mend.format("util-linux"))
    return Check(name, "ok", "all commands are there")


def _clock(name: str, at: str, now: float) -> Check:
    # Some `date` knows no fractions and prints what it does not know.
    seconds = at.partition(".")[0]
    if not seconds.isdigit():
        return Check(name, "warn", f"`date` there says {at[:40]!r}", "see what `date +%s` is on that machine")
    fraction = at.partition(".")[2]
    offset = float(f"{seconds}.{fraction if fraction.isdigit() else 5}") - now
    if abs(offset) <= MOST_OFFSET:
        return Check(name, "ok", f"{offset:+.1f} s against this machine's")
    which = f"{offset:+.0f} s against this machine's"
    mend = "set it (`timedatectl set-ntp true`): files look older or newer than they are, to caches and to people"
    return Check(name, "warn", which, mend)


def _disk(name: str, directory: str, free: str, writable: bool) -> Check:
    if not free.isdigit():
        detail = f"{directory}: `df` there does not say what is free"
        return Check(f"{name}: disk", "warn", detail, "look at it by hand")
    kilobytes = int(free)
    size = f"{kilobytes / 1e6:.0f} GB" if kilobytes >= 1e6 else f"{kilobytes / 1e3:.1f} MB"
    detail = f"{directory}: {size} free"
    if not writable:
        return Check(f"{name}: disk", "fail", f"{detail}, not writable", 'name another: directory = "..."')
    if kilobytes < NO_DISK_KB:
        return Check(f"{name}: disk", "fail", detail, 'free some space there, or name another: directory = "..."')
    if kilobytes < LOW_DISK_KB:
        return Check(f"{name}: disk", "warn", detail, "free some space there")
    return Check(f"{name}: disk", "ok", detail, "")


def lingering(name: str, linger: str, kills: str) -> Check:
    """Whether the machine ends what is left when its user logs out (logind's KillUserProcesses)."""
    if kills.strip() != "b true":
        return Check(
            name, "ok", "processes go on after a logout" if kills else "no logind: nothing ends processes"
        )
    if linger.strip() == "yes":
        return Check(name, "ok", "logind ends processes after a logout, but not this user's (Linger)")
    return Check(
        name,
        "warn",
        "logind ends a user's processes after the logout (KillUserProcesses=yes): trials would die",
        "`loginctl enable-linger` on that machine, once",
    )


async def check_logout(transport: Transport) -> Check:
    """``lingering`` for this machine."""
    looked = await transport.run(["sh", "-c", LOOK, "sh", "/"], seconds=CONNECT_SECONDS)
    words = [*looked.stdout.decode("utf-8", "replace").split("\0")[1:], "", "", "", "", "", ""]
    return lingering("logout", words[4], words[5])


async def _devices(name: str, config: Config, transport: Transport) -> tuple[Check, int | None]:
    """And how many devices a trial's Python should see there; None: nobody knows."""
    there = await transport.run(["sh", "-c", "command -v nvidia-smi"])
    if there.code != 0:
        return Check(f"{name}: devices", "ok", "no nvidia-smi: trials run on CPU cores"), None
    shown = await transport.run(NVIDIA_SMI, seconds=60.0)
    if shown.code != 0 and b"No devices" not in shown.stdout + shown.stderr:
        mend = "mend the driver there, or set [trial] gpus = 0"
        return Check(f"{name}: devices", "fail", f"nvidia-smi: {shown.complaint}", mend), None
    setting = await transport.run(["sh", "-c", 'printf %s "${CUDA_VISIBLE_DEVICES-all}"'])
    visible = setting.stdout.decode("utf-8", "replace")
    seen = visible_devices(
        parse_devices(shown.stdout.decode("utf-8", "replace")), None if visible == "all" else visible
    )
    names = device_names(seen)
    if seen and config.trial.gpus > len(seen):
        mend = f"set [trial] gpus to {len(seen)} or less"
        return Check(f"{name}: devices", "fail", f"{names}; a trial asks for {config.trial.gpus}", mend), len(seen)
    return Check(f"{name}: devices", "ok", names), len(seen)


def device_names(devices: Sequence[Device]) -> str:
    """``8 x NVIDIA H200 (140 GB)``; several kinds, each with its number; ``none``."""
    kinds = Counter(f"{device.name} ({device.memory_mb / 1024:.0f} GB)" for device in devices)
    return ", ".join(f"{number} x {kind}" if number > 1 else kind for kind, number in kinds.items()) or "none"


async def _kernel(
    section: HostSection, config: Config, project: Path, transport: Transport, devices: int | None
) -> Check:
    """With the directories that a trial there finds first on its PATH."""
    before = ["sh", "-c", 'PATH="$0:$PATH" exec "$@"', ":".join(config.environment.path)]
    return await check_kernel(
        f"{section.name}: kernel",
        config,
        transport,
        section.project or "/",
        before if config.environment.path else (),
        devices=devices,
        needs_torch=imports_torch(config, project),
    )


async def _containment(name: str, config: Config, clock: Clock, transport: Transport) -> Check:
    found = await sandbox.climb(clock, sandbox.LADDER, transport)
    detail = f"{found.kind}: {found.proof}"
    if found.kind == "sweep" and "processes" in config.sandbox.require:
        mend = "allow user namespaces there (util-linux's unshare), or set [sandbox] require = []"
        return Check(f"{name}: containment", "fail", detail, mend)
    return Check(f"{name}: containment", "warn" if found.kind == "sweep" else "ok", detail)
