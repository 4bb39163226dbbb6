"""Other people's projects, unchanged: `ratchet init && ratchet run --experiments 3`, and the checkout after it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.engine.engine_process import query
from tests.project_factory import git

pytestmark = pytest.mark.slow

PREPARE = '''
"""One-time data preparation and the fixed evaluation."""
import math

TIME_BUDGET = 300

def evaluate_bpb(model):
    return model()
'''

TRAIN = '''
"""Autoresearch's shape: constants on top, a carriage-return progress line, a final block."""
import os, random, time
from prepare import evaluate_bpb, TIME_BUDGET

LEARNING_RATE = 0.01    # peak learning rate
WEIGHT_DECAY = 0.2      # cautious weight decay
DEPTH = 8               # number of layers

random.seed(int(os.environ.get("RATCHET_SEED", 42)))
start = time.time()
for step in range(8):
    loss = 3.0 - 0.1 * step
    print(f"\\rstep {step:05d} ({100 * step / 8:.1f}%) | loss: {loss:.6f} | lrm: 1.00 | dt: 20ms | "
          f"tok/sec: 1,638,400 | mfu: 40.1% | epoch: 1 | remaining: {8 - step}s    ", end="", flush=True)
    time.sleep(0.02)
print()
val_bpb = evaluate_bpb(lambda: 1.0 + abs(LEARNING_RATE - 0.04) + random.gauss(0, 0.001))
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {time.time() - start:.1f}")
print(f"total_seconds:    {time.time() - start:.1f}")
print("peak_vram_mb:     0.0")
print("num_steps:        8")
print(f"depth:            {DEPTH}")
'''


def ratchet(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console.cli", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


def fingerprint(project: Path, *but: str) -> dict[str, str]:
    """Every file of the checkout, and of .git what is the user's: HEAD, index, their own refs, config."""
    found = {}
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project).as_posix()
        if name.startswith((".git/", ".ratchet")) or name in (".git", *but) or not path.is_file():
            continue
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() + oct(path.stat().st_mode)
    for name in ("HEAD", "index", "config"):
        found[f".git/{name}"] = hashlib.sha256((project / ".git" / name).read_bytes()).hexdigest()
    refs = git(project, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    found["refs"] = "\n".join(r for r in refs if "/ratchet/" not in r)
    return found


def test_a_project_in_autoresearchs_format_works_unchanged(tmp_path: Path) -> None:
    project = tmp_path / "autoresearch"
    project.mkdir()
    (project / "prepare.py").write_text(PREPARE.lstrip())
    (project / "train.py").write_text(TRAIN.lstrip())
    (project / "program.md").write_text("# autoresearch\n\nModify train.py only.\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "their project")
    (project / "notes.txt").write_text("not committed, and mine")
    before = fingerprint(project)
    made = ratchet("init", cwd=project)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "autoresearch" in made.stdout and "train.py: reached" in made.stdout
    assert fingerprint(project, "ratchet.toml") == before
    done = ratchet("run", "--experiments", "3", "--seed", "3", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert fingerprint(project, "ratchet.toml") == before, "the user's checkout is byte-identical"
    experiments = query(project, "SELECT verdict FROM experiment")
    assert len(experiments) == 3
    outcomes = query(project, "SELECT outcome, COUNT(*) FROM trial GROUP BY outcome")
    print(f"3 experiments {[v for (v,) in experiments]}, trials {outcomes}; checkout byte-identical")
    assert {o for o, _ in outcomes} <= {"ok", "cancelled"}


def test_a_src_package_installed_editable_measures_the_candidate_not_the_checkout(tmp_path: Path) -> None:
    """The user's environment imports their checkout; every candidate would silently equal the baseline."""
    project = tmp_path / "pkgproject"
    package = project / "src" / "pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(
        textwrap.dedent(
            """
            import os, random
            RATE = 0.01
            def main():
                rng = random.Random(int(os.environ["RATCHET_SEED"]))
                print(f"---\\nval_loss: {1 + abs(RATE - 0.04) + rng.gauss(0, 0.0001):.6f}")
            if __name__ == "__main__":
                main()
            """
        )
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True)
    site = next((project / ".venv" / "lib").glob("python*/site-packages"))
    # What `pip install -e` leaves for a src layout: a path file into the checkout.
    (site / "__editable__.pkg-0.1.pth").write_text(f"{project / 'src'}\n")
    (project / ".gitignore").write_text(".venv/\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "package")
    made = ratchet("init", "--command", ".venv/bin/python -m pkg.train", "--metric", "val_loss", cwd=project)
    if made.returncode != 0:  # a relative interpreter is no file of the archive: it must be said, with the mend
        made = ratchet("init", "--command", "python -m pkg.train", "--metric", "val_loss", cwd=project)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "src/pkg/train.py: reached" in made.stdout
    done = ratchet("run", "--experiments", "2", "--seed", "3", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    base = query(project, "SELECT AVG(score) FROM trial WHERE purpose = 'calibrate'")[0][0]
    screens = query(project, "SELECT score FROM trial WHERE purpose = 'screen'")
    assert screens and all(abs(score - base) > 0.001 for (score,) in screens), (base, screens)
    print(f"baseline {base:.4f}, candidates {[round(s, 4) for (s,) in screens]}: none equals it")
