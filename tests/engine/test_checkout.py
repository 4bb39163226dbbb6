"""Archives and copies are a version's files and nothing else; what a program edits is read back."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from engine.clock import VirtualClock
from engine.errors import EditRejected, RatchetError, StorageFull
from engine.scope import Scope
from engine.types import FileChange
from tests.engine.git_project import (
    AT,
    FILES,
    edited,
    git,
    opened,
    repository,
    tar_of,
    word,
    write,
)


async def test_an_archive_is_the_files_and_nothing_else(tmp_path: Path) -> None:
    attributes = b"*.py export-ignore filter=shout text eol=crlf ident\nsrc/ export-ignore\n*.txt export-subst\n"
    top = repository(tmp_path / "p", FILES | {".gitattributes": attributes, "v.txt": b"$Format:%H$ $Id$\n"})
    git(top, "config", "filter.shout.smudge", "tr a-z A-Z")
    (top / ".git/info").mkdir(exist_ok=True)
    (top / ".git/info/attributes").write_text("* export-ignore\n")
    (top / "link").symlink_to("src/a.py")
    (top / "run.sh").write_bytes(b"#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    space = await opened(top)
    sha = await space.snapshot()
    archive = await space.archive(sha)
    members = tar_of(archive)
    assert set(members) == set(FILES) | {".gitattributes", "v.txt", "link", "run.sh"}
    assert not [name for name in members if name == ".git" or name.startswith(".git/")]
    assert archive == top / ".ratchet/archives" / f"{word(top, 'rev-parse', sha + '^{tree}')}.tar"
    with tarfile.open(archive) as tar:
        for path, content in (("train.py", FILES["train.py"]), ("v.txt", b"$Format:%H$ $Id$\n")):
            stream = tar.extractfile(path)
            assert stream is not None and stream.read() == content
    assert stat.S_IMODE(members["run.sh"].mode) == 0o755 and members["link"].linkname == "src/a.py"
    assert {m.mtime for m in members.values()} == {int(VirtualClock().now())}
    # Twice is once; the same files under another commit share it.
    stamp = archive.stat().st_mtime_ns
    other = await space.keep_commit(sha, sha, message="same files", at=AT)
    assert await space.archive(other) == archive and archive.stat().st_mtime_ns == stamp
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    assert (tmp_path / "train.py").read_bytes() == FILES["train.py"]
    assert subprocess.run(["git", "-C", tmp_path, "for-each-ref"], capture_output=True).stdout == b"", (
        "refs visible"
    )


async def test_filtered_files_stay_what_is_stored(tmp_path: Path) -> None:
    """LFS and its like: the pointer is the version's content; nothing is fetched or expanded."""
    top = repository(tmp_path / "p", FILES | {".gitattributes": b"*.bin filter=big\n"})
    ran = tmp_path / "smudged"
    git(top, "config", "filter.big.clean", "sed s/.*/pointer/")
    git(top, "config", "filter.big.smudge", f"tee '{ran}'")
    write(top, {"src/w.bin": b"weights\n"})
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "weights")
    space = await opened(top)
    assert await space.snapshot() == word(top, "rev-parse", "HEAD")
    write(top, {"src/w.bin": b"other weights\n", "src/v.bin": b"more\n"})
    sha = await space.snapshot()
    candidate = await edited(space, sha)
    await space.checkout(candidate.sha, tmp_path / "copy")
    for name in ("w", "v"):
        assert (tmp_path / f"copy/src/{name}.bin").read_bytes() == b"pointer\n"
    assert await space.changes_in(tmp_path / "copy", candidate.sha) == ()
    assert not ran.exists()


async def test_a_full_disk_is_storage_full_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = repository(tmp_path / "p")
    space = await opened(top)
    sha = await space.snapshot()
    tree = word(top, "rev-parse", f"{sha}^{{tree}}")
    with pytest.raises(OSError) as raw, Path("/dev/full").open("wb", buffering=0) as full:
        space._trees.write_tar(tree, full, 0)
    assert raw.value.errno == errno.ENOSPC

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(StorageFull) as caught:
            await space.archive(sha)
    assert caught.value.mend
    assert [p.name for p in (top / ".ratchet").rglob("*") if p.is_file()] == []
    assert (await space.archive(sha)).exists(), "the next try, with space, works"
    # git's own writing: a stand-in that fails the way git does.
    shim = tmp_path / "bin/git"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\necho 'error: unable to write file: No space left on device' >&2\nexit 128\n")
    shim.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
        space._git._environment["PATH"] = os.environ["PATH"]
        with pytest.raises(StorageFull):
            await edited(space, sha, "never written\n")


async def test_a_program_s_edits_are_read_back(tmp_path: Path) -> None:
    top = repository(tmp_path / "p", FILES | {"old.py": b"o\n", "kept.log": b"tracked though ignored\n"})
    git(top, "add", "-f", "kept.log")
    (top / "link").symlink_to("train.py")
    space = await opened(top)
    base = await space.snapshot()
    copy = tmp_path / "copy"
    await space.checkout(base, copy)
    assert not (copy / ".git").exists()
    assert await space.changes_in(copy, base) == ()
    write(copy, {"train.py": b"lr = 7\n", "src/new.py": b"n\n", "x.log": b"", "out/o": b"", "kept.log": b"c\n"})
    write(copy, {"src/__pycache__/a.pyc": b"", ".pytest_cache/x": b"", "__pycache__/t.cpython-311.pyc": b""})
    (copy / "old.py").unlink()
    git(copy, "init", "-q")  # some tools insist on a repository
    changes = await space.changes_in(copy, base)
    assert changes == (
        FileChange("kept.log", b"c\n"), FileChange("old.py", None),
        FileChange("src/new.py", b"n\n"), FileChange("train.py", b"lr = 7\n"),
    )  # fmt: skip
    assert (await space.candidate(base, changes, Scope(("**",)), message="read back", at=AT)).lines == 7
    with pytest.raises(RatchetError, match="in the way"):
        await space.checkout(base, copy)
    assert not list(tmp_path.glob(".checkout-*"))


async def test_links_and_modes_of_a_program_are_refused(tmp_path: Path) -> None:
    top = repository(tmp_path / "p")
    (top / "link").symlink_to("train.py")
    space = await opened(top)
    base = await space.snapshot()
    copy = tmp_path / "copy"
    await space.checkout(base, copy)
    (copy / "train.py").chmod(0o755)
    (copy / "prepare.py").unlink()
    (copy / "prepare.py").symlink_to("/etc/passwd")
    (copy / "evil.py").symlink_to("/etc/passwd")
    (copy / "link").unlink()
    (copy / "link").symlink_to("/etc/passwd")
    (copy / "src/a.py").unlink()
    (copy / "src/a.py").mkdir()
    (copy / "src/deep").rename(tmp_path / "elsewhere")
    (copy / "src/deep").symlink_to(tmp_path / "elsewhere")
    repository(copy / "nested", {"x": b""})
    with pytest.raises(EditRejected) as caught:
        await space.changes_in(copy, base)
    said = caught.value.message
    for path in (
        "train.py: its mode",
        "prepare.py: it was a file",
        "evil.py: it is a symbolic",
        "link: a symbolic",
    ):
        assert path in said
    for path in ("src/a.py: ", "src/deep: it is a symbolic", "nested/: a git repository"):
        assert path in said


async def test_nothing_behind_a_new_link_is_read(tmp_path: Path) -> None:
    """Ignored, the link is no change; the files it hides are gone, whatever answers to their names."""
    top = repository(tmp_path / "p")
    write(top, {".gitignore": b"src/deep\n"})
    space = await opened(top)
    base = await space.snapshot()
    copy = tmp_path / "copy"
    await space.checkout(base, copy)
    (copy / "src/deep").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/b.py").write_bytes(b"a secret\n")
    (copy / "src/deep").symlink_to(tmp_path / "elsewhere")
    assert await space.changes_in(copy, base) == (FileChange("src/deep/b.py", None),)
