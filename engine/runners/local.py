"""This machine as a Host: a transport to it, a launcher on it, and its files at hand."""

from __future__ import annotations

import fnmatch
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from engine import sandbox
from engine.clock import Clock
from engine.errors import HostFault, StorageFull, UsageError
from engine.runners.allocations import NVIDIA_SMI, slots_for
from engine.runners.device_locks import watch_locks
from engine.runners.direct import MOST_BYTES_READ, MOST_FILES_READ, DirectHost, glob_parts, link_parts
from engine.runners.launcher import LOCK_DIRECTORY
from engine.runners.transport import LocalTransport, no_space, trusted_environment


class LocalHost(DirectHost):
    """Trials on this machine, under ``directory``.

    ``gpus_per_trial`` devices a trial (0: none, even where there are some); ``slots`` trials at once at
    most (default: as many as the devices allow, or one on the processor); ``cpus`` instead of the cores
    this process may use; ``lock_directory`` instead of the machine-wide one; ``trials_per_device`` on each.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        clock: Clock,
        gpus_per_trial: int = 1,
        slots: int | None = None,
        cpus: Sequence[int] | None = None,
        lock_directory: str = LOCK_DIRECTORY,
        trials_per_device: int = 1,
    ) -> None:
        super().__init__(name, LocalTransport(clock), clock, lock_directory)
        self.directory = directory
        self._gpus = gpus_per_trial
        self._slots = slots
        self._cpus = cpus
        self._shares = trials_per_device

    async def open(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise HostFault(
                f"{self.name}: cannot make {self.directory}: {fault.strerror}",
                "name a directory that you may write to",
            ) from fault
        if shutil.which(NVIDIA_SMI[0], path=trusted_environment()["PATH"]) is not None:
            self._devices = await self._find_devices(os.environ.get("CUDA_VISIBLE_DEVICES"))
        cpus = self._cpus if self._cpus is not None else sorted(os.sched_getaffinity(0))
        slots = slots_for(self.name, self._devices, self._gpus, self._slots, cpus, self._shares)
        locked = watch_locks(self._locks, str(self.directory))
        await self._ready(slots, await sandbox.probe(self._clock), locked)

    async def stage(self, directory: str, archive: str, links: Mapping[str, str]) -> None:
        final = Path(directory)
        if final.exists():
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        for leftover in final.parent.glob(f"{final.name}.staging-*"):
            if not Path("/proc", leftover.name.split("-")[-2]).exists():  # whoever began it is dead
                await self._delete(leftover)
        new = final.with_name(f"{final.name}.staging-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            for part in ("control", "work", "home", "tmp"):
                (new / part).mkdir(parents=True)
            # Not the owner in the archive: as root, tar would give the files away.
            unpacked = await self._transport.run(
                ["tar", "--no-same-owner", "-xf", str(Path(archive).absolute()), "-C", str(new / "work")],
                seconds=600.0,
            )
            if unpacked.code != 0:
                words = unpacked.stderr.decode("utf-8", "replace")
                if no_space(words):
                    raise StorageFull(f"no room to unpack into {directory}", "free some space on that disk")
                raise HostFault(f"cannot unpack {archive}: {unpacked.complaint}")
            for place, target in links.items():
                where, parts = link_parts(place, target)
                link_into(new / where, "/".join(parts), Path(target))
            try:
                new.rename(final)
            except OSError:
                if not final.exists():  # else somebody staged or cancelled it meanwhile
                    raise
        except OSError as fault:
            if no_space(str(fault)):
                raise StorageFull(f"no room for {directory}", "free some space on that disk") from fault
            raise HostFault(f"cannot stage {directory}: {fault}") from fault
        finally:
            if new.exists():
                await self._delete(new)

    async def read(self, directory: str, pattern: str, limit: int) -> dict[str, bytes]:
        """As the contract says; at most MOST_FILES_READ files and MOST_BYTES_READ, in the order of their names."""
        parts = glob_parts(pattern)
        found: dict[str, bytes] = {}
        left = MOST_BYTES_READ
        for path, data in read_matching(Path(directory) / "work", parts, limit):
            left -= len(data)
            if left < 0 or len(found) == MOST_FILES_READ:
                break
            found[path] = data
        return found

    async def remove(self, directory: str) -> None:
        path = Path(directory)
        if not path.exists():
            return
        # Renamed first: half of a directory must not be taken for a staged one.
        doomed = path.with_name(f"{path.name}.removing-{os.getpid()}")
        path.rename(doomed)
        await self._delete(doomed)

    async def _delete(self, path: Path) -> None:
        done = await self._transport.run(["rm", "-rf", "--", str(path)], seconds=600.0)
        if done.code != 0:  # a candidate may take the write permission from its own directories
            await self._transport.run(["chmod", "-R", "u+rwX", "--", str(path)], seconds=600.0)
            done = await self._transport.run(["rm", "-rf", "--", str(path)], seconds=600.0)
        if done.code != 0:
            raise HostFault(f"cannot delete {path}: {done.complaint}")


def link_into(work: Path, place: str, target: Path) -> None:
    """Link ``target`` at ``place`` in ``work``; where a directory is already, its missing entries only.

    (nanoGPT has data/NAME/prepare.py in git and data/NAME/train.bin beside it, ignored.) The candidate's
    own files win over linked ones; its symbolic links are replaced, and never followed.
    """
    parts = PurePosixPath(place).parts
    if not parts or ".." in parts or PurePosixPath(place).is_absolute() or not target.is_absolute():
        raise UsageError(f"cannot link {place!r} to {target}: a relative place and an absolute target")
    parent = work
    for part in parts[:-1]:
        parent /= part
        if parent.is_symlink():
            parent.unlink()
        parent.mkdir(exist_ok=True)
    link = parent / parts[-1]
    if link.is_symlink():
        link.unlink()
    _link(link, target)


def _link(link: Path, target: Path) -> None:
    if link.is_dir() and not link.is_symlink() and target.is_dir():
        for child in sorted(target.iterdir()):
            _link(link / child.name, child)
    elif not link.exists() and not link.is_symlink():
        link.symlink_to(target)


def read_matching(root: Path, parts: Sequence[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Regular files below ``root`` that match the glob ``parts`` (``**`` is any directories), by name.

    Directories are opened one inside the other and symbolic links refused at each step, for a candidate
    that still runs may exchange one for the other between a look and an open.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    seen: set[str] = set()
    try:
        for path, data in _read_below(descriptor, "", tuple(parts), limit):
            if path not in seen:  # "**/**" finds a file in more than one way
                seen.add(path)
                yield path, data
    finally:
        os.close(descriptor)


def _read_below(directory: int, prefix: str, parts: tuple[str, ...], limit: int) -> Iterator[tuple[str, bytes]]:
    first, rest = parts[0], parts[1:]
    if first == "**":
        yield from _read_below(directory, prefix, rest or ("*",), limit)
    with os.scandir(directory) as entries:
        listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_directory in listed:
        if first != "**" and not fnmatch.fnmatchcase(name, first):
            continue
        below = parts if first == "**" else rest
        if is_directory != bool(below):
            continue
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            opened = os.open(name, flags | (os.O_DIRECTORY if is_directory else 0), dir_fd=directory)
        except OSError:  # a link, a socket, not ours to read, or gone
            continue
        try:
            if is_directory:
                yield from _read_below(opened, f"{prefix}{name}/", below, limit)
            elif stat.S_ISREG(os.fstat(opened).st_mode):
                with os.fdopen(os.dup(opened), "rb") as file:
                    yield f"{prefix}{name}", file.read(limit)
        finally:
            os.close(opened)
