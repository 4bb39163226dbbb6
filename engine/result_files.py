"""``[metric] file = "out/*.json:val.loss"``: the objective from files that the trial wrote. Pure.

JSON by key path (dots, ``[index]``), JSON lines by the last whole line, CSV and TSV by column.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from engine.errors import UsageError
from engine.reported import SCORES_LIMIT, Finals, Report, Reported, number, shown

DUPLICATE = object()  # stands in for a key that one JSON object gives twice

_PATH_PART = re.compile(r"\[(-?[0-9]{1,9})\]|([^.\[\]]+)")
_MISSING = object()


def split_result_spec(spec: str) -> tuple[str, str]:
    """``out/*.json:val.loss`` -> glob and key path. Raises UsageError that names what was expected."""
    glob, colon, key = spec.partition(":")
    glob, key = glob.strip(), key.strip()
    mend = 'write "glob:key.path", e.g. "out/*.json:val.loss" or "metrics.csv:val_loss"'
    if not (colon and glob and key):
        raise UsageError(f'[metric] file: "{shown(spec)}" has no glob and key', mend)
    if PurePosixPath(glob).is_absolute() or ".." in PurePosixPath(glob).parts:
        raise UsageError(f'[metric] file: "{shown(glob)}" leaves the trial\'s directory', mend)
    return glob, key


def read_result_file(
    spec: str, files: Mapping[str, bytes], objective: str = "", source: str = "reported"
) -> Reported:
    """The objective from ``files`` (path -> content, all that match the glob of ``spec``).

    Files without the key are passed over when another has it (``out/*.json`` also finds a config.json);
    files that have it must agree. Other numbers of the files are scores too, by their path.
    ``objective`` names the score; by default the last part of the key path.
    """
    glob, key = split_result_spec(spec)
    finals = Finals(objective or key.rpartition(".")[2], source)
    reports: list[Report] = []
    unreadable: list[str] = []
    for path in sorted(files):
        try:
            report, others = _read(path, files[path], key)
        except (ValueError, RecursionError, csv.Error) as error:
            unreadable.append(f"{shown(path)} cannot be read ({shown(str(error))})")
            continue
        if report is not None:
            reports.append(report)
        finals.last.update(
            (n, v)
            for n, v in others[:SCORES_LIMIT]
            if n not in (finals.objective, key) and n.isprintable() and len(n) <= 128
        )
    for report in reports:
        # Blocks must agree whatever their number, and so must files: the same rule, the same words.
        finals.in_block(finals.objective, report)
    found = finals.reported()
    detail = found.detail
    if not reports:
        if not files:
            detail = f'no file matches "{shown(glob)}" in the trial\'s directory'
        elif unreadable:
            detail = unreadable[0]
        else:
            detail = f'{shown(", ".join(sorted(files)))} has no "{shown(key)}"'
        detail += "; mend [metric] file, or let the script write it"
    return replace(found, detail=detail, configured=True)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """``object_pairs_hook``: as a dict, but a key given twice holds DUPLICATE, never either value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found[key] = DUPLICATE
            seen.add(key)
    return found


def _read(path: str, data: bytes, key: str) -> tuple[Report | None, list[tuple[str, float]]]:
    """The report of one file (None: it lacks the key), and its other numbers."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _read_table(path, data, key, "\t" if suffix == ".tsv" else "")
    if suffix in (".jsonl", ".ndjson"):
        return _read_lines(path, data, key)
    return _read_json(path, json.loads(data, object_pairs_hook=unique_keys, parse_int=float), key)


def _read_json(path: str, document: Any, key: str) -> tuple[Report | None, list[tuple[str, float]]]:
    value = _at(document, key)
    others = list(_numbers(document)) if isinstance(document, dict) else []
    if value is _MISSING or value is None:
        return None, others
    where = f"{shown(path)}:{shown(key)}"
    if value is DUPLICATE:
        return Report(None, "twice in one object", where, torn=True), others
    if isinstance(value, float):
        value += 0.0  # -0.0 -> 0.0
        return Report(value, repr(value), where), others
    return Report(None, repr(value)[:200], where), others


def _read_lines(path: str, data: bytes, key: str) -> tuple[Report | None, list[tuple[str, float]]]:
    """JSON lines: the last object that has the key (a torn last line is no object)."""
    for line in reversed(data.splitlines()):
        try:
            document = json.loads(line, object_pairs_hook=unique_keys, parse_int=float)
        except (ValueError, RecursionError):
            continue
        report, others = _read_json(path, document, key)
        if report is not None:
            return report, others
    return None, []


def _read_table(
    path: str, data: bytes, column: str, delimiter: str
) -> tuple[Report | None, list[tuple[str, float]]]:
    """CSV: the column's last cell that is not empty.

    Loggers that write training and validation rows into one table (Lightning) leave the other's cells
    empty, so the last row alone would often hold nothing.
    """
    text = data.decode("utf-8-sig")
    if not delimiter:
        head = text.partition("\n")[0]
        delimiter = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [cell.strip() for cell in next(rows, [])]
    last: dict[int, str] = {}
    for row in rows:
        last.update((i, cell.strip()) for i, cell in enumerate(row) if cell.strip())
    cells = [last.get(i, "") for i, name in enumerate(header) if name == column]
    values = ((name, number(last.get(i, "").encode())) for i, name in enumerate(header) if name)
    others = [(name, value) for name, value in values if value is not None]
    where = f"{shown(path)}, column {shown(column)}"
    if not any(cells):
        return None, others
    if len(cells) > 1:
        return Report(None, "two columns of one name", where, torn=True), others
    return Report(number(cells[0].encode("utf-8", "replace")), cells[0][:200], where), others


def _at(document: Any, path: str) -> Any:
    """Follow ``runs[0].val.loss``; a key that itself contains dots is found by its whole name."""
    if isinstance(document, dict) and path in document:
        return document[path]
    match = _PATH_PART.match(path)
    if match is None:
        return _MISSING
    rest = path[match.end() :].removeprefix(".")
    if match[1] is not None:
        index = int(match[1])
        if not isinstance(document, list) or not -len(document) <= index < len(document):
            return _MISSING
        found = document[index]
    else:
        if not isinstance(document, dict) or match[2] not in document:
            return _MISSING
        found = document[match[2]]
    if found is DUPLICATE or not rest:
        return found
    return _at(found, rest)


def _numbers(document: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    for key, value in document.items():
        if isinstance(value, float):
            yield prefix + key, value + 0.0
        elif isinstance(value, dict) and depth < 4:
            yield from _numbers(value, f"{prefix}{key}.", depth + 1)
