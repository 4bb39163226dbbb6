# ruff: noqa: W293 - rows of data read best on one line; the diff holds blank context lines
"""A store as a long campaign leaves it, written in seconds: for benchmarks, pictures and the console's tests.

The schema comes from ``engine.store.core.Store`` (its migrations), the rows from raw bulk inserts: 10,000
experiments through the engine's own statements would take minutes. Everything derives from ``seed``.
"""

from __future__ import annotations

import json
import math
import random
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from engine import events
from engine.clock import Clock, RealClock
from engine.store.core import Store

TITLES = (
    "raise learning rate to {x:.1e}", "rmsnorm instead of layernorm", "relu² in the MLP", "warm up over {n} steps",
    "weight decay {x:.2e}", "cosine decay to {n} %", "tie embeddings", "batch size {n}", "depth {n}, narrower",
    "rotary base {n}00", "zero-init the output projection", "clip gradients at {x:.2f}", "label smoothing {x:.3f}",
    "muon for matrices, adam for the rest", "value embeddings on alternate layers", "beta2 {x:.3f}",
)  # fmt: skip
DIFF = """diff --git a/train.py b/train.py
index 3f1c2ab..9d0e77f 100644
--- a/train.py
+++ b/train.py
@@ -12,9 +12,9 @@ from dataclasses import dataclass
 # model
 DEPTH = 4
 WIDTH = 128
-LEARNING_RATE = 3e-4  # found by hand
+LEARNING_RATE = {rate:.2e}  # experiment {number}
 WARMUP = 100
-WEIGHT_DECAY = 0.1
+WEIGHT_DECAY = {decay:.3f}
 BATCH = 16
 
 
@@ -88,7 +88,9 @@ class Block(nn.Module):
     def forward(self, x: Tensor) -> Tensor:
         x = x + self.attention(self.norm1(x))
-        return x + self.mlp(self.norm2(x))
+        hidden = self.mlp(self.norm2(x))
+        # keep the residual stream's variance where it was at the start
+        return x + hidden * self.scale
 
 
 def schedule(step: int) -> float:
"""
SIGMA = 0.012


@dataclass(frozen=True, slots=True)
class Seeded:
    path: Path
    campaign: int
    experiments: int


def seeded_store(
    state_dir: Path,
    experiments: int = 40,
    *,
    seed: int = 1,
    clock: Clock | None = None,
    running: bool = True,
    awaiting: bool = False,
    limit: int | None = None,
    points: int = 400,
    trial_rows: bool = True,
) -> Seeded:
    """Write ``state_dir/store.db`` with ``experiments`` settled ones, and what runs now when ``running``.

    ``awaiting`` leaves one proposal in review. ``limit`` is the run's limit of experiments. ``points`` a curve
    of the incumbent and of the running trial. ``trial_rows`` False leaves out the settled experiments' trials.
    """
    clock = clock or RealClock()
    store = Store(state_dir / "store.db", clock)
    chance = random.Random(seed)
    now = clock.now()
    store.take_over("box", "boot", 4242)
    conn = store.conn
    conn.execute("BEGIN IMMEDIATE")
    began = now - 200.0 * (experiments + 2)
    limits = {
        "experiments": limit or max(50, experiments * 2), "hours": 10.0 + experiments / 10,
        "experiments_before": 0, "seconds_before": 0.0, "review": "proposals", "capacity": 2, "containment": "unshare",
    }  # fmt: skip
    conn.execute(
        "INSERT INTO campaign (id, name, metric, goal, seed, state, active_seconds, limits, created_at)"
        " VALUES (1, 'november', 'val_bpb', 'minimize', ?, 'running', ?, ?, ?)",
        (seed, 190.0 * experiments, json.dumps(limits), began),
    )
    conn.execute("INSERT INTO config (id, sha256, text, created_at) VALUES (1, 'c0', '', ?)", (began,))
    calibration = json.dumps({"mean": 3.238, "sigma": SIGMA, "n": 5, "notes": []})
    conn.execute(
        "INSERT INTO protocol (id, campaign, key, spec, config, calibration, created_at)"
        " VALUES (1, 1, 'k', '{}', 1, ?, ?)",
        (calibration, began),
    )
    conn.execute("UPDATE campaign SET protocol = 1")
    conn.execute(
        "INSERT INTO version (id, campaign, sha, kind, created_at) VALUES (1, 1, ?, 'baseline', ?)",
        (f"{0:040x}", began),
    )
    writer = _History(chance, began, trial_rows)
    for number in range(1, experiments + 1):
        writer.settle(number)
    writer.line()
    if running:
        writer.present(experiments, now, awaiting)
    for number, trial in enumerate(writer.calibration(), 1):
        writer.trials.append((number, *trial))
    writer.write(conn)
    if running and points:
        _curve(conn, chance, writer.incumbent_trial, points, 3.18, 1.0)
        _curve(conn, chance, writer.live_trial, points, 3.165, 0.6)
    _devices(conn, now)
    for at, event in writer.events[-200:]:
        kind, data = events.to_row(event)
        conn.execute(
            "INSERT INTO event (at, campaign, kind, data) VALUES (?, 1, ?, ?)", (at, kind, json.dumps(data))
        )
    conn.execute("UPDATE fence SET beat_at = ?", (now,))
    conn.execute("COMMIT")
    store.close()
    if running:
        _log(state_dir / writer.directory / "control")
    return Seeded(state_dir / "store.db", 1, experiments)


class _History:
    """Rows, gathered for executemany. Ids: trials 1..5 calibrate, then four a experiment's number."""

    def __init__(self, chance: random.Random, began: float, trial_rows: bool) -> None:
        self.chance, self.began, self.trial_rows = chance, began, trial_rows
        self.best, self.incumbent, self.incumbent_trial, self.live_trial = 3.238, 1, 1, 0
        self.directory = ""
        self.versions: list[tuple[object, ...]] = []
        self.proposals: list[tuple[object, ...]] = []
        self.experiments: list[tuple[object, ...]] = []
        self.trials: list[tuple[object, ...]] = []
        self.attempts: list[tuple[object, ...]] = []
        self.keeps: list[tuple[object, ...]] = []
        self.stream: list[tuple[object, ...]] = []
        self.events: list[tuple[float, events.Event]] = []
        self.head = f"{0:040x}"

    def at(self, number: int) -> float:
        return self.began + 200.0 * number

    def calibration(self) -> list[tuple[object, ...]]:
        return [
            (1, None, "calibrate", 1000 + i, 0, "done", "ok", "", 3.238 + self.chance.gauss(0, SIGMA),
             self.began + i * 30, self.began + i * 30 + 28)
            for i in range(5)
        ]  # fmt: skip

    def title(self) -> str:
        return self.chance.choice(TITLES).format(x=10 ** self.chance.uniform(-4, -1), n=self.chance.randint(2, 40))

    def propose(self, number: int, author: str, title: str) -> int:
        """The proposal and its candidate version; returns the version's id."""
        version = number + 1
        self.versions.append((version, 1, f"{number:040x}", "candidate", self.incumbent, self.at(number)))
        diff = DIFF.format(number=number, rate=10 ** self.chance.uniform(-4, -2), decay=self.chance.random() / 5)
        hypothesis = (
            "The loss still falls steeply at the end of the budget, so the schedule is too timid for so few steps; "
            "a larger step early should reach the same point sooner without the late noise."
        )
        self.proposals.append(
            (number, 1, self.incumbent, author, {"claude": "claude-opus-5-5"}.get(author, "tpe"), title, hypothesis,
             "-0.02 bpb", json.dumps({"LEARNING_RATE": 0.001 * number, "WARMUP": 40}), diff, 6, 3, self.at(number))
        )  # fmt: skip
        return version

    def experiment(self, number: int, state: str, author: str, version: int | None, **more: object) -> None:
        """``version`` None: still drafting."""
        self.experiments.append((
            number, 1, 1, number, state, author, None if version is None else number, self.incumbent, version,
            more.get("verdict"), more.get("reason", ""), json.dumps(more.get("arithmetic", [])), more.get("effect"),
            more.get("low"), more.get("high"), more.get("score"), more.get("stage", ""), 3, self.at(number),
            self.at(number), more.get("settled_at"),
        ))  # fmt: skip

    def settle(self, number: int) -> None:
        chance = self.chance
        author = chance.choice(("claude", "claude", "search", "search", "person"))
        title = self.title()
        version = self.propose(number, author, title)
        roll = chance.random()
        done = self.at(number) + 180
        if roll < 0.06:
            verdict, stage, reason, effect, runs = (
                "crash",
                "screen",
                "crash: exit code 1 in train on seed 7",
                None,
                1,
            )
        elif roll < 0.08:
            verdict, stage, reason, effect, runs = (
                "invalid",
                "screen",
                "invalid: not_finite on seed 7",
                None,
                1,
            )
        else:
            effect = chance.gauss(-0.008, 0.016)
            runs, stage, verdict, reason = (
                1,
                "screen",
                "discard",
                "screen: better by too little, needs 1 sigma",
            )
            if effect > SIGMA:
                runs, stage = 4, "confirm"
                verdict, reason = ("keep", "kept: better with p = 0.01") if chance.random() < 0.6 / (1 + len(self.keeps)) else (
                    "discard", "confirm: p = 0.21, needs 0.05")  # fmt: skip
        half = SIGMA * (2.4 if runs == 1 else 1.3)
        score = None if effect is None else self.best - effect
        arithmetic = () if effect is None else (
            f"noise: sigma {SIGMA:.3f} of one run, pooled over 14 degrees of freedom",
            f"incumbent: {self.best:.4f}, mean of 5 runs",
            f"screen: seed 1001 scored {score:.4f}, better by {effect:+.4f} ({effect / SIGMA:+.1f} sigma);"
            f" needs 1 sigma = {SIGMA:.4f}: {'passed' if effect > SIGMA else 'not passed'}",
        )  # fmt: skip
        self.experiment(
            number, "settled", author, version, verdict=verdict, reason=reason, arithmetic=arithmetic, effect=effect,
            low=None if effect is None else effect - half, high=None if effect is None else effect + half,
            score=score, stage=stage, settled_at=done,
        )  # fmt: skip
        outcome = {"crash": "crash", "invalid": "not_finite"}.get(verdict, "ok")
        if self.trial_rows:
            for i in range(runs):
                self.trials.append((
                    number * 4 + 6 + i, version, number, "screen" if i == 0 else "confirm", 1001 + i, 2, "done", outcome,
                    "ZeroDivisionError: division by zero" if outcome == "crash" else "",
                    None if score is None else score + chance.gauss(0, SIGMA), done - 40, done - 10,
                ))  # fmt: skip
        self.events.append((done, events.VerdictGiven(number, title, verdict, reason, effect)))
        if verdict == "keep" and effect is not None:
            sha = f"{number + 0xABC0000:040x}"
            self.keeps.append((number, 1, number, self.head, sha, done))
            self.events.append((done, events.RatchetAdvanced(number, self.head, sha)))
            self.best, self.incumbent, self.head = self.best - effect, version, sha
            self.incumbent_trial = number * 4 + 6 if self.trial_rows else 1

    def line(self) -> None:
        self.line_row = (1, 1, "main", 1, self.head, self.incumbent)

    def present(self, last: int, now: float, awaiting: bool) -> None:
        """One that runs, one that waits or is ready, one that is being drafted."""
        running, second, third = last + 1, last + 2, last + 3
        version = self.propose(running, "claude", "rotary embeddings on half the head dimensions")
        self.experiment(running, "measuring", "claude", version, stage="screen")
        self.live_trial = running * 4 + 6
        self.trials.append(
            (self.live_trial, version, running, "screen", 1001, 2, "running", None, "", None, now - 17, None)
        )
        self.directory = f"trials/{self.live_trial}/attempt-1"
        self.attempts.append((self.live_trial, self.live_trial, 1, 1, "token", self.directory, "local", "cpu0",
                              "{}", "running", now - 17, now - 17))  # fmt: skip
        version = self.propose(second, "search", "LEARNING_RATE = 0.0021, WARMUP = 63")
        self.experiment(second, "review" if awaiting else "ready", "search", version)
        self.experiment(third, "drafting", "claude", None)
        self.stream += [
            (third, now - 9, "thinking", "The incumbent's loss is still falling at 215 steps. "),
            (
                third,
                now - 8,
                "thinking",
                "Last three discards all touched the schedule; look at the model instead.\n",
            ),
            (third, now - 6, "tool", "view train.py 80-120\n"),
            (third, now - 3, "text", "I want to try a gated MLP of the same number of parameters"),
        ]

    def write(self, conn: sqlite3.Connection) -> None:
        many = conn.executemany
        many(
            "INSERT INTO version (id, campaign, sha, kind, parent, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            self.versions,
        )
        many(
            "INSERT INTO line (id, campaign, name, baseline, head, incumbent) VALUES (?, ?, ?, ?, ?, ?)",
            [self.line_row],
        )
        many("INSERT INTO proposal (id, campaign, base, author, author_detail, title, hypothesis, expected_effect,"
             " parameters, diff, added, removed, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
             self.proposals)  # fmt: skip
        many("INSERT INTO experiment (id, campaign, line, number, state, author, proposal, base, candidate, verdict,"
             " reason, arithmetic, effect, effect_low, effect_high, score, stage, revision, created_at, updated_at,"
             " settled_at) VALUES (" + ", ".join("?" * 21) + ")", self.experiments)  # fmt: skip
        many("INSERT INTO trial (id, campaign, version, protocol, experiment, purpose, seed, priority, state, outcome,"
             " detail, score, host, seconds, created_at, started_at, ended_at) VALUES"
             " (?, 1, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, 'local', ?, ?, ?, ?)",
             [(*t[:10], (t[11] - t[10]) if t[11] else 0.0, t[10], t[10], t[11]) for t in self.trials])  # type: ignore[operator]  # fmt: skip
        many("INSERT INTO attempt (id, trial, number, epoch, token, directory, host, slot, allocation, state, created_at,"
             " started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self.attempts)  # fmt: skip
        many(
            "INSERT INTO keep (id, line, experiment, previous, sha, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            self.keeps,
        )
        many("INSERT INTO stream (experiment, at, channel, text) VALUES (?, ?, ?, ?)", self.stream)


def _curve(
    conn: sqlite3.Connection, chance: random.Random, trial: int, points: int, floor: float, done: float
) -> None:
    rows = []
    for i in range(int(points * done)):
        step = i * 215 / points
        value = floor - 0.2 + 4.5 * math.exp(-step / 22) + 0.45 * math.exp(-step / 160) + chance.gauss(0, 0.03)
        rows.append((trial, "train_loss", i, step, value, step / 10.8))
    conn.executemany("INSERT INTO point (trial, series, seq, step, value, at) VALUES (?, ?, ?, ?, ?, ?)", rows)


def _devices(conn: sqlite3.Connection, now: float) -> None:
    for device, name, use, memory, total, power, heat in (
        ("GPU-0a1b", "NVIDIA H100 80GB HBM3", 97.0, 61_200.0, 81_559.0, 612.0, 67.0),
        ("GPU-2c3d", "NVIDIA H100 80GB HBM3", 31.0, 12_100.0, 81_559.0, 204.0, 44.0),
        ("cpu", "2 cores", 88.0, 3_300.0, 8_000.0, None, None),
    ):
        data = {
            "host": "local", "device": device, "name": name, "at": now, "utilisation": use, "memory_used_mb": memory,
            "memory_total_mb": total, "power_w": power, "temperature_c": heat, "foreign": 0,
        }  # fmt: skip
        conn.execute(
            "INSERT INTO reading (host, device, at, data) VALUES ('local', ?, ?, ?)",
            (device, now, json.dumps(data)),
        )


def _log(control: Path) -> None:
    control.mkdir(parents=True, exist_ok=True)
    lines = [f"step {i:4d} | train_loss {3 + 4 * math.exp(-i / 40):.4f} | 21.9k tok/s" for i in range(0, 130)]
    (control / "log").write_text("device: cpu, 2 threads\n" + "\n".join(lines) + "\n")
