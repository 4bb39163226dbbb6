"""Sources as projects write them; each test names what it takes from one."""

AUTORESEARCH = b'''"""Autoresearch pretraining script."""
import os
import torch

@dataclass
class GPTConfig:
    sequence_len: int = 2048
    vocab_size: int = 32768
    n_layer: int = 12
    n_head: int = 6
    n_kv_head: int = 6
    n_embd: int = 768
    window_pattern: str = "SSSL"

# Model architecture
ASPECT_RATIO = 64       # model_dim = depth * ASPECT_RATIO
HEAD_DIM = 128          # target head dimension for attention
WINDOW_PATTERN = "SSSL" # sliding window pattern: L=full, S=half context

# Optimization
TOTAL_BATCH_SIZE = 2**19 # ~524K tokens per optimizer step
EMBEDDING_LR = 0.6      # learning rate for token embeddings (Adam)
MATRIX_LR = 0.04        # learning rate for matrix parameters (Muon)
WEIGHT_DECAY = 0.2      # cautious weight decay for Muon
ADAM_BETAS = (0.8, 0.95) # Adam beta1, beta2
WARMUP_RATIO = 0.0      # fraction of time budget for LR warmup
WARMDOWN_RATIO = 0.5    # fraction of time budget for LR warmdown
FINAL_LR_FRAC = 0.0     # final LR as fraction of initial

# Model size
DEPTH = 8               # number of transformer layers
DEVICE_BATCH_SIZE = 128  # per-device batch size (reduce if OOM)

t_start = time.time()
torch.manual_seed(42)
H100_BF16_PEAK_FLOPS = 989.5e12
TIME_BUDGET = 300
smooth_train_loss = 0
step = 0
while True:
    step += 1
'''

NANOGPT = b"""# config for a baby GPT
out_dir = 'out-shakespeare-char'
eval_interval = 250 # keep frequent because we'll overfit
eval_iters = 200
log_interval = 10
always_save_checkpoint = False
wandb_log = False
gradient_accumulation_steps = 1
batch_size = 64
block_size = 256 # context of up to 256 previous characters

n_layer = 6
n_head = 6
n_embd = 384
dropout = 0.2
bias = False

learning_rate = 1e-3 # with baby networks can afford to go a bit higher
max_iters = 5000
lr_decay_iters = 5000 # make equal to max_iters usually
min_lr = 1e-4
beta2 = 0.99
warmup_iters = 100
seed_offset = 0
iter_num = 0
best_val_loss = 1e9
if ddp:
    gradient_accumulation_steps //= world
while True:
    iter_num += 1
    if iter_num > max_iters:
        break
"""

CLASSES = b'''from dataclasses import dataclass, field
import attrs

@dataclass(frozen=True)
class Config:
    """A docstring with lr = 5."""
    lr: float = 3e-4  # peak
    layers: int = field(default=4)
    use_bias: bool = True
    name: str = "gpt"
    betas: tuple[float, float] = (0.9, 0.95)

class TrainArgs:
    warmup_steps = 1_000
    _hidden = 3

class Unrelated:
    alpha = 0.5

config = Config(lr=6e-4)
HYPER = {"lr": 3e-4, "optimizer": {"weight_decay": 0.1, "eps": 1e-8}, "width": 4 * 64}
SCHEDULE = dict(warmup=20, floor=0.1)
'''

OPTIONS = b"""import argparse, click
def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--lr", type=float, default=3e-4, help="peak")
    p.add_argument("-b", "--batch-size", type=int, default=32)  # search: 8, 32, 128
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--name", default="run")
    return p.parse_args()

@click.command()
@click.option("--dropout", default=0.1, show_default=True)
@click.option("--compile/--no-compile", default=False)
def main(dropout, compile): ...
"""

YAML = b"""# a comment: lr: 5
model:
  n_layer: 4      # blocks
  n_head: 4
  n_embd: 128
  activation: relu  # search: relu, gelu
optimizer: {lr: 6.0e-4, betas: [0.9, 0.95], fused: yes}
text_lr: 3e-4
anchor: &wd 0.1
again: *wd
quoted: "0.5"
block: |
  lr: 7.0
seed: 1337
"""

TOML = b'''# lr = 9.0
title = "lr = 8.0"
lr = 3e-4 # peak
[model]
n_layer = 4
dropout = 0.10   # search: 0..0.5 linear
sizes = [64,
  128]
when = 1979-05-27
text = """
lr = 7.0
"""
activation = "relu" # search: relu, gelu
[optimizer]
betas = [0.9, 0.95]
inline = { eps = 1e-8, fused = true }
[[stage]]
warmup_steps = 1_000
[[stage]]
warmup_steps = 2_000
'''
