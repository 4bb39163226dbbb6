"""A private copy of a version for a program that edits files, and what it changed, read back.

The copy has no ``.git`` inside: a program cannot read the history there, nor commit to it.
"""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from pathlib import Path

from engine.errors import EditRejected, RatchetError
from engine.git import Git, storage
from engine.trees import Entry, Listing, text_of
from engine.types import FileChange

# What running a program leaves behind; no project needs a .gitignore to be spared these.
_LITTER = ("__pycache__/", "*.pyc", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/", ".ipynb_checkpoints/")


def unpack(archive: Path, directory: Path) -> None:
    """Fills ``directory`` (new or empty) from ``archive``, under a temporary name until it is whole."""
    with storage(f"the copy in {directory}"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".checkout-", dir=directory.parent) as folder:
            draft = Path(folder, "files")
            draft.mkdir()
            with tarfile.open(archive, encoding="utf-8", errors="surrogateescape") as tar:
                # Our own archive of git's own tree; symbolic links may point anywhere, as they do there.
                tar.extractall(draft)
            try:
                draft.rename(directory)
            except OSError as fault:
                raise RatchetError(f"{directory} is in the way of a fresh copy", "remove it") from fault


def read_back(git: Git, listing: Listing, directory: Path) -> tuple[FileChange, ...]:
    """What differs in ``directory`` from the version ``listing`` is of, by path.

    Ignored files (by the copy's own .gitignore, by the user's, and byte-code and tool caches) do not
    count. Raises EditRejected, naming each, for symbolic links, modes and whatever is no regular file.
    """
    changes: list[FileChange] = []
    refused: list[str] = []
    linked: set[str] = set()  # directories replaced by a link: what lies behind one is not the copy
    for path, entry in listing.entries.items():  # git's order: a directory before what is in it
        if path.rpartition("/")[0] in linked or (entry.kind == "tree" and (directory / path).is_symlink()):
            linked.add(path)
        if entry.kind == "blob":
            _compare(git, directory / path, path, entry, path in linked, changes, refused)
    for path in _others(git, directory):
        if path.endswith("/"):
            refused.append(f"{path}: a git repository was made there")
        elif path not in listing.entries or listing.entries[path].kind != "blob":
            place = directory / path
            status = place.lstat()
            if not stat.S_ISREG(status.st_mode):
                refused.append(f"{path}: it is a symbolic link; only regular files can be proposed")
            else:
                changes.append(FileChange(path, place.read_bytes(), bool(status.st_mode & 0o100)))
    if refused:
        raise EditRejected(
            "some of what was changed cannot be proposed:\n" + "\n".join(f"- {line}" for line in sorted(refused)),
            "edit, add and delete regular files only",
        )
    return tuple(sorted(changes, key=lambda change: change.path))


def _compare(
    git: Git,
    place: Path,
    path: str,
    entry: Entry,
    gone: bool,
    changes: list[FileChange],
    refused: list[str],
) -> None:
    if gone or not os.path.lexists(place):
        if entry.regular:
            changes.append(FileChange(path, None))
        else:
            refused.append(f"{path}: a symbolic link was removed")
        return
    status = place.lstat()
    if entry.symlink:
        if not stat.S_ISLNK(status.st_mode) or git.name_of_blob(os.fsencode(place.readlink())) != entry.oid:
            refused.append(f"{path}: a symbolic link was changed")
    elif not stat.S_ISREG(status.st_mode):
        refused.append(f"{path}: it was a file and no longer is a regular one")
    elif bool(status.st_mode & 0o100) != entry.executable:
        refused.append(f"{path}: its mode was changed")
    else:
        content = place.read_bytes()
        if git.name_of_blob(content) != entry.oid:
            changes.append(FileChange(path, content, entry.executable))


def _others(git: Git, directory: Path) -> list[str]:
    """Files that are not ignored, by a git that takes ``directory`` for its work tree and knows no file."""
    options = ["--others", "--exclude-standard", *(f"--exclude={glob}" for glob in _LITTER)]
    # The copy starts at the project folder: rules of .gitignore files above it must come along.
    for above in (git.top / git.prefix).relative_to(git.top).parents:
        if (rules := git.top / above / ".gitignore").is_file():
            options.append(f"--exclude-from={rules}")
    with git.scratch() as folder:
        listed = git.run("ls-files", "-z", *options, index=Path(folder, "index"), work_tree=directory)
    return [text_of(path) for path in listed.split(b"\0") if path]
