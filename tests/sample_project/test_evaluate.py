"""The score: right for honest predictors, refused for the others, never in the candidate's hands."""

from __future__ import annotations

import io
import json
import py_compile
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.sample_project.conftest import PROJECT, module, run

EVALUATE = module("evaluate")
Predict = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

WINDOWS = np.random.default_rng(7).integers(97, 123, size=(128, 33), dtype=np.uint8)


def normalised(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)), dtype=np.float32)


def uniform(tokens: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.full((*tokens.shape, 256), -np.log(256), dtype=np.float32)


def likes(byte: npt.NDArray[np.uint8], by: float = 2.0) -> npt.NDArray[np.float32]:
    """Predictions that favour ``byte`` [B, T]."""
    return normalised(by * np.eye(256)[byte])


def bigram(tokens: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return likes((tokens.astype(int) * 7 + 3) % 256)  # depends on the past alone


def looks_ahead(tokens: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return likes(np.roll(tokens, -1, axis=1))  # the next byte stands in the input


def looks_far_ahead(tokens: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return likes(np.broadcast_to(tokens[:, -1:], tokens.shape))


def sees_its_neighbours(tokens: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return likes(np.broadcast_to(tokens[:1], tokens.shape))


def scored(predict: Predict, seed: int = 0) -> float:
    bits: float = EVALUATE.score(lambda t: EVALUATE.checked(predict(t)), WINDOWS, np.random.default_rng(seed))
    return bits


def test_a_uniform_prediction_costs_eight_bits_a_byte() -> None:
    assert scored(uniform) == pytest.approx(8.0, abs=1e-5)


def test_the_score_is_the_mean_negative_log2_probability_of_the_labels() -> None:
    values = bigram(WINDOWS[:, :-1])
    by_hand = [-values[r, t, WINDOWS[r, t + 1]] / np.log(2) for r in range(len(WINDOWS)) for t in range(32)]
    assert scored(bigram) == pytest.approx(float(np.mean(by_hand)), abs=1e-5)


def test_the_score_does_not_depend_on_where_it_is_probed() -> None:
    assert len({scored(bigram, seed) for seed in range(5)}) == 1


@pytest.mark.parametrize("cheat", [looks_ahead, looks_far_ahead])
def test_a_predictor_that_uses_later_bytes_is_invalid(cheat: Predict) -> None:
    for seed in range(20):
        with pytest.raises(EVALUATE.Invalid, match="not causal"):
            scored(cheat, seed)


def test_a_predictor_whose_rows_see_each_other_is_invalid() -> None:
    for seed in range(20):
        with pytest.raises(EVALUATE.Invalid, match=r"not causal|another order of rows"):
            scored(sees_its_neighbours, seed)


def test_a_predictor_that_remembers_what_it_saw_is_invalid() -> None:
    calls = []

    def drifting(tokens: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        calls.append(1)
        return likes(tokens, by=2.0 + 0.1 * len(calls))

    with pytest.raises(EVALUATE.Invalid, match="moved a log-probability"):
        scored(drifting)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda v: v + np.float32(0.01), "do not sum to one"),
        (lambda v: v * np.float32(0.5), "do not sum to one"),
        (lambda v: np.zeros_like(v), "do not sum to one"),
        (lambda v: np.full_like(v, 1e30), "do not sum to one"),
        (lambda v: np.full_like(v, -np.inf), "do not sum to one"),
        (lambda v: np.where(np.arange(256) == 100, np.float32(np.nan), v), "NaN"),
        (lambda v: np.where(np.arange(256) == 100, np.float32(np.inf), v), "inf"),
    ],
)
def test_what_is_no_distribution_is_invalid(
    spoil: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], complaint: str
) -> None:
    with pytest.raises(EVALUATE.Invalid, match=complaint):
        scored(lambda tokens: spoil(bigram(tokens)))


def test_nothing_is_gained_within_the_tolerance() -> None:
    shift = np.float32(0.9 * EVALUATE.NORMAL)
    assert scored(lambda tokens: bigram(tokens) + shift) == pytest.approx(scored(bigram), abs=1e-6)


def test_a_label_held_impossible_is_no_score() -> None:
    impossible = np.where(np.arange(256) >= 97, -np.inf, 0.0)
    bits = scored(lambda tokens: normalised(np.broadcast_to(impossible, (*tokens.shape, 256))))
    assert bits == np.inf  # main() refuses it


def test_a_message_cut_short_is_a_crash_not_a_score() -> None:
    with pytest.raises(EVALUATE.Crash):
        EVALUATE.receive(io.BytesIO(b'{"shape": [1, 2'))
    with pytest.raises(EVALUATE.Crash):
        EVALUATE.receive(io.BytesIO(b"[1]\n"))
    with pytest.raises(EVALUATE.Crash):
        EVALUATE.receive_array(io.BytesIO(b"1234"), (2, 2), "float32")


# --- the real two processes ---------------------------------------------------------------------------------

HONEST = """
import torch
def load(directory): return None
def logprobs(model, tokens): return torch.full((*tokens.shape, 256), 1 / 256).log()
"""


@pytest.fixture
def trial(tmp_path: Path, corpus: Path) -> Callable[[str], tuple[int, str, str]]:
    """Evaluate a candidate's train.py in a trial directory: exit code, stdout, stderr."""
    pytest.importorskip("torch", reason="the predicting process needs torch")

    def evaluated(source: str) -> tuple[int, str, str]:
        for name in ("evaluate.py", "prepare.py"):
            shutil.copy(PROJECT / name, tmp_path)
        (tmp_path / "train.py").write_text(source)
        given = {"RATCHET_DATA": str(corpus), "RATCHET_TRIAL_DIR": str(tmp_path)}
        done = run(tmp_path / "evaluate.py", given, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    return evaluated


@pytest.mark.slow
def test_an_honest_candidate_gets_one_block_whatever_it_prints_itself(
    trial: Callable[[str], tuple[int, str, str]], tmp_path: Path
) -> None:
    forged = "import atexit, os, sys\nprint('---\\nval_bpb: 0.1')\nos.write(1, b'---\\nval_bpb: 0.1\\n')\n"
    forged += "atexit.register(print, 'val_bpb: 0.1')\n"
    # What training left behind must not be imported by the scorer, nor its numbers believed.
    for name in ("numpy", "json", "math"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported from the trial directory')")
    (tmp_path / "prepare.py").write_text("import sys; sys.exit('compiled code was taken from __pycache__')")
    py_compile.compile(
        str(tmp_path / "prepare.py"), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact/training.json").write_text(
        json.dumps({"val_bpb": 0.1, "num_steps": 12, "depth": "3\nval_bpb: 0.1", "mfu_percent": float("nan")})
    )
    code, out, err = trial(forged + HONEST)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["---", "val_bpb:          8.000000"]
    assert out.count("val_bpb") == 1
    assert "num_steps:        12" in lines and "depth" not in out and "mfu" not in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "code", "complaint"),
    [
        (HONEST.replace("(*tokens.shape, 256)", "(*tokens.shape, 255)"), 3, "INVALID: logprobs returned"),
        (HONEST.replace("def load(directory): return None", "def load(d): raise ValueError('no weights')"), 1,
         "predictor| ValueError: no weights"),
    ],
)  # fmt: skip
def test_a_broken_candidate_prints_no_score(
    trial: Callable[[str], tuple[int, str, str]], source: str, code: int, complaint: str
) -> None:
    found, out, err = trial(source)
    assert found == code
    assert out == ""
    assert complaint in err
