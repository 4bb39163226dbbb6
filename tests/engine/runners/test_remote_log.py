"""follow_remote.sh and its reader, in every shell at hand, against AttemptReader on the same files."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from test_following import EXIT, dead, me

from engine.runners import (
    Exited,
    FollowItem,
    LogChunk,
    LogSkipped,
    Lost,
    Reached,
    Started,
    StepStarted,
    Unreachable,
)
from engine.runners.following import LOG_TAIL_BYTES, AttemptReader, log_head_bytes
from engine.runners.remote_log import Frame, Frames, RemoteReader
from engine.runners.ssh_link import escape_word, follow_script

SHELLS = {
    name: argv
    for name, argv in {
        "dash": ("dash",),
        "bash": ("bash", "--posix"),
        "busybox": ("busybox", "sh"),
        "ksh": ("ksh",),
        "mksh": ("mksh",),
    }.items()
    if shutil.which(argv[0])
}
TOKEN = "0123456789abcdef"
CAP = 4 << 20


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return SHELLS[str(request.param)]


@pytest.fixture
def control(tmp_path: Path) -> Path:
    control = tmp_path / 'it\'s "a" $place\nwith\\n lines' / "attempt-1" / "control"
    control.mkdir(parents=True)
    plan = {"token": "t", "steps": ["train", "evaluate it"], "log_cap_bytes": CAP}
    (control / "plan.json").write_text(json.dumps(plan))
    (control / "plan.sh").write_text(
        f"steps=2\nlog_cap={CAP}\nlog_tail={LOG_TAIL_BYTES}\ntoken=t\nset -- '/a b'\n"
    )
    return control


def ask(shell: tuple[str, ...], lines: list[str]) -> list[Frame]:
    done = subprocess.run(
        [*shell, "-c", follow_script()],
        input="".join(f"{line}\n" for line in (TOKEN, *lines)).encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == b"", done.stderr
    frames = list(Frames(TOKEN).feed(done.stdout))
    assert frames[0].kind == "hello"
    return frames[1:]


def follow(shell: tuple[str, ...], control: Path, offset: int = 0, looks: int = 1) -> list[FollowItem]:
    """What a follower is told after ``looks`` looks of one connection."""
    reader = RemoteReader(str(control.parent), offset)
    lines = [f"+ 7 {offset} {escape_word(reader.directory)}", *(f"? {n} 1 16" for n in range(1, looks + 1))]
    frames = ask(shell, lines)
    assert [frame.about for frame in frames if frame.kind == "done"] == [str(n) for n in range(1, looks + 1)]
    return [item for frame in frames if frame.kind != "done" for item in reader.take(frame)]


def locally(control: Path, offset: int = 0, looks: int = 1) -> list[FollowItem]:
    watched = AttemptReader(str(control.parent), offset)
    return [item for _ in range(looks) if not watched.ended for item in watched.look()]


def joined(items: list[FollowItem]) -> list[FollowItem]:
    """Neighbouring chunks as one: how bytes are cut up is nobody's business."""
    found: list[FollowItem] = []
    for item in items:
        last = found[-1] if found else None
        if isinstance(item, LogChunk) and isinstance(last, LogChunk):
            found[-1] = LogChunk(last.offset, last.data + item.data)
        else:
            found.append(item)
    return found


def staged(control: Path) -> None:
    pass


def running(control: Path) -> None:
    (control / "claim").mkdir()
    (control / "pid").write_text(me() + "\n")
    (control / "log").write_bytes(b"one\ntwo\n")
    (control / "steps").write_text("1 0\n2 4\n1")  # the last line is still being written


def dead_job(control: Path) -> None:
    (control / "pid").write_text(dead() + "\n")
    (control / "log").write_bytes(b"words")


def other_boot(control: Path) -> None:
    pid, start, _ = me().split()
    (control / "pid").write_text(f"{pid} {start} 00000000-0000-0000-0000-000000000000\n")


def reused_pid(control: Path) -> None:
    _, _, boot = me().split()
    (control / "pid").write_text(f"{os.getpid()} 12345 {boot}\n")


def slow_claim(control: Path) -> None:
    (control / "claim").mkdir()
    (control / "contender.1").write_text(me() + "\n")
    (control / "contender.2").write_text(dead() + "\n")


def dead_claim(control: Path) -> None:
    (control / "claim").mkdir()
    (control / "contender.2").write_text(dead() + "\n")


def ended(control: Path) -> None:
    (control / "pid").write_text(dead() + "\n")
    (control / "log").write_bytes(b"one\ntwo\n")
    (control / "steps").write_text("1 0\n2 4\n")
    (control / "exit").write_text(EXIT)


def damaged_exit(control: Path) -> None:
    (control / "pid").write_text(dead() + "\n")
    (control / "exit").write_bytes(b"reason finished\n" + b"\0" * 100)


def cancelled_unstaged(control: Path) -> None:
    for name in ("plan.json", "plan.sh"):
        (control / name).unlink()
    (control / "exit").write_text("reason cancelled\npeak 0\nend\n")


def hostile(control: Path) -> None:
    running(control)
    (control / "log").write_bytes(b"\0\xff\n0123 end\n%s\\0101 `id` $(id)\r\n" + bytes(range(256)) * 1000)


STATES = [
    staged, running, dead_job, other_boot, reused_pid, slow_claim, dead_claim, ended, damaged_exit,
    cancelled_unstaged, hostile,
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_far_side_concludes_what_this_side_would(shell: tuple[str, ...], control: Path, state: object) -> None:
    assert callable(state)
    state(control)
    for offset in (0, 3, 4, 8, 100):
        assert joined(follow(shell, control, offset, looks=2)) == joined(locally(control, offset, looks=2)), offset


def test_a_missing_directory_is_no_evidence_and_said_once(shell: tuple[str, ...], tmp_path: Path) -> None:
    items = follow(shell, tmp_path / "nowhere" / "control", looks=3)
    assert [type(item) for item in items] == [Unreachable]


def test_a_long_log_comes_whole_before_its_end(shell: tuple[str, ...], control: Path) -> None:
    data = random.Random(1).randbytes(2_500_001)
    ended(control)
    (control / "log").write_bytes(data)
    (control / "steps").write_text("1 0\n2 1234567\n")
    for offset in (0, 77_777):
        items = follow(shell, control, offset, looks=6)
        assert b"".join(item.data for item in items if isinstance(item, LogChunk)) == data[offset:]
        assert isinstance(items[-1], Exited)
        second = items.index(StepStarted("evaluate it", 1234567))
        last = items[second - 1]
        assert isinstance(last, LogChunk) and last.offset + len(last.data) == 1234567


def test_what_was_cut_out_of_the_log_is_skipped(shell: tuple[str, ...], control: Path) -> None:
    head, size = log_head_bytes(CAP), 9 << 20
    ended(control)
    with (control / "log").open("wb") as log:
        log.write(b"h" * head)
        log.truncate(size - LOG_TAIL_BYTES)
        log.seek(0, os.SEEK_END)
        log.write(b"t" * LOG_TAIL_BYTES)
    (control / "hole").write_text(f"{head} {size - LOG_TAIL_BYTES}\n")
    items = joined(follow(shell, control, looks=12))
    assert [item for item in items if isinstance(item, LogSkipped)] == [
        LogSkipped(head, size - LOG_TAIL_BYTES - head)
    ]
    chunks = [item for item in items if isinstance(item, LogChunk)]
    assert b"".join(chunk.data for chunk in chunks) == b"h" * head + b"t" * LOG_TAIL_BYTES
    assert items == joined(locally(control, looks=12))


def test_two_attempts_share_a_stream_and_one_may_leave_it(shell: tuple[str, ...], control: Path) -> None:
    running(control)
    place = escape_word(str(control.parent))
    frames = ask(
        shell, [f"+ 1 0 {place}", f"+ 2 4 {place}", "? 1 0 1", "- 1", "? 2 1 1", f"+ 1 8 {place}", "? 3 0 1"]
    )
    logs = [(frame.about, frame.words[1], frame.data) for frame in frames if frame.kind == "log"]
    assert logs == [("1", "0", b"one\ntwo\n"), ("2", "0", b"one\ntwo\n")]
    assert [frame.about for frame in frames if frame.kind == "now"] == ["1", "2", "1"]


def test_bytes_cut_out_while_they_were_read_were_never_printed() -> None:
    reader = RemoteReader("/x", 100)
    items = [
        *reader.take(Frame("log", ("1", "0"), b"x" * 100_000)),
        *reader.take(Frame("hole", ("1", "65536", "81920"))),
        *reader.take(Frame("now", ("1",))),
    ]
    assert items == [
        LogChunk(100, b"x" * (65536 - 100)),
        LogSkipped(65536, 81920 - 65536),
        LogChunk(81920, b"x" * (100_000 - 81920)),
    ]


def test_what_a_broken_stream_had_begun_counts_for_nothing() -> None:
    reader = RemoteReader("/x")
    assert reader.take(Frame("log", ("1", "0"), b"half")) == []
    reader.cut()
    assert reader.away("gone") == [Unreachable("gone")] and reader.away("still") == []
    again = [*reader.take(Frame("log", ("1", "0"), b"whole")), *reader.take(Frame("now", ("1",)))]
    assert again == [Reached(), LogChunk(0, b"whole")]


def test_a_new_stream_tells_nothing_twice() -> None:
    reader = RemoteReader("/x")
    told = [
        Frame("plan", ("1",), b'{"steps": ["train"]}'), Frame("pid", ("1", "5", "6", "boot")),
        Frame("step", ("1", "1", "1", "0")), Frame("log", ("1", "0"), b"ab"), Frame("now", ("1",)),
    ]  # fmt: skip
    first = [item for frame in told for item in reader.take(frame)]
    assert first == [Started("5 6 boot"), StepStarted("train", 0), LogChunk(0, b"ab")]
    assert [item for frame in told for item in reader.take(frame)] == []


@pytest.mark.parametrize(
    "frame",
    [
        Frame("log", ("1", "x"), b"a"), Frame("log", ("1",), b"a"), Frame("step", ("1", "a", "b", "c")),
        Frame("step", ("1",)), Frame("hole", ("1", "2")), Frame("plan", ("1",), b"{"), Frame("pid", ("1", "5")),
        Frame("exit", ("1",), b"reason\n"), Frame("unheard", ()), Frame("lost", ()),
    ],
    ids=str,
)  # fmt: skip
def test_junk_in_control_files_does_no_harm(frame: Frame) -> None:
    reader = RemoteReader("/x")
    assert [item for item in reader.take(frame) if not isinstance(item, Lost)] == []


def test_steps_in_no_order_end_no_loop() -> None:
    reader = RemoteReader("/x")
    for nth, start in enumerate((50, 10, -5, 10**30), 1):
        reader.take(Frame("step", ("1", str(nth), "1", str(start))))
    reader.take(Frame("log", ("1", "0"), b"z" * 100))
    assert sum(len(item.data) for item in reader.take(Frame("now", ("1",))) if isinstance(item, LogChunk)) == 100


def test_frames_are_found_however_the_stream_is_cut_up_and_whatever_is_printed_around_them() -> None:
    log = b"0123 end\n" + TOKEN.encode() + b" is known to nobody\n\0\xff"
    stream = b"Welcome\nno newline " + b"\n%s hello\nlate noise\n%s log 1 0\n%s\n%s end\n%s done 1 0\n" % (
        *(TOKEN.encode(),) * 2, log, *(TOKEN.encode(),) * 2,
    )  # fmt: skip
    expected = [Frame("hello", ()), Frame("log", ("1", "0"), log), Frame("done", ("1", "0"))]
    for size in (1, 2, 3, 7, 1000):
        frames = Frames(TOKEN)
        found = [f for at in range(0, len(stream), size) for f in frames.feed(stream[at : at + size])]
        assert found == expected, size
        assert b"Welcome" in frames.noise
