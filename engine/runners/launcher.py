"""How an attempt gets onto a machine that can be reached: directly, or through a batch system.

The plan is rendered into files that job.sh runs by itself; from then on nobody is needed any more.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from engine.errors import HostFault, StorageFull, UsageError
from engine.runners import AttemptPlan, Step
from engine.runners.allocations import Allocations
from engine.runners.device_locks import lock_names
from engine.runners.following import LOG_TAIL_BYTES
from engine.runners.transport import Transport, no_space
from engine.types import Allocation

LOCK_DIRECTORY = "/tmp/ratchet-locks"  # with ".UID": one a user of a machine, for all of their projects

# The first process of a step, and process 1 of its namespace. `sh -c COMMAND` by itself may become the
# command, and a process 1 does not die of SIGTERM or of its own abort(), and is left with the orphans.
INIT = 'trap : TERM; /bin/sh -c "$1"; exit $?'


@functools.cache
def job_script() -> bytes:
    """The text of job.sh."""
    return Path(__file__).with_name("job.sh").read_bytes()


class DirectLauncher:
    """Starts jobs at once, detached, on the transport's machine."""

    def __init__(
        self, transport: Transport, allocations: Allocations, lock_directory: str = LOCK_DIRECTORY
    ) -> None:
        self._transport = transport
        self._allocations = allocations
        self._locks = lock_directory

    @property
    def capacity(self) -> int:
        return self._allocations.capacity

    @property
    def kinds(self) -> Counter[str]:
        return self._allocations.kinds

    def acquire(self, attempt: int) -> Allocation | None:
        return self._allocations.acquire(attempt)

    def adopt(self, attempt: int, allocation: Allocation) -> None:
        self._allocations.adopt(attempt, allocation)

    def release(self, attempt: int) -> None:
        self._allocations.release(attempt)

    async def start(self, plan: AttemptPlan) -> None:
        """Write the plan under control/ and start job.sh. Raises HostFault, StorageFull or UsageError."""
        control = f"{plan.directory}/control"
        # The script goes too: a shell reads its script as it runs, and an upgrade may rewrite ours.
        await self._transport.put_all(control, {**render(plan, self._locks), "job.sh": job_script()})
        # setsid, so that no terminal's end and no signal to the engine's group reaches the job; -f, so
        # that it is nobody's child here. Where -f is unknown (busybox) the shell's & does as much.
        done = await self._transport.run(
            ["sh", "-c", START, "sh", f"{control}/job.sh", plan.directory],
        )
        if done.code != 0:
            raise HostFault(f"cannot start job.sh in {plan.directory}: {done.complaint}")

    async def cancel(self, directory: str) -> bool:
        return await self._ask(directory, "cancel") == "won"

    async def clear(self, directory: str) -> int:
        return int(await self._ask(directory, "clear"))

    async def _ask(self, directory: str, request: str) -> str:
        # From standard input, for the attempt may have no copy yet.
        done = await self._transport.run(["sh", "-s", directory, request], input=job_script())
        answer = done.stdout.decode().strip()
        if not answer:
            if no_space(done.stderr.decode("utf-8", "replace")):
                raise StorageFull(f"no room to {request} {directory}", "free some space on that disk")
            raise HostFault(f"cannot {request} {directory}: {done.complaint}")
        return answer


START = """
exec </dev/null >/dev/null 2>&1
setsid -f true && exec setsid -f sh "$@"
if command -v setsid; then set -- setsid sh "$@"; else set -- sh "$@"; fi
"$@" &
"""


def render(plan: AttemptPlan, lock_directory: str) -> dict[str, bytes]:
    """The files of control/ that tell job.sh, and later its readers, what to do.

    Raises UsageError for what no process can be given (a NUL, a name of the environment with "=").
    """
    # It decides whom a sweep kills: nothing that a shell or grep could read in another way.
    if not re.fullmatch(r"[A-Za-z0-9._-]{8,}", plan.token):
        raise UsageError(f"an attempt's token is eight or more of A-Z a-z 0-9 . _ -, not {plan.token!r}")
    numbers = {
        "steps": len(plan.steps),
        "grace": _hundredths(plan.kill_grace_seconds),
        "memory": max(plan.memory_bytes, 0),
        "log_cap": plan.log_cap_bytes,
        "log_tail": LOG_TAIL_BYTES,
        **{f"timeout_{n}": _hundredths(step.timeout_seconds) for n, step in enumerate(plan.steps, 1)},
    }
    names = lock_names(plan.allocation, str(PurePosixPath(plan.directory).parents[2]))
    lines = [f"{name}={value}" for name, value in numbers.items()]
    lines += [f"token={_quoted(plan.token)}", f"locks={_quoted(lock_directory)}"]
    lines.append(f"set -- {_words(names)}".rstrip())
    known = {
        "token": plan.token,
        "steps": [step.name for step in plan.steps],
        "log_cap_bytes": plan.log_cap_bytes,
    }
    files = {"plan.sh": os.fsencode("\n".join(lines) + "\n"), "plan.json": json.dumps(known).encode()}
    for number, step in enumerate(plan.steps, 1):
        files[f"step-{number}.sh"] = os.fsencode(_step_script(plan, step))
    return files


def _step_script(plan: AttemptPlan, step: Step) -> str:
    """One step: raised to the front of the OOM killer's queue, pinned, its own session, exact environment."""
    environment = {
        **_checked(plan.environment),
        "HOME": f"{plan.directory}/home",
        "RATCHET_ATTEMPT_TOKEN": plan.token,
    }
    environment.pop("TMPDIR", None)
    argv = [*plan.wrap, "/bin/sh", "-c", INIT, "sh", step.command]
    cpus = ",".join(map(str, plan.allocation.cpus))
    pin = f'tool=$(command -v taskset) && set -- "$tool" -c {cpus} "$@"' if cpus else ":"
    return f"""\
# A step, run by job.sh with the temporary directory as $1; written by engine/runners/launcher.py.
tmp=$1
{{ echo 600 >/proc/self/oom_score_adj; }} 2>/dev/null
cd work || exit 126
set -- {_words(argv)}
{pin}
tool=$(command -v setsid) && set -- "$tool" "$@"
# A shell starts its background jobs deaf to SIGINT; torch.multiprocessing kills its workers with it.
signals=--default-signal=INT,QUIT
env "$signals" true 2>/dev/null || signals=-i
exec env -i "$signals" {_words(f"{name}={value}" for name, value in environment.items())} TMPDIR="$tmp" "$@"
"""


def _checked(environment: Mapping[str, str]) -> Mapping[str, str]:
    for name in environment:
        if not name or "=" in name or name.startswith("-"):
            raise UsageError(f"{name!r} cannot name an environment variable")
    return environment


def _quoted(text: str) -> str:
    if "\0" in text:
        raise UsageError(f"no process can be given a NUL byte: {text!r}")
    return shlex.quote(text)


def _words(texts: Iterable[str]) -> str:
    return " ".join(_quoted(text) for text in texts)


def _hundredths(seconds: float) -> int:
    # A shell counts in 64 bits; a hundred years are for ever.
    return math.ceil(min(max(seconds, 0.0), 3.2e9) * 100)
