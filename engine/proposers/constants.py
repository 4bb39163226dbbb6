"""The constants of a file, found by parsing it, and edits of them that keep every other byte.

Python, YAML and TOML each have a module that reads one syntax; this one gives them a common shape,
writes new values into the source and proves each edit by reading the result again.
"""

from __future__ import annotations

import codecs
import functools
import io
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from engine.errors import EditRejected
from engine.proposers.constants_data import TomlScan, YamlScan
from engine.proposers.constants_python import PythonScan
from engine.proposers.scanning import Scan
from engine.proposers.spelling import Syntax, Value, spell

_SYNTAXES: Mapping[str, tuple[Syntax, Callable[[str], Scan]]] = {
    ".py": ("python", PythonScan),
    ".yaml": ("yaml", YamlScan),
    ".yml": ("yaml", YamlScan),
    ".toml": ("toml", TomlScan),
}
_LARGEST = 1 << 20  # bytes; a larger file is data, not a script


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that stands literally in a file. ``name`` is unique in the file: ``LEARNING_RATE``,
    ``Config.n_embd``, ``HYPER.optimizer.lr``, ``BETAS[0]``, ``--lr``; in data files the dotted key."""

    path: str
    name: str
    value: Value
    kind: str  # bool | int | float | text
    span: tuple[int, int]  # bytes of the file
    line: int  # 1-based
    comment: str  # what follows on its line after the comment sign, stripped
    source: str  # as it is spelled now
    syntax: Syntax
    note: str = ""  # why changing it here may change nothing, e.g. "assigned again on line 40"

    @property
    def key(self) -> str:
        """Unique in the project: ``train.py:LEARNING_RATE``."""
        return f"{self.path}:{self.name}"


@functools.lru_cache(maxsize=64)  # a base version is read for every proposal made on it
def find_constants(path: str, content: bytes) -> tuple[Constant, ...]:
    """All constants of one file in the order in which they stand there.

    A file of another type, an unreadable encoding or a syntax error gives none: an editable file that
    does not parse is the trial's to report, not ours.
    """
    opened = _open(path, content)
    return _constants(path, opened) if opened else ()


@functools.lru_cache(maxsize=64)
def outline(path: str, content: bytes, masked: frozenset[str]) -> str:
    """The meaning of a file without the values of ``masked``; "" where it does not parse."""
    opened = _open(path, content)
    return opened.scan.outline(masked) if opened else ""


def edit(path: str, content: bytes, changes: Mapping[str, Value]) -> bytes:
    """``content`` with the named constants set to new values; every other byte stays.

    Raises EditRejected when a name is not there, or when reading the result again does not give exactly
    these values and an otherwise unchanged program.
    """
    before = find_constants(path, content)
    by_name = {constant.name: constant for constant in before}
    missing = sorted(set(changes) - set(by_name))
    if missing:
        raise EditRejected(f"{path} has no constant named {', '.join(missing)}")
    result = content
    for constant in sorted((by_name[name] for name in changes), key=lambda c: c.span, reverse=True):
        start, end = constant.span
        spelled = spell(changes[constant.name], constant.source, constant.syntax)
        result = result[:start] + spelled.encode("ascii", "replace") + result[end:]
    expected = [(c.name, kind_of(changes.get(c.name, c.value)), changes.get(c.name, c.value)) for c in before]
    masked = frozenset(changes)
    opened = _open(path, result)
    after = [(c.name, c.kind, c.value) for c in _constants(path, opened)] if opened else []
    if not opened or after != expected or opened.scan.outline(masked) != outline(path, content, masked):
        wanted = ", ".join(f"{name} = {value!r}" for name, value in changes.items())
        raise EditRejected(
            f"{path}: writing {wanted} would have changed something else as well, so nothing was written",
            "exclude the constant with a trailing comment  # search: no",
        )
    return result


def kind_of(value: Value) -> str:
    """bool, int, float or text."""
    return "text" if isinstance(value, str) else type(value).__name__


@dataclass(frozen=True, slots=True)
class _Opened:
    text: str
    encoding: str
    mark: int  # bytes of the byte-order mark
    syntax: Syntax
    scan: Scan


def _open(path: str, content: bytes) -> _Opened | None:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in _SYNTAXES or len(content) > _LARGEST:
        return None
    syntax, scan = _SYNTAXES[suffix]
    mark = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    encoding = "utf-8"
    try:
        if syntax == "python":
            encoding = tokenize.detect_encoding(io.BytesIO(content).readline)[0].removesuffix("-sig")
        text = content[mark:].decode(encoding)
        if text.encode(encoding) != content[mark:]:
            return None  # a stateful encoding: byte offsets could not be trusted
        return _Opened(text, encoding, mark, syntax, scan(text))
    except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError):
        return None


def _constants(path: str, opened: _Opened) -> tuple[Constant, ...]:
    constants: list[Constant] = []
    at, offset = 0, opened.mark  # characters and bytes so far: the text is encoded once, piece by piece
    for item in sorted(opened.scan.found, key=lambda found: found.start):
        offset += len(opened.text[at : item.start].encode(opened.encoding))
        source = opened.text[item.start : item.end]
        length = len(source.encode(opened.encoding))
        constants.append(
            Constant(
                path=path,
                name=item.name,
                value=item.value,
                kind=kind_of(item.value),
                span=(offset, offset + length),
                line=item.line,
                comment=item.comment,
                source=source,
                syntax=opened.syntax,
                note=item.note,
            )
        )
        at = item.start
    return tuple(constants)
