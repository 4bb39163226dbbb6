"""Constants are found by parsing, and an edit changes one value and no other byte."""

from __future__ import annotations

import ast
import tomllib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EditRejected
from engine.proposers.constants import edit, find_constants
from tests.engine.proposers import fixtures


def values(path: str, content: bytes) -> dict[str, object]:
    return {c.name: c.value for c in find_constants(path, content)}


def test_every_constant_of_an_autoresearch_script_is_found() -> None:
    found = values("train.py", fixtures.AUTORESEARCH)
    assert found["TOTAL_BATCH_SIZE"] == 2**19
    assert found["ADAM_BETAS[0]"] == 0.8 and found["ADAM_BETAS[1]"] == 0.95
    assert found["EMBEDDING_LR"] == 0.6 and found["DEPTH"] == 8
    assert found["GPTConfig.n_embd"] == 768
    assert "t_start" not in found


def test_spans_lines_and_comments_are_those_of_the_file() -> None:
    for path, content in (
        ("a.py", fixtures.AUTORESEARCH),
        ("b.py", fixtures.CLASSES),
        ("c.yaml", fixtures.YAML),
        ("d.toml", fixtures.TOML),
    ):
        found = find_constants(path, content)
        assert found
        lines = content.split(b"\n")
        for constant in found:
            start, end = constant.span
            assert content[start:end].decode() == constant.source
            assert constant.source in lines[constant.line - 1].decode()
    by_name = {c.name: c for c in find_constants("a.py", fixtures.AUTORESEARCH)}
    assert by_name["MATRIX_LR"].comment == "learning rate for matrix parameters (Muon)"


def test_configuration_classes_dictionaries_and_calls_are_searched() -> None:
    found = values("train.py", fixtures.CLASSES)
    assert found == {
        "Config.lr": 3e-4,
        "Config.layers": 4,
        "Config.use_bias": True,
        "Config.name": "gpt",
        "Config.betas[0]": 0.9,
        "Config.betas[1]": 0.95,
        "TrainArgs.warmup_steps": 1000,
        "TrainArgs._hidden": 3,
        "config.lr": 6e-4,
        "HYPER.lr": 3e-4,
        "HYPER.optimizer.weight_decay": 0.1,
        "HYPER.optimizer.eps": 1e-8,
        "HYPER.width": 256,
        "SCHEDULE.warmup": 20,
        "SCHEDULE.floor": 0.1,
    }


def test_defaults_of_command_line_options_are_found() -> None:
    assert values("train.py", fixtures.OPTIONS) == {
        "--lr": 3e-4,
        "--batch-size": 32,
        "--seed": 0,
        "--name": "run",
        "--dropout": 0.1,
        "--compile": False,
    }


def test_yaml_scalars_are_found_also_in_flow_style_and_behind_an_anchor() -> None:
    found = values("c.yaml", fixtures.YAML)
    assert found["model.n_layer"] == 4 and found["optimizer.lr"] == 6e-4
    assert found["optimizer.betas[1]"] == 0.95 and found["optimizer.fused"] is True
    assert found["text_lr"] == 3e-4  # text for PyYAML, a number for its user
    assert found["anchor"] == 0.1 and "again" not in found
    assert found["quoted"] == "0.5"


def test_toml_scalars_are_found_and_text_that_looks_like_one_is_not() -> None:
    assert values("d.toml", fixtures.TOML) == {
        "title": "lr = 8.0",
        "lr": 3e-4,
        "model.n_layer": 4,
        "model.dropout": 0.1,
        "model.sizes[0]": 64,
        "model.sizes[1]": 128,
        "model.activation": "relu",
        "optimizer.betas[0]": 0.9,
        "optimizer.betas[1]": 0.95,
        "optimizer.inline.eps": 1e-8,
        "optimizer.inline.fused": True,
        "stage[0].warmup_steps": 1000,
        "stage[1].warmup_steps": 2000,
    }


@pytest.mark.parametrize(
    ("path", "old", "name", "value", "new"),
    [
        ("a.py", b"LR = 3e-4", "LR", 1.1e-3, b"LR = 1.1e-3"),
        ("a.py", b"LR = 0.0003", "LR", 1.1e-3, b"LR = 0.0011"),
        ("a.py", b"LR = 3E-04  # x", "LR", 1e-3, b"LR = 1E-3  # x"),
        ("a.py", b"LR = (1e-3)", "LR", 2e-3, b"LR = (2e-3)"),
        ("a.py", b"B = 2**15", "B", 2**16, b"B = 2**16"),
        ("a.py", b"B = 2 ** 15", "B", 3000, b"B = 3000"),
        ("a.py", b"B = 1 << 15", "B", 2**14, b"B = 1 << 14"),
        ("a.py", b"B = 64 * 1024", "B", 96 * 1024, b"B = 96 * 1024"),
        ("a.py", b"N = 1_000_000", "N", 2_500_000, b"N = 2_500_000"),
        ("a.py", b"N = 0x40", "N", 128, b"N = 0x80"),
        ("a.py", b"S = -1.0", "S", -0.5, b"S = -0.5"),
        ("a.py", b"S = 10.", "S", 12.0, b"S = 12.0"),
        ("a.py", b"F = True", "F", False, b"F = False"),
        ("a.py", b"a, b = 1, 2.5", "b", 3.0, b"a, b = 1, 3.0"),
        ("a.py", b"A = 'relu'", "A", "gelu", b"A = 'gelu'"),
        ("a.py", b"X: float = 1e-8\r\nY = 2\r\n", "X", 1e-6, b"X: float = 1e-6\r\nY = 2\r\n"),
        ("a.py", "η = 3e-4  # Lernrate für η".encode(), "η", 1e-3, "η = 1e-3  # Lernrate für η".encode()),
        ("a.py", "s = 'é'; lr = 0.1".encode(), "lr", 0.2, "s = 'é'; lr = 0.2".encode()),
        ("a.py", b"\xef\xbb\xbfLR = 0.1", "LR", 0.2, b"\xef\xbb\xbfLR = 0.2"),
        ("a.py", b"#coding:latin-1\ns='\xe9';LR = 0.1", "LR", 0.2, b"#coding:latin-1\ns='\xe9';LR = 0.2"),
        ("a.py", "x = 1 # a\u2028b\nLR = 0.1".encode(), "LR", 0.2, "x = 1 # a\u2028b\nLR = 0.2".encode()),
        ("a.py", b"x = 1\x0c\nLR = 0.1", "LR", 0.2, b"x = 1\x0c\nLR = 0.2"),
        ("a.yml", b"lr: 6.0e-4 # c\r\n", "lr", 1e-3, b"lr: 1.0e-3 # c\r\n"),
        ("a.yml", b"lr: 6.0e+2", "lr", 1e3, b"lr: 1.0e+3"),
        ("a.yml", b"lr: 3e-4", "lr", 1e-3, b"lr: 1e-3"),
        ("a.yml", b"x: yes", "x", False, b"x: no"),
        ("a.yml", b"a: [1, 2]", "a[1]", 5, b"a: [1, 5]"),
        ("a.toml", b"lr = 3e-4\r\nb = true", "b", False, b"lr = 3e-4\r\nb = false"),
        ("a.toml", b"lr = 0.5e+1", "lr", 10.0, b"lr = 1.0e+1"),
        ("a.toml", b"n = 1_000", "n", 2500, b"n = 2_500"),
    ],
)  # fmt: skip
def test_an_edit_keeps_the_style_and_every_other_byte(
    path: str, old: bytes, name: str, value: object, new: bytes
) -> None:
    assert edit(path, old, {name: value}) == new  # type: ignore[dict-item]


def test_a_dotted_yaml_float_stays_a_number_for_pyyaml() -> None:
    new = edit("a.yaml", b"lr: 6.0e-4\n", {"lr": 1e-3})
    assert yaml.safe_load(new) == {"lr": 1e-3}


finite = st.floats(min_value=1e-9, max_value=1e9).map(lambda x: float(f"{x:.3g}"))


@settings(max_examples=60, deadline=None)
@given(lr=finite, dropout=st.floats(0, 1).map(lambda x: round(x, 3)), layers=st.integers(1, 10**6))
def test_whatever_is_written_reads_back_and_nothing_else_moves(lr: float, dropout: float, layers: int) -> None:
    for path, content, names in (
        ("a.py", fixtures.NANOGPT, ("learning_rate", "dropout", "n_layer")),
        ("a.py", fixtures.NANOGPT.replace(b"\n", b"\r\n"), ("learning_rate", "dropout", "n_layer")),
        ("a.yaml", fixtures.YAML, ("optimizer.lr", "anchor", "model.n_layer")),
        ("a.yaml", fixtures.YAML, ("text_lr", "anchor", "model.n_layer")),
        ("a.toml", fixtures.TOML, ("lr", "model.dropout", "model.n_layer")),
    ):
        changes = dict(zip(names, (lr, dropout, layers), strict=True))
        new = edit(path, content, changes)
        before, after = find_constants(path, content), find_constants(path, new)
        assert {c.name: c.value for c in after} == {c.name: c.value for c in before} | changes
        # Cut the constants out of both: the rest is the same bytes.
        assert without(content, before) == without(new, after)


def without(content: bytes, constants: tuple[object, ...]) -> bytes:
    for constant in sorted(constants, key=lambda c: c.span, reverse=True):  # type: ignore[attr-defined]
        start, end = constant.span  # type: ignore[attr-defined]
        content = content[:start] + b"\0" + content[end:]
    return content


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_makes_the_parser_raise(content: bytes) -> None:
    for path in ("a.py", "a.yaml", "a.toml", "a.txt"):
        for constant in find_constants(path, content):
            assert content[slice(*constant.span)]


def test_nothing_is_executed_and_no_huge_power_is_computed() -> None:
    source = b"A = 10**10**10\nB = __import__('os').getpid()\nC = 1/0\nD = 2**-3\nE = 'x' * 9\n"
    assert values("a.py", source) == {"D": 0.125}


def test_an_edit_of_an_absent_constant_is_refused() -> None:
    with pytest.raises(EditRejected, match="no constant named LR"):
        edit("a.py", b"X = 1\n", {"LR": 2})


def test_an_edit_that_does_not_read_back_is_refused() -> None:
    # "no" is a boolean in YAML: the text could not be told from it again.
    with pytest.raises(EditRejected):
        edit("a.yaml", b"activation: relu\n", {"activation": "no"})


def test_values_that_are_set_again_carry_a_note() -> None:
    notes = {c.name: c.note for c in find_constants("a.py", fixtures.NANOGPT)}
    assert "set again" in notes["iter_num"]
    assert notes["gradient_accumulation_steps"] == ""  # adapted under an if, once
    source = b"A = 1\nif quick:\n    A = 2\nB = 1\ndef f():\n    global B\n    B = 3\n"
    notes = {c.name: c.note for c in find_constants("a.py", source)}
    assert notes["A"] == "set again on line 3" and "global" in notes["B"]


def test_the_fixtures_are_what_their_parsers_accept() -> None:
    for source in (fixtures.AUTORESEARCH, fixtures.NANOGPT, fixtures.CLASSES, fixtures.OPTIONS):
        ast.parse(source)
    assert tomllib.loads(fixtures.TOML.decode())["lr"] == 3e-4
    assert yaml.safe_load(fixtures.YAML)["seed"] == 1337
