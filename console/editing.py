"""A proposal's files on loan to an editor: a private folder outside of the checkout, and what came back of them.

Whatever is in doubt sends nothing: a file that is gone, that was emptied, or that is no text any more.
"""

from __future__ import annotations

import contextlib
import difflib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import RatchetError

_lent: set[Path] = set()


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that a proposal changes: its content in the base and in the candidate; None where it is not there."""

    path: str
    base: bytes | None
    candidate: bytes | None


class NotSent(RatchetError):
    """Nothing of the edit is sent; ``message`` says why."""


class Sheet:
    """``paths``: what the editor opens, under ``folder``. Use as a context manager: the files go with it.

    Raises NotSent for a proposal that no text editor can take, or that only deletes.
    """

    def __init__(self, files: Sequence[ChangedFile]) -> None:
        self._files = tuple(files)
        self._texts = {file.path: _text(file.path, file.candidate) for file in files if file.candidate is not None}
        if not self._texts:
            raise NotSent("this proposal only deletes files: there is nothing to edit", "r rejects it")
        self.folder = Path(tempfile.mkdtemp(prefix="ratchet-edit-"))  # 0700
        _lent.add(self.folder)
        # One level down: an editor that reads settings from its working directory finds none of a candidate's.
        self._root = self.folder / "files"
        self.paths = tuple(self._root / path for path in self._texts)
        try:
            for path, place in zip(self._texts, self.paths, strict=True):
                if not place.resolve().is_relative_to(self._root.resolve()):
                    raise NotSent(f"{path!r} lies outside of the project")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(self._texts[path].encode())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sheet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        _lent.discard(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self) -> dict[str, str]:
        """The texts as they are now, by path. Raises NotSent when nothing is to be sent."""
        found: dict[str, str] = {}
        for path, place in zip(self._texts, self.paths, strict=True):
            try:
                data = place.read_bytes()
            except OSError as error:
                raise NotSent(f"{path} is gone ({error.strerror}): nothing is sent") from error
            if not data.strip() and self._texts[path].strip():
                raise NotSent(f"{path} was emptied: nothing is sent")
            found[path] = _text(path, data)
        if found == self._texts:
            raise NotSent("nothing was changed: nothing is sent")
        return found

    def changes(self, texts: Mapping[str, str]) -> list[dict[str, str | None]]:
        """The whole change against the base, as a request carries it; a file of the base's own text is none.

        Raises NotSent when no change is left.
        """
        found = [
            {"path": file.path, "text": texts.get(file.path)}
            for file in self._files
            if file.base is None or file.path not in texts or texts[file.path].encode() != file.base
        ]
        if not found:
            raise NotSent("these are the base's own files: nothing is sent", "r rejects the proposal")
        return found

    def diff(self, texts: Mapping[str, str]) -> list[str]:
        """Base to ``texts``, as git writes it."""
        lines: list[str] = []
        for file in self._files:
            before = (file.base or b"").decode("utf-8", "replace")
            after = texts.get(file.path, "")
            if file.base is not None and file.path in texts and before == after:
                continue
            lines.append(f"diff --git a/{file.path} b/{file.path}")
            old = f"a/{file.path}" if file.base is not None else "/dev/null"
            new = f"b/{file.path}" if file.path in texts else "/dev/null"
            for line in difflib.unified_diff(_lines(before), _lines(after), old, new, lineterm=""):
                lines += line.split("\n")
        return lines


def close_all() -> None:
    """Before a process that ends at once: nothing lent stays behind."""
    for folder in tuple(_lent):
        with contextlib.suppress(OSError):
            shutil.rmtree(folder, ignore_errors=True)


def _text(path: str, data: bytes | None) -> str:
    try:
        return (data or b"").decode()
    except UnicodeDecodeError as error:
        raise NotSent(
            f"{path} is no UTF-8 text (byte {error.start}): it cannot be edited here",
            "`ratchet try` takes any file",
        ) from error


def _lines(text: str) -> list[str]:
    """Split at newlines alone, as git does; a last line without one says so."""
    if not text:
        return []
    lines = text.split("\n")
    if lines[-1] == "":
        return lines[:-1]
    return [*lines[:-1], f"{lines[-1]}\n\\ No newline at end of file"]
