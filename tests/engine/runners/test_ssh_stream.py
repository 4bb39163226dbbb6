"""A stream of lines over ssh: a session of the connection that leaves nothing behind, however it ends. A real sshd."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from runner_bench import PATIENCE, processes_with
from sshd import HOST, Proxy, Sshd

from engine.clock import RealClock
from engine.host_readings import far_script
from engine.runners import ssh
from engine.runners.ssh import SshTransport
from engine.runners.ssh_faults import ConnectionFault

CLOCK = RealClock()
# Prints, starts what ignores every polite signal, and ends as the script for readings does.
STUBBORN = """
sh -c 'trap "" TERM HUP INT PIPE; while :; do sleep 1; : {mark}; done' &
i=0; while [ $i -lt 3 ]; do i=$((i+1)); echo "line $i"; done
while read -r _; do :; done
kill -KILL 0
"""


@asynccontextmanager
async def connected(server: Sshd, port: int | None = None) -> AsyncIterator[SshTransport]:
    transport = SshTransport(HOST, CLOCK, server.client(port), random.Random(7))
    try:
        yield transport
    finally:
        await transport.close()


async def next_of(stream: AsyncGenerator[list[bytes], None]) -> list[bytes]:
    return await CLOCK.timeout(anext(stream), PATIENCE)


async def lines_of(stream: AsyncGenerator[list[bytes], None], count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        found += await next_of(stream)
    return found


async def none_left(mark: str) -> None:
    async def gone() -> None:
        while processes_with(mark):
            await CLOCK.sleep(0.02)

    try:
        await CLOCK.timeout(gone(), PATIENCE)
    except TimeoutError:
        left = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_with(mark)]
        raise AssertionError(f"left behind: {left}") from None


def clients(mark: str) -> list[int]:
    return [pid for pid in processes_with(mark) if Path(f"/proc/{pid}/comm").read_text() == "ssh\n"]


async def test_lines_come_as_they_are_printed_and_what_login_files_say_is_none_of_them(
    sshd: Sshd, tmp_path: Path
) -> None:
    sshd.login = "echo welcome; echo GPU-1; printf 'no newline'; echo trouble >&2"
    sshd.start()
    async with connected(sshd) as transport:
        script = "echo first; read -r word; echo unheard; exit 3"
        async with aclosing(transport.stream(script)) as stream:
            assert await next_of(stream) == []
            assert await next_of(stream) == [b"first"]
            waiting = asyncio.ensure_future(anext(stream))
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            assert not done, "its standard input stays open"
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with aclosing(transport.stream("printf 'a\\n\\nb\\nunfinished'; exit 3")) as stream:
            assert [line async for some in stream for line in some] == [b"a", b"", b"b"]


@pytest.mark.parametrize("login", ["", "unled"], ids=["sshd", "a wrapper that leads the group"])
async def test_the_end_of_the_reader_ends_all_that_was_started_there(
    sshd: Sshd, tmp_path: Path, login: str
) -> None:
    if login:  # a shell of the server's stays before ours, as with servers that make no group for each command
        sshd.login = '"$SHELL" -c "$SSH_ORIGINAL_COMMAND"; exit $?'
    sshd.start()
    mark = f"stubborn-{tmp_path.name}-{os.getpid()}"
    async with connected(sshd) as transport:
        async with aclosing(transport.stream(STUBBORN.format(mark=mark))) as stream:
            assert (await lines_of(stream, 3))[-1] == b"line 3"
            assert processes_with(mark)
        await none_left(mark)
        assert (await transport.run(["echo", "still"])).stdout == b"still\n"


async def test_a_client_killed_outright_leaves_nothing_there(running_sshd: Sshd, tmp_path: Path) -> None:
    mark = f"stubborn-{tmp_path.name}-{os.getpid()}"
    async with connected(running_sshd) as transport:
        async with aclosing(transport.stream(STUBBORN.format(mark=mark))) as stream:
            await lines_of(stream, 3)
            (client,) = clients(mark)
            os.kill(client, signal.SIGKILL)
            await none_left(mark)
            with pytest.raises(StopAsyncIteration):
                await next_of(stream)
        async with aclosing(transport.stream("echo again")) as stream:
            assert await lines_of(stream, 1) == [b"again"], "the connection itself stands"


async def test_an_engine_killed_outright_leaves_nothing_there(running_sshd: Sshd, tmp_path: Path) -> None:
    mark = f"stubborn-{tmp_path.name}-{os.getpid()}"
    code = f"""
import asyncio
from engine.clock import RealClock
from engine.runners.ssh import SshTransport

async def main():
    transport = SshTransport({HOST!r}, RealClock(), {running_sshd.client()!r})
    async for lines in transport.stream({STUBBORN.format(mark=mark)!r}):
        print(b" ".join(lines).decode(), flush=True)

asyncio.run(main())
"""
    engine = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert engine.stdout is not None
        while b"line 3" not in (said := await asyncio.to_thread(engine.stdout.readline)):
            assert said, "it ended"
    finally:
        engine.kill()
        engine.wait()
        engine.stdout.close()
    await none_left(mark)


async def test_a_cut_connection_is_told_leaves_nothing_and_the_next_stream_goes_over_the_next_one(
    running_sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.02, 0.1))
    proxy = Proxy(running_sshd.port)
    await proxy.start()
    mark = f"stubborn-{tmp_path.name}-{os.getpid()}"
    try:
        async with connected(running_sshd, proxy.port) as transport:
            for _ in range(2):
                async with aclosing(transport.stream(STUBBORN.format(mark=mark))) as stream:
                    await lines_of(stream, 3)
                    proxy.cut()
                    with pytest.raises((ConnectionFault, StopAsyncIteration)):
                        await next_of(stream)
                await none_left(mark)
            async with aclosing(transport.stream("echo again")) as stream:
                assert await lines_of(stream, 1) == [b"again"]
    finally:
        await proxy.close()


async def test_a_reader_that_is_cancelled_ends_the_stream(running_sshd: Sshd, tmp_path: Path) -> None:
    mark = f"stubborn-{tmp_path.name}-{os.getpid()}"
    async with connected(running_sshd) as transport:
        seen = asyncio.Event()

        async def read() -> None:
            async with aclosing(transport.stream(STUBBORN.format(mark=mark))) as stream:
                async for lines in stream:
                    if b"line 3" in lines:
                        seen.set()

        task = asyncio.create_task(read())
        await CLOCK.timeout(seen.wait(), PATIENCE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await none_left(mark)


async def test_a_stream_and_many_commands_leave_two_of_sshds_ten_sessions_to_others(
    sshd: Sshd, tmp_path: Path
) -> None:
    sshd.max_sessions = 8
    sshd.start()
    async with connected(sshd) as transport:
        mark = f"stubborn-{tmp_path.name}-{os.getpid()}"
        async with aclosing(transport.stream(f"echo up; while read -r _; do :; done; : {mark}")) as stream:
            assert await lines_of(stream, 1) == [b"up"]
            done = await asyncio.gather(*(transport.run(["sh", "-c", f"sleep 0.1; echo {n}"]) for n in range(20)))
            assert [int(one.stdout) for one in done] == list(range(20))
            assert processes_with(mark), "and the stream goes on"


async def test_where_sessions_are_few_a_command_takes_the_streams_and_the_stream_says_so(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.02, 0.1))
    sshd.max_sessions = 2  # one follows attempts, one is for all else
    sshd.start()
    async with connected(sshd) as transport:
        async with aclosing(transport.stream("echo up; while read -r _; do :; done; kill -KILL 0")) as stream:
            assert await lines_of(stream, 1) == [b"up"]
            done = await transport.run(["echo", "done"])
            assert done.stdout == b"done\n"
            with pytest.raises(ConnectionFault) as said:
                await next_of(stream)
        assert said.value.crowded and "MaxSessions" in said.value.mend
        async with aclosing(transport.stream("echo up")) as stream:
            with pytest.raises(ConnectionFault) as said:
                await next_of(stream)
        assert said.value.crowded, "not again on this connection: commands need it"


def test_the_readings_script_needs_nothing_but_a_posix_shell() -> None:
    for shell in (["dash"], ["bash", "--posix"], ["busybox", "ash"], ["ksh"]):
        assert subprocess.run([*shell, "-n"], input=far_script(), text=True, check=False).returncode == 0, shell
