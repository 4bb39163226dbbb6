"""What a reader concludes from control files: lost only on evidence, every byte once and in its place."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from engine.runners import Exited, LogChunk, LogSkipped, Lost, Started, StepStarted, Unreachable, following
from engine.runners.following import AttemptReader, boot_id, log_head_bytes, parse_exit, process_is

EXIT = "reason finished\npeak 5\nstep 1 0 1.50 0 4\nstep 2 1 0.25 4 8\nend\n" + " " * 100


@pytest.fixture
def control(tmp_path: Path) -> Path:
    control = tmp_path / "attempt-1" / "control"
    control.mkdir(parents=True)
    plan = {"token": "t", "steps": ["train", "evaluate it"], "log_cap_bytes": 4 << 20}
    (control / "plan.json").write_text(json.dumps(plan))
    return control


def reader(control: Path, offset: int = 0) -> AttemptReader:
    return AttemptReader(str(control.parent), offset)


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def me() -> str:
    return f"{os.getpid()} {start_of(os.getpid())} {boot_id()}"


def dead() -> str:
    process = subprocess.Popen(["sleep", "100"])
    identity = f"{process.pid} {start_of(process.pid)} {boot_id()}"
    process.kill()
    process.wait()
    return identity


def test_staged_and_never_claimed_is_not_lost(control: Path) -> None:
    watched = reader(control)
    assert watched.look() == [] and watched.look() == [] and not watched.ended


def test_a_missing_directory_is_no_evidence_and_said_once(tmp_path: Path) -> None:
    watched = AttemptReader(str(tmp_path / "nowhere"))
    assert [type(item) for item in watched.look()] == [Unreachable]
    assert watched.look() == [] and not watched.ended


def test_another_boot_is_lost(control: Path) -> None:
    pid, start, _ = me().split()
    (control / "claim").mkdir()
    (control / "pid").write_text(f"{pid} {start} 00000000-0000-0000-0000-000000000000\n")
    assert [type(item) for item in reader(control).look()] == [Started, Lost]


def test_a_dead_process_is_lost_and_a_living_one_is_not(control: Path) -> None:
    (control / "claim").mkdir()
    (control / "pid").write_text(me() + "\n")
    assert [type(item) for item in reader(control).look()] == [Started]
    (control / "pid").write_text(dead() + "\n")
    assert [type(item) for item in reader(control).look()] == [Started, Lost]


def test_a_reused_pid_is_lost(control: Path) -> None:
    (control / "pid").write_text(f"{os.getpid()} 12345 {boot_id()}\n")
    assert [type(item) for item in reader(control).look()] == [Started, Lost]


def test_a_zombie_does_not_run() -> None:
    process = subprocess.Popen(["sleep", "100"])
    start = start_of(process.pid)
    assert process_is(process.pid, start)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists() and not process_is(process.pid, start)
    process.wait()


def test_a_process_name_with_brackets_and_spaces_is_read(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "100"])
    try:
        while Path(f"/proc/{process.pid}/comm").read_text() != "a) R 1 (b\n":
            pass
        assert process_is(process.pid, start_of(process.pid))
    finally:
        process.kill()
        process.wait()


def test_a_claim_whose_contender_lives_is_slow_and_one_whose_contender_died_is_lost(control: Path) -> None:
    (control / "claim").mkdir()
    (control / "contender.1").write_text(me() + "\n")
    (control / "contender.2").write_text(dead() + "\n")
    watched = reader(control)
    assert watched.look() == []
    (control / "contender.1").unlink()
    assert [type(item) for item in watched.look()] == [Lost]


def test_an_exit_counts_however_dead_its_process_is(control: Path) -> None:
    (control / "pid").write_text(dead() + "\n")
    (control / "log").write_bytes(b"one\ntwo\n")
    (control / "steps").write_text("1 0\n2 4\n")
    (control / "exit").write_text(EXIT)
    items = reader(control).look()
    assert items[1:-1] == [
        StepStarted("train", 0),
        LogChunk(0, b"one\n"),
        StepStarted("evaluate it", 4),
        LogChunk(4, b"two\n"),
    ]
    end = items[-1]
    assert isinstance(end, Exited) and end.reason == "finished" and end.peak_memory_bytes == 5
    assert [(step.name, step.code, step.seconds) for step in end.steps] == [
        ("train", 0, 1.5),
        ("evaluate it", 1, 0.25),
    ]


@pytest.mark.parametrize("size", range(len(EXIT.rstrip())))
def test_a_damaged_exit_is_none(size: int) -> None:
    assert parse_exit(EXIT[:size]) is None
    assert parse_exit(EXIT[:size] + "\0" * 4096) is None


def test_a_damaged_exit_of_a_dead_job_is_lost(control: Path) -> None:
    (control / "pid").write_text(dead() + "\n")
    (control / "exit").write_bytes(b"\0" * 100)
    assert [type(item) for item in reader(control).look()] == [Started, Lost]


def test_a_step_line_that_is_not_yet_whole_waits(control: Path) -> None:
    (control / "log").write_bytes(b"")
    (control / "steps").write_text("1 0\n2 1")
    watched = reader(control)
    assert watched.look() == [StepStarted("train", 0)]
    (control / "log").write_bytes(b"x" * 12)
    (control / "steps").write_text("1 0\n2 12\n")
    assert watched.look() == [LogChunk(0, b"x" * 12), StepStarted("evaluate it", 12)]


def test_the_whole_log_comes_before_the_exit_however_long(control: Path) -> None:
    data = os.urandom(1 << 20) * 5
    plan = {"token": "t", "steps": ["train", "e"], "log_cap_bytes": 64 << 20}
    (control / "plan.json").write_text(json.dumps(plan))
    (control / "log").write_bytes(data)
    (control / "steps").write_text("1 0\n")
    (control / "exit").write_text(EXIT)
    watched = reader(control)
    got, looks = b"", 0
    while not watched.ended:
        items = watched.look(log=False, life=False)
        got += b"".join(item.data for item in items if isinstance(item, LogChunk))
        looks += 1
    assert got == data and isinstance(items[-1], Exited)
    assert looks > 1, "no single look may hold up the other trials"


@pytest.mark.parametrize("offset", [0, 1, 12345, log_head_bytes(4 << 20) - 1, 5 << 30])
def test_a_reader_far_behind_a_flood_goes_to_its_tail(control: Path, offset: int) -> None:
    """Ten gigabytes, of which the head and the last megabyte will be kept: read no more than that."""
    size, cap = 10 << 30, 4 << 20
    with (control / "log").open("wb") as log:
        log.write(b"h" * log_head_bytes(cap))
        log.truncate(size - (1 << 20))
        log.seek(0, os.SEEK_END)
        log.write(b"t" * (1 << 20))
    watched, read, position = reader(control, offset), 0, offset
    for _ in range(10):
        for item in watched.look():
            if isinstance(item, LogChunk):
                assert item.offset == position and item.data in (
                    b"h" * len(item.data),
                    b"t" * len(item.data),
                )
                read, position = read + len(item.data), position + len(item.data)
            elif isinstance(item, LogSkipped):
                position += item.length
    assert position == size and read == max(log_head_bytes(cap) - offset, 0) + (1 << 20)


def test_a_hole_punched_while_reading_yields_no_bytes_that_were_never_printed(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1 << 20
    (control / "log").write_bytes(b"x" * size)
    (control / "steps").write_text("1 0\n")
    watched, real = reader(control, 100), os.pread

    def punch_first(descriptor: int, length: int, at: int) -> bytes:
        monkeypatch.setattr(os, "pread", real)
        subprocess.run(["fallocate", "-p", "-o", "65536", "-l", "131072", control / "log"], check=True)
        return real(descriptor, length, at)

    monkeypatch.setattr(os, "pread", punch_first)
    items = [item for _ in range(5) for item in watched.look() if not isinstance(item, StepStarted)]
    assert LogSkipped(65536, 131072) in items
    data = [item.data for item in items if isinstance(item, LogChunk)]
    assert b"".join(data) == b"x" * (size - 100 - 131072)


def test_an_exit_written_between_two_looks_is_no_loss(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job writes its exit and leaves after we looked for the one and before we look for the other."""
    (control / "pid").write_text(dead() + "\n")
    (control / "log").write_bytes(b"12345678")

    def finishes_first(identity: str) -> str:
        (control / "exit").write_text(EXIT)
        return "gone"

    monkeypatch.setattr(following, "identity_is_gone", finishes_first)
    watched = reader(control)
    kinds = [type(item) for _ in range(3) for item in watched.look()]
    assert Lost not in kinds and kinds[-1] is Exited


def test_a_log_that_its_candidate_truncates_does_no_harm(control: Path) -> None:
    (control / "steps").write_text("1 0\n")
    (control / "log").write_bytes(b"x" * 1000)
    watched = reader(control)
    watched.look()
    (control / "log").write_bytes(b"y")
    assert watched.look() == []
    (control / "exit").write_text(EXIT)
    assert isinstance(watched.look()[-1], Exited)
