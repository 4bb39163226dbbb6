"""The store lives on a local disk, and a person is told where (TRUST.md row 28)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import state_folder
from engine.errors import RatchetError
from engine.state_folder import create_state_directory, filesystem_of, locate_state

LOCAL = "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n"
CLUSTER = LOCAL + (
    "auto /home autofs rw 0 0\n"
    "server:/export/home /home nfs4 rw 0 0\n"
    "mgs@tcp:/lus /lustre/my\\040lab lustre rw 0 0\n"
    "tmpfs /run tmpfs rw 0 0\n"
)


def test_a_project_on_a_local_disk_keeps_its_state_inside(tmp_path: Path) -> None:
    folder = locate_state(tmp_path, LOCAL, {"HOME": "/root"}, 7)
    assert folder.path == tmp_path / ".ratchet" and folder.moved_from is None


@pytest.mark.parametrize(
    ("project", "kind"), [("/home/ada/gpt", "nfs4"), ("/lustre/my lab/gpt", "lustre"), ("/homestead", "ext4")]
)
def test_the_deepest_and_latest_mount_decides(project: str, kind: str) -> None:
    assert filesystem_of(Path(project), CLUSTER).kind == kind


SHARED = "nfs nfs4 lustre gpfs beegfs beegfs_nodev cifs smb3 ceph 9p fuse.sshfs fuse.glusterfs"
HERE = "ext4 xfs btrfs zfs overlay tmpfs apfs f2fs fuse.fuse-overlayfs unknown"


@pytest.mark.parametrize("kind", SHARED.split())
def test_every_shared_kind_is_known(kind: str) -> None:
    assert state_folder.Filesystem(kind, "/").shared


@pytest.mark.parametrize("kind", HERE.split())
def test_local_kinds_are_not_moved(kind: str) -> None:
    assert not state_folder.Filesystem(kind, "/").shared


def test_a_project_on_a_network_disk_gets_the_first_local_place_and_the_reason() -> None:
    project = Path("/lustre/my lab/gpt")
    here = locate_state(project, CLUSTER, {"XDG_STATE_HOME": "/scratch", "HOME": "/home/ada"}, 7)
    assert here.path.parent == Path("/scratch/ratchet") and "lustre" in here.why
    # A home on NFS is no better, and is passed over.
    there = locate_state(project, CLUSTER, {"HOME": "/home/ada"}, 7)
    assert there.path.parent == Path("/var/tmp/ratchet-7")
    assert there == locate_state(project, CLUSTER, {"HOME": "/home/ada"}, 7), "the same place every time"
    assert there.path != locate_state(project.parent / "other", CLUSTER, {}, 7).path


def test_without_any_local_disk_it_is_refused_with_what_was_tried() -> None:
    with pytest.raises(RatchetError, match=r"/var/tmp/ratchet-7: nfs") as caught:
        locate_state(Path("/project"), "server:/ / nfs rw 0 0\n", {"HOME": "/root"}, 7)
    assert "XDG_STATE_HOME" in caught.value.mend


def test_a_place_that_somebody_else_made_first_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setattr(state_folder, "read_mounts", lambda: f"/dev/x / ext4 rw\nx {project} nfs rw\n")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = create_state_directory(project)
    assert made.stat().st_mode & 0o077 == 0
    made.rmdir()
    made.symlink_to(tmp_path)
    with pytest.raises(RatchetError, match="not a directory of yours"):
        create_state_directory(project)


def test_an_unwritable_project_is_a_message(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root may write anywhere
    try:
        with pytest.raises(RatchetError, match="cannot be made"):
            create_state_directory(tmp_path)
    finally:
        if me == 0:
            os.seteuid(0)
