"""prompts/*.md: Markdown that people edit, with strict ``{{variables}}``, checked before it is used.

A project may bring its own (``[proposer] prompts``): a file of it takes the place of ours. Reads files;
otherwise pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from engine.config_source import nearest
from engine.errors import ConfigError

LARGEST = 100_000  # bytes of one file: far above any prompt, far below what would hurt

# What each file may use; True: must use, because a prompt without it would hide what a proposer has to know.
VARIABLES: Mapping[str, Mapping[str, bool]] = {
    "system.md": {
        "metric": True,  # its name
        "direction": True,  # lower or higher is better
        "editable": True,  # files that may be changed
        "frozen": False,  # files that measure
        "constraints": False,  # what must also hold
        "budget": False,  # of one run
    },
    "propose.md": {
        "number": False,  # of this experiment
        "standing": True,  # incumbent's score and noise, in words
        "notes": True,  # what people said, reasons of rejections included
        "recent": True,  # newest experiments with their effects
        "open": True,  # drafts and experiments that are under way
        "crashes": False,  # the newest ones and why
        "kinds": False,  # of change tried so far, with counts and best effects
        "plateau": True,  # whether another kind of change is wanted
        "remaining": False,  # of experiments, time and money
    },
    "repair.md": {
        "number": False,
        "failed": True,  # number, title and hypothesis of the proposal to mend
        "failure": True,  # how it failed, in words
        "diff": True,
        "evidence": True,  # the last lines of its log
        "attempt": False,  # which repair this is
        "standing": False,
        "notes": False,
        "open": False,
        "remaining": False,
    },
}
# ``\{{`` stands for ``{{``.
_BRACES = re.compile(r"\\\{\{|\{\{(.*?)\}\}|\{\{", re.DOTALL)
_NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*")


@dataclass(frozen=True, slots=True)
class Template:
    """One file. ``source`` is how people find it: its path, or prompts/NAME for ours."""

    name: str
    source: str
    text: str

    def render(self, values: Mapping[str, str]) -> str:
        """Fill in each variable once; what is filled in is not looked at again.

        Raises ConfigError for a variable without a value.
        """

        def fill(match: re.Match[str]) -> str:
            if match[0].startswith("\\"):
                return "{{"
            name = (match[1] or "").strip()
            if name not in values:
                raise ConfigError(self._at(match.start(), _unknown(name, values)), self._mend())
            return values[name]

        return _BRACES.sub(fill, self.text)

    def problems(self) -> Iterator[str]:
        """What is wrong with it, a line each, with file and line."""
        known = VARIABLES[self.name]
        used = set()
        for match in _BRACES.finditer(self.text):
            if match[0].startswith("\\"):
                continue
            name = _NAME.fullmatch(match[1] or "")
            if match[1] is None:
                yield self._at(match.start(), "{{ without }}; write \\{{ for two braces")
            elif name is None:
                yield self._at(
                    match.start(), f"{{{{{match[1][:40]}}}}} is no variable; write \\{{{{ for two braces"
                )
            elif name[1] not in known:
                yield self._at(match.start(), _unknown(name[1], known))
            else:
                used.add(name[1])
        if not self.text.strip():
            yield f"{self.source}: empty"
            return
        for name_, required in known.items():
            if required and name_ not in used:
                yield f"{self.source}: {{{{{name_}}}}} is missing: without it a proposer would not be told"

    def _at(self, position: int, message: str) -> str:
        return f"{self.source}:{self.text.count(chr(10), 0, position) + 1}: {message}"

    def _mend(self) -> str:
        return f"edit {self.source}"


def _unknown(name: str, known: Mapping[str, object]) -> str:
    listed = ", ".join(known)
    return f"unknown variable {{{{{name}}}}}{nearest(name, known)} (known here: {listed})"


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The three prompts in force. Made by ``load``; valid by construction."""

    system: Template
    propose: Template
    repair: Template

    @classmethod
    def load(cls, directory: Path | None = None) -> PromptSet:
        """Our prompts, each replaced by the file of its name in ``directory`` when there is one.

        Raises ConfigError naming all that is wrong, each with file, line, variable and the nearest valid name.
        """
        problems: list[str] = []
        found = {}
        if directory is not None:
            problems += _misplaced(directory)
        for name in VARIABLES:
            template = _override(directory, name, problems) if directory is not None else None
            if template is None:
                packaged = resources.files("prompts").joinpath(name).read_text(encoding="utf-8")
                template = Template(name, f"prompts/{name}", packaged)
            problems += template.problems()
            found[name] = template
        if problems:
            raise ConfigError(
                "\n".join(problems),
                f"edit {directory}" if directory is not None else "install ratchet-console anew",
            )
        return cls(found["system.md"], found["propose.md"], found["repair.md"])


def _misplaced(directory: Path) -> Iterator[str]:
    """A directory that is not there, or a file whose name misses one of ours by a letter: no silent default."""
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        yield f"{directory}: cannot be read: {error.strerror} ([proposer] prompts)"
        return
    for name in names:
        if name not in VARIABLES and name.endswith((".md", ".txt")) and (hint := nearest(name, VARIABLES)):
            yield f"{directory / name}: not the name of a prompt{hint}"


def _override(directory: Path, name: str, problems: list[str]) -> Template | None:
    file = directory / name
    try:
        content = file.read_bytes()
        if len(content) > LARGEST:
            problems.append(f"{file}: larger than {LARGEST:,} bytes")
            return None
        return Template(name, str(file), content.decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        problems.append(f"{file}: not UTF-8 text (byte {error.start})")
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror}")
    return None
