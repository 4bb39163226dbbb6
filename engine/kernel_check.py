"""``ratchet doctor``: whether the trials' own Python starts on a machine, and a real product on each device there.

What nvidia-smi shows is not what torch can use: a build for processors, or for a newer driver, sees nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from engine.checks import Check
from engine.config import Config
from engine.effect_run import interpreter_of
from engine.errors import HostFault
from engine.project_tree import list_files
from engine.runners.transport import Transport
from engine.scope import matches

KERNEL_SECONDS = 120.0
MOST_BYTES = 1 << 20  # of a source file
# Its last line: whether torch is there, how many devices it sees, in words; a fault ends it with a traceback.
KERNEL = """
import platform
python = "Python " + platform.python_version()
try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    print("none", 0, python + ", without torch", sep="|")
else:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for n in range(count):
        a = torch.ones((64, 64), device=f"cuda:{n}")
        assert float((a @ a).sum().item()) == 64.0 ** 3, f"a product on device {n} came out wrong"
    built = f"torch {torch.__version__}" + (f" for CUDA {torch.version.cuda}" if torch.version.cuda else "")
    what = f"a product on each of {count} devices" if count > 1 else "a product on its device"
    what = what if count else "no CUDA device"
    print("torch", count, f"{python}, {built}: {what}", sep="|")
"""
RUN = 'case $1 in "~"*) cd "$HOME${1#\\~}" ;; *) cd "$1" ;; esac || exit 125; shift; exec "$@"'


async def check_kernel(
    name: str,
    config: Config,
    transport: Transport,
    directory: str,
    before: Sequence[str] = (),
    *,
    devices: int | None = None,
    needs_torch: bool = False,
) -> Check:
    """A real product on every device, by the trials' own Python, started in ``directory``.

    ``before``: words that set its environment. ``devices``: as many are to be seen (None: that is not known).
    ``needs_torch``: the project imports it.
    """
    if config.environment.setup:
        return Check(name, "ok", "asked once the environment is built, by the first trial")
    argv = interpreter_of(config.trial.command, "", Path(directory))
    if argv[0] == "uv":
        return Check(name, "ok", "not asked: `uv run` might change the environment")
    words = [*before, *argv, "-c", KERNEL]
    try:
        done = await transport.run(["sh", "-c", RUN, "sh", directory, *words], seconds=KERNEL_SECONDS)
    except HostFault as fault:
        return Check(name, "warn", fault.message, "a first import may be slow: ask again")
    if done.code == 125:
        return Check(name, "fail", f"{directory} is not there", "copy the project there, or mend project = ...")
    if done.code in (126, 127):
        mend = "install it there, or name it by its path in [trial] command"
        return Check(name, "fail", f"{argv[0]} is not there", mend)
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
    found = re.fullmatch(r"(torch|none)\|(\d+)\|(.*)", said[0])
    if done.code != 0 or found is None:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit status {done.code}"]
        return Check(name, "fail", last[0], "mend torch or the driver: a trial would fail in the same way")
    check = Check(name, "ok", f"{argv[0]}: {found[3]}")
    return _judge(check, found[1] == "torch", int(found[2]), devices, needs_torch)


def _judge(check: Check, torch: bool, seen: int, devices: int | None, needs_torch: bool) -> Check:
    if not torch and needs_torch:
        mend = "install torch for that Python, or have it built there: [environment] setup; the project imports it"
        return Check(check.name, "fail", check.detail, mend)
    if not torch and devices:
        mend = "without it no kernel could be run on the devices: only nvidia-smi vouches for them"
        return Check(check.name, "warn", check.detail, mend)
    if torch and devices is not None and seen != devices:
        mend = "install a build of torch that fits the driver, see https://pytorch.org/get-started/locally"
        return Check(check.name, "fail", f"{check.detail}; nvidia-smi shows {devices}", mend)
    return check


def imports_torch(config: Config, project: Path) -> bool:
    """Whether a Python file that proposals change, or that measures, imports torch."""
    wanted = (*config.project.edit, *config.project.frozen)
    for path in list_files(project):
        file = project / path
        if not (path.endswith(".py") and matches(wanted, path)) or file.stat().st_size > MOST_BYTES:
            continue
        if re.search(r"^\s*(?:import|from) torch\b", file.read_text(errors="replace"), re.MULTILINE):
            return True
    return False
