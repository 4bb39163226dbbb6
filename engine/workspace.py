"""The project's git repository, for reading and for growing a line of versions beside the user's work.

The user's checkout, index, HEAD, branches, hooks and configuration are never touched: versions are
commits written object by object (``trees``), kept by refs of our own (``refs``), and looked at through an
archive of their files. The one thing read from the work tree is the snapshot a campaign starts from.

"The project folder" is the folder of ratchet.toml, perhaps a subdirectory of the repository: all paths,
globs, diffs and archives are relative to it, and nothing outside it is ever changed or snapshotted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from engine.checkout import read_back, unpack
from engine.clock import Clock
from engine.errors import EditRejected, RatchetError
from engine.fencing import clean
from engine.git import Git, full_name, storage
from engine.refs import Advance, RefMoved, Refs
from engine.scope import Scope, matches
from engine.snapshot import exclude_state, take
from engine.trees import Entry, Listing, Trees, text_of
from engine.types import FileChange

__all__ = ["Advance", "Candidate", "FileStat", "RefMoved", "Workspace"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FileStat:
    """Lines ``added`` and ``deleted`` in one file; None for a binary one."""

    path: str
    added: int | None
    deleted: int | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit with a proposal's edits. ``tree`` names what a trial gets to see: equal trees, equal files."""

    sha: str
    tree: str
    files: tuple[FileStat, ...]

    @property
    def lines(self) -> int:
        """Lines added and deleted, together."""
        return sum((f.added or 0) + (f.deleted or 0) for f in self.files)


class Workspace:
    """``project``: the folder with ratchet.toml; ``state``: Ratchet's own folder (``.ratchet``).

    Making one asks git a few questions and so blocks for some milliseconds; ``open`` does not. Raises
    RatchetError with the mend when there is no git or no repository. Methods that take a version want
    its full name (``resolve`` gives it). Reading runs in any thread; whatever writes refs or looks at
    the work tree runs in one thread, one after the other, and finishes even when its caller is cancelled.
    """

    def __init__(self, project: Path, state: Path, clock: Clock) -> None:
        self.project, self.state, self._clock = project.resolve(), state.resolve(), clock
        self._git = Git.discover(self.project, self.state / "git")
        self._trees = Trees(self._git)
        self._refs = Refs(self._git)
        self._archives = self.state / "archives"
        self._in_turn = ThreadPoolExecutor(1, "ratchet-git")

    @classmethod
    async def open(cls, project: Path, state: Path, clock: Clock) -> Workspace:
        return await asyncio.to_thread(cls, project, state, clock)

    async def _ordered(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._in_turn, lambda: work(*args, **kwargs))

    # --- versions --------------------------------------------------------------------------------

    async def resolve(self, ref: str) -> str:
        """Full name of the commit that ``ref`` (a branch, a tag, a short name) stands for."""

        def ask() -> str:
            found = self._git.run(
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                f"{ref}^{{commit}}",
                accept=(0, 1, 128),
            )
            # The top of the user's checkout is not HEAD of another work tree: git_dir sees to that.
            name = found.decode().split()[-1:]
            if not name:
                raise RatchetError(f"there is no commit {ref!r}", "see `git branch -a` and `git log`")
            return full_name(name[0])

        return await asyncio.to_thread(ask)

    async def snapshot(self, *, committed: bool = False, message: str = "ratchet: snapshot") -> str:
        """A commit of the project folder as it is on disk, on top of HEAD; HEAD itself when nothing differs.

        Tracked files, untracked ones that are not ignored, deletions. Files outside the project folder,
        submodules and nested repositories stay as HEAD has them. ``committed``: HEAD as it is.
        """
        return await self._ordered(take, self._git, self._trees, self.state, committed, message, self._clock.now())

    async def candidate(
        self, base: str, changes: Sequence[FileChange], scope: Scope, *, message: str, at: float
    ) -> Candidate:
        """The commit of ``changes`` on ``base``, dated ``at``: equal arguments, equal name.

        Raises EditRejected, naming every change that cannot be used and why, or when nothing changes.
        """
        return await asyncio.to_thread(self._candidate, full_name(base), tuple(changes), scope, message, at)

    def _candidate(
        self, base: str, changes: tuple[FileChange, ...], scope: Scope, message: str, at: float
    ) -> Candidate:
        listing = self._trees.listing(self._trees.project(base))
        _reject({c.path: r for c in changes if (r := _obstacle(c, changes, scope, listing))}, len(changes))
        written = [c for c in changes if c.content is not None]
        blobs = self._trees.write_blobs(c.content for c in written if c.content is not None)
        changed: dict[str, Entry | None] = {c.path: None for c in changes if c.content is None}
        for change, oid in zip(written, blobs, strict=True):
            before = listing.entries.get(change.path)
            mode = before.mode if before else "100755" if change.executable else "100644"
            changed[change.path] = Entry(mode, "blob", oid)
        if all(listing.entries.get(path) == entry for path, entry in changed.items()):
            raise EditRejected("the edits change nothing", "the files already read so: propose something else")
        root, tree = self._trees.write_root(base, listing, changed)
        return Candidate(self._commit(root, base, message, at), tree, self._stat(listing.tree, tree))

    async def keep_commit(self, parent: str, tree_of: str, *, message: str, at: float) -> str:
        """A commit on ``parent`` with the files of ``tree_of`` (a commit or a ``Merge.tree``)."""

        def write() -> str:
            return self._commit(self._trees.root(full_name(tree_of)), full_name(parent), message, at)

        return await asyncio.to_thread(write)

    def _commit(self, tree: str, parent: str, message: str, at: float) -> str:
        # `git log` may print it as it is: whoever wrote the title must not speak to somebody's terminal.
        text = clean(message).encode("utf-8", "replace")
        return self._git.text("commit-tree", tree, "-p", parent, "-F", "-", stdin=text, at=at)

    def _stat(self, before: str, after: str) -> tuple[FileStat, ...]:
        listed = self._git.run("diff-tree", "-r", "-z", "--numstat", "--no-renames", before, after)
        stats = []
        for record in filter(None, listed.split(b"\0")):
            added, deleted, path = record.split(b"\t", 2)
            binary = added == b"-"
            stats.append(FileStat(text_of(path), None if binary else int(added), None if binary else int(deleted)))
        return tuple(stats)

    # --- refs ------------------------------------------------------------------------------------

    async def hold(self, campaign: str, key: str, sha: str) -> None:
        """Keeps ``sha`` from ``git gc`` by ``refs/ratchet/<campaign>/<key>``; repeat it freely."""
        await self._ordered(self._refs.hold, campaign, key, sha)

    async def advance(self, campaign: str, old: str | None, new: str) -> Advance:
        """Compare-and-swap of the campaign's head, and of its branch unless that is checked out.

        ``old`` None creates them. Already at ``new`` is fine. Raises RefMoved, naming what it found.
        """
        return await self._ordered(self._refs.advance, campaign, old, new)

    async def head(self, campaign: str) -> str | None:
        return (await asyncio.to_thread(self._refs.find, campaign)).head

    async def branch(self, campaign: str) -> str | None:
        return (await asyncio.to_thread(self._refs.find, campaign)).branch

    # --- files -----------------------------------------------------------------------------------

    async def archive(self, sha: str) -> Path:
        """A tar of the project folder's files in ``sha``; made once per content, at ``archives/<tree>.tar``.

        Raises StorageFull. Every file's time is that of the archive's making: builds and byte-code caches
        that carry over from the baseline (make, ninja, ``__pycache__``) compare times, and an edited file
        must never look as old as the one it replaces.
        """
        return await asyncio.to_thread(self._archive, full_name(sha))

    def _archive(self, sha: str) -> Path:
        tree = self._trees.project(sha)
        place = self._archives / f"{tree}.tar"
        if not place.exists():
            with storage(f"the archive of {sha[:12]}"), self._git.scratch() as folder:
                self._archives.mkdir(parents=True, exist_ok=True)
                draft = Path(folder, "tar")
                with draft.open("wb") as stream:
                    self._trees.write_tar(tree, stream, int(self._clock.now()))
                    stream.flush()
                    # A cut power line must not leave an empty file under a name that promises content.
                    os.fsync(stream.fileno())
                draft.replace(place)
        return place

    async def diff(self, base: str, candidate: str, context: int = 3) -> str:
        """Unified diff of the project folder, undecodable bytes replaced."""

        def ask() -> str:
            trees = [self._trees.project(full_name(sha)) for sha in (base, candidate)]
            options = ("-p", "-r", "--no-color", "--no-ext-diff", "--no-textconv", "--find-renames")
            return self._git.run("diff-tree", *options, f"-U{context}", *trees).decode("utf-8", "replace")

        return await asyncio.to_thread(ask)

    async def files(self, sha: str, globs: Sequence[str]) -> dict[str, bytes]:
        """Contents of the regular files of ``sha`` that match any of ``globs`` (see ``scope``)."""

        def read() -> dict[str, bytes]:
            listing = self._trees.listing(self._trees.project(full_name(sha)))
            chosen = {path: entry.oid for path, entry in listing.files() if matches(globs, path)}
            if not chosen:
                return {}
            streams = self._trees.contents(chosen.values())
            return {path: stream.read(size) for path, (size, stream) in zip(chosen, streams, strict=True)}

        return await asyncio.to_thread(read)

    async def paths(self, sha: str) -> list[str]:
        """Paths of the regular files of ``sha``."""

        def read() -> list[str]:
            return [path for path, _ in self._trees.listing(self._trees.project(full_name(sha))).files()]

        return await asyncio.to_thread(read)

    # --- copies ----------------------------------------------------------------------------------

    async def checkout(self, sha: str, directory: Path) -> None:
        """A private copy of ``sha`` in ``directory`` (new or empty), for a program to edit. No .git."""
        await asyncio.to_thread(unpack, await self.archive(sha), directory)

    async def changes_in(self, directory: Path, base: str) -> tuple[FileChange, ...]:
        """What was edited in such a copy of ``base``. Raises EditRejected for links, modes and the like."""

        def compare() -> tuple[FileChange, ...]:
            return read_back(self._git, self._trees.listing(self._trees.project(full_name(base))), directory)

        return await asyncio.to_thread(compare)

    async def exclude_state(self) -> None:
        """Makes git overlook Ratchet's own folder: one line in ``info/exclude``, once."""
        await self._ordered(exclude_state, self._git, self.state)


def _reject(problems: dict[str, str], count: int) -> None:
    if problems:
        listed = "\n".join(f"- {path!r}: {reason}" for path, reason in problems.items())
        raise EditRejected(
            f"{len(problems)} of {count} edits cannot be used:\n{listed}",
            "leave these out; nothing of the proposal was applied",
        )


def _obstacle(change: FileChange, changes: Sequence[FileChange], scope: Scope, listing: Listing) -> str | None:
    """Why one of ``changes`` cannot be made to the files in ``listing``; None when it can."""
    path = change.path
    if reason := scope.check(path):
        return reason
    if sum(other.path == path for other in changes) > 1:
        return "it is changed twice"
    parents = [path[:end] for end, letter in enumerate(path) if letter == "/"]
    for parent in parents:
        above = listing.entries.get(parent)
        if above and above.symlink:
            return f"it lies behind the symbolic link {parent}"
        if above and above.kind == "commit":
            return f"it lies in the submodule {parent}"
        if (above and above.kind == "blob") or any(c.path == parent and c.content is not None for c in changes):
            return f"{parent} is a file, not a directory"
    before = listing.entries.get(path)
    if before is None:
        return "there is no such file to delete" if change.content is None else None
    if before.symlink:
        return "it is a symbolic link; only regular files can be edited"
    if not before.regular:
        return "it is a directory" if before.kind == "tree" else "it is a submodule"
    # `executable` False keeps what the file is: a proposer that only has contents knows no modes.
    if change.executable and not before.executable:
        return "its mode would change"
    return None
