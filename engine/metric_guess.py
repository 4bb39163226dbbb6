"""Guesses, from the formats in which a script prints, what its metric is called. Parses; never runs. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.metrics import LogParser
from engine.types import Goal

_HOLE = "\0"
_LARGER = """acc accuracy f1 auc auroc bleu rouge score reward return returns iou miou dice psnr ssim
precision recall map r2 win winrate success correct top1 top5 em mrr ndcg pearson spearman throughput"""
_SMALLER = """loss bpb bpc bits ppl perplexity nll error err mse rmse mae wer cer fid kl elbo cost regret ece
brier"""
_OTHER = """train training lr time seconds sec ms step steps epoch tok tokens memory mem mfu grad norm"""

_BETTER_LARGER, _BETTER_SMALLER = frozenset(_LARGER.split()), frozenset(_SMALLER.split())
_HELD_OUT = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev", "heldout", "holdout", "test"})
_NOT_IT = frozenset(_OTHER.split())


@dataclass(frozen=True, slots=True)
class MetricGuess:
    """``pattern`` is "" when the engine reads the format by itself. ``where`` is ``file:line``."""

    name: str
    goal: Goal
    where: str
    pattern: str = ""
    weight: float = 0.0


def goal_of(name: str) -> Goal:
    """Which way is better, by the words of a metric's name; minimise when none says."""
    return Goal.MAXIMIZE if _words(name) & _BETTER_LARGER and not _words(name) & _BETTER_SMALLER else Goal.MINIMIZE


def guess_metrics(sources: Mapping[str, bytes]) -> list[MetricGuess]:
    """Likely metrics of Python ``sources`` (path -> content), the likeliest first, one a name."""
    best: dict[str, MetricGuess] = {}
    for path, content in sources.items():
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):
            continue
        for line, shape in _shapes(tree):
            for guess in _from_shape(shape, f"{path}:{line}"):
                known = best.get(guess.name)
                # A line that needs no pattern is the surer one; a later line is nearer to the end of the run.
                if known is None or (guess.weight, not guess.pattern) >= (known.weight, not known.pattern):
                    best[guess.name] = guess
    return sorted(best.values(), key=lambda guess: (-guess.weight, bool(guess.pattern), guess.name))


def _words(name: str) -> set[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return set(re.findall(r"[a-z]+[0-9]*", spaced.lower()))


def _weight(name: str) -> float:
    """0 when ``name`` does not sound like a result at all."""
    words = _words(name)
    if not words & (_BETTER_LARGER | _BETTER_SMALLER):
        return 0.0
    return (
        1.0 + 3.0 * bool(words & _HELD_OUT) + 0.5 * bool(words & {"best", "final"}) - 0.9 * bool(words & _NOT_IT)
    )


def _from_shape(shape: str, where: str) -> Iterator[MetricGuess]:
    """Metrics of one printed line, whose values are holes."""
    for line in shape.split("\n"):
        line = line.split("\r")[-1].strip()
        for hole in re.finditer(_HOLE, line):
            before = line[: hole.start()].rpartition(_HOLE)[2]
            label = re.search(r"([A-Za-z][\w/.@-]*(?: [A-Za-z][\w/.@-]*){0,2})\s*[\"']?\s*[:=]?\s*$", before)
            if label is None:
                continue
            words = label[1].split()
            # "Epoch 3 val loss": the measure is the end of it, and what is held out stands right before.
            for length in range(len(words), 0, -1):
                printed = " ".join(words[-length:])
                name = re.sub(r"\W+", "_", printed).strip("_")
                if length > 1 and not _words(words[-length]) & (_HELD_OUT | {"best", "final"}):
                    continue
                if weight := _weight(name):
                    weight += 0.5 * bool(_words(line) & _HELD_OUT and not _words(name) & _HELD_OUT)
                    yield _read_by(line, hole.start(), before, printed, name, weight, where)
                    break


def _read_by(line: str, at: int, before: str, printed: str, name: str, weight: float, where: str) -> MetricGuess:
    """Whether the engine reads this line unaided, asked of its own parser with a number in each hole."""
    sample = (line[:at] + "0.625" + line[at + 1 :]).replace(_HOLE, "3")
    for unaided in dict.fromkeys((name, printed)):
        parser = LogParser(unaided)
        parser.feed(b"---\n" * line.startswith("---") + sample.encode(errors="replace") + b"\n")
        if parser.finish().objective == 0.625:
            return MetricGuess(unaided, goal_of(name), where, "", weight)
    anchor = re.escape(before.lstrip(" |,;-(\t")[-60:].rstrip()).replace(r"\ ", r"\s+").replace(" ", r"\s+")
    return MetricGuess(name, goal_of(name), where, anchor + r"\s*(nan|[-+]?inf|[-+0-9.eE]+)", weight)


# --- what a call prints, with holes for values ---------------------------------------------------


def _shapes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in {
            "print",
            "info",
            "warning",
            "write",
            "log",
            "echo",
            "print0",
            "master_print",
            "tqdm_write",
        }:
            parts = [_shape(argument) for argument in node.args]
            yield node.lineno, " ".join(part for part in parts if part is not None)


def _shape(node: ast.expr) -> str:
    """The text of an expression with a hole for each value that is not literally there."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.FormattedValue(value=ast.Constant(value=str(text))):  # f"{'val_bpb:':17}"
            return text
        case ast.JoinedStr(values=values):
            return "".join(_shape(value) for value in values)
        case ast.BinOp(left=left, op=ast.Mod()) if isinstance(left, ast.Constant) and isinstance(left.value, str):
            return re.sub(r"%[-+ 0#]*[\d*]*(?:\.\d+)?[sdifgeEGr]", _HOLE, left.value).replace("%%", "%")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _shape(left) + _shape(right)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return re.sub(r"\{[^{}]*\}", _HOLE, text)
        case ast.Call(func=ast.Attribute(attr="dumps"), args=[ast.Dict(keys=keys), *_]):
            names = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            return "{" + ", ".join(f'"{name}": {_HOLE}' for name in names) + "}"
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return _shape(inner)
        case _:
            return _HOLE
