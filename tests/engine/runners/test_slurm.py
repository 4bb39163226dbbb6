"""Trials as jobs of a real Slurm: lost answers, a controller that dies, requeues, limits, and allocations."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runner_bench import PATIENCE, Bench, exited, log_of
from slurmd import NODE, Cluster, serve
from sshd import HOST, Sshd

from engine.clock import RealClock
from engine.errors import HostFault
from engine.runners import Exited, FollowItem, LogChunk, Lost, Scheduled, Started, Step, StepStarted, Unreachable
from engine.runners.local import LocalHost
from engine.runners.remote import RemoteHost
from engine.runners.slurm_attempt import allowance
from engine.runners.slurm_host import SlurmHost
from engine.runners.slurm_options import parse_options
from engine.runners.ssh import SshTransport
from engine.runners.transport import LocalTransport

CLOCK = RealClock()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from serve(tmp_path_factory.mktemp("slurm"))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of the test's own, whose controller it may kill."""
    yield from serve(tmp_path / "cluster")


def make_host(
    cluster: Cluster, root: Path, path: Path | None = None, allocation: str = "", slots: int = 2, **options: Any
) -> SlurmHost:
    given = parse_options({"poll": 0.3, "probe": 20, "bin": str(path or cluster.bin), **options})
    files = LocalHost("login", root, CLOCK, gpus_per_trial=0, lock_directory=str(root / "locks"))
    return SlurmHost(
        "cluster",
        files,
        LocalTransport(CLOCK),
        given,
        CLOCK,
        slots=slots,
        allocation=allocation,
        settle_seconds=0.5,
    )


@asynccontextmanager
async def benched(host: SlurmHost, root: Path) -> AsyncIterator[Bench]:
    try:
        await host.open()
        yield Bench(host, root)
    finally:
        await host.close()


@pytest.fixture
async def bench(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Bench]:
    root = tmp_path / "it's a $pecial place"
    root.mkdir()
    async with benched(make_host(cluster, root), root) as bench:
        yield bench
    for number, state in cluster.jobs().items():
        if state in ("PENDING", "RUNNING"):
            cluster.ask("scancel", number)


async def collect(host: SlurmHost, directory: str, items: list[FollowItem]) -> None:
    async for item in host.follow(directory, 0):
        items.append(item)


async def until(condition: Any) -> None:
    async def wait() -> None:
        while not condition():
            await CLOCK.sleep(0.05)

    await CLOCK.timeout(wait(), PATIENCE)


@contextmanager
def filled(cluster: Cluster, *options: str) -> Iterator[None]:
    """Nothing else can start on the cluster."""
    words = ["--parsable", "--exclusive", "--chdir=/", "--output=/dev/null", "--wrap=sleep 300"]
    number = cluster.ask("sbatch", *options, *words)
    end = time.monotonic() + PATIENCE
    while cluster.jobs().get(number) != "RUNNING" and time.monotonic() < end:
        time.sleep(0.05)
    try:
        yield
    finally:
        cluster.ask("scancel", number)


def words(items: list[FollowItem]) -> list[str]:
    return [item.words for item in items if isinstance(item, Scheduled)]


def lost(items: list[FollowItem]) -> str:
    assert isinstance(items[-1], Lost), items
    return items[-1].reason


def job_of(directory: str) -> str:
    return Path(directory, "control", "jobid").read_text().strip()


def runs_of(directory: str) -> str:
    return Path(directory, "runs").read_text()


async def test_a_trial_runs_as_a_job_on_another_machine_and_reports_all_of_it(
    bench: Bench, cluster: Cluster
) -> None:
    plan = await bench.plan("echo one; hostname", "sleep 0.5; echo two")
    items = await bench.run(plan)
    end = exited(items)
    assert end.reason == "finished"
    assert [(step.name, step.code) for step in end.steps] == [("step 1", 0), ("step 2", 0)]
    assert log_of(items) == f"one\n{NODE}\ntwo\n".encode()
    kinds = [type(item) for item in items if not isinstance(item, LogChunk | Scheduled)]
    assert kinds == [Started, StepStarted, StepStarted, Exited]
    assert f"ratchet-{plan.token}" in cluster.names()
    assert bench.host.containment.kind == "unshare", "proved on the node"
    assert cluster.listening() and all(address.startswith("127.") for address in cluster.listening())


async def test_what_the_scheduler_says_is_shown_in_its_own_words(bench: Bench, cluster: Cluster) -> None:
    with filled(cluster):
        plan = await bench.plan("sleep 1")
        await bench.host.launch(plan)
        items: list[FollowItem] = []
        following = asyncio.create_task(collect(bench.host, plan.directory, items))
        await until(lambda: any(said.startswith("PENDING (Resources") for said in words(items)))
    await CLOCK.timeout(following, PATIENCE)
    assert exited(items).reason == "finished"
    assert f"RUNNING on {NODE}" in words(items)


async def test_a_pending_job_is_cancelled_and_leaves_the_queue(bench: Bench, cluster: Cluster) -> None:
    with filled(cluster):
        plan = await bench.plan("echo ran >>../runs")
        await bench.host.launch(plan)
        assert await bench.host.cancel(plan.directory) is True
        assert cluster.jobs()[job_of(plan.directory)] == "CANCELLED"
    items = await bench.follow(plan.directory)
    assert (exited(items).reason, exited(items).steps) == ("cancelled", ())
    assert not any(isinstance(item, Started) for item in items)
    assert not Path(plan.directory, "runs").exists()


async def test_a_running_job_is_cancelled(bench: Bench, cluster: Cluster) -> None:
    plan = await bench.plan("echo up; sleep 300", "echo never")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    assert await bench.host.cancel(plan.directory) is False
    end = exited(await bench.follow(plan.directory))
    assert end.reason == "cancelled" and len(end.steps) == 1
    await until(lambda: cluster.jobs()[job_of(plan.directory)] not in ("RUNNING", "COMPLETING"))


async def test_a_job_cancelled_by_a_person_with_scancel_is_cancelled(bench: Bench, cluster: Cluster) -> None:
    plan = await bench.plan("echo up; sleep 300")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    cluster.ask("scancel", job_of(plan.directory))
    assert exited(await bench.follow(plan.directory)).reason == "cancelled"


async def test_a_job_cancelled_by_a_person_while_it_waits_never_runs(bench: Bench, cluster: Cluster) -> None:
    with filled(cluster):
        plan = await bench.plan("echo ran >>../runs")
        await bench.host.launch(plan)
        cluster.ask("scancel", job_of(plan.directory))
        assert "CANCELLED" in lost(await bench.follow(plan.directory))
    assert not Path(plan.directory, "runs").exists()


@pytest.mark.parametrize(
    "command", ["sleep 300", "trap 'exit 0' TERM; sleep 300 & wait", "trap '' TERM; sleep 300"]
)
async def test_a_requeued_job_is_a_lost_attempt_even_when_its_script_ends_well(
    cluster: Cluster, tmp_path: Path, command: str
) -> None:
    """Ends at once, saves itself and exits 0, or has to be killed: never a result, and never run twice."""
    async with benched(make_host(cluster, tmp_path, requeue=True), tmp_path) as bench:
        plan = await bench.plan(f"echo ran >>../runs; echo up; {command}")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
        cluster.ask("scontrol", "requeue", job_of(plan.directory))
        reason = lost(await bench.follow(plan.directory))
        assert "PENDING" in reason and "Restarts=1" in reason
        assert runs_of(plan.directory) == "ran\n"
        await until(lambda: cluster.jobs()[job_of(plan.directory)] == "CANCELLED")
        again = await bench.plan("echo again")
        assert exited(await bench.run(again)).reason == "finished", "another attempt of the same trial"


async def test_a_requeued_job_that_starts_again_finds_the_claim_taken_and_leaves(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with benched(make_host(cluster, tmp_path, requeue=True), tmp_path) as bench:
        plan = await bench.plan("echo ran >>../runs; echo up; trap '' TERM; sleep 300")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
        number = job_of(plan.directory)
        cluster.ask("scontrol", "requeue", number)
        await until(lambda: cluster.jobs()[number] == "PENDING")
        cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
        await until(lambda: cluster.jobs()[number] == "COMPLETED")
        assert f"job {number}: COMPLETED" in lost(await bench.follow(plan.directory))
        assert runs_of(plan.directory) == "ran\n"


async def test_a_job_that_slurm_ends_at_its_limit_is_a_lost_attempt(bench: Bench, cluster: Cluster) -> None:
    plan = await bench.plan("echo up; sleep 300")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    cluster.ask("scontrol", "update", f"JobId={job_of(plan.directory)}", "EndTime=now")
    assert "TIMEOUT" in lost(await bench.follow(plan.directory))


@pytest.mark.parametrize("command", ["sleep 300", "trap '' TERM; sleep 300"], ids=["ends by itself", "is killed"])
@pytest.mark.parametrize("requeue", [False, True], ids=["no requeue", "requeue"])
async def test_a_job_that_slurm_preempts_is_told_from_one_that_died(
    cluster: Cluster, tmp_path: Path, command: str, requeue: bool
) -> None:
    async with benched(make_host(cluster, tmp_path, requeue=requeue), tmp_path) as bench:
        plan = await bench.plan(f"echo up; {command}")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
        began = time.monotonic()
        with filled(cluster, "--partition=urgent"):
            end = (await bench.follow(plan.directory))[-1]
            held = time.monotonic() - began
        assert isinstance(end, Lost) and end.preempted and end.seconds is not None
        print(f"{end.reason}: held for {end.seconds:.2f} s at most, of {held:.2f}")
        assert 0 < end.seconds < held + 5.0
        died = await bench.plan("echo up; sleep 300")
        await bench.host.launch(died)
        started = await bench.until(died.directory, b"up\n")
        cluster.kill_there(int(started.identity.split()[0]), "job.sh")
        end = (await bench.follow(died.directory))[-1]
        assert isinstance(end, Lost) and not end.preempted


async def test_a_job_whose_node_fails_is_told_from_one_that_died(bench: Bench, cluster: Cluster) -> None:
    plan = await bench.plan("echo up; sleep 300")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    try:
        cluster.ask("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=test")
        end = (await bench.follow(plan.directory))[-1]
    finally:
        cluster.ask("scontrol", "update", f"NodeName={NODE}", "State=RESUME")
    assert isinstance(end, Lost) and end.preempted and "NODE_FAIL" in end.reason, end


async def test_what_a_node_proved_holds_for_a_start_while_none_is_free(cluster: Cluster, tmp_path: Path) -> None:
    """A trial of that start is contained too, and nobody who asks for other nodes is told so."""
    async with benched(make_host(cluster, tmp_path), tmp_path) as bench:
        proved = bench.host.containment
    with filled(cluster):
        async with benched(make_host(cluster, tmp_path, probe=1), tmp_path) as bench:
            again = bench.host.containment
            assert (again.kind, again.wrap) == (proved.kind, proved.wrap) and proved.kind == "unshare"
            assert "at an earlier start" in again.proof
        async with benched(make_host(cluster, tmp_path, probe=1, cpus_per_task=2), tmp_path) as bench:
            assert bench.host.containment.kind == "sweep" and "start again when" in bench.host.containment.mend


async def test_a_trial_that_may_outlive_its_jobs_limit_is_not_submitted(cluster: Cluster, tmp_path: Path) -> None:
    async with benched(make_host(cluster, tmp_path, time="00:10:00"), tmp_path) as bench:
        before = cluster.names()
        plan = await bench.plan("true", timeout=600.0)
        with pytest.raises(HostFault, match=r"0-00:12:00.*0-00:10:00"):
            await bench.host.launch(plan)
        assert cluster.names() == before
        assert exited(await bench.run(replace(plan, steps=(Step("s", "true", 500.0),)))).reason == "finished"


async def test_a_trials_job_asks_for_the_time_that_its_deadlines_need(bench: Bench, cluster: Cluster) -> None:
    plan = await bench.plan("sleep 1", timeout=1000.0)
    await bench.host.launch(plan)
    assert cluster.ask("squeue", "-h", "-o", "%l", "-j", job_of(plan.directory)) == "18:00"
    assert allowance(plan) == 1061.0
    await bench.follow(plan.directory)


async def test_a_node_that_cannot_contain_runs_nothing(bench: Bench) -> None:
    plan = replace(await bench.plan("echo ran >>../runs"), wrap=("/no/such/unshare", "--pid", "--"))
    reason = lost(await bench.run(plan))
    assert "FAILED" in reason and f"containment does not work on {NODE}" in reason
    assert not Path(plan.directory, "runs").exists()


async def test_devices_and_threads_are_those_that_slurm_gave(cluster: Cluster, tmp_path: Path) -> None:
    async with benched(make_host(cluster, tmp_path, cpus_per_task=3), tmp_path) as bench:
        plan = await bench.plan(
            'echo "$OMP_NUM_THREADS $MKL_NUM_THREADS [$CUDA_VISIBLE_DEVICES]"; env | grep -c SLURM'
        )
        environment = {**plan.environment, "MKL_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "", "SBATCH_X": "1"}
        assert log_of(await bench.run(replace(plan, environment=environment))) == b"3 7 []\n0\n"


# --- a controller in trouble ---------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [True, False], ids=["remembers", "forgets"])
async def test_a_controller_that_dies_in_mid_run_loses_nothing(own: Cluster, tmp_path: Path, saved: bool) -> None:
    """Killed and started again. One that was killed at once knows nothing of the job, and the job goes on."""
    root = tmp_path / "root"
    root.mkdir()
    async with benched(make_host(own, root), root) as bench:
        plan = await bench.plan("echo ran >>../runs; echo up; while [ ! -e go ]; do sleep 0.1; done; echo done")
        await bench.host.launch(plan)
        items: list[FollowItem] = []
        following = asyncio.create_task(collect(bench.host, plan.directory, items))
        await until(lambda: b"up" in log_of(items))
        if saved:
            own.save_state()
        own.kill_controller()
        await until(lambda: any("squeue: " in said for said in words(items)))
        own.start_controller()
        told = f"RUNNING on {NODE}" if saved else f"Slurm knows no such job {job_of(plan.directory)} any more"
        await until(lambda: words(items)[-1] == told)
        await CLOCK.sleep(1.5)  # some more polls
        own.kill_controller()
        Path(plan.directory, "work", "go").touch()
        await CLOCK.timeout(following, PATIENCE)
        assert exited(items).reason == "finished" and log_of(items) == b"up\ndone\n"
        assert runs_of(plan.directory) == "ran\n"
        assert not any(isinstance(item, Lost | Unreachable) for item in items)


async def test_a_number_that_was_given_to_another_job_is_no_evidence_and_that_job_is_left_alone(
    bench: Bench, cluster: Cluster
) -> None:
    """As after a controller lost its memory: the same number, and somebody else's job."""
    other = cluster.ask(
        "sbatch", "--parsable", "--job-name=other", "--chdir=/", "--output=/dev/null", "--wrap=sleep 2"
    )
    plan = await bench.plan("echo up; sleep 300")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    mine = job_of(plan.directory)
    Path(plan.directory, "control", "jobid").write_text(f"{other}\n")
    items: list[FollowItem] = []
    following = asyncio.create_task(collect(bench.host, plan.directory, items))
    await until(lambda: any("no such job" in said for said in words(items)))
    assert await bench.host.cancel(plan.directory) is False
    await CLOCK.timeout(following, PATIENCE)
    assert exited(items).reason == "cancelled"
    await until(lambda: cluster.jobs()[other] == "COMPLETED")
    cluster.ask("scancel", mine)


@pytest.mark.parametrize(
    "script",
    [
        "echo failed >&2; exit 1",
        "exit 0",
        "echo 'job|x|FAILED'",
        "echo 'slurm_load_jobs error: Invalid job id' >&2; exit 1",
    ],
    ids=["fails", "empty", "garbled", "unknown"],
)
async def test_a_squeue_that_says_nothing_is_no_evidence(cluster: Cluster, tmp_path: Path, script: str) -> None:
    """Three times and more; for a while scontrol does not answer either."""
    counting = f'echo x >>"{tmp_path}/asked"'
    silent = f'{counting}\n[ -e "{tmp_path}/well" ] || {{ {script}\n}}\nexec $REAL "$@"'
    silent = f'{counting}\nif [ -e "{tmp_path}/well" ]; then exec $REAL "$@"; fi\n{script}\nexit 0'
    scontrol = f'if [ -e "{tmp_path}/asked" ] && [ $(grep -c x "{tmp_path}/asked") -lt 4 ]; then exit 1; fi\nexec $REAL "$@"'
    path = cluster.shim(tmp_path / "path", {"squeue": silent, "scontrol": scontrol})
    async with benched(make_host(cluster, tmp_path, path), tmp_path) as bench:
        plan = await bench.plan("echo ran >>../runs; echo up; while [ ! -e go ]; do sleep 0.1; done")
        await bench.host.launch(plan)
        items: list[FollowItem] = []
        following = asyncio.create_task(collect(bench.host, plan.directory, items))
        await until(lambda: (tmp_path / "asked").exists() and (tmp_path / "asked").read_text().count("x") >= 8)
        assert not any(isinstance(item, Lost | Exited) for item in items)
        Path(plan.directory, "work", "go").touch()
        await CLOCK.timeout(following, PATIENCE)
        assert exited(items).reason == "finished"
        assert runs_of(plan.directory) == "ran\n" and cluster.names().count(f"ratchet-{plan.token}") == 1


FORGETFUL = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


async def test_a_job_that_nobody_knows_any_more_is_lost_once_it_cannot_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    path = cluster.shim(
        tmp_path / "path",
        {"squeue": f'case "$*" in *--name=*) exit 0 ;; esac\n{FORGETFUL}', "scontrol": FORGETFUL},
    )
    async with benched(make_host(cluster, tmp_path, path), tmp_path) as bench:
        with filled(cluster):
            waiting = await bench.plan("echo ran >>../runs")
            reason = lost(await bench.run(waiting))
            assert "knows no such job" in reason and "had not started" in reason
        await until(lambda: cluster.jobs()[job_of(waiting.directory)] in ("COMPLETED", "CANCELLED"))
        assert not Path(waiting.directory, "runs").exists(), "its claim was taken before it was given up"
        running = await bench.plan("echo up; sleep 300")
        await bench.host.launch(running)
        await until(lambda: cluster.jobs()[job_of(running.directory)] == "RUNNING")
        await until(Path(running.directory, "control", "pid").exists)
        items: list[FollowItem] = []
        following = asyncio.create_task(collect(bench.host, running.directory, items))
        await until(lambda: any("knows no such job" in said for said in words(items)))
        await CLOCK.sleep(1.5)
        assert not any(isinstance(item, Lost) for item in items), "it runs, and its limit has not passed"
        Path(running.directory, "control", "limit").write_text("0\n")
        os.utime(Path(running.directory, "control", "claim"), (1.0, 1.0))
        await CLOCK.timeout(following, PATIENCE)
        assert "its time limit has passed" in lost(items)
        cluster.ask("scancel", job_of(running.directory))


# --- submitting once -----------------------------------------------------------------------------------


LOSE_ANSWER = 'if [ ! -e {0} ]; then : >{0}; $REAL "$@" >/dev/null; echo "Socket timed out on send/recv operation" >&2; exit 1; fi\nexec $REAL "$@"'


async def test_an_sbatch_whose_answer_is_lost_has_submitted_one_job(cluster: Cluster, tmp_path: Path) -> None:
    path = cluster.shim(tmp_path / "path", {"sbatch": LOSE_ANSWER.format(tmp_path / "once")})
    async with benched(make_host(cluster, tmp_path, path), tmp_path) as bench:
        plan = await bench.plan("echo ran >>../runs; sleep 1")
        with pytest.raises(HostFault, match="Socket timed out"):
            await bench.host.launch(plan)
        assert exited(await bench.run(plan)).reason == "finished"
        assert cluster.names().count(f"ratchet-{plan.token}") == 1 and runs_of(plan.directory) == "ran\n"


async def test_a_job_that_was_submitted_twice_runs_once_and_is_not_given_up(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The first is not to be found in the queue at first: the one that leaves must not speak for the other."""
    blind = 'case "$*" in *--format=%i*--name=*) exit 0 ;; esac\nexec $REAL "$@"'
    path = cluster.shim(tmp_path / "path", {"sbatch": LOSE_ANSWER.format(tmp_path / "once"), "squeue": blind})
    async with benched(make_host(cluster, tmp_path, path), tmp_path) as bench:
        with filled(cluster):
            plan = await bench.plan("echo ran >>../runs; sleep 3")
            with pytest.raises(HostFault):
                await bench.host.launch(plan)
            await bench.host.launch(plan)
            assert cluster.names().count(f"ratchet-{plan.token}") == 2
            items: list[FollowItem] = []
            following = asyncio.create_task(collect(bench.host, plan.directory, items))
            await until(lambda: words(items))
        await CLOCK.timeout(following, PATIENCE)
        assert exited(items).reason == "finished" and runs_of(plan.directory) == "ran\n"


async def test_a_refusal_of_sbatch_is_told_in_its_words_with_the_mend(cluster: Cluster, tmp_path: Path) -> None:
    host = make_host(cluster, tmp_path, probe=1, gres="gpu:h100:1")
    async with benched(host, tmp_path) as bench:
        plan = await bench.plan("true")
        with pytest.raises(HostFault, match=r"sbatch: .*generic resource") as refusal:
            await bench.host.launch(plan)
        assert "gres" in refusal.value.mend
        assert [device.name for device in host.devices] == ["h100"]


# --- opening ---------------------------------------------------------------------------------------------


async def test_opening_says_what_is_missing(cluster: Cluster, tmp_path: Path) -> None:
    for options, said in (
        ({"bin": "/no/such/place"}, r"/no/such/place/sbatch.*not found"),
        ({"partition": "gpus"}, r"no partition gpus; there are: closed, main"),
        ({"partition": "closed"}, r"partition closed is down"),
    ):
        host = make_host(cluster, tmp_path, **options)
        with pytest.raises(HostFault, match=said):
            await host.open()
        await host.close()


async def test_a_directory_that_the_nodes_do_not_share_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with cluster.hidden(root):
        host = make_host(cluster, root)
        with pytest.raises(HostFault, match="does not see"):
            await host.open()
        await host.close()
    assert [path.name for path in root.iterdir()] == [], "nothing is left of the check"


async def test_where_no_node_is_free_nothing_is_said_to_be_proved(cluster: Cluster, tmp_path: Path) -> None:
    with filled(cluster):
        async with benched(make_host(cluster, tmp_path, probe=1), tmp_path) as bench:
            found = bench.host.containment
            assert found.kind == "sweep" and "no compute node could be asked within 1 s" in found.proof
        assert not any("probe" in name for name in cluster.ask("squeue", "-h", "-o", "%j").split())


# --- forgetting and coming back --------------------------------------------------------------------------


async def test_an_engine_that_forgets_everything_finds_its_jobs_again(cluster: Cluster, tmp_path: Path) -> None:
    async with benched(make_host(cluster, tmp_path), tmp_path) as bench:
        plan = await bench.plan("echo ran >>../runs; echo up; while [ ! -e go ]; do sleep 0.1; done; echo done")
        await bench.host.launch(plan)
        await bench.until(plan.directory, b"up\n")
    async with benched(make_host(cluster, tmp_path), tmp_path) as bench:
        await bench.host.launch(plan)
        items: list[FollowItem] = []
        following = asyncio.create_task(collect(bench.host, plan.directory, items))
        await until(lambda: f"RUNNING on {NODE}" in words(items))
        Path(plan.directory, "work", "go").touch()
        await CLOCK.timeout(following, PATIENCE)
        assert log_of(items) == b"up\ndone\n" and exited(items).reason == "finished"
        assert runs_of(plan.directory) == "ran\n" and cluster.names().count(f"ratchet-{plan.token}") == 1


async def test_a_login_node_over_ssh_does_the_same(cluster: Cluster, running_sshd: Sshd, tmp_path: Path) -> None:
    root = tmp_path / "far"
    transport = SshTransport(HOST, CLOCK, running_sshd.client())
    files = RemoteHost("login", transport, str(root), CLOCK, gpus_per_trial=0)
    options = parse_options({"poll": 0.3, "probe": 20, "bin": str(cluster.bin)})
    host = SlurmHost("cluster", files, transport, options, CLOCK, slots=2, settle_seconds=0.5)
    async with benched(host, root) as bench:
        plan = await bench.plan("echo up; hostname; sleep 1.5", "echo two")
        items = await bench.run(plan)
        assert exited(items).reason == "finished" and log_of(items) == f"up\n{NODE}\ntwo\n".encode()
        assert f"RUNNING on {NODE}" in words(items)
        killed = await bench.plan("echo up; sleep 300")
        await bench.host.launch(killed)
        started = await bench.until(killed.directory, b"up\n")
        cluster.kill_there(int(started.identity.split()[0]), "job.sh")
        reason = lost(await bench.follow(killed.directory))
        assert f"Slurm's job {job_of(killed.directory)}: FAILED" in reason
