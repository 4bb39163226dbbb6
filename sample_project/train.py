"""A small GPT over bytes: the one file to edit. ``python train.py`` trains it and writes artifact/.

Frozen beside it: prepare.py (data and budget) and evaluate.py (the score). All that evaluate.py needs of
this file is ``load(directory)`` and ``logprobs(model, tokens)``; everything else may change.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import prepare
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

# The functional form: constructing a torch.optim.Optimizer imports the compiler, 1.3 s on a CPU.
from torch.optim.adamw import adamw

# --- what to tune ---------------------------------------------------------------------------------------
# fmt: off
DEPTH = 3                # transformer blocks
MODEL_DIM = 64           # width of the residual stream
HEAD_DIM = 32            # width of one attention head
MLP_RATIO = 4.0          # hidden width of the MLP, in widths of the model
SEQ_LEN = 128            # bytes in a training sequence
BATCH_SIZE = 8           # sequences in a step
LEARNING_RATE = 1e-3     # AdamW, at its peak
WARMUP_RATIO = 0.2       # share of the budget over which the learning rate rises
WARMDOWN_RATIO = 0.2     # share of the budget over which it falls again at the end
FINAL_LR_FRAC = 0.1      # what it falls to, as a share of the peak
WEIGHT_DECAY = 0.1       # of matrices, not of gains
BETA1 = 0.9              # AdamW: memory of the gradients' mean
BETA2 = 0.999            # AdamW: memory of the gradients' square
GRAD_CLIP = 1.0          # largest norm of the whole gradient
INIT_STD = 0.02          # standard deviation of the weights at the start
# fmt: on

# A GPU trains the same model, times these. Left out of the search: on a CPU they would change nothing.
GPU_TIMES = {"depth": 4, "width": 12, "head": 4, "length": 8, "batch": 4, "rate": 0.5}  # search: no

# Dense bf16, by the name that the driver gives.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12}  # search: no


@dataclass(frozen=True)
class Shape:
    """What ``load`` must know to build the model again."""

    depth: int
    heads: int
    head_dim: int
    mlp_dim: int

    @property
    def model_dim(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class Preset:
    """The constants above, on one kind of device."""

    shape: Shape
    seq_len: int
    batch_size: int
    learning_rate: float


def preset(device: str) -> Preset:
    """``device`` is "cpu" or "cuda". The width is rounded to whole heads."""
    times = GPU_TIMES if device == "cuda" else dict.fromkeys(GPU_TIMES, 1)
    head_dim = 2 * max(1, round(HEAD_DIM * times["head"] / 2))  # rotary embeddings take halves
    heads = max(1, round(MODEL_DIM * times["width"] / head_dim))
    mlp_dim = max(1, round(MLP_RATIO * heads * head_dim))
    return Preset(
        shape=Shape(int(DEPTH * times["depth"]), heads, head_dim, mlp_dim),
        seq_len=int(SEQ_LEN * times["length"]),
        batch_size=int(BATCH_SIZE * times["batch"]),
        learning_rate=LEARNING_RATE * times["rate"],
    )


# --- the model ------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        dim = shape.model_dim
        self.heads, self.head_dim = shape.heads, shape.head_dim
        self.norm_attention = nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.norm_mlp = nn.LayerNorm(dim, bias=False)
        self.mlp_in = nn.Linear(dim, shape.mlp_dim, bias=False)
        self.mlp_out = nn.Linear(shape.mlp_dim, dim, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, length, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [batch, heads, length, head_dim]
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.attention_out(y.transpose(1, 2).reshape(batch, length, dim))
        x = x + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))
        return x


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of x [..., length, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class GPT(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(prepare.VOCAB_SIZE, shape.model_dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.model_dim, bias=False)
        self.head = nn.Linear(shape.model_dim, prepare.VOCAB_SIZE, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                # Smaller where a branch joins the residual stream, as in GPT-2: the stream's variance
                # then does not grow with the depth.
                joins = name.endswith(("attention_out.weight", "mlp_out.weight"))
                nn.init.normal_(parameter, std=INIT_STD / (math.sqrt(2 * shape.depth) if joins else 1.0))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens [B, T] -> logits [B, T, 256]."""
        half = self.shape.head_dim // 2
        position = torch.arange(tokens.shape[1], device=tokens.device, dtype=torch.float32)
        frequency = 10_000.0 ** (-torch.arange(half, device=tokens.device, dtype=torch.float32) / half)
        angle = torch.outer(position, frequency)
        cos, sin = angle.cos(), angle.sin()
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


# --- what evaluate.py calls -----------------------------------------------------------------------------


def load(directory: str | os.PathLike[str]) -> GPT:
    """The trained model in ``directory`` (model.safetensors and config.json), ready to predict."""
    folder = Path(directory)
    model = GPT(Shape(**json.loads((folder / "config.json").read_text(encoding="utf-8"))))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(pick_device()).eval()


def logprobs(model: GPT, tokens: torch.Tensor) -> torch.Tensor:
    """tokens [B, T] -> [B, T, 256]: at each position the natural-log probability of every next byte."""
    device = model.head.weight.device
    with torch.inference_mode(), mixed_precision(device.type):
        return F.log_softmax(model(tokens.to(device)).float(), dim=-1).cpu()


# --- training -------------------------------------------------------------------------------------------


def pick_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def mixed_precision(device: str) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()


def sequences(text: torch.Tensor, length: int, batch_size: int, seed: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """(inputs, labels), each [batch_size, length]; every epoch passes over the text in another order."""
    order = np.random.default_rng(seed)
    within = torch.arange(length + 1, device=text.device)
    if len(text) < length * (batch_size + 1) + 1:
        sys.exit(f"the training text ({len(text)} bytes) is shorter than one batch of {batch_size} x {length}")
    while True:
        offset = int(order.integers(length))
        starts = offset + length * order.permutation((len(text) - offset - 1) // length)
        for first in range(0, len(starts) - batch_size + 1, batch_size):
            start = torch.from_numpy(starts[first : first + batch_size]).to(text.device)
            window = text[start[:, None] + within].long()
            yield window[:, :-1], window[:, 1:]


def lr_multiplier(progress: float) -> float:
    """Trapezoid over the budget; ``progress`` runs from 0 to 1."""
    if progress < WARMUP_RATIO:
        return max(progress / WARMUP_RATIO, 1e-3)
    if progress > 1.0 - WARMDOWN_RATIO:
        left = max(1.0 - progress, 0.0) / WARMDOWN_RATIO
        return left + (1.0 - left) * FINAL_LR_FRAC
    return 1.0


class AdamW:
    """PyTorch's own fused kernel, on either device (the import above says why not the class)."""

    def __init__(self, parameters: list[torch.Tensor], weight_decay: float) -> None:
        self.parameters, self.weight_decay = parameters, weight_decay
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        adamw(self.parameters, gradients, self.means, self.squares, [], self.steps, fused=True, lr=rate,
              beta1=BETA1, beta2=BETA2, weight_decay=self.weight_decay, eps=1e-8, amsgrad=False,
              maximize=False)  # fmt: skip
        for parameter in self.parameters:
            parameter.grad = None


def peak_flops(name: str) -> float | None:
    """Dense bf16 peak of a GPU by its name; None for one that is not in the table."""
    return next((peak for model, peak in PEAK_FLOPS.items() if model in name), None)


def mfu_percent(flops_per_second: float, name: str) -> float | None:
    """Model FLOPs utilisation (PaLM, appendix B); None where the device's peak is not known."""
    peak = peak_flops(name)
    return 100.0 * flops_per_second / peak if peak else None


def train(device: str, seed: int, folder: Path, started: float) -> dict[str, float]:
    """Train within the budget, write the artifact into ``folder``, return the run's statistics."""
    chosen = preset(device)
    torch.manual_seed(seed)
    model = GPT(chosen.shape).to(device)
    parameters = list(model.parameters())
    matmuls = sum(p.numel() for p in parameters) - model.embedding.weight.numel()
    tokens_per_step = chosen.seq_len * chosen.batch_size
    flops_per_step = tokens_per_step * prepare.flops_per_token(
        matmuls, chosen.shape.depth, chosen.shape.model_dim, chosen.seq_len
    )
    budget = prepare.budget(device, flops_per_step)
    optimizers = [
        AdamW([p for p in parameters if p.ndim > 1], WEIGHT_DECAY),
        AdamW([p for p in parameters if p.ndim <= 1], 0.0),
    ]
    forward = torch.compile(model) if device == "cuda" else model
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    text = torch.from_numpy(np.array(prepare.load("train"))).to(device)
    batches = sequences(text, chosen.seq_len, chosen.batch_size, seed)

    every = 5 if device == "cpu" else 10  # steps between progress lines
    # Compiling and warming up are no training: on a GPU the first steps are not counted.
    uncounted = 10 if device == "cuda" else 0
    step, trained, smooth, progress = 0, 0.0, 0.0, 0.0
    while progress < 1.0:
        begun = time.perf_counter()
        inputs, labels = next(batches)
        with mixed_precision(device):
            logits = forward(inputs)
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, GRAD_CLIP)
        multiplier = lr_multiplier(progress)
        for optimizer in optimizers:
            optimizer.step(chosen.learning_rate * multiplier)
        value = loss.item()  # waits for the device, so that the clock below is honest
        if not value <= 100.0:  # NaN too
            print("FAIL")
            sys.exit(1)
        took = time.perf_counter() - begun
        step += 1
        trained += took if step > uncounted else 0.0
        progress = step / budget.steps if budget.steps else trained / budget.seconds
        smooth += 0.1 * (value - smooth)
        if step % every == 0 or progress >= 1.0:
            mfu = mfu_percent(flops_per_step / took, name)
            parts = [
                f"step {step:05d} ({min(100 * progress, 100.0):.1f}%)",
                f"loss: {smooth / (1 - 0.9**step):.6f}",
                f"lrm: {multiplier:.2f}",
                f"dt: {1000 * took:.0f}ms",
                f"tok/sec: {tokens_per_step / took:,.0f}",
                *([f"mfu: {mfu:.1f}%"] if mfu is not None else []),
                f"epoch: {1 + step * tokens_per_step // len(text)}",
                f"remaining: {max(trained / progress - trained, 0.0) if progress else 0.0:.0f}s    ",
            ]
            print("\r" + " | ".join(parts), end="", flush=True)
            record({"step": step, "grad_norm": norm.item()})
    print()

    mfu = mfu_percent(flops_per_step * max(step - uncounted, 0) / max(trained, 1e-9), name)
    statistics: dict[str, float] = {
        "training_seconds": trained,
        "total_seconds": time.perf_counter() - started,
        "peak_vram_mb": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0,
        **({"mfu_percent": mfu} if mfu is not None else {}),
        "total_tokens_M": step * tokens_per_step / 1e6,
        "num_steps": step,
        "num_params_M": sum(p.numel() for p in parameters) / 1e6,
        "depth": chosen.shape.depth,
    }
    save(model, statistics, folder)
    return statistics


def record(point: dict[str, float]) -> None:
    """One more line for the engine's charts, where it asks for them."""
    if path := os.environ.get("RATCHET_METRICS"):
        with open(path, "a") as file:
            file.write(json.dumps(point) + "\n")


def save(model: GPT, statistics: dict[str, float], folder: Path) -> None:
    """The artifact: weights without pickle, the shape to load them into, and the run's statistics."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(model.shape)) + "\n")
    (folder / "training.json").write_text(json.dumps(statistics) + "\n")


def main() -> None:
    started = time.perf_counter()
    device = pick_device()
    # What the scheduler gave us, not what the machine has: two trials share it.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or cores))
    torch.set_float32_matmul_precision("high")
    folder = Path(os.environ.get("RATCHET_TRIAL_DIR") or Path(__file__).parent) / "artifact"
    for stale in ("model.safetensors", "config.json", "training.json"):
        (folder / stale).unlink(missing_ok=True)  # a run that crashes must not be scored as the one before
    statistics = train(device, int(os.environ.get("RATCHET_SEED") or 0), folder, started)
    print("---")
    for key, value in statistics.items():
        print(f"{key + ':':17} {value:.2f}" if isinstance(value, float) else f"{key + ':':17} {value}")
    if "--evaluate" in sys.argv[1:]:
        sys.stdout.flush()
        evaluation = Path(prepare.__file__).with_name("evaluate.py")
        sys.exit(subprocess.run([sys.executable, str(evaluation)]).returncode)


if __name__ == "__main__":
    main()
