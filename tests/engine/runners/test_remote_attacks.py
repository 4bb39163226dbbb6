"""What candidates and machines do to trials elsewhere: odd names, floods, full disks, set-ups that fail or last."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from far_bench import connected
from runner_bench import PATIENCE, Bench, exited, log_of
from sshd import HOST, Sshd

from engine import config as configuration
from engine.clock import RealClock, VirtualClock
from engine.environment import environment_key
from engine.errors import HostFault
from engine.fleet import OPEN_SECONDS, Fleet, _ground
from engine.grounds import Grounds
from engine.host_environment import ensure_environment_there
from engine.post import HostState, Post
from engine.runners import FollowItem, LogChunk, Lost, Unreachable, direct, far, ssh
from engine.runners.far import LogCopy, is_full, send_file
from engine.runners.local import LocalHost
from engine.runners.remote import RemoteHost
from engine.runners.ssh import SshTransport
from engine.runners.transport import Completed, LocalTransport
from engine.store import reading
from engine.types import TrialOutcome
from tests.engine.simulated_host import Ending, Execution, Machine, SimulatedHost
from tests.engine.virtual_campaign import Turn, VirtualCampaign, measured

CLOCK = RealClock()


# --- what a candidate leaves behind ----------------------------------------------------------------------


async def test_names_that_grow_on_their_way_through_two_shells_are_read_all_the_same(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    async with connected(running_sshd, tmp_path) as bench:
        directory = await bench.stage()
        work = Path(directory, "work")
        names = [f"{'☃' * 80}{n}.json" for n in range(300)] + [f"{chr(39) * 245}{n}.json" for n in range(60)]
        for name in names:
            (work / name).write_text(name)
        deep = os.open(work, os.O_RDONLY)
        for _ in range(20):  # to a path that nothing can be opened by
            os.mkdir("d" * 250, dir_fd=deep)
            below = os.open("d" * 250, os.O_RDONLY, dir_fd=deep)
            os.close(deep)
            deep = below
        os.close(os.open("x.json", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
        os.close(deep)
        found = await bench.host.read(directory, "**", 1000)
        assert {name: data.decode() for name, data in found.items() if name in names} == {n: n for n in names}
        assert all(len(name.encode()) < 4096 for name in found)


DAMAGED = ["", "end", "reason finished", "reason \\377\nend", "reason a b\nend", "reason finished\npeak x\nend"]
DAMAGED += ["reason finished\nstep x y\nend", "reason finished\nstep 1 0 1.2.3 0 1\nend", "reason finished\v\nend"]


@pytest.mark.parametrize("killed", [False, True])
async def test_a_damaged_exit_is_as_good_as_none(running_sshd: Sshd, tmp_path: Path, killed: bool) -> None:
    async with connected(running_sshd, tmp_path) as bench:
        plans = [
            await bench.plan(
                f"printf '{text}\n' >../control/exit; echo up; while [ ! -e ../../on ]; do sleep 0.1; done"
            )
            for text in DAMAGED
        ]
        following = [asyncio.create_task(bench.run(plan)) for plan in plans]
        for plan in plans:
            job = (await bench.until(plan.directory, b"up\n")).identity.split()[0]
            if killed:
                os.kill(int(job), signal.SIGKILL)
        (tmp_path / "trials" / "7" / "on").touch()
        for items in await asyncio.gather(*following):
            assert isinstance(items[-1], Lost) if killed else exited(items).reason == "finished"


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_thousand_large_files_do_not_fill_the_engines_memory(
    running_sshd: Sshd, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("local", "remote"):
        monkeypatch.setattr(f"engine.runners.{module}.MOST_BYTES_READ", 1_000_000)
    assert direct.MOST_BYTES_READ < 1 << 30
    here = LocalHost("here", tmp_path, CLOCK)
    async with connected(running_sshd, tmp_path) as bench:
        directory = await bench.stage()
        for n in range(30):
            with Path(directory, "work", f"{n:02}.json").open("wb") as file:
                file.truncate(300_000)
        host = here if where == "here" else bench.host
        found = await host.read(directory, "*.json", 400_000)
        assert list(found) == ["00.json", "01.json", "02.json"], "the first ones whole, and no half of the next"
        assert all(len(data) == 300_000 for data in found.values())


def test_the_copy_of_a_flood_keeps_to_the_logs_own_cap(tmp_path: Path) -> None:
    cap, chunk = 4 << 20, 64 << 10
    copy = LogCopy(tmp_path, cap)
    for n in range(1024):  # 64 MB
        copy.add(LogChunk(n * chunk, bytes([65 + n % 26]) * chunk))
    log = tmp_path / "control" / "log"
    used = log.stat().st_blocks * 512
    print(f"{log.stat().st_size:,} bytes printed, {used:,} on the disk")
    assert log.stat().st_size == 1024 * chunk, "every offset stays what it was"
    assert used <= cap + far.PUNCH_BYTES + chunk
    data = log.read_bytes()
    assert data[: 2 << 20].strip(b"\0") == data[: 2 << 20], "its head"
    assert data[-(1 << 20) :] == b"".join(bytes([65 + n % 26]) * chunk for n in range(1008, 1024)), "and its tail"


def test_where_no_hole_can_be_cut_the_copy_of_a_flood_ends_at_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "_punch", lambda *_: False)
    copy = LogCopy(tmp_path, 2 << 20)
    for n in range(256):
        copy.add(LogChunk(n << 16, b"x" * (1 << 16)))
    assert (tmp_path / "control" / "log").stat().st_size < 3 << 20


# --- machines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CORP\\nina", "a\\\\b", "$(x) `y` \"z\" 'q'", "new\nline\n"])
async def test_a_directory_may_have_any_name(running_sshd: Sshd, tmp_path: Path, name: str) -> None:
    async with connected(running_sshd, tmp_path / name) as bench:
        assert str(bench.root) == str(tmp_path / name)
        items = await bench.run(await bench.plan("cat train.py"))
        assert exited(items).reason == "finished" and log_of(items) == b"print('hello')\n"


async def test_a_temporary_directory_that_only_a_batch_job_has_is_not_used(sshd: Sshd, tmp_path: Path) -> None:
    sshd.login = "export TMPDIR=/scratch/of/no/job"
    sshd.start()
    async with connected(sshd, tmp_path / "there") as bench:
        assert exited(await bench.run(await bench.plan("true"))).reason == "finished"


async def test_what_was_sent_and_is_gone_or_changed_there_is_sent_again(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    transport = SshTransport(HOST, CLOCK, running_sshd.client())
    path = tmp_path / "archives" / "frozen.tar"
    try:
        for harm in (lambda: None, path.unlink, lambda: path.write_bytes(b"forged"), lambda: None):
            harm()
            before = path.stat().st_ino if path.exists() else 0
            await send_file(transport, str(path), b"the evaluator" * 1000)
            assert path.read_bytes() == b"the evaluator" * 1000
        assert path.stat().st_ino == before, "what is there as it should be is left alone"
    finally:
        await transport.close()


async def test_a_full_disk_is_told_from_one_with_room(tmp_path: Path) -> None:
    transport = LocalTransport(CLOCK)
    assert not await is_full(transport, str(tmp_path), 1 << 20)
    assert not await is_full(transport, str(tmp_path / "gone"), 1 << 20), "another fault, told elsewhere"
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True).returncode:
        pytest.skip("only root can mount a file system of one megabyte")
    try:
        assert not await is_full(transport, str(small), 1000)
        assert await is_full(transport, str(small), 2 << 20)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


class Counting(RealClock):
    """Sleeps are skipped, and move time on all the same; how often somebody looks at it is counted."""

    def __init__(self) -> None:
        self.looks = 0
        self.slept = 0.0

    def monotonic(self) -> float:
        self.looks += 1
        assert self.looks < 5000, "somebody asks again and again, and nobody else comes to a word"
        return super().monotonic() + self.slept

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await super().sleep(0)


@pytest.mark.parametrize("seed", range(4))
async def test_a_command_for_a_host_that_is_away_does_not_spin_until_its_patience_ends(
    sshd: Sshd, seed: int
) -> None:
    clock = Counting()
    transport = SshTransport(HOST, clock, sshd.client(9), random.Random(seed))
    for _ in range(3):
        with pytest.raises(HostFault):
            await transport.run(["true"])
    print(f"seed {seed}: {clock.looks} looks at the clock in {clock.slept:.0f} s")
    await transport.close()


async def test_attempts_are_followed_on_as_soon_as_somebody_connected_again(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd.start()
    async with connected(sshd, tmp_path / "there") as bench:
        plan = await bench.plan("echo up; while [ ! -e ../enough ]; do sleep 0.05; done")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
        items: list[FollowItem] = []

        async def follow() -> None:
            async for item in bench.host.follow(plan.directory, 0):
                items.append(item)

        following = asyncio.create_task(follow())
        await bench.wait_for(lambda: log_of(items) == b"up\n")
        monkeypatch.setattr(ssh, "BACKOFF_SECONDS", (10 * PATIENCE, 10 * PATIENCE))
        sshd.stop()
        await bench.wait_for(lambda: isinstance(items[-1], Unreachable))
        sshd.start()
        Path(plan.directory, "enough").touch()
        assert isinstance(bench.host, RemoteHost)
        await bench.host._ssh.connect()  # as the fleet does, which tries by itself
        await CLOCK.timeout(following, PATIENCE)
        assert exited(items).reason == "finished"


async def test_archives_that_nobody_uses_any_more_go_when_the_next_one_comes(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    async with connected(running_sshd, tmp_path) as bench:
        await bench.stage({"a.py": "old"})
        await bench.stage({"a.py": "in use"})
        old, used = sorted((tmp_path / "cache").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in (old, used):
            os.utime(path, (CLOCK.now() - 3 * 86400,) * 2)
        await bench.stage({"a.py": "in use"})
        await bench.stage({"a.py": "new"})
        left = set((tmp_path / "cache").iterdir())
        assert len(left) == 2 and used in left


# --- the environment -------------------------------------------------------------------------------------


class Site:
    """A project whose set-up is a script of its own, and a host."""

    def __init__(self, folder: Path, bench: Bench) -> None:
        self.project = folder / "project"
        self.project.mkdir()
        self.bench = bench
        self.told: list[str] = []
        self.lock("1")
        text = (
            '[project]\nedit = ["a.py"]\n[metric]\nname = "x"\n[trial]\ncommand = "true"\n'
            f'[environment]\nkey = ["uv.lock"]\nsetup = {json.dumps("sh setup.sh")}\n'
        )
        self.config = configuration.parse(text)
        self.key = environment_key(self.config, self.project)
        self.folder = Path(bench.root, "environments", self.key)

    def lock(self, text: str) -> None:
        (self.project / "uv.lock").write_text(text)

    def script(self, text: str) -> None:
        (self.project / "setup.sh").write_text(text)

    async def build(self) -> None:
        host = self.bench.host
        assert isinstance(host, RemoteHost)
        await ensure_environment_there(
            self.config, self.project, host, host._ssh, str(self.bench.root), self.key, self.told.append
        )


async def test_a_setup_that_failed_is_run_again_with_the_files_as_they_were_mended(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    async with connected(running_sshd, tmp_path / "there") as bench:
        site = Site(tmp_path, bench)
        site.script("touch half; echo no such package; exit 3")
        with pytest.raises(HostFault) as failed:
            await site.build()
        assert "no such package" in failed.value.message and "setup.log" in failed.value.mend
        site.script('[ ! -e half ] && mkdir -p "$VIRTUAL_ENV" && echo mended >"$VIRTUAL_ENV/mark"')
        await site.build()
        assert (site.folder / "venv" / "mark").read_text() == "mended\n"
        assert sorted(p.name for p in site.folder.iterdir()) == ["lock", "ready", "setup.log", "source", "venv"]
        await site.build()
        assert len(site.told) == 2, "it is said what takes so long; what is built is not built again"


async def test_an_environment_stays_what_it_was_when_the_engine_started(
    running_sshd: Sshd, tmp_path: Path
) -> None:
    async with connected(running_sshd, tmp_path / "there") as bench:
        site = Site(tmp_path, bench)
        site.script("true")
        site.lock("2")
        with pytest.raises(HostFault) as refused:
            await site.build()
        assert "changed since the engine started" in refused.value.message and not site.folder.exists()
        site.lock("1")
        await site.build()
        site.lock("2")
        await site.build()  # a host that is opened anew has what its trials had before


async def test_setting_a_host_up_may_take_longer_than_reaching_it() -> None:
    clock = VirtualClock()
    machine = Machine(clock, measured({}))

    async def prepare(host: object, tell: Callable[[str], None]) -> Grounds:
        tell("building its environment: uv sync")
        await clock.sleep(20 * OPEN_SECONDS)
        return Grounds("/nowhere", Path("/p"), Path("/h"), local=False)

    quick = _ground(Grounds("/nowhere", Path("/p"), Path("/h")))
    posts = [Post(SimulatedHost(machine, 1, "far"), prepare), Post(SimulatedHost(machine, 1, "quick"), quick)]
    fleet = Fleet(posts, clock, random.Random(1))

    async def work() -> None:
        await fleet.open()
        far = fleet.post("far")
        assert clock.monotonic() < 10 and far.state is HostState.OPENING
        assert "uv sync" in far.row().reason and far in [news.post for news in fleet.news()]
        await clock.sleep(10 * OPEN_SECONDS)
        assert far.state is HostState.OPENING, "neither given up nor begun again"
        await clock.sleep(11 * OPEN_SECONDS)
        assert far.state is HostState.READY and far.reason == ""
        await fleet.close()

    await clock.run(work())


async def test_a_setup_that_fails_the_same_way_again_and_again_is_told_once() -> None:
    clock = VirtualClock()
    machine = Machine(clock, measured({}))

    async def prepare(host: object, tell: Callable[[str], None]) -> Grounds:
        tell("building its environment: uv sync")
        raise HostFault("far: [environment] setup failed")

    quick = _ground(Grounds("/nowhere", Path("/p"), Path("/h")))
    posts = [Post(SimulatedHost(machine, 1, "far"), prepare), Post(SimulatedHost(machine, 1, "quick"), quick)]
    fleet = Fleet(posts, clock, random.Random(1))

    async def work() -> None:
        await fleet.open()
        await clock.sleep(3600)
        told = [news.warning for news in fleet.news() if news.warning]
        assert told == ["host far is set aside: far: [environment] setup failed"]
        await fleet.close()

    await clock.run(work())


async def test_a_fault_of_our_own_while_a_host_is_opened_is_not_the_end_of_tending_it() -> None:
    clock = VirtualClock()
    machine = Machine(clock, measured({}))

    class Odd(SimulatedHost):
        asked = 0

        async def open(self) -> None:
            self.asked += 1
            if self.asked < 3:
                raise OSError(28, "No space left on device")
            await super().open()

    odd = Odd(machine, 1, "odd")
    grounds = _ground(Grounds("/nowhere", Path("/p"), Path("/h")))
    fleet = Fleet([Post(odd, grounds), Post(SimulatedHost(machine, 1, "quick"), grounds)], clock, random.Random(1))

    async def work() -> None:
        await fleet.open()
        assert "No space left" in fleet.post("odd").reason
        await clock.sleep(60)
        assert fleet.post("odd").state is HostState.READY and odd.asked == 3
        await fleet.close()

    await clock.run(work())


async def test_a_host_that_opens_and_fails_again_and_again_is_asked_ever_more_rarely() -> None:
    clock = VirtualClock()
    machine = Machine(clock, measured({}))
    opened: list[float] = []

    class Counted(SimulatedHost):
        async def open(self) -> None:
            opened.append(clock.monotonic())

    grounds = _ground(Grounds("/nowhere", Path("/p"), Path("/h")))
    fleet = Fleet([Post(Counted(machine, 1, "full"), grounds)], clock, random.Random(1))

    async def work() -> None:
        await fleet.open()
        end = clock.monotonic() + 3600
        while clock.monotonic() < end:
            if fleet.reachable("full"):
                fleet.set_aside("full", HostFault("no room there"))
            await clock.sleep(1.0)
        await fleet.close()

    await clock.run(work())
    assert 12 <= len(opened) <= 30, len(opened)


# --- one host, and it is far -----------------------------------------------------------------------------


class Told(LocalTransport):
    """Answers for a machine that is not there; ``full``: its disk."""

    full = False

    async def run(self, argv: Sequence[str], *, input: bytes = b"", seconds: float = 30.0) -> Completed:
        return Completed(int(self.full), b"", b"head: No space left on device" if self.full else b"")


class FarCampaign(VirtualCampaign):
    """One host over ssh and nothing else."""

    kind: type[SimulatedHost] = SimulatedHost
    place = "far"

    def make_fleet(self) -> Fleet:
        self.host = self.kind(self.machine, 1, "far")
        self.there = Told(self.clock)
        grounds = Grounds(str(self.state / self.place), self.project, Path.home(), False, transport=self.there)
        return Fleet([Post(self.host, _ground(grounds), sort="ssh")], self.clock, random.Random(1))

    def warnings(self) -> list[str]:
        rows = self.conn.execute("SELECT json_extract(data, '$.message') FROM event WHERE kind = 'Warned'")
        return [str(row[0]) for row in rows]


async def test_a_connection_that_breaks_pauses_no_campaign_that_has_one_far_host(tmp_path: Path) -> None:
    class Flaky(SimulatedHost):
        reads = 0

        async def read(self, directory: str, pattern: str, limit: int) -> dict[str, bytes]:
            Flaky.reads += 1
            if Flaky.reads == 2:
                raise HostFault("far: the connection broke")
            return await super().read(directory, pattern, limit)

    c = FarCampaign(tmp_path, program=measured({1: 6.0}), script=[Turn(1)])
    c.kind = Flaky
    await c.whole()
    assert Flaky.reads > 2 and c.campaign.state == "running"
    assert c.kept() == [1] and all(t.attempts == 1 for t in c.trials())
    assert any("set aside: far: the connection broke" in w for w in c.warnings()), "and a person is told"
    assert any("is back" in w for w in c.warnings())


async def test_a_far_disk_that_is_full_convicts_no_candidate(tmp_path: Path) -> None:
    first = True

    def program(execution: Execution) -> Ending:
        nonlocal first
        honest = measured({1: 6.0})(execution)
        if "K1 = 1" in execution.files["train.py"] and first:
            first = False
            c.there.full = True
            return Ending("failed", 10.0, ((1.0, b"OSError: [Errno 28] No space left on device\n"),))
        return honest

    c = FarCampaign(tmp_path, program=program, script=[Turn(1)])

    async def work() -> None:
        await c.engine()
        await c.until(lambda: any("was full" in w for w in c.warnings()), "the disk to be full")
        c.there.full = False
        await c.ended()

    await c.run(work)
    assert not first and c.kept() == [1]
    assert not [t for t in c.trials() if t.outcome == TrialOutcome.CRASH]


async def test_a_launch_that_nobody_claims_is_made_again(tmp_path: Path) -> None:
    class Forgetful(SimulatedHost):
        launches = 0

        async def launch(self, plan: object) -> None:
            Forgetful.launches += 1
            if Forgetful.launches not in (1, 2, 4):  # those jobs died before they claimed anything
                await super().launch(plan)  # type: ignore[arg-type]

    c = FarCampaign(tmp_path, program=measured({1: 6.0}), script=[Turn(1)])
    c.kind = Forgetful
    await c.whole()
    assert c.kept() == [1] and all(t.attempts == 1 for t in c.trials())
    assert Forgetful.launches == len(c.machine.starts) + 3


async def test_an_attempt_that_was_seen_running_is_never_launched_at_another_place(tmp_path: Path) -> None:
    c = FarCampaign(tmp_path, program=measured({}, seconds=3000.0), script=[Turn(1)])

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.machine.running() == 1, "a trial to run")
        c.host.go_down("no route")
        running = c.trials()[0].id
        await c.until(lambda: reading.attempts(c.conn, running)[-1].state == "unknown", "its host to be away")
        await c.kill()
        c.host.come_back()
        c.place = "elsewhere"
        await c.engine()
        await c.clock.sleep(600)
        assert len(c.machine.starts) == 1, "what runs in the old directory may still run"

    await c.run(work)
