"""Constants of a Python file: module-level names, configuration classes, dictionaries, options.

Only what ``ast`` says is a literal (or arithmetic on literals) counts; a value computed from another
name or from the environment is derived, and follows whatever it is derived from.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from engine.proposers.scanning import Found, unique_names
from engine.proposers.spelling import Value, evaluate

# Python's own line ends. str.splitlines also splits on form feeds and U+2028, which may stand in a
# comment, and every later position would be wrong.
_LINE_END = re.compile(r"\r\n|\r|\n")
_CONFIG_CLASS = re.compile(r"(config|args|arguments|params|parameters|settings|options|hparams)$", re.I)
_CONFIG_BASES = {"NamedTuple", "BaseModel", "BaseSettings", "Struct"}
_CONFIG_DECORATORS = {"dataclass", "define", "frozen", "attrs", "s", "chz"}
_CONFIG_CALLS = {"dict", "SimpleNamespace", "Namespace"}
_FIELD_CALLS = {"field", "Field", "attrib", "ib"}


class PythonScan:
    """One parsed Python text. Raises SyntaxError or ValueError where Python itself would."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tree = ast.parse(text)
        self._lines = [0, *(match.end() for match in _LINE_END.finditer(text))]
        self._comments = _comments(text)
        nodes = list(ast.walk(self._tree))
        self._notes = _rebindings(self._tree, nodes)
        self._nodes: dict[int, ast.expr] = {}  # start character -> value node
        self._raw: list[Found] = []
        config_classes = {
            node.name for node in self._tree.body if isinstance(node, ast.ClassDef) and _is_config(node)
        }
        for statement in self._tree.body:
            self._statement(statement, "", config_classes)
            if isinstance(statement, ast.ClassDef) and statement.name in config_classes:
                for inner in statement.body:
                    self._statement(inner, f"{statement.name}.", config_classes)
        for node in nodes:
            if isinstance(node, ast.Call):
                self._option(node)
        self.found = unique_names(self._raw)

    def outline(self, masked: frozenset[str]) -> str:
        for item in self.found:
            if item.name in masked:
                # In place: whatever kind of node it was, it dumps as one and the same name.
                node = self._nodes[item.start]
                node.__class__ = ast.Name
                node.__dict__.clear()
                node.__dict__.update(id="?", ctx=ast.Load())
        return ast.dump(self._tree)

    # --- where constants stand ---------------------------------------------------------------

    def _statement(self, statement: ast.stmt, prefix: str, config_classes: set[str]) -> None:
        if isinstance(statement, ast.AnnAssign):
            if isinstance(statement.target, ast.Name) and statement.value is not None:
                self._value(prefix + statement.target.id, statement.value, config_classes)
        elif isinstance(statement, ast.Assign):
            target = statement.targets[0]
            if isinstance(target, ast.Name):
                self._value(prefix + target.id, statement.value, config_classes)
            elif isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                # A starred target makes the lengths differ: then no pairing is certain.
                equal = len(target.elts) == len(statement.value.elts)
                for name, value in zip(target.elts, statement.value.elts, strict=False):
                    if equal and isinstance(name, ast.Name):
                        self._value(prefix + name.id, value, config_classes)

    def _value(self, name: str, node: ast.expr, config_classes: set[str]) -> None:
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    self._value(f"{name}.{key.value}", value, config_classes)
        elif isinstance(node, ast.Tuple | ast.List):
            if len(node.elts) <= 4:  # betas, a kernel's size; a longer one is a table
                for index, element in enumerate(node.elts):
                    if not isinstance(element, ast.Tuple | ast.List | ast.Dict):
                        self._add(f"{name}[{index}]", element)
        elif isinstance(node, ast.Call):
            called = _last_name(node.func)
            if called in _FIELD_CALLS:
                for keyword in node.keywords:
                    if keyword.arg == "default":
                        self._add(name, keyword.value)
                if called == "Field" and node.args:
                    self._add(name, node.args[0])
            elif called in _CONFIG_CALLS or called in config_classes:
                for keyword in node.keywords:
                    if keyword.arg is not None:
                        self._value(f"{name}.{keyword.arg}", keyword.value, config_classes)
        else:
            self._add(name, node)

    def _option(self, node: ast.Call) -> None:
        """``add_argument("--lr", default=3e-4)`` of argparse, ``option("--lr", default=3e-4)`` of click."""
        if _last_name(node.func) not in {
            "add_argument",
            "option",
            "Option",
            "DEFINE_float",
            "DEFINE_integer",
        }:
            return
        words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        name = next((word for word in words if word.startswith("--")), "")
        if not name:
            return
        for keyword in node.keywords:
            if keyword.arg == "default":
                self._add(name.split("/")[0], keyword.value)

    def _add(self, name: str, node: ast.expr) -> None:
        value: Value | None = evaluate(node)
        if value is None:
            return
        start, end = self._span(node)
        if isinstance(value, str) and not _plain_string(self._text[start:end]):
            return
        if start in self._nodes:
            return  # an option inside a configuration call: one place, one constant
        self._nodes[start] = node
        line = node.end_lineno or node.lineno
        root = re.split(r"[.\[]", name, maxsplit=1)[0]
        note = self._notes.get(root, "")
        self._raw.append(Found(name, value, start, end, node.lineno, self._comments.get(line, ""), note))

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self._position(node.lineno, node.col_offset)
        return start, self._position(node.end_lineno, node.end_col_offset)

    def _position(self, line: int, column: int) -> int:
        """Character of the text; ``ast`` counts columns in bytes of UTF-8."""
        start = self._lines[line - 1]
        head = self._text[start : start + column]  # at least as many characters as needed
        return start + (column if head.isascii() else len(head.encode()[:column].decode()))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_config(node: ast.ClassDef) -> bool:
    decorators = {_last_name(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list}
    bases = {_last_name(base) for base in node.bases}
    return bool(decorators & _CONFIG_DECORATORS or bases & _CONFIG_BASES or _CONFIG_CLASS.search(node.name))


def _plain_string(source: str) -> bool:
    return len(source) >= 2 and source[0] == source[-1] and source[0] in "'\"" and "\\" not in source


def _comments(text: str) -> dict[int, str]:
    """Line number -> text of the comment on it."""
    comments: dict[int, str] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                comments[token.start[0]] = token.string.lstrip("#").strip()
    except (tokenize.TokenError, SyntaxError):
        pass  # ast read it; only comments behind this point are unknown
    return comments


def _rebindings(tree: ast.Module, nodes: list[ast.AST]) -> dict[str, str]:
    """Module-level names that more than one statement sets, with a sentence that says where.

    An edit of the first assignment might then change nothing, and a counter or a record kept by the
    training loop (``iter_num``, ``best_val_loss``) is no hyperparameter.
    """
    notes: dict[str, str] = {}
    first: set[str] = set()
    shared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    for name, line, counts_alone in _bindings(tree.body, in_loop=False):
        if counts_alone or name in first:
            notes.setdefault(name, f"set again on line {line}")
        elif name in shared:
            notes.setdefault(name, "set inside a function (global)")
        first.add(name)
    return notes


def _bindings(body: list[ast.stmt], in_loop: bool) -> Iterator[tuple[str, int, bool]]:
    """Name, line, and whether this one alone makes it a variable (``x += 1`` in a loop)."""
    for statement in body:
        alone = isinstance(statement, ast.AugAssign)
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.For | ast.AsyncFor):
            targets = [statement.target]
        elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
            # "accumulation //= world_size" under an if only adapts a setting; in a loop it counts.
            targets = [statement.target] if (in_loop if alone else statement.value) else []
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id, statement.lineno, alone
        loop = in_loop or isinstance(statement, ast.For | ast.AsyncFor | ast.While)
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                yield from _bindings(getattr(statement, field, []), loop)
            for handler in getattr(statement, "handlers", []):
                yield from _bindings(handler.body, loop)
