"""docs/json.md and what the program prints say the same: fields, types, null."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from console.shapes import dumps
from tests.console.ratchet_command import data, ratchet, well
from tests.engine.engine_process import finish, query, until
from tests.project_factory import make_project

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"
TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "list": (list,),
    "null": (type(None),),
    "true": (bool,),
    "false": (bool,),
}


def documented(heading: str) -> dict[str, str]:
    """field -> type of the table under ``heading``."""
    text = DOCUMENT.read_text()
    start = text.index(f"{heading}\n") + len(heading)
    section = re.split(r"\n#+ ", text[start:], maxsplit=1)[0]
    found = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE))
    assert found, heading
    return found


def check(value: dict[str, Any], *headings: str) -> None:
    """``value`` has the documented fields, all and only, each of a documented type."""
    fields = {k: v for heading in headings for k, v in documented(heading).items()}
    assert set(value) == set(fields), set(value) ^ set(fields)
    for name, kind in fields.items():
        words = [word.split()[0] for word in kind.split(" or ")]
        allowed = tuple(t for word in words for t in TYPES[word])
        assert isinstance(value[name], allowed), (name, kind, value[name])
        if isinstance(value[name], bool):
            assert bool in allowed, (name, kind, value[name])
        if kind.startswith("list of ") and value[name]:
            of = TYPES[kind.split()[2].rstrip("s")]
            assert all(isinstance(item, of) for item in value[name]), (name, kind, value[name])


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign with a keep, and an experiment that was measured and not kept."""
    folder = tmp_path_factory.mktemp("campaign")
    project = make_project(folder, judge="calibrate_seeds = 3\nconfirm_seeds = 2\nanchor_seeds = 1")
    config = project / "ratchet.toml"
    config.write_text(config.read_text().replace("slots = 2", "slots = 1"))
    assert finish(project, experiments=2, seed=11) == 0
    return project


def test_status_prints_what_is_documented(campaign: Path) -> None:
    shape = data("status", at=campaign)
    check(shape, "## `ratchet status --json`")
    check(shape["calibration"], "### status: `calibration`")
    check(shape["counts"], "### status: `counts`")
    check(shape["limits"], "### status: `limits`")
    check(shape["used"], "### status: `used`")
    assert shape["used"]["trials"] > 3 and shape["used"]["device_seconds"] > 0, shape["used"]
    assert " device hours in " in well("status", at=campaign)
    assert shape["keeps"], shape
    for keep in shape["keeps"]:
        check(keep, "### status: `keeps`")
    assert shape["engine"] is None and shape["running"] == [] and shape["state"] == "finished"
    assert shape["incumbent_score"] == pytest.approx(8.999, abs=0.1)
    assert shape["calibration"]["n"] == 3 and shape["calibration"]["sigma"] > 0


def test_status_of_a_living_engine_prints_what_is_documented(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=30, review="proposals")
    well("start", at=project)
    try:
        until(lambda: query(project, "SELECT 1 FROM trial WHERE state = 'running'"), "a trial to run")
        until(lambda: query(project, "SELECT 1 FROM experiment WHERE state = 'review'"), "a proposal")
        shape = data("status", at=project)
        check(shape, "## `ratchet status --json`")
        check(shape["engine"], "### status: `engine`")
        assert shape["running"] and shape["calibration"] is None and shape["incumbent_score"] is None
        for trial in shape["running"]:
            check(trial, "### show: `trials`")
        assert shape["waiting_for_you"] == [1]
        shown = data("show", "1", at=project)
        check(shown, "## `ratchet history --json`", "## `ratchet show ID --json`")
    finally:
        ratchet("stop", at=project)
    well("pause", at=project)
    for request in (shape := data("status", at=project))["requests_waiting"]:
        check(request, "### status: `requests_waiting`")
    assert shape["requests_waiting"]


def test_history_and_export_print_what_is_documented(campaign: Path) -> None:
    rows = data("history", at=campaign)
    assert {row["verdict"] for row in rows} >= {"keep"}
    for row in rows:
        check(row, "## `ratchet history --json`")
    assert json.loads(well("export", "--json", at=campaign)) == rows
    kept = data("history", "--verdict", "keep", at=campaign)
    assert kept == [row for row in rows if row["verdict"] == "keep"]
    assert data("history", "--last", "1", at=campaign) == rows[-1:]
    keep = kept[0]
    assert keep["effect_low"] <= keep["effect"] <= keep["effect_high"] and keep["effect"] > 0.5


def test_show_prints_what_is_documented(campaign: Path) -> None:
    for row in data("history", at=campaign):
        shape = data("show", str(row["number"]), at=campaign)
        check(shape, "## `ratchet history --json`", "## `ratchet show ID --json`")
        assert {key: shape[key] for key in row} == row
        assert shape["trials"] and shape["diff"].startswith("diff --git"), shape
        for trial in shape["trials"]:
            check(trial, "### show: `trials`")
            assert trial["outcome"] == "ok" and trial["ended_at"] >= trial["started_at"]


def test_doctor_prints_what_is_documented(campaign: Path) -> None:
    done = ratchet("doctor", "--json", at=campaign)
    findings = json.loads(done.stdout)
    for finding in findings:
        check(finding, "## `ratchet doctor --json`")
    names = documented("## `ratchet doctor --json`")
    assert names and {f["name"] for f in findings} == {
        "git", "ratchet.toml", "python", "disk", "devices", "containment", "interpreter", "effect",
        "kernel", "logout",
    }  # fmt: skip
    assert done.returncode == (1 if any(f["status"] == "fail" for f in findings) else 0)


def test_an_empty_history_is_an_empty_list(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.05)
    well("run", "--experiments", "0", at=project)
    assert data("history", at=project) == []
    assert ratchet("history", at=project).returncode == 3
    assert well("export", "--csv", at=project).startswith("number,state,")
    shape = data("status", at=project)
    assert shape["calibration"]["n"] == 1 and shape["calibration"]["sigma"] is None, "one run shows no noise"


def test_what_is_no_number_is_printed_as_null() -> None:
    raw = {"a": math.nan, "b": [1.5, math.inf, (-math.inf, 2)], "c": {"d": math.nan}, "e": "NaN"}
    assert json.loads(dumps(raw)) == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": None}, "e": "NaN"}
    assert dumps({"a": 1.0}) == '{"a":1.0}'
