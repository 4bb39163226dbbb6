"""`ratchet doctor` on hosts elsewhere: over a real sshd, and what it makes of answers that it does not like."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

import pytest

from engine.clock import RealClock
from engine.config import parse
from engine.host_checks import answers, check_hosts, lingering
from engine.kernel_check import check_kernel
from engine.runners.transport import Completed, LocalTransport
from tests.engine.runners.sshd import serve

CONFIG = (
    '[metric]\nname = "x"\n[trial]\ncommand = "python3 train.py"\n[[hosts]]\nname = "far"\nssh = "{ssh}"\n{more}'
)


@pytest.mark.slow
async def test_a_host_over_ssh_is_looked_at_and_a_dead_one_says_why(tmp_path: Path) -> None:
    with contextlib.contextmanager(serve)(tmp_path / "sshd") as sshd:
        sshd.start()
        config = parse(CONFIG.format(ssh=f"{' '.join(sshd.client())} box", more='directory = "~/trials"\n'))
        found = {check.name: check for check in await check_hosts(config, tmp_path, RealClock())}
        print(found)
        names = ("shell", "disk", "clock", "logout", "devices", "kernel", "containment")
        assert set(found) == {f"far: {name}" for name in names}
        assert found["far: shell"].status == "ok" and abs(offset(found["far: clock"].detail)) < 5
        assert not (sshd.home / "trials").exists(), "looking leaves nothing behind"
        sshd.stop()
        (dead,) = await check_hosts(config, tmp_path, RealClock())
        assert (dead.name, dead.status) == ("far: connection", "fail") and dead.detail


HIDE = 'mount --bind /dev/null "$(readlink -f "$(command -v {tool})")"'
FAKES = {
    "date": "exec /bin/date -d '-2 hours' \"$@\"",
    "busctl": "echo 'b true'",
    "loginctl": "echo no",
    "python3": f'exec {sys.executable} -I -S "$@"',  # with nothing but the standard library
    "nvidia-smi": "echo 'GPU-1, 0, NVIDIA H200, 143771, 570.86'; echo 'GPU-2, 1, NVIDIA H200, 143771, 570.86'",
}


@pytest.mark.slow
async def test_each_thing_that_a_machine_lacks_is_told_with_its_mend(tmp_path: Path) -> None:
    (fakes := tmp_path / "fakes").mkdir()
    for name, text in FAKES.items():
        (fakes / name).write_text(f"#!/bin/sh\n{text}\n")
        (fakes / name).chmod(0o755)
    (project := tmp_path / "project").mkdir()
    (project / "train.py").write_text("import torch\n")
    with contextlib.contextmanager(serve)(tmp_path / "sshd") as sshd:
        (full := sshd.home / "full").mkdir()
        sshd.mounts = f"{HIDE.format(tool='flock')}\nmount -t tmpfs -o size=1m none {full}"
        sshd.login = f"echo 'Welcome to the box'\nPATH={fakes}:$PATH; export PATH"
        sshd.start()
        ssh = f"{' '.join(sshd.client())} box"
        config = parse(CONFIG.format(ssh=ssh, more='directory = "~/full/trials"\n'))
        found = {check.name: check for check in await check_hosts(config, project, RealClock())}
        for check in found.values():
            print(f"{check.status:<4}  {check.name:<16} {check.detail}\n      {'':<16} mend: {check.mend}")
        told = {
            "shell": ("fail", "no flock: no device can be locked", "install util-linux"),
            "disk": ("fail", "1.0 MB free", "name another"),
            "clock": ("warn", "-7200 s", "timedatectl"),
            "logout": ("warn", "KillUserProcesses=yes", "loginctl enable-linger"),
            "devices": ("ok", "2 x NVIDIA H200 (140 GB)", ""),
            "kernel": ("fail", "without torch", "install torch for that Python"),
        }
        for name, (status, detail, mend) in told.items():
            check = found[f"far: {name}"]
            assert check.status == status and detail in check.detail and mend in check.mend, check
        (project / "train.py").write_text("import jax\n")
        again = {check.name: check for check in await check_hosts(config, project, RealClock())}
        assert again["far: kernel"].status == "warn" and "only nvidia-smi vouches" in again["far: kernel"].mend
        assert list(sshd.home.iterdir()) == [full], "looking leaves nothing behind"
        sshd.stop()
        sshd.mounts = HIDE.format(tool="sha256sum")
        sshd.start()
        (shell, *_) = await check_hosts(config, project, RealClock())
        assert (shell.status, shell.detail) == ("fail", "not there: sha256sum") and "install it" in shell.mend


async def test_a_torch_that_sees_fewer_devices_than_there_are_is_refused(tmp_path: Path) -> None:
    """A build for processors, or for another driver: nvidia-smi shows devices that no trial could use."""
    (tmp_path / "torch.py").write_text(
        "__version__ = '2.9'\nclass version:\n    cuda = None\n"
        "class cuda:\n    is_available = staticmethod(lambda: False)\n"
    )
    command = f"{sys.executable} train.py"
    config = parse(CONFIG.format(ssh="box", more="").replace("python3 train.py", command))
    transport = LocalTransport(RealClock())
    words = ["env", f"PYTHONPATH={tmp_path}"]
    found = await check_kernel("kernel", config, transport, str(tmp_path), words, devices=2)
    assert found.status == "fail" and "no CUDA device; nvidia-smi shows 2" in found.detail
    assert "fits the driver" in found.mend
    for devices in (0, None):
        fine = await check_kernel("kernel", config, transport, str(tmp_path), words, devices=devices)
        assert fine.status == "ok" and "Python 3" in fine.detail and "torch 2.9" in fine.detail
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    broken = await check_kernel("kernel", config, transport, str(tmp_path), words, devices=2)
    assert broken.status == "fail" and "libcudart.so.13" in broken.detail
    nowhere = await check_kernel("kernel", config, transport, str(tmp_path / "gone"), words)
    assert nowhere.status == "fail" and "is not there" in nowhere.detail
    await transport.close()


def offset(detail: str) -> float:
    found = re.match(r"([-+.\d]+) s", detail)
    assert found, detail
    return float(found[1])


async def test_data_of_the_project_needs_a_place_there(tmp_path: Path) -> None:
    config = parse('[data]\nlink = ["data/"]\n' + CONFIG.format(ssh="box", more=""))
    (found,) = await check_hosts(config, tmp_path, RealClock())
    assert found.status == "fail" and 'project = "~/my-project"' in found.mend


def answer(*words: str) -> Completed:
    return Completed(0, ("motd\n\0" + "\0".join(words) + "\0").encode(), b"")


def test_missing_commands_full_disks_and_wrong_clocks_are_findings() -> None:
    checks = answers("far", "~/r", answer("1000.0", " tar flock", "500", "yes", "no", "b true", "all"), 2000.0)
    by_name = {check.name.removeprefix("far: "): check for check in checks}
    assert by_name["shell"].status == "fail" and by_name["shell"].detail == "not there: tar"
    assert by_name["disk"].status == "fail" and by_name["clock"].status == "warn"
    assert by_name["logout"].status == "warn" and "enable-linger" in by_name["logout"].mend
    fine = answers("far", "~/r", answer("2000.0", "", "900000000", "yes", "yes", "b true", "all"), 2000.5)
    assert {check.status for check in fine} == {"ok"}
    odd = answers("far", "~/r", answer("946684800.%N", " flock taskset", "", "yes", "yes", "", "all"), 946684800.0)
    assert [check.status for check in odd] == ["warn", "warn", "ok", "ok"]
    assert "no flock: no device can be locked" in odd[0].detail and "does not say what is free" in odd[1].detail
    assert answers("far", "~/r", answer("Thu Jan 1", "", "9", "yes", "", "", ""), 0.0)[2].status == "warn"
    (nothing,) = answers("far", "~/r", Completed(1, b"Welcome!", b"no shell for you"), 0.0)
    assert nothing.status == "fail" and "no shell for you" in nothing.detail


def test_without_logind_nothing_ends_processes() -> None:
    assert lingering("logout", "", "").status == "ok" and lingering("logout", "no", "b false").status == "ok"
