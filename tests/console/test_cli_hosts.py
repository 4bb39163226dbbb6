"""`ratchet hosts`: what it shows, what it prints as JSON, and a person's word on a host."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from engine.inbox import Inbox
from tests.console.ratchet_command import data, ratchet, well
from tests.console.test_cli_help import complete
from tests.console.test_cli_json import check
from tests.engine.engine_process import finish, query, until
from tests.project_factory import make_project

TWO = '\n[[hosts]]\nname = "far"\ndirectory = "{place}"\nslots = 2\nusd_per_hour = 3.6\n'


def two_hosts(folder: Path, seconds: float) -> Path:
    config = TWO.format(place=folder / "far") + "\n[limits]\ndollars = 5.0\n"
    return make_project(folder, seconds=seconds, judge="calibrate_seeds = 3", config=config)


def test_hosts_shows_each_with_what_it_did_and_cost_as_documented(tmp_path: Path) -> None:
    project = two_hosts(tmp_path, 0.3)
    assert finish(project, experiments=1) == 0
    shapes = data("hosts", at=project)
    for shape in shapes:
        check(shape, "## `ratchet hosts --json`")
        for reading in shape["readings"]:
            check(reading, "### hosts: `readings`")
        assert {reading["host"] for reading in shape["readings"]} == {shape["name"]}
    by_name = {shape["name"]: shape for shape in shapes}
    assert set(by_name) == {"local", "far"}
    assert all(shape["state"] == "ready" and shape["ended"] and shape["busy_seconds"] > 0 for shape in shapes)
    assert by_name["far"]["dollars"] > 0 and by_name["local"]["dollars"] == 0
    said = well("hosts", at=project)
    assert "far" in said and "local" in said and "$" in said
    assert said.count(" GB") == 2, "what each was last seen to do"


def test_a_host_is_drained_resumed_and_lent_from_the_command_line(tmp_path: Path) -> None:
    project = two_hosts(tmp_path, 20)
    well("start", at=project)
    try:
        until(lambda: query(project, "SELECT 1 FROM trial WHERE state = 'running'"), "a trial to run")
        assert "gets no more trials" in well("hosts", "drain", "far", at=project)
        until(lambda: query(project, "SELECT 1 FROM host WHERE name = 'far' AND drained <> ''"), "its row")
        assert {s["name"]: s["state"] for s in data("hosts", at=project)} == {"local": "ready", "far": "drained"}
        assert "`ratchet hosts resume far`" in well("hosts", at=project)
        assert "in service again" in well("hosts", "resume", "far", at=project)
        assert "lent for 2 h" in well("hosts", "lend", "far", "--hours", "2", at=project)
        until(lambda: query(project, "SELECT 1 FROM host WHERE name = 'far' AND lent <> '{}'"), "its row")
        assert {s["name"]: s["state"] for s in data("hosts", at=project)}["far"] == "lent"
        unknown = ratchet("hosts", "drain", "nowhere", at=project)
        assert unknown.returncode == 1 and "known: local, far" in unknown.stderr
        bad = ratchet("hosts", "lend", "far", "--hours", "0", at=project)
        assert bad.returncode == 2
    finally:
        well("stop", at=project)


def test_completion_offers_hosts_and_the_devices_of_the_one_that_was_named(tmp_path: Path) -> None:
    project = two_hosts(tmp_path, 0.1)
    assert finish(project, experiments=0) == 0
    store = sqlite3.connect(project / ".ratchet" / "store.db")
    for name in ("local", "far"):
        devices = [{"uuid": f"GPU-{name}-{n}", "index": n, "name": "H200"} for n in range(2)]
        store.execute("UPDATE host SET devices = ? WHERE name = ?", (json.dumps(devices), name))
    store.commit()
    store.close()
    for command in ("drain", "undrain", "resume", "lend"):
        assert sorted(complete(project, f"ratchet hosts {command} ")) == ["plain,far", "plain,local"]
    assert complete(tmp_path, f"ratchet hosts -C {project} drain f") == ["plain,far"]
    mine = ["plain,GPU-far-0", "plain,GPU-far-1"]
    assert complete(project, "ratchet hosts lend far --device GPU") == mine
    assert not any(complete(tmp_path, "ratchet hosts drain ")), "no project: nothing, and no complaint"


def test_two_words_on_two_hosts_both_wait_for_an_engine(tmp_path: Path) -> None:
    project = two_hosts(tmp_path, 0.1)
    assert finish(project, experiments=0) == 0
    for word in (["drain", "far"], ["drain", "local"], ["lend", "far", "--hours", "1"], ["drain", "far"]):
        assert "the request waits" in well("hosts", *word, at=project)
        inbox = Inbox(project / ".ratchet" / "inbox.db")
        inbox.put_to_sleep()  # as the start of an engine does
        inbox.close()
    waiting = [request["kind"] for request in data("status", at=project)["requests_waiting"]]
    assert sorted(waiting) == ["drain", "drain", "lend"], "said twice of one host is one request"


def test_before_the_first_start_there_is_nothing_to_show(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    done = ratchet("hosts", "--json", at=project)
    assert done.returncode == 3 and done.stdout == ""
    assert json.dumps(done.stderr)
