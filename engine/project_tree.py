"""A project's files as a trial would get them: what git does not ignore. Reads; writes only copies."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_NEVER = {".git", ".ratchet", "__pycache__", ".venv", "venv", "node_modules", ".mypy_cache", ".ruff_cache"}
_MOST = 20_000  # files; a tree without git that holds more is a data directory, not a project


def git(project: Path, *arguments: str) -> str | None:
    """Output of a read-only git command in ``project``; None when it fails or git is not installed."""
    try:
        done = subprocess.run(
            # A file-system monitor of the user's would be started by a mere listing.
            ["git", "-c", "core.fsmonitor=false", "-C", str(project), *arguments],
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # never refresh the user's index
        )
    except OSError:
        return None
    return done.stdout.decode(errors="surrogateescape") if done.returncode == 0 else None


def list_files(project: Path) -> list[str]:
    """Tracked and untracked files that are not ignored, POSIX paths relative to ``project``, sorted."""
    listing = git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listing is not None:
        paths = {path for path in listing.split("\0") if path}
        return sorted(path for path in paths if _is_file(project / path) and ".ratchet" not in path.split("/"))
    found: list[str] = []
    for folder, names, files in os.walk(project):
        names[:] = sorted(name for name in names if name not in _NEVER)
        found += [(Path(folder) / name).relative_to(project).as_posix() for name in files]
        if len(found) > _MOST:
            break
    return sorted(found)


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def ignored_paths(project: Path) -> list[str]:
    """What git ignores, whole directories as one entry with a closing slash."""
    listing = git(project, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    paths = (listing or "").split("\0")
    return sorted(path for path in paths if path and path.rstrip("/").split("/")[-1] not in _NEVER)


def copy_files(project: Path, paths: Iterable[str], target: Path) -> None:
    """Copy ``paths`` into the empty directory ``target``. Links are copied as links, never followed."""
    for path in paths:
        destination = target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / path, destination, follow_symlinks=False)
