"""Changes to sample_project/train.py that are worth a trial, as somebody who has read it would propose them.

Each finds its place in the file as it is now; one that does not find it, or that is there already, is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Edit = tuple[str, str]  # text that occurs once, and what takes its place


@dataclass(frozen=True, slots=True)
class Idea:
    """``gain``: expected fall of val_bpb, in bits per byte. ``edits``: None where the file has no such place."""

    title: str
    kind: str
    thought: str
    hypothesis: str
    gain: float
    edits: Callable[[str], Sequence[Edit] | None]

    @property
    def refuted_by(self) -> str:
        return f"val_bpb that falls by less than {self.gain / 2:.3f} in the mean of fresh seeds"

    def found(self, text: str) -> Sequence[Edit] | None:
        """The edits for this very text; None unless each place occurs exactly once and something changes."""
        edits = self.edits(text)
        if not edits or any(text.count(old) != 1 or old == new for old, new in edits):
            return None
        # What is only put beside its place leaves the place as it was.
        return None if any(old in new and new in text for old, new in edits) else edits


def constant(name: str, value: Callable[[float], float]) -> Callable[[str], Sequence[Edit] | None]:
    """The edit of a constant at the top of the file, its comment kept."""

    def edits(text: str) -> Sequence[Edit] | None:
        match = re.search(rf"^{name} = ([-+.\de]+)", text, re.MULTILINE)
        if match is None:
            return None
        old = float(match[1])
        new = value(old)
        whole = "." not in match[1] and "e" not in match[1]
        return [(match[0], f"{name} = {max(1, round(new)) if whole else _plain(new)}")]

    return edits


def _plain(value: float) -> str:
    text = f"{value:.4g}"
    return text if "." in text or "e" in text else f"{text}.0"


def swaps(*edits: Edit) -> Callable[[str], Sequence[Edit] | None]:
    return lambda text: edits


def at_most(limit: float) -> Callable[[float], float]:
    return lambda old: min(old, limit)


def at_least(limit: float) -> Callable[[float], float]:
    return lambda old: max(old, limit)


def times(factor: float) -> Callable[[float], float]:
    return lambda old: old * factor


HEAD = "self.head = nn.Linear(shape.model_dim, prepare.VOCAB_SIZE, bias=False)"
LOGITS = "logits: torch.Tensor = self.head(self.norm(x))"
CAP = swaps(
    ("INIT_STD = ", "LOGIT_CAP = 15.0         # logits are squashed smoothly into +-this\nINIT_STD = "),
    (LOGITS, "logits: torch.Tensor = LOGIT_CAP * torch.tanh(self.head(self.norm(x)) / LOGIT_CAP)"),
)
# The same with the slip of a finger that only running shows: an AttributeError. Where mistakes are asked for.
CAP_MISSPELT = swaps(
    ("INIT_STD = ", "LOGIT_CAP = 15.0         # logits are squashed smoothly into +-this\nINIT_STD = "),
    (LOGITS, "logits: torch.Tensor = LOGIT_CAP * torch.tanh(self.head(self.norms(x)) / LOGIT_CAP)"),
)

IDEAS = (
    Idea(
        "Double the learning rate", "optimizer",
        "The budget is some five hundred small steps, and AdamW at 1e-3 is a rate for long runs. The model is only"
        " 64 wide, so it should stand a larger step. ",
        "Training ends long before the loss flattens, so a peak rate twice as high should get further.",
        0.08, constant("LEARNING_RATE", times(2)),
    ),
    Idea(
        "Wider initialisation", "initialisation",
        "0.02 is GPT-2's figure for width 768. At width 64 one over the square root of the fan-in is 0.125, so"
        " signals start much too small and the first steps go into growing them. ",
        "An initial standard deviation nearer to 1/sqrt(width) saves the steps that now grow the weights.",
        0.12, constant("INIT_STD", at_least(0.05)),
    ),
    Idea(
        "Warm up over 5 percent only", "schedule",
        "A fifth of the budget goes into warming up. With clipping at 1.0 and so small a model instability is no"
        " worry after a few dozen steps. ",
        "Steps spent below the peak rate are mostly lost here: a shorter warmup trains longer at full rate.",
        0.03, constant("WARMUP_RATIO", at_most(0.05)),
    ),
    Idea(
        "Squared ReLU in the MLP", "architecture",
        "Primer found squared ReLU the one change to the MLP that reliably helps small language models, and it is"
        " cheaper than GELU on a CPU. ",
        "Squared ReLU gives sparser and sharper features at the same cost, which shows early in training.",
        0.05, swaps(("F.gelu(self.mlp_in(self.norm_mlp(x)))", "F.relu(self.mlp_in(self.norm_mlp(x))).square()")),
    ),
    Idea(
        "RMSNorm in place of LayerNorm", "architecture",
        "There are no biases anywhere else; taking the mean out does little, and RMSNorm is what recipes of today"
        " use. Three places have to change together. ",
        "Without the centring the norm keeps one more direction of the stream and costs less.",
        0.04,
        swaps(
            ("self.norm_attention = nn.LayerNorm(dim, bias=False)", "self.norm_attention = nn.RMSNorm(dim)"),
            ("self.norm_mlp = nn.LayerNorm(dim, bias=False)", "self.norm_mlp = nn.RMSNorm(dim)"),
            ("self.norm = nn.LayerNorm(shape.model_dim, bias=False)", "self.norm = nn.RMSNorm(shape.model_dim)"),
        ),
    ),
    Idea(
        "Half the batch, twice the steps", "batch",
        "The budget is arithmetic, not steps: half the batch is twice the updates. So early in training the"
        " gradient's direction is clear and noise is no limit. ",
        "Far below the critical batch size, more and smaller steps learn more from the same compute.",
        0.07, constant("BATCH_SIZE", times(0.5)),
    ),
    Idea(
        "Beta2 of 0.95", "optimizer",
        "A memory of a thousand steps is twice the whole run: the second moment is still filling up when training"
        " ends. Language models are usually trained with 0.95. ",
        "A second moment that forgets in twenty steps follows the fast early changes of the gradient's scale.",
        0.03, constant("BETA2", at_most(0.95)),
    ),
    Idea(
        "Two blocks in place of three", "architecture",
        "A bigger model gets fewer steps here. Over so few steps a shallower one may well be ahead. ",
        "At this budget the number of steps limits more than the depth does.",
        0.08, constant("DEPTH", lambda old: max(2, old - 1)),
    ),
    Idea(
        "Warm down over half of the budget", "schedule",
        "Decay is where the noise of the large steps is averaged out. A fifth is short for a high peak rate. ",
        "A longer linear decay lowers the loss at the end, as it does in most budgeted runs.",
        0.03, constant("WARMDOWN_RATIO", at_least(0.5)),
    ),
    Idea(
        "Weight decay of 0.01", "regularisation",
        "Not one epoch is finished, so there is nothing to overfit; decay only pulls against learning. ",
        "With fresh data in every step less weight decay costs nothing and leaves more of each update.",
        0.02, constant("WEIGHT_DECAY", at_most(0.01)),
    ),
    Idea(
        "Normalise queries and keys", "architecture",
        "QK norm keeps attention logits in range, which lets the rate be higher. It is one line after the permute. ",
        "Attention with normed queries and keys trains stably at the higher rates that this budget wants.",
        0.03,
        swaps((
            "q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [batch, heads, length, head_dim]\n",
            "q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [batch, heads, length, head_dim]\n"
            "        q, k = F.rms_norm(q, (self.head_dim,)), F.rms_norm(k, (self.head_dim,))\n",
        )),
    ),
    Idea(
        "Tie the embedding and the head", "architecture",
        "Both are 256 x 64 and both learn which bytes are alike. Tied, each step trains them twice. The head's"
        " arithmetic stays, so the count of FLOPs must keep it: all parameters then are in a matmul. ",
        "Sharing the byte embedding with the output layer halves what has to be learned about single bytes.",
        0.03,
        swaps(
            (f"        {HEAD}\n", ""),
            (LOGITS, "logits: torch.Tensor = F.linear(self.norm(x), self.embedding.weight)"),
            ("device = model.head.weight.device", "device = model.embedding.weight.device"),
            (
                "matmuls = sum(p.numel() for p in parameters) - model.embedding.weight.numel()",
                "matmuls = sum(p.numel() for p in parameters)  # the embedding is also the head",
            ),
        ),
    ),
    Idea(
        "Decay the rate to zero", "schedule",
        "It stops at a tenth of the peak. The last steps still jump about. ",
        "Ending at zero averages the noise of the last steps out completely.",
        0.01, constant("FINAL_LR_FRAC", at_most(0.0)),
    ),
    Idea(
        "Soft cap on the logits", "architecture",
        "Squashing the logits smoothly keeps single confident mistakes from dominating the gradient. ",
        "A cap of 15 bounds the loss of rare bytes and steadies the early steps.",
        0.01, CAP,
    ),
)  # fmt: skip

_TUNED = (
    ("LEARNING_RATE", "optimizer"), ("INIT_STD", "initialisation"), ("WEIGHT_DECAY", "regularisation"),
    ("MLP_RATIO", "architecture"), ("WARMDOWN_RATIO", "schedule"), ("GRAD_CLIP", "optimizer"),
)  # fmt: skip


def tuning(text: str) -> Iterator[Idea]:
    """Without end: constants moved from where they are now, each round by less."""
    rounds = 0
    while True:
        rounds += 1
        step = 1.0 + 0.4 / rounds
        for name, kind in _TUNED:
            for factor in (step, 1 / step):
                match = re.search(rf"^{name} = ([-+.\de]+)", text, re.MULTILINE)
                was = match[1] if match else "?"
                yield Idea(
                    f"{name} from {was} times {factor:.3g}", kind,
                    f"The big changes are made; {name} was set before them and may have moved. ",
                    f"{name} is tuned for an older version of the file; a small move shows which way is better.",
                    0.01, constant(name, times(factor)),
                )  # fmt: skip
        if rounds > 50:
            return
