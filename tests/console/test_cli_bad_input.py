"""Bad input: one clear message with its mend, the documented exit code, and nothing half done."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.console.ratchet_command import COMMAND, ratchet, untouched
from tests.engine.engine_process import until
from tests.project_factory import git, make_project

DONE, FAILED, USAGE, NOTHING = 0, 1, 2, 3


def edit(project: Path, old: str, new: str) -> None:
    """Change ratchet.toml and commit it, so that `git status` is clean before the command."""
    file = project / "ratchet.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    git(project, "commit", "-qam", "configuration")


def refused(project: Path, code: int, *words: str, command: tuple[str, ...] = ("run",), **env: str) -> str:
    """The command ends with ``code``, says all ``words`` and a mend, shows no traceback, changes nothing."""
    before = untouched(project)
    done = ratchet(*command, at=project, env=env)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    for word in words:
        assert word in said, said
    assert "Traceback" not in said
    after = untouched(project)
    assert after == before, [key for key in before if before[key] != after.get(key)]
    return said


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_valid_one(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    edit(project, "train_seconds = 5", "train_secs = 5")
    line = (project / "ratchet.toml").read_text().splitlines().index("train_secs = 5") + 1
    for command in (("run",), ("start",)):
        said = refused(
            project, USAGE, f"ratchet.toml:{line}:", "train_secs", 'mean "train_seconds"', "mend:", command=command
        )
        assert said.count("train_secs") >= 1
    assert not (project / ".ratchet").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("timeout_seconds = 30", 'timeout_seconds = "soon"', ("[trial] timeout_seconds", "expected", '"soon"')),
        ('mode = "auto"', 'mode = "automatic"', ("[review] mode", "automatic", "auto")),
        ('name = "val_loss"', 'name = "val_loss', ("not TOML",)),
        ("[sandbox]\nrequire = []", '[sandbox]\nrequire = ["network"]', ("require", "mend:")),
        ('kind = "command"', 'kind = "claude"', ("claude", "unlimited", "mend:")),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(
    tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    project = make_project(tmp_path)
    edit(project, old, new)
    refused(project, USAGE, "mend:", *words)


def test_the_command_line_cannot_ask_for_a_proposer_that_the_file_does_not_describe(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    text = (project / "ratchet.toml").read_text()
    line = next(x for x in text.splitlines() if x.startswith("command = ") and "propose" in x)
    edit(project, 'kind = "command"\n' + line, 'kind = "search"')
    refused(project, USAGE, "--proposer command", "mend:", command=("run", "--proposer", "command"))
    assert not (project / ".ratchet").exists()


def test_a_folder_without_a_repository_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    shutil.rmtree(project / ".git")
    for command in (("run",), ("start",)):
        refused(
            project,
            FAILED,
            "no git repository",
            "git init",
            command=command,
            GIT_CEILING_DIRECTORIES=str(tmp_path),
        )
        assert not (project / ".ratchet" / "store.db").exists()
    (project / "ratchet.toml").unlink()
    refused(project, FAILED, "git repository", "mend:", command=("init",), GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert not (project / "ratchet.toml").exists()


def test_a_repository_without_a_commit_is_told_how_to_make_one(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    shutil.rmtree(project / ".git")
    git(project, "init", "-q")
    done = ratchet("run", at=project)
    assert done.returncode == FAILED, done.stderr
    assert "no commit yet" in done.stderr and "git commit" in done.stderr
    assert not (project / ".ratchet").exists()


def test_a_missing_git_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (tmp_path / "bin").mkdir()
    for command in (("run",), ("start",)):
        refused(project, FAILED, "git", "install git", command=command, PATH=str(tmp_path / "bin"))
        assert not (project / ".ratchet" / "store.db").exists()


@pytest.mark.parametrize(
    ("step", "command"),
    [("command", "nosuchprogram train.py"), ("command", "/no/such/python train.py"), ("evaluate", "nosuchjudge")],
)
def test_a_program_that_does_not_exist_is_refused_before_any_run(tmp_path: Path, step: str, command: str) -> None:
    project = make_project(tmp_path)
    if step == "command":
        edit(project, 'command = "python3 train.py"', f'command = "{command}"')
    else:
        edit(project, "train_seconds", f'evaluate = "{command}"\ntrain_seconds')
    refused(project, USAGE, f"[trial] {step}", command.split()[0], "mend:", "path")
    assert not (tmp_path / "runs").exists(), "nothing was run"
    refused(project, USAGE, f"[trial] {step}", "mend:", command=("start",))
    assert ratchet("status", at=project).returncode == NOTHING


@pytest.mark.parametrize(
    "command",
    ["cd . && python3 train.py", "FOO=1 python3 train.py", "exec python3 train.py", "(python3 train.py)"],
)
def test_what_only_a_shell_understands_is_not_taken_for_a_missing_program(tmp_path: Path, command: str) -> None:
    project = make_project(tmp_path, seconds=0.05)
    edit(project, 'command = "python3 train.py"', f'command = "{command}"')
    assert ratchet("run", "--experiments", "0", at=project).returncode == DONE


def test_a_baseline_that_prints_no_metric_ends_a_foreground_run_and_says_why(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    script = project / "train.py"
    script.write_text(script.read_text().replace("val_loss:", "something_else:"))
    git(project, "commit", "-qam", "no metric")
    done = ratchet("run", "--experiments", "2", at=project)
    assert done.returncode == FAILED, done.stdout
    assert "the baseline itself fails: no_metric" in done.stderr and "val_loss" in done.stderr
    assert "mend:" in done.stderr and "ratchet log calibration" in done.stderr
    assert git(project, "status", "--porcelain") == ""
    printed = ratchet("log", "calibration", at=project)
    assert "something_else" in printed.stdout
    # mended, the next run goes on from the mended files
    script.write_text(script.read_text().replace("something_else:", "val_loss:"))
    assert ratchet("run", "--experiments", "1", at=project).returncode == DONE


def test_a_baseline_that_fails_in_its_second_command_ends_a_foreground_run(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    edit(project, 'command = "python3 train.py"', 'command = "python3 train.py && nosuchprogram"')
    done = ratchet("run", at=project)
    assert done.returncode == FAILED
    assert "exited with 127" in done.stderr and "nosuchprogram" in done.stderr


def test_edits_that_reach_no_run_are_refused_before_a_branch_is_made(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / "unused.py").write_text("LEVEL = 1\n")
    git(project, "add", "-A")
    edit(project, 'edit = ["train.py"]', 'edit = ["unused.py"]')
    refused(project, FAILED, "no edit reaches the run", "unused.py", "mend:")


def test_a_file_in_the_way_of_the_state_folder_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / ".ratchet").write_text("in the way")
    for command in (("run",), ("start",)):
        refused(project, FAILED, str(project / ".ratchet"), "mend:", command=command)
    assert (project / ".ratchet").read_text() == "in the way"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    # A read-only mount, because permissions do not stop root.
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && shift && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(project)]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount, and permissions do not stop root")
    before = untouched(project)
    for command in ("run", "start"):
        done = subprocess.run([*unshare, *COMMAND, command], capture_output=True, text=True, check=False)
        assert done.returncode == FAILED, done.stdout + done.stderr
        assert "Read-only file system" in done.stderr and "mend:" in done.stderr
        assert "Traceback" not in done.stderr
    assert untouched(project) == before


def test_a_second_engine_is_refused_and_names_the_first(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    state = project / ".ratchet"
    state.mkdir()
    with (state / "engine.lock").open("a+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        from dataclasses import asdict
        from json import dump

        from engine.lock import Holder, boot_id, this_host

        dump(asdict(Holder(this_host(), boot_id(), os.getpid(), ready=True)), handle)
        handle.flush()
        refused(project, FAILED, f"pid {os.getpid()}", "ratchet stop", "mend:")
        said = refused(project, NOTHING, f"pid {os.getpid()}", "mend:", command=("start",))
        assert "runs already" in said
        refused(project, FAILED, f"pid {os.getpid()}", command=("restore",))
    assert not (state / "store.db").exists()


def test_before_anything_there_is_nothing_to_show_and_the_mend_says_how_to_begin(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    for command in (
        "status",
        "history",
        "show 1",
        "diff 1",
        "log 1",
        "export",
        "accept 1",
        "reject 1",
        "pause",
        "resume",
    ):
        refused(project, NOTHING, "no campaign", "`ratchet run`", command=tuple(command.split()))
    refused(project, NOTHING, "no engine runs here", "`ratchet start`", command=("stop",))
    refused(project, NOTHING, "no store", command=("restore",))
    assert not (project / ".ratchet").exists(), "asking makes nothing"


def test_outside_a_project_the_mend_is_to_make_one(tmp_path: Path) -> None:
    for command in ("status", "run", "start", "stop", "pause", "history", "console"):
        done = ratchet(command, at=tmp_path)
        assert done.returncode == USAGE and "`ratchet init`" in done.stderr, (command, done.stderr)
    done = ratchet("status", str(tmp_path / "nowhere"), at=tmp_path)
    assert done.returncode == USAGE and "does not exist" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--hours", "-1"),
        ("run", "--experiments", "-2"),
        ("start", "--experiments", "many"),
        ("run", "--proposer", "oracle"),
        ("show", "first"),
        ("history", "--last", "0"),
        ("log", "x7"),
        ("export", "--xml"),
    ],
)
def test_arguments_that_make_no_sense_are_bad_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    project = make_project(tmp_path)
    (project / ".ratchet").mkdir()
    from engine.clock import RealClock
    from engine.store.core import Store

    if arguments[0] == "log":  # which has to look at a campaign before it can say no
        assert ratchet("run", "--experiments", "0", at=project).returncode == DONE
    else:
        Store(project / ".ratchet" / "store.db", RealClock()).close()
    refused(project, USAGE, "Error", command=arguments)


def test_without_a_terminal_the_console_names_what_works_without_one(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    for command in ((), ("console",), (str(project),)):
        refused(project, USAGE, "needs a terminal", "`ratchet run`", command=command)
    assert not (project / ".ratchet").exists(), "no engine was started"


def test_a_damaged_store_is_named_and_the_mend_is_restore(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.05)
    assert ratchet("run", "--experiments", "0", at=project).returncode == DONE
    store = project / ".ratchet" / "store.db"
    until(lambda: list(store.parent.glob("backups/*.db")), "the first backup")
    store.write_bytes(b"not a database, " * 4096)
    for name in ("-wal", "-shm"):
        store.with_name(store.name + name).unlink(missing_ok=True)
    for command in ("status", "run", "start"):
        refused(project, FAILED, str(store), "`ratchet restore`", command=(command,))
    done = ratchet("restore", at=project)
    assert done.returncode == DONE and "damaged" in done.stdout
    assert ratchet("status", at=project).returncode == DONE
    assert ratchet("run", "--experiments", "1", at=project).returncode == DONE
