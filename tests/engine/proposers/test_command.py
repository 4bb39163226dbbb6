"""The command proposer runs real programs: what they say, how they fail, and that none is left behind."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.clock import RealClock
from engine.errors import EditRejected
from engine.proposers.command import CommandProposer
from engine.types import (
    Author,
    Brief,
    Effect,
    FileChange,
    Goal,
    NoProposal,
    Note,
    PastExperiment,
    Proposal,
    StreamText,
    Verdict,
)

BASE = b"LR = 1\n"


async def read_changes(directory: str, base: str) -> tuple[FileChange, ...]:
    """Stands for the workspace's: compares the one file with what was laid out."""
    assert base == "abc"
    content = Path(directory, "train.py").read_bytes()
    return (FileChange("train.py", content),) if content != BASE else ()


@pytest.fixture
def brief(tmp_path: Path) -> Brief:
    checkout = tmp_path / "check out"
    checkout.mkdir()
    (checkout / "train.py").write_bytes(BASE)
    past = PastExperiment(
        1, "first", Author.SEARCH, Verdict.KEEP, 3.0, Effect(0.1, 0.0, 0.2, 3, 5), {"values": {}}, True
    )
    return Brief(
        "night", 7, 3, "abc", Goal.MINIMIZE, "val_bpb", {"train.py": BASE}, ("train.py",), (past,), 3.1, 0.02,
        str(checkout), (Note("try depth", "ada", 1),),
    )  # fmt: skip


async def propose(brief: Brief, command: str, **options: Any) -> tuple[str, Proposal | NoProposal]:
    options = {"timeout_seconds": 30.0, "grace_seconds": 0.5, **options}
    proposer = CommandProposer(command, options.pop("read", read_changes), RealClock(), **options)
    events = [event async for event in proposer.propose(brief)]
    text = "".join(event.text for event in events if isinstance(event, StreamText))
    last = events[-1]
    assert isinstance(last, Proposal | NoProposal)
    return text, last


def alive(pid: int) -> bool:
    """Running, and not merely a zombie that waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> None:
    for _ in range(500):
        if not alive(pid):
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"process {pid} is still running")


async def test_an_edit_with_title_and_hypothesis_becomes_a_proposal(brief: Brief) -> None:
    script = (
        "echo thinking; echo 'LR = 2' > train.py; echo 'HYPOTHESIS: too slow'; echo 'TITLE: raise LR';"
        " echo 'HYPOTHESIS: so raise it'; echo bye"
    )
    text, made = await propose(brief, script)
    assert isinstance(made, Proposal)
    assert (made.title, made.hypothesis) == ("raise LR", "too slow so raise it")
    assert made.changes == (FileChange("train.py", b"LR = 2\n"),)
    assert made.author is Author.COMMAND and made.author_detail == script
    assert text.startswith("thinking\n") and text.endswith("bye\n")


async def test_without_a_title_line_the_last_line_is_it_cut_and_cleaned(brief: Brief) -> None:
    _, made = await propose(brief, "echo > train.py; printf '\\033[1mbold\\033[0m %0120d\\n\\n' 7")
    assert isinstance(made, Proposal)
    assert made.title.startswith("bold 000") and len(made.title) == 100 and made.title.endswith("...")
    assert made.hypothesis == "The command stated no hypothesis."
    _, silent = await propose(brief, "echo x > train.py")
    assert isinstance(silent, Proposal) and silent.title


async def test_the_brief_is_a_file_outside_the_checkout(brief: Brief) -> None:
    text, _ = await propose(brief, 'cat "$RATCHET_BRIEF"; echo > train.py')
    told = json.loads(text)
    assert told["goal"] == "minimize" and told["metric"] == "val_bpb" and told["incumbent"] == 3.1
    assert told["editable"] == ["train.py"] and told["notes"] == ["try depth"]
    assert told["history"][0]["verdict"] == "keep" and told["history"][0]["effect"]["estimate"] == 0.1
    where, _ = await propose(
        brief, 'echo "$RATCHET_BRIEF|$PWD|$RATCHET_BASE|$RATCHET_EXPERIMENT"; echo > train.py'
    )
    path, directory, base, number = where.strip().split("|")
    assert not Path(path).is_relative_to(brief.checkout) and directory == brief.checkout
    assert (base, number) == ("abc", "7")
    assert not Path(path).exists()  # nothing is left behind


async def test_only_allowed_variables_are_passed(brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-1")
    monkeypatch.setenv("WANTED", "canary-2")
    text, _ = await propose(brief, "env; tr '\\0' '\\n' < /proc/$$/environ; echo > train.py")
    assert "canary" not in text and "PATH=" in text
    text, _ = await propose(brief, "env; echo > train.py", environment=("WANTED",))
    assert "canary-2" in text and "canary-1" not in text


async def test_a_failure_carries_exit_status_and_the_end_of_stderr(brief: Brief) -> None:
    _, made = await propose(brief, "echo x > train.py; echo early >&2; echo 'no such model' >&2; exit 3")
    assert isinstance(made, NoProposal) and made.outcome == "failed"
    assert "exit status 3" in made.message and made.message.endswith("no such model")
    _, made = await propose(brief, "kill -9 $$")
    assert isinstance(made, NoProposal) and "signal 9" in made.message
    _, made = await propose(brief, "no-such-program-anywhere")
    assert isinstance(made, NoProposal) and "not found" in made.message


async def test_no_change_and_a_refused_change_are_said(brief: Brief) -> None:
    _, made = await propose(brief, "echo TITLE: nothing")
    assert isinstance(made, NoProposal) and made.outcome == "no change"

    async def refuse(directory: str, base: str) -> tuple[FileChange, ...]:
        raise EditRejected("evaluate.py is frozen", "edit train.py")

    _, made = await propose(brief, "echo", read=refuse)
    assert isinstance(made, NoProposal) and made.outcome == "rejected" and "frozen" in made.message


async def test_a_time_out_ends_the_whole_group_also_what_ignores_term(brief: Brief, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    note = f"echo $! > {pids}; echo $$ >> {pids}; echo started"
    script = f"trap '' TERM; sleep 60 & {note}; while :; do sleep 1; done"
    text, made = await propose(brief, script, timeout_seconds=1.0, grace_seconds=0.2)
    assert isinstance(made, NoProposal) and made.outcome == "timed out"
    assert text == "started\n"
    for pid in pids.read_text().split():
        await gone(int(pid))


async def test_a_child_that_holds_the_output_open_delays_nothing_and_is_ended(
    brief: Brief, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    _, made = await propose(brief, f"echo x > train.py; sleep 60 & echo $! > {pid}; echo TITLE: done")
    assert isinstance(made, Proposal) and made.title == "done"
    await gone(int(pid.read_text()))


async def test_an_escaped_child_that_holds_the_output_open_is_not_waited_for(brief: Brief, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    escape = f"setsid sh -c 'echo $$ > {pid}; exec sleep 60' &"
    _, made = await propose(
        brief, f"echo x > train.py; {escape} while [ ! -s {pid} ]; do sleep 0.01; done; echo TITLE: done"
    )
    assert isinstance(made, Proposal) and made.title == "done"
    # Outside its group, so ours to end here; a container is what holds such a child.
    os.kill(int(pid.read_text()), 9)


async def test_a_program_that_closes_its_output_is_still_waited_for(brief: Brief) -> None:
    _, made = await propose(brief, "echo TITLE: late; exec >&- 2>&-; sleep 0.3; echo x > train.py")
    assert isinstance(made, Proposal) and made.title == "late"


async def test_cancelling_ends_the_program(brief: Brief, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    task = asyncio.create_task(propose(brief, f"sleep 60 & echo $! > {pid}; wait"))
    for _ in range(500):
        if pid.exists() and pid.read_text().strip():
            break
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(int(pid.read_text()))


async def test_endless_output_is_cut_and_long_lines_too(brief: Brief) -> None:
    text, made = await propose(
        brief,
        "head -c 2000000 /dev/zero | tr '\\0' x; echo; yes | head -c 2000000; echo > train.py; echo end",
    )
    assert isinstance(made, Proposal) and made.title == "end"
    assert len(text) <= 1 << 20 and max(map(len, text.splitlines())) <= 4000


async def test_a_missing_checkout_is_said(brief: Brief) -> None:
    bare = Brief("c", 1, 0, "abc", Goal.MINIMIZE, "m", {}, (), ())
    _, made = await propose(bare, "true")
    assert isinstance(made, NoProposal) and made.outcome == "failed" and "checkout" in made.message
