"""The working copy in memory on which a proposer edits: nothing of it is ever on disk. Pure.

Only files of the base version that may be read are in it, and only those in the scope, or new ones there, change.
Every refusal is an EditRejected with an explanation for the model; then nothing has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine import edits
from engine.errors import EditRejected
from engine.proposers import edit_cost, written_paths
from engine.proposers.written_paths import listed, said
from engine.scope import Scope, matches
from engine.types import FileChange

LARGEST_FILE = 1 << 20  # bytes; one that was larger already may stay as large, and a little more
LARGEST_CHANGE = 4 << 20  # bytes that all changed files together may grow by
MOST_CHANGES = 100  # files
VIEW_LENGTH = 60_000  # characters of one view; a 1,500-line script fits
_LISTED = 240  # files of a folder
_AROUND = 4  # lines shown around a change
_SNIPPET = 40  # lines of a changed place that are shown


class Draft:
    """``files``: the base version's, path -> content. ``readable``: globs of those that may be read.

    ``start``: changes made already (of a proposal that is to be mended); those outside the scope are left out.
    Methods that change something return what changed, with line numbers, and raise EditRejected.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        scope: Scope,
        readable: Sequence[str] = ("**",),
        start: Iterable[FileChange] = (),
    ) -> None:
        self._scope = scope
        self._base = {path: content for path, content in sorted(files.items()) if matches(readable, path)}
        self._now = dict(self._base)
        for change in start:
            if scope.check(change.path) is None:
                if change.content is None:
                    self._now.pop(change.path, None)
                else:
                    self._now[change.path] = change.content

    # --- what is there ---------------------------------------------------------------------------

    @property
    def files(self) -> dict[str, bytes]:
        """All files as they are now, the readable ones and the new ones, by path."""
        return dict(sorted(self._now.items()))

    @property
    def editable(self) -> tuple[str, ...]:
        """Files that are there now and may be changed."""
        return tuple(path for path in sorted(self._now) if self._scope.check(path) is None)

    def changes(self) -> tuple[FileChange, ...]:
        """What differs from the base version, by path."""
        return tuple(
            FileChange(path, self._now.get(path))
            for path in sorted(self._base.keys() | self._now.keys())
            if self._now.get(path) != self._base.get(path)
        )

    def text(self, path: str) -> str:
        """A file's text, with the line endings it has. ``path`` as ``resolve`` gives it."""
        if path not in self._now:
            raise EditRejected(f"{path} was deleted in this draft", "create it anew if you want it back")
        try:
            return self._now[path].decode("utf-8")
        except UnicodeDecodeError:
            raise EditRejected(f"{path} is not UTF-8 text", "leave this file alone") from None

    def texts(self, path: str = "") -> dict[str, str]:
        """All files that are UTF-8 text, or only the one or those of the folder that ``path`` means."""
        folder = written_paths.folder(path, self._now.keys())
        if folder is None:
            place = self.resolve(path)
            return {place: self.text(place)}
        found = {}
        for name, content in sorted(self._now.items()):
            if not folder or name.startswith(folder + "/"):
                try:
                    found[name] = content.decode("utf-8")
                except UnicodeDecodeError:
                    pass  # nothing that a line could be found in
        return found

    def view(self, path: str, view_range: tuple[int, int] | None = None) -> str:
        """A file with its line numbers, or a folder's files. ``view_range``: first and last line, -1 the end."""
        folder = written_paths.folder(path, self._now.keys())
        if folder is not None:
            return self.listing(folder)
        place = self.resolve(path)
        lines = _lines(self.text(place))
        first, last = view_range or (1, -1)
        if last == -1 or last > len(lines):
            last = len(lines)
        if not lines:
            return f"{place} is empty"
        if not 1 <= first <= len(lines) or last < first:
            raise EditRejected(
                f"there are no lines {first} to {last}: {place} has {len(lines)}",
                f"give a first line from 1 to {len(lines)} and a last one not before it, or -1 for the end",
            )
        shown, fits = _numbered(lines, first, last)
        notes = [] if self._scope.check(place) is None else ["read only"]
        if "\r\n" in self.text(place):
            notes.append("its line endings are CRLF and stay so: write plain newlines")
        if fits < last:
            notes.append(f"cut: ask for view_range [{fits + 1}, {last}] for the rest")
        head = f"{place}, lines {first}-{fits} of {len(lines)}" + "".join(f"; {note}" for note in notes)
        return f"{head}\n{shown}"

    def listing(self, folder: str = "") -> str:
        """The files below ``folder`` ("" is the project's) with their lines, those that may be edited marked."""
        inside = [path for path in sorted(self._now) if not folder or path.startswith(folder + "/")]
        rows = []
        for path in inside[:_LISTED]:
            kind = "editable" if self._scope.check(path) is None else "read only"
            count = self._now[path].count(b"\n") + (not self._now[path].endswith(b"\n") and self._now[path] != b"")
            rows.append(f"{path} ({count} lines, {kind})")
        if len(inside) > len(rows):
            rows.append(f"... and {len(inside) - len(rows)} more")
        return "\n".join(rows) or "no files"

    # --- changing it -----------------------------------------------------------------------------

    def create(self, path: str, text: str) -> str:
        """Write a whole file, new or not. A file with CRLF keeps them."""
        place = self.writable(path, new=True)
        before = self._now.get(place)
        if before is not None and before.count(b"\r\n") * 2 > before.count(b"\n"):
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        self._apply(place, edits.Write(place, text))
        count = len(_lines(text))
        return f"{place} {'is new' if before is None else 'was rewritten'}: {count} lines"

    def str_replace(self, path: str, old: str, new: str) -> str:
        """Put ``new`` in the place of ``old``, which occurs exactly once."""
        place = self.writable(path)
        before = self.text(place)
        edit_cost.refuse_costly(place, before, old)
        self._apply(place, edits.Replace(place, old, new))
        return self._changed(place, before)

    def insert(self, path: str, line: int, text: str) -> str:
        """Put ``text`` as whole lines after line ``line``; 0 is before the first."""
        place = self.writable(path)
        before = self.text(place)
        self._apply(place, edits.Insert(place, line, text))
        return self._changed(place, before)

    def delete(self, path: str) -> str:
        place = self.writable(path)
        if place not in self._now:
            raise EditRejected(f"{place} was deleted already", "leave this out")
        self._apply(place, edits.Delete(place))
        return f"{place} is deleted"

    def _apply(self, path: str, operation: edits.Operation) -> None:
        """One operation of ``edits`` on the working copy, or nothing at all."""
        try:
            changed = edits.apply(self._now, [operation])
        except EditRejected as fault:
            # "edit 1 (path): " is for lists of them.
            said = fault.message.removeprefix(f"edit 1 ({path}): ")
            raise EditRejected(f"{path}: {said}", fault.mend or "write it another way") from None
        after = dict(self._now)
        for change in changed:
            if change.content is None:
                after.pop(change.path, None)
            else:
                after[change.path] = change.content
        self._check_size(path, after)
        self._now = after

    def _check_size(self, path: str, after: Mapping[str, bytes]) -> None:
        before = len(self._base.get(path, b""))
        most = max(LARGEST_FILE, before + before // 8)
        if len(after.get(path, b"")) > most:
            raise EditRejected(
                f"{path} would have {len(after[path]):,} bytes; at most {most:,} are allowed",
                "generate large data when the program runs instead of writing it down",
            )
        written = {p: c for p, c in after.items() if self._base.get(p) != c}
        if sum(max(0, len(c) - len(self._base.get(p, b""))) for p, c in written.items()) > LARGEST_CHANGE:
            raise EditRejected(f"all changes together would add more than {LARGEST_CHANGE:,} bytes", "change less")
        if len(written) + len(self._base.keys() - after.keys()) > MOST_CHANGES:
            raise EditRejected(f"more than {MOST_CHANGES} files would change", "change less at a time")

    def _changed(self, path: str, before: str) -> str:
        """The changed place of a file as it reads now."""
        old, new = _lines(before), _lines(self.text(path))
        first = 0
        while first < min(len(old), len(new)) and old[first] == new[first]:
            first += 1
        same_end = 0
        while same_end < min(len(old), len(new)) - first and old[-1 - same_end] == new[-1 - same_end]:
            same_end += 1
        last = len(new) - same_end
        shown, _ = _numbered(new, max(1, first + 1 - _AROUND), min(len(new), last + _AROUND, first + _SNIPPET))
        return f"{path}: {len(old) - same_end - first} lines became {last - first}; it reads now\n{shown}".rstrip()

    # --- paths -----------------------------------------------------------------------------------

    def resolve(self, path: str, *, new: bool = False) -> str:
        """The file that ``path`` means, as models write paths. ``new``: it need not be there."""
        return written_paths.resolve(path, self._base.keys() | self._now.keys(), self._scope, new=new)

    def writable(self, path: str, *, new: bool = False) -> str:
        """The file that ``path`` means, when it may be changed. ``new``: it need not be there."""
        place = self.resolve(path, new=new)
        if reason := self._scope.check(place):
            raise EditRejected(f"{said(place)} cannot be changed: {reason}", self._allowed())
        if place not in self._now:
            above = [place[:end] for end, letter in enumerate(place) if letter == "/"]
            if file := next((folder for folder in above if folder in self._now), None):
                raise EditRejected(
                    f"{place} cannot be made: {file} is a file, not a folder", "choose another path"
                )
            if any(other.startswith(place + "/") for other in self._now):
                raise EditRejected(f"{place} is a folder", "choose another path")
        return place

    def _allowed(self) -> str:
        """Which files may be changed, for a refusal."""
        return f"you may change {listed(self.editable)}; new files must match {listed(self._scope.edit)}"


def _lines(text: str) -> list[str]:
    """Lines without their endings, as ``edits.insert`` counts them."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _numbered(lines: Sequence[str], first: int, last: int) -> tuple[str, int]:
    """(lines ``first`` to ``last`` with their numbers, the last that fitted)."""
    rows: list[str] = []
    size = 0
    for number in range(first, last + 1):
        row = f"{number:>6}\t{lines[number - 1]}"
        if size + len(row) > VIEW_LENGTH:
            if not rows:
                rows.append(f"{row[:VIEW_LENGTH]} [this line goes on for {len(row) - VIEW_LENGTH:,} characters]")
                return "\n".join(rows), number
            return "\n".join(rows), number - 1
        rows.append(row)
        size += len(row) + 1
    return "\n".join(rows), max(last, first - 1)
