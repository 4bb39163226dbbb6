"""A real repository to test on, the user's own git, and a way to see whether anything of theirs changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

from engine.clock import VirtualClock
from engine.scope import Scope
from engine.types import FileChange
from engine.workspace import Candidate, Workspace

AT = 1_760_000_000.0
SCOPE = Scope(("train.py", "src/", "names/"), ("src/frozen.py",))
FILES = {
    "train.py": b"lr = 0.1\nprint(lr)\n",
    "prepare.py": b"data = 1\n",
    "ratchet.toml": b'[project]\nedit = ["train.py"]\n',
    "src/a.py": b"a = 1\n",
    "src/frozen.py": b"f = 1\n",
    "src/deep/b.py": b"b = 1\n",
    ".gitignore": b"*.log\nout/\n",
}
ODD = [
    "sp ace.py",
    "quo\"te's.py",
    "new\nline.py",
    "tab\t.py",
    "é-ünï.py",
    "-dash.py",
    "back\\slash.py",
    "[glob]*.py",
]


def git(where: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """git as the user runs it, with an identity of the user's own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    identity = (
        "-c",
        "user.name=User",
        "-c",
        "user.email=user@example.org",
        "-c",
        "protocol.file.allow=always",
    )
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=where,
        capture_output=True,
        input=stdin,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def word(where: Path, *arguments: str) -> str:
    return git(where, *arguments).decode().strip()


def write(root: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def repository(where: Path, files: dict[str, bytes] = FILES, *, algorithm: str = "sha1") -> Path:
    where.mkdir(parents=True, exist_ok=True)
    git(where, "init", "-q", "-b", "main", f"--object-format={algorithm}")
    write(where, files)
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "start")
    return where


def traces(top: Path) -> dict[str, str]:
    """All that is the user's: every file but Ratchet's state and the objects, refs outside our namespaces."""
    seen: dict[str, str] = {}
    for folder, directories, names in os.walk(top):
        directories[:] = [d for d in directories if d != ".ratchet"]
        if folder.endswith("/.git"):
            directories[:] = [d for d in directories if d != "objects"]
        for name in [*names, *(d for d in directories if Path(folder, d).is_symlink())]:
            path = Path(folder, name)
            where = path.relative_to(top).as_posix()
            if "/refs/ratchet/" in where or "/heads/ratchet/" in where:
                continue
            status = path.lstat()
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            seen[where] = f"{status.st_mode:o} {status.st_mtime_ns} {hashlib.sha256(content).hexdigest()}"
    assert ".git/HEAD" in seen or (top / ".git").is_file()
    return seen


async def opened(project: Path) -> Workspace:
    return await Workspace.open(project, project / ".ratchet", VirtualClock())


async def edited(space: Workspace, base: str, text: str = "lr = 0.2\n", path: str = "train.py") -> Candidate:
    return await space.candidate(base, [FileChange(path, text.encode())], SCOPE, message="try", at=AT)


def tar_of(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as tar:
        return {member.name: member for member in tar.getmembers()}


def tree_files(where: Path, sha: str) -> set[str]:
    return set(git(where, "ls-tree", "-r", "-z", "--name-only", sha).decode().split("\0")) - {""}


async def line(space: Workspace, count: int) -> list[str]:
    """A line of ``count`` versions."""
    shas = [await space.snapshot()]
    for number in range(1, count):
        shas.append((await edited(space, shas[-1], f"lr = {number}\n")).sha)
    return shas
