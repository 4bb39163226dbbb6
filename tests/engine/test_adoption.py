"""``ratchet init``: what is recognised, what is chosen, and that nothing else is touched."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from engine import interpreters
from engine.adoption import inspect, propose_config
from engine.clock import RealClock
from engine.config import parse
from engine.effect_run import prove_checkout
from engine.errors import UsageError
from engine.metric_guess import guess_metrics
from engine.types import Goal

AUTORESEARCH = {
    "prepare.py": "import os\nCACHE = os.path.join(os.path.expanduser('~'), '.cache', 'autoresearch')\n"
    "def evaluate_bpb():\n    return 0.99\n",
    "train.py": '"""Train."""\nfrom prepare import evaluate_bpb\n\n'
    "DEPTH = 8\nMATRIX_LR = 0.04\nWEIGHT_DECAY = 0.2\n\n"
    "val_bpb = evaluate_bpb()\nprint('---')\nprint(f'val_bpb:          {val_bpb:.6f}')\n"
    "print(f'training_seconds: {300:.1f}')\n",
    "program.md": "# do research\n",
    "README.md": "# autoresearch\n",
}
NANOGPT = {
    "train.py": "from model import GPT\nout_dir = 'out'\ndataset = 'shakespeare_char'\nlearning_rate = 6e-4\n"
    "data_dir = os.path.join('data', dataset)\nexec(open('configurator.py').read())\n"
    "print(f\"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}\")\n"
    "print(f'iter {iter_num}: loss {lossf:.4f}, time {dt*1000:.2f}ms, mfu {mfu*100:.2f}%')\n",
    "model.py": "class GPT: pass\n",
    "configurator.py": "",
    "config/train_gpt2.py": "dataset = 'openwebtext'\n",
    "config/train_shakespeare_char.py": "dataset = 'shakespeare_char'\n",
    "data/shakespeare_char/prepare.py": "",
    ".gitignore": "*.bin\nout/\n",
}


@pytest.fixture(autouse=True)
def no_environment_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def project(tmp_path: Path, files: dict[str, str]) -> Path:
    root = tmp_path / "a project's"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()}


async def test_autoresearch_is_adopted_with_no_change_to_any_file_and_its_edits_are_proved(
    tmp_path: Path,
) -> None:
    root = project(tmp_path, AUTORESEARCH)
    before = snapshot(root)
    assert "not there yet: ~/.cache/autoresearch" in "\n".join(propose_config(inspect(root)).explanations)
    (tmp_path / "home" / ".cache" / "autoresearch").mkdir(parents=True)
    findings = inspect(root)
    choice = propose_config(findings)
    config = choice.config
    assert findings.kind == "autoresearch"
    assert config.trial.command.endswith("train.py")
    assert (config.trial.train_seconds, config.trial.timeout_seconds) == (300, 600)
    assert (config.metric.name, config.metric.goal, config.metric.pattern) == ("val_bpb", Goal.MINIMIZE, "")
    assert config.project.edit == ("train.py",) and config.project.frozen == ("prepare.py",)
    assert config.project.context == ("program.md", "README.md")
    assert config.data.link == ("~/.cache/autoresearch",), "its data stands in the user's home"
    assert findings.constants == 3
    assert parse(choice.text) == config
    said = "\n".join(choice.explanations)
    assert "autoresearch" in said and "train.py:10" in said and "RATCHET_SEED" in said
    effects = await prove_checkout(config, root, RealClock())
    assert [(effect.path, effect.reached) for effect in effects] == [("train.py", True)]
    assert snapshot(root) == before


def test_nanogpt_is_run_with_the_configuration_whose_data_is_there(tmp_path: Path) -> None:
    root = project(tmp_path, NANOGPT)
    (root / "data/shakespeare_char/train.bin").write_bytes(b"x")
    choice = propose_config(inspect(root))
    assert choice.config.trial.command == "python train.py config/train_shakespeare_char.py"
    assert (choice.config.metric.name, choice.config.metric.pattern) == ("val_loss", "")
    assert choice.config.project.edit == ("train.py", "model.py", "config/train_shakespeare_char.py")
    assert choice.config.data.link == ("data/shakespeare_char/train.bin",)


SCRIPT = """LR = 0.1
EPOCHS = 3
if __name__ == '__main__':
    print('Epoch %d, val accuracy: %.2f%%' % (1, 50))
"""


@pytest.mark.parametrize(
    ("files", "command", "edit"),
    [
        ({"main.py": SCRIPT, "other.py": SCRIPT}, "python main.py", ("main.py",)),
        ({"my tune.py": SCRIPT, "lib.py": ""}, "python 'my tune.py'", ("my tune.py",)),
        (
            {"src/net/train.py": SCRIPT, "src/net/__init__.py": ""},
            "python -m net.train",
            ("src/net/train.py",),
        ),
        ({"net/__main__.py": SCRIPT, "net/__init__.py": ""}, "python -m net", ("net/__main__.py",)),
        (
            {"pyproject.toml": "[project.scripts]\nnet-train = 'net.cli:main'\n", "src/net/cli.py": SCRIPT},
            "net-train",
            ("src/net/cli.py",),
        ),
        ({"train.py": SCRIPT, "examples/train.py": ""}, "python train.py", ("/train.py",)),
        (
            {
                "train.py": "import model\nimport evaluate\n" + SCRIPT,
                "model.py": "",
                "evaluate.py": "",
                "x.py": "",
            },
            "python train.py",
            ("train.py", "model.py"),
        ),
    ],
)
def test_a_plain_project_s_entry_is_found(
    tmp_path: Path, files: dict[str, str], command: str, edit: tuple[str, ...]
) -> None:
    choice = propose_config(inspect(project(tmp_path, files)))
    assert choice.config.trial.command == command
    assert choice.config.project.edit == edit
    assert choice.config.metric.name == "val_accuracy" and choice.config.metric.goal is Goal.MAXIMIZE
    assert choice.config.metric.pattern, "a line of its own making needs a pattern"


def test_what_measures_is_frozen(tmp_path: Path) -> None:
    files = {
        "train.py": "import evaluate\nprint(f'val_loss: {x}')\n",
        "evaluate.py": "",
        "tests/test_a.py": "",
    }
    assert propose_config(inspect(project(tmp_path, files))).config.project.frozen == ("evaluate.py",)


def test_an_evaluator_that_is_a_program_of_its_own_is_run_by_the_engine(tmp_path: Path) -> None:
    files = {
        "train.py": "print(f'val_loss: {x}')\n",
        "evaluate.py": "if __name__ == '__main__':\n    print(f'test_acc: {x}')\n",
    }
    config = propose_config(inspect(project(tmp_path, files))).config
    assert (config.metric.mode, config.trial.evaluate) == ("evaluated", "python evaluate.py")
    assert config.metric.name == "test_acc" and "evaluate.py" in config.project.frozen


def test_the_user_s_own_command_and_metric_come_first(tmp_path: Path) -> None:
    root = project(tmp_path, {"train.py": "print(f'val_loss: {x}')\n", "tools/fit.py": "print('bleu', x)\n"})
    findings = inspect(root, "OMP_NUM_THREADS=1 python tools/fit.py --out {out}")
    choice = propose_config(findings, "score", "minimize")
    assert choice.config.trial.command.endswith("--out {out}")
    assert choice.config.project.edit == ("tools/fit.py",)
    assert (choice.config.metric.name, choice.config.metric.goal) == ("score", Goal.MINIMIZE)
    assert "no source seems to print" in "\n".join(choice.explanations)


def test_nothing_to_train_and_nothing_to_measure_are_messages_with_the_mend(tmp_path: Path) -> None:
    root = project(tmp_path, {"a.py": SCRIPT, "b.py": SCRIPT})
    with pytest.raises(UsageError, match=r"a\.py, b\.py") as caught:
        inspect(root)
    assert "--command" in caught.value.mend
    (root / "train.py").write_text("print('hello')\n")
    with pytest.raises(UsageError, match="no metric found") as caught:
        propose_config(inspect(root))
    assert "--metric" in caught.value.mend
    with pytest.raises(UsageError, match="not a directory"):
        inspect(tmp_path / "absent")


def test_the_nearest_python_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path, {"train.py": SCRIPT})
    assert interpreters.find_interpreter(root).command in ("python", "python3")
    (root / "venv/bin").mkdir(parents=True)
    (root / "venv/pyvenv.cfg").touch()
    (root / "venv/bin/python").symlink_to("/bin/sh")
    assert interpreters.find_interpreter(root).path == ("venv/bin",)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").symlink_to("/bin/true")
    (root / "uv.lock").touch()
    assert interpreters.find_interpreter(root).path == ("venv/bin",), "uv.lock without uv is no use"
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    built = interpreters.find_interpreter(root)
    assert (built.command, built.setup, built.key) == ("uv run", "uv sync --frozen", ("uv.lock",))
    (root / ".venv").mkdir()
    (root / ".venv/pyvenv.cfg").touch()
    there = interpreters.find_interpreter(root)
    assert (there.command, there.setup) == ("uv run", "")


@pytest.mark.parametrize(
    ("line", "name", "printed"),
    [
        ("print(f'val_bpb: {x:.6f}')", "val_bpb", ""),
        ("print(f\"{'val_bpb:':17} {x:.6f}\")", "val_bpb", ""),
        ("print('METRIC rmse=' + str(x))", "rmse", ""),
        ("print(json.dumps({'step': s, 'val_loss': x}))", "val_loss", ""),
        ("print('{:d}: val ppl={:.2f} ({:.1f}s)'.format(a, x, t))", "val_ppl", "3: val ppl=21.50 (3.0s)"),
        ("logger.info(f'final test loss {x:.3f}')", "final_test_loss", "INFO final test loss 21.50"),
    ],
)
def test_a_metric_is_found_in_how_it_is_printed(line: str, name: str, printed: str) -> None:
    first = guess_metrics({"t.py": line.encode()})[0]
    assert first.name == name
    if printed:
        match = re.search(first.pattern, printed)
        assert match and match[1] == "21.50"
    else:
        assert first.pattern == ""


def test_training_loss_is_not_taken_when_a_held_out_one_is_printed() -> None:
    source = b"print(f'train_loss: {a}')\nprint(f'loss: {b}')\nprint(f'val_loss: {c}')\nprint(f'lr: {d}')\n"
    names = [guess.name for guess in guess_metrics({"t.py": source})]
    assert names[0] == "val_loss" and "lr" not in names
