"""A whole campaign on a disk that fills up and is freed again (TRUST.md row 29), through the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project_factory import CONFIG, PROPOSE, TRAIN

pytestmark = pytest.mark.slow

SCRIPT = """
mount -t tmpfs -o size=14m tmpfs "$DISK" || exit 77
mkdir "$DISK/project" && cp "$SOURCE"/* "$DISK/project" && cd "$DISK/project" || exit 1
git init -q . && git add -A && git -c user.name=t -c user.email=t@localhost commit -q -m start
run() { "$PYTHON" -P -m console.cli run --experiments "$1"; }
run 0 || exit 1
dd if=/dev/zero of="$DISK/ballast" bs=1k count=100000 2>/dev/null
( sleep 12; rm "$DISK/ballast"; echo "ballast removed" ) &
run 3; echo "first: $?"
wait
run 3; echo "second: $?"
"$PYTHON" -P -m console.cli history --json
"""


def test_a_disk_that_fills_up_is_said_and_never_a_candidates_fault(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare: a small disk cannot be mounted without touching this machine")
    source, disk = tmp_path / "source", tmp_path / "disk"
    source.mkdir()
    disk.mkdir()
    (source / "train.py").write_text(TRAIN.format(seconds=0.3).lstrip())
    (tmp_path / "propose.py").write_text(PROPOSE)
    (source / "ratchet.toml").write_text(
        CONFIG.format(
            runs=tmp_path / "runs",
            judge='mode = "single"\ncalibrate_seeds = 1',
            propose=tmp_path / "propose.py",
            review="auto",
        )
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT],
        env={**os.environ, "DISK": str(disk), "SOURCE": str(source), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=200,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare"):
        pytest.skip(f"this machine forbids mounting in a user namespace: {done.stderr.strip()}")
    said = done.stdout + done.stderr
    assert "ballast removed" in done.stdout and "second: 0" in done.stdout, said
    assert "no space" in said or "no room" in said or "disk" in said, said
    assert "free" in said, "the mend"
    assert '"verdict":"crash"' not in done.stdout, said
    print(next(line for line in said.splitlines() if "no space" in line or "no room" in line))
