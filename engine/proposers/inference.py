"""What a constant probably is, from its name and value, and the range that follows from it.

What is left out matters more than what is found: seeds make luck look like progress, budgets buy the
score with compute, and the vocabulary or the context length belongs to the data and its evaluation.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.errors import ConfigError
from engine.proposers.constants import Constant, find_constants
from engine.proposers.ranges import Excluded, Range, parse_range

_COMMENT = re.compile(r"(?:^|[#;]\s*|\s)search:\s*(.+?)\s*$")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")

# First match wins; a name is taken apart into lower-case words.
_LEFT_OUT: tuple[tuple[str, str], ...] = (
    ("seed rng", "a seed: another one is luck, not progress"),
    (
        "log eval evals val valid validation test print save checkpoint ckpt snapshot sample samples wandb "
        "tensorboard debug verbose profile plot report monitor resume interval every freq frequency progress",
        "logging, evaluation or saving: no part of training",
    ),
    (
        "seconds secs minutes hours time timeout deadline budget duration",
        "a time budget: raising it would buy the score",
    ),
    ("epochs epoch", "the length of training: raising it would buy the score"),
    ("vocab vocabulary", "belongs to the data (vocabulary)"),
    (
        "path dir directory file filename url host port version device rank world node nodes gpus gpu cuda "
        "ddp distributed master year flops tflops peak mfu bandwidth",
        "describes the machine or the set-up",
    ),
    ("workers threads prefetch nproc cores cpus", "changes the speed of loading, not learning"),
    ("best running iteration patience loss count total current", "a counter or a record"),
    ("classes labels image resolution pad ignore bos eos id idx index", "belongs to the data"),
)
_OF_GROUPS = {
    "logging, evaluation or saving: no part of training",
    "describes the machine or the set-up",
}
_CONTEXT = (
    ("block", "size"),
    ("context",),
    ("ctx",),
    ("seqlen",),
    ("seq", "len"),
    ("seq", "length"),
    ("sequence", "len"),
    ("sequence", "length"),
    ("max", "len"),
    ("max", "length"),
)
_LENGTH = ({"steps", "step", "iters", "iter", "iterations", "tokens"}, {"num", "n", "max", "total", "train"})
_SCHEDULE = {"warmup", "warm", "cooldown", "warmdown", "decay", "accum", "accumulation", "anneal", "burn"}
_DIMENSION = {
    "embd", "embed", "emb", "dim", "hidden", "width", "model", "dmodel", "channels", "ff", "ffn", "inner",
}  # fmt: skip
_HEADS = {"head", "heads", "nhead", "nheads"}
_LAYERS = {"layer", "layers", "depth", "blocks", "nlayer", "nlayers"}
_BATCH = {"batch", "bs", "microbatch", "batchsize", "accum", "accumulation"}
_FRACTION = {"frac", "fraction", "ratio", "prob", "probability", "pct"}


def words_of(name: str) -> tuple[str, ...]:
    """``HYPER.n_embd`` -> ("n", "embd"); ``learningRate`` -> ("learning", "rate"); ``--lr`` -> ("lr",)."""
    last = re.sub(r"(\[\d+\]|#\d+)", "", name).split(".")[-1]
    return tuple(word.lower() for word in _WORD.findall(last))


def infer_range(constant: Constant, everything: Sequence[Constant]) -> Range | Excluded:
    """Where ``constant`` may be searched, from its trailing ``# search:`` comment, else name and value.

    ``everything`` are all constants found (sizes that must stay divisible look at each other).
    """
    written = _COMMENT.search(constant.comment)
    if written:
        try:
            given = parse_range(written[1], constant.value)
        except ConfigError as fault:
            return Excluded(f"its comment was not understood: {fault.message}; {fault.mend}")
        return given.including(constant.value) if isinstance(given, Range) else given
    words = words_of(constant.name)
    left_out = _left_out(constant, words)
    if left_out:
        return Excluded(left_out)
    value = constant.value
    if isinstance(value, bool):
        return Range("choice", steps=(False, True), role="switch", weight=1.0)
    if isinstance(value, int):
        return _integer(constant, value, words, everything)
    assert isinstance(value, float)
    return _float(value, words)


def choose_ranges(
    constants: Sequence[Constant], space: Mapping[str, str]
) -> dict[str, tuple[Constant, Range | Excluded]]:
    """Every constant by its key with its range; ``space`` (key or bare name -> range) comes first.

    Raises ConfigError for a range that cannot be read.
    """
    chosen: dict[str, tuple[Constant, Range | Excluded]] = {}
    for constant in constants:
        written = space.get(constant.key, space.get(constant.name))
        if written is None:
            chosen[constant.key] = constant, infer_range(constant, constants)
            continue
        try:
            given = parse_range(written, constant.value)
        except ConfigError as fault:
            where = f"[proposer.search] ranges, {constant.key}"
            raise ConfigError(f"{where}: {fault.message}", fault.mend) from None
        if isinstance(given, Range):
            given = given.including(constant.value)
        chosen[constant.key] = constant, given
    return chosen


def unknown_names(constants: Sequence[Constant], space: Mapping[str, str]) -> list[str]:
    """One sentence for each entry of ``space`` that names no constant, with the nearest one."""
    known = [c.key for c in constants] + [c.name for c in constants]
    lines = []
    for name in space:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{name}: no constant of this name in the editable files{hint}")
    return lines


def describe(files: Mapping[str, bytes], space: Mapping[str, str] | None = None) -> list[str]:
    """What the search would change in these (editable) files and what it leaves out, a line each."""
    constants = [c for path in sorted(files) for c in find_constants(path, files[path])]
    chosen = choose_ranges(constants, space or {})
    searched, left = [], []
    for constant, range_ in chosen.values():
        where = f"{constant.path}:{constant.line}  {constant.name} = {constant.source}"
        if isinstance(range_, Range):
            searched.append(f"searched  {where}  over {range_}  ({range_.role})")
        elif constant.kind != "text":
            left.append(f"left out  {where}  ({range_.reason})")
    lines = [*searched, *left, *(f"unknown   {line}" for line in unknown_names(constants, space or {}))]
    if not searched:
        lines.append('nothing to search: add "# search: 1e-4..1e-2 log" behind a number in an editable file')
    return lines


def _left_out(constant: Constant, words: tuple[str, ...]) -> str:
    if constant.kind == "text":
        return "text: list its choices, as in  # search: relu, gelu"
    if constant.note:
        return constant.note
    last = constant.name.split(".")[-1]
    if last.startswith("_"):
        return "private (leading underscore)"
    present = set(words)
    whole = {word for part in constant.name.split(".") for word in words_of(part)}
    for listed, reason in _LEFT_OUT:
        names = set(listed.split())
        if reason in _OF_GROUPS and whole & names:
            return reason  # GPU_TIMES.lr, eval.batch_size
        if present & names and not (present & _SCHEDULE and names & {"epochs", "iteration"}):
            # "total_batch_size" is a size; "loss_scale" and "z_loss_weight" are weights.
            if names & {"total"} and present & (_BATCH | {"weight", "scale", "coef", "lambda"}):
                continue
            return reason
    for phrase in _CONTEXT:
        if any(words[i : i + len(phrase)] == phrase for i in range(len(words))):
            return "context length: belongs to the data and its evaluation"
    units, amounts = _LENGTH
    bare = len(words) == 1 or present & amounts
    if present & units and bare and not present & (_SCHEDULE | _BATCH):
        return "the length of training: raising it would buy the score"
    if words[-1:] in (("iters",), ("steps",)) and "lr" in present:
        return "tied to the length of training"
    if isinstance(constant.value, float) and not math.isfinite(constant.value):
        return "not finite"
    return ""


def _integer(
    constant: Constant, value: int, words: tuple[str, ...], everything: Sequence[Constant]
) -> Range | Excluded:
    present = set(words)
    if value <= 0:
        if value == 0 and present & {"warmup", "cooldown", "warmdown"}:
            return Range("ladder", steps=(0, 10, 20, 50, 100, 200), integer=True, role="schedule", weight=3.0)
        return Excluded("zero or negative: no scale to search on; give a range")
    if present & _HEADS and not present & {"dim", "size"}:
        return _heads(constant, value, everything)
    if present & _LAYERS and value <= 200:
        low, high = max(1, value // 2), max(2, value * 2)
        return Range("linear", low, high, integer=True, role="depth", weight=2.0)
    if present & {"warmup", "cooldown", "warmdown"}:
        return Range("log", max(1, value // 8), value * 4, integer=True, role="schedule", weight=3.5)
    if present & _BATCH:
        return _doublings(value, 2, "batch size", 5.0)
    if present & _DIMENSION:
        return _dimension(constant, value, words, everything)
    if value > 10_000_000:
        return Excluded("a very large number of unknown meaning; give a range")
    if value >= 16 and value & (value - 1) == 0:
        return _doublings(value, 2, "power of two", 1.0)
    if value <= 8:
        return Range("linear", 1, max(3, value * 2), integer=True, role="small count", weight=0.7)
    return Range("log", max(1, value // 4), value * 4, integer=True, role="count", weight=0.7)


def _doublings(value: int, times: int, role: str, weight: float) -> Range:
    steps = {value * 2**k for k in range(times + 1)}
    steps |= {value // 2**k for k in range(times + 1) if value % 2**k == 0}
    if len(steps) == times + 1 and value > 2:  # odd: at least something smaller
        steps.add(value // 2)
    return Range("ladder", steps=tuple(sorted(steps)), integer=True, role=role, weight=weight)


def _head_counts(constant: Constant, everything: Sequence[Constant]) -> list[int]:
    return [
        int(c.value)
        for c in everything
        if c.path == constant.path and c.key != constant.key and c.kind == "int" and int(c.value) > 0
        and set(words_of(c.name)) & _HEADS and not set(words_of(c.name)) & {"dim", "size"}
    ]  # fmt: skip


def _widths(constant: Constant, everything: Sequence[Constant]) -> list[int]:
    """Residual widths of the same file that ``constant`` divides."""
    names = {"embd", "embed", "emb", "model", "hidden", "width", "dmodel"}
    return [
        int(c.value)
        for c in everything
        if c.path == constant.path and c.kind == "int" and int(c.value) > 0
        and set(words_of(c.name)) & names and not set(words_of(c.name)) & (_HEADS | _LAYERS)
        and int(c.value) % int(constant.value) == 0
    ]  # fmt: skip


def _heads(constant: Constant, value: int, everything: Sequence[Constant]) -> Range | Excluded:
    """Divisors of every width found that leave an even head of 8 to 256 (rotary embeddings halve it)."""
    widths = _widths(constant, everything)
    others = _head_counts(constant, everything)
    if not widths:
        return _doublings(value, 1, "heads", 1.0)
    steps = [
        h
        for h in range(1, value * 4 + 1)
        if all(w % h == 0 and (w // h) % 2 == 0 and 8 <= w // h <= 256 for w in widths)
        and all(h % o == 0 or o % h == 0 for o in others)
        # grouped-query attention: the larger of the two counts must stay the larger
        and all((h >= o) == (value >= o) for o in others)
    ]
    if value not in steps or len(steps) < 2:
        return Excluded("no other number of heads divides the width evenly")
    return Range("ladder", steps=tuple(steps), integer=True, role="heads", weight=1.0)


def _head_size(constant: Constant, value: int, everything: Sequence[Constant]) -> Range | Excluded:
    """Doublings that still divide the width, where a width is given as a number at all."""
    range_ = _doublings(value, 1, "head size", 1.0)
    widths = _widths(constant, everything)
    steps = tuple(s for s in range_.steps if all(w % int(s) == 0 for w in widths) and int(s) % 2 == 0)
    if value not in steps or len(steps) < 2:
        return Excluded("no other head size divides the width evenly")
    return replace(range_, steps=steps)


def _dimension(
    constant: Constant, value: int, words: tuple[str, ...], everything: Sequence[Constant]
) -> Range | Excluded:
    """Widths from half to twice the present one that every number of heads still divides."""
    if set(words) & _HEADS:
        return _head_size(constant, value, everything)
    heads = [n for n in _head_counts(constant, everything) if value % n == 0]
    sizes = [
        int(c.value)
        for c in everything
        if c.path == constant.path and c.kind == "int" and int(c.value) > 0
        and {"head", "dim"} <= set(words_of(c.name)) and value % int(c.value) == 0
    ]  # fmt: skip
    unit = math.lcm(*heads, *sizes)
    if sizes:
        pass  # whole heads
    elif heads and value % (unit * 8) == 0:
        unit *= 8
    elif heads and value % (unit * 2) == 0:
        unit *= 2
    elif value & (value - 1) == 0 and not heads:
        return _doublings(value, 1, "dimension", 2.0)
    elif not heads:
        unit = value & -value  # the largest power of two that divides it now
    if unit >= value:
        return _doublings(value, 1, "dimension", 2.0)
    steps = [n for n in range(unit, 2 * value + 1, unit) if 2 * n >= value]
    stride = math.ceil(len(steps) / 9)
    at = steps.index(value)
    kept = [n for i, n in enumerate(steps) if (i - at) % stride == 0]
    if len(kept) < 2:
        return Excluded("no other size keeps it divisible")
    return Range("ladder", steps=tuple(kept), integer=True, role="dimension", weight=2.0)


def _float(value: float, words: tuple[str, ...]) -> Range | Excluded:
    present = set(words)

    def log(factor: float, role: str, weight: float) -> Range:
        ends = sorted((value / factor, value * factor))
        return Range("log", ends[0], ends[1], role=role, weight=weight)

    rate = present & {"lr", "lrate", "η"} or {"learning", "rate"} <= present
    share = bool(present & _FRACTION or "final" in present)
    if value == 0.0:
        if present & {"decay", "wd", "dropout", "smoothing", "drop"}:
            return Range("linear", 0.0, 0.3, role="regularisation", weight=2.5)
        if share or present & {"warmup", "cooldown", "warmdown"}:
            return Range("linear", 0.0, 0.5, role="fraction", weight=3.0)
        return Excluded("zero: no scale to search on; give a range")
    if not 1e-30 < abs(value) < 1e12:
        return Excluded("a very large or small number of unknown meaning; give a range")
    if rate and not share and value > 0:
        small = present & {"min", "decay"}
        return log(8.0, "floor of the learning rate" if small else "learning rate", 2.5 if small else 16.0)
    if present & {"eps", "epsilon"}:
        return log(100.0, "numerical guard", 0.5)
    if present & {"beta", "betas", "beta1", "beta2", "momentum", "ema", "β"} and 0.5 <= value < 1:
        gap = 1.0 - value
        return Range(
            "complement", 1 - min(gap * 6, 0.5), 1 - gap / 6, role="momentum", weight=4.0
        )  # fmt: skip
    if present & {"decay", "wd", "weightdecay", "l2"} and value > 0:
        return log(8.0, "weight decay", 4.0)
    if present & {"dropout", "drop", "smoothing"} and 0 < value < 1:
        return Range("linear", 0.0, max(0.5, value), role="regularisation", weight=2.5)
    if present & {"std", "init", "stddev"} and value > 0:
        return log(4.0, "initialisation", 4.0)
    if present & {"clip", "clipping"} and value > 0:
        return log(4.0, "clipping", 2.0)
    if (share or present & {"warmup", "cooldown", "warmdown"}) and 0 < value <= 1:
        return Range("linear", 0.0, min(1.0, max(0.5, 2.5 * value)), role="fraction", weight=3.0)
    if 0.05 <= value < 1:
        odds = value / (1 - value)
        low, high = odds / 6, odds * 6
        return Range("odds", low / (1 + low), high / (1 + high), role="fraction", weight=1.0)
    return log(4.0, "scale", 1.0)
