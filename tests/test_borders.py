"""The house's borders (DESIGN.md, "The house"): who may import whom, and what stays pure. Read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PURE = {  # these decide; they touch nothing
    "engine/types.py", "engine/errors.py", "engine/events.py", "engine/scope.py", "engine/edits.py",
    "engine/judge.py", "engine/estimates.py", "engine/evidence.py", "engine/case.py", "engine/calibration.py",
    "engine/incumbent.py", "engine/early_stop.py", "engine/constraints.py", "engine/series.py",
    "engine/metrics.py", "engine/reported.py", "engine/report_parser.py", "engine/log_lines.py",
    "engine/result_files.py", "engine/metric_guess.py", "engine/variables.py", "engine/config_sections.py",
    "engine/config_source.py", "engine/review.py", "engine/fencing.py", "engine/condensing.py", "engine/proposers/duplicates.py",
    "engine/utf8.py", "engine/device_query.py", "engine/metering.py", "engine/stages/pacing.py", "engine/runners/slurm_options.py",
    "engine/store/row_life.py", "engine/store/happening.py", "engine/store/timeline.py", "engine/store/scrubbing.py",
    "engine/store/host_life.py", "engine/store/rows.py", "engine/simulated_plan.py",
    "engine/proposers/requests.py", "engine/proposers/partial_json.py", "engine/proposers/redaction.py",
    "engine/proposers/draft.py", "engine/proposers/edit_cost.py", "engine/proposers/written_paths.py",
    "engine/proposers/tool_definitions.py", "engine/proposers/tool_input.py",
    "console/state.py", "console/layout.py", "console/formats.py", "console/device_words.py",
    "console/history_filter.py", "console/history_view.py", "console/event_words.py", "console/diff_difference.py",
    "console/screens/places.py", "console/axes.py", "console/braille.py",
    "console/charting.py", "console/staircase.py", "console/ticks.py", "console/tracing.py", "console/transcript.py",
    "console/diffs.py", "console/diff_rows.py", "console/diff_context.py", "console/diff_moves.py",
    "console/word_changes.py", "console/steering.py", "console/away.py",
    "console/keymap.py", "console/screen_keys.py", "console/remapping.py", "console/themes.py",
    "console/ascii_signs.py", "console/choosing.py", "console/copying.py", "console/reasons.py",
}  # fmt: skip
WORLD = {  # what a pure module has no business with
    "asyncio", "http", "multiprocessing", "os", "pathlib", "pty", "random", "requests", "selectors", "shutil",
    "signal", "socket", "sqlite3", "sqlite_utils", "subprocess", "tempfile", "threading", "time", "urllib",
    "watchfiles",
}  # fmt: skip
# What a console may know of the engine: the reading side, the inbox, and facts. It never runs anything.
CONSOLE_MAY = {
    "engine", "engine.store", "engine.store.reading", "engine.store.rows", "engine.inbox", "engine.types", "engine.events", "engine.service",
    "engine.lock", "engine.clock", "engine.errors", "engine.config", "engine.config_sections", "engine.config_source",
    "engine.state_folder", "engine.store.reading_money", "engine.store.reading_screens", "engine.review",
    "engine.store.reading_steering", "engine.store.reading_hosts", "engine.store.faults", "engine.store.playback", "engine.store.recording", "engine.store.timeline",
}  # fmt: skip
# Commands that do something once and end (init, doctor) need the parts that do it.
COMMANDS_MAY = CONSOLE_MAY | {
    "engine.adoption", "engine.checks", "engine.doctor", "engine.effect", "engine.effect_run", "engine.workspace", "engine.opening", "engine.environment",
    "engine.store.core", "engine.config_template", "engine.api_key",
    "engine.simulation", "engine.simulated_plan", "engine.store.reading_pace",
}  # fmt: skip
SQLITE = {"engine/inbox.py"}
HEAVY = {
    "torch",
    "optuna",
    "scipy",
    "anthropic",
    "pygments",
}  # seconds of import: only inside the function that needs them


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no modules in {package}"
    return found


def imports(path: Path, *, at_import: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of everything imported; ``from engine import x`` counts as engine.x where that is a module.

    ``at_import``: only what importing the module itself brings. What only type checkers see does not count.
    """
    tree = ast.parse(path.read_text(), str(path))
    for node in _walk(tree, at_import):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides where it points"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                place = ROOT / name.replace(".", "/")
                is_module = place.with_suffix(".py").exists() or (place / "__init__.py").exists()
                yield node.lineno, name if is_module else str(node.module)


def _walk(node: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _walk(child, at_import)


def top(module: str) -> str:
    return module.partition(".")[0]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_engine_knows_no_console_and_no_terminal_library() -> None:
    banned = {"console", "textual", "plotext", "rich", "click", "tests"}
    found = [f"{named(p)}:{n} {m}" for p in modules("engine") for n, m in imports(p) if top(m) in banned]
    assert not found


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_module_touches_nothing(name: str) -> None:
    path = ROOT / name
    assert path.exists(), f"{name} has moved: follow it here"
    found = [f"{n} {m}" for n, m in imports(path) if top(m) in WORLD]
    paths = {
        a.name
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.ImportFrom) and n.module == "pathlib"
        for a in n.names
    }
    if paths <= {"PurePosixPath", "PurePath"}:  # words about paths; they open nothing
        found = [one for one in found if not one.endswith(" pathlib")]
    assert not found
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("open", "input", "exec", "eval")
    ]
    assert not calls


@pytest.mark.parametrize("name", sorted(n for n in PURE if n.startswith("engine/")))
def test_a_pure_module_of_the_engine_imports_pure_modules_only(name: str) -> None:
    ours = {m for _, m in imports(ROOT / name) if top(m) == "engine" and m != "engine"}
    assert {m.replace(".", "/") + ".py" for m in ours} <= PURE


def test_a_console_reads_the_store_and_asks_through_the_inbox_and_knows_nothing_else_of_the_engine() -> None:
    found = []
    for path in modules("console"):
        allowed = COMMANDS_MAY if named(path).startswith("console/commands/") else CONSOLE_MAY
        found += [f"{named(path)}:{n} {m}" for n, m in imports(path) if top(m) == "engine" and m not in allowed]
    assert not found


def test_a_console_starts_no_process_and_writes_no_store() -> None:
    """Commands may (an editor, a pager, a shell's completion): the live console runs nothing itself."""
    banned = {"subprocess", "sqlite_utils", "multiprocessing", "pty"}
    found = [
        f"{named(p)}:{n} {m}"
        for p in modules("console")
        if not named(p).startswith("console/commands/")
        for n, m in imports(p)
        if top(m) in banned or m == "engine.store.writes"
    ]
    assert not found


def test_only_the_store_and_the_inbox_touch_sqlite_in_the_engine() -> None:
    found = []
    for path in modules("engine"):
        if named(path).startswith("engine/store/") or named(path) in SQLITE:
            continue
        calls = {
            f"{named(path)}:{node.lineno} {ast.unparse(node)}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
            and (
                (node.attr == "connect" and ast.unparse(node.value) == "sqlite3")
                or node.attr in ("execute", "executemany", "executescript")
            )
        }
        calls |= {f"{named(path)}:{n} {m}" for n, m in imports(path) if top(m) == "sqlite_utils"}
        found += sorted(calls)
    assert not found


def test_what_takes_seconds_to_import_is_imported_where_it_is_needed() -> None:
    found = [
        f"{named(p)}:{n} {m}"
        for package in ("engine", "console")
        for p in modules(package)
        for n, m in imports(p, at_import=True)
        if top(m) in HEAVY
    ]
    assert not found


def test_the_border_guard_sees_an_import_inside_a_function_and_not_one_for_types(tmp_path: Path) -> None:
    source = tmp_path / "m.py"
    source.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import textual\n"
        "def f():\n    import sqlite3\nfrom engine import judge\n"
    )
    assert [m for _, m in imports(source)] == ["typing", "sqlite3", "engine.judge"]
    assert [m for _, m in imports(source, at_import=True)] == ["typing", "engine.judge"]
