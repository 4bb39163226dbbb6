"""Constants of YAML and TOML files: numbers, booleans and (for declared choices) plain text.

YAML: PyYAML's composer gives each scalar's place. TOML: no reader tells places, so every number that
might be a value is replaced by a mark of its own and the parser says which key each mark arrived at;
what merely looks like a value (inside a comment or a string) arrives nowhere.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator

import yaml

from engine.proposers.scanning import Found, comment_after, unique_names
from engine.proposers.spelling import Value

_INTEGER = re.compile(r"[-+]?(0|[1-9][\d_]*)")
_FLOAT = re.compile(r"[-+]?(\d[\d_]*)?(\.[\d_]*)?([eE][-+]?\d+)?")
_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}


class YamlScan:
    """One composed YAML text (all its documents). Raises ValueError where it is not YAML."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._nodes: dict[int, yaml.ScalarNode] = {}
        self._raw: list[Found] = []
        self._seen: set[int] = set()
        try:
            self._documents = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node]
        except yaml.YAMLError as fault:
            raise ValueError(str(fault)) from fault
        for node in self._documents:
            self._walk(node, "", 0)
        self.found = unique_names(self._raw)

    def outline(self, masked: frozenset[str]) -> str:
        targets = {id(self._nodes[item.start]) for item in self.found if item.name in masked}

        def tell(node: yaml.Node) -> object:
            if id(node) in targets:
                return "?"
            if isinstance(node, yaml.MappingNode):
                return [node.tag, [[tell(key), tell(value)] for key, value in node.value]]
            if isinstance(node, yaml.SequenceNode):
                return [node.tag, [tell(item) for item in node.value]]
            return [node.tag, node.value]

        return json.dumps([tell(node) for node in self._documents])

    def _walk(self, node: yaml.Node, name: str, depth: int) -> None:
        if id(node) in self._seen or depth > 20:
            return  # an alias: the place is the anchor's, met before
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    self._walk(value, f"{name}.{key.value}" if name else key.value, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            if len(node.value) <= 4:
                for index, value in enumerate(node.value):
                    if isinstance(value, yaml.ScalarNode):
                        self._walk(value, f"{name}[{index}]", depth + 1)
        elif isinstance(node, yaml.ScalarNode) and name:
            self._scalar(node, name)

    def _scalar(self, node: yaml.ScalarNode, name: str) -> None:
        end = node.end_mark.index
        # The node's own start may be that of an anchor or a tag before the value.
        quoted = node.style in ("'", '"')
        start = end - len(node.value) - (2 if quoted else 0)
        source = self._text[max(start, 0) : end]
        if start < node.start_mark.index or node.value not in source or node.style in ("|", ">"):
            return
        value: Value | None = node.value if quoted else _yaml_value(node)
        if value is None:
            return
        self._nodes[start] = node
        line = node.end_mark.line + 1
        self._raw.append(Found(name, value, start, end, line, comment_after(self._text, end)))


def _yaml_value(node: yaml.ScalarNode) -> Value | None:
    text = node.value
    if node.tag.endswith(":bool"):
        return text.lower() in _TRUE if text.lower() in _TRUE | _FALSE else None
    if node.tag.endswith(":int"):
        return int(text.replace("_", "")) if _INTEGER.fullmatch(text) else None
    # YAML 1.1, and so PyYAML, takes "3e-4" for text; its users convert it with float().
    if node.tag.endswith((":float", ":str")) and re.search(r"\d", text) and _FLOAT.fullmatch(text):
        if _INTEGER.fullmatch(text):
            return None
        return float(text.replace("_", ""))
    return text if node.tag.endswith(":str") else None


# A number or boolean where TOML allows a value: after "=", "[" or ",".
_TOML_VALUE = re.compile(
    r"(?<=[=\[,])(?P<space>[ \t\r\n]*)"
    r"(?P<value>[-+]?\d[\d_]*(?:\.[\d_]+)?(?:[eE][-+]?[\d_]+)?|true|false|\"[^\"\\\r\n]*\"|'[^'\r\n]*')"
    r"(?=[ \t]*(?:[\r\n#,\]}]|$))"
)
_MARK = 7_310_000_000_000  # marks are _MARK, _MARK + 1, ...: no configuration holds such a run


class TomlScan:
    """One parsed TOML text. Raises ValueError (tomllib.TOMLDecodeError) where it is none."""

    def __init__(self, text: str) -> None:
        self._data = tomllib.loads(text)
        self._places: dict[str, tuple[str | int, ...]] = {}
        places = list(_TOML_VALUE.finditer(text))[:2000]
        arrived = self._arrivals(text, places)
        lines = [match.end() for match in re.finditer(r"\n", text)]
        found: list[Found] = []
        for index, match in enumerate(places):
            if index not in arrived:
                continue
            keys, value = arrived[index]
            name = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys).lstrip(".")
            start, end = match.span("value")
            line = 1 + sum(1 for at in lines if at <= start)
            found.append(Found(name, value, start, end, line, comment_after(text, end)))
            self._places[name] = keys
        self.found = unique_names(found)

    def outline(self, masked: frozenset[str]) -> str:
        data = self._data
        for name in masked:
            *path, last = self._places[name]
            inner = data
            for key in path:
                inner = inner[key]  # type: ignore[index]
            inner[last] = "?"  # type: ignore[index]
        return json.dumps(data, default=str)

    def _arrivals(self, text: str, places: list[re.Match[str]]) -> dict[int, tuple[tuple[str | int, ...], Value]]:
        """Index of a place -> key path and present value, asked of the parser with marks."""
        marked: list[str] = []
        at = 0
        for index, match in enumerate(places):
            start, end = match.span("value")
            marked += [text[at:start], str(_MARK + index)]
            at = end
        try:
            data = tomllib.loads("".join(marked) + text[at:])
        except ValueError:
            return {}  # something that only looked like a value was needed as it is (a date, a key)
        result: dict[int, tuple[tuple[str | int, ...], Value]] = {}
        for keys, mark in _leaves(data, ()):
            if type(mark) is int and 0 <= mark - _MARK < len(places):
                value: object = self._data
                try:
                    for key in keys:
                        value = value[key]  # type: ignore[index]
                except LookupError:
                    continue  # the mark renamed a table: "[1]"
                if isinstance(value, bool | int | float | str):
                    result[mark - _MARK] = (keys, value)
        return result


def _leaves(data: object, keys: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], object]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, (*keys, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _leaves(value, (*keys, index))
    else:
        yield keys, data
