"""The stand-in beside a test: in a thread of its own, or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.standin.server import Standin

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds to start or stop


@contextlib.contextmanager
def in_thread(standin: Standin) -> Iterator[Standin]:
    """``standin`` serving on an event loop in a thread, for code under test that blocks or has its own loop.

    Read ``url``, ``requests`` and ``messages``; ``until`` belongs to the thread's loop.
    """
    started = threading.Event()
    failure: list[BaseException] = []
    closing: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with standin:
            closing.append((asyncio.get_running_loop(), asyncio.Event()))
            started.set()
            await closing[0][1].wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as fault:
            failure.append(fault)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="standin", daemon=True)
    thread.start()
    if not started.wait(PATIENCE) or failure:
        raise RuntimeError("the stand-in did not start") from (failure[0] if failure else None)
    try:
        yield standin
    finally:
        loop, event = closing[0]
        loop.call_soon_threadsafe(event.set)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the stand-in did not stop"


@contextlib.contextmanager
def in_process(*arguments: str) -> Iterator[str]:
    """The URL of ``python -m tests.standin --port 0 ARGUMENTS``, ended by Ctrl-C's signal."""
    command = [sys.executable, "-m", "tests.standin", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        line = b""
        while b"\n" not in line:
            if not select.select([process.stdout], [], [], PATIENCE)[0]:
                raise RuntimeError("the stand-in did not start")
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                raise RuntimeError(f"the stand-in ended with {process.wait()}")
            line += chunk
        found = re.search(rb"http://[\d.:]+", line)
        assert found, line
        yield found[0].decode()
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
