"""The figures in README.md, measured again: ``python measure.py --seeds 8 --jobs 2``.

Runs the baseline and single changes of train.py in copies of this folder, ``--jobs`` at a time with one
core and one thread each, as a campaign does, over the same seeds; prints the noise of one run, how much of
it a shared seed explains, what each change is worth, and how the wall time divides. Results are kept as
JSON lines in ``--out``; a run that is already there is not done again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("prepare.py", "train.py", "evaluate.py")

# Name -> (text, its replacement) pairs in train.py; each must occur exactly once.
CHANGES: dict[str, list[tuple[str, str]]] = {
    "baseline": [],
    "LEARNING_RATE x2": [("LEARNING_RATE = 1e-3", "LEARNING_RATE = 2e-3")],
    "LEARNING_RATE x4": [("LEARNING_RATE = 1e-3", "LEARNING_RATE = 4e-3")],
    "INIT_STD 0.05": [("INIT_STD = 0.02", "INIT_STD = 0.05")],
    "WARMUP_RATIO 0.02": [("WARMUP_RATIO = 0.2", "WARMUP_RATIO = 0.02")],
    "WARMDOWN_RATIO 0.5": [("WARMDOWN_RATIO = 0.2", "WARMDOWN_RATIO = 0.5")],
    "BATCH_SIZE 4": [("BATCH_SIZE = 8", "BATCH_SIZE = 4")],
    "DEPTH 2": [("DEPTH = 3", "DEPTH = 2")],
    "MLP_RATIO 2": [("MLP_RATIO = 4.0", "MLP_RATIO = 2.0")],
    "WEIGHT_DECAY 0.01": [("WEIGHT_DECAY = 0.1", "WEIGHT_DECAY = 0.01")],
    "BETA2 0.95": [("BETA2 = 0.999", "BETA2 = 0.95")],
    "rmsnorm + relu^2": [
        ("self.norm_attention = nn.LayerNorm(dim, bias=False)", "self.norm_attention = nn.RMSNorm(dim)"),
        ("self.norm_mlp = nn.LayerNorm(dim, bias=False)", "self.norm_mlp = nn.RMSNorm(dim)"),
        ("self.norm = nn.LayerNorm(shape.model_dim, bias=False)", "self.norm = nn.RMSNorm(shape.model_dim)"),
        ("F.gelu(self.mlp_in(self.norm_mlp(x)))", "F.relu(self.mlp_in(self.norm_mlp(x))).square()"),
    ],
}


def changed(name: str, source: str) -> str:
    for old, new in CHANGES[name]:
        if source.count(old) != 1:
            sys.exit(f"{name}: {old!r} occurs {source.count(old)} times in train.py, expected once")
        source = source.replace(old, new)
    return source


def run(name: str, seed: int, core: int | None) -> dict[str, float | str]:
    """One trial: train, then evaluate, on one core. Times are seconds of wall clock, imports included."""
    pin = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    data = os.environ.get("RATCHET_DATA") or str(HERE / "data")
    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            shutil.copy(HERE / file, folder)
        train = Path(folder, "train.py")
        train.write_text(changed(name, train.read_text()))
        given = os.environ | {
            "RATCHET_SEED": str(seed),
            "RATCHET_DATA": data,
            "RATCHET_TRIAL_DIR": folder,
            "OMP_NUM_THREADS": "1",
        }
        begun = time.perf_counter()
        for step in (["train.py"], ["-I", "evaluate.py"]):
            done = subprocess.run(
                [*pin, sys.executable, *step], cwd=folder, env=given, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"{name}, seed {seed}: {step[-1]} exited with {done.returncode}\n{done.stderr}")
        wall = time.perf_counter() - begun
        printed = dict(re.findall(r"^(\w+): +(\S+)$", done.stdout, re.M))
        return {
            "name": name,
            "seed": seed,
            "val_bpb": float(printed["val_bpb"]),
            "training_seconds": float(printed["training_seconds"]),
            "eval_seconds": float(printed["eval_seconds"]),
            "wall_seconds": wall,
            "load": os.getloadavg()[0],
        }


def correlation(a: list[float], b: list[float]) -> float:
    return statistics.correlation(a, b) if len(a) > 2 and len(set(a)) > 1 and len(set(b)) > 1 else math.nan


def report(rows: list[dict[str, float | str]], names: list[str]) -> None:
    """``rows`` may be incomplete: a change is compared with the baseline on the seeds that both have run."""

    def column(name: str, key: str) -> dict[float, float]:
        return {float(row["seed"]): float(row[key]) for row in rows if row["name"] == name}

    base = column("baseline", "val_bpb")
    scores = [base[seed] for seed in sorted(base)]
    sigma = statistics.stdev(scores)
    print(f"\nbaseline: {statistics.mean(scores):.4f} bits per byte, sigma {sigma:.4f} (n = {len(scores)})")
    print(f"  scores: {' '.join(f'{value:.4f}' for value in scores)}")
    wall = list(column("baseline", "wall_seconds").values())
    trained = list(column("baseline", "training_seconds").values())
    print(
        f"wall time of a trial: median {statistics.median(wall):.1f} s ({min(wall):.1f} to {max(wall):.1f});"
        f" not training: {1 - sum(trained) / sum(wall):.0%};"
        f" load average at most {max(float(row['load']) for row in rows):.1f}"
    )
    print("\n| change | n | bits per byte | sd | gain | in sigma | better on | correlation with baseline |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        theirs = column(name, "val_bpb")
        seeds = sorted(base.keys() & theirs.keys())
        if name == "baseline" or len(seeds) < 2:
            continue
        ours, changed_scores = [base[s] for s in seeds], [theirs[s] for s in seeds]
        gains = [b - s for b, s in zip(ours, changed_scores, strict=True)]
        gain = statistics.mean(gains)
        print(
            f"| {name} | {len(seeds)} | {statistics.mean(changed_scores):.4f} |"
            f" {statistics.stdev(changed_scores):.4f} | {gain:+.4f} | {gain / sigma:+.1f} |"
            f" {sum(g > 0 for g in gains)} of {len(gains)} | {correlation(ours, changed_scores):+.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="seeds 0 .. N-1 of each variant")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time, one core each")
    parser.add_argument("--changes", default=",".join(CHANGES), help="comma-separated; the baseline is always run")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "measured.jsonl", help="kept results")
    options = parser.parse_args()
    names = ["baseline", *(n for n in options.changes.split(",") if n != "baseline")]
    if unknown := [name for name in names if name not in CHANGES]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(CHANGES)}")
    subprocess.run([sys.executable, str(HERE / "prepare.py")], check=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    # Scores of another train.py, prepare.py or evaluate.py are other scores.
    version = hash_of(FILES)
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    rows = [row for row in rows if row["version"] == version and row["seed"] < options.seeds]
    done = {(row["name"], row["seed"]) for row in rows}
    wanted = [(n, s) for n in names for s in range(options.seeds) if (n, s) not in done]
    cores: queue.Queue[int | None] = queue.Queue()
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for job in range(options.jobs):
        cores.put(available[job % len(available)] if available else None)

    def one(task: tuple[str, int]) -> dict[str, float | str]:
        core = cores.get()
        try:
            return run(*task, core) | {"version": version}
        finally:
            cores.put(core)

    with ThreadPoolExecutor(options.jobs) as pool, options.out.open("a") as out:
        for row in pool.map(one, wanted):
            rows.append(row)
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(f"{row['name']}, seed {row['seed']}: {row['val_bpb']:.4f} in {row['wall_seconds']:.1f} s")
    report(rows, names)


def hash_of(files: tuple[str, ...]) -> str:
    import hashlib

    return hashlib.sha256(b"".join((HERE / file).read_bytes() for file in files)).hexdigest()[:16]


if __name__ == "__main__":
    main()
