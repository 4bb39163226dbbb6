"""A host over ssh, where connections break, login files are slow and talk, and keys change. A real sshd."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from far_bench import connected
from runner_bench import PATIENCE, Bench, exited, log_of, make_archive, processes_with
from sshd import HOST, Proxy, Sshd

from engine.clock import RealClock
from engine.errors import HostFault, UsageError
from engine.runners import FollowItem, LogChunk, LogSkipped, Lost, Reached, Unreachable, ssh, ssh_link
from engine.runners.ssh import SshTransport
from engine.runners.ssh_faults import ConnectionFault

CLOCK = RealClock()


@pytest.fixture
async def proxy(running_sshd: Sshd) -> AsyncIterator[Proxy]:
    proxy = Proxy(running_sshd.port)
    await proxy.start()
    yield proxy
    await proxy.close()


async def follow(bench: Bench, directory: str, items: list[FollowItem]) -> None:
    async for item in bench.host.follow(directory, 0):
        items.append(item)


def runs_of(directory: str) -> str:
    return Path(directory, "runs").read_text()


# --- connections that break ------------------------------------------------------------------------------


async def test_connections_cut_every_few_hundred_milliseconds_change_no_byte_and_no_run(
    running_sshd: Sshd, proxy: Proxy, tmp_path: Path
) -> None:
    seed = 24
    print("seed", seed)
    chance = random.Random(seed)
    async with connected(running_sshd, tmp_path, proxy.port) as bench:
        command = "echo ran >>../runs; i=0; while [ $i -lt 250 ]; do i=$((i+1)); echo line $i; sleep 0.02; done"
        plans = [await bench.plan(f"{command}; head -c 300000 /dev/zero | tr '\\0' {n}") for n in range(4)]

        async def cut() -> None:
            while True:
                before = proxy.bytes
                while proxy.bytes - before < 15_000:  # connected again, however slow this machine is just now
                    await CLOCK.sleep(0.01)
                await CLOCK.sleep(chance.uniform(0.05, 0.4))
                proxy.cut()

        cutting = asyncio.create_task(cut())
        try:
            followed = await asyncio.gather(*(bench.run(plan) for plan in plans))
        finally:
            cutting.cancel()
        whole = b"".join(b"line %d\n" % n for n in range(1, 251))
        for n, (plan, items) in enumerate(zip(plans, followed, strict=True)):
            assert exited(items).reason == "finished"
            assert log_of(items) == whole + b"%d" % n * 300000
            assert log_of(items) == Path(plan.directory, "control", "log").read_bytes()
            assert runs_of(plan.directory) == "ran\n"
        print(f"{proxy.cuts} cuts; {sum(isinstance(item, LogChunk) for item in items)} chunks of the last log")
        assert proxy.cuts >= 5


async def test_fifty_launches_that_are_cut_run_once_each_and_none_sticks(
    running_sshd: Sshd, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.02, 0.1))
    seed = 15
    print("seed", seed)
    chance = random.Random(seed)
    async with connected(running_sshd, tmp_path, proxy.port) as bench:
        started_before, following = [], []
        for number in range(50):
            plan = await bench.plan("echo ran >>../runs")
            launching = asyncio.create_task(bench.host.launch(plan))
            claim = Path(plan.directory, "control", "claim")
            if number % 3:
                await CLOCK.sleep(chance.uniform(0.0, 0.04))
            else:  # between the start and its acknowledgement
                await bench.wait_for(claim.exists, every=0.001)
            started_before.append(claim.exists())
            proxy.cut()
            await CLOCK.timeout(launching, PATIENCE)
            following.append((plan.directory, asyncio.create_task(bench.follow(plan.directory))))
        for directory, task in following:
            assert exited(await task).reason == "finished"
            assert runs_of(directory) == "ran\n"
        print(f"{proxy.cuts} cuts, {sum(started_before)} of them after the start")
        assert proxy.cuts == 50 and 0 < sum(started_before) < 50, "cutting on one side only shows nothing"


async def test_a_transfer_that_is_cut_leaves_nothing_that_looks_whole(
    running_sshd: Sshd, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.02, 0.1))
    content = random.Random(1).randbytes(6 << 20).hex()
    async with connected(running_sshd, tmp_path / "there", proxy.port) as bench:
        archive = make_archive(tmp_path / "big.tar", {"big.txt": content})
        before, cuts = proxy.bytes, 0
        staging = asyncio.create_task(bench.host.stage(bench.directory(), str(archive), {}))
        while not staging.done() and cuts < 5:
            if proxy.bytes - before > 500_000:
                proxy.cut()
                cuts, before = cuts + 1, proxy.bytes
            await CLOCK.sleep(0.001)
        await CLOCK.timeout(staging, PATIENCE)
        assert cuts == 5
        (cached,) = (tmp_path / "there" / "cache").glob("*.tar")
        assert hashlib.sha256(cached.read_bytes()).hexdigest() == cached.stem
        (work,) = (tmp_path / "there" / "trials" / "7").glob("attempt-1/work")
        assert (work / "big.txt").read_text() == content


async def test_a_host_that_goes_away_is_unknown_and_then_followed_on_at_the_byte(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.05, 0.2))
    sshd.start()
    async with connected(sshd, tmp_path / "there") as bench:
        plan = await bench.plan(
            "i=0; while [ ! -e ../enough ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo last"
        )
        items: list[FollowItem] = []
        await bench.host.launch(plan)
        following = asyncio.create_task(follow(bench, plan.directory, items))
        for _ in range(2):
            before = len(log_of(items))
            await bench.wait_for(lambda: len(log_of(items)) > before + 20)  # noqa: B023
            sshd.stop()
            await bench.wait_for(lambda: isinstance(items[-1], Unreachable))
            sshd.start()
        Path(plan.directory, "enough").touch()
        await CLOCK.timeout(following, PATIENCE)
    assert exited(items).reason == "finished"
    assert log_of(items) == Path(plan.directory, "control", "log").read_bytes()
    known = [item for item in items if isinstance(item, Unreachable | Reached)]
    assert [type(item) for item in known] == [Unreachable, Reached] * 2, "said once, and taken back once"
    assert isinstance(known[0], Unreachable) and "refused" in known[0].reason
    assert not [item for item in items if isinstance(item, Lost)]


async def test_a_connection_that_falls_silent_is_given_up_and_made_anew(
    running_sshd: Sshd, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(running_sshd, tmp_path, proxy.port) as bench:
        plan = await bench.plan("echo up; while [ ! -e ../enough ]; do sleep 0.05; done; echo last")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
        items: list[FollowItem] = []
        following = asyncio.create_task(follow(bench, plan.directory, items))
        await bench.wait_for(lambda: log_of(items) == b"up\n")
        monkeypatch.setattr(ssh_link, "SILENCE_SECONDS", 0.5)
        monkeypatch.setattr(ssh_link, "LOGIN_SECONDS", 1.0)
        proxy.frozen = True
        await bench.wait_for(lambda: isinstance(items[-1], Unreachable))
        proxy.frozen = False
        proxy.cut()
        Path(plan.directory, "enough").touch()
        await CLOCK.timeout(following, PATIENCE)
        assert log_of(items) == b"up\nlast\n"


async def test_the_streams_script_may_be_killed_there(running_sshd: Sshd, tmp_path: Path) -> None:
    async with connected(running_sshd, tmp_path) as bench:
        plan = await bench.plan("seq 1 1000; while [ ! -e ../enough ]; do sleep 0.05; done; seq 1001 2000")
        await bench.host.launch(plan)
        items: list[FollowItem] = []
        following = asyncio.create_task(follow(bench, plan.directory, items))
        await bench.wait_for(lambda: log_of(items).endswith(b"\n1000\n"))
        scripts = [
            pid
            for pid in processes_with("One stream for all followed attempts of a host")
            if Path(f"/proc/{pid}/exe").resolve().name in ("dash", "sh", "bash", "busybox")
        ]
        for pid in scripts:
            os.kill(pid, signal.SIGKILL)
        Path(plan.directory, "enough").touch()
        await CLOCK.timeout(following, PATIENCE)
        assert scripts
        assert log_of(items) == b"".join(b"%d\n" % n for n in range(1, 2001))


async def test_another_boot_of_the_machine_is_evidence(sshd: Sshd, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can show sshd another boot id")
    sshd.start()
    async with connected(sshd, tmp_path / "there") as bench:
        plan = await bench.plan("echo up; sleep 300")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
        sshd.stop()
        sshd.boot_id = "00000000-1111-2222-3333-444444444444"
        sshd.start()
        items = await bench.follow(plan.directory)
        assert isinstance(items[-1], Lost) and "restarted" in items[-1].reason
        assert log_of(items) == b"up\n"


async def test_another_machine_behind_the_same_name_is_no_evidence(running_sshd: Sshd, tmp_path: Path) -> None:
    async with connected(running_sshd, tmp_path) as bench:
        plan = await bench.plan("echo up; sleep 300")
        await bench.host.launch(plan)
        started = await bench.until(plan.directory, b"up\n")
        machine = Path(plan.directory, "control", "machine")
        real = machine.read_text()
        machine.write_text("login-node-2\n")
        os.kill(int(started.identity.split()[0]), signal.SIGKILL)
        items: list[FollowItem] = []
        following = asyncio.create_task(follow(bench, plan.directory, items))
        await bench.wait_for(lambda: items)
        assert isinstance(items[0], Unreachable) and "login-node-2" in items[0].reason
        machine.write_text(real)
        await CLOCK.timeout(following, PATIENCE)
        assert isinstance(items[1], Reached) and isinstance(items[-1], Lost)


class Hurried(RealClock):
    """Sleeps are noted and skipped; time moves on by them all the same."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(0)


@pytest.mark.parametrize(
    ("key", "most"), [("user_key", 30.0), ("other_key", 300.0)], ids=["refused", "no such key"]
)
async def test_reconnecting_backs_off_with_jitter_and_a_command_does_not_wait_for_it(
    sshd: Sshd, key: str, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = sshd.client(9)
    if key == "other_key":
        sshd.start()
        options = sshd.client()
        Path(options[1]).write_text(Path(options[1]).read_text().replace("user_key", key))
        monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (8.0, 30.0))
    first = ssh.BACKOFF_SECONDS[0]
    clock = Hurried()
    transport = SshTransport(HOST, clock, options, random.Random(5))
    items: list[FollowItem] = []

    async def follow_it() -> None:
        async for item in transport.follow("/nowhere", 0):
            items.append(item)

    following = asyncio.create_task(follow_it())
    while len(clock.slept) < 10:
        await asyncio.sleep(0.01)
    with pytest.raises(ConnectionFault):
        await transport.run(["true"])
    await transport.close()
    await following
    assert [type(item) for item in items] == [Unreachable]
    shares = [slept / min(first * 2.0**n, most) for n, slept in enumerate(clock.slept[:10], 1)]
    assert all(0.49 < share <= 1.0 for share in shares), shares
    assert len({round(share, 3) for share in shares}) > 5, "jitter"


# --- many at once ----------------------------------------------------------------------------------------


async def test_twelve_attempts_and_as_many_commands_fit_into_sshds_ten_sessions(
    running_sshd: Sshd, proxy: Proxy, tmp_path: Path
) -> None:
    async with connected(running_sshd, tmp_path, proxy.port) as bench:
        plans = [await bench.plan(f"echo {n}; while [ ! -e ../../enough ]; do sleep 0.1; done") for n in range(12)]
        following = [asyncio.create_task(bench.run(plan)) for plan in plans]
        transport: Any = bench.host._transport  # type: ignore[attr-defined]
        done = await asyncio.gather(*(transport.run(["sh", "-c", f"sleep 0.1; echo {n}"]) for n in range(24)))
        assert [int(one.stdout) for one in done] == list(range(24))
        assert proxy.connections == 1, "one connection carries all of it"
        (tmp_path / "trials" / "7" / "enough").touch()
        for n, items in enumerate(await asyncio.gather(*following)):
            assert log_of(items) == b"%d\n" % n and exited(items).reason == "finished"


async def test_a_server_that_allows_two_sessions_is_slower_and_one_that_allows_one_says_so(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (0.02, 0.1))
    sshd.max_sessions = 2
    sshd.start()
    async with connected(sshd, tmp_path / "there") as bench:
        plans = [await bench.plan(f"echo {n}") for n in range(3)]
        for n, items in enumerate(await asyncio.gather(*(bench.run(plan) for plan in plans))):
            assert log_of(items) == b"%d\n" % n
    sshd.stop()
    sshd.max_sessions = 1
    sshd.start()
    with pytest.raises(HostFault) as raised:
        async with connected(sshd, tmp_path / "there"):
            pass
    assert "MaxSessions" in raised.value.mend, raised.value


# --- logging in ------------------------------------------------------------------------------------------


async def test_login_files_may_be_slow_and_may_talk(sshd: Sshd, tmp_path: Path) -> None:
    sshd.login = (
        "sleep 0.3; printf 'Welcome!\\nno newline, \\001\\377 and deadbeef end'; echo warning >&2; export NOISE=1"
    )
    sshd.start()
    async with connected(sshd, tmp_path / "there is 'noise'") as bench:
        plan = await bench.plan("printf 'a\\000b\\377'; env", "seq 1 5")
        items = await bench.run(plan)
        assert exited(items).reason == "finished"
        assert log_of(items).startswith(b"a\0b\xff") and log_of(items).endswith(b"\n1\n2\n3\n4\n5\n")
        assert b"NOISE" not in log_of(items)
        Path(plan.directory, "work", "out").write_bytes(bytes(range(256)))
        assert await bench.host.read(plan.directory, "out", 1000) == {"out": bytes(range(256))}


async def test_what_login_files_export_reaches_no_process_of_an_attempt(sshd: Sshd, tmp_path: Path) -> None:
    sshd.login = "export WANDB_API_KEY=canary-of-the-login-file"
    sshd.start()
    async with connected(sshd, tmp_path / "there") as bench:
        plan = await bench.plan("echo up; sleep 300")
        await bench.host.launch(plan)
        started = await bench.until(plan.directory, b"up\n")
        watcher = int(Path(plan.directory, "control", "watcher").read_text().split()[0])
        for pid in (int(started.identity.split()[0]), watcher):
            data = Path(f"/proc/{pid}/environ").read_bytes()
            assert data and b"canary" not in data
        await bench.host.cancel(plan.directory)


async def fault_of(server: Sshd, options: tuple[str, ...], host: str = HOST) -> ConnectionFault:
    transport = SshTransport(host, CLOCK, options)
    try:
        with pytest.raises(ConnectionFault) as raised:
            await transport.connect()
        print(raised.value)
        return raised.value
    finally:
        await transport.close()


async def test_why_a_host_cannot_be_reached_is_said_in_sshs_words_with_the_mend(
    sshd: Sshd, tmp_path: Path
) -> None:
    refused = await fault_of(sshd, sshd.client(9))
    assert "Connection refused" in refused.message and not refused.lasting
    unnamed = await fault_of(sshd, ("-F", "/dev/null"), "no-such-host.invalid")
    assert "no-such-host.invalid" in unnamed.message and "ratchet.toml" in unnamed.mend
    sshd.start()
    wrong = sshd.client(None, f'IdentityFile "{sshd.folder / "other_key"}"')
    Path(wrong[1]).write_text(Path(wrong[1]).read_text().replace("user_key", "other_key"))
    denied = await fault_of(sshd, wrong)
    assert "Permission denied" in denied.message and "ssh-add" in denied.mend and denied.lasting
    broken = await fault_of(sshd, sshd.client(None, "NoSuchOption yes"))
    assert "nosuchoption" in broken.message.lower() and broken.lasting
    sshd.know("other_key")
    changed = await fault_of(sshd, sshd.client())
    assert "CHANGED" in changed.message and "ssh-keygen -R" in changed.mend and changed.lasting
    sshd.known_hosts.write_text("")
    unknown = await fault_of(sshd, sshd.client())
    assert "verification failed" in unknown.message and f"`ssh {HOST}`" in unknown.mend and unknown.lasting


async def test_a_jump_host_is_used_and_what_a_persons_configuration_wants_of_a_terminal_is_not(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    mine = ["Host far", "ProxyJump box", "RequestTTY force", "ControlMaster auto", "ControlPersist yes"]
    mine += [f"ControlPath {tmp_path}/users-own", "LogLevel QUIET", "LocalForward 127.0.0.1:1 127.0.0.1:2"]
    options = running_sshd.client(None, *mine)
    jumped = SshTransport("far", CLOCK, options)
    direct = SshTransport(HOST, CLOCK, running_sshd.client(None, "Host *", "RemoteCommand tmux", "LogLevel QUIET"))
    for transport in (jumped, direct):
        try:
            done = await transport.run(["sh", "-c", "tty; echo $SSH_CONNECTION; echo up"])
            assert done.stdout.split() == [b"not", b"a", b"tty", b"up"]
        finally:
            await transport.close()
    assert not (tmp_path / "users-own").exists()


async def test_an_account_without_a_shell_is_told_apart(sshd: Sshd) -> None:
    sshd.login = "echo This account is currently not available.; exit 1"
    sshd.start()
    fault = await fault_of(sshd, sshd.client())
    assert "currently not available" in fault.message and "shell" in fault.message


@pytest.mark.parametrize("name", ["-oProxyCommand=touch x", "two words", ""])
def test_a_name_that_is_an_option_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        SshTransport(name, CLOCK)


async def test_control_sockets_fit_however_long_the_temporary_directory_is(
    running_sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = set(Path("/tmp").glob("ratchet-ssh-*"))
    async with connected(running_sshd, tmp_path / "there") as bench:
        (folder,) = set(Path("/tmp").glob(f"ratchet-ssh-{os.getpid()}-*")) - before
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(len(str(path)) + 17 < 107 for path in folder.iterdir()) and list(folder.iterdir())
        assert log_of(await bench.run(await bench.plan("echo fits"))) == b"fits\n"
    assert not folder.exists()


async def test_a_floods_log_comes_without_its_middle_and_in_its_place(running_sshd: Sshd, tmp_path: Path) -> None:
    async with connected(running_sshd, tmp_path) as bench:
        plan = await bench.plan(
            "i=0; while [ $i -lt 12 ]; do i=$((i+1)); seq 1 400000; sleep 0.1; done", log_cap_bytes=2 << 20
        )
        items = await bench.run(plan)
        assert exited(items).reason == "finished"
        block = b"".join(b"%d\n" % n for n in range(1, 400_001))
        position = skipped = 0
        for item in items:
            if isinstance(item, LogChunk):
                assert item.offset == position
                start = position % len(block)
                assert item.data == (block * 2)[start : start + len(item.data)], "bytes in their place, no zeros"
                position += len(item.data)
            elif isinstance(item, LogSkipped):
                assert item.offset == position
                position, skipped = position + item.length, skipped + item.length
        assert position == 12 * len(block) and skipped > 0
        print(f"{position:,} bytes printed, {position - skipped:,} delivered")


# --- files -----------------------------------------------------------------------------------------------


async def test_code_travels_once_for_all_trials_of_it(running_sshd: Sshd, proxy: Proxy, tmp_path: Path) -> None:
    async with connected(running_sshd, tmp_path / "there", proxy.port) as bench:
        archive = make_archive(tmp_path / "a.tar", {"big.txt": random.Random(2).randbytes(500_000).hex()})
        directories = [bench.directory() for _ in range(4)]
        before = proxy.bytes
        await asyncio.gather(*(bench.host.stage(directory, str(archive), {}) for directory in directories))
        first, before = proxy.bytes - before, proxy.bytes
        await bench.host.stage(bench.directory(), str(archive), {})
        again = proxy.bytes - before
        print(f"{first} bytes for four trials at once, {again} for the next one")
        assert first < 1.5 * archive.stat().st_size and again < 100_000
        for directory in directories:
            assert (Path(directory) / "work" / "big.txt").stat().st_size == 1_000_000


async def test_a_home_is_the_far_sides(running_sshd: Sshd, tmp_path: Path) -> None:
    name = f"data of {tmp_path.name}"
    data = running_sshd.home / name
    data.mkdir()
    (data / "train.bin").write_text("big")
    async with connected(running_sshd, f"~/{tmp_path.name}/ratchet") as bench:
        assert bench.root == running_sshd.home / tmp_path.name / "ratchet"
        links = {"data": f"~/{name}", "../home/.cache/set": f"~/{name}", "gone": "~/no such thing"}
        directory = Path(await bench.stage({"a.py": ""}, links))
        assert (directory / "work" / "data" / "train.bin").read_text() == "big"
        assert (directory / "home" / ".cache" / "set" / "train.bin").read_text() == "big"
        assert not (directory / "work" / "gone").is_symlink()


async def test_reading_is_capped_and_keeps_to_regular_files_in_their_order(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    async with connected(running_sshd, tmp_path) as bench:
        names = ["b.txt", "a b.txt", "new\nline.txt", "quo'te.txt", "d/e/f.txt", "-n.txt", "sn\N{SNOWMAN}w.txt"]
        directory = await bench.stage({name: f"<{name}>" * 10 for name in names})
        found = await bench.host.read(directory, "**", 12)
        assert list(found) == sorted(names, key=lambda name: name.split("/"))
        assert all(data == (f"<{name}>" * 10).encode()[:12] for name, data in found.items())
        work = Path(directory, "work")
        (work / "d" / "e").rename(work / "moved")
        (work / "d" / "e").symlink_to(work / "moved")
        assert "d/e/f.txt" not in await bench.host.read(directory, "**", 12)
        work.rename(tmp_path / "elsewhere")
        work.symlink_to(tmp_path / "elsewhere")
        assert await bench.host.read(directory, "**", 12) == {}


async def test_old_archives_and_what_a_cut_left_are_cleaned_when_a_host_is_opened(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    async with connected(running_sshd, tmp_path) as bench:
        await bench.stage({"a.py": "old"})
        await bench.stage({"a.py": "new"})
        staged = sorted((tmp_path / "cache").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        old_half = tmp_path / "trials" / "3" / "attempt-1.staging-1"
        (old_half / "work").mkdir(parents=True)
        (tmp_path / "cache" / "x.tar.7.part").touch()
        for path, days in ((staged[0], 20), (old_half, 3), (tmp_path / "cache" / "x.tar.7.part", 3)):
            then = CLOCK.now() - days * 86400
            os.utime(path, (then, then))
    async with connected(running_sshd, tmp_path):
        assert list((tmp_path / "cache").iterdir()) == [staged[1]]
        assert not old_half.exists()


# --- the engine's end ------------------------------------------------------------------------------------

ENGINE = """
import asyncio, json, sys
from engine.clock import RealClock
from engine.runners import AttemptPlan, LogChunk, Step
from engine.runners.remote import RemoteHost
from engine.runners.ssh import SshTransport
from engine.types import Allocation

async def main(root, archive, directory, options):
    host = RemoteHost("there", SshTransport("box", RealClock(), json.loads(options)), root, RealClock())
    await host.open()
    await host.stage(directory, archive, {})
    command = "i=0; while [ ! -e ../enough ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo last"
    plan = AttemptPlan(directory, "token-of-a-far-survival", (Step("train", command, 60.0),),
                       {"PATH": "/usr/local/bin:/usr/bin:/bin"}, Allocation("there", "cpu0"),
                       wrap=host.containment.wrap)
    await host.launch(plan)
    async for item in host.follow(directory, 0):
        if isinstance(item, LogChunk) and item.offset + len(item.data) > 60:
            print("followed", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killing_the_engine_ends_nothing_there_and_leaves_no_connection(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    import json

    archive = make_archive(tmp_path / "archive.tar", {"train.py": ""})
    directory = str(tmp_path / "there" / "trials" / "7" / "attempt-1")
    options = running_sshd.client()
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(tmp_path / "there"), str(archive), directory, json.dumps(options)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert engine.stdout is not None
    assert engine.stdout.readline() == b"followed\n"
    # The engine alone: its ssh has a session of its own and must notice by itself.
    engine.kill()
    engine.wait()
    engine.stdout.close()
    async with connected(running_sshd, tmp_path / "there") as bench:
        bench.directories.append(directory)
        await bench.wait_for(lambda: not processes_with(f"ControlPath=/tmp/ratchet-ssh-{engine.pid}-"))
        assert not list(Path("/tmp").glob(f"ratchet-ssh-{engine.pid}-*")), "its socket's folder is swept"
        Path(directory, "enough").touch()
        items = await bench.follow(directory)
        assert exited(items).reason == "finished"
        lines = log_of(items).decode().splitlines()
        assert lines == [*(f"line {n}" for n in range(1, len(lines))), "last"]


async def test_commands_are_quoted_for_the_far_side(running_sshd: Sshd) -> None:
    transport = SshTransport(HOST, CLOCK, running_sshd.client())
    try:
        words = [
            "it's",
            'a "b"',
            "$HOME `id` \\0101 \\n",
            "!event %s",
            "new\nline\n",
            "",
            "\N{SNOWMAN}",
            "-n",
            "*",
        ]
        done = await transport.run(["printf", "%s\\0", *words])
        assert done.stdout.decode().split("\0")[:-1] == words
        assert (done.code, done.stderr) == (0, b"")
        failed = await transport.run(["sh", "-c", "echo out; echo err >&2; exit 255"])
        assert (failed.code, failed.stdout, failed.complaint) == (255, b"out\n", "err")
        data = random.Random(3).randbytes(300_000)
        assert (await transport.run(["cat"], input=data)).stdout == data
        missing = await transport.run(["/no/such/program"])
        assert missing.code == 127 and "no/such" in missing.complaint
        with pytest.raises(HostFault):
            await transport.run(["sleep", "20"], seconds=0.3)
        with pytest.raises(UsageError):
            await transport.run(["a\0b"])
    finally:
        await transport.close()
