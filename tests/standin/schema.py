"""Fills a tool's input from its JSON schema: known fields with what there is to say, others with what fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Known = Mapping[str, Sequence[Any]]  # field -> values to try, the best first


def filled(schema: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """Every required property, and every known one that the schema has."""
    return _object(schema, known, schema)


def _object(schema: Mapping[str, Any], known: Known, root: Mapping[str, Any]) -> dict[str, Any]:
    required = schema.get("required") or []
    return {
        name: _value(inner, known.get(name, ()), known, root)
        for name, inner in (schema.get("properties") or {}).items()
        if name in required or name in known
    }


def _value(schema: Mapping[str, Any], tries: Sequence[Any], known: Known, root: Mapping[str, Any]) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if options := schema.get("enum"):
        return next((one for one in tries if one in options), options[0])
    kinds = schema.get("type", "string")
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        fitting = [one for one in tries if _is(one, kind)]
        if kind in ("integer", "number"):
            return _number(fitting[0] if fitting else 1, schema, kind)
        if kind == "string":
            # A description that speaks of "" says that empty is a fine answer.
            default = "" if '""' in schema.get("description", "") else "as described"
            text = str(next(iter(fitting), next(iter(tries), default)))
            return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")
        if kind == "boolean":
            return bool(next(iter(fitting), False))
        if kind == "object":
            return _object(schema, known, root)
        if kind == "array":
            return fitting[0] if fitting else _items(schema, tries, known, root)
    return None


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Through ``$ref``, and the first alternative that is not null."""
    while True:
        if ref := schema.get("$ref"):
            found: Any = root
            for step in str(ref).removeprefix("#/").split("/"):
                found = found[step]
            schema = found
        elif options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            schema = next((one for one in options if one.get("type") != "null"), options[0])
        else:
            return schema


def _items(schema: Mapping[str, Any], tries: Sequence[Any], known: Known, root: Mapping[str, Any]) -> list[Any]:
    return [_value(schema.get("items") or {}, tries, known, root) for _ in range(schema.get("minItems", 0))]


def _is(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "array": list, "object": dict}.get(kind, type(None)))


def _number(value: Any, schema: Mapping[str, Any], kind: str) -> float | int:
    low, high = schema.get("minimum", -float("inf")), schema.get("maximum", float("inf"))
    clamped = min(max(value, low), high)
    return round(clamped) if kind == "integer" else float(clamped)
