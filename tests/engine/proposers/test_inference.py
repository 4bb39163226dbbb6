"""What is searched, over what, and what is left out and why."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.proposers.constants import find_constants
from engine.proposers.inference import choose_ranges, describe, unknown_names
from engine.proposers.ranges import Excluded, Range, parse_range
from tests.engine.proposers import fixtures


def ranges(content: bytes, path: str = "train.py", **space: str) -> dict[str, Range | Excluded]:
    chosen = choose_ranges(find_constants(path, content), space)
    return {constant.name: range_ for constant, range_ in chosen.values()}


def searched(content: bytes, path: str = "train.py", **space: str) -> dict[str, Range]:
    return {name: r for name, r in ranges(content, path, **space).items() if isinstance(r, Range)}


def test_of_an_autoresearch_script_the_hyperparameters_are_searched_and_no_budget() -> None:
    found = ranges(fixtures.AUTORESEARCH)
    left_out = {name for name, r in found.items() if isinstance(r, Excluded)}
    assert left_out == {
        "GPTConfig.sequence_len", "GPTConfig.vocab_size", "GPTConfig.window_pattern", "WINDOW_PATTERN",
        "H100_BF16_PEAK_FLOPS", "DEVICE_BATCH_SIZE", "TIME_BUDGET", "smooth_train_loss", "step",
    }  # fmt: skip
    batch = found["TOTAL_BATCH_SIZE"]
    assert isinstance(batch, Range) and all(math.log2(float(s)).is_integer() for s in batch.steps)


def test_of_a_nanogpt_configuration_no_cheat_and_no_bookkeeping_is_searched() -> None:
    assert set(searched(fixtures.NANOGPT)) == {
        "gradient_accumulation_steps", "batch_size", "n_layer", "n_head", "n_embd", "dropout", "bias",
        "learning_rate", "min_lr", "beta2", "warmup_iters",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "SEED = 1",
        "random_seed = 7",
        "EVAL_INTERVAL = 10",
        "log_every = 5",
        "VOCAB_SIZE = 65",
        "block_size = 64",
        "context_length = 64",
        "max_seq_len = 128",
        "TIME_BUDGET = 300",
        "train_seconds = 30.0",
        "MAX_STEPS = 9",
        "num_iterations = 100",
        "epochs = 3",
        "num_train_tokens = 1000",
        "PORT = 29500",
        "VERSION = 2",
        "_LR = 0.1",
        "num_workers = 4",
        "CONFIG = {'eval': {'batch_size': 8}}",
        "STEPS = 200",
        "DATA_DIR = 'data'",
        "n_classes = 10",
        "lr_decay_iters = 500",
    ],
)
def test_left_out_unless_asked_for(name: str) -> None:
    assert searched(name.encode()) == {}


def test_every_exclusion_can_be_overruled_by_its_comment_and_by_the_configuration() -> None:
    assert searched(b"block_size = 64  # search: 32, 64, 128")["block_size"].steps == (32, 64, 128)
    assert searched(b"block_size = 64", block_size="32..256")["block_size"].given
    assert not searched(b"lr = 3e-4  # peak; search: no")
    assert not searched(b"lr = 3e-4  # search: 1e-5..1e-3", lr="no")


def test_widths_stay_divisible_by_the_heads_and_the_other_way_round() -> None:
    found = searched(b"n_head = 6\nn_embd = 384\n")
    assert 384 in found["n_embd"].steps and all(int(s) % 6 == 0 for s in found["n_embd"].steps)
    assert all(384 % int(s) == 0 and 384 // int(s) % 2 == 0 for s in found["n_head"].steps)
    sample = searched(b"MODEL_DIM = 96\nHEAD_DIM = 32\n")
    assert all(int(s) % 32 == 0 for s in sample["MODEL_DIM"].steps)
    assert all(96 % int(s) == 0 for s in sample["HEAD_DIM"].steps)
    grouped = searched(b"n_head = 8\nn_kv_head = 4\nn_embd = 512\n")
    assert all(int(s) >= 4 and int(s) % 4 == 0 for s in grouped["n_head"].steps)
    assert all(8 % int(s) == 0 for s in grouped["n_kv_head"].steps)


def test_fractions_stay_fractions() -> None:
    names = b"beta1 = 0.9\nbeta2 = 0.999\ndropout = 0.1\nema = 0.5\nmix = 0.3\nwarmup_frac = 0.02\n"
    found = searched(names)
    assert len(found) == 6
    for range_ in found.values():
        low, high = range_.bounds
        for part in range(21):
            assert 0 <= float(range_.value_at(low + (high - low) * part / 20)) < 1


NAMES = """learning_rate weight_decay beta2 dropout eps init_std scale n_layer warmup_steps batch_size
    n_embd grad_clip final_lr_frac n_head"""
decimals = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: float(f"{v:.4g}"))


@given(st.sampled_from(NAMES.split()), decimals | st.integers(-10, 10**6), st.floats(-0.2, 1.2))
def test_every_inferred_range_contains_its_values_and_survives_a_round_trip(
    name: str, value: float | int, share: float
) -> None:
    for range_ in searched(f"{name} = {value!r}".encode()).values():
        low, high = range_.bounds
        assert low < high
        drawn = range_.value_at(low + (high - low) * share)
        assert type(drawn) is type(value)
        assert low - 1e-6 <= range_.coordinate(drawn) <= high + 1e-6
        assert not range_.differs(drawn, drawn)


@pytest.mark.parametrize(
    ("text", "value", "scale"),
    [
        ("1e-4..1e-2 log", 1e-3, "log"),
        ("1e-4..1e-2", 1e-3, "log"),
        ("0..0.5", 0.1, "linear"),
        ("8..64 linear", 16, "linear"),
        ("4, 8, 16", 8, "ladder"),
        ("2**10, 2**12", 1024, "ladder"),
        ("relu, gelu", "relu", "choice"),
        ("true, false", True, "choice"),
    ],
)
def test_ranges_are_read_as_people_write_them(text: str, value: object, scale: str) -> None:
    range_ = parse_range(text, value)  # type: ignore[arg-type]
    assert isinstance(range_, Range) and range_.scale == scale and range_.given


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 1), ("5", 5), ("2..1", 1.0), ("a..b", 1.0), ("1..2 cubic", 1.0), ("0..1 log", 0.5), ("1, 2.5", 1),
     ("maybe, true", True), ("nan..1", 0.5), ("a'b, c", "c"), ("9**9**9, 1", 1)],
)  # fmt: skip
def test_a_range_that_cannot_be_read_is_an_error_with_its_mend(text: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_range(text, value)  # type: ignore[arg-type]
    assert caught.value.mend


def test_a_bad_range_in_the_configuration_names_its_constant() -> None:
    with pytest.raises(ConfigError, match=r"train\.py:lr.*soon"):
        ranges(b"lr = 3e-4", lr="soon")


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    constants = find_constants("train.py", b"LEARNING_RATE = 3e-4\n")
    [line] = unknown_names(constants, {"train.py:LERNING_RATE": "1e-4..1e-2"})
    assert "did you mean train.py:LEARNING_RATE?" in line


def test_describe_tells_each_choice_and_each_reason() -> None:
    lines = describe({"train.py": b"LR = 3e-4\nSEED = 1\nNAME = 'x'\n"}, {"LRR": "1..2"})
    assert lines[0].startswith("searched  train.py:1  LR = 3e-4  over 3.75e-05..0.0024 log")
    assert any("SEED" in line and "luck" in line for line in lines)
    assert not any("NAME" in line for line in lines)
    assert any("did you mean LR?" in line for line in lines)
    assert "nothing to search" in describe({"train.py": b"print(1)\n"})[-1]


def test_yaml_and_toml_comments_give_ranges() -> None:
    assert searched(fixtures.YAML, "c.yaml")["model.activation"].steps == ("relu", "gelu")
    assert searched(fixtures.TOML, "c.toml")["model.dropout"].high == 0.5
    assert searched(fixtures.OPTIONS)["--batch-size"].steps == (8, 32, 128)
