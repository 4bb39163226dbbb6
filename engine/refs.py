"""A campaign's refs: where its head is, by compare-and-swap (TRUST.md row 30).

- ``refs/heads/ratchet/<campaign>``: the branch, for people. It never moves under somebody's feet: not
  while it is checked out (or being rebased) in any work tree, and not when they moved it themselves.
- ``refs/ratchet/<campaign>/head``: the head, always.
- ``refs/ratchet/<campaign>/branch``: where we left the branch, which tells "it lags because it was checked
  out" from "somebody reset it".
- ``refs/ratchet/<campaign>/<key>``: keeps a candidate from ``git gc``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import RatchetError, UsageError
from engine.git import Git, GitFailed, full_name

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9_-]))*")
_RESERVED = ("head", "branch")


class RefMoved(RatchetError):
    """A ref is not where the store says it is; the message names the ref and what was found."""


@dataclass(frozen=True, slots=True)
class Advance:
    """``head`` is the new head; ``branch`` the branch's short name. ``note`` is for the person, or ""."""

    head: str
    branch: str
    branch_moved: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    head: str | None
    branch: str | None
    left: str | None


def campaign_name(name: str) -> str:
    """``name`` if it can be part of a ref. Raises UsageError."""
    if not _NAME.fullmatch(name) or name.endswith(".lock") or len(name) > 100:
        raise UsageError(
            f"{name!r} cannot name a campaign or experiment",
            "use letters, digits, '-', '_' and single dots inside",
        )
    return name


class Refs:
    """Reads and moves the refs of campaigns. Blocking; the caller serialises what changes anything."""

    def __init__(self, git: Git) -> None:
        self._git = git

    def hold(self, campaign: str, key: str, sha: str) -> None:
        """Keeps ``sha`` (and all it reaches) from gc; a key names one commit, so the last one counts."""
        if campaign_name(key).lower() in _RESERVED:
            raise UsageError(f"{key!r} is a name of Ratchet's own", "choose another")
        ref = f"refs/ratchet/{campaign_name(campaign)}/{key}"
        self._git.run("update-ref", "--no-deref", ref, full_name(sha))

    def find(self, campaign: str) -> _Found:
        refs = self._names(campaign)
        listed = self._git.run("for-each-ref", "--format=%(refname) %(objectname)", *refs).decode()
        # for-each-ref takes prefixes too: refs/heads/ratchet/a would also list refs/heads/ratchet/a/b.
        known = dict(line.split(" ", 1) for line in listed.splitlines())
        return _Found(*(known.get(ref) for ref in refs))

    def advance(self, campaign: str, old: str | None, new: str) -> Advance:
        """Moves head, and the branch with it if it may, from ``old`` (None: create) to ``new``.

        Both in one transaction. Where a ref already is at ``new`` nothing is to be done, so a crash
        after the transaction is answered by calling again. Raises RefMoved.
        """
        head_ref, branch_ref, left_ref = self._names(campaign)
        short = branch_ref.removeprefix("refs/heads/")
        full_name(new)
        found = self.find(campaign)
        if found.head not in (old, new):
            raise self._moved(head_ref, found.head, old)
        updates = [(head_ref, found.head)] if found.head != new else []
        note, moves = "", True
        if found.branch != new:
            if where := self._checked_out(branch_ref):
                moves = False
                note = (
                    f"{short} is checked out in {where}, so it stays where it is; "
                    f"to bring it up: git merge --ff-only {head_ref}"
                )
            elif found.branch not in (old, found.left):
                raise self._moved(branch_ref, found.branch, found.left or old)
            else:
                updates.append((branch_ref, found.branch))
        if moves and found.left != new:
            updates.append((left_ref, found.left))
        if updates:
            self._transact(updates, new, campaign)
        return Advance(new, short, moves, note)

    def _transact(self, updates: list[tuple[str, str | None]], new: str, campaign: str) -> None:
        lines = [f"update {ref}\0{new}\0{old or self._git.zero}\0" for ref, old in updates]
        script = "".join(["start\0", *lines, "prepare\0", "commit\0"]).encode()
        try:
            # no-deref: a symbolic ref under our name must not lead us to somebody's own branch.
            self._git.run("update-ref", "--no-deref", "-m", "ratchet: advance", "--stdin", "-z", stdin=script)
        except GitFailed as fault:
            found = self.find(campaign)
            now = dict(zip(self._names(campaign), (found.head, found.branch, found.left), strict=True))
            for ref, old in updates:
                if now[ref] != old:
                    raise self._moved(ref, now[ref], old) from fault
            if "exists; cannot create" in fault.message:
                raise RatchetError(
                    f"git cannot create the branch ratchet/{campaign}: {fault.message}",
                    "rename the branch in the way (git branch -m), or give the campaign another name",
                ) from fault
            raise

    def _names(self, campaign: str) -> tuple[str, str, str]:
        name = campaign_name(campaign)
        return f"refs/ratchet/{name}/head", f"refs/heads/ratchet/{name}", f"refs/ratchet/{name}/branch"

    def _checked_out(self, branch_ref: str) -> str | None:
        """The work tree that has the branch checked out, unborn included, or is rebasing it."""
        tree = ""
        for line in self._git.run("worktree", "list", "--porcelain").decode(errors="replace").splitlines():
            if line.startswith("worktree "):
                tree = line.removeprefix("worktree ")
            elif line == f"branch {branch_ref}":
                return tree
        # A rebase detaches HEAD and writes the branch at its end, by its own compare-and-swap.
        for state in (self._git.common_dir, *self._git.common_dir.glob("worktrees/*")):
            for name in ("rebase-merge/head-name", "rebase-apply/head-name"):
                try:
                    rebasing = (state / name).read_text(errors="replace").strip()
                except OSError:
                    continue
                if rebasing == branch_ref:
                    return f"{state} (being rebased)"
        return None

    def _moved(self, ref: str, found: str | None, expected: str | None) -> RefMoved:
        if ref.startswith("refs/heads/"):
            short = ref.removeprefix("refs/heads/")
            mend = f"keep your work under another name (git branch -m {short} my-work)" if found else ""
            if expected:
                mend += f"{', then ' if mend else ''}git branch {short} {expected}"
            elif found:
                mend += ", or give the campaign another name"
        else:
            mend = "make sure that no other engine runs this campaign"
            if expected:
                mend += f"; to return to what the store says: git update-ref {ref} {expected}"
            else:
                mend += f"; to start over: git update-ref -d {ref}"
        places = [sha or "nothing" for sha in (found, expected)]
        return RefMoved(f"{ref} was expected at {places[1]}; found {places[0]}", mend)
