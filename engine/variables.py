"""Names in commands and in a trial's environment: which are filled in, which never pass. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

from engine.config_source import nearest
from engine.errors import UsageError

PLACEHOLDERS = ("seed", "seconds", "steps", "gpus", "port", "out")
# ``${NAME}`` is the shell's; ``{{name}}`` is a literal ``{name}``; any other brace is nobody's business,
# so that JSON in a command needs no escaping.
_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|(?<!\$)\{([A-Za-z_]\w*)\}")


def placeholders(text: str) -> set[str]:
    """Names of the ``{name}`` in ``text`` (those of ``{{name}}`` and ``${NAME}`` are none)."""
    return {match[2] for match in _PLACEHOLDER.finditer(text) if match[2]}


def expand(text: str, values: Mapping[str, object]) -> str:
    """Fill in ``{seed}`` and its like; other braces stay. Raises UsageError for a name without a value."""

    def fill(match: re.Match[str]) -> str:
        if match[1]:
            return "{" + match[1] + "}"
        if match[2] not in values:
            raise UsageError(f"no value for {{{match[2]}}} in: {text}", _escape_hint(match[2]))
        return str(values[match[2]])

    return _PLACEHOLDER.sub(fill, text)


def expand_command(command: str, values: Mapping[str, object]) -> str:
    """``expand`` for a shell: a value that the shell would split or interpret is quoted."""
    return expand(command, {name: shlex.quote(str(value)) for name, value in values.items()})


def _escape_hint(name: str) -> str:
    valid = " ".join(f"{{{known}}}" for known in PLACEHOLDERS)
    return f"known are {valid}; write {{{{{name}}}}} for a literal {{{name}}}"


def bad_placeholders(text: str) -> Iterator[str]:
    for name in sorted(placeholders(text) - set(PLACEHOLDERS)):
        yield f"unknown {{{name}}}{nearest(name, PLACEHOLDERS)} ({_escape_hint(name)})"


_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|COOKIE|^ANTHROPIC_|^AWS_|^OPENAI_", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a variable's name says that it holds what training code must never see (TRUST.md row 12)."""
    return bool(_SECRET.search(name))
