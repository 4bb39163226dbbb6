"""What every Host promises the conductor, whatever its transport and launcher."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from runner_bench import Bench, exited, log_of, make_archive, put_down
from sshd import HOST

from engine.clock import RealClock
from engine.errors import HostFault, UsageError
from engine.runners import LogChunk, Scheduled, Started, Step, StepStarted
from engine.runners.local import LocalHost
from engine.runners.remote import RemoteHost
from engine.runners.ssh import SshTransport


@pytest.fixture(params=["local", "ssh"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    root = tmp_path / 'it\'s a "place" with $pecial\nnames \N{SNOWMAN}'
    root.mkdir()
    host: LocalHost | RemoteHost
    if request.param == "local":
        host = LocalHost("here", root, RealClock(), slots=2, cpus=[0, 1])
    else:
        server = request.getfixturevalue("running_sshd")
        transport = SshTransport(HOST, RealClock(), server.client())
        host = RemoteHost("there", transport, str(root), RealClock(), slots=2, cpus=[0, 1])
    await host.open()
    bench = Bench(host, root)
    yield bench
    await put_down(bench)
    await host.close()


async def test_steps_run_in_order_and_are_reported_with_their_place_in_the_log(bench: Bench) -> None:
    plan = await bench.plan("echo one; echo err >&2", "sleep 0.3; echo two")
    items = await bench.run(plan)
    end = exited(items)
    assert end.reason == "finished"
    assert [(step.name, step.code) for step in end.steps] == [("step 1", 0), ("step 2", 0)]
    assert log_of(items) == b"one\nerr\ntwo\n"
    assert [(step.log_start, step.log_end) for step in end.steps] == [(0, 8), (8, 12)]
    assert end.steps[1].seconds >= 0.3
    kinds = [type(item) for item in items if not isinstance(item, LogChunk)]
    assert kinds == [Started, StepStarted, StepStarted, type(end)]
    second = items.index(StepStarted("step 2", 8))
    assert log_of(items[:second]) == b"one\nerr\n", "a step begins after the bytes before it"


async def test_a_failing_step_ends_the_attempt_with_its_code(bench: Bench) -> None:
    end = exited(await bench.run(await bench.plan("exit 3", "echo never")))
    assert (end.reason, [step.code for step in end.steps]) == ("failed", [3])
    end = exited(await bench.run(await bench.plan("kill -SEGV $$")))
    assert (end.reason, [step.code for step in end.steps]) == ("failed", [128 + 11])


async def test_a_command_that_does_not_exist_fails_with_its_message_in_the_log(bench: Bench) -> None:
    items = await bench.run(await bench.plan("no-such-program --flag"))
    assert exited(items).steps[0].code == 127
    assert b"no-such-program" in log_of(items)


async def test_fifty_launches_at_once_run_once(bench: Bench) -> None:
    plan = await bench.plan("echo ran >>../runs; sleep 0.2")
    await asyncio.gather(*(bench.host.launch(plan) for _ in range(50)))
    assert exited(await bench.follow(plan.directory)).reason == "finished"
    await bench.host.launch(plan)  # nor after its end
    assert (Path(plan.directory) / "runs").read_text() == "ran\n"
    assert not list(Path(plan.directory, "control").glob("contender.*.new"))


async def test_following_from_any_offset_gives_the_rest_of_the_same_bytes(bench: Bench) -> None:
    plan = await bench.plan("seq 1 2000", "seq 1 10")
    whole = log_of(await bench.run(plan))
    assert whole == b"".join(b"%d\n" % n for n in [*range(1, 2001), *range(1, 11)])
    for offset in (0, 1, 4000, len(whole) - 3, len(whole)):
        items = await bench.follow(plan.directory, offset)
        assert log_of(items) == whole[offset:]
        chunks = [item for item in items if isinstance(item, LogChunk)]
        assert [item.offset for item in chunks] == [
            offset + len(b"".join(chunk.data for chunk in chunks[:n])) for n in range(len(chunks))
        ]
        assert sum(isinstance(item, StepStarted) for item in items) == 2
        assert exited(items).reason == "finished"


async def test_the_environment_is_exactly_the_plan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-of-the-engine")
    wanted = {"PATH": os.environ["PATH"], "ODD": "a 'b' \"c\" $d `e`\n\\f", "EMPTY": "", "DOT.TED": "x"}
    plan = await bench.plan("exec env -0 >environment; sleep 0")
    items = await bench.run(replace(plan, environment=wanted))
    assert exited(items).reason == "finished", log_of(items)
    seen = dict(
        entry.split("=", 1)
        for entry in Path(plan.directory, "work", "environment").read_text().split("\0")
        if entry
    )
    tmp = seen.pop("TMPDIR")
    assert seen.pop("HOME") == f"{plan.directory}/home"
    assert seen.pop("RATCHET_ATTEMPT_TOKEN") == plan.token
    for added_by_shells in ("PWD", "OLDPWD", "SHLVL", "_"):
        seen.pop(added_by_shells, None)
    # What is no shell name a shell may drop on the way; nothing else may change.
    assert seen.pop("DOT.TED", "x") == "x"
    assert seen == {name: value for name, value in wanted.items() if name != "DOT.TED"}
    assert not Path(tmp).is_relative_to(Path(plan.directory, "work"))


async def test_no_process_of_an_attempt_carries_the_engines_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-of-the-engine")
    plan = await bench.plan("echo up; sleep 30")
    await bench.host.launch(plan)
    started = await bench.until(plan.directory, b"up\n")
    job = int(started.identity.split()[0])
    watcher = int(Path(plan.directory, "control", "watcher").read_text().split()[0])
    step = int(Path(plan.directory, "control", "step").read_text().split()[1])
    for pid in (job, watcher, step):
        data = Path(f"/proc/{pid}/environ").read_bytes()
        assert data and b"canary" not in data, pid
    await bench.host.cancel(plan.directory)
    assert exited(await bench.follow(plan.directory)).reason == "cancelled"


async def test_home_and_tmp_are_fresh_and_writable(bench: Bench) -> None:
    command = 'ls -A "$HOME" "$TMPDIR/"; : >"$HOME/h"; : >"$TMPDIR/t"'
    for _ in range(2):
        plan = await bench.plan(command)
        items = await bench.run(plan)
        assert exited(items).reason == "finished"
        assert b"h\n" not in log_of(items) and b"t\n" not in log_of(items)
        assert Path(plan.directory, "home", "h").exists() and Path(plan.directory, "tmp", "t").exists()


async def test_a_unix_socket_fits_in_tmp_however_long_the_attempts_path(bench: Bench) -> None:
    bench.root = bench.root / ("deep" * 30)
    bench.root.mkdir()
    python = """
import os, socket, tempfile
socket.socket(socket.AF_UNIX).bind(tempfile.mkdtemp(prefix="pymp-") + "/listener-12345678")
print(os.environ["TMPDIR"])
"""
    plan = await bench.plan("python3 bind.py")
    Path(plan.directory, "work", "bind.py").write_text(python)
    items = await bench.run(plan)
    assert exited(items).steps[0].code == 0, log_of(items)
    assert not Path(log_of(items).decode().strip()).exists(), "the short name goes with the attempt"


async def test_cancelling_before_the_start_means_it_never_starts(bench: Bench) -> None:
    plan = await bench.plan("echo ran >../runs")
    assert await bench.host.cancel(plan.directory) is True
    await bench.host.launch(plan)
    end = exited(await bench.follow(plan.directory))
    assert (end.reason, end.steps) == ("cancelled", ())
    assert not Path(plan.directory, "runs").exists()
    assert await bench.host.cancel(plan.directory) is False  # again is harmless
    unstaged = bench.directory()
    assert await bench.host.cancel(unstaged) is True
    assert exited(await bench.follow(unstaged)).reason == "cancelled"


async def test_cancelling_a_running_attempt_ends_it_and_says_so(bench: Bench) -> None:
    plan = await bench.plan("echo up; sleep 300", "echo never")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    assert await bench.host.cancel(plan.directory) is False
    end = exited(await bench.follow(plan.directory))
    assert end.reason == "cancelled" and len(end.steps) == 1
    assert await bench.host.cancel(plan.directory) is False
    assert exited(await bench.follow(plan.directory)) == end


async def test_launch_and_cancel_at_once_leave_a_clear_end(bench: Bench) -> None:
    """Whoever wins, the attempt ends once, as cancelled or finished, and never runs after "won"."""
    for _ in range(8):
        plan = await bench.plan("echo ran >../runs; sleep 0.05")
        _, won = await asyncio.gather(bench.host.launch(plan), bench.host.cancel(plan.directory))
        end = exited(await bench.follow(plan.directory))
        assert end.reason in ("cancelled", "finished")
        if won:
            assert end.steps == () and not Path(plan.directory, "runs").exists()


async def test_a_deadline_ends_a_step(bench: Bench) -> None:
    plan = await bench.plan("true", "unused")
    plan = replace(plan, steps=(Step("quick", "true", 30.0), Step("slow", "sleep 300", 0.7)))
    end = exited(await bench.run(plan))
    assert (end.reason, [step.name for step in end.steps]) == ("timeout", ["quick", "slow"])


async def test_many_attempts_are_followed_at_once_without_mixing(bench: Bench) -> None:
    plans = [await bench.plan(f"for i in 1 2 3; do echo {n}-$i; sleep 0.1; done") for n in range(8)]
    logs = await asyncio.gather(*(bench.run(plan) for plan in plans))
    for n, items in enumerate(logs):
        assert log_of(items) == f"{n}-1\n{n}-2\n{n}-3\n".encode()
        assert exited(items).reason == "finished"


async def test_two_followers_of_one_attempt_see_the_same(bench: Bench) -> None:
    plan = await bench.plan("seq 1 100")
    await bench.host.launch(plan)
    one, two = await asyncio.gather(bench.follow(plan.directory), bench.follow(plan.directory))
    assert log_of(one) == log_of(two) and exited(one) == exited(two)


async def test_staging_twice_changes_nothing(bench: Bench) -> None:
    directory = await bench.stage({"a.py": "first", "sub/b.py": "b"})
    other = make_archive(bench.root / "other.tar", {"a.py": "second"})
    await bench.host.stage(directory, str(other), {})
    assert Path(directory, "work", "a.py").read_text() == "first"
    assert Path(directory, "work", "sub", "b.py").read_text() == "b"
    assert Path(directory, "control").is_dir()


async def test_staging_that_fails_leaves_nothing_half_done(bench: Bench) -> None:
    (bench.root / "broken.tar").write_bytes(b"not a tar file at all" * 100)
    directory = bench.directory()
    with pytest.raises(HostFault):
        await bench.host.stage(directory, str(bench.root / "broken.tar"), {})
    assert list(Path(directory).parent.iterdir()) == []


async def test_links_are_made_beside_the_candidates_own_files(bench: Bench) -> None:
    data = bench.root / "user data"
    (data / "set").mkdir(parents=True)
    (data / "set" / "train.bin").write_text("big")
    (data / "set" / "prepare.py").write_text("the user's")
    directory = await bench.stage({"data/set/prepare.py": "the candidate's"}, {"data/": str(data)})
    work = Path(directory, "work")
    assert (work / "data" / "set" / "train.bin").read_text() == "big"
    assert (work / "data" / "set" / "prepare.py").read_text() == "the candidate's"
    directory = await bench.stage({"a.py": ""}, {"deep/er": str(data)})
    assert Path(directory, "work", "deep", "er").is_symlink()
    with pytest.raises(UsageError):
        await bench.stage({"a.py": ""}, {"../out": str(data)})


async def test_read_gives_regular_files_inside_work_and_nothing_else(bench: Bench) -> None:
    secret = bench.root / "secret"
    secret.mkdir()
    (secret / "x.json").write_text("outside")
    directory = await bench.stage({"out/a.json": "{1}", "out/deep/b.json": "{2}", "out/c.txt": "long" * 100})
    work = Path(directory, "work")
    (work / "out" / "link.json").symlink_to(secret / "x.json")
    (work / "linked").symlink_to(secret)
    os.mkfifo(work / "out" / "fifo.json")
    read = bench.host.read
    assert await read(directory, "out/*.json", 100) == {"out/a.json": b"{1}"}
    assert await read(directory, "**/*.json", 100) == {"out/a.json": b"{1}", "out/deep/b.json": b"{2}"}
    assert await read(directory, "out/c.txt", 6) == {"out/c.txt": b"longlo"}
    assert set(await read(directory, "out/**", 1)) == {"out/a.json", "out/c.txt", "out/deep/b.json"}
    assert await read(directory, "linked/*", 100) == {}
    assert await read(directory, "missing/*", 100) == {}
    assert await read(bench.directory(), "*", 100) == {}
    for bad in ("../*", "/etc/passwd", "out/../../x", ""):
        with pytest.raises(UsageError):
            await read(directory, bad, 100)


async def test_remove_deletes_even_what_the_candidate_locked(bench: Bench) -> None:
    plan = await bench.plan("mkdir locked; : >locked/file; chmod 500 locked")
    await bench.run(plan)
    await bench.host.remove(plan.directory)
    assert list(Path(plan.directory).parent.iterdir()) == []
    await bench.host.remove(plan.directory)


async def test_allocations_are_held_until_released(bench: Bench) -> None:
    host = bench.host
    assert host.capacity == 2
    first, second = host.acquire(1), host.acquire(2)
    assert first is not None and second is not None and first.slot != second.slot
    assert set(first.cpus).isdisjoint(second.cpus) and first.port != second.port
    assert host.acquire(1) == first, "asking again gives the same"
    assert host.acquire(3) is None
    host.release(1)
    host.adopt(9, first)  # as after a restart
    assert host.acquire(3) is None
    host.release(9)
    host.release(9)
    again = host.acquire(3)
    assert again is not None and again.slot == first.slot


async def test_a_step_runs_on_the_cores_of_its_allocation(bench: Bench) -> None:
    allocation = bench.host.acquire(1)
    assert allocation is not None
    command = "python3 -c 'import os; print(sorted(os.sched_getaffinity(0)))'"
    items = await bench.run(replace(await bench.plan(command), allocation=allocation))
    assert log_of(items).decode().strip() == str(list(allocation.cpus))


async def test_closing_the_host_ends_its_followers_and_not_the_attempt(bench: Bench) -> None:
    plan = await bench.plan("echo up; sleep 300")
    await bench.host.launch(plan)
    await bench.until(plan.directory, b"up\n")
    following = asyncio.create_task(bench.follow(plan.directory))
    await bench.clock.sleep(0.2)
    await bench.host.close()
    items = await following
    first = next(item for item in items if not isinstance(item, Scheduled))  # a scheduler may speak before the job
    assert isinstance(first, Started) and log_of(items) == b"up\n"
    await bench.host.cancel(plan.directory)
    assert exited(await bench.follow(plan.directory)).reason == "cancelled"
