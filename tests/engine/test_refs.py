"""Head and branch move together, from where they were said to be, and never under a person's feet."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import RatchetError, UsageError
from engine.workspace import RefMoved
from tests.engine.git_project import (
    edited,
    git,
    line,
    opened,
    repository,
    word,
)


async def test_advance_is_compare_and_swap_and_safe_to_repeat(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    space = await opened(top)
    a, b, c = await line(space, 3)
    assert (await space.head("x"), await space.branch("x")) == (None, None)
    for _ in range(2):
        assert (await space.advance("x", None, a)).branch_moved
    for _ in range(2):
        assert (await space.advance("x", a, b)).branch_moved
    assert (await space.head("x"), await space.branch("x")) == (b, b)
    with pytest.raises(RefMoved, match=b) as caught:
        await space.advance("x", a, c)
    assert "refs/ratchet/x/head" in caught.value.message and caught.value.mend
    with pytest.raises(RefMoved):
        await space.advance("x", None, c)
    git(top, "update-ref", "refs/heads/ratchet/x", a)  # somebody reset the branch
    with pytest.raises(RefMoved, match="refs/heads/ratchet/x") as caught:
        await space.advance("x", b, c)
    assert a in caught.value.message
    git(top, "branch", "-D", "-q", "ratchet/x")
    with pytest.raises(RefMoved, match="found nothing") as caught:
        await space.advance("x", b, c)
    assert (await space.head("x"), await space.branch("x")) == (b, None), "nothing half done"
    git(top, *caught.value.mend.split()[1:])  # the mend mends
    assert (await space.advance("x", b, c)).branch_moved
    git(top, "branch", "ratchet/taken", a)
    with pytest.raises(RefMoved, match=a):
        await space.advance("taken", None, b)
    assert await space.head("taken") is None


@pytest.mark.parametrize("lost", ["head", "branch"])
async def test_a_transaction_cut_in_half_is_finished_by_calling_again(tmp_path: Path, lost: str) -> None:
    """git takes all locks first, but a power cut may fall between its renames."""
    top = repository(tmp_path / "p")
    space = await opened(top)
    a, b = await line(space, 2)
    await space.advance("x", None, a)
    await space.advance("x", a, b)
    git(top, "update-ref", "refs/ratchet/x/head" if lost == "head" else "refs/heads/ratchet/x", a)
    if lost == "branch":
        git(top, "update-ref", "refs/ratchet/x/branch", a)
    assert (await space.advance("x", a, b)).branch_moved
    assert (await space.head("x"), await space.branch("x")) == (b, b)


async def test_a_branch_that_is_checked_out_stays_and_catches_up_later(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    space = await opened(top)
    a, b, c, d = await line(space, 4)
    await space.advance("x", None, a)
    git(top, "worktree", "add", "-q", str(tmp_path / "look"), "ratchet/x")
    for old, new in ((a, b), (b, c)):
        advance = await space.advance("x", old, new)
        assert not advance.branch_moved and str(tmp_path / "look") in advance.note
        assert (await space.head("x"), await space.branch("x")) == (new, a)
    assert git(tmp_path / "look", "status", "--porcelain") == b""
    git(top, "worktree", "remove", str(tmp_path / "look"))
    advance = await space.advance("x", c, d)
    assert advance.branch_moved and advance.note == ""
    assert (await space.head("x"), await space.branch("x")) == (d, d)


async def test_a_branch_being_rebased_or_unborn_or_symbolic_is_not_moved(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    space = await opened(top)
    a, b, c = await line(space, 3)
    await space.advance("x", None, a)
    (top / ".git/rebase-merge").mkdir()
    (top / ".git/rebase-merge/head-name").write_text("refs/heads/ratchet/x\n")
    assert "rebased" in (await space.advance("x", a, b)).note
    (top / ".git/rebase-merge/head-name").unlink()
    (top / ".git/rebase-merge").rmdir()
    git(top, "symbolic-ref", "HEAD", "refs/heads/ratchet/unborn")
    assert not (await space.advance("unborn", None, a)).branch_moved
    git(top, "symbolic-ref", "HEAD", "refs/heads/main")
    main = word(top, "rev-parse", "main")
    assert main == a
    git(top, "symbolic-ref", "refs/heads/ratchet/x", "refs/heads/main")
    assert (await space.advance("x", b, c)).branch_moved
    assert word(top, "rev-parse", "main") == main, "a symbolic ref led to somebody's branch"
    assert word(top, "rev-parse", "ratchet/x") == c


async def test_a_name_in_the_way_and_bad_names_are_named(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    space = await opened(top)
    (a,) = await line(space, 1)
    git(top, "branch", "ratchet", a)
    with pytest.raises(RatchetError) as caught:
        await space.advance("x", None, a)
    assert "rename" in caught.value.mend
    assert await space.head("x") is None
    for name in ("", "a/b", "../x", "-x", "a..b", "x.lock", "a b", "x."):
        with pytest.raises(UsageError):
            await space.advance(name, None, a)
    with pytest.raises(UsageError):
        await space.hold("x", "head", a)
    with pytest.raises(RatchetError):
        await space.diff("--output=/tmp/x", a)


async def test_racing_advances_have_one_winner(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    spaces = [await opened(top) for _ in range(4)]
    base = await spaces[0].snapshot()
    await spaces[0].advance("x", None, base)
    rivals = [(await edited(spaces[0], base, f"lr = {n}\n")).sha for n in range(4)]
    results = await asyncio.gather(
        *(space.advance("x", base, sha) for space, sha in zip(spaces, rivals, strict=True)),
        return_exceptions=True,
    )
    winners = [sha for sha, result in zip(rivals, results, strict=True) if not isinstance(result, BaseException)]
    assert len(winners) == 1, results
    assert all(isinstance(r, RefMoved) for r in results if isinstance(r, BaseException)), results
    assert (await spaces[0].head("x"), await spaces[0].branch("x")) == (winners[0], winners[0])


async def test_killing_the_process_leaves_head_and_branch_together(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    space = await opened(top)
    a, b = await line(space, 2)
    await space.advance("x", None, a)
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom engine.clock import RealClock\n"
        "from engine.workspace import Workspace\n"
        "async def main(top, a, b):\n"
        "    space = await Workspace.open(Path(top), Path(top) / '.ratchet', RealClock())\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        await space.advance('x', a, b)\n        await space.advance('x', b, a)\n"
        "asyncio.run(main(*sys.argv[1:]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    seen = set()
    for round_ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(top), a, b], stdout=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(0.03 + 0.017 * round_)
            process.send_signal(signal.SIGKILL)
        for _ in range(100):  # a git already started finishes by itself: wait until it has
            if not list((top / ".git").rglob("*.lock")):
                break
            time.sleep(0.05)
        head, branch = await space.head("x"), await space.branch("x")
        seen.add((head, branch))
        assert head == branch, f"round {round_}"
        await space.advance("x", head, a)
    print(f"6 kills, states seen: {len(seen)}")


async def test_gc_spares_what_is_held_and_only_that(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    space = await opened(top)
    base = await space.snapshot()
    held, loose = await edited(space, base, "held\n"), await edited(space, base, "loose\n")
    for _ in range(2):
        await space.hold("x", "7", held.sha)
    git(top, "gc", "--prune=now", "--quiet")
    assert await space.files(held.sha, ["train.py"]) == {"train.py": b"held\n"}
    assert b"+held" in git(top, "diff", base, held.sha)
    with pytest.raises(RatchetError):
        await space.resolve(loose.sha)
    assert await space.resolve("HEAD") == base
    with pytest.raises(RatchetError, match="--upload-pack"):
        await space.resolve("--upload-pack=x")
    await space.advance("x", None, held.sha)  # refs may be packed by now
    git(top, "pack-refs", "--all")
    assert await space.head("x") == held.sha
