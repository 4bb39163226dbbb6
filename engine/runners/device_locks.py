"""Names of the locks by which trials of all users and projects keep off each other's devices; job.sh takes them.

A lock is a directory ``LOCKS.UID/DEVICE@PROJECT@1of2``, held by flock: of one user, who alone can delete it, for
one device, one project and one share of it. A job holds its own and then looks whether anybody holds another one
of the same device; only shares of the same project, cut in the same way, get along. So neither a deletion nor a
link of anybody else can free a device that is held.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from engine.types import Allocation


def lock_names(allocation: Allocation, root: str) -> list[str]:
    """One for each device. ``root``: of the project's trials on that machine, which no other project has."""
    project = hashlib.sha256(root.encode(errors="surrogateescape")).hexdigest()[:12]
    share = f"{allocation.share or 1}of{allocation.shares}"
    return [f"{_plain(device)}@{project}@{share}" for device in sorted(allocation.devices)]


def _plain(device: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", device)


def watch_locks(lock_directory: str, root: str) -> Callable[[Allocation], bool]:
    """Whether somebody's job on this machine holds a device of a slot in a way that keeps us from it.

    Read from /proc/locks, since trying a lock would for a moment hold it and turn another job away.
    """

    def locked(slot: Allocation) -> bool:
        return bool(slot.devices) and any(_hinders(lock_directory, name) for name in lock_names(slot, root))

    return locked


def _hinders(lock_directory: str, name: str) -> bool:
    place = Path(lock_directory)
    own = f"{place.name}.{os.getuid()}"
    device, project, share = name.split("@")
    ours = re.compile(rf"{device}@{project}@\d+of{share.partition('of')[2]}")
    paths = [
        path
        for path in place.parent.glob(f"{glob.escape(place.name)}.*/{device}@*")
        if path.parent.name != own or path.name == name or not ours.fullmatch(path.name)
    ]
    return bool(paths) and not _held().isdisjoint(map(_identity, paths))


def _held() -> set[str]:
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    return {fields[5] for line in lines if len(fields := line.split()) == 8 and fields[1] == "FLOCK"}


def _identity(path: Path) -> str:
    """A file as /proc/locks names it."""
    try:
        stat = path.lstat()
    except OSError:
        return ""
    return f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
