"""``ratchet init``: looks at a project and chooses a configuration, saying why in plain lines.

Reads the project and runs nothing of it. The caller writes the text that ``propose_config`` returns, and
nothing else is ever changed.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from engine.config import Config, parse
from engine.config_sections import (
    DataSection,
    EnvironmentSection,
    MetricSection,
    ProjectSection,
    TrialSection,
)
from engine.config_template import render
from engine.entry_point import find_entry, has_main, local_imports
from engine.errors import UsageError
from engine.interpreters import Interpreter, find_interpreter
from engine.metric_guess import MetricGuess, goal_of, guess_metrics
from engine.project_tree import ignored_paths, list_files
from engine.types import Goal

# Files that decide what is measured. A proposal that may edit them improves the ruler, not the model.
_MEASURES = re.compile(
    r"(^|/)(prepare\w*|eval\w*|metrics?|score\w*|test_\w+|\w+_test|conftest|data|dataset\w*)\.py$|(^|/)tests?/"
)
_CACHES = re.compile(r"~/\.cache/[\w.-]+|\.cache[\"'],\s*[\"']([\w.-]+)")
_HUB = re.compile(r"\b(from_pretrained|load_dataset|hf_hub_download|snapshot_download|get_kernel)\s*\(")


@dataclass(frozen=True, slots=True)
class Findings:
    """What was seen in a project. Paths are POSIX and relative; commands are for ``sh -c``."""

    project: Path
    kind: str  # autoresearch | nanogpt | script | module | console script | command
    command: str
    evaluate: str  # a program of its own that scores what training left, "" when there is none
    interpreter: Interpreter
    edit: tuple[str, ...]
    frozen: tuple[str, ...]
    context: tuple[str, ...]
    metrics: tuple[MetricGuess, ...]  # the likeliest first
    links: tuple[str, ...]  # data that git ignores and the sources mention
    constants: int  # that the search proposer could vary
    reads_budget: bool  # whether the sources look at RATCHET_TIME_BUDGET or RATCHET_STEPS
    reads_seed: bool
    is_git: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """``text`` is a whole ratchet.toml; ``explanations`` say what was chosen and what to look at."""

    text: str
    config: Config
    explanations: list[str]


def inspect(project: Path, command: str = "") -> Findings:
    """Look at ``project``. ``command`` is the user's own word on how to train.

    Raises UsageError when there is nothing to train, naming what was looked for.
    """
    project = project.resolve()
    if not project.is_dir():
        raise UsageError(f"{project}: not a directory", "give the project's directory")
    files = list_files(project)
    interpreter = find_interpreter(project)
    start = find_entry(project, files, interpreter, command)
    kind, run, entry = start.kind, start.command, start.file
    sources = {
        path: (project / path).read_bytes() for path in files if path.endswith(".py") and _small(project / path)
    }
    used = (
        local_imports(entry, sources) if entry else sorted(path for path in sources if not _MEASURES.search(path))
    )
    frozen = tuple(path for path in _measuring(files, used, kind) if path != entry)
    edit = tuple(path for path in used if path not in frozen and (kind != "autoresearch" or path == "train.py"))
    if kind == "nanogpt":
        edit += tuple(word for word in shlex.split(run) if word.startswith("config/"))
    own_judge = "evaluate.py" in files and "evaluate.py" not in used and has_main(project / "evaluate.py")
    text = b"\n".join(sources[path] for path in dict.fromkeys((*used, *frozen)) if path in sources)
    readable = {path: sources[path] for path in (*used, *frozen) if path in sources}
    return Findings(
        project,
        kind,
        run,
        f"{interpreter.command} evaluate.py" if own_judge else "",
        interpreter,
        edit,
        frozen,
        tuple(path for path in ("program.md", "README.md") if path in files),
        tuple(guess_metrics({"evaluate.py": sources["evaluate.py"]} if own_judge else readable)),
        _data(project, text.decode(errors="replace")),
        _constants(edit, sources),
        b"RATCHET_TIME_BUDGET" in text or b"RATCHET_STEPS" in text,
        b"RATCHET_SEED" in text,
        (project / ".git").exists(),
    )


def propose_config(findings: Findings, metric: str = "", goal: str = "") -> Choice:
    """The ratchet.toml for ``findings``. ``metric`` and ``goal`` are the user's own words.

    Raises UsageError when no metric is known, naming how to say it.
    """
    guess = _choose_metric(findings, metric, goal)
    interpreter = findings.interpreter
    config = Config(
        project=ProjectSection(
            edit=tuple(_glob(path, findings) for path in findings.edit),
            frozen=tuple(_glob(path, findings) for path in findings.frozen),
            context=findings.context,
        ),
        environment=EnvironmentSection(key=interpreter.key, setup=interpreter.setup, path=interpreter.path),
        data=DataSection(link=findings.links),
        metric=MetricSection(
            name=guess.name,
            goal=guess.goal,
            mode="evaluated" if findings.evaluate else "reported",
            pattern=guess.pattern,
        ),
        trial=TrialSection(command=findings.command, evaluate=findings.evaluate),
    )
    text = render(config)
    return Choice(text, parse(text), _explain(findings, guess))


# --- which files, which data ---------------------------------------------------------------------


def _small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < 1 << 20


def _measuring(files: list[str], used: list[str], kind: str) -> list[str]:
    if kind == "autoresearch":
        return [path for path in ("prepare.py", "evaluate.py") if path in files]
    return [
        path
        for path in files
        if path.endswith(".py") and _MEASURES.search(path) and (path in used or "/" not in path)
    ]


def _glob(path: str, findings: Findings) -> str:
    """A glob that means this file alone: a bare name would hold at any depth."""
    return path if "/" in path or not _same_name_below(path, findings.project) else f"/{path}"


def _same_name_below(name: str, project: Path) -> bool:
    return any(path.endswith(f"/{name}") for path in list_files(project))


def _data(project: Path, text: str) -> tuple[str, ...]:
    """Ignored paths that the sources mention, and caches under the user's home."""
    found = []
    for path in ignored_paths(project):
        whole = path.rstrip("/")
        top = whole.split("/")[0]
        if re.search(rf"[\"'/]{re.escape(top)}[\"'/]", text) and not re.search(
            r"\.(py[co]|log|tsv)$|^(out|runs?|wandb|logs?)$", whole
        ):
            found.append(path)
    for match in _CACHES.finditer(text):
        path = f"~/.cache/{match[1]}" if match[1] else match[0]
        found.append(path)
    if _HUB.search(text):
        # Not the whole cache: the user's token lies beside the models.
        parts = [f"~/.cache/huggingface/{part}" for part in ("hub", "datasets")]
        found += [path for path in parts if Path(path).expanduser().exists()]
    return tuple(dict.fromkeys(found))


def _constants(edit: tuple[str, ...], sources: dict[str, bytes]) -> int:
    from engine.proposers.constants import find_constants
    from engine.proposers.inference import infer_range
    from engine.proposers.ranges import Range

    count = 0
    for path in edit:
        constants = find_constants(path, sources.get(path, b""))
        count += sum(isinstance(infer_range(constant, constants), Range) for constant in constants)
    return count


# --- the choice ----------------------------------------------------------------------------------


def _choose_metric(findings: Findings, metric: str, goal: str) -> MetricGuess:
    known = {guess.name: guess for guess in findings.metrics}
    if findings.kind == "autoresearch" and not metric and ("val_bpb" in known or not known):
        metric = "val_bpb"
    if metric:
        found = known.get(metric)
        where, pattern = (found.where, found.pattern) if found else ("", "")
        chosen = MetricGuess(metric, Goal(goal) if goal else goal_of(metric), where, pattern)
    elif findings.metrics:
        first = findings.metrics[0]
        chosen = MetricGuess(first.name, Goal(goal) if goal else first.goal, first.where, first.pattern)
    else:
        raise UsageError(
            f"no metric found in what {findings.command} prints",
            "name it: ratchet init --metric val_loss, and let the script print `val_loss: 1.234`",
        )
    return chosen


def _explain(findings: Findings, metric: MetricGuess) -> list[str]:
    names = {
        "autoresearch": "a project in autoresearch's format (prepare.py, train.py, program.md)",
        "nanogpt": "a nanoGPT project",
        "command": "your own command",
    }
    where = f", printed at {metric.where}" if metric.where else ", which no source seems to print: check the name"
    how = "read by the pattern in [metric]" if metric.pattern else "read as it is printed"
    lines = [
        f"found {names.get(findings.kind, 'a training ' + findings.kind)}",
        f"command: {findings.command}  ({findings.interpreter.why})",
        f"metric: {metric.goal} {metric.name}{where}; {how}",
        f"proposals may edit {', '.join(findings.edit) or 'nothing yet: fill in [project] edit'}"
        + (f"; frozen: {', '.join(findings.frozen)}" if findings.frozen else ""),
        f"constants that the search proposer can vary: {findings.constants}",
    ]
    if findings.evaluate:
        lines.append(f"scored by {findings.evaluate}, run by the engine after training, on files it brings itself")
    if len(findings.metrics) > 1:
        others = [guess.name for guess in findings.metrics if guess.name != metric.name][:4]
        lines.append(f"also printed: {', '.join(others)} (choose with --metric)") if others else None
    if findings.links:
        lines.append(f"data that git ignores, linked into each trial: {', '.join(findings.links)}")
    absent = [path for path in findings.links if path.startswith("~") and not Path(path).expanduser().exists()]
    if absent:
        lines.append(f"not there yet: {', '.join(absent)}; prepare the data before `ratchet run`")
    if not findings.reads_budget:
        lines.append(
            "the script does not read RATCHET_TIME_BUDGET, so it trains for as long as it says, and is "
            "stopped after [trial] timeout_seconds"
        )
    if not findings.reads_seed:
        lines.append(
            "the script does not read RATCHET_SEED: if it fixes its own seed, repeated runs show less noise "
            "than there is"
        )
    if not findings.is_git:
        lines.append("this is no git repository yet: run `git init`, then commit, before `ratchet run`")
    return lines
