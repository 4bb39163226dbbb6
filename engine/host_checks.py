"""``ratchet doctor`` on each host: what trials need there, found by commands that leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from engine import sandbox
from engine.checks import Check
from engine.clock import Clock
from engine.config import Config
from engine.config_sections import HostSection
from engine.effect_run import interpreter_of
from engine.errors import HostFault, RatchetError
from engine.hosts import DIRECTORY, make_host, refuse_lost_paths
from engine.runners.allocations import NVIDIA_SMI, parse_devices, visible_devices
from engine.runners.transport import Completed, Transport

CONNECT_SECONDS = 60.0
KERNEL_SECONDS = 120.0
LOW_DISK_KB, NO_DISK_KB = 10_000_000, 1_000_000
MOST_OFFSET = 60.0  # seconds of the wall clock; nothing is judged by it, but logs are hard to read beyond

# Each answer is ended by a NUL: a login file may print what it likes before the first.
LOOK = r"""
directory=$1
case $directory in '~'*) directory=$HOME${directory#\~} ;; esac
while [ ! -d "$directory" ]; do directory=$(dirname -- "$directory"); done
printf '\0%s\0' "$(date +%s.%N)"
missing=
for tool in sh tar setsid flock taskset ps awk sed; do
    command -v $tool >/dev/null || missing="$missing $tool"
done
printf '%s\0' "$missing"
printf '%s\0' "$(df -Pk -- "$directory" | awk 'NR == 2 { print $4 }')"
[ -w "$directory" ] && printf 'yes\0' || printf 'no\0'
printf '%s\0' "$(loginctl show-user "$(id -un)" -p Linger --value 2>/dev/null)"
printf '%s\0' "$(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
    org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null)"
printf '%s\0' "${CUDA_VISIBLE_DEVICES-all}"
"""
KERNEL = """
try:
    import torch
except ImportError:
    print("without torch")
else:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for n in range(count):
        a = torch.ones((64, 64), device=f"cuda:{n}")
        assert float((a @ a).sum().item()) == 64.0 ** 3
    what = f"a product on each of {count} devices" if count else "no CUDA device"
    print(f"torch {torch.__version__}: {what}")
"""


async def check_hosts(config: Config, project: Path, clock: Clock) -> list[Check]:
    """Every host that is not simply this machine; all at once, so that a dead one costs only its own time-out."""
    elsewhere = [section for section in config.hosts if section.ssh or section.slurm]
    found = await asyncio.gather(*(_check_host(section, config, project, clock) for section in elsewhere))
    return [check for checks in found for check in checks]


async def _check_host(section: HostSection, config: Config, project: Path, clock: Clock) -> list[Check]:
    name, directory = section.name, section.directory or DIRECTORY
    try:
        refuse_lost_paths(config, section)
        host, transport = make_host(section, config, directory, clock)
    except RatchetError as fault:
        return [Check(f"{name}: settings", "fail", fault.message, fault.mend)]
    try:
        asked = clock.now()
        looked = await transport.run(["sh", "-c", LOOK, "sh", directory], seconds=CONNECT_SECONDS)
        checks = answers(name, directory, looked, (asked + clock.now()) / 2)
        if checks[0].status != "fail":
            checks += [
                await _devices(name, config, transport),
                await check_kernel(f"{name}: kernel", config, transport, section.project or "/"),
                await _containment(name, config, clock, transport),
            ]
        return checks
    except RatchetError as fault:
        return [Check(f"{name}: connection", "fail", fault.message, fault.mend)]
    finally:
        await host.close()


def answers(name: str, directory: str, looked: Completed, now: float) -> list[Check]:
    """The checks that LOOK answers. ``now``: our own clock in the middle of the question."""
    words = looked.stdout.decode("utf-8", "replace").split("\0")[1:]
    if len(words) < 8:
        return [
            Check(f"{name}: shell", "fail", f"no sensible answer: {looked.complaint}", "see what login files do")
        ]
    at, missing, free, writable, linger, kills, _ = words[:7]
    checks = [
        Check(f"{name}: shell", "fail", f"not there:{missing}", "install them, or mend PATH for ssh")
        if missing
        else Check(f"{name}: shell", "ok", "all commands are there"),
        _disk(name, directory, free, writable == "yes"),
    ]
    offset = float(at) - now
    late = abs(offset) > MOST_OFFSET
    mend = "set its clock (NTP): times in logs will not fit together" if late else ""
    checks.append(
        Check(f"{name}: clock", "warn" if late else "ok", f"{offset:+.1f} s against this machine's", mend)
    )
    return [*checks, lingering(f"{name}: logout", linger, kills)]


def _disk(name: str, directory: str, free: str, writable: bool) -> Check:
    kilobytes = int(free) if free.isdigit() else NO_DISK_KB
    detail = f"{directory}: {kilobytes / 1e6:.0f} GB free"
    if not writable:
        return Check(f"{name}: disk", "fail", f"{detail}, not writable", 'name another: directory = "..."')
    if kilobytes < NO_DISK_KB:
        return Check(f"{name}: disk", "fail", detail, "free some space there")
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
        "logind ends a user's processes after the logout: trials would die",
        "`loginctl enable-linger`",
    )


async def check_logout(transport: Transport) -> Check:
    """``lingering`` for this machine."""
    looked = await transport.run(["sh", "-c", LOOK, "sh", "/"], seconds=CONNECT_SECONDS)
    words = [*looked.stdout.decode("utf-8", "replace").split("\0")[1:], "", "", "", "", "", ""]
    return lingering("logout", words[4], words[5])


async def _devices(name: str, config: Config, transport: Transport) -> Check:
    there = await transport.run(["sh", "-c", "command -v nvidia-smi"])
    if there.code != 0:
        return Check(f"{name}: devices", "ok", "no nvidia-smi: trials run on CPU cores")
    shown = await transport.run(NVIDIA_SMI, seconds=60.0)
    if shown.code != 0 and b"No devices" not in shown.stdout + shown.stderr:
        mend = "mend the driver there, or set [trial] gpus = 0"
        return Check(f"{name}: devices", "fail", f"nvidia-smi: {shown.complaint}", mend)
    setting = await transport.run(["sh", "-c", 'printf %s "${CUDA_VISIBLE_DEVICES-all}"'])
    visible = setting.stdout.decode("utf-8", "replace")
    seen = visible_devices(
        parse_devices(shown.stdout.decode("utf-8", "replace")), None if visible == "all" else visible
    )
    names = ", ".join(f"{device.name} ({device.memory_mb / 1024:.0f} GB)" for device in seen) or "none"
    if seen and config.trial.gpus > len(seen):
        mend = f"set [trial] gpus to {len(seen)} or less"
        return Check(f"{name}: devices", "fail", f"{names}; a trial asks for {config.trial.gpus}", mend)
    return Check(f"{name}: devices", "ok", names)


async def check_kernel(
    name: str, config: Config, transport: Transport, directory: str, before: Sequence[str] = ()
) -> Check:
    """A real product on every device, by the trials' own Python. ``before``: words that set its environment."""
    if config.environment.setup:
        return Check(name, "ok", "asked once the environment is built, by the first trial")
    argv = interpreter_of(config.trial.command, "", Path(directory))
    if argv[0] == "uv":
        return Check(name, "ok", "not asked: `uv run` might change the environment")
    words = [*before, *argv, "-c", KERNEL]
    script = 'case $1 in "~"*) cd "$HOME${1#\\~}" ;; *) cd "$1" ;; esac || exit 1; shift; exec "$@"'
    try:
        done = await transport.run(["sh", "-c", script, "sh", directory, *words], seconds=KERNEL_SECONDS)
    except HostFault as fault:
        return Check(name, "warn", fault.message, "a first import may be slow: ask again")
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.code == 127:
        return Check(
            name, "fail", f"{argv[0]} is not there", "install it, or name it by its path in [trial] command"
        )
    if done.code != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit status {done.code}"]
        return Check(name, "fail", last[0], "mend torch or the driver: a trial would fail in the same way")
    return Check(name, "ok", f"{argv[0]}: {said[-1] if said else ''}")


async def _containment(name: str, config: Config, clock: Clock, transport: Transport) -> Check:
    found = await sandbox.climb(clock, sandbox.LADDER, transport)
    detail = f"{found.kind}: {found.proof}"
    if found.kind == "sweep" and "processes" in config.sandbox.require:
        mend = "allow user namespaces there (util-linux's unshare), or set [sandbox] require = []"
        return Check(f"{name}: containment", "fail", detail, mend)
    return Check(f"{name}: containment", "warn" if found.kind == "sweep" else "ok", detail)
