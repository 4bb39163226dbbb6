"""Does the ratchet find what is there? Search campaigns on sample_project, checked on further seeds.

    python -m tests.benchmarks.campaigns --seeds 1 2 3 --proposals 12

Each campaign runs on its own copy; then the campaign's head and its baseline are run on five seeds that took
no part in it, two at a time, one core each. Takes some ten minutes a campaign on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from console.commands.demo import prepare
from engine.clock import RealClock
from engine.service import Order, serve
from engine.store import reading
from engine.store.reading import Reader

FURTHER = (900_001, 900_002, 900_003, 900_004, 900_005)


def campaign(folder: Path, seed: int, proposals: int) -> dict[str, object]:
    project = folder / f"seed-{seed}"
    prepare(project)
    began = time.monotonic()
    asyncio.run(serve(Order(project=str(project), experiments=proposals, seed=seed), RealClock()))
    minutes = (time.monotonic() - began) / 60
    reader = Reader(project / ".ratchet" / "store.db")
    row = reader.campaign()
    head = _git(project, "rev-parse", f"ratchet/{row.name}")
    assert head == row.head == _git(project, "rev-parse", f"refs/ratchet/{row.name}/head"), "store and refs differ"
    keeps = reading.keeps(reader.conn, row.line)
    commits = _git(project, "rev-list", "--reverse", f"{row.baseline_sha}..{head}").split()
    assert commits == [k.sha for k in keeps], "one commit a keep"
    baseline, kept = (further(project, sha) for sha in (row.baseline_sha, head))
    gain = statistics.mean(baseline) - statistics.mean(kept)
    assert row.calibration is not None
    return {
        "seed": seed,
        "minutes": round(minutes, 1),
        "counts": reading.counts(reader.conn, row.id),
        "sigma": row.calibration["sigma"],
        "keeps": [f"#{k.number} {k.title} ({k.effect:+.3f})" for k in keeps],
        "baseline": statistics.mean(baseline),
        "head": statistics.mean(kept),
        "gain": gain,
        "better_seeds": sum(a < b for a, b in zip(kept, baseline, strict=True)),
        "beats": bool(keeps) and gain > 0,
    }


def further(project: Path, sha: str) -> list[float]:
    """val_bpb of ``sha`` on seeds that no campaign used."""
    work = project.parent / f"{project.name}-{sha[:12]}"
    if not work.exists():
        _git(project, "worktree", "add", "--detach", str(work), sha)
    environment = {**os.environ, "RATCHET_DATA": str(project / "data"), "OMP_NUM_THREADS": "1"}

    def one(numbered: tuple[int, int]) -> float:
        index, seed = numbered
        place = work.parent / f"{work.name}-{seed}"
        subprocess.run(["cp", "-r", str(work), str(place)], check=True)
        out = ""
        for program in (["train.py"], ["-I", "evaluate.py"]):
            done = subprocess.run(
                ["taskset", "-c", str(index % (os.cpu_count() or 1)), sys.executable, *program],
                cwd=place,
                env={**environment, "RATCHET_SEED": str(seed), "RATCHET_TRIAL_DIR": str(place)},
                check=True,
                capture_output=True,
                text=True,
            )
            out = done.stdout
        return float(next(x for x in out.splitlines() if x.startswith("val_bpb:")).split()[1])

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, enumerate(FURTHER)))


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--proposals", type=int, default=12)
    parser.add_argument("--folder", type=Path, default=Path(".bench/campaigns"))
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in given.seeds:
        results.append(campaign(folder, seed, given.proposals))
        print(json.dumps(results[-1]), flush=True)
    beats = sum(bool(r["beats"]) for r in results)
    print(f"campaign seeds {given.seeds}: {beats} of {len(results)} kept something that beats the baseline's mean "
          f"on {len(FURTHER)} further seeds (goal: 2 of 3)")  # fmt: skip
    return 0 if 3 * beats >= 2 * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
