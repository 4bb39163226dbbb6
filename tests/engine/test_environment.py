"""What a trial finds around it: never a key, always the candidate first (TRUST.md rows 12 and 19)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.clock import RealClock
from engine.config import Config, parse
from engine.environment import (
    EnvironmentPaths,
    data_links,
    ensure_environment,
    remove_environment,
    split_place,
    trial_environment,
)
from engine.errors import RatchetError

CANARY = "canary-7c1e"


def config(more: str = "", trial: str = "") -> Config:
    return parse(f'[metric]\nname = "loss"\n[trial]\ncommand = "python train.py"\n{trial}\n{more}\n')


def environment(
    tmp_path: Path, more: str = "", trial: str = "", base: dict[str, str] | None = None
) -> dict[str, str]:
    base = {"PATH": "/usr/bin", **(base or {})}
    return trial_environment(
        config(more, trial), tmp_path, Path("/trial/work"), 42, {"CUDA_VISIBLE_DEVICES": "G"}, base
    )


def test_a_trial_is_told_its_seed_budget_and_places(tmp_path: Path) -> None:
    given = environment(tmp_path)
    assert given["RATCHET_SEED"] == "42"
    assert given["RATCHET_TIME_BUDGET"] == "300"
    assert given["RATCHET_TRIAL_DIR"] == "/trial/work"
    assert given["RATCHET_METRICS"] == "/trial/work/metrics.jsonl"
    assert given["CUDA_VISIBLE_DEVICES"] == "G"
    assert given["PYTHONUNBUFFERED"] == "1"
    assert "RATCHET_STEPS" not in given
    assert environment(tmp_path, trial="steps = 12")["RATCHET_STEPS"] == "12"
    assert (
        environment(tmp_path, trial="train_seconds = 1e6\ntimeout_seconds = 2e6")["RATCHET_TIME_BUDGET"]
        == "1000000"
    )


SECRETS = """ANTHROPIC_API_KEY ANTHROPIC_BASE_URL HF_TOKEN WANDB_API_KEY AWS_SECRET_ACCESS_KEY GITHUB_TOKEN
SSH_AUTH_SOCK OPENAI_ORG DB_PASSWORD XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS SOMETHING_NEW"""


@pytest.mark.parametrize("name", SECRETS.split())
def test_no_secret_and_nothing_unknown_passes(tmp_path: Path, name: str) -> None:
    assert CANARY not in str(environment(tmp_path, base={name: CANARY}))


@pytest.mark.parametrize(
    "name", ["LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_HOME", "SSL_CERT_FILE", "CONDA_PREFIX"]
)
def test_what_software_needs_to_start_passes(tmp_path: Path, name: str) -> None:
    assert environment(tmp_path, base={name: CANARY})[name] == CANARY


def test_further_variables_pass_by_name_or_are_set_with_placeholders(tmp_path: Path) -> None:
    given = environment(
        tmp_path,
        '[environment]\npass = ["NCCL_DEBUG"]\nset = { RUN = "s{seed} {{seed}}", OUT = "{out}/x" }',
        base={"NCCL_DEBUG": "INFO", "NCCL_OTHER": "1"},
    )
    assert given["NCCL_DEBUG"] == "INFO" and "NCCL_OTHER" not in given
    assert given["RUN"] == "s42 {seed}" and given["OUT"] == "/trial/work/x"


def test_the_candidate_comes_first_on_the_python_path_and_the_checkout_never(tmp_path: Path) -> None:
    assert environment(tmp_path)["PYTHONPATH"] == "/trial/work:/trial/work/src"
    given = environment(
        tmp_path,
        '[environment]\npass = ["PYTHONPATH"]',
        base={"PYTHONPATH": f"{tmp_path}/lib:/opt/shared:{tmp_path}"},
    )
    assert given["PYTHONPATH"] == "/trial/work:/trial/work/src:/trial/work/lib:/opt/shared"
    assert str(tmp_path) not in given["PYTHONPATH"]
    assert environment(tmp_path, '[environment]\nset = { PYTHONPATH = "lib" }')["PYTHONPATH"].endswith(
        ":/trial/work/lib"
    )


def test_the_project_s_own_environment_comes_first_on_path_and_is_named(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    given = environment(tmp_path, '[environment]\npath = [".venv/bin"]')
    assert given["PATH"] == f"{tmp_path}/.venv/bin:/usr/bin"
    assert given["VIRTUAL_ENV"] == f"{tmp_path}/.venv"
    assert "UV_NO_SYNC" not in given
    (tmp_path / "uv.lock").touch()
    given = environment(tmp_path)
    assert given["UV_PROJECT_ENVIRONMENT"] == f"{tmp_path}/.venv" and given["UV_NO_SYNC"] == "1"


def test_hash_order_follows_the_seed_and_nothing_else(tmp_path: Path) -> None:
    code = "print(hash('a'))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_ignored_data_is_linked_where_the_script_looks_for_it(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    (home / ".cache" / "corpus").mkdir(parents=True)
    (project / "data").mkdir(parents=True)
    links = data_links(
        config(
            '[data]\ntrain = ["data/"]\nholdout = ["x"]\n'
            'link = ["./data", "~/.cache/corpus", "/absolute", "absent"]'
        ),
        project,
        home,
    )
    assert links == {"data": f"{project}/data", "../home/.cache/corpus": f"{home}/.cache/corpus"}
    assert [split_place(place) for place in links] == [("work", "data"), ("home", ".cache/corpus")]


# --- building ------------------------------------------------------------------------------------


SETUP = """mkdir -p "$VIRTUAL_ENV/bin" && cp lock.txt "$VIRTUAL_ENV/" && echo built >> {count} && touch x"""


async def test_setup_runs_once_for_each_content_of_the_lock_file_and_outside_the_project(
    tmp_path: Path,
) -> None:
    project, state, count = tmp_path / "project", tmp_path / "state", tmp_path / "count"
    project.mkdir()
    (project / "lock.txt").write_text("one")
    wanted = config(f"[environment]\nkey = [\"lock.txt\"]\nsetup = '''{SETUP.format(count=count)}'''")
    first = await ensure_environment(wanted, project, state, RealClock())
    again = await ensure_environment(wanted, project, state, RealClock())
    assert first == again and count.read_text() == "built\n"
    venv = state / "environments" / first.key / "venv"
    assert first.path == (str(venv / "bin"),)
    assert dict(first.variables)["UV_PROJECT_ENVIRONMENT"] == str(venv)
    assert (venv / "lock.txt").stat().st_mode & 0o222 == 0, "read-only for every trial"
    assert sorted(path.name for path in project.iterdir()) == ["lock.txt"]
    (project / "lock.txt").write_text("two")
    other = await ensure_environment(wanted, project, state, RealClock())
    assert other.key != first.key and count.read_text() == "built\nbuilt\n"
    given = trial_environment(wanted, project, Path("/w"), 1, {}, {"PATH": "/usr/bin"}, other)
    assert given["PATH"].startswith(other.path[0]) and given["VIRTUAL_ENV"] == str(
        venv.parent.parent / other.key / "venv"
    )
    remove_environment(state / "environments" / first.key)
    assert not venv.exists()


async def test_a_setup_that_was_cut_short_is_done_again_and_one_that_fails_shows_its_end(
    tmp_path: Path,
) -> None:
    project, state = tmp_path / "project", tmp_path / "state"
    project.mkdir()
    broken = config("[environment]\nsetup = 'echo half > half; echo no network; exit 3'")
    with pytest.raises(RatchetError, match=r"ended with 3(?s:.*)no network") as caught:
        await ensure_environment(broken, project, state, RealClock())
    assert ".log" in caught.value.mend
    with pytest.raises(RatchetError, match="no network"):  # nothing of the first attempt is taken for whole
        await ensure_environment(broken, project, state, RealClock())


async def test_without_a_setup_nothing_is_built(tmp_path: Path) -> None:
    assert await ensure_environment(config(), tmp_path, tmp_path / "s", RealClock()) == EnvironmentPaths()
    assert not (tmp_path / "s").exists()
    with pytest.raises(RatchetError, match=r"no file matches \"uv.lock\""):
        await ensure_environment(
            config('[environment]\nkey = ["uv.lock"]\nsetup = "true"'), tmp_path, tmp_path / "s", RealClock()
        )
