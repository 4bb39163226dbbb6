"""What starts a project's training, and which of its own files that runs. Reads the project; runs nothing."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engine.errors import UsageError
from engine.interpreters import Interpreter

_ENTRIES = ("train.py", "main.py", "run.py", "src/train.py", "scripts/train.py", "src/main.py")


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """``file`` is the project's file that ``command`` starts, "" when it cannot be told."""

    kind: str  # autoresearch | nanogpt | script | module | console script | command
    command: str
    file: str


def find_entry(project: Path, files: Sequence[str], interpreter: Interpreter, command: str) -> EntryPoint:
    """Raises UsageError when nothing looks like training, naming what was looked for."""
    python = interpreter.command
    if command:
        return EntryPoint("command", command, _file_of(command, files))
    if {"prepare.py", "train.py", "program.md"} <= set(files):
        return EntryPoint("autoresearch", f"{python} train.py", "train.py")
    if "train.py" in files and b"val loss" in (project / "train.py").read_bytes() and "configurator.py" in files:
        chosen = _nanogpt_config(project, files)
        return EntryPoint("nanogpt", f"{python} train.py{chosen}", "train.py")
    for entry in _ENTRIES:
        if entry in files:
            return EntryPoint("script", f"{python} {entry}", entry)
    modules = [path for path in files if re.fullmatch(r"(src/)?[A-Za-z_]\w*/(train|__main__)\.py", path)]
    if modules:
        module = ".".join(PurePosixPath(modules[0].removeprefix("src/")).with_suffix("").parts)
        return EntryPoint("module", f"{python} -m {module.removesuffix('.__main__')}", modules[0])
    if script := _console_script(project, files):
        return EntryPoint("console script", *script)
    scripts = [path for path in files if re.fullmatch(r"[^/]+\.py", path) and has_main(project / path)]
    if len(scripts) == 1:
        return EntryPoint("script", f"{python} {shlex.quote(scripts[0])}", scripts[0])
    seen = f"; these could be it: {', '.join(scripts)}" if scripts else ""
    raise UsageError(
        f"{project}: no training script found (looked for {', '.join(_ENTRIES)}, PACKAGE/train.py){seen}",
        "name it: ratchet init --command 'python my_script.py'",
    )


def _file_of(command: str, files: Sequence[str]) -> str:
    """The project's file that a command starts, "" when it cannot be told."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for before, word in zip(["", *words], words, strict=False):
        if before == "-m":
            path = word.replace(".", "/")
            for candidate in (
                f"{path}.py",
                f"src/{path}.py",
                f"{path}/__main__.py",
                f"src/{path}/__main__.py",
            ):
                if candidate in files:
                    return candidate
        plain = word.removeprefix("./")
        if plain.endswith(".py") and plain in files:
            return plain
    return ""


def _nanogpt_config(project: Path, files: Sequence[str]) -> str:
    """The configuration whose data set is prepared: ``python train.py config/train_x.py``."""
    for path in files:
        if re.fullmatch(r"config/train\w*\.py", path):
            dataset = re.search(
                r"^dataset\s*=\s*['\"]([^'\"]+)", (project / path).read_text(errors="replace"), re.M
            )
            if dataset and (project / "data" / dataset[1] / "train.bin").exists():
                return f" {path}"
    return ""


def _console_script(project: Path, files: Sequence[str]) -> tuple[str, str] | None:
    """The ``[project.scripts]`` entry that trains, with the file that it starts."""
    try:
        scripts = tomllib.loads((project / "pyproject.toml").read_text())["project"]["scripts"]
    except (OSError, KeyError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None
    for name, target in sorted(scripts.items(), key=lambda item: "train" not in item[0]):
        path = str(target).partition(":")[0].replace(".", "/")
        for candidate in (f"{path}.py", f"src/{path}.py", f"{path}/__init__.py", f"src/{path}/__init__.py"):
            if candidate in files and (len(scripts) == 1 or "train" in name):
                return name, candidate
    return None


def has_main(path: Path) -> bool:
    return re.search(rb"^if\s+__name__\s*==", path.read_bytes(), re.M) is not None


def local_imports(entry: str, sources: Mapping[str, bytes]) -> list[str]:
    """``entry`` and the project's own files that it imports, directly or not, in order of discovery."""
    found = [entry] if entry in sources else []
    for path in found:
        folder = PurePosixPath(path).parent
        for module in _imported(sources[path], folder):
            stem = module.replace(".", "/")
            bases = dict.fromkeys((str(folder), "", "src"))
            options = (str(PurePosixPath(base, stem + end)) for base in bases for end in (".py", "/__init__.py"))
            match = next((option for option in options if option in sources), None)
            if match and match not in found:
                found.append(match)
    return found


def _imported(source: bytes, folder: PurePosixPath) -> Iterable[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = folder.parts[: len(folder.parts) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
