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

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.clock import Clock
from engine.errors import HostFault
from engine.runners import Containment
from engine.runners.launcher import job_script
from engine.runners.transport import LocalTransport, Transport

DEAD_WITHIN_SECONDS = 2.0
START_SECONDS = 10.0

# The proofs are scripts, so that they are the same at the other end of an ssh connection. The escapee keeps
# a pipe open for as long as it lives: the pipe's end is the proof of its death. They print "proved", or why not.
_TOOLS = """
within() { # TENTHS CONDITION...
    tenths=$1 && shift
    until "$@" 2>/dev/null; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}
fail() {
    printf '%s\\n' "$1"
    exit 0
}
"""
_WATCHED = """
d=$(mktemp -d) || exit 1
trap 'rm -rf "$d"' EXIT
mkfifo "$d/pipe" && : >"$d/said" || exit 1
{ cat "$d/pipe" >"$d/said" && : >"$d/closed"; } >/dev/null 2>&1 </dev/null &
"""
PROVE_RUNG = (
    _TOOLS
    + """
tied=$1 start=$2 dead=$3
shift 3
said=$("$@" /bin/sh -c 'exit 7' 2>&1 </dev/null)
code=$?
[ "$code" = 7 ] || fail "${said:-exit status $code}"
"""
    + _WATCHED
    + """
escape='(env -i setsid /bin/sh -c "echo alive; exec sleep 15" &); sleep 15'
[ "$tied" = 0 ] || set -- /bin/sh -c '"$@" & wait' sh "$@"
"$@" /bin/sh -c "$escape" >"$d/pipe" 2>/dev/null </dev/null &
keeper=$!
within "$start" grep -q alive "$d/said" || fail 'a process under it ended before it could try to escape'
kill -KILL "$keeper"
within "$dead" test -e "$d/closed" || fail 'a process that double-forked outlived its keeper'
echo proved
"""
)
PROVE_SWEEP = (
    _TOOLS
    + """
token=$1 start=$2 dead=$3
"""
    + _WATCHED
    + """
cat >"$d/job.sh" && mkdir "$d/control" && printf 'token=%s\\n' "$token" >"$d/control/plan.sh" || exit 1
escape='(setsid /bin/sh -c "echo alive; exec sleep 15" &)'
RATCHET_ATTEMPT_TOKEN=$token /bin/sh -c "$escape" >"$d/pipe" 2>/dev/null </dev/null
within "$start" grep -q alive "$d/said" || fail 'a process could not be started (setsid is missing)'
left=$(sh "$d/job.sh" "$d" clear)
[ "$left" = 0 ] && within "$dead" test -e "$d/closed" || fail 'the sweep missed a process that carried its token'
echo proved
"""
)


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
_COMMANDS = ("setpriv", "unshare")

_found: Containment | None = None


async def probe(clock: Clock) -> Containment:
    """The best rung that this machine proves, tried once a process. Raises HostFault when none holds."""
    global _found
    if _found is None:
        _found = await climb(clock, LADDER)
    return _found


async def climb(clock: Clock, ladder: Sequence[Rung], transport: Transport | None = None) -> Containment:
    """The first rung of ``ladder`` that holds, else the sweep. ``refused`` says why higher ones do not.

    On this machine, or on ``transport``'s. Raises HostFault when none holds.
    """
    there = transport or LocalTransport(clock)
    known = await _find_commands(there, ladder)
    refused: dict[str, str] = {}
    for rung in ladder:
        wrap = _with_paths(rung.argv, known)
        if isinstance(wrap, str):
            refused.setdefault(rung.kind, wrap)
            continue
        failure = await _try_rung(there, wrap, rung.dies_with_job)
        if not failure:
            killed = "its job" if rung.dies_with_job else "its wrapper"
            proof = (
                f"an escapee (double fork, setsid, empty environment) was dead within "
                f"{DEAD_WITHIN_SECONDS:g} s of {killed}'s SIGKILL, under {' '.join(rung.argv[:-1])}"
            )
            above = {kind: why for kind, why in refused.items() if kind != rung.kind}
            return Containment(rung.kind, wrap, proof, above)
        refused.setdefault(rung.kind, failure)
    failure = await _try_sweep(there)
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


async def _find_commands(there: Transport, ladder: Sequence[Rung]) -> dict[str, str]:
    """The absolute paths of the commands that the ladder names bare."""
    names = sorted({word for rung in ladder for word in rung.argv if word in _COMMANDS})
    script = 'for name; do printf "%s=" "$name"; command -v "$name" || echo; done'
    found = await there.run(["sh", "-c", script, "sh", *names])
    pairs = (line.split("=", 1) for line in found.stdout.decode("utf-8", "replace").splitlines() if "=" in line)
    return {name: path for name, path in pairs if path.startswith("/")}


def _with_paths(argv: tuple[str, ...], known: Mapping[str, str]) -> tuple[str, ...] | str:
    """``argv`` with absolute commands, for a trial's PATH is its own; or what is missing."""
    for word in argv:
        if word in _COMMANDS and word not in known:
            return f"{word} is not installed (util-linux)"
    return tuple(known.get(word, word) for word in argv)


async def _try_rung(there: Transport, wrap: Sequence[str], dies_with_job: bool) -> str:
    """Why the rung does not hold, or ""."""
    return await _prove(there, PROVE_RUNG, (str(int(dies_with_job)), *_tenths(), *wrap))


async def _try_sweep(there: Transport) -> str:
    """Why job.sh's own sweep does not find an escapee by its token, or ""."""
    return await _prove(there, PROVE_SWEEP, (f"probe-{secrets.token_hex(8)}", *_tenths()), job_script())


def _tenths() -> tuple[str, str]:
    return f"{START_SECONDS * 10:.0f}", f"{DEAD_WITHIN_SECONDS * 10:.0f}"


async def _prove(there: Transport, script: str, words: Sequence[str], input: bytes = b"") -> str:
    try:
        done = await there.run(["sh", "-c", script, "sh", *words], input=input, seconds=6 * START_SECONDS)
    except HostFault as fault:
        return fault.message
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    if lines[0] == "proved":
        return ""
    return lines[0] or done.complaint
