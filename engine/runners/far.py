"""Files between this machine and a host that is elsewhere."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path

from engine.errors import HostFault
from engine.runners import LogChunk
from engine.runners.following import LOG_TAIL_BYTES, log_head_bytes
from engine.runners.transport import Transport, no_space

# By writing: what a quota leaves is told by nothing else.
ROOM = 'f=$1/.room-$$; head -c "$2" /dev/zero >"$f"; code=$?; rm -f "$f"; exit "$code"'
PUNCH_BYTES = 256 << 10  # cut out at a time
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)


async def send_file(transport: Transport, path: str, data: bytes) -> None:
    """``data`` at ``path`` there, whole or not at all; the directories above are made. Not sent if it is there."""
    there = await transport.run(["sh", "-c", 'sha256sum <"$1"', "sh", path])
    if there.stdout.startswith(hashlib.sha256(data).hexdigest().encode()):
        return
    directory = path.rpartition("/")[0]
    made = await transport.run(["mkdir", "-p", directory])
    if made.code != 0:
        raise HostFault(f"cannot make {directory} there: {made.complaint}")
    await transport.put(path, data)


async def is_full(transport: Transport, directory: str, least: int) -> bool:
    """Whether ``least`` bytes find no room in ``directory`` there. Raises HostFault."""
    done = await transport.run(["sh", "-c", ROOM, "sh", directory, str(least)])
    return done.code != 0 and no_space(done.stderr.decode("utf-8", "replace"))


class LogCopy:
    """A distant attempt's log, copied as it comes to where a local one has it: everybody reads it there.

    Beyond ``cap`` bytes it keeps its head and its last megabyte, as job.sh does with the log itself: a program
    that prints day and night must not fill this disk.
    """

    def __init__(self, directory: Path, cap: int) -> None:
        control = directory / "control"
        control.mkdir(parents=True, exist_ok=True)
        self._path = control / "log"
        self._path.touch()
        self._cap = cap
        self._cut = log_head_bytes(cap)  # all before this is kept, or was cut out already
        self._cuts = True  # False: this file system has no holes

    def add(self, chunk: LogChunk) -> None:
        """Raises OSError."""
        end = chunk.offset + len(chunk.data)
        if not self._cuts and end > self._cap:
            return
        # Where it belongs, whatever was copied before a restart; what the host cut out becomes a hole.
        with self._path.open("r+b") as file:
            file.seek(chunk.offset)
            file.write(chunk.data)
            file.flush()
            upto = (end - LOG_TAIL_BYTES) // 4096 * 4096
            if end > self._cap and upto - self._cut >= PUNCH_BYTES:
                self._cuts = _punch(file.fileno(), self._cut, upto)
                self._cut = upto


def _punch(descriptor: int, start: int, end: int) -> bool:
    """Give a file's bytes back to the disk: a hole, which reads as zeros. False where that cannot be done."""
    libc = ctypes.CDLL(None)
    call = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if call is None:
        return False
    sizes = (ctypes.c_int64(start), ctypes.c_int64(end - start))
    return bool(call(descriptor, _KEEP_SIZE | _PUNCH_HOLE, *sizes) == 0)
