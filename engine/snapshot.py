"""The working tree as it is, as a commit, without the user's index noticing.

The index is copied, with its time stamps, so that git only reads files that changed since; then the
copy is brought up to date as ``git add --all`` would, and thrown away. Filters of the user's (line
endings, LFS) apply as they would on commit: the snapshot holds what a commit would hold.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from engine.errors import RatchetError
from engine.git import Git, GitFailed, storage
from engine.trees import Trees, bytes_of, text_of


def take(git: Git, trees: Trees, state: Path, committed: bool, message: str, at: float) -> str:
    """Name of the snapshot commit, or of HEAD when the project folder is clean or ``committed``.

    Raises RatchetError: no commit yet and ``committed``; nothing to snapshot; git's own complaint.
    """
    head = git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}", accept=(0, 1, 128)).decode().strip()
    if committed:
        if not head:
            raise RatchetError("the repository has no commit yet", "commit, or leave out --committed")
        return head
    with git.scratch() as folder, storage("the snapshot's index"):
        index = Path(folder, "index")
        theirs = git.git_dir / "index"
        if theirs.exists():
            # With its time: git trusts an entry only when it is older than the index that holds it.
            shutil.copy2(theirs, index)
        tree = _project_tree(git, state, index)
    if tree == git.empty_tree:
        raise RatchetError(
            f"there is no file of {git.top / git.prefix} that git would take in",
            "add the project's files, or do not ignore its folder in .gitignore",
        )
    if head and tree == trees.project(head):
        return head
    root = trees.graft(head or git.empty_tree, tree)
    parent = ("-p", head) if head else ()
    return git.text("commit-tree", root, *parent, "-F", "-", stdin=message.encode("utf-8", "replace"), at=at)


def _project_tree(git: Git, state: Path, index: Path) -> str:
    """Brings the private ``index`` up to date below the project folder; that folder's tree."""

    def run(*arguments: str, stdin: bytes = b"") -> bytes:
        return git.run(*arguments, stdin=stdin, index=index, work_tree=git.top)

    here = bytes_of(git.prefix)
    own = _own(git, state)
    left_out: list[bytes] = []  # stays as HEAD has it: submodules, nested repositories, our own state
    hidden: list[bytes] = []  # assume-unchanged or skip-worktree: git would overlook what is on disk
    gone: list[bytes] = []
    for record in run("ls-files", "-z", "-s", "-v").split(b"\0")[:-1]:
        facts, _, path = record.partition(b"\t")
        tag, mode, _, stage = facts.split()
        if any(path.startswith(name + b"/") for name in own) or (stage != b"0" and not path.startswith(here)):
            gone.append(path)  # ours, or a conflict elsewhere that write-tree would trip over
        elif mode == b"160000":
            left_out.append(path)
        elif (tag == b"S" or tag.islower()) and _exists(git, path):
            hidden.append(path)
    if gone:
        run("update-index", "--force-remove", "-z", "--stdin", stdin=_records(gone))
    for flag in ("--no-assume-unchanged", "--no-skip-worktree") if hidden else ():
        run("update-index", flag, "-z", "--stdin", stdin=_records(hidden))
    scope = f":(top,literal){git.prefix.rstrip('/')}" if git.prefix else ":(top)"
    for path in run("ls-files", "-z", "--others", "--exclude-standard", "--", scope).split(b"\0"):
        if path.endswith(b"/"):
            # Without a commit in it, `git add` would refuse the lot; with one, it would add a bare link.
            left_out.append(path.rstrip(b"/"))
    # `git add` complains about an exclusion of what is ignored already. And asking by listing will not
    # do: this very index lies there and comes and goes.
    ignored = git.run(
        "check-ignore", "-z", "--stdin", stdin=_records(own), index=index, work_tree=git.top, accept=(0, 1)
    ).split(b"\0")
    left_out += [name for name in own if name not in ignored]
    excluded = [b":(top,exclude,literal)" + path for path in left_out]
    try:
        run(
            "add",
            "--all",
            "--pathspec-from-file=-",
            "--pathspec-file-nul",
            stdin=_records([bytes_of(scope), *excluded]),
        )
    except GitFailed as fault:
        if "did not match any file" not in fault.message and "ignored by one of your" not in fault.message:
            raise
        return git.empty_tree
    if not git.prefix:
        return run("write-tree", "--missing-ok").decode().strip()
    if not run("ls-files", "-z", "--", scope):
        return git.empty_tree
    return run("write-tree", "--missing-ok", f"--prefix={git.prefix}").decode().strip()


def _own(git: Git, state: Path) -> list[bytes]:
    """Ratchet's own folders in the work tree, as git would name them."""
    places = {git.top / git.prefix / ".ratchet", state}
    return [bytes_of(p.relative_to(git.top).as_posix()) for p in sorted(places) if p.is_relative_to(git.top)]


def _exists(git: Git, path: bytes) -> bool:
    place = git.top / text_of(path)
    return place.exists() or place.is_symlink()


def _records(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in paths)


def exclude_state(git: Git, state: Path) -> None:
    """Makes git overlook ``state`` through ``info/exclude``, which is shared by all linked work trees.

    Adds one line, once; does nothing when the state lies outside the work tree.
    """
    if not state.is_relative_to(git.top):
        return
    special = "\\*?[]#! "
    place = state.relative_to(git.top).as_posix()
    # .gitignore's syntax cannot hold a newline; '?' stands for it.
    line = "/" + "".join("?" if c in "\r\n" else f"\\{c}" if c in special else c for c in place) + "/"
    target = git.common_dir / "info" / "exclude"
    present = target.read_bytes() if target.exists() else b""
    if bytes_of(line) in present.splitlines():
        return
    with storage(str(target)):
        target.parent.mkdir(exist_ok=True)
        with target.open("ab") as stream:  # appended: somebody's link or permissions stay as they are
            stream.write((b"\n" if present and not present.endswith(b"\n") else b"") + bytes_of(line) + b"\n")
