"""The ``git`` program, held away from everything that is the user's.

Two ways to run it, and no third: *objects* (an empty folder stands in for the work tree and there is no
index, so no command can read or write either), and *looking at the work tree* through a private copy of
the index (snapshots only). Hooks, signing, the file-system monitor and automatic gc are off, the
environment's ``GIT_*`` are cleared, and the identity of everything written is Ratchet's own.

Blocking on purpose: ``workspace`` runs it in threads, because a thread cannot be cancelled. A cancelled
asyncio subprocess is killed with its transport, perhaps between the two renames of one ref transaction.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from engine.errors import RatchetError, StorageFull

_SETTINGS = {
    "core.hooksPath": "/dev/null",  # no hook of the user's runs, reference-transaction included
    "core.fsmonitor": "false",
    "core.splitIndex": "false",  # else the private index would put a shared part beside the user's
    "core.quotePath": "false",
    "core.abbrev": "12",
    "core.safecrlf": "false",  # a snapshot is no place to insist on line endings
    "core.filesRefLockTimeout": "3000",  # ms; the user's own git may hold a ref for a moment
    "core.packedRefsTimeout": "3000",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "i18n.commitEncoding": "UTF-8",
    "submodule.recurse": "false",
}
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ADVICE": "0",
    "GIT_AUTHOR_NAME": "Ratchet",
    "GIT_AUTHOR_EMAIL": "ratchet@localhost",
    "GIT_COMMITTER_NAME": "Ratchet",
    "GIT_COMMITTER_EMAIL": "ratchet@localhost",
    "LC_ALL": "C.UTF-8",  # messages are told apart by their English text
    "LANGUAGE": "",
}
_FULL = ("No space left on device", "Disk quota exceeded")
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BACKSTOP = 1800.0  # seconds; no command here is near it unless the file system hangs


class GitFailed(RatchetError):
    """git ended with ``code``; ``message`` carries its own words."""

    def __init__(self, message: str, code: int, mend: str = "") -> None:
        super().__init__(message, mend)
        self.code = code


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Turns the operating system's "no space" into StorageFull, which pauses instead of failing."""
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left while writing {what}", "free some disk space") from fault
        raise


def full_name(sha: str) -> str:
    """``sha`` if it is an object's full name. Anything else might be read as an option or a range."""
    if not _HEX.fullmatch(sha):
        raise RatchetError(f"{sha!r} is not the full name of a git object", "resolve it first")
    return sha


class Git:
    """One repository, as seen from the project folder.

    ``top``: root of the work tree; ``git_dir``: of this work tree; ``common_dir``: shared by all linked
    work trees; ``prefix``: the project folder below ``top``, "" or "sub/folder/"; ``private``: folder
    of ours for temporary files.
    """

    def __init__(self, top: Path, git_dir: Path, common_dir: Path, prefix: str, private: Path) -> None:
        self.top, self.git_dir, self.common_dir = top, git_dir, common_dir
        self.prefix, self.private = prefix, private
        self._nothing = private / "nothing"  # the work tree of commands that must not see one
        self._environment = _environment()
        with storage(str(private)):
            self._nothing.mkdir(parents=True, exist_ok=True)
        _sweep(private)
        self.zero = "0" * (64 if self.text("rev-parse", "--show-object-format") == "sha256" else 40)
        self.empty_tree = self.text("hash-object", "-t", "tree", "--stdin")

    @classmethod
    def discover(cls, project: Path, private: Path) -> Git:
        """The repository around ``project``. Raises RatchetError with the mend when there is none."""
        if not project.is_dir():
            raise RatchetError(f"there is no folder {project}", "give the folder that holds ratchet.toml")
        if shutil.which("git") is None:
            raise RatchetError("the program `git` was not found", "install git 2.38 or newer")

        def ask(question: str) -> Path:
            # One question a call: a path may hold a newline, so several answers cannot be told apart.
            done = subprocess.run(
                ["git", "-C", str(project), "rev-parse", question],
                capture_output=True,
                env=_environment(),
                stdin=subprocess.DEVNULL,
            )
            if done.returncode:
                raise _no_repository(project, done.stderr.decode(errors="replace").strip())
            return project / os.fsdecode(done.stdout.removesuffix(b"\n"))

        top, git_dir, common = ask("--show-toplevel"), ask("--absolute-git-dir"), ask("--git-common-dir")
        below = project.resolve().relative_to(top.resolve()).as_posix()
        return cls(top.resolve(), git_dir, common.resolve(), "" if below == "." else f"{below}/", private)

    # --- running ---------------------------------------------------------------------------------

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        at: float | None = None,
        index: Path | None = None,
        work_tree: Path | None = None,
        accept: tuple[int, ...] = (0,),
    ) -> bytes:
        """Standard output of ``git arguments``.

        ``at`` (seconds since 1970) dates what is written. ``work_tree`` with ``index`` (a private one)
        shows a work tree; without, there is none. Raises GitFailed unless the exit code is in
        ``accept``, StorageFull when the disk is full.
        """
        with storage("git's objects"):
            done = subprocess.run(
                self._command(arguments, work_tree),
                input=stdin,
                capture_output=True,
                env=self._surroundings(at, index),
                cwd=work_tree or self._nothing,
                # Ctrl-C in a terminal reaches the whole foreground group: not a ref transaction.
                start_new_session=True,
                timeout=_BACKSTOP,
            )
        if done.returncode not in accept:
            raise _fault(arguments, done.returncode, done.stderr)
        return done.stdout

    def text(self, *arguments: str, stdin: bytes = b"", at: float | None = None) -> str:
        """The same for answers of one word, such as an object's name."""
        return self.run(*arguments, stdin=stdin, at=at).decode("ascii").strip()

    @contextmanager
    def converse(self, *arguments: str, stdin: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A running objects-only git to stream from (and to, without ``stdin``).

        An ``EOFError`` of the body, and any exit code but 0, becomes GitFailed with git's own words.
        """
        with tempfile.TemporaryFile() as complaint:  # a pipe nobody reads might fill and block git
            process = subprocess.Popen(
                self._command(arguments, None),
                stdin=stdin or subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaint,
                env=self._surroundings(None, None),
                cwd=self._nothing,
                start_new_session=True,
            )
            broken: Exception | None = None
            try:
                with process:  # closing flushes, so it too may find the pipe broken
                    try:
                        yield process
                    except BaseException:
                        process.kill()
                        raise
            except (EOFError, BrokenPipeError) as fault:
                broken = fault
            if process.returncode or broken:
                complaint.seek(0)
                said = complaint.read() or str(broken).encode()
                raise _fault(arguments, process.returncode, said) from broken

    def name_of_blob(self, content: bytes) -> str:
        """The name git would give ``content`` as a file, without asking it."""
        kind = hashlib.sha1 if len(self.zero) == 40 else hashlib.sha256
        return kind(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def scratch(self) -> tempfile.TemporaryDirectory[str]:
        """A private folder for one piece of work; a killed engine's are swept when the next one opens."""
        with storage(str(self.private)):
            return tempfile.TemporaryDirectory(prefix=f"work-{os.getpid()}-", dir=self.private)

    def _command(self, arguments: tuple[str, ...], work_tree: Path | None) -> list[str]:
        command = ["git", f"--git-dir={self.git_dir}", f"--work-tree={work_tree or self._nothing}"]
        for key, value in _SETTINGS.items():
            command += ["-c", f"{key}={value}"]
        if work_tree is None:
            # Attributes could drop, convert or hide files (export-ignore, -diff, filters, merge drivers).
            command += ["-c", "core.attributesFile=/dev/null"]
        return command + list(arguments)

    def _surroundings(self, at: float | None, index: Path | None) -> dict[str, str]:
        surroundings = {**self._environment, "GIT_INDEX_FILE": str(index or self._nothing / "no-index")}
        if at is not None:
            date = f"@{int(at)} +0000"
            surroundings |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        return surroundings


def _environment() -> dict[str, str]:
    inherited: Mapping[str, str] = os.environ
    return {k: v for k, v in inherited.items() if not k.startswith("GIT_")} | _ENVIRONMENT


def _sweep(private: Path) -> None:
    """Remove what a killed engine left; a living one (``ratchet try`` beside it) keeps its own."""
    for left in private.glob("work-*-*"):
        owner = left.name.split("-")[1]
        if not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)


def _no_repository(project: Path, said: str) -> RatchetError:
    if "dubious ownership" in said:
        return RatchetError(
            f"git does not trust {project}: it belongs to somebody else",
            f"git config --global --add safe.directory {project}",
        )
    if "must be run in a work tree" in said:
        return RatchetError(f"{project} is in a repository without a work tree", "use an ordinary clone")
    if "not a git repository" in said:
        return RatchetError(
            f"{project} is not in a git repository",
            f"git -C {project} init && git -C {project} add -A && git -C {project} commit -m start",
        )
    return RatchetError(f"git cannot read the repository around {project}: {said}")


def _fault(arguments: tuple[str, ...], code: int, stderr: bytes) -> RatchetError:
    said = stderr.decode(errors="replace").strip()
    if any(sign in said for sign in _FULL):
        return StorageFull(f"no space left while git was writing: {said}", "free some disk space")
    mend = ""
    if locked := re.search(r"Unable to create '(.+\.lock)'", said):
        mend = f"if no git is running in this repository, remove {locked[1]} (a killed one left it)"
    return GitFailed(f"git {arguments[0]} failed with {code}: {said}", code, mend)
