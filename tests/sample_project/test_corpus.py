"""The corpus: deterministic, made without a download, and nothing of validation inside training."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sample_project.conftest import PROJECT, module, run

PREPARE = module("prepare")


def splits(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "train/train.bin").read_bytes(), (folder / "validation/validation.bin").read_bytes()


def test_preparing_twice_gives_the_same_bytes_and_true_manifests(corpus: Path, tmp_path: Path) -> None:
    run("prepare.py", {"RATCHET_DATA": str(tmp_path)}).check_returncode()
    assert splits(corpus) == splits(tmp_path)
    for split, content in zip(("train", "validation"), splits(corpus), strict=True):
        stated = json.loads((corpus / split / "manifest.json").read_text())
        assert stated["bytes"] == len(content)
        assert stated["sha256"] == hashlib.sha256(content).hexdigest()
        assert stated["split"] == split and stated["documents"] > 10


def test_no_64_bytes_of_validation_occur_in_training(corpus: Path) -> None:
    train, held = splits(corpus)
    found = PREPARE.repeats(np.frombuffer(held, np.uint8), np.frombuffer(train, np.uint8))
    assert int(found.sum()) == 0
    # The same again by a search that shares nothing with it, at places drawn at random.
    seed = 20260325
    print(f"seed {seed}")
    for start in random.Random(seed).sample(range(len(held) - 64), 150):
        assert held[start : start + 64] not in train


def test_no_held_out_document_is_trained_on_and_they_come_from_other_packages() -> None:
    train, held, packages = PREPARE.python_documents()
    assert {name for name, _ in train}.isdisjoint(name for name, _ in held)
    assert all(name.split("/")[0] in packages for name, _ in held)
    assert not any(name.split("/")[0] in packages for name, _ in train)
    assert sum(len(text) for _, text in held) >= PREPARE.VALIDATION_BYTES_MIN


def naive_repeats(held: bytes, train: bytes, width: int) -> list[bool]:
    return [held[i : i + width] in train for i in range(max(0, len(held) - width + 1))]


@given(st.binary(max_size=400), st.binary(max_size=400), st.data())
@settings(max_examples=60, deadline=None)
def test_repeats_are_exactly_those_that_a_plain_search_finds(
    train: bytes, held: bytes, data: st.DataObject
) -> None:
    if len(train) > 64:  # plant some
        start = data.draw(st.integers(0, len(train) - 64))
        held += train[start : start + data.draw(st.integers(50, 90))]
    found = PREPARE.repeats(np.frombuffer(held, np.uint8), np.frombuffer(train, np.uint8))
    assert found.tolist() == naive_repeats(held, train, PREPARE.REPEAT)


def test_lines_that_training_has_too_are_cut_and_only_they() -> None:
    licence = b"# Permission is hereby granted, free of charge, to any person obtaining a copy of this file\n"
    # Each line is shorter than 64 bytes, the two together are not.
    pair = b"    return self._first_half_of_a_pair(a)\n    return self._second_half_of_it(b)\n"
    held = b"only here\n\n" + licence + b"and here\n\n" + pair + b"the end"
    assert PREPARE.without_repeats(held, b"x = 1\n" + licence + b"y = 2\n" + pair) == (
        b"only here\nand here\nthe end"
    )
    assert PREPARE.without_repeats(held, b"nothing in common") == held


def test_training_prepares_its_own_split_and_never_writes_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_DATA", str(tmp_path / "data"))
    text = PREPARE.load("train")
    assert len(text) > PREPARE.TRAIN_BYTES_MIN
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["train"]


def test_two_processes_may_prepare_at_once(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-B", str(PROJECT / "prepare.py")]
    environment = {"RATCHET_DATA": str(tmp_path), "PATH": ""}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=120) and process.returncode for process in both] == [0, 0]
    assert splits(tmp_path) == splits(corpus)
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == ["manifest.json", "train.bin"]


def test_a_prepared_folder_is_left_alone_even_when_it_is_read_only(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(corpus)
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    run("prepare.py", {"RATCHET_DATA": str(tmp_path / "data")}).check_returncode()
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_a_changed_byte_is_refused_with_the_mend(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_DATA", str(tmp_path))
    folder = tmp_path / "validation"
    folder.mkdir()
    content = bytearray((corpus / "validation/validation.bin").read_bytes())
    content[1000] ^= 1
    (folder / "validation.bin").write_bytes(content)
    (folder / "manifest.json").write_bytes((corpus / "validation/manifest.json").read_bytes())
    with pytest.raises(SystemExit, match=r"does not match its manifest.\n  mend: delete"):
        PREPARE.load("validation")


def test_a_machine_without_the_librarys_source_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PREPARE.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=r"too little Python source.*\n  mend: .*--corpus PATH"):
        PREPARE.python_documents()


def test_where_packages_are_left_out_the_reserves_fill_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PREPARE.sysconfig, "get_path", lambda name: str(tmp_path))
    sizes = {"pydoc_data": 100_000, "tkinter": 350_000, "wsgiref": 50_000, "json": 1_200_000, "test": 9_000}
    for package, size in sizes.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_bytes(b"#" * size)
    train, held, packages = PREPARE.python_documents()
    assert packages == ["pydoc_data", "tkinter"]
    assert [name for name, _ in held] == ["pydoc_data/a.py", "tkinter/a.py"]
    assert [name for name, _ in train] == ["json/a.py", "wsgiref/a.py"]  # and no tests


# --- corpora of one's own -----------------------------------------------------------------------------------


def distinct_lines(count: int, salt: str) -> bytes:
    return b"".join(hashlib.sha256(f"{salt}{i}".encode()).hexdigest().encode() + b"\n" for i in range(count))


def test_a_text_file_becomes_both_splits(tmp_path: Path) -> None:
    text = distinct_lines(400, "file")
    (tmp_path / "corpus.txt").write_bytes(text)
    data = {"RATCHET_DATA": str(tmp_path / "data")}
    run("prepare.py", data, "--corpus", str(tmp_path / "corpus.txt")).check_returncode()
    train, held = splits(tmp_path / "data")
    assert train == text[: len(text) * 9 // 10] + b"\0"
    assert held == text[len(text) * 9 // 10 :] + b"\0"


def test_a_folder_is_split_by_document_and_copies_stay_together(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:03}.txt").write_bytes(distinct_lines(3, str(number % 50)))  # each one twice
    train, held = PREPARE.split_documents(PREPARE.folder_documents(tmp_path), 1 << 20)
    assert len(train) + len(held) == 100 and len(held) >= 1
    assert {text for _, text in train}.isdisjoint(text for _, text in held)


def test_reading_stops_at_the_limit() -> None:
    train, held = PREPARE.split_documents(((str(i), b"%04d" % i * 25) for i in range(10**9)), 5_000)
    assert 5_000 <= sum(len(text) for _, text in train + held) < 5_200


def test_a_folder_of_parquet_is_read_by_its_text_column(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet corpora need pyarrow, which is not installed")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"text": ["one", None, "three"]}), tmp_path / "a.parquet")
    assert list(PREPARE.folder_documents(tmp_path)) == [
        ("a.parquet:0", b"one"), ("a.parquet:1", b""), ("a.parquet:2", b"three")
    ]  # fmt: skip


def test_a_public_data_set_is_streamed_through_the_datasets_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = ModuleType("datasets")
    asked: list[object] = []

    def load_dataset(path: str, name: str | None, *, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.extend([path, name, split, streaming])
        return [{"text": distinct_lines(4, str(i)).decode()} for i in range(200)]

    stand_in.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", stand_in)
    monkeypatch.setenv("RATCHET_DATA", str(tmp_path))
    PREPARE.prepare("huggingface:owner/set:en")
    assert asked == ["owner/set", "en", "train", True]
    train, held = splits(tmp_path)
    assert (train + held).count(b"\0") == 200
    assert json.loads((tmp_path / "train/manifest.json").read_text())["corpus"] == "huggingface:owner/set:en"


def test_a_corpus_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("prepare.py", {"RATCHET_DATA": str(tmp_path)}, "--corpus", "nowhere.txt")
    assert done.returncode == 1
    assert done.stderr.strip() == "--corpus nowhere.txt: neither a file, a folder, nor huggingface:NAME"


def test_the_budget_is_arithmetic_on_a_cpu_seconds_on_a_gpu_and_steps_when_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RATCHET_STEPS", "RATCHET_TIME_BUDGET"):
        monkeypatch.delenv(name, raising=False)
    assert PREPARE.budget("cpu", PREPARE.CPU_FLOPS / 100) == PREPARE.Budget(100, PREPARE.GPU_SECONDS)
    assert PREPARE.budget("cuda", 1e12) == PREPARE.Budget(None, PREPARE.GPU_SECONDS)
    monkeypatch.setenv("RATCHET_TIME_BUDGET", "60")
    assert PREPARE.budget("cpu", PREPARE.CPU_FLOPS / 100) == PREPARE.Budget(100, 60.0)
    assert PREPARE.budget("cuda", 1e12) == PREPARE.Budget(None, 60.0)
    monkeypatch.setenv("RATCHET_STEPS", "7")
    assert PREPARE.budget("cuda", 1e12) == PREPARE.Budget(7, 60.0)
