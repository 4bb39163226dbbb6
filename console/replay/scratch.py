"""The folder that a replay's store lives in: made for it, gone with it, and swept where one was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "ratchet-replay-"
_LOCK = "owner"


class Scratch:
    """Keep it as long as the replay lasts: its lock says that the folder is in use."""

    def __init__(self, parent: Path | None = None) -> None:
        """Below the system's temporary folder, or ``parent``. Raises OSError."""
        parent = parent or Path(tempfile.gettempdir())
        sweep(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self.state = self.folder / "state"
        self.state.mkdir()
        # Locked under another name first: a sweep takes only folders that have the file, and none is unlocked.
        draft = self.folder / f"{_LOCK}.part"
        self._held = draft.open("w")
        fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(self.folder / _LOCK)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._held.close()


def sweep(parent: Path) -> list[Path]:
    """Remove what replays of mine left that were killed; returns what was removed."""
    removed = []
    for folder in sorted(parent.glob(PREFIX + "*")):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open() as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        except OSError:  # in use, being made, or another's
            continue
    return removed
