"""A snapshot is the project folder as it is on disk, whatever state git is in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.errors import EditRejected, RatchetError
from engine.types import FileChange
from tests.engine.git_project import (
    FILES,
    edited,
    git,
    opened,
    repository,
    tar_of,
    traces,
    tree_files,
    word,
    write,
)


async def test_a_snapshot_is_the_working_tree(tmp_path: Path) -> None:
    top = repository(tmp_path / "p", FILES | {"gone.py": b"g\n", "d/x": b"x\n", "f": b"f\n", "hide.py": b"h\n"})
    head = word(top, "rev-parse", "HEAD")
    space = await opened(top)
    assert await space.snapshot() == head, "clean: HEAD itself"
    (top / "gone.py").unlink()
    (top / "d/x").unlink()
    (top / "d").rmdir()
    (top / "d").symlink_to("src")  # a directory became a link
    (top / "f").unlink()
    write(top, {"f/inside": b"i\n", "new file.py": b"n\n", "ignored.log": b"l\n", ".ratchet/store.db": b"s\n"})
    write(top, {"train.py": b"lr = 0.5\n", "hide.py": b"seen\n"})
    git(top, "update-index", "--assume-unchanged", "hide.py")
    (top / "run.sh").write_bytes(b"#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    before = traces(top)
    sha = await space.snapshot(message="night starts")
    assert traces(top) == before
    expected = (set(FILES) - {"gone.py"}) | {"d", "f/inside", "new file.py", "run.sh", "hide.py"}
    assert tree_files(top, sha) == expected
    assert word(top, "rev-parse", f"{sha}^") == head
    assert git(top, "show", f"{sha}:train.py") == b"lr = 0.5\n"
    assert git(top, "show", f"{sha}:hide.py") == b"seen\n"
    assert git(top, "ls-tree", sha, "run.sh").startswith(b"100755")
    assert word(top, "log", "-1", "--format=%s", sha) == "night starts"
    assert await space.snapshot(committed=True) == head


@pytest.mark.parametrize("how", ["untracked", "excluded", "ignored", "tracked"])
async def test_the_state_is_in_no_snapshot(tmp_path: Path, how: str) -> None:
    top = repository(tmp_path / "p", FILES | ({".ratchet/old.db": b"o\n"} if how == "tracked" else {}))
    space = await opened(top)
    if how == "excluded":
        await space.exclude_state()
    if how == "ignored":
        write(top, {".gitignore": b".ratchet\n"})
    write(top, {".ratchet/store.db": b"s\n", "train.py": b"new\n"})
    sha = await space.snapshot()
    assert tree_files(top, sha) == set(FILES)
    assert git(top, "show", f"{sha}:train.py") == b"new\n"


async def test_a_conflict_half_resolved_is_taken_as_it_is(tmp_path: Path) -> None:
    top = repository(tmp_path / "p", {"ml/train.py": b"0\n", "other.py": b"0\n"})
    git(top, "checkout", "-q", "-b", "side")
    write(top, {"ml/train.py": b"1\n", "other.py": b"1\n"})
    git(top, "commit", "-q", "-am", "side")
    git(top, "checkout", "-q", "main")
    write(top, {"ml/train.py": b"2\n", "other.py": b"2\n"})
    git(top, "commit", "-q", "-am", "main")
    subprocess.run(
        ["git", "-c", "user.name=u", "-c", "user.email=e", "merge", "side"], cwd=top, capture_output=True
    )
    assert b"UU other.py" in git(top, "status", "--porcelain")
    before = traces(top)
    sha = await (await opened(top / "ml")).snapshot()
    assert b"<<<<<<<" in git(top, "show", f"{sha}:ml/train.py")
    assert git(top, "show", f"{sha}:other.py") == b"2\n", "outside the project folder: as HEAD has it"
    assert traces(top) == before


async def test_a_snapshot_before_the_first_commit(tmp_path: Path) -> None:
    top = tmp_path / "p"
    top.mkdir()
    git(top, "init", "-q")
    space = await opened(top)
    with pytest.raises(RatchetError, match="no file"):
        await space.snapshot()
    write(top, FILES)
    sha = await space.snapshot()
    assert tree_files(top, sha) == set(FILES)
    assert word(top, "rev-list", "--count", sha) == "1"
    with pytest.raises(RatchetError, match="no commit yet"):
        await space.snapshot(committed=True)
    assert not (top / ".git/index").exists()


async def test_submodules_and_nested_repositories_are_left_alone(tmp_path: Path) -> None:
    library = repository(tmp_path / "lib", {"l.py": b"1\n"})
    top = repository(tmp_path / "p")
    git(top, "submodule", "--quiet", "add", str(library), "src/lib")
    git(top, "commit", "-q", "-m", "submodule")
    link = word(top, "rev-parse", "HEAD:src/lib")
    git(top / "src/lib", "commit", "-q", "--allow-empty", "-m", "moved")
    write(top, {".gitignore": b"src/lib\n"})
    repository(top / "nested")
    (top / "empty").mkdir()
    git(top / "empty", "init", "-q")
    write(top, {"train.py": b"new\n"})
    space = await opened(top)
    sha = await space.snapshot()
    assert word(top, "rev-parse", f"{sha}:src/lib") == link
    assert not {p for p in tree_files(top, sha) if p.startswith(("nested", "empty"))}
    with pytest.raises(EditRejected, match="submodule src/lib"):
        await edited(space, sha, "x", "src/lib/l.py")
    candidate = await edited(space, sha, "a = 3\n", "src/a.py")
    assert word(top, "rev-parse", f"{candidate.sha}:src/lib") == link
    assert not {n for n in tar_of(await space.archive(candidate.sha)) if n.startswith("src/lib")}


async def test_a_project_in_a_subdirectory_sees_and_changes_only_itself(tmp_path: Path) -> None:
    top = repository(
        tmp_path / "mono",
        {"other/secret.py": b"1\n", ".gitignore": b"*.log\n"} | {f"a b/ml/{p}": c for p, c in FILES.items()},
    )
    head = word(top, "rev-parse", "HEAD")
    project = top / "a b/ml"
    space = await opened(project)
    await space.exclude_state()
    write(top, {"other/secret.py": b"uncommitted\n", "other/staged.py": b"s\n"})
    git(top, "add", "other/staged.py")
    assert await space.snapshot() == head, "nothing of the project changed"
    write(project, {"train.py": b"lr = 9\n", "note.txt": b"n\n"})
    before = traces(top)
    sha = await space.snapshot()
    assert word(top, "diff", "--name-only", head, sha).splitlines() == ["a b/ml/note.txt", "a b/ml/train.py"]
    candidate = await edited(space, sha)
    assert word(top, "diff", "--name-only", sha, candidate.sha) == "a b/ml/train.py"
    assert [f.path for f in candidate.files] == ["train.py"]
    assert candidate.tree == word(top, "rev-parse", f"{candidate.sha}:a b/ml")
    assert "--- a/train.py\n" in await space.diff(sha, candidate.sha)
    assert set(tar_of(await space.archive(candidate.sha))) == set(FILES) | {"note.txt"}
    assert set(await space.paths(candidate.sha)) == set(FILES) | {"note.txt"}
    await space.checkout(candidate.sha, tmp_path / "copy")
    write(tmp_path / "copy", {"src/new.py": b"n\n", "junk.log": b"j\n"})
    assert await space.changes_in(tmp_path / "copy", candidate.sha) == (FileChange("src/new.py", b"n\n"),)
    assert traces(top) == before
    assert git(top, "fsck", "--strict", "--no-dangling") == b""


async def test_a_linked_worktree_can_be_the_project(tmp_path: Path) -> None:
    main = repository(tmp_path / "main")
    linked = tmp_path / "linked"
    git(main, "worktree", "add", "-q", "-b", "side", str(linked))
    write(linked, {"train.py": b"in the worktree\n"})
    write(main, {"train.py": b"in main\n"})
    before = traces(main), traces(linked)
    space = await opened(linked)
    sha = await space.snapshot()
    candidate = await edited(space, sha)
    await space.advance("c", None, candidate.sha)
    assert git(main, "show", f"{sha}:train.py") == b"in the worktree\n"
    assert word(main, "rev-parse", "ratchet/c") == candidate.sha
    assert (traces(main), traces(linked)) == before
    await space.exclude_state()
    assert git(linked, "status", "--porcelain") == b" M train.py\n"
