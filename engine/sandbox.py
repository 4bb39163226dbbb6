"""The containment ladder: what keeps a trial's processes from outliving it, proved by trying.

A rung is believed only after a process that double-forks, takes its own session and wipes its
environment was started under it, its keeper was killed, and the process was dead within two seconds.
Rungs, best first:

- ``unshare``: a PID namespace; the kernel kills all of it with its first process.
- ``sweep``: no namespace. Process group and tree are killed, then whoever carries the attempt's token
  in its environment or writes to its log. Who wipes the one and leaves the other gets away.

To come above and between them, each as one more ``Rung``: bubblewrap (files and network too), cgroup.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.clock import Clock
from engine.errors import HostFault
from engine.runners import Containment
from engine.runners.launcher import job_script
from engine.runners.transport import LocalTransport, trusted_environment

DEAD_WITHIN_SECONDS = 2.0
START_SECONDS = 10.0

# Keeps standard output open for as long as it lives: the pipe's end is the proof of its death.
ESCAPE = "(env -i setsid /bin/sh -c 'echo alive; exec sleep 15' &); sleep 15"
ESCAPE_WITH_TOKEN = "(setsid /bin/sh -c 'echo alive; exec sleep 15' &)"
KEEPER = '"$@" & wait'


@dataclass(frozen=True, slots=True)
class Rung:
    """A way to contain: ``argv`` is the prefix. ``dies_with_job``: also when job.sh itself is killed."""

    kind: str
    argv: tuple[str, ...]
    dies_with_job: bool


def _unshare_rungs() -> tuple[Rung, ...]:
    # As root without a user namespace: files then keep their owners. --mount-proc where it is allowed,
    # so that /proc shows what kill can reach. Never anything that hides /dev: CUDA needs its nodes.
    tie = ("setpriv", "--pdeathsig", "KILL", "--")
    users = ((), ("--user", "--map-current-user"), ("--user", "--map-root-user"))
    space = ("--pid", "--fork", "--kill-child")
    rungs = []
    for prefix in (tie, ()):
        for user in users:
            for proc in (("--mount-proc",), ()):
                argv = (*prefix, "unshare", *user, *space, *proc, "--")
                rungs.append(Rung("unshare", argv, dies_with_job=bool(prefix)))
    return tuple(rungs)


LADDER = _unshare_rungs()

_found: Containment | None = None


async def probe(clock: Clock) -> Containment:
    """The best rung that this machine proves, tried once a process. Raises HostFault when none holds."""
    global _found
    if _found is None:
        _found = await climb(clock, LADDER)
    return _found


async def climb(clock: Clock, ladder: Sequence[Rung]) -> Containment:
    """The first rung of ``ladder`` that holds, else the sweep. ``refused`` says why higher ones do not."""
    refused: dict[str, str] = {}
    for rung in ladder:
        wrap = _with_paths(rung.argv)
        if isinstance(wrap, str):
            refused.setdefault(rung.kind, wrap)
            continue
        failure = await _try_rung(clock, wrap, rung.dies_with_job)
        if not failure:
            killed = "its job" if rung.dies_with_job else "its wrapper"
            proof = (
                f"an escapee (double fork, setsid, empty environment) was dead within "
                f"{DEAD_WITHIN_SECONDS:g} s of {killed}'s SIGKILL, under {' '.join(rung.argv[:-1])}"
            )
            above = {kind: why for kind, why in refused.items() if kind != rung.kind}
            return Containment(rung.kind, wrap, proof, above)
        refused.setdefault(rung.kind, failure)
    failure = await _try_sweep(clock)
    if failure:
        raise HostFault(
            f"nothing here contains a process that escapes: {failure}",
            "mount /proc so that your own processes' environ can be read, or install util-linux",
        )
    proof = (
        "an escapee (double fork, setsid) was found by its token and killed; "
        "one that also wipes its environment and leaves its output is not found"
    )
    return Containment("sweep", (), proof, refused)


def _with_paths(argv: tuple[str, ...]) -> tuple[str, ...] | str:
    """``argv`` with absolute commands, for a trial's PATH is its own; or what is missing."""
    path = trusted_environment()["PATH"]
    full = []
    for word in argv:
        if word in ("setpriv", "unshare"):
            found = shutil.which(word, path=path)
            if found is None:
                return f"{word} is not installed (util-linux)"
            word = found
        full.append(word)
    return tuple(full)


async def _try_rung(clock: Clock, wrap: Sequence[str], dies_with_job: bool) -> str:
    """Why the rung does not hold, or ""."""
    try:
        passed = await LocalTransport(clock).run([*wrap, "/bin/sh", "-c", "exit 7"], seconds=START_SECONDS)
    except HostFault as fault:
        return fault.message
    if passed.code != 7:
        return passed.complaint
    keeper = ("/bin/sh", "-c", KEEPER, "sh") if dies_with_job else ()
    async with _escapee(clock, (*keeper, *wrap, "/bin/sh", "-c", ESCAPE)) as escapee:
        if not await escapee.says_alive():
            return "a process under it ended before it could try to escape"
        escapee.kill_keeper()
        return "" if await escapee.is_dead() else "a process that double-forked outlived its keeper"


async def _try_sweep(clock: Clock) -> str:
    """Why job.sh's own sweep does not find an escapee by its token, or ""."""
    token = f"probe-{os.getpid()}-{clock.monotonic():.6f}"
    with tempfile.TemporaryDirectory(prefix="ratchet-probe-") as directory:
        control = Path(directory) / "control"
        control.mkdir()
        (control / "plan.sh").write_text(f"token={token}\n")
        async with _escapee(clock, ("/bin/sh", "-c", ESCAPE_WITH_TOKEN), token) as escapee:
            if not await escapee.says_alive():
                return "a process could not be started (setsid is missing)"
            cleared = await LocalTransport(clock).run(["sh", "-s", directory, "clear"], input=job_script())
            if cleared.stdout.strip() == b"0" and await escapee.is_dead():
                return ""
            return f"the sweep missed a process that carried its token: {cleared.complaint}"


@dataclass(frozen=True, slots=True)
class _Escapee:
    """A process that tries to outlive its keeper. All that descend from it hold ``pipe`` open."""

    clock: Clock
    keeper: asyncio.subprocess.Process
    pipe: asyncio.StreamReader

    async def says_alive(self) -> bool:
        try:
            return await self.clock.timeout(self.pipe.readline(), START_SECONDS) == b"alive\n"
        except TimeoutError:
            return False

    async def is_dead(self) -> bool:
        try:
            await self.clock.timeout(self.pipe.read(), DEAD_WITHIN_SECONDS)
        except TimeoutError:
            return False
        return True

    def kill_keeper(self) -> None:
        try:
            self.keeper.kill()
        except ProcessLookupError:  # ended by itself
            pass


@asynccontextmanager
async def _escapee(clock: Clock, argv: Sequence[str], token: str = "") -> AsyncIterator[_Escapee]:
    # A pipe of our own: asyncio's would have the keeper's end wait for the escapee's.
    reading, writing = os.pipe()
    pipe = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(pipe), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        try:
            keeper = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.DEVNULL,
                env={**trusted_environment(), **({"RATCHET_ATTEMPT_TOKEN": token} if token else {})},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(writing)
        escapee = _Escapee(clock, keeper, pipe)
        try:
            yield escapee
        finally:
            escapee.kill_keeper()
            await keeper.wait()
    finally:
        transport.close()
