"""Small real projects for tests: a training script of a fraction of a second, in a real git repository."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

TRAIN = """
import hashlib, os, random, sys, time
LEVEL = 10  # lower is better; a proposal that decrements it is a true gain
SECONDS = {seconds}

def main():
    seed = int(os.environ["RATCHET_SEED"])
    rng = random.Random(f"{{LEVEL}}/{{seed}}")
    runs = os.environ.get("RUNS")
    me = hashlib.sha256(open(__file__, "rb").read()).hexdigest()[:12]
    def note(what):
        if runs:
            with open(runs, "a") as file:
                file.write(f"{{what}} {{me}} {{seed}} {{os.getpid()}}\\n")
    note("start")
    for step in range(5):
        print(f"METRIC loss={{LEVEL + rng.gauss(0, 0.01):.5f}} step={{step}}", flush=True)
        time.sleep(SECONDS / 5)
    print(f"---\\nval_loss: {{LEVEL + rng.gauss(0, 0.01):.6f}}", flush=True)
    note("end")

if __name__ == "__main__":
    main()
"""

# A proposer that needs no optuna: gains and losses in turn.
PROPOSE = """
import os, re, pathlib
number = int(os.environ["RATCHET_EXPERIMENT"])
path = pathlib.Path("train.py")
text = path.read_text()
level = float(re.search(r"LEVEL = ([-0-9.]+)", text)[1])
new = level - 1 - number / 1000 if number % 2 else level + 1 + number / 1000
path.write_text(re.sub(r"LEVEL = [-0-9.]+", f"LEVEL = {new:g}", text))
print("HYPOTHESIS: the level matters")
print(f"TITLE: LEVEL {level:g} -> {new:g}")
"""

CONFIG = """
[project]
edit = ["train.py"]
frozen = []
context = []
[environment]
set = {{ RUNS = "{runs}" }}
[metric]
name = "val_loss"
[trial]
command = "python3 train.py"
train_seconds = 5
timeout_seconds = 30
[judge]
{judge}
[proposer]
kind = "command"
command = "python3 {propose}"
drafts = 1
[review]
mode = "{review}"
[sandbox]
require = []
[[hosts]]
slots = 2
"""


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=T", "-c", "user.email=t@localhost", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
    )
    return done.stdout.strip()


def make_project(
    folder: Path,
    *,
    seconds: float = 0.2,
    judge: str = 'mode = "single"\ncalibrate_seeds = 1',
    review: str = "auto",
    config: str = "",
) -> Path:
    """A project at ``folder``/project; its runs are noted in ``folder``/runs, a line a start and an end."""
    project = folder / "project"
    project.mkdir(parents=True)
    (project / "train.py").write_text(textwrap.dedent(TRAIN.format(seconds=seconds)).lstrip())
    (folder / "propose.py").write_text(PROPOSE)
    text = CONFIG.format(runs=folder / "runs", judge=judge, propose=folder / "propose.py", review=review)
    (project / "ratchet.toml").write_text(text + config)
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "start")
    return project


def runs(folder: Path) -> list[tuple[str, str, int, int]]:
    """(start or end, program, seed, pid) of every run so far."""
    path = folder / "runs"
    if not path.exists():
        return []
    rows = [line.split() for line in path.read_text().splitlines()]
    return [(r[0], r[1], int(r[2]), int(r[3])) for r in rows]
