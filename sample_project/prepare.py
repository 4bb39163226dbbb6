"""Frozen: the corpus, the two splits, the budget and the shape of the evaluation.

    python prepare.py                                   # Python's own standard library, no download
    python prepare.py --corpus PATH                     # a .txt or .bin file, or a folder of .txt/.parquet
    python prepare.py --corpus huggingface:NAME         # streams a public data set (needs `datasets`)

Text is bytes: a vocabulary of 256, no tokenizer, scores in bits per byte. Training data goes to
``data/train/`` and validation data to ``data/validation/`` beside this file, so that the two can be mounted
apart: a training run never needs to see the second folder. ``RATCHET_DATA`` names another folder.

No 64 consecutive bytes of the validation split occur anywhere in the training split: lines of validation
text that training text repeats (licences, copied modules) are cut out of it. See ``without_repeats``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

VOCAB_SIZE = 256
BOUNDARY = b"\0"  # between documents; never occurs in text
REPEAT = 64  # bytes; a validation line with a stretch this long that training also has is cut
FORMAT = 1  # of the manifest

# Packages held out for validation: nothing a training run imports needs them, so that a sandbox can also
# hide their source from it. Distributions leave some out; then the reserves fill up, in this order.
HELD_OUT = ("pydoc_data", "idlelib", "lib2to3", "turtledemo")
RESERVES = ("tkinter", "wsgiref", "ensurepip", "curses", "dbm", "venv")
VALIDATION_BYTES_MIN = 400_000
TRAIN_BYTES_MIN = 1_000_000
# Not text worth learning (character tables), or there on some installations only (tests).
LEFT_OUT = ("encodings", "test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__")

# --- budget and evaluation: what makes two scores comparable ------------------------------------------

# On a CPU the budget is arithmetic, not seconds: the same seed then gives the same score to the last bit,
# whatever else the machine does, while a bigger model still pays for its size with fewer steps.
CPU_FLOPS = 6.0e11
GPU_SECONDS = 300.0
CONTEXT = {"cpu": 128, "cuda": 1024}  # bytes the predictor sees at evaluation, whatever it trained on
EVAL_WINDOWS = {"cpu": 512, "cuda": 1024}


@dataclass(frozen=True)
class Budget:
    """When training ends: after ``steps``, or where they are None after ``seconds`` of training."""

    steps: int | None
    seconds: float


def flops_per_token(matmul_parameters: int, depth: int, model_dim: int, context: int) -> int:
    """Training arithmetic (forward and backward) for one token: 6N + 12LdT (PaLM, appendix B)."""
    return 6 * matmul_parameters + 12 * depth * model_dim * context


def budget(device: str, flops_per_step: float) -> Budget:
    """``RATCHET_STEPS`` where it is set; else arithmetic on a CPU, ``RATCHET_TIME_BUDGET`` seconds on a GPU.

    A CPU run is not cut short by the clock: it ends whole or is killed by its time-out, so that a busy
    machine never gives a worse score that looks like any other.
    """
    seconds = float(os.environ.get("RATCHET_TIME_BUDGET") or GPU_SECONDS)
    if steps := int(os.environ.get("RATCHET_STEPS") or 0):
        return Budget(steps, seconds)
    if device == "cpu":
        return Budget(max(1, round(CPU_FLOPS / flops_per_step)), seconds)
    return Budget(None, seconds)


# --- where the data lies ------------------------------------------------------------------------------


def data_root() -> Path:
    return Path(os.environ.get("RATCHET_DATA") or Path(__file__).with_name("data")).absolute()


def ensure(split: str) -> Path:
    """The file of ``split`` ("train" or "validation"), whole and checked; prepared first if it is absent.

    Only the split asked for is written, so that a training run never has the other one beside it.
    """
    file = data_root() / split / f"{split}.bin"
    if not file.with_name("manifest.json").exists():
        prepare("python", splits=(split,))
    check(file)
    return file


def load(split: str) -> Bytes:
    """The bytes of ``split``, read-only, mapped rather than read."""
    return np.memmap(ensure(split), dtype=np.uint8, mode="r")


def manifest(split: str) -> dict[str, Any]:
    return dict(json.loads((data_root() / split / "manifest.json").read_text(encoding="utf-8")))


def check(file: Path) -> None:
    """Exit with the mend unless ``file`` is what its manifest says."""
    try:
        stated = json.loads(file.with_name("manifest.json").read_text(encoding="utf-8"))
        content = file.read_bytes()
        if stated["format"] == FORMAT and stated["sha256"] == hashlib.sha256(content).hexdigest():
            return
        fault = "does not match its manifest"
    except (OSError, ValueError, KeyError) as error:
        fault = f"cannot be read ({type(error).__name__}: {error})"
    sys.exit(f"{file} {fault}.\n  mend: delete the folder {file.parent} and run `python prepare.py`")


def evaluation_windows(device: str) -> Bytes:
    """[N, context + 1] bytes, evenly spaced over the validation split: inputs and, one further on, labels."""
    text = load("validation")
    context, count = CONTEXT[device], EVAL_WINDOWS[device]
    if len(text) <= context:
        sys.exit(f"the validation split has {len(text)} bytes; more than {context} are needed")
    starts = np.linspace(0, len(text) - context - 1, num=min(count, len(text) - context), dtype=np.int64)
    windows: Bytes = text[starts[:, None] + np.arange(context + 1)]
    return windows


# --- documents ----------------------------------------------------------------------------------------

Document = tuple[str, bytes]  # name, text


def python_documents() -> tuple[list[Document], list[Document], list[str]]:
    """The standard library's source as (training, validation) documents, and the held-out packages."""
    root = Path(sysconfig.get_path("stdlib"))
    packages: dict[str, list[Document]] = {}
    for folder, folders, names in os.walk(root):
        # Sorted in place: os.walk follows this order, and the order on disk differs between machines.
        folders[:] = sorted(f for f in folders if f not in LEFT_OUT and not f.startswith("config-"))
        inside = Path(folder).relative_to(root)
        package = inside.parts[0] if inside.parts else ""
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith(("_sysconfigdata", "sitecustomize")):
                text = (root / inside / name).read_bytes()
                packages.setdefault(package, []).append(((inside / name).as_posix(), text))

    def size(chosen: Iterable[str]) -> int:
        return sum(len(text) for package in chosen for _, text in packages.get(package, ()))

    held = [package for package in HELD_OUT if package in packages]
    for package in RESERVES:
        if size(held) < VALIDATION_BYTES_MIN and package in packages:
            held.append(package)
    rest = sorted(packages.keys() - set(held))
    if size(held) < VALIDATION_BYTES_MIN or size(rest) < TRAIN_BYTES_MIN:
        sys.exit(
            f"{root} holds too little Python source ({size(rest):,} bytes to train on, {size(held):,} held"
            " out).\n  mend: install the whole standard library (Debian: libpython3-stdlib and idle), or"
            " give text of your own: python prepare.py --corpus PATH"
        )
    return [d for p in rest for d in packages[p]], [d for p in held for d in packages[p]], held


def folder_documents(path: Path) -> Iterator[Document]:
    """Every .txt as one document and every row of every .parquet's ``text`` column as one, by name."""
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.suffix == ".txt":
            yield name, file.read_bytes()
        elif file.suffix == ".parquet":
            try:
                import pyarrow.parquet as parquet
            except ImportError:
                sys.exit(f"{file} needs pyarrow.\n  mend: pip install pyarrow")
            table = parquet.ParquetFile(file)
            if "text" not in table.schema_arrow.names:
                sys.exit(f"{file} has no column `text`: {', '.join(table.schema_arrow.names)}")
            row = 0
            for batch in table.iter_batches(columns=["text"]):
                for text in batch.column(0).to_pylist():
                    yield f"{name}:{row}", (text or "").encode()
                    row += 1


def huggingface_documents(name: str) -> Iterator[Document]:
    """Rows of a public data set, streamed. NAME is ``owner/set`` or ``owner/set:configuration``."""
    try:
        from datasets import load_dataset
    except ImportError:
        sys.exit("--corpus huggingface:NAME needs the datasets package.\n  mend: pip install datasets")
    path, _, configuration = name.partition(":")
    for row, record in enumerate(load_dataset(path, configuration or None, split="train", streaming=True)):
        if "text" not in record:
            sys.exit(f"{name} has no column `text`: {', '.join(record)}")
        yield f"{name}:{row}", record["text"].encode()


def split_documents(documents: Iterable[Document], limit: int) -> tuple[list[Document], list[Document]]:
    """At most ``limit`` bytes of documents; about one in twenty, chosen by its text's hash, is held out."""
    train: list[Document] = []
    held: list[Document] = []
    total = 0
    for name, text in documents:
        if total >= limit:
            break
        total += len(text)
        # By content, not by name: two copies of one document must land on the same side.
        bucket = int.from_bytes(hashlib.sha256(text).digest()[:4], "big") % 20
        (held if bucket == 0 else train).append((name, text))
    if not held and len(train) > 1:
        held.append(train.pop())
    return train, held


def split_file(path: Path, limit: int) -> tuple[list[Document], list[Document]]:
    """The first nine tenths of a file to train on, the last tenth held out."""
    with path.open("rb") as stream:
        content = stream.read(limit)
    at = len(content) * 9 // 10
    return [(f"{path.name}:train", content[:at])], [(f"{path.name}:validation", content[at:])]


# --- no validation text inside the training text --------------------------------------------------------


def window_hashes(text: Bytes) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each of the ``len(text) - REPEAT + 1`` windows of REPEAT bytes.

    Polynomial, by doubling: H_2k[i] = H_k[i] * b**k + H_k[i + k], so six passes give 64 bytes.
    """
    hashes = text.astype(np.uint64) + np.uint64(1)
    base, width = 0x9E3779B97F4A7C15, 1
    while width < REPEAT:
        power = np.uint64(pow(base, width, 1 << 64))
        hashes = hashes[:-width] * power + hashes[width:]
        width *= 2
    return hashes


def repeats(held: Bytes, train: Bytes) -> npt.NDArray[np.bool_]:
    """For each window of ``held``: does its hash occur among the windows of ``train``?"""
    if len(held) < REPEAT or len(train) < REPEAT:
        return np.zeros(max(0, len(held) - REPEAT + 1), dtype=bool)
    hashes = window_hashes(held)
    # A bitmap of the hashes' top bits turns away nearly all of training's windows before the exact search.
    bits, found = 26, np.zeros(len(hashes), dtype=bool)
    seen = np.zeros(1 << bits, dtype=bool)
    seen[hashes >> np.uint64(64 - bits)] = True
    order = np.argsort(hashes)
    ordered = hashes[order]
    stretch = 1 << 22
    for start in range(0, len(train) - REPEAT + 1, stretch):
        theirs = window_hashes(train[start : start + stretch + REPEAT - 1])
        theirs = np.unique(theirs[seen[theirs >> np.uint64(64 - bits)]])
        low, high = np.searchsorted(ordered, theirs, "left"), np.searchsorted(ordered, theirs, "right")
        for a, b in zip(low[high > low], high[high > low], strict=True):
            found[order[a:b]] = True
    return found


def without_repeats(held: bytes, train: bytes) -> bytes:
    """``held`` without the lines that touch any REPEAT bytes which ``train`` holds too."""
    train_bytes = np.frombuffer(train, dtype=np.uint8)
    while True:  # cutting joins lines anew; the joints are checked again
        text = np.frombuffer(held, dtype=np.uint8)
        found = np.flatnonzero(repeats(text, train_bytes))
        if not len(found):
            return held
        newlines = np.flatnonzero(text == 10)
        starts = np.concatenate(([0], newlines + 1))
        lines = np.append(starts, len(text))
        # A window may span lines: from the one that holds its first byte to the one that holds its last.
        first = np.searchsorted(starts, found, "right") - 1
        last = np.searchsorted(starts, found + REPEAT - 1, "right") - 1
        marks = np.zeros(len(starts) + 1, dtype=np.int64)
        np.add.at(marks, first, 1)
        np.add.at(marks, last + 1, -1)
        cut = np.cumsum(marks)[:-1] > 0
        held = b"".join(held[lines[i] : lines[i + 1]] for i in np.flatnonzero(~cut))


# --- writing --------------------------------------------------------------------------------------------


def join(documents: Iterable[Document]) -> bytes:
    return b"".join(text + BOUNDARY for _, text in documents)


def prepare(corpus: str, splits: tuple[str, ...] = ("train", "validation"), limit: int = 1 << 30) -> None:
    """Write ``splits`` of ``corpus`` and their manifests. Deterministic; safe in two processes at once."""
    held_packages: list[str] = []
    if corpus == "python":
        train, held, held_packages = python_documents()
    elif corpus.startswith("huggingface:"):
        train, held = split_documents(huggingface_documents(corpus.removeprefix("huggingface:")), limit)
    elif Path(corpus).is_dir():
        train, held = split_documents(folder_documents(Path(corpus)), limit)
    elif Path(corpus).is_file():
        train, held = split_file(Path(corpus), limit)
    else:
        sys.exit(f"--corpus {corpus}: neither a file, a folder, nor huggingface:NAME")
    content = {"train": join(train)}
    if "validation" in splits:
        content["validation"] = without_repeats(join(held), content["train"])
    for split in splits:
        if len(content[split]) <= max(CONTEXT.values()):
            sys.exit(f"{corpus}: only {len(content[split])} bytes for {split}; give more text")
        documents = held if split == "validation" else train
        stated = {
            "format": FORMAT,
            "corpus": corpus if corpus.startswith(("python", "huggingface:")) else Path(corpus).name,
            "python": ".".join(map(str, sys.version_info[:3])) if corpus == "python" else None,
            "split": split,
            "documents": len(documents),
            "bytes": len(content[split]),
            "sha256": hashlib.sha256(content[split]).hexdigest(),
            "held_out_packages": held_packages,  # a sandbox may hide these from training too
        }
        folder = data_root() / split
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / f"{split}.bin", content[split])
        # The manifest last: a reader that finds one finds the data it describes.
        replace(folder / "manifest.json", json.dumps(stated, indent=2).encode() + b"\n")


def replace(path: Path, content: bytes) -> None:
    """Write under a name of our own, then rename: a second process never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the corpus: data/train and data/validation.")
    parser.add_argument("--corpus", default="python", help="python | PATH | huggingface:NAME")
    parser.add_argument("--max-bytes", type=int, default=1 << 30, help="stop reading a corpus here")
    parser.add_argument("--force", action="store_true", help="write again even if it is there")
    options = parser.parse_args()
    present = all((data_root() / split / "manifest.json").exists() for split in ("train", "validation"))
    if options.force or options.corpus != "python" or not present:
        prepare(options.corpus, limit=options.max_bytes)
    for split in ("train", "validation"):
        ensure(split)
        stated = manifest(split)
        print(f"{split:10} {stated['bytes']:>11,} bytes  sha256 {stated['sha256'][:16]}  {stated['corpus']}")


if __name__ == "__main__":
    main()
