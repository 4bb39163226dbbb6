"""What a person installs: the wheel, in an environment that knows nothing of this folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.project_factory import git

ROOT = Path(__file__).parents[1]
OFFLINE = (
    "Could not find a version",
    "No matching distribution",
    "Failed to establish",
    "Temporary failure",
    "timed out",
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]  # one wheel for all, in one worker


def run(*argv: str | Path, at: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    return subprocess.run(
        [str(word) for word in argv],
        cwd=at,
        env={**clean, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder appears here and nothing ignored is there to be packed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    isolated = [] if importlib.util.find_spec("hatchling") is None else ["--no-build-isolation"]
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip to build a wheel with")
    command = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", *isolated]
    built = run(*command, "--wheel-dir", folder / "dist", source, at=folder)
    if built.returncode and any(sign in built.stdout + built.stderr for sign in OFFLINE):
        pytest.skip("hatchling is not installed and no package index can be reached")
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = (folder / "dist").glob("ratchet_console-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; what the wheel needs is lent by this environment."""
    folder = tmp_path_factory.mktemp("installed")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", at=folder).returncode == 0
    python = folder / "venv" / "bin" / "python"
    done = run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, at=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", at=folder).stdout.strip()
    # addsitedir would carry out this environment's own .pth files, an editable install of this folder among
    # them; a plain path line does not. The wheel's own site-packages comes before it.
    lent = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(site) / "lent.pth").write_text("\n".join(lent) + "\n")
    return folder / "venv" / "bin"


def test_everything_that_is_no_python_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = ["engine/runners/job.sh", "sample_project/.gitignore", "console/recorded/campaign.ratchet"]
    wanted += [str(path.relative_to(ROOT)) for path in (ROOT / "console").rglob("*.tcss")]
    tracked = git(ROOT, "ls-files", "prompts", "sample_project", "engine", "console").splitlines()
    wanted += [name for name in tracked if (ROOT / name).is_file()]
    assert any(name.endswith(".tcss") for name in wanted)
    assert not set(wanted) - names, sorted(set(wanted) - names)
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"console", "engine", "prompts", "sample_project"}, "and no tests, nothing of the repository"
    left = [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".db", ".safetensors"))]
    assert not left, left


def test_the_metadata_says_what_the_project_says(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = archive.read(name).decode()
    assert f"Version: {importlib.metadata.version('ratchet-console')}\n" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in archive.namelist())


def test_the_installed_command_runs_its_own_files(installed: Path, tmp_path: Path) -> None:
    version = run(installed / "ratchet", "--version", at=tmp_path)
    assert version.returncode == 0 and "0." in version.stdout, version.stderr
    where = run(
        installed / "python",
        "-c",
        "import console, engine, prompts; print(console.__file__, engine.__file__)",
        at=tmp_path,
    )
    assert where.returncode == 0, where.stderr
    assert all(Path(file).is_relative_to(installed.parent) for file in where.stdout.split()), where.stdout
    assert run(installed / "ratchet", "--help", at=tmp_path).returncode == 0
    loaded = run(installed / "python", "-c", "import console.app, engine.service", at=tmp_path)
    assert loaded.returncode == 0, loaded.stderr


def test_the_installed_job_script_is_one_that_a_shell_reads(installed: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.resources as r; print(r.files('engine.runners').joinpath('job.sh').read_text(), end='')"
    )
    script = run(installed / "python", "-c", program, at=tmp_path)
    assert script.stdout == (ROOT / "engine" / "runners" / "job.sh").read_text()
    (tmp_path / "job.sh").write_text(script.stdout)
    assert run("sh", "-n", tmp_path / "job.sh", at=tmp_path).returncode == 0


def test_demo_prepares_the_sample_project_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    program = "import pathlib, console.commands.demo as demo; demo.prepare(pathlib.Path('demo').resolve())"
    done = run(installed / "python", "-c", program, at=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "demo"
    for name in git(ROOT, "ls-files", "sample_project").splitlines():
        mine = project / name.removeprefix("sample_project/")
        if mine.name != "ratchet.toml":  # which names the interpreter
            assert mine.read_bytes() == (ROOT / name).read_bytes(), name
    assert str(installed) in (project / "ratchet.toml").read_text()
    assert git(project, "status", "--porcelain") == "", "data and caches are ignored by the project's own rules"
    assert run(installed / "ratchet", "status", at=project).returncode == 3, "nothing was run yet"
