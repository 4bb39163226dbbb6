"""A scripted nvidia-smi: it prints what the real one prints, loops as it does, and refuses as it does.

Under ``folder``: ``lines`` (nine columns), ``apps``, ``started`` (pid and arguments of each), and switches:
``old`` (it knows clocks_throttle_reasons), ``ancient`` (neither), ``hang``, ``die``.
"""

from __future__ import annotations

import os
from pathlib import Path

SCRIPT = r"""#!/bin/sh
d={folder}
refuse() {{ echo "Field \"$1\" is not a valid field to query."; echo; exit 2; }}
case $1 in
--query-compute-apps=*) cat "$d/apps" 2>/dev/null; exit 0 ;;
--query-gpu=uuid,index,*)
    n=0
    while IFS=', ' read -r uuid _; do echo "$uuid, $n, NVIDIA H100 80GB HBM3, 81559, 550.54.15"; n=$((n + 1)); done <"$d/lines"
    exit 0
    ;;
esac
echo "$$ $*" >>"$d/started"
[ ! -e "$d/die" ] || {{ echo 'NVIDIA-SMI has failed because it could not reach the driver'; exit 9; }}
columns=9
case $1 in
*clocks_event_reasons*) [ ! -e "$d/old" ] && [ ! -e "$d/ancient" ] || refuse clocks_event_reasons.active ;;
*clocks_throttle_reasons*) [ ! -e "$d/ancient" ] || refuse clocks_throttle_reasons.active ;;
*) columns=7 ;;
esac
while :; do
    if [ -e "$d/hang" ]; then trap '' TERM HUP INT PIPE; while :; do sleep 1; done; fi
    text=$(cut -d, "-f1-$columns" "$d/lines") # one write a round
    echo "$text"
    case " $* " in *' -l 1 '*) sleep {seconds} ;; *) exit 0 ;; esac
done
"""
BUSY = "NVIDIA H100 80GB HBM3, {busy}, 71000, 81559, 612.35, 61, 1755, 0x0000000000000004"


class FakeNvidiaSmi:
    """The program is ``bin / "nvidia-smi"``; it loops every ``seconds`` where the real one was told 1."""

    def __init__(self, folder: Path, devices: int = 2, seconds: float = 0.2) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.show(*(f"GPU-{n}, {BUSY.format(busy=10 + n)}" for n in range(devices)))
        program = self.bin / "nvidia-smi"
        program.write_text(SCRIPT.format(folder=folder, seconds=seconds))
        program.chmod(0o755)

    def show(self, *lines: str) -> None:
        (self.folder / "new").write_text("".join(f"{line}\n" for line in lines))
        (self.folder / "new").replace(self.folder / "lines")

    def apps(self, *pairs: tuple[str, int]) -> None:
        (self.folder / "apps").write_text("".join(f"{uuid}, {pid}\n" for uuid, pid in pairs))

    def turn(self, switch: str, on: bool = True) -> None:
        path = self.folder / switch
        path.touch() if on else path.unlink(missing_ok=True)

    @property
    def started(self) -> list[str]:
        path = self.folder / "started"
        return path.read_text().splitlines() if path.exists() else []

    def login(self) -> str:
        """For a login file: it is found there."""
        return f"PATH={self.bin}:{os.environ['PATH']}; export PATH"
