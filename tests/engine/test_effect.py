"""Proof of effect: which edits reach the run, what is imported instead, and what would mend it."""

from __future__ import annotations

import ast
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.clock import RealClock
from engine.config import parse
from engine.effect import CommandResult, mark, module_names, prove, refusal
from engine.effect_run import interpreter_of, prove_checkout

TRAIN = "import {module}\nprint('val_loss:', {module}.LR)\n"


@pytest.fixture(scope="session")
def bare_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder


def site_packages(environment: Path) -> Path:
    return next(environment.glob("lib/python3*/site-packages"))


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def config(command: str, edit: str, python: Path | None = None, more: str = ""):  # type: ignore[no-untyped-def]
    path = f'path = ["{python / "bin"}"]\n' if python else ""
    return parse(
        f'[project]\nedit = {edit}\n[environment]\n{path}{more}\n[metric]\nname = "val_loss"\n'
        f"[trial]\ncommand = '''{command}'''\n"
    )


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


async def test_a_script_and_what_it_imports_are_reached_and_the_project_is_untouched(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": TRAIN.format(module="model"), "model.py": "LR = 1\n", "unused.py": "x = 1\n"})
    before = contents(tmp_path)
    effects = await prove_checkout(config("python train.py", '["*.py"]'), tmp_path, RealClock())
    assert {effect.path: effect.reached for effect in effects} == {
        "model.py": True,
        "train.py": True,
        "unused.py": False,
    }
    unused = effects[-1]
    assert "without running it" in unused.evidence and "[project] edit" in unused.mend
    assert refusal(effects) is None
    assert contents(tmp_path) == before


async def test_python_dash_m_finds_a_package_in_the_root_and_in_src(tmp_path: Path) -> None:
    for root, name in (("flat", "pkg"), ("nested", "src/pkg")):
        write(tmp_path / root, {f"{name}/__init__.py": "", f"{name}/train.py": "print('val_loss: 1')\n"})
        effects = await prove_checkout(
            config("python -m pkg.train", f'["{name}/train.py"]'), tmp_path / root, RealClock()
        )
        assert [effect.reached for effect in effects] == [True], effects


# --- a package that is installed editable from the user's checkout -------------------------------


def setuptools_pth(site: Path, checkout: Path, source: str) -> None:
    """What ``pip install -e`` writes for a src layout: one line that adds the checkout's directory."""
    (site / "__editable__.pkg-0.1.pth").write_text(f"{checkout / source}\n")
    record(site, checkout)


def setuptools_finder(site: Path, checkout: Path, source: str) -> None:
    """What setuptools writes when a package is mapped to a directory: a finder *appended* to meta_path."""
    (site / "__editable___pkg_0_1_finder.py").write_text(
        "import sys\nfrom importlib.util import spec_from_file_location\nfrom pathlib import Path\n"
        f"MAPPING = {{'pkg': {str(checkout / source / 'pkg')!r}}}\n"
        "class _EditableFinder:\n"
        "    @classmethod\n"
        "    def find_spec(cls, fullname, path=None, target=None):\n"
        "        if fullname in MAPPING:\n"
        "            return spec_from_file_location(fullname, Path(MAPPING[fullname], '__init__.py'))\n"
        "def install():\n"
        "    sys.meta_path.append(_EditableFinder)\n"
    )
    (site / "__editable__.pkg-0.1.pth").write_text(
        "import __editable___pkg_0_1_finder; __editable___pkg_0_1_finder.install()\n"
    )
    record(site, checkout)


def eager_finder(site: Path, checkout: Path, source: str) -> None:
    """As scikit-build-core and meson-python do: a finder put *before* the path's own."""
    setuptools_finder(site, checkout, source)
    finder = site / "__editable___pkg_0_1_finder.py"
    finder.write_text(finder.read_text().replace("append(_EditableFinder)", "insert(0, _EditableFinder)"))


def record(site: Path, checkout: Path) -> None:
    info = site / "pkg-0.1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pkg\nVersion: 0.1\n")
    (info / "direct_url.json").write_text(f'{{"dir_info": {{"editable": true}}, "url": "file://{checkout}"}}')


@pytest.fixture
def editable_venv(bare_venv: Path):  # type: ignore[no-untyped-def]
    yield bare_venv
    for leftover in site_packages(bare_venv).iterdir():
        if leftover.is_dir():
            for file in leftover.iterdir():
                file.unlink()
            leftover.rmdir()
        else:
            leftover.unlink()


PACKAGE = {"{0}/pkg/__init__.py": "", "{0}/pkg/model.py": "LR = 1\n"}


def package(root: Path, source: str) -> Path:
    write(root, {path.format(source): text for path, text in PACKAGE.items()})
    write(root, {"train.py": "import pkg.model\nprint('val_loss:', pkg.model.LR)\n"})
    return root


@pytest.mark.parametrize("install", [setuptools_pth, setuptools_finder])
async def test_an_editable_install_of_a_src_package_is_beaten_by_the_candidate_s_own_src(
    tmp_path: Path, editable_venv: Path, install
) -> None:  # type: ignore[no-untyped-def]
    project = package(tmp_path / "project", "src")
    install(site_packages(editable_venv), project, "src")
    # It is there, and without us it wins:
    bare = subprocess.run(
        [editable_venv / "bin" / "python", "-c", "import pkg.model; print(pkg.model.__file__)"],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    assert bare.stdout.strip() == str(project / "src/pkg/model.py")
    effects = await prove_checkout(
        config("python train.py", '["src/pkg/model.py"]', editable_venv), project, RealClock()
    )
    assert [(effect.path, effect.reached) for effect in effects] == [("src/pkg/model.py", True)], effects


@pytest.mark.parametrize("install", [setuptools_pth, setuptools_finder])
async def test_one_of_another_layout_is_found_named_and_mended(
    tmp_path: Path, editable_venv: Path, install
) -> None:  # type: ignore[no-untyped-def]
    project = package(tmp_path / "project", "lib/python")
    install(site_packages(editable_venv), project, "lib/python")
    (effect,) = await prove_checkout(
        config("python train.py", '["lib/python/pkg/model.py"]', editable_venv), project, RealClock()
    )
    assert not effect.reached
    assert effect.imported_from == str(project / "lib/python/pkg/model.py")
    assert "installed editable as pkg" in effect.evidence
    assert effect.python_path == "lib/python" and "PYTHONPATH" in effect.mend
    assert "no edit reaches the run" in (refusal([effect]) or "")
    mended = config(
        "python train.py",
        '["lib/python/pkg/model.py"]',
        editable_venv,
        f'set = {{ PYTHONPATH = "{effect.python_path}" }}',
    )
    assert [effect.reached for effect in await prove_checkout(mended, project, RealClock())] == [True]


async def test_one_whose_hook_comes_before_the_path_is_refused_by_name(
    tmp_path: Path, editable_venv: Path
) -> None:
    project = package(tmp_path / "project", "src")
    eager_finder(site_packages(editable_venv), project, "src")
    effects = await prove_checkout(
        config("python train.py", '["src/pkg/model.py"]', editable_venv), project, RealClock()
    )
    assert not effects[0].reached and effects[0].imported_from == str(project / "src/pkg/model.py")
    assert "install pkg without -e" in (refusal(effects) or "")


async def test_a_console_script_of_an_editable_package_is_followed_to_its_python(
    tmp_path: Path, editable_venv: Path
) -> None:
    project = package(tmp_path / "project", "lib")
    setuptools_pth(site_packages(editable_venv), project, "lib")
    (project / "lib/pkg/cli.py").write_text("import pkg.model\ndef main():\n    print('val_loss: 1')\n")
    script = editable_venv / "bin" / "pkg-train"
    script.write_text(f"#!{editable_venv}/bin/python\nfrom pkg.cli import main\nmain()\n")
    script.chmod(0o755)
    effects = await prove_checkout(config("pkg-train --x 1", '["lib/**"]', editable_venv), project, RealClock())
    assert not any(effect.reached for effect in effects)
    assert {effect.python_path for effect in effects if effect.path.endswith("model.py")} == {"lib"}
    script.unlink()


async def test_an_isolated_python_is_told_apart(tmp_path: Path, editable_venv: Path) -> None:
    project = package(tmp_path / "project", "src")
    setuptools_pth(site_packages(editable_venv), project, "src")
    (effect,) = await prove_checkout(
        config("python -I train.py", '["src/pkg/model.py"]', editable_venv), project, RealClock()
    )
    assert not effect.reached and "without -I" in effect.mend


# --- what the command does instead --------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "mend"),
    [
        ("import a_module_that_is_not_there\n", "install a_module_that_is_not_there"),
        ("open('data/x.bin')\n", "[data] link"),
        ("raise SystemExit('no device')\n", "fresh clone"),
    ],
)
async def test_a_command_that_fails_on_its_own_is_not_taken_for_proof(
    tmp_path: Path, script: str, mend: str
) -> None:
    write(tmp_path, {"train.py": script + "import model\n", "model.py": "LR = 1\n"})
    (effect,) = await prove_checkout(config("python train.py", '["model.py"]'), tmp_path, RealClock())
    assert not effect.reached and "failed" in effect.evidence
    assert mend in effect.mend, effect


async def test_a_program_that_does_not_exist_is_said_so(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": ""})
    (effect,) = await prove_checkout(config("no-such-program train.py", '["train.py"]'), tmp_path, RealClock())
    assert not effect.reached and "PATH" in effect.mend


async def test_an_endless_run_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train.py": "import subprocess, pathlib, time\n"
            "p = subprocess.Popen(['sleep', '600'])\n"
            f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(p.pid))\n"
            "time.sleep(600)\n",
            "model.py": "LR = 1\n",
        },
    )
    (effect,) = await prove_checkout(config("python train.py", '["model.py"]'), tmp_path, RealClock(), limit=1.5)
    assert "time limit" in effect.evidence
    child = Path("/proc") / (tmp_path / "pid").read_text()
    state = (child / "stat").read_text().rsplit(")", 1)[1].split()[0] if child.exists() else "gone"
    assert state in ("gone", "Z"), state


# --- the parts ---------------------------------------------------------------------------------


async def test_files_that_are_not_python_are_unproven_and_refuse_nothing() -> None:
    async def never(_: Mapping[str, bytes]) -> CommandResult:
        raise AssertionError("nothing to run")

    effects = await prove({"conf/a.yaml": b"lr: 1"}, ["conf/*.yaml"], never)
    assert [(effect.unproven, effect.reached) for effect in effects] == [(True, False)]
    assert refusal(effects) is None


async def test_an_error_that_the_command_swallows_still_shows_the_edit_was_run() -> None:
    async def run(files: Mapping[str, bytes]) -> CommandResult:
        done = subprocess.run([sys.executable, "-c", b"try:\n exec(open(0).read())\nexcept Exception: pass"],
                              input=files["a.py"], capture_output=True, check=False)  # fmt: skip
        return CommandResult(done.returncode, done.stderr.decode())

    (effect,) = await prove({"a.py": b"x = 1\n"}, ["a.py"], run)
    assert effect.reached and "caught" in effect.evidence


async def test_many_files_cost_a_bounded_number_of_runs() -> None:
    runs = 0

    async def run(files: Mapping[str, bytes]) -> CommandResult:
        nonlocal runs
        runs += 1
        output = ""
        for path in sorted(files):
            first = files[path].decode().splitlines()[0]
            if "ratchet-effect" in first:
                output += first
                if "raise" in first:
                    return CommandResult(1, output)
        return CommandResult(0, output)

    files = {f"m{index:02}.py": b"x = 1\n" for index in range(40)}
    effects = await prove(files, ["*.py"], run)
    assert all(effect.reached for effect in effects) and len(effects) == 40
    assert runs == 7


@pytest.mark.parametrize(
    "source",
    [
        b"x = 1\n",
        b"",
        b'"""doc"""',
        b'"""doc\nmore"""\nfrom __future__ import annotations\nimport os\n',
        b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
        b"#!/usr/bin/env python\n# coding: utf-8\nx = 1\n",
        b"\xef\xbb\xbfx = 1\r\ny = 2\r\n",
        b"from __future__ import (\n    annotations,\n    division,\n)\n",
    ],
)
def test_the_marker_is_the_first_thing_that_runs_and_the_file_still_compiles(
    source: bytes, tmp_path: Path
) -> None:
    changed = mark(source, "THE-MARKER", True)
    (tmp_path / "x.py").write_bytes(changed)
    done = subprocess.run([sys.executable, tmp_path / "x.py"], capture_output=True, check=False)
    assert done.returncode == 1 and done.stderr.count(b"THE-MARKER") >= 2
    body = ast.parse(changed).body
    assert len(body) == len(ast.parse(source).body) + 2


def test_module_names_are_tried_from_the_longest() -> None:
    assert module_names("lib/my-src/pkg/sub/__init__.py") == [
        ("pkg.sub", "lib/my-src"),
        ("sub", "lib/my-src/pkg"),
    ]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python train.py", ["python"]),
        ("CUDA=1 OMP=2 .venv/bin/python3.11 -u -I -m x", [".venv/bin/python3.11", "-u", "-I"]),
        ("cd x && uv run train.py", ["uv", "run", "python"]),
        ("timeout 10 nice -n 3 python -O t.py", ["python", "-O"]),
    ],
)
def test_the_command_s_python_is_recognised(command: str, expected: list[str], tmp_path: Path) -> None:
    assert interpreter_of(command, "/usr/bin", tmp_path) == expected
