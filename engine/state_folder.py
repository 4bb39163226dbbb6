"""Where a project's state lives: its store, its trials, its logs. Reads mounts; creates one directory.

SQLite's locks and shared memory are not reliable on network filesystems, and a lock there may be held by
another machine, so a project on NFS, Lustre or the like keeps its state on a local disk (TRUST.md row 28).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import RatchetError

NAME = ".ratchet"

# By the type in /proc/mounts. 9p and drvfs are Windows' disks seen from WSL: no better than a network's.
_SHARED = re.compile(
    r"nfs\d*|lustre|gpfs|beegfs\w*|cifs|smb\w*|afs|ceph|panfs|orangefs|pvfs2|wekafs|glusterfs|gfs2?|ocfs2|"
    r"davfs|9p|drvfs|vboxsf|vmhgfs|fuse\.(?!ext\w*$|ntfs\w*$|fuse-overlayfs$|lxcfs$).+"
)


@dataclass(frozen=True, slots=True)
class Filesystem:
    kind: str  # as /proc/mounts names it: ext4, nfs4, lustre ...
    mount: str

    @property
    def shared(self) -> bool:
        """Whether other machines may write to it, or it only pretends to lock."""
        return bool(_SHARED.fullmatch(self.kind))


@dataclass(frozen=True, slots=True)
class StateFolder:
    """``path`` is where state goes; ``moved_from`` the filesystem that made it leave the project, if any."""

    path: Path
    moved_from: Filesystem | None = None

    @property
    def why(self) -> str:
        if self.moved_from is None:
            return f"{self.path} (in the project)"
        return f"{self.path} (the project is on {self.moved_from.kind}, which cannot hold a database safely)"


def read_mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(errors="surrogateescape")
    except OSError:  # not Linux: nothing is known, so nothing is moved
        return ""


def filesystem_of(path: Path, mounts: str) -> Filesystem:
    """The filesystem that holds ``path``; kind "unknown" when ``mounts`` does not say."""
    best = Filesystem("unknown", "/")
    target = path.absolute()
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Octal escapes for blanks: "/mnt/my\040disk".
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        # A later line of the same mount point lies over the earlier ones (autofs, then nfs).
        if target.is_relative_to(mount) and len(Path(mount).parts) >= len(Path(best.mount).parts):
            best = Filesystem(fields[2], mount)
    return best


def locate_state(project: Path, mounts: str, environ: Mapping[str, str], uid: int) -> StateFolder:
    """Choose the directory; touches nothing. Raises RatchetError when there is no local disk at all."""
    project = project.resolve()
    home = filesystem_of((project / NAME).resolve(), mounts)  # .ratchet may be a link to a scratch disk
    if not home.shared:
        return StateFolder(project / NAME)
    digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:16]
    tried = [f"{project / NAME}: {home.kind}"]
    for base in _elsewhere(environ, uid):
        kind = filesystem_of(base, mounts)
        if not kind.shared:
            return StateFolder(base / f"{project.name}-{digest}", moved_from=home)
        tried.append(f"{base}: {kind.kind}")
    raise RatchetError(
        "no local disk for the project's state: " + "; ".join(tried),
        "set XDG_STATE_HOME to a directory on a disk of this machine",
    )


def _elsewhere(environ: Mapping[str, str], uid: int) -> Iterator[Path]:
    """Bases in order of preference; /var/tmp outlives a restart of the machine, /tmp need not."""
    if environ.get("XDG_STATE_HOME", "").startswith("/"):
        yield Path(environ["XDG_STATE_HOME"]) / "ratchet"
    if environ.get("HOME", "").startswith("/"):
        yield Path(environ["HOME"]) / ".local" / "state" / "ratchet"
    yield Path(f"/var/tmp/ratchet-{uid}")
    yield Path(f"/tmp/ratchet-{uid}")


def state_folder(project: Path) -> StateFolder:
    """``locate_state`` on this machine, with the reason."""
    return locate_state(project, read_mounts(), os.environ, os.getuid())


def state_directory(project: Path) -> Path:
    """Where the state of ``project`` is or would be. Touches nothing."""
    return state_folder(project).path


def create_state_directory(project: Path) -> Path:
    """The state directory, made if need be, readable by its owner alone. Raises RatchetError."""
    path = state_directory(project)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        # /var/tmp is everybody's: somebody else may have made the directory first, to read what we write.
        for made in (path, path.parent) if path.name != NAME else ():
            status = made.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                raise RatchetError(f"{made} is not a directory of yours", "remove it, or set XDG_STATE_HOME")
    except OSError as error:
        raise RatchetError(
            f"the state directory {path} cannot be made: {error.strerror}",
            f"make {path.parent} writable for you",
        ) from error
    return path
