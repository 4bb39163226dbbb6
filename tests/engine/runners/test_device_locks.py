"""Device locks across users, projects and shares: real jobs, and other people's attempts to break them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from runner_bench import Bench, exited, put_down

from engine.clock import RealClock
from engine.errors import HostFault
from engine.runners import AttemptPlan, Step
from engine.runners.allocations import Allocations, device_slots
from engine.runners.device_locks import lock_names, watch_locks
from engine.runners.launcher import job_script, render
from engine.runners.local import LocalHost
from engine.types import Allocation, Device

UUID = "GPU-5b1c0000-aaaa-bbbb-cccc-dddddddddddd"
DEVICE = Device(UUID, 0, "NVIDIA H200", 143771, "570.86.15")
PATIENCE = 60.0  # a guard against hanging for ever; no figure
ALICE, BOB = 61001, 61002

# --- shares ------------------------------------------------------------------------------------------


def test_shares_are_slots_of_a_hardware_of_their_own_and_one_device_is_filled_before_the_next() -> None:
    devices = [replace(DEVICE, uuid=f"GPU-{n}", index=n) for n in range(2)]
    slots = device_slots("box", devices, 1, 3)
    assert [slot.slot for slot in slots] == ["gpu0.1", "gpu0.2", "gpu0.3", "gpu1.1", "gpu1.2", "gpu1.3"]
    assert {slot.hardware for slot in slots} == {"NVIDIA H200 x 1, driver 570.86.15, 1 of 3 sharing"}
    assert {slot.hardware for slot in slots}.isdisjoint(slot.hardware for slot in device_slots("box", devices, 1))
    pool = Allocations(slots)
    taken = [pool.acquire(attempt) for attempt in range(7)]
    assert [(a.devices, a.share, a.shares) for a in taken[:4] if a] == [
        (("GPU-0",), 1, 3), (("GPU-0",), 2, 3), (("GPU-0",), 3, 3), (("GPU-1",), 1, 3),
    ]  # fmt: skip
    assert taken[6] is None and len({a.port for a in taken if a}) == 6


def test_what_was_begun_in_another_cut_keeps_its_whole_device_until_it_ends() -> None:
    (whole,), halves = device_slots("box", [DEVICE], 1), device_slots("box", [DEVICE], 1, 2)
    for slots, before in (
        (halves, whole),
        ((whole,), halves[0]),
        (device_slots("box", [DEVICE], 1, 3), halves[0]),
    ):
        pool = Allocations(slots)
        pool.adopt(1, before)
        assert pool.acquire(2) is None, (slots[0].slot, before.slot)
        pool.release(1)
        assert pool.acquire(2) is not None
    pool = Allocations(halves)
    pool.adopt(1, halves[0])
    assert pool.acquire(2) == replace(halves[1], port=pool.acquire(2).port)  # type: ignore[union-attr]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one device: its nvidia-smi is a script."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "nvidia-smi").write_text(f"#!/bin/sh\necho '{UUID}, 0, NVIDIA H200, 143771, 570.86.15'\n")
    (directory / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


class Projects:
    """Projects' engines on one machine, by name; each sees the device as its own configuration cuts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.benches: list[Bench] = []

    async def engine(self, project: str, trials_per_device: int = 1) -> Bench:
        root = self.folder / project
        locks = str(self.folder / "locks")
        host = LocalHost(project, root, RealClock(), lock_directory=locks, trials_per_device=trials_per_device)
        await host.open()
        self.benches.append(Bench(host, root))
        return self.benches[-1]


@pytest.fixture
async def projects(smi: None, tmp_path: Path) -> AsyncIterator[Projects]:
    made = Projects(tmp_path)
    yield made
    for bench in made.benches:
        await put_down(bench)
        await bench.host.close()


async def begin(bench: Bench, trial: int) -> AttemptPlan:
    """A trial that runs on what its engine was given, until it is cancelled."""
    slot = bench.host.acquire(trial)
    assert slot is not None
    plan = replace(await bench.plan("echo up; sleep 300"), allocation=slot)
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    return plan


async def end(bench: Bench, trial: int, plan: AttemptPlan) -> None:
    await bench.host.cancel(plan.directory)
    assert exited(await bench.follow(plan.directory)).reason == "cancelled"
    bench.host.release(trial)


async def late(bench: Bench, slot: Allocation) -> str:
    """How a launch ends that comes without having looked."""
    plan = replace(await bench.plan("true"), allocation=slot)
    return exited(await bench.run(plan)).reason


async def test_one_projects_shares_run_beside_each_other_and_nobody_else_runs_beside_them(
    projects: Projects,
) -> None:
    sharing = await projects.engine("sharing", 2)
    others = [
        await projects.engine("alone"),
        await projects.engine("halves", 2),
        await projects.engine("thirds", 3),
    ]
    slots = [device_slots("x", [DEVICE], 1, n)[0] for n in (1, 2, 3)]
    first, second = await begin(sharing, 1), await begin(sharing, 2)
    assert sharing.host.acquire(3) is None
    for running in (2, 1):
        for other, slot in zip(others, slots, strict=True):
            assert other.host.acquire(9) is None, "it is seen to be taken"
            assert await late(other, slot) == "busy", f"{running} of 2 still run"
        if running == 2:
            await end(sharing, 1, first)
    again = await begin(sharing, 3)
    assert again.allocation.share == 1, "the share that was left is given out again"
    await end(sharing, 3, again)
    await end(sharing, 2, second)
    alone = await begin(others[0], 1)
    assert sharing.host.acquire(4) is None and await late(sharing, slots[1]) == "busy"
    assert await late(others[2], slots[2]) == "busy"
    await end(others[0], 1, alone)
    assert await late(others[2], slots[2]) == "finished"


async def test_a_project_whose_cut_was_changed_does_not_run_beside_its_own_trials_of_before(
    projects: Projects,
) -> None:
    before = await projects.engine("one", 2)
    first = await begin(before, 1)
    (whole,), third = device_slots("x", [DEVICE], 1), device_slots("x", [DEVICE], 1, 3)[1]
    for shares, slot in ((1, whole), (3, third)):
        now = await projects.engine("one", shares)
        assert now.host.acquire(2) is None and await late(before, slot) == "busy"
    assert await late(before, first.allocation) == "busy", "one share, one trial"
    assert await late(before, replace(first.allocation, share=2)) == "finished"
    await end(before, 1, first)


# --- users -------------------------------------------------------------------------------------------


class Machine:
    """A directory that everybody may write to as to /tmp, with jobs of several users in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.locks = str(folder / "locks")
        self._jobs: list[subprocess.Popen[bytes]] = []

    def start(self, user: int, project: str, command: str = "sleep 300") -> Path:
        """A job of ``user``; its attempt's directory."""
        root = self.folder / f"{project}-{user}"
        attempt = root / "trials" / "7" / f"attempt-{len(self._jobs) + 1}"
        plan = AttemptPlan(str(attempt), f"token-{os.getpid()}-{len(self._jobs)}", (Step("train", command, 60.0),),
                           {"PATH": os.environ["PATH"]}, Allocation("box", "gpu0", (UUID,)))  # fmt: skip
        for name in ("control", "work", "home"):
            (attempt / name).mkdir(parents=True)
        for name, data in {**render(plan, self.locks), "job.sh": job_script()}.items():
            (attempt / "control" / name).write_bytes(data)
        subprocess.run(["chown", "-R", f"{user}:{user}", root], check=True)
        job = [*as_user(user), "setsid", "sh", f"{attempt}/control/job.sh", attempt]
        self._jobs.append(subprocess.Popen(job, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return attempt

    def reason(self, attempt: Path) -> str:
        wait_for(lambda: (attempt / "control" / "exit").exists(), "an exit")
        return (attempt / "control" / "exit").read_text().split()[1]

    def running(self, attempt: Path) -> None:
        wait_for(lambda: (attempt / "control" / "step").exists(), "a step")

    def end(self, attempt: Path) -> None:
        (attempt / "control" / "cancel").touch()
        assert self.reason(attempt) == "cancelled"

    def close(self) -> None:
        for job in self._jobs:
            if job.poll() is None:
                job.terminate()
        for job in self._jobs:
            job.wait(PATIENCE)


def as_user(user: int) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def can(user: int, script: str, *words: str | Path) -> bool:
    done = subprocess.run([*as_user(user), "sh", "-c", script, "sh", *words], capture_output=True, check=False)
    return done.returncode == 0


def wait_for(condition: object, what: str) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def machine() -> Iterator[Machine]:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("other users' jobs need root and setpriv (`make test-servers` as root)")
    folder = Path(tempfile.mkdtemp(prefix="ratchet-users-", dir="/tmp"))  # pytest's own is closed to other users
    folder.chmod(0o1777)
    made = Machine(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


def test_a_device_that_one_user_holds_is_busy_for_every_other_one(machine: Machine) -> None:
    first = machine.start(ALICE, "a")
    machine.running(first)
    assert [machine.reason(machine.start(user, "b", "true")) for user in (BOB, 0, ALICE)] == ["busy"] * 3
    assert watch_locks(machine.locks, "/elsewhere")(Allocation("box", "gpu0", (UUID,))), "and seen to be"
    machine.end(first)
    second = machine.start(BOB, "b")
    machine.running(second)
    assert machine.reason(machine.start(ALICE, "a", "true")) == "busy"
    machine.end(second)
    assert machine.reason(machine.start(0, "c", "true")) == "finished"
    modes = {path.name: path.stat().st_mode & 0o7777 for path in machine.folder.glob("locks.*")}
    print(modes)
    assert set(modes) == {f"locks.{user}" for user in (ALICE, BOB, 0)} and set(modes.values()) == {0o755}


def test_nobody_else_can_delete_move_or_exchange_a_lock(machine: Machine) -> None:
    held = machine.start(ALICE, "a")
    machine.running(held)
    place = machine.folder / f"locks.{ALICE}"
    (lock,) = place.glob(f"{UUID}@*")
    for script in ('rmdir "$1"', 'rm -rf "$1"', 'mv "$1" "$1.away"', 'rm -rf "$2"', 'mv "$2" "$2.away"',
                   'mkdir "$2/x"', 'chmod 777 "$2"', 'ln -sfn /tmp "$1"'):  # fmt: skip
        assert not can(BOB, script, lock, place), script
        assert machine.reason(machine.start(BOB, "b", "true")) == "busy", script
    assert lock.is_dir() and list(place.iterdir()) == [lock]
    machine.end(held)


async def test_a_name_that_somebody_else_took_is_told_and_never_used(
    machine: Machine, smi: None, tmp_path: Path
) -> None:
    theirs = machine.folder / f"locks.{ALICE}"
    (mine := tmp_path / "mine").mkdir()
    elsewhere = machine.folder / "elsewhere"
    for plant in ('mkdir -m 777 "$1"', 'ln -s "$2" "$1"', 'touch "$1"', 'mkfifo -m 666 "$1"'):
        elsewhere.mkdir()
        os.chown(elsewhere, ALICE, ALICE)  # a link to what is the victim's own is no better
        assert can(BOB, plant, theirs, elsewhere)
        assert machine.reason(machine.start(ALICE, "a", "true")) == "busy", plant
        assert list(elsewhere.iterdir()) == []
        subprocess.run(["rm", "-rf", theirs, elsewhere], check=True)
    (machine.folder / "locks.0").symlink_to(mine)
    host = LocalHost("box", tmp_path / "trials", RealClock(), lock_directory=machine.locks)
    with pytest.raises(HostFault) as refused:
        await host.open()
    assert f"{machine.locks}.0, is not yours" in refused.value.message and "root can" in refused.value.mend


def test_what_others_plant_in_the_place_of_a_lock_holds_up_nobody_and_is_not_touched(machine: Machine) -> None:
    (name,) = lock_names(Allocation("box", "gpu0", (UUID,)), "/theirs")
    home = machine.folder / f"locks.{BOB}"
    victim = machine.folder / "victim"
    victim.mkdir()
    for plant in (
        'mkfifo "$1/$2"',
        'ln -s "$3/new" "$1/$2"',
        'ln -s "$3" "$1/$2"',
        'touch "$1/$2"',
        'mkdir "$1/$2"',
    ):
        assert can(BOB, 'mkdir -m 755 "$1" && ' + plant, home, name, victim)
        assert machine.reason(machine.start(ALICE, "a", "true")) == "finished", plant
        assert list(victim.iterdir()) == []
        shutil.rmtree(home)


def test_of_many_that_come_at_once_one_runs_and_never_two(machine: Machine) -> None:
    """Each holds its own lock and then looks for others: who comes first in their order stays."""
    ran = 0
    for round in range(4):
        notes = machine.folder / f"notes-{round}"
        notes.touch()
        notes.chmod(0o666)
        command = f"echo + >>{notes}; sleep 0.3; echo - >>{notes}"
        attempts = [machine.start(user, f"p{n}-{round}", command) for n in range(3) for user in (ALICE, BOB, 0)]
        reasons = [machine.reason(attempt) for attempt in attempts]
        told = notes.read_text().split()
        assert told == ["+", "-"] * reasons.count("finished"), (told, reasons)
        assert set(reasons) <= {"finished", "busy"} and "finished" in reasons
        ran += reasons.count("finished")
    print(f"36 jobs at once in four rounds: {ran} ran, never two together")
