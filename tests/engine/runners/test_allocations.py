"""Devices as nvidia-smi shows them, groups of them, cores where there are none, and locks across engines."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from runner_bench import Bench, exited, log_of, put_down

from engine.clock import RealClock
from engine.errors import HostFault
from engine.runners import Lost
from engine.runners.allocations import (
    Allocations,
    allocation_environment,
    cpu_slots,
    device_slots,
    free_port,
    parse_devices,
    slots_for,
    visible_devices,
)
from engine.runners.device_locks import lock_names
from engine.runners.local import LocalHost
from engine.types import Allocation, Device

UUIDS = [f"GPU-{n}{n}{n}{n}{n}{n}{n}{n}-aaaa-bbbb-cccc-dddddddddddd" for n in range(5)]
LISTING = "".join(f"{uuid}, {n}, NVIDIA H200, 143771, 570.86.15\n" for n, uuid in enumerate(UUIDS))
DEVICES = tuple(Device(uuid, n, "NVIDIA H200", 143771, "570.86.15") for n, uuid in enumerate(UUIDS))


def test_the_listing_is_read_by_index_with_unknown_memory_as_zero() -> None:
    assert parse_devices(LISTING) == DEVICES
    assert parse_devices("".join(reversed(LISTING.splitlines(keepends=True)))) == DEVICES
    odd = "GPU-1, 0, NVIDIA GB10, [N/A], 580.1\n"
    assert parse_devices(odd) == (Device("GPU-1", 0, "NVIDIA GB10", 0, "580.1"),)
    assert parse_devices("No devices were found\n") == () and parse_devices("") == ()
    assert parse_devices("Unable to determine the device handle for GPU0: Unknown Error\n" + LISTING) == DEVICES


@pytest.mark.parametrize(
    ("setting", "indices"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2,0", [2, 0]),
        (" 1 , 3 ", [1, 3]),
        (f"{UUIDS[4]},1", [4, 1]),
        ("GPU-3", [3]),
        ("GPU-", []),  # names several
        ("0,9,1", [0]),  # CUDA stops at the first that is none
        ("1,1", [1]),
    ],
)
def test_cuda_visible_devices_of_the_engine_is_honoured(setting: str | None, indices: list[int]) -> None:
    assert [device.index for device in visible_devices(DEVICES, setting)] == indices


def test_devices_are_grouped_and_the_rest_stays_unused() -> None:
    slots = device_slots("box", DEVICES, 2)
    assert [slot.slot for slot in slots] == ["gpu0,gpu1", "gpu2,gpu3"]
    assert slots[1].devices == (UUIDS[2], UUIDS[3])
    assert {slot.hardware for slot in slots} == {"NVIDIA H200 x 2, driver 570.86.15"}
    assert len(device_slots("box", DEVICES, 5)) == 1 and len(device_slots("box", DEVICES, 1)) == 5


def test_cores_are_shared_out_without_overlap() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    for count in range(1, len(cpus) + 1):
        slots = cpu_slots("here", cpus, count)
        used = [cpu for slot in slots for cpu in slot.cpus]
        assert len(slots) == count and len(set(used)) == len(used) and set(used) <= set(cpus)
        assert len({len(slot.cpus) for slot in slots}) == 1, "equal sets, or scores would not compare"
        assert all(f"x {len(slot.cpus)} cores" in slot.hardware for slot in slots)


def test_more_slots_than_cores_share_them_as_a_hardware_of_their_own() -> None:
    slots = cpu_slots("here", [0, 1], 5)
    assert [slot.cpus for slot in slots] == [(0,), (1,), (0,), (1,), (0,)]
    assert {slot.hardware for slot in slots}.isdisjoint(s.hardware for s in cpu_slots("here", [0, 1], 2))
    pool = Allocations(slots)
    taken = [pool.acquire(attempt) for attempt in range(6)]
    assert [a.slot for a in taken if a] == [f"cpu{n}" for n in range(5)] and taken[5] is None
    pool.release(2)
    again = pool.acquire(9)
    assert again is not None and again.slot == "cpu2"


def test_one_gpu_falls_to_the_processor_but_two_are_a_fault() -> None:
    assert [slot.slot for slot in slots_for("here", (), 1, None, [0, 1])] == ["cpu0"]
    assert slots_for("here", DEVICES, 0, 2, [0, 1])[1].devices == (), "gpus = 0 asks for none"
    assert len(slots_for("here", DEVICES, 1, 3, [0, 1])) == 3
    for devices, gpus in (((), 2), (DEVICES, 6)):
        with pytest.raises(HostFault, match=r"lower trial\.gpus"):
            slots_for("here", devices, gpus, None, [0, 1])


def test_an_allocation_is_spoken_in_common_variables() -> None:
    gpu = allocation_environment(Allocation("box", "gpu0,gpu1", (UUIDS[0], UUIDS[1]), port=4711))
    assert gpu == {
        "CUDA_VISIBLE_DEVICES": f"{UUIDS[0]},{UUIDS[1]}",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "4711",
    }
    cpu = allocation_environment(Allocation("box", "cpu0", cpus=(2, 3, 4)))
    assert cpu["CUDA_VISIBLE_DEVICES"] == "", "a device that was not allotted is not used"
    assert cpu["OMP_NUM_THREADS"] == cpu["MKL_NUM_THREADS"] == "3" and "MASTER_PORT" not in cpu


def test_an_adopted_allocation_of_another_grouping_blocks_what_it_overlaps() -> None:
    pool = Allocations(device_slots("box", DEVICES, 2))
    pool.adopt(1, Allocation("box", "gpu1", (UUIDS[1],)))
    slot = pool.acquire(2)
    assert slot is not None and slot.slot == "gpu2,gpu3" and pool.acquire(3) is None


def test_ports_are_free_and_differ() -> None:
    taken: set[int] = set()
    for _ in range(50):
        taken.add(free_port(taken))
    assert len(taken) == 50


# --- a machine with devices (its nvidia-smi is a script: there is no device here) ------------------


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "listing").write_text(LISTING)
    (directory / "nvidia-smi").write_text(
        '#!/bin/sh\n[ "$1" = --query-gpu=uuid,index,name,memory.total,driver_version ] || exit 2\n'
        f'[ "$2" = --format=csv,noheader,nounits ] || exit 2\ncat {directory}/listing\n'
    )
    (directory / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return directory


def device_host(tmp_path: Path, name: str, gpus: int) -> LocalHost:
    return LocalHost(
        name, tmp_path / name, RealClock(), gpus_per_trial=gpus, lock_directory=str(tmp_path / "locks")
    )


@pytest.fixture
async def two(smi: Path, tmp_path: Path) -> AsyncIterator[tuple[Bench, Bench]]:
    """Two projects' engines on one machine of five devices, two devices a trial."""
    benches = []
    for name in ("one", "other"):
        host = device_host(tmp_path, name, 2)
        await host.open()
        benches.append(Bench(host, tmp_path / name))
    yield benches[0], benches[1]
    for bench in benches:
        await put_down(bench)
        await bench.host.close()


def lock_of(bench: Bench, allocation: Allocation) -> Path:
    """The first device's."""
    return bench.root.parent / f"locks.{os.getuid()}" / lock_names(allocation, str(bench.root))[0]


async def test_a_host_finds_its_devices(smi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = device_host(tmp_path, "box", 2)
    await host.open()
    assert host.devices == DEVICES and host.capacity == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,0")
    host = device_host(tmp_path, "box", 1)
    await host.open()
    slot = host.acquire(1)
    assert host.capacity == 3 and slot is not None and slot.devices == (UUIDS[3],)
    (smi / "listing").unlink()
    with pytest.raises(HostFault, match="nvidia-smi failed"):
        await device_host(tmp_path, "box", 1).open()
    (smi / "nvidia-smi").write_text("#!/bin/sh\necho No devices were found; exit 6\n")
    host = device_host(tmp_path, "box", 1)
    await host.open()
    assert host.devices == () and host.capacity == 1


async def test_a_device_serves_one_trial_of_all_projects(two: tuple[Bench, Bench]) -> None:
    one, other = two
    mine = one.host.acquire(1)
    assert mine is not None and mine.slot == "gpu0,gpu1"
    plan = replace(await one.plan("echo up; sleep 300"), allocation=mine)
    await one.host.launch(plan)
    await one.until(plan.directory, b"up\n")

    # The other engine sees what is taken; a launch that comes too late for that ends as busy, unrun.
    theirs = other.host.acquire(1)
    assert theirs is not None and theirs.slot == "gpu2,gpu3"
    overlapping = replace(theirs, devices=(UUIDS[4], UUIDS[1]))
    late = replace(await other.plan("echo ran >../runs"), allocation=overlapping)
    end = exited(await other.run(late))
    assert (end.reason, end.steps) == ("busy", ()) and not Path(late.directory, "runs").exists()
    beside = replace(await other.plan("echo ran"), allocation=theirs)
    assert exited(await other.run(beside)).reason == "finished"

    await one.host.cancel(plan.directory)
    assert exited(await one.follow(plan.directory)).reason == "cancelled"
    again = replace(await other.plan("echo ran"), allocation=overlapping)
    assert exited(await other.run(again)).reason == "finished", "free again at the moment of the exit"


async def test_a_device_is_free_at_the_exit_even_if_a_process_escaped(two: tuple[Bench, Bench]) -> None:
    one, other = two
    one.wrap = other.wrap = ()
    mine = one.host.acquire(1)
    assert mine is not None
    hide = "exec 7>&1 >/dev/null 2>&1; echo $$ >&7; exec sleep 300"
    plan = replace(await one.plan(f"(env -i setsid sh -c '{hide}' &); sleep 0.3"), allocation=mine)
    items = await one.run(plan)
    assert exited(items).reason == "finished"
    escapee = int(log_of(items))
    try:
        os.kill(escapee, 0)
        for _ in range(3):
            plan = replace(await other.plan("true"), allocation=mine)
            assert exited(await other.run(plan)).reason == "finished"
    finally:
        os.kill(escapee, signal.SIGKILL)


async def test_the_lock_is_gone_before_the_exit_is_there(two: tuple[Bench, Bench]) -> None:
    """Whoever sees the exit may launch on the device at once: look as fast as one can."""
    one, _ = two
    mine = one.host.acquire(1)
    assert mine is not None

    def busy_at_exit(directory: str) -> bool:
        lock = os.open(lock_of(one, mine), os.O_RDONLY)
        try:
            while not Path(directory, "control", "exit").exists():
                pass
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(lock)

    for _ in range(5):
        plan = replace(await one.plan("echo up; sleep 0.2"), allocation=mine)
        await one.host.launch(plan)
        await one.until(plan.directory, b"up\n")
        assert not await asyncio.to_thread(busy_at_exit, plan.directory)


async def test_a_device_is_free_after_its_job_was_lost(two: tuple[Bench, Bench]) -> None:
    one, _ = two
    mine = one.host.acquire(1)
    assert mine is not None
    plan = replace(await one.plan("echo up; sleep 300"), allocation=mine)
    await one.host.launch(plan)
    started = await one.until(plan.directory, b"up\n")
    os.kill(int(started.identity.split()[0]), signal.SIGKILL)
    assert isinstance((await one.follow(plan.directory))[-1], Lost)
    retry = replace(await one.plan("echo again"), allocation=mine)
    assert exited(await one.run(retry)).reason == "finished"


async def test_sixteen_devices_are_locked_and_no_step_holds_a_lock(
    two: tuple[Bench, Bench], tmp_path: Path
) -> None:
    """More locks than a shell has one-digit descriptors."""
    one, _ = two
    many = Allocation("one", "all", tuple(f"GPU-many-{n}" for n in range(16)))
    plan = replace(await one.plan("ls -l /proc/self/fd; echo up; sleep 300"), allocation=many)
    await one.host.launch(plan)
    await one.until(plan.directory, b"up\n")
    watcher = Path(plan.directory, "control", "watcher").read_text().split()[0]
    held = [str(link.readlink()) for link in Path(f"/proc/{watcher}/fd").iterdir()]
    locks = str(tmp_path / "locks")
    assert sum(name.startswith(locks) for name in held) == 16
    await one.host.cancel(plan.directory)
    items = await one.follow(plan.directory)
    assert exited(items).reason == "cancelled" and locks.encode() not in log_of(items)
