"""The training script: its artifact, its determinism, its sizes on each kind of device."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests.sample_project.conftest import PROJECT, module, run


def test_the_presets_are_the_constants_on_a_cpu_and_multiples_of_them_on_a_gpu(train: ModuleType) -> None:
    cpu, gpu = train.preset("cpu"), train.preset("cuda")
    assert (cpu.shape.depth, cpu.shape.model_dim, cpu.shape.head_dim) == (3, 64, 32)
    assert (cpu.seq_len, cpu.batch_size, cpu.learning_rate) == (128, 8, 1e-3)
    assert (gpu.shape.depth, gpu.shape.model_dim, gpu.shape.head_dim) == (12, 768, 128)
    assert (gpu.seq_len, gpu.batch_size, gpu.learning_rate) == (1024, 32, 5e-4)
    assert gpu.shape.mlp_dim == 4 * 768


@pytest.mark.parametrize(("width", "head"), [(64, 32), (96, 64), (117, 31), (10, 64), (64, 1)])
def test_any_width_and_head_give_whole_heads_that_rotary_embeddings_can_halve(
    train: ModuleType, monkeypatch: pytest.MonkeyPatch, width: int, head: int
) -> None:
    monkeypatch.setattr(train, "MODEL_DIM", width)
    monkeypatch.setattr(train, "HEAD_DIM", head)
    for device in ("cpu", "cuda"):
        shape = train.preset(device).shape
        assert shape.model_dim == shape.heads * shape.head_dim > 0
        assert shape.head_dim % 2 == 0


def test_training_and_evaluation_use_the_same_context(train: ModuleType, prepare: ModuleType) -> None:
    for device, context in prepare.CONTEXT.items():
        assert train.preset(device).seq_len == context


def test_mfu_is_arithmetic_over_peak_and_absent_where_the_peak_is_unknown(train: ModuleType) -> None:
    assert train.mfu_percent(395.6e12, "NVIDIA H100 80GB HBM3") == pytest.approx(40.0)
    assert train.mfu_percent(156e12, "NVIDIA A100-SXM4-80GB") == pytest.approx(50.0)
    assert train.mfu_percent(1e12, "cpu") is None


def test_the_count_of_arithmetic_agrees_with_the_matrices_of_the_model(
    train: ModuleType, prepare: ModuleType
) -> None:
    import torch

    model = train.GPT(train.preset("cpu").shape)
    context = 16
    by_hand = sum(6 * p.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) for p in m.parameters())
    attention = 3 * 2 * 2 * 3 * 64 * context  # forward x 3; queries x keys and weights x values; 2 a multiply
    matmuls = sum(p.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) for p in m.parameters())
    assert prepare.flops_per_token(matmuls, 3, 64, context) == by_hand + attention


@pytest.mark.parametrize("warmup", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("warmdown", [0.0, 0.5, 1.0])
def test_the_learning_rate_stays_between_zero_and_its_peak(
    train: ModuleType, monkeypatch: pytest.MonkeyPatch, warmup: float, warmdown: float
) -> None:
    monkeypatch.setattr(train, "WARMUP_RATIO", warmup)
    monkeypatch.setattr(train, "WARMDOWN_RATIO", warmdown)
    assert all(0.0 < train.lr_multiplier(step / 100) <= 1.0 for step in range(100))


def test_the_artifact_gives_back_the_model_and_holds_no_pickle(train: ModuleType, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    model = train.GPT(train.preset("cpu").shape).eval()
    train.save(model, {"num_steps": 1}, tmp_path)
    tokens = torch.randint(256, (2, 40))
    assert torch.equal(train.logprobs(train.load(tmp_path), tokens), train.logprobs(model, tokens))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(files) == ["config.json", "model.safetensors", "training.json"]
    length = int.from_bytes(files["model.safetensors"][:8], "little")
    assert json.loads(files["model.safetensors"][8 : 8 + length])  # safetensors: a length, then JSON


def test_predictions_are_causal_normalised_and_of_the_promised_shape(train: ModuleType) -> None:
    import torch

    torch.manual_seed(4)
    model = train.GPT(train.preset("cpu").shape).eval()
    tokens = torch.randint(256, (3, 50))
    changed = tokens.clone()
    changed[:, 30:] = (changed[:, 30:] + 1) % 256
    one, other = train.logprobs(model, tokens), train.logprobs(model, changed)
    assert one.shape == (3, 50, 256)
    assert torch.allclose(one.exp().sum(-1), torch.ones(3, 50), atol=1e-5)
    assert torch.allclose(one[:, :30], other[:, :30], atol=1e-5)
    assert not torch.allclose(one[:, 30:], other[:, 30:], atol=1e-3)


def test_every_epoch_sees_each_window_at_most_once_and_seeds_order_it(train: ModuleType) -> None:
    import torch

    text = torch.arange(0, 250, dtype=torch.uint8)

    def epoch(seed: int) -> list[int]:
        batches = train.sequences(text, 8, 3, seed)
        firsts: list[int] = []
        for _ in range(9):  # (250 - 8) // 8 windows in batches of 3
            inputs, labels = next(batches)
            assert torch.equal(inputs[:, 1:], labels[:, :-1])
            firsts += inputs[:, 0].tolist()
        return firsts

    assert len(set(epoch(0))) == 27
    assert epoch(0) == epoch(0) != epoch(1)


@pytest.mark.slow
def test_a_held_out_package_is_imported_neither_by_training_nor_by_evaluation(
    train: ModuleType, corpus: Path, tmp_path: Path
) -> None:
    packages = json.loads((corpus / "train/manifest.json").read_text())["held_out_packages"]
    (tmp_path / "look.py").write_text(
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(PROJECT)!r})\n"
        f"runpy.run_path({str(PROJECT / 'train.py')!r}, run_name='__main__')\n"
        "import evaluate\n"
        f"print('SEEN', [p for p in {packages!r} if p in sys.modules])\n"
    )
    given = {"RATCHET_DATA": str(corpus), "RATCHET_TRIAL_DIR": str(tmp_path), "RATCHET_STEPS": "1"}
    done = run(tmp_path / "look.py", given)
    assert done.stdout.splitlines()[-1] == "SEEN []", done.stderr


@pytest.mark.slow
def test_a_tiny_run_end_to_end_is_the_same_for_a_seed_and_another_for_another(
    train: ModuleType, corpus: Path, tmp_path: Path
) -> None:
    def score(name: str, seed: int) -> tuple[str, str]:
        work = tmp_path / name
        work.mkdir()
        for file in ("prepare.py", "train.py", "evaluate.py"):
            shutil.copy(PROJECT / file, work)
        given = {
            "RATCHET_DATA": str(corpus),
            "RATCHET_TRIAL_DIR": str(work),
            "RATCHET_METRICS": str(work / "metrics.jsonl"),
            "RATCHET_STEPS": "3",
            "RATCHET_SEED": str(seed),
        }
        trained = run(work / "train.py", given, cwd=work)
        assert trained.returncode == 0, trained.stderr
        assert "val_bpb" not in trained.stdout  # its score is not its own to say
        lines = re.split(r"[\r\n]", trained.stdout)
        assert any(re.match(r"step 00003 \(100\.0%\) \| loss: \d+\.\d{6} \| lrm: ", line) for line in lines)
        assert "num_steps:        3" in lines
        assert json.loads((work / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 3
        scored = run(work / "evaluate.py", given, cwd=work)
        assert scored.returncode == 0, scored.stderr
        weights = (work / "artifact/model.safetensors").read_bytes()
        return re.findall(r"^val_bpb: +([\d.]+)$", scored.stdout, re.M)[0], str(hash(weights))

    first, again, other = score("a", 1), score("b", 1), score("c", 2)
    assert first == again
    assert first != other
    assert 5.0 < float(first[0]) < 8.5


def test_every_change_that_measure_py_knows_still_applies() -> None:
    measure = module("measure")
    source = (PROJECT / "train.py").read_text()
    for name in measure.CHANGES:
        assert (measure.changed(name, source) == source) == (name == "baseline")
        compile(measure.changed(name, source), name, "exec")


def test_the_constants_can_be_searched_and_those_for_a_gpu_are_left_out() -> None:
    from engine.proposers.inference import describe

    lines = describe({"train.py": (PROJECT / "train.py").read_bytes()})
    searched = {match[1] for line in lines if (match := re.match(r"searched +\S+ +(\w+) =", line))}
    assert searched >= {"LEARNING_RATE", "BATCH_SIZE", "WARMUP_RATIO", "INIT_STD", "WEIGHT_DECAY", "DEPTH"}
    assert not any("GPU_TIMES" in line or "PEAK_FLOPS" in line for line in lines if line.startswith("searched"))


def test_the_configuration_is_one_that_this_version_carries_out() -> None:
    from engine import config

    project = config.load(PROJECT)
    assert project.unsupported() == []
    assert project.metric.mode == "evaluated"
    for path in (*project.project.edit, *project.project.frozen, *project.project.context):
        assert (PROJECT / path).is_file()
