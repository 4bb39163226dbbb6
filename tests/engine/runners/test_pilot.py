"""Trials as steps of one allocation: a pilot of ours, or the one that the engine was started in. A real Slurm."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from runner_bench import PATIENCE, Bench, exited, log_of
from slurmd import NODE, Cluster, serve
from test_slurm import CLOCK, benched, collect, filled, job_of, lost, make_host, runs_of, until, words

from engine.errors import HostFault, UsageError
from engine.runners import FollowItem, Lost, Step
from engine.runners.slurm_options import parse_options

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from serve(tmp_path_factory.mktemp("slurm"))


@pytest.fixture
async def bench(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Bench]:
    async with piloted(cluster, tmp_path) as bench:
        yield bench


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    """What a failing test leaves would take the next one's place."""
    yield
    for number, state in cluster.jobs().items():
        if state in ("PENDING", "RUNNING"):
            cluster.ask("scancel", number)


@asynccontextmanager
async def piloted(cluster: Cluster, root: Path, **options: object) -> AsyncIterator[Bench]:
    given = {"pilot": True, "time": "01:00:00", "idle": 60, "slots": 3, **options}
    async with benched(make_host(cluster, root, **given), root) as bench:
        yield bench


def pilots(cluster: Cluster) -> dict[str, str]:
    lines = cluster.ask("squeue", "-h", "-t", "all", "-o", "%i %T %j").splitlines()
    return {number: state for number, state, name in map(str.split, lines) if name.startswith("ratchet-pilot-")}


@pytest.fixture
def allocation(cluster: Cluster) -> Iterator[str]:
    """Somebody's salloc, of ten minutes."""
    argv = [cluster.bin / "salloc", "--no-shell", "--nodes=1", "--ntasks=2", "--time=10", "--job-name=interactive"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/").stderr
    found = re.search(r"Granted job allocation (\d+)", said)
    assert found is not None
    yield found[1]
    cluster.ask("scancel", found[1])


async def test_ten_trials_share_one_pilot_and_no_more_than_its_slots_run_at_once(
    bench: Bench, cluster: Cluster
) -> None:
    before = pilots(cluster)
    marks = bench.root / "marks"
    marks.mkdir()
    mine = f'"{marks}/$RATCHET_ATTEMPT_TOKEN"'
    command = f'ls "{marks}" | wc -l >>../others; : >{mine}; sleep 0.3; rm {mine}; hostname'
    plans = [await bench.plan(command) for _ in range(10)]
    logs = await asyncio.gather(*(bench.run(plan) for plan in plans))
    for plan, items in zip(plans, logs, strict=True):
        assert exited(items).reason == "finished" and log_of(items) == f"{NODE}\n".encode()
        assert int(Path(plan.directory, "others").read_text()) <= 2
    fresh = pilots(cluster).keys() - before.keys()
    assert len(fresh) == 1 and {job_of(plan.directory) for plan in plans} == fresh
    assert f"job {fresh.pop()}: RUNNING on {NODE}" in words(logs[-1])


async def test_a_pilot_that_is_not_needed_any_more_ends(cluster: Cluster, tmp_path: Path) -> None:
    async with piloted(cluster, tmp_path, idle=1) as bench:
        plan = await bench.plan("true")
        assert exited(await bench.run(plan)).reason == "finished"
        await until(lambda: pilots(cluster)[job_of(plan.directory)] == "CANCELLED")
        again = await bench.plan("true")
        assert exited(await bench.run(again)).reason == "finished"
        assert job_of(again.directory) != job_of(plan.directory)


async def test_a_pilot_whose_engine_is_gone_ends_by_itself_after_its_trials(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with piloted(cluster, tmp_path, idle=2) as bench:
        plan = await bench.plan("echo up; sleep 4; echo done")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
    await until(lambda: pilots(cluster)[job_of(plan.directory)] == "COMPLETED")
    assert Path(plan.directory, "control", "log").read_text() == "up\ndone\n"
    assert "reason finished" in Path(plan.directory, "control", "exit").read_text()


async def test_an_engine_that_comes_back_finds_its_pilot_and_the_trials_in_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with piloted(cluster, tmp_path) as bench:
        plan = await bench.plan("echo ran >>../runs; echo up; while [ ! -e go ]; do sleep 0.1; done; echo done")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
    async with piloted(cluster, tmp_path) as bench:
        bench.directory()  # the first one's
        await bench.host.launch(plan)
        items: list[FollowItem] = []
        following = asyncio.create_task(collect(bench.host, plan.directory, items))
        other = await bench.plan("true")
        assert exited(await bench.run(other)).reason == "finished"
        Path(plan.directory, "work", "go").touch()
        await CLOCK.timeout(following, PATIENCE)
        assert exited(items).reason == "finished" and log_of(items) == b"up\ndone\n"
        assert runs_of(plan.directory) == "ran\n" and job_of(other.directory) == job_of(plan.directory)


async def test_a_host_that_is_opened_anew_keeps_its_pilot_for_the_trials_in_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    """As after a fault that set it aside; idle pilots end quickly here."""
    async with piloted(cluster, tmp_path, idle=1) as bench:
        plan = await bench.plan("echo up; sleep 5; echo done")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
        following = asyncio.create_task(bench.follow(plan.directory))
        await bench.host.open()
        items = await CLOCK.timeout(following, PATIENCE)
        assert exited(items).reason == "finished" and log_of(items) == b"up\ndone\n"
        again = await bench.plan("true")
        assert exited(await bench.run(again)).reason == "finished"


async def test_trials_wait_for_a_pilot_that_waits_and_can_be_cancelled_meanwhile(
    bench: Bench, cluster: Cluster
) -> None:
    with filled(cluster):
        plan, other = await bench.plan("echo ran >>../runs"), await bench.plan("echo other")
        await bench.host.launch(plan)
        await bench.host.launch(other)
        items: list[FollowItem] = []
        following = asyncio.create_task(collect(bench.host, other.directory, items))
        await until(
            lambda: any(re.search(r"waits for job \d+: PENDING \(Resources\)", said) for said in words(items))
        )
        assert await bench.host.cancel(plan.directory) is True
        assert exited(await bench.follow(plan.directory)).reason == "cancelled"
    await CLOCK.timeout(following, PATIENCE)
    assert exited(items).reason == "finished"
    assert not Path(plan.directory, "runs").exists()


async def test_a_running_step_is_cancelled_and_its_neighbour_goes_on(bench: Bench) -> None:
    plan, other = await bench.plan("echo up; sleep 300"), await bench.plan("echo up; sleep 2; echo done")
    await bench.host.launch(plan)
    await bench.host.launch(other)
    await bench.until(plan.directory, b"up\n")
    assert await bench.host.cancel(plan.directory) is False
    assert exited(await bench.follow(plan.directory)).reason == "cancelled"
    items = await bench.follow(other.directory)
    assert exited(items).reason == "finished" and log_of(items) == b"up\ndone\n"


async def test_a_step_whose_job_is_killed_is_lost_and_its_neighbour_goes_on(
    bench: Bench, cluster: Cluster
) -> None:
    plan, other = await bench.plan("echo up; sleep 300"), await bench.plan("echo up; sleep 6; echo done")
    await bench.host.launch(plan)
    await bench.host.launch(other)
    started = await bench.until(plan.directory, b"up\n")
    await bench.until(other.directory, b"up\n")
    cluster.kill_there(int(started.identity.split()[0]), "job.sh")
    assert "ended without an exit" in lost(await bench.follow(plan.directory))
    assert exited(await bench.follow(other.directory)).reason == "finished"


async def test_a_step_that_ends_with_its_srun_is_lost(bench: Bench, cluster: Cluster) -> None:
    """srun leaves somebody behind who ends the step when srun itself is killed."""
    plan = await bench.plan("echo ran >>../runs; echo up; sleep 300")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    mine = cluster.processes(f"--job-name=ratchet-{plan.token}", "srun")
    cluster.kill_there(min(mine), "srun")
    assert "ended without an exit" in lost(await bench.follow(plan.directory))
    again = await bench.plan("true")
    assert exited(await bench.run(again)).reason == "finished"
    assert runs_of(plan.directory) == "ran\n"


async def test_a_pilot_that_is_ended_by_somebody_loses_its_trials_and_the_next_ones_get_another(
    bench: Bench, cluster: Cluster
) -> None:
    plan = await bench.plan("echo up; sleep 300")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    cluster.ask("scancel", job_of(plan.directory))
    assert "CANCELLED" in lost(await bench.follow(plan.directory))
    again = await bench.plan("true")
    assert exited(await bench.run(again)).reason == "finished"
    assert job_of(again.directory) != job_of(plan.directory)


@pytest.mark.parametrize("command", ["sleep 300", "trap '' TERM; sleep 300"], ids=["ends by itself", "is killed"])
async def test_a_pilot_that_slurm_preempts_takes_no_attempt_from_its_trials(
    bench: Bench, cluster: Cluster, command: str
) -> None:
    plan = await bench.plan(f"echo up; {command}")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    with filled(cluster, "--partition=urgent"):
        end = (await bench.follow(plan.directory))[-1]
    assert isinstance(end, Lost) and end.preempted and end.seconds is not None and end.seconds > 0, end
    print(end)


async def test_an_srun_that_starts_nothing_is_told_in_its_words(cluster: Cluster, tmp_path: Path) -> None:
    failing = 'case "$*" in *--exact*) echo "srun: error: Unable to create step: out of luck" >&2; exit 1 ;; esac\nexec $REAL "$@"'
    path = cluster.shim(tmp_path / "path", {"srun": failing})
    async with piloted(cluster, tmp_path, path=path) as bench:
        plan = await bench.plan("echo ran >>../runs")
        reason = lost(await bench.run(plan))
        assert "srun did not start it" in reason and "out of luck" in reason
        await bench.host.launch(plan)
        assert not Path(plan.directory, "runs").exists()


async def test_nothing_starts_in_a_pilot_that_it_could_outlive(cluster: Cluster, tmp_path: Path) -> None:
    """The pilot has 15 minutes: a trial of 10 starts in it; once it has 5 left, the next gets a new pilot."""
    async with piloted(cluster, tmp_path, time="00:15:00") as bench:
        with pytest.raises(HostFault, match=r"0-00:17:00.*0-00:15:00"):
            await bench.host.launch(await bench.plan("true", timeout=14 * 60.0))
        first = await bench.plan("true", timeout=10 * 60.0)
        assert exited(await bench.run(first)).reason == "finished"
        cluster.ask("scontrol", "update", f"JobId={job_of(first.directory)}", "TimeLimit=5")
        await CLOCK.sleep(3.0)  # until the next look at the queue: what a scheduler changes is seen then
        second = await bench.plan("true", timeout=10 * 60.0)
        items = await bench.run(second)
        assert exited(items).reason == "finished"
        assert job_of(second.directory) != job_of(first.directory)
        assert pilots(cluster)[job_of(first.directory)] in ("CANCELLED", "COMPLETING"), (
            "one that can serve nobody ends"
        )


# --- inside salloc --------------------------------------------------------------------------------------


async def test_inside_an_allocation_trials_run_in_it_and_it_is_never_ended(
    cluster: Cluster, tmp_path: Path, allocation: str
) -> None:
    async with benched(make_host(cluster, tmp_path, allocation=allocation, idle=1), tmp_path) as bench:
        before = cluster.names()
        for _ in range(2):
            plan = await bench.plan("hostname")
            items = await bench.run(plan)
            assert exited(items).reason == "finished" and log_of(items) == f"{NODE}\n".encode()
            assert job_of(plan.directory) == allocation
        await CLOCK.sleep(1.5)
        gone = await bench.plan("echo up; sleep 300")
        await bench.host.launch(gone)
        started = await bench.until(gone.directory, b"up\n")
        cluster.kill_there(int(started.identity.split()[0]), "job.sh")
        lost(await bench.follow(gone.directory))
        assert cluster.names() == before, "nothing was submitted"
    assert cluster.jobs()[allocation] == "RUNNING"


async def test_nothing_starts_that_would_outlive_the_allocation_we_are_in(
    cluster: Cluster, tmp_path: Path, allocation: str
) -> None:
    async with benched(make_host(cluster, tmp_path, allocation=allocation), tmp_path) as bench:
        plan = await bench.plan("echo ran >>../runs", timeout=9 * 60.0)
        with pytest.raises(HostFault, match=f"job {allocation}, RUNNING on {NODE}"):
            await bench.host.launch(plan)
        short = replace(plan, steps=(Step("train", "echo ran >>../runs", 7 * 60.0),))
        assert exited(await bench.run(short)).reason == "finished"
        assert runs_of(plan.directory) == "ran\n"


async def test_an_allocation_that_ends_under_us_loses_its_trials_and_starts_no_more(
    cluster: Cluster, tmp_path: Path, allocation: str
) -> None:
    async with benched(make_host(cluster, tmp_path, allocation=allocation), tmp_path) as bench:
        plan = await bench.plan("echo up; sleep 300")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
        cluster.ask("scancel", allocation)
        items = await bench.follow(plan.directory)
        assert isinstance(items[-1], Lost) and allocation in items[-1].reason
        with pytest.raises(HostFault):
            await bench.host.launch(await bench.plan("true"))


def test_a_pilot_needs_a_limit() -> None:
    with pytest.raises(UsageError, match="time limit"):
        parse_options({"pilot": True})
