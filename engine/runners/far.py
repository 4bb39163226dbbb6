"""Files between this machine and a host that is elsewhere."""

from __future__ import annotations

from pathlib import Path

from engine.errors import HostFault
from engine.runners import LogChunk
from engine.runners.transport import Transport


async def send_file(transport: Transport, path: str, data: bytes) -> None:
    """``data`` at ``path`` there, whole or not at all; the directories above are made."""
    directory = path.rpartition("/")[0]
    made = await transport.run(["mkdir", "-p", directory])
    if made.code != 0:
        raise HostFault(f"cannot make {directory} there: {made.complaint}")
    await transport.put(path, data)


class LogCopy:
    """A distant attempt's log, copied as it comes to where a local one has it: everybody reads it there."""

    def __init__(self, directory: Path) -> None:
        control = directory / "control"
        control.mkdir(parents=True, exist_ok=True)
        self._path = control / "log"
        self._path.touch()

    def add(self, chunk: LogChunk) -> None:
        # Where it belongs, whatever was copied before a restart; what the host cut out becomes a hole.
        with self._path.open("r+b") as file:
            file.seek(chunk.offset)
            file.write(chunk.data)
