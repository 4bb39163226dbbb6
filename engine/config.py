"""``ratchet.toml``: read, checked, and the part of it that decides what a score means.

Reads one file; otherwise pure. Every mistake is reported at once, each with file, line, key, what was
expected, what was found, and the nearest valid name.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError
from pydantic_core import ErrorDetails

from engine.config_sections import (
    DataSection,
    EnvironmentSection,
    HostSection,
    JudgeSection,
    LimitsSection,
    MetricSection,
    NotifySection,
    PriceSection,
    ProjectSection,
    ProposerSection,
    ReviewSection,
    SandboxSection,
    Section,
    StorageSection,
    TrialSection,
    as_tuple,
)
from engine.config_source import FILENAME, Problem, line_of, locate, nearest, unknown_key
from engine.config_source import Path as Where
from engine.errors import ConfigError
from engine.variables import expand, expand_command, placeholders

__all__ = ["FILENAME", "Config", "expand", "expand_command", "load", "parse", "placeholders"]


class Config(Section):
    """The whole file. ``text`` is what was read, byte for byte, for the store to version."""

    project: ProjectSection = ProjectSection()
    environment: EnvironmentSection = EnvironmentSection()
    data: DataSection = DataSection()
    metric: MetricSection = MetricSection()
    trial: TrialSection = TrialSection()
    judge: JudgeSection = JudgeSection()
    proposer: ProposerSection = ProposerSection()
    review: ReviewSection = ReviewSection()
    limits: LimitsSection = LimitsSection()
    sandbox: SandboxSection = SandboxSection()
    storage: StorageSection = StorageSection()
    notify: NotifySection = NotifySection()
    hosts: Annotated[tuple[HostSection, ...], BeforeValidator(as_tuple)] = (HostSection(),)
    prices: dict[str, PriceSection] = Field(default={})  # by model id
    _text: str = PrivateAttr(default="")

    @property
    def text(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        """Equal when they say the same; comments and order in the file do not count."""
        return isinstance(other, Config) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    def unsupported(self) -> list[str]:
        """What the file asks for and this version does not carry out yet, one line each."""
        asks = {
            '[metric] mode = "scored" (use "evaluated" or "reported")': self.metric.mode == "scored",
            "[data] holdout": bool(self.data.holdout),
        }
        return [what for what, asked in asks.items() if asked]

    def measurement(self) -> dict[str, Any]:
        """The part that decides what a score means: two configurations with equal ones share a protocol.

        Judge, proposer, review, limits and what only guards a run (memory, log, smoke) are left out, so
        changing them re-measures nothing. Frozen files' content, data and hardware are hashed elsewhere.
        """
        trial = self.trial.model_dump(mode="json", exclude={"smoke", "memory_gb", "log_mb"})
        return {
            "frozen": sorted(self.project.frozen),
            "environment": self.environment.model_dump(mode="json", by_alias=True),
            "data": self.data.model_dump(mode="json"),
            "metric": self.metric.model_dump(mode="json"),
            "trial": {key: float(value) if key.endswith("_seconds") else value for key, value in trial.items()},
        }

    def measurement_key(self) -> str:
        """SHA-256 (hex) of ``measurement()`` in canonical JSON."""
        text = json.dumps(self.measurement(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path) -> Config:
    """Read ``path`` (a ratchet.toml, or the project that holds one). Raises ConfigError."""
    file = path / FILENAME if path.is_dir() else path
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file", "run `ratchet init` to write one") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}", "check its permissions") from None
    return parse(text, str(file))


def parse(text: str, filename: str = FILENAME) -> Config:
    """The configuration in ``text``. Raises ConfigError naming all that is wrong with it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        at = re.match(r"line (\d+)", place)
        number = int(at[1]) if at else max(1, len(text.splitlines()))
        raise ConfigError(
            f"{filename}:{number}: not TOML: {what}", "mend that line; see https://toml.io"
        ) from None
    sections, problems = _sections(document)
    problems += _across(sections)
    if problems:
        lines = locate(text)
        problems.sort(key=lambda problem: line_of(lines, problem.where))
        raise ConfigError(
            "\n".join(problem.render(filename, lines) for problem in problems),
            f"edit {filename}, then try again",
        )
    config = Config(**sections)
    config._text = text
    return config


def _sections(document: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Each table on its own, so that a mistake in one does not hide those in the others."""
    sections: dict[str, Any] = {}
    problems: list[Problem] = []
    for name in document:
        if name not in Config.model_fields:
            home = [table for table, model in TABLES.items() if name in _keys(model)]
            hint = f'; "{name}" belongs in [{home[0]}]' if home else ""
            problems.append(Problem((name,), unknown_key(name, list(Config.model_fields), "table") + hint))
    _prices(document.get("prices", {}), sections, problems)
    for name, model in TABLES.items():
        value = document.get(name)
        if name == "hosts":
            if value is None:
                continue
            if not isinstance(value, list) or not value:
                problems.append(Problem((name,), "expected [[hosts]] tables, one a machine"))
                continue
            hosts = [_section(model, host, (name, index), problems) for index, host in enumerate(value)]
            if None not in hosts:
                sections[name] = tuple(hosts)
        elif value is not None and not isinstance(value, dict):
            problems.append(Problem((name,), f"expected a table [{name}], got {value!r}"))
        elif (section := _section(model, value or {}, (name,), problems)) is not None:
            sections[name] = section
    return sections, problems


def _prices(value: Any, sections: dict[str, Any], problems: list[Problem]) -> None:
    if not isinstance(value, dict):
        problems.append(Problem(("prices",), 'expected tables [prices."model-id"]'))
        return
    found = {model: _section(PriceSection, table, ("prices", model), problems) for model, table in value.items()}
    sections["prices"] = {model: section for model, section in found.items() if section is not None}


def _section(model: type[Section], value: Any, where: Where, problems: list[Problem]) -> Section | None:
    if not isinstance(value, dict):
        problems.append(Problem(where, f"expected a table, got {value!r}"))
        return None
    try:
        section = model.model_validate(value, by_name=False, by_alias=True)
    except ValidationError as error:
        told: set[Where] = set()
        for details in error.errors():
            problem = _explain(model, where, details)
            if problem.where not in told:  # a union complains once for each alternative
                problems.append(problem)
            told.add(problem.where)
        return None
    problems += [Problem((*where, *key.split(".", 1)), message) for key, message in section.contradictions()]
    return section


def _across(sections: dict[str, Any]) -> list[Problem]:
    """What makes no sense between tables, as far as they could be read."""
    problems = []
    metric, trial = sections.get("metric"), sections.get("trial")
    if metric and trial and metric.mode == "evaluated" and not trial.evaluate.strip():
        problems.append(Problem(("trial", "evaluate"), 'missing: [metric] mode = "evaluated" needs the command'))
    proposer, limits = sections.get("proposer"), sections.get("limits")
    if proposer and limits and proposer.kind == "claude" and limits.dollars is None:
        problems.append(
            Problem(
                ("limits", "dollars"),
                'missing: kind = "claude" spends money: give a limit, e.g. dollars = 20.0, or "unlimited"',
            )
        )
    names = [host.name for host in sections.get("hosts", ())]
    for index, name in enumerate(names):
        if name in names[:index]:
            problems.append(Problem(("hosts", index, "name"), f'a second host named "{name}"'))
    for index, host in enumerate(sections.get("hosts", ())):
        if trial and trial.gpus != 1 and host.trials_per_device > 1:
            asks = f"asks for {trial.gpus} whole devices" if trial.gpus else "asks for no device"
            problems.append(
                Problem(
                    ("hosts", index, "trials_per_device"),
                    f"{host.trials_per_device} trials are to share one device, but each {asks} ([trial] gpus = "
                    f"{trial.gpus}): set gpus = 1, or take trials_per_device out",
                )
            )
    return problems


def _keys(model: type[Section]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


_WORDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text in quotes",
    "boolean": "true or false",
    "dictionary": "a table, e.g. { name = value }",
    "tuple": 'a list, e.g. ["a", "b"]',
}


def _explain(model: type[Section], where: Where, details: ErrorDetails) -> Problem:
    """One of pydantic's findings in the words of the file."""
    first, *rest = details["loc"]
    # Within a union pydantic adds the alternative's type to the path: only indices are the file's own.
    place = (*where, first, *(part for part in rest if isinstance(part, int)))
    kind, got = details["type"], details["input"]
    if kind == "extra_forbidden":
        return Problem(place, unknown_key(str(first), _keys(model)))
    expected = details["msg"].removeprefix("Input should be ").removeprefix("a valid ").replace("'", '"')
    choices = re.findall(r'"([^"]*)"', expected) if kind in ("enum", "literal_error") else []
    expected = _WORDS.get(expected, expected)
    return Problem(place, f"expected {expected}, got {_toml(got)}{nearest(str(got), choices)}")


def _toml(value: object) -> str:
    """A value as the file's reader knows it."""
    if isinstance(value, tuple):
        value = list(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


TABLES: dict[str, type[Section]] = {
    "project": ProjectSection,
    "environment": EnvironmentSection,
    "data": DataSection,
    "metric": MetricSection,
    "trial": TrialSection,
    "judge": JudgeSection,
    "proposer": ProposerSection,
    "review": ReviewSection,
    "limits": LimitsSection,
    "sandbox": SandboxSection,
    "storage": StorageSection,
    "notify": NotifySection,
    "hosts": HostSection,
}
