"""``ratchet doctor``: each thing that is missing is a finding with its mend, and none ends the others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine import doctor
from engine.doctor import Check, diagnose

CONFIG = '[metric]\nname = "val_loss"\n[trial]\ncommand = "python train.py"\n'


def repository(root: Path, files: dict[str, str]) -> Path:
    root.mkdir(exist_ok=True)
    for path, text in files.items():
        (root / path).write_text(text)
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)
    return root


async def findings(root: Path) -> dict[str, Check]:
    checks = await diagnose(root, effect_seconds=20)
    assert all(check.mend for check in checks if check.status == "fail"), "a failure without a mend is no help"
    return {check.name: check for check in checks}


async def test_a_sound_project_passes_and_is_not_changed(tmp_path: Path) -> None:
    root = repository(tmp_path / "p", {"train.py": "print('val_loss: 1')\n", "ratchet.toml": CONFIG})
    found = await findings(root)
    assert set(found) == {
        "git",
        "ratchet.toml",
        "python",
        "disk",
        "devices",
        "containment",
        "logout",
        "interpreter",
        "kernel",
        "effect",
    }
    for name in ("git", "ratchet.toml", "python", "interpreter", "effect"):
        assert found[name].status == "ok", found[name]
    assert "train.py" in found["effect"].detail
    assert str(root / ".ratchet") in found["disk"].detail
    assert sorted(path.name for path in root.iterdir()) == [".git", "ratchet.toml", "train.py"]
    status = subprocess.run(["git", "-C", str(root), "status", "--porcelain"], capture_output=True, check=True)
    assert status.stdout == b""


async def test_no_repository_and_no_configuration_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    found = await findings(tmp_path)
    assert found["git"].status == "fail" and "git init" in found["git"].mend
    assert found["ratchet.toml"].status == "fail" and "ratchet init" in found["ratchet.toml"].mend
    assert "containment" in found and "effect" not in found


async def test_a_python_that_is_not_there_and_edits_that_reach_nothing_are_told(tmp_path: Path) -> None:
    root = repository(
        tmp_path / "p",
        {"train.py": "", "ratchet.toml": CONFIG.replace("python train.py", "no-python9 train.py")},
    )
    found = await findings(root)
    assert found["effect"].status == "fail" and "PATH" in found["effect"].mend
    (root / "ratchet.toml").write_text(CONFIG.replace("python train.py", ".venv/bin/python train.py"))
    found = await findings(root)
    assert found["interpreter"].status == "fail" and "environment" in found["interpreter"].mend


async def test_a_full_disk_and_a_network_disk_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("usage", (), {"free": 5e8})()
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: full)
    assert doctor.check_state(tmp_path).status == "fail"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", "/scratch/state")
    from engine import state_folder

    monkeypatch.setattr(state_folder, "read_mounts", lambda: f"/dev/a / ext4 rw\nx {tmp_path} lustre rw\n")
    check = doctor.check_state(tmp_path)
    assert "/scratch/state/ratchet" in check.detail and "lustre" in check.detail


async def test_what_this_version_cannot_do_is_a_failure_before_it_is_a_surprise(tmp_path: Path) -> None:
    (tmp_path / "ratchet.toml").write_text(CONFIG.replace("[metric]", '[metric]\nmode = "scored"', 1))
    config, check = doctor.read_config(tmp_path)
    assert config is not None and check.status == "fail" and "scored" in check.detail
