"""Trees of files inside git, read and written object by object: no checkout, no index.

Everything here is below the *project folder* (a subdirectory of the repository at times), with paths
relative to it. Paths are git's bytes as text (UTF-8, undecodable bytes as surrogates).
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.git import Git, storage

_KEPT = 8  # listings in memory: the incumbent's and a few candidates'


def text_of(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def bytes_of(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Entry:
    """``kind``: blob, tree or commit (a submodule). ``mode`` as git writes it, e.g. 100644."""

    mode: str
    kind: str
    oid: str

    @property
    def regular(self) -> bool:
        return self.mode.startswith("100")

    @property
    def symlink(self) -> bool:
        return self.mode == "120000"

    @property
    def executable(self) -> bool:
        return self.regular and bool(int(self.mode, 8) & 0o100)


def _parsed(listing: bytes) -> Iterator[tuple[str, Entry]]:
    for record in listing.split(b"\0"):
        if record:
            facts, _, path = record.partition(b"\t")
            mode, kind, oid = facts.decode("ascii").split()
            yield text_of(path), Entry(mode, kind, oid)


class Listing:
    """All entries of one tree. ``entries``: by path, directories included."""

    def __init__(self, tree: str, entries: Mapping[str, Entry]) -> None:
        self.tree = tree
        self.entries = entries
        self._below: dict[str, dict[str, Entry]] = {"": {}}
        for path, entry in entries.items():
            directory, _, name = path.rpartition("/")
            self._below.setdefault(directory, {})[name] = entry

    def below(self, directory: str) -> dict[str, Entry]:
        """A fresh dict of the entries directly in ``directory`` ("" is the root), by name."""
        return dict(self._below.get(directory, {}))

    def files(self) -> Iterator[tuple[str, Entry]]:
        """Regular files, by path in git's order."""
        return ((path, entry) for path, entry in self.entries.items() if entry.regular)


class Trees:
    """Reads and writes trees of one repository."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._listings: dict[str, Listing] = {}

    def root(self, treeish: str) -> str:
        return self._git.text("rev-parse", "--verify", "--quiet", f"{treeish}^{{tree}}")

    def project(self, treeish: str) -> str:
        """Name of the project folder's tree in a commit or root tree; the empty tree if it is not there."""
        if not self._git.prefix:
            return self.root(treeish)
        spec = f"{treeish}:{self._git.prefix.rstrip('/')}"
        found = self._git.run("rev-parse", "--verify", "--quiet", spec, accept=(0, 1, 128))
        return found.decode().strip() or self._git.empty_tree

    def listing(self, tree: str) -> Listing:
        """What is in ``tree`` (kept in memory: a tree never changes)."""
        known = self._listings.get(tree)
        if known is None:
            known = Listing(tree, dict(_parsed(self._git.run("ls-tree", "-r", "-t", "-z", tree))))
            while len(self._listings) >= _KEPT:
                self._listings.pop(next(iter(self._listings)), None)
            self._listings[tree] = known
        return known

    # --- reading ---------------------------------------------------------------------------------

    def contents(self, oids: Iterable[str]) -> Iterator[tuple[int, IO[bytes]]]:
        """Size and stream of each blob, in order. Each stream is to be read to its size, then go on."""
        with tempfile.TemporaryFile() as wanted:
            # From a file: writing names while git waits for us to read contents would deadlock.
            wanted.writelines(oid.encode() + b"\n" for oid in oids)
            count = wanted.tell() // (len(self._git.zero) + 1)
            wanted.seek(0)
            with self._git.converse("cat-file", "--batch", "--buffer", stdin=wanted) as git:
                stream = git.stdout
                assert stream is not None
                for _ in range(count):
                    header = stream.readline().split()
                    if len(header) != 3:
                        raise EOFError("an object is missing")
                    yield int(header[2]), stream
                    stream.read(1)

    def write_tar(self, tree: str, stream: IO[bytes], mtime: int) -> None:
        """A tar of the files and symbolic links in ``tree``, as they are stored: no attribute applies.

        (``git archive`` would obey export-ignore, export-subst and filters.) Submodules are left out.
        """
        chosen = [(p, e) for p, e in self.listing(tree).entries.items() if e.kind == "blob"]
        with tarfile.open(
            fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as tar:
            contents = self.contents(entry.oid for _, entry in chosen)
            for (path, entry), (size, content) in zip(chosen, contents, strict=True):
                info = tarfile.TarInfo(path)
                info.mtime = mtime
                if entry.symlink:
                    info.type, info.mode = tarfile.SYMTYPE, 0o777
                    info.linkname = text_of(content.read(size))
                    tar.addfile(info)
                else:
                    info.size = size
                    info.mode = 0o755 if entry.executable else 0o644
                    tar.addfile(info, content)

    # --- writing ---------------------------------------------------------------------------------

    def write_blobs(self, contents: Iterable[bytes]) -> list[str]:
        """Stores each content as it is (no filters); their names in order."""
        blobs = list(contents)
        if len(blobs) == 1:
            return [self._git.text("hash-object", "-w", "--no-filters", "--stdin", stdin=blobs[0])]
        if not blobs:
            return []
        with self._git.scratch() as folder, storage("a candidate's files"):
            for number, blob in enumerate(blobs):
                Path(folder, str(number)).write_bytes(blob)
            # Relative to git's own folder beside it: the project's path may hold a newline, a name may not.
            place = b"../" + os.fsencode(Path(folder).name)
            names = b"".join(place + b"/%d\n" % number for number in range(len(blobs)))
            return self._git.text("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names).split()

    def write_root(self, base: str, project: Listing, changed: Mapping[str, Entry | None]) -> tuple[str, str]:
        """(root tree, project tree) of commit ``base`` with ``changed`` in the project folder.

        ``project`` is that folder's listing in ``base``; None removes a file. Only directories on the
        way to a change are written, deepest first; one that becomes empty goes, as always in git.
        """
        pending: dict[str, dict[str, Entry]] = {"": project.below("")}
        for path, entry in changed.items():
            directory, _, name = path.rpartition("/")
            above = directory
            while above and above not in pending:
                pending[above] = project.below(above)
                above = above.rpartition("/")[0]
            if entry is None:
                pending[directory].pop(name, None)
            else:
                pending[directory][name] = entry
        with self._git.converse("mktree", "-z", "--missing", "--batch") as git:
            for directory in sorted(pending, key=lambda d: (-d.count("/") if d else 1, d)):
                tree = _make(git.stdin, git.stdout, pending[directory]) if pending[directory] else None
                if directory:
                    above, _, name = directory.rpartition("/")
                    _put(pending[above], name, tree)
            inner = tree or self._git.empty_tree
            return self._graft(git.stdin, git.stdout, base, tree), inner

    def graft(self, base: str, tree: str) -> str:
        """Root tree of ``base`` (a commit or tree) with the project folder replaced by ``tree``."""
        with self._git.converse("mktree", "-z", "--missing", "--batch") as git:
            return self._graft(git.stdin, git.stdout, base, tree)

    def _graft(self, to: IO[bytes] | None, back: IO[bytes] | None, base: str, tree: str | None) -> str:
        parts = [part for part in self._git.prefix.split("/") if part]
        for depth in range(len(parts) - 1, -1, -1):
            spec = f"{base}:{'/'.join(parts[:depth])}"
            level = dict(_parsed(self._git.run("ls-tree", "-z", spec, accept=(0, 128))))
            _put(level, parts[depth], tree)
            tree = _make(to, back, level) if level else None
        return tree or _make(to, back, {})


def _put(directory: dict[str, Entry], name: str, tree: str | None) -> None:
    if tree is None:
        directory.pop(name, None)
    else:
        directory[name] = Entry("040000", "tree", tree)


def _make(to: IO[bytes] | None, back: IO[bytes] | None, entries: Mapping[str, Entry]) -> str:
    """One tree through a running ``git mktree --batch``."""
    assert to is not None and back is not None
    for name, entry in entries.items():
        to.write(f"{entry.mode} {entry.kind} {entry.oid}\t".encode() + bytes_of(name) + b"\0")
    to.write(b"\0")
    to.flush()
    oid = back.readline().decode().strip()
    if not oid:
        raise EOFError("git mktree ended early")
    return oid
