"""The workspace grows versions beside the user's work and never touches it (TRUST.md rows 20, 30, 33)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from engine.clock import VirtualClock
from engine.errors import EditRejected, RatchetError
from engine.types import FileChange
from engine.workspace import Workspace
from tests.engine.git_project import (
    AT,
    FILES,
    ODD,
    SCOPE,
    edited,
    git,
    line,
    opened,
    repository,
    tar_of,
    traces,
    tree_files,
    word,
    write,
)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_a_whole_campaign_leaves_the_users_work_byte_identical(tmp_path: Path, algorithm: str) -> None:
    top = repository(tmp_path / "p", algorithm=algorithm)
    ran = tmp_path / "hook-ran"
    for hook in ("pre-commit", "post-commit", "reference-transaction", "post-index-change", "update"):
        place = top / ".git/hooks" / hook
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"#!/bin/sh\necho {hook} >> '{ran}'\n")
        place.chmod(0o755)
    git(top, "update-ref", "refs/heads/proof", "HEAD")
    assert "reference-transaction" in ran.read_text(), "the hooks must be ones that would run"
    ran.unlink()
    git(top, "config", "commit.gpgsign", "true")
    (tmp_path / "attributes").write_text("*.py -diff\n")
    git(top, "config", "core.attributesFile", str(tmp_path / "attributes"))
    git(top, "config", "core.fsmonitor", f"touch '{ran}'")
    git(top, "config", "diff.external", f"touch '{ran}'")
    write(top, {"train.py": b"lr = 0.3\n", "staged.py": b"s = 1\n", "loose.txt": b"l\n", "x.log": b"log\n"})
    git(top, "-c", "core.fsmonitor=false", "add", "staged.py")
    ran.unlink(missing_ok=True)
    space = await opened(top)
    await space.exclude_state()
    before = traces(top)

    base = await space.snapshot(message="campaign starts")
    await space.advance("night", None, base)
    candidate = await edited(space, base)
    await space.hold("night", "1", candidate.sha)
    kept = await space.keep_commit(base, candidate.sha, message="keep", at=AT)
    assert (await space.advance("night", base, kept)).branch_moved
    assert "-lr = 0.3\n+lr = 0.2\n" in await space.diff(base, kept)
    await space.archive(kept)
    await space.checkout(kept, tmp_path / "copy")
    assert await space.changes_in(tmp_path / "copy", kept) == ()
    assert await space.files(kept, ["train.py", "src/a.py"]) == {
        "src/a.py": b"a = 1\n",
        "train.py": b"lr = 0.2\n",
    }

    assert traces(top) == before
    assert not ran.exists(), ran.read_text()
    assert word(top, "log", "-1", "--format=%an <%ae> %cn <%ce> %at", kept) == (
        "Ratchet <ratchet@localhost> Ratchet <ratchet@localhost> 1760000000"
    )
    assert git(top, "-c", "core.fsmonitor=false", "fsck", "--strict", "--no-dangling") == b""
    refs = word(top, "for-each-ref", "--format=%(refname)").splitlines()
    assert {r for r in refs if "ratchet" in r} == {
        "refs/heads/ratchet/night", "refs/ratchet/night/head", "refs/ratchet/night/branch",
        "refs/ratchet/night/1",
    }  # fmt: skip


async def test_git_variables_of_the_environment_do_not_lead_astray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, decoy = repository(tmp_path / "p"), repository(tmp_path / "decoy")
    before = traces(decoy)
    monkeypatch.setenv("GIT_DIR", str(decoy / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(decoy))
    monkeypatch.setenv("GIT_INDEX_FILE", str(decoy / ".git/index"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    space = await opened(top)
    candidate = await edited(space, await space.snapshot())
    await space.advance("c", None, candidate.sha)
    assert traces(decoy) == before
    assert word(top, "log", "-1", "--format=%an", "ratchet/c") == "Ratchet"


async def test_the_state_is_excluded_once_and_properly(tmp_path: Path) -> None:
    top = repository(tmp_path / "p", {"odd [x] #!/ratchet.toml": b"", "odd [x] #!/train.py": b"x\n"})
    (top / ".git/info").mkdir(exist_ok=True)
    (top / ".git/info/exclude").write_bytes(b"mine")
    project = top / "odd [x] #!"
    space = await opened(project)
    write(project, {".ratchet/store.db": b""})
    assert b"?? " in git(top, "status", "--porcelain")
    await space.exclude_state()
    await space.exclude_state()
    assert git(top, "status", "--porcelain") == b""
    assert (top / ".git/info/exclude").read_bytes() == b"mine\n/odd\\ \\[x\\]\\ \\#\\!/.ratchet/\n"
    outside = await Workspace.open(project, tmp_path / "elsewhere", VirtualClock())
    await outside.exclude_state()
    assert (top / ".git/info/exclude").read_bytes().count(b"\n") == 2


async def test_fifteen_bad_edits_are_rejected(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    (top / "src/link.py").symlink_to("../prepare.py")
    (top / "src/linked").symlink_to("/etc")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "links")
    space = await opened(top)
    base = await space.snapshot()
    bad: dict[str, list[FileChange]] = {
        "outside": [FileChange("prepare.py", b"x")],
        "frozen": [FileChange("src/frozen.py", b"x")],
        "'..'": [FileChange("src/../../escape.py", b"x")],
        "absolute": [FileChange("/etc/passwd", b"x")],
        "is a symbolic link": [FileChange("src/link.py", b"x")],
        "behind the symbolic link": [FileChange("src/linked/passwd", b"x")],
        "mode": [FileChange("train.py", b"x", executable=True)],
        "belongs to git": [FileChange("src/.git/hooks/pre-commit", b"x")],
        "measured": [FileChange("ratchet.toml", b"x")],
        "Ratchet's own": [FileChange("src/.ratchet/store.db", b"x")],
        "is a directory": [FileChange("src/deep", b"x")],
        "is a file, not a directory": [FileChange("src/a.py/b.py", b"x")],
        "no such file to delete": [FileChange("src/none.py", None)],
        "changed twice": [FileChange("train.py", b"x"), FileChange("train.py", b"y")],
        "plain form": [FileChange("src//a.py", b"x")],
        "NUL": [FileChange("src/a\0.py", b"x")],
        "nothing": [FileChange("train.py", FILES["train.py"])],
    }
    objects = word(top, "count-objects")
    rejected = 0
    for reason, changes in bad.items():
        fine = [] if reason == "nothing" else [FileChange("src/a.py", b"fine\n")]
        with pytest.raises(EditRejected) as caught:
            await space.candidate(base, fine + changes, SCOPE, message="bad", at=AT)
        assert reason in caught.value.message, (reason, caught.value.message)
        rejected += 1
    print(f"{rejected}/{len(bad)} bad edits rejected")
    assert rejected == len(bad) >= 15
    assert word(top, "count-objects") == objects, "a rejected edit writes nothing"
    with pytest.raises(EditRejected, match="2 of 3"):
        changes = [FileChange("prepare.py", b""), FileChange("../x", b""), FileChange("train.py", b"")]
        await space.candidate(base, changes, SCOPE, message="bad", at=AT)
    for allowed in ("train.py", "src/a.py", "src/deep/new/c.py"):
        assert (await edited(space, base, "ok\n", allowed)).sha


async def test_equal_proposals_have_equal_names_and_modes_survive(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    (top / "train.py").chmod(0o755)
    git(top, "commit", "-q", "-am", "executable")
    space = await opened(top)
    base = await space.snapshot()
    changes = [
        FileChange("train.py", b"1\n2\n"), FileChange("src/deep/b.py", None),
        FileChange("src/x/y/z.py", b"z\n"), FileChange("src/raw.py", b"\0\xff\n"),
    ]  # fmt: skip
    first = await space.candidate(base, changes, SCOPE, message="m\0é", at=AT)
    again = await (await opened(top)).candidate(base, changes[::-1], SCOPE, message="m\0é", at=AT + 0.4)
    later = await space.candidate(base, changes, SCOPE, message="m\0é", at=AT + 1)
    assert first == again and later.sha != first.sha and later.tree == first.tree
    assert tree_files(top, first.sha) == (set(FILES) - {"src/deep/b.py"}) | {"src/x/y/z.py", "src/raw.py"}
    assert git(top, "ls-tree", first.sha, "train.py").startswith(b"100755")
    assert {(f.path, f.added, f.deleted) for f in first.files} == {
        ("train.py", 2, 2), ("src/deep/b.py", 0, 1), ("src/x/y/z.py", 1, 0), ("src/raw.py", None, None),
    }  # fmt: skip
    assert first.lines == 6
    kept = [await space.keep_commit(base, first.sha, message="keep", at=AT) for _ in range(2)]
    assert kept[0] == kept[1] and word(top, "rev-parse", f"{kept[0]}^") == base
    assert word(top, "rev-parse", f"{kept[0]}^{{tree}}") == word(top, "rev-parse", f"{first.sha}^{{tree}}")
    assert git(top, "fsck", "--strict", "--no-dangling") == b""


async def test_odd_names_survive_every_path(tmp_path: Path) -> None:
    raw = os.fsdecode(b"latin-\xe9.py")
    top = repository(tmp_path / "p", FILES | {f"names/{name}": b"1\n" for name in ODD})
    space = await opened(top)
    write(top, {f"names/{name}": b"2\n" for name in ODD})
    (top / "names" / raw).write_bytes(b"r\n")
    base = await space.snapshot()
    names = {f"names/{name}" for name in [*ODD, raw]}
    assert names <= set(await space.paths(base))
    assert (await space.files(base, ["names/"])).keys() == names
    changes = [FileChange(path, b"3\n") for path in sorted(names)]
    candidate = await space.candidate(base, changes, SCOPE, message="odd", at=AT)
    assert {f.path for f in candidate.files} == names
    assert names <= set(tar_of(await space.archive(candidate.sha)))
    copy = tmp_path / "copy"
    await space.checkout(candidate.sha, copy)
    for path in names:
        assert (copy / path).read_bytes() == b"3\n"
        (copy / path).write_bytes(b"4\n")
    assert set(await space.changes_in(copy, candidate.sha)) == {FileChange(path, b"4\n") for path in names}
    assert "names/é-ünï.py" in await space.diff(base, candidate.sha)


async def test_opening_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RatchetError, match="no folder"):
        await opened(tmp_path / "nowhere")
    (tmp_path / "plain").mkdir()
    with pytest.raises(RatchetError, match="not in a git repository") as caught:
        await opened(tmp_path / "plain")
    assert "git -C" in caught.value.mend and "init" in caught.value.mend
    assert not (tmp_path / "plain/.ratchet").exists(), "nothing half done"
    git(tmp_path, "init", "-q", "--bare", "bare")
    with pytest.raises(RatchetError, match="without a work tree"):
        await opened(tmp_path / "bare")
    repository(tmp_path / "p")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RatchetError, match="git` was not found") as caught:
        await opened(tmp_path / "p")
    assert "install" in caught.value.mend


async def test_cancelled_work_still_finishes_in_turn(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    space = await opened(top)
    a, b = await line(space, 2)
    await space.advance("x", None, a)
    task = asyncio.create_task(space.advance("x", a, b))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await space.advance("x", a, b)).branch_moved  # after the first, whatever became of it
    assert (await space.head("x"), await space.branch("x")) == (b, b)


async def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    write(top, {".ratchet/git/work-999999999-x/index": b"", f".ratchet/git/work-{os.getpid()}-y/index": b""})
    await opened(top)
    assert sorted(p.name for p in (top / ".ratchet/git").glob("work-*")) == [f"work-{os.getpid()}-y"]
