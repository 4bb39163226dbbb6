"""Writes a ratchet.toml that has every key, its comment and its value, from the schema itself. Pure."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from engine.config import TABLES, Config
from engine.config_sections import Section

WIDTH = 110

HEAD = """\
# ratchet.toml: how this project's experiments are run. Every key is here; a line may be deleted, its
# default then holds. `ratchet doctor` checks the file. What touches measurement ([metric], [trial],
# [environment], [data], frozen) opens a new protocol when it changes: the incumbent is measured again.
"""

# A key without a default is written as a comment with an example.
_EXAMPLES = {"experiments": "100", "hours": "10", "dollars": "20.0"}


def render(config: Config) -> str:
    """TOML text that parses to a Config equal to ``config``."""
    parts = [HEAD]
    for name, model in TABLES.items():
        if name == "hosts":
            parts += [_table("[[hosts]]", model, host) for host in config.hosts]
        else:
            parts.append(_table(f"[{name}]", model, getattr(config, name)))
    parts.append(_prices(config))
    return "\n".join(parts)


def _prices(config: Config) -> str:
    """Only what a person gave: the built-in prices are data of this program, with their date."""
    lines = ["# What a model costs, in US dollars a million tokens, where the built-in price is not yours:"]
    lines += ['# [prices."my-model"]', "# input = 2.0", "# output = 10.0"]
    for name, price in config.prices.items():
        lines.append(f"[prices.{_key(name)}]")
        given = price.model_dump(exclude_defaults=True)
        lines += [f"{key} = {literal(value)}" for key, value in given.items()]
    return "\n".join(lines) + "\n"


def _table(header: str, model: type[Section], section: Section) -> str:
    about = (model.__doc__ or "").split("\n\n")[0].replace("``", '"')
    lines = [*(f"# {line}" for line in textwrap.wrap(about, WIDTH - 2)), header]
    for name, field in model.model_fields.items():
        value = getattr(section, name)
        default = field.get_default()
        key = field.alias or name
        comment = field.description or ""
        if value is None:
            line = f"# {key} = {_EXAMPLES[key]}"
        else:
            line = f"{key} = {literal(value)}"
            if value != default and default not in ("", (), {}, None):
                comment += f" (default: {literal(default)})"
        if "\n" in comment or "\n" in line or len(line) + len(comment) + 4 > WIDTH:
            lines += [f"# {part}" for text in comment.split("\n") for part in textwrap.wrap(text, WIDTH - 2)]
            lines.append(line)
        else:
            lines.append(f"{line}  # {comment}")
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """``value`` as TOML. Text with backslashes (a regular expression) stays readable in single quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # No control characters in a literal string, and no quote of its own kind.
        if "\\" in value and "'" not in value and value.isprintable():
            return f"'{value}'"
        return _quoted(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(name)} = {literal(item)}" for name, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "_").isidentifier()
    return name if bare else _quoted(name)


def _quoted(text: str) -> str:
    # JSON escapes what TOML wants escaped, but for DEL.
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")
