"""Work on text whose author may have made it to hurt: in a child process of little memory and little time.

A regular expression of the standard library can backtrack for ever while it holds the interpreter's lock, and
deeply nested source can exhaust a parser's stack: a thread with a deadline stops neither. The kernel's limits on
the child do, need no clock of ours, and also end a child whose engine was killed. It inherits no environment but
what finds libraries (so no key), and gets nothing but its input.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from typing import Any

from engine.errors import RatchetError

SECONDS = 4  # of computing
WALL_SECONDS = 60.0  # on a machine whose processors all train; only a safeguard
MEMORY_BYTES = 1 << 30
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from engine.proposers.bounded import serve; serve()"
)
_INHERITED = ("PATH", "LD_LIBRARY_PATH")


class GaveUp(RatchetError):
    """The work was not finished within its limits, or the child died of it; the message says which."""


async def call(function: str, argument: Any) -> Any:
    """``function`` ("module:name", one of ours) of ``argument``, both ways as JSON. Raises GaveUp.

    Costs the start of an interpreter: 30-150 ms.
    """
    return await asyncio.to_thread(call_here, function, argument)


def call_here(function: str, argument: Any) -> Any:
    """``call`` that blocks."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _START, json.dumps([p for p in sys.path if p])],
            input=json.dumps([function, argument]).encode(),
            capture_output=True,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GaveUp(f"it took longer than {WALL_SECONDS:g} s") from None
    except OSError as fault:
        raise GaveUp(f"no process could be started for it: {fault.strerror or fault}") from None
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise GaveUp(f"it took longer than {SECONDS} s of computing")
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise GaveUp(f"it failed: {last[:200] or f'exit status {done.returncode}'}")
    return json.loads(done.stdout)


def serve() -> None:
    """The child's side: limits first, then one piece of work."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    function, argument = json.loads(sys.stdin.buffer.read())
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(argument)
    sys.stdout.write(json.dumps(result))
