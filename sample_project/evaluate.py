"""Frozen: the score. ``python evaluate.py`` after ``python train.py`` prints val_bpb, bits per byte.

The candidate only predicts. It runs in a process of its own (this file with ``--predict``), receives
inputs and answers with log-probabilities; the labels, the arithmetic and the printed number stay here.
Refused, with exit code 3: another shape, NaN, probabilities that do not sum to one, a prediction that
changes when only *later* bytes change, one that depends on its neighbours in the batch.

No candidate code runs in the scoring process, and no pickle is read in either (weights are safetensors,
messages are JSON and plain arrays). What this file alone cannot do is keep a determined candidate, under
the same user, from the files of the other process: that takes a sandbox around ``--predict``.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TRIAL = os.path.abspath(os.environ.get("RATCHET_TRIAL_DIR") or HERE)
# Before any import that could be shadowed: a training run may have left a numpy.py in its directory. Start
# with ``python -I`` to keep out a sitecustomize.py as well.
OURS = (f"{HERE}/", f"{TRIAL}/")
sys.path[:] = [path for path in sys.path if not f"{os.path.abspath(path or '.')}/".startswith(OURS)]

import json  # noqa: E402
import math  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from types import ModuleType  # noqa: E402
from typing import IO, Any  # noqa: E402

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

BATCH = 64  # windows
NORMAL = 1e-4  # nats by which the probabilities of one position may miss a sum of one
SAME = 2e-3  # nats by which two predictions from the same past may differ (rounding of another batch)
REPORTED = ("training_seconds", "total_seconds", "peak_vram_mb", "mfu_percent", "total_tokens_M", "num_steps",
            "num_params_M", "depth")  # fmt: skip


class Invalid(Exception):
    """The predictor broke the contract; the message says how."""


class Crash(Exception):
    """The predictor died or raised; the message is what it printed."""


def module(name: str, path: str) -> ModuleType:
    """The Python file ``path`` as module ``name``, whatever sys.path and ``__pycache__`` say.

    Python's own loader would take compiled code from ``__pycache__``, where a training run can leave some
    that was never compiled from this file.
    """
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec")
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    loaded = ModuleType(name)
    loaded.__file__ = path
    sys.modules[name] = loaded
    exec(code, loaded.__dict__)
    return loaded


# --- messages: one line of JSON, then the array it announces ---------------------------------------------


def send(stream: IO[bytes], message: dict[str, Any], array: npt.NDArray[Any] | None = None) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    if array is not None:
        stream.write(np.ascontiguousarray(array).data)
    stream.flush()


def receive(stream: IO[bytes], limit: int = 1 << 16) -> dict[str, Any]:
    """The next message; Crash at the end of the stream."""
    line = stream.readline(limit)
    if not line.endswith(b"\n"):
        raise Crash("the predictor ended without an answer")
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise Crash("the predictor's answer is no message")
    return message


def receive_array(stream: IO[bytes], shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    content = stream.read(size)
    if len(content) != size:
        raise Crash("the predictor ended in the middle of an answer")
    return np.frombuffer(content, dtype=dtype).reshape(shape)


# --- the predicting process -------------------------------------------------------------------------------


def predict() -> None:
    """Serve predictions of the candidate in TRIAL on stdin and stdout until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the candidate prints goes to the log of failures, not among the answers
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or cores))
    # Before any candidate code has run: the device decides the shape of the evaluation.
    send(answers, {"device": "cuda" if torch.cuda.is_available() else "cpu"})
    module("prepare", os.path.join(HERE, "prepare.py"))
    sys.path[:0] = [TRIAL, os.path.join(TRIAL, "src")]
    candidate = module("train", os.path.join(TRIAL, "train.py"))
    model = candidate.load(os.path.join(TRIAL, "artifact"))
    while line := sys.stdin.buffer.readline():
        shape = tuple(json.loads(line)["shape"])
        tokens = receive_array(sys.stdin.buffer, shape, "uint8")
        result = candidate.logprobs(model, torch.from_numpy(tokens.astype(np.int64)))
        array = result.detach().to("cpu", torch.float32).numpy()
        send(answers, {"shape": list(array.shape)}, array)


# --- the scoring process -----------------------------------------------------------------------------------


class Predictor:
    """The candidate, behind a pipe."""

    def __init__(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-I", os.path.join(HERE, "evaluate.py"), "--predict"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, cwd=TRIAL
        )
        assert self.process.stdin and self.process.stdout
        self.requests, self.answers = self.process.stdin, self.process.stdout

    def device(self) -> str:
        """Either "cpu" or "cuda", as this file's own half says before it loads the candidate."""
        return str(receive(self.answers).get("device"))

    def __call__(self, tokens: Bytes) -> Floats:
        """tokens [B, T] -> [B, T, 256] natural-log probabilities, checked and normalised."""
        try:
            send(self.requests, {"shape": list(tokens.shape)}, tokens)
        except BrokenPipeError:
            raise Crash("the predictor ended before it was asked") from None
        expected = (*tokens.shape, 256)
        shape = receive(self.answers).get("shape")
        if shape != list(expected):
            raise Invalid(f"logprobs returned shape {shape}, expected {list(expected)}")
        values: Floats = receive_array(self.answers, expected, "float32")
        return checked(values)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def output(self) -> str:
        """The end of what the candidate printed, each line marked as its own."""
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - 4000))
        text = self.log.read().decode(errors="replace")
        return "\n".join(f"predictor| {line}" for line in text.splitlines())


def checked(values: Floats) -> Floats:
    """``values`` minus the logarithm of their sum. Invalid unless they were (nearly) normalised already."""
    if np.isnan(values).any() or np.isposinf(values).any():
        raise Invalid("logprobs returned NaN or +inf")
    with np.errstate(over="ignore", divide="ignore"):
        total = np.log(np.exp(values).sum(axis=-1, keepdims=True))
    worst = float(np.abs(total).max())
    if not worst <= NORMAL:
        raise Invalid(
            f"probabilities do not sum to one: log of the sum is off by {worst:.3g}, allowed {NORMAL:g}"
            " (return log_softmax of the logits)"
        )
    # Even within the tolerance nothing is gained: what counts is the normalised prediction.
    return np.asarray(values - total, dtype=np.float32)


def difference(one: Floats, other: Floats) -> float:
    """Largest difference of two predictions, in nats; below e**-20 a probability is as good as none."""
    floor = np.float32(-20.0)
    return float(np.abs(np.maximum(one, floor) - np.maximum(other, floor)).max(initial=0.0))


def score(predictor: Any, windows: Bytes, random: np.random.Generator) -> float:
    """Bits per byte of ``predictor`` on ``windows`` [N, T + 1], after the checks."""
    inputs, labels = windows[:, :-1], windows[:, 1:]
    batches = [(inputs[i : i + BATCH], labels[i : i + BATCH]) for i in range(0, len(inputs), BATCH)]
    spots = [int(i) for i in random.choice(len(batches), size=min(2, len(batches)), replace=False)]
    answers: dict[int, Floats] = {}
    nats = 0.0
    for index, (tokens, wanted) in enumerate(batches):
        values = predictor(tokens)
        nats -= float(np.take_along_axis(values, wanted[..., None].astype(np.int64), -1).sum(dtype=np.float64))
        if index in spots:
            answers[index] = values
    causal(predictor, batches[spots[0]][0], answers[spots[0]], random)
    independent(predictor, batches[spots[-1]][0], answers[spots[-1]], random)
    return nats / labels.size / math.log(2)


def causal(predictor: Any, tokens: Bytes, before: Floats, random: np.random.Generator) -> None:
    """Ask again, in the same shape, with each row's bytes replaced from a random position on."""
    rows, length = tokens.shape
    cuts = np.asarray(random.integers(1, length, size=rows))
    later = np.arange(length) >= cuts[:, None]
    # Bytes of another row, so that they look like text; the first one surely differs.
    changed = np.where(later, np.roll(tokens, 1, axis=0), tokens)
    first = np.arange(rows), cuts
    changed[first] = np.where(changed[first] == tokens[first], changed[first] ^ 1, changed[first])
    off = difference(predictor(changed)[~later], before[~later])
    if off > SAME:
        raise Invalid(f"not causal: changing only later bytes moved a log-probability by {off:.3g}")


def independent(predictor: Any, tokens: Bytes, before: Floats, random: np.random.Generator) -> None:
    """Ask again with the rows in another order: state kept between calls, or rows that see each other."""
    order = random.permutation(len(tokens))
    off = difference(predictor(tokens[order]), before[order])
    if off > SAME:
        raise Invalid(f"the same input in another order of rows moved a log-probability by {off:.3g}")


def statistics() -> dict[str, float]:
    """What train.py measured of itself: known names and finite numbers only, and never the objective."""
    try:
        with open(os.path.join(TRIAL, "artifact", "training.json"), "rb") as file:
            stated = json.loads(file.read(1 << 16))
        return {k: v for k in REPORTED if type(v := stated.get(k)) in (int, float) and math.isfinite(v)}
    except (OSError, ValueError, AttributeError, OverflowError):
        return {}


def main() -> int:
    begun = time.perf_counter()
    prepare = module("prepare", os.path.join(HERE, "prepare.py"))
    predictor = Predictor()
    try:
        windows = prepare.evaluation_windows(predictor.device())
        # Fresh randomness: a candidate that knew where it will be probed could behave there. The score
        # does not depend on it.
        bits = score(predictor, windows, np.random.default_rng())
        if not math.isfinite(bits):
            raise Invalid(f"val_bpb is {bits}: a byte that occurs was given probability zero")
    except (Invalid, Crash) as fault:
        predictor.close()  # so that all of its output is there
        print(predictor.output(), file=sys.stderr)
        print(f"{'INVALID' if isinstance(fault, Invalid) else 'FAIL'}: {fault}", file=sys.stderr)
        return 3 if isinstance(fault, Invalid) else 1
    finally:
        predictor.close()
    print("---")
    print(f"{'val_bpb:':17} {bits:.6f}")
    for key, value in statistics().items():
        print(f"{key + ':':17} {value:.6g}")
    print(f"{'eval_seconds:':17} {time.perf_counter() - begun:.1f}")
    return 0


if __name__ == "__main__":
    if "--predict" in sys.argv[1:]:
        predict()
    else:
        sys.exit(main())
