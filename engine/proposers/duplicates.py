"""Whether two candidates are the same program, whatever their comments, formatting and spelling. Pure."""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Mapping
from pathlib import PurePosixPath

_PYTHON = (".py", ".pyw")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprint(files: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) of the editable files' meaning; equal when nothing that runs differs.

    Python by its syntax tree, without comments, docstrings, formatting and the spelling of literals (``1e-3`` is
    ``0.001``; ``1`` is not ``1.0``). Anything else, and Python that cannot be parsed, by its lines without
    trailing blanks and empty lines. Different fingerprints prove nothing: a renamed variable makes another one.
    Comparable only within one version of Python, whose parser it stands on.
    """
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        meaning = _meaning(path, content)
        digest.update(f"{len(path.encode('utf-8', 'surrogatepass'))} {len(meaning)}\n".encode())
        digest.update(path.encode("utf-8", "surrogatepass") + meaning)
    return digest.hexdigest()


def _meaning(path: str, content: bytes) -> bytes:
    if PurePosixPath(path).suffix.lower() in _PYTHON:
        try:
            return b"ast " + _tree(content).encode("utf-8", "surrogatepass")
        # ValueError: null bytes, and integers of more digits than Python writes out.
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    return b"text " + _lines(content)


def _tree(content: bytes) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the candidate's invalid escapes are not ours to report
        tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
        elif isinstance(node, ast.Constant):
            node.kind = None  # u"" is ""
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    """A docstring, or a string that stands alone as a comment does."""
    return (
        isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
    )


def _lines(content: bytes) -> bytes:
    """Indentation stays: in YAML it is meaning."""
    lines = (line.rstrip() for line in content.splitlines())
    return b"\n".join(line for line in lines if line)
