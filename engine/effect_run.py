"""Runs a project's command on a throw-away tree, and asks its Python where modules come from.

Real processes, in a session of their own that is killed as a group; the same variables and links as a trial.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.clock import Clock
from engine.config import Config, expand_command
from engine.effect import CommandResult, FileEffect, Imported, module_names, prove
from engine.environment import EnvironmentPaths, data_links, split_place, trial_environment
from engine.project_tree import list_files
from engine.runners.local import link_into
from engine.scope import Scope

OUTPUT_BYTES = 4 << 20  # read from each end of the output
LOOKUP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class TreeRunner:
    """Writes a tree into a fresh directory shaped like an attempt's, and runs ``command`` there.

    ``environment`` gives the variables for a work directory; ``links`` are as ``data_links`` makes them;
    ``wrap`` is an argv prefix (containment). ``project`` is the user's checkout, only to be named.
    """

    command: str
    environment: Callable[[Path], Mapping[str, str]]
    timeout: float
    clock: Clock
    project: Path
    links: Mapping[str, str]
    wrap: tuple[str, ...] = ()
    executable: frozenset[str] = frozenset()

    async def __call__(self, files: Mapping[str, bytes]) -> CommandResult:
        async with self._tree(files) as work:
            return await self._execute(["sh", "-c", self.command], work, self.timeout)

    async def lookup(self, files: Mapping[str, bytes], paths: Sequence[str]) -> dict[str, Imported]:
        """Where the command's Python finds the modules of ``paths``; those it does not find are left out."""
        names = {path: module_names(path) for path in paths}
        async with self._tree(files) as work:
            environment = self.environment(work)
            argv = interpreter_of(self.command, environment.get("PATH", os.defpath), work)
            asked = json.dumps({path: [module for module, _ in pairs] for path, pairs in names.items()})
            result = await self._execute([*argv, "-c", _LOOKUP, asked], work, LOOKUP_SECONDS)
            line = next((text for text in result.output.splitlines() if text.startswith(_ANSWER)), "")
            answer = json.loads(line.removeprefix(_ANSWER)) if line else {}
            places: dict[str, Imported] = {}
            for path, found in answer.items():
                for module, file, overrides, distribution in found:
                    actual = Path(file).resolve()
                    inside = actual.is_relative_to(work.resolve())
                    # "train" alone may be anybody's: it is this file only if it lies in the user's checkout
                    # or says the same.
                    if not inside and "." not in module and not self._same(actual, files[path]):
                        continue
                    root = dict(names[path])[module]
                    # src/pkg/a.py is found inside as src.pkg.a too: what is found outside explains more.
                    if path not in places or (places[path].inside and not inside):
                        places[path] = Imported(file, module, inside, root, overrides, distribution)
            return places

    def _same(self, actual: Path, content: bytes) -> bool:
        if actual.is_relative_to(self.project.resolve()):
            return True
        try:
            return actual.read_bytes() == content
        except OSError:
            return False

    @asynccontextmanager
    async def _tree(self, files: Mapping[str, bytes]) -> AsyncIterator[Path]:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="ratchet-effect-"))
        try:
            await asyncio.to_thread(self._write, folder, files)
            yield folder / "work"
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        for name in ("work", "home", "tmp"):
            (folder / name).mkdir()
        for path, content in files.items():
            target = folder / "work" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            if path in self.executable:
                target.chmod(0o755)
        for place, source in self.links.items():
            root, inner = split_place(place)
            link_into(folder / root, inner, Path(source))

    async def _execute(self, argv: Sequence[str], work: Path, limit: float) -> CommandResult:
        environment = {
            **self.environment(work),
            "HOME": str(work.parent / "home"),
            "TMPDIR": str(work.parent / "tmp"),
        }
        # A file, not a pipe: a child that outlives the command would keep a pipe open.
        log = work.parent / "output"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *self.wrap, *argv,
                cwd=work, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        timed_out = False
        try:
            code = await self.clock.timeout(process.wait(), limit)
        except TimeoutError:
            timed_out, code = True, -signal.SIGKILL
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            await process.wait()
        return CommandResult(code if code >= 0 else 128 - code, _read_ends(log), timed_out)


def _read_ends(log: Path) -> str:
    with log.open("rb") as file:
        head = file.read(OUTPUT_BYTES)
        file.seek(max(file.tell(), log.stat().st_size - OUTPUT_BYTES))
        return (head + file.read()).decode(errors="replace")


def tree_runner(
    config: Config,
    project: Path,
    clock: Clock,
    paths: EnvironmentPaths | None = None,
    limit: float = 120.0,
    wrap: tuple[str, ...] = (),
) -> TreeRunner:
    """The runner for ``project`` as ``config`` runs its trials, with a shorter time limit."""
    seed, trial = 1, config.trial

    def environment(work: Path) -> Mapping[str, str]:
        return trial_environment(config, project, work, seed, {}, os.environ, paths)

    values = {
        "seed": seed,
        "seconds": f"{trial.train_seconds:.15g}",
        "steps": trial.steps,
        "gpus": trial.gpus,
        "port": 0,
        "out": ".",
    }
    steps = [expand_command(step, values) for step in (trial.prepare, trial.command) if step.strip()]
    command = " && ".join(f"{{ {step}\n}}" for step in steps) if len(steps) > 1 else steps[0]
    executable = frozenset(path for path in list_files(project) if os.access(project / path, os.X_OK))
    return TreeRunner(
        command,
        environment,
        min(limit, trial.timeout_seconds),
        clock,
        project,
        data_links(config, project, Path.home()),
        wrap,
        executable,
    )


async def prove_checkout(
    config: Config,
    project: Path,
    clock: Clock,
    paths: EnvironmentPaths | None = None,
    limit: float = 120.0,
    wrap: tuple[str, ...] = (),
) -> list[FileEffect]:
    """``prove`` for the files of ``project`` as they are now. Changes nothing in it."""
    files = {path: (project / path).read_bytes() for path in list_files(project) if (project / path).is_file()}
    return await prove_files(config, project, files, clock, paths, limit, wrap)


async def prove_files(
    config: Config,
    project: Path,
    files: Mapping[str, bytes],
    clock: Clock,
    paths: EnvironmentPaths | None = None,
    limit: float = 120.0,
    wrap: tuple[str, ...] = (),
) -> list[FileEffect]:
    """``prove`` for ``files``, a whole version of ``project``. ``limit``: seconds that one run may take."""
    runner = tree_runner(config, project, clock, paths, limit, wrap)
    scope = Scope(config.project.edit, config.project.frozen)
    editable = [path for path in files if scope.check(path) is None]
    return await prove(files, editable, runner, lambda waiting: runner.lookup(files, waiting))


_OPERATORS = {"&&", "||", ";", "|", "&", "(", ")", "{", "}", "\n"}


def interpreter_of(command: str, path: str, work: Path) -> list[str]:
    """argv of the Python that ``command`` would start, with its own flags (-I, -E ...); a guess at worst."""
    try:
        lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        words = command.split()
    for index, word in enumerate(words):
        name = Path(word).name
        if name == "uv" and words[index + 1 : index + 2] == ["run"]:
            return [word, "run", "python"]
        if re.fullmatch(r"python[\d.]*|pypy[\d.]*", name):
            flags = []
            for flag in words[index + 1 :]:
                if not re.fullmatch(r"-[IEsSPBObuvq]+", flag):
                    break
                flags.append(flag)
            return [word, *flags]
    for word in words:
        if word in _OPERATORS or "=" in word.split("/")[0]:
            continue
        script = shutil.which(word, path=path) or (str(work / word) if (work / word).is_file() else None)
        if script and (shebang := _shebang(Path(script))):
            return shebang
    return [shutil.which("python", path=path) or shutil.which("python3", path=path) or "python3"]


def _shebang(script: Path) -> list[str] | None:
    """The Python of a console script. Long paths stand behind ``#!/bin/sh`` in an ``exec`` line."""
    try:
        with script.open("rb") as file:
            lines = file.read(4096).decode(errors="replace").splitlines()
    except OSError:
        return None
    if not lines or not lines[0].startswith("#!"):
        return None
    words = lines[0][2:].split()
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-")]
    if words and "python" in Path(words[0]).name:
        return words
    if len(lines) > 1 and (
        match := re.match(r"'''exec' \"?([^\"]+?python[\d.]*)\"?((?: -\w+)*) \"\$0\"", lines[1])
    ):
        return [match[1], *match[2].split()]
    return None


_ANSWER = "ratchet-lookup:"

# Runs in the project's own Python, of any version since 3.6. Parents are searched, never imported: an import
# could take a minute, or fail for want of a device.
_LOOKUP = f"""
import importlib.machinery, json, sys
try:
    import importlib.metadata as metadata
except ImportError:
    metadata = None
editable = []
for dist in (metadata.distributions() if metadata else ()):
    try:
        url = json.loads(dist.read_text("direct_url.json") or "{{}}")
        if url.get("dir_info", {{}}).get("editable"):
            editable.append((url["url"].replace("file://", ""), dist.metadata["Name"]))
    except Exception:
        pass
path_index = next((i for i, f in enumerate(sys.meta_path) if f is importlib.machinery.PathFinder), 99)
def search(name):
    parts, where, hook = name.split("."), None, ""
    for depth in range(len(parts)):
        full, spec = ".".join(parts[: depth + 1]), None
        for index, finder in enumerate(sys.meta_path):
            try:
                spec = finder.find_spec(full, where)
            except Exception:
                spec = None
            if spec is not None:
                if index < path_index and depth == 0 and spec.origin not in ("built-in", "frozen"):
                    kind = finder if isinstance(finder, type) else type(finder)
                    hook = kind.__module__ + "." + kind.__name__
                break
        if spec is None:
            return None
        where = spec.submodule_search_locations
        where = getattr(where, "_path", where)  # a namespace's own iterator needs its parent imported
        if where is None and depth < len(parts) - 1:
            return None
    return spec.origin, hook
answer = {{}}
for path, names in json.loads(sys.argv[1]).items():
    found = []
    for name in names:
        place = search(name)
        if place and place[0] and place[0].endswith(".py"):
            owner = [n for root, n in editable if place[0].startswith(root.rstrip("/") + "/")]
            found.append([name, place[0], place[1], owner[0] if owner else ""])
    answer[path] = found
print("\\n{_ANSWER}" + json.dumps(answer))
"""
