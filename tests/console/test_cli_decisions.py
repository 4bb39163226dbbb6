"""A person's word through the command line, and what can be read afterwards, on real small campaigns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.ratchet_command import begin, data, ratchet, well
from tests.engine.engine_process import assert_sound, finish, query, until
from tests.project_factory import git, make_project


def waits(project: Path, number: int) -> bool:
    return bool(query(project, "SELECT 1 FROM experiment WHERE number = ? AND state = 'review'", number))


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[Path]:
    """A project whose engine runs and asks before each proposal; the first waits."""
    project = make_project(tmp_path, review="proposals")
    well("start", "--experiments", "2", at=project)
    until(lambda: waits(project, 1), "the first proposal")
    yield project
    ratchet("stop", at=project)


def test_an_accepted_proposal_is_measured_and_a_rejected_one_keeps_its_reason(reviewed: Path) -> None:
    shape = data("status", at=reviewed)
    assert shape["waiting_for_you"] == [1]
    assert "waits for your decision: #1" in well("status", at=reviewed)
    assert well("accept", "1", at=reviewed) == "experiment 1 accepted\n"
    until(lambda: waits(reviewed, 2), "the second proposal")
    # What comes after it is then drafted on what #1 made of the incumbent.
    until(
        lambda: query(reviewed, "SELECT 1 FROM experiment WHERE number = 1 AND state = 'settled'"), "its verdict"
    )
    reason = "tried last week; diverges\nat scale"
    assert well("reject", "2", "-m", reason, at=reviewed) == "experiment 2 rejected\n"
    # Rejected before it cost device time, it does not count: a third is proposed, and the limit of 2 ends it.
    until(lambda: waits(reviewed, 3), "another proposal in its place")
    well("accept", "3", at=reviewed)
    until(lambda: query(reviewed, "SELECT 1 FROM fence WHERE ended_at IS NOT NULL"), "the limit to end the engine")
    first, second, _ = data("history", at=reviewed)
    assert first["verdict"] == "keep" and first["commit"]
    assert second["verdict"] == "cancelled" and "tried last week; diverges" in second["reason"]
    assert not query(
        reviewed, "SELECT 1 FROM trial JOIN experiment e ON e.id = trial.experiment WHERE e.number = 2"
    )
    again = ratchet("accept", "2", at=reviewed)
    assert again.returncode == 3 and "does not wait for a decision" in again.stderr
    assert "tried last week" in well("show", "2", at=reviewed)


def test_a_decision_on_what_has_changed_since_is_refused(reviewed: Path) -> None:
    from engine.clock import RealClock
    from engine.inbox import Inbox

    inbox = Inbox(reviewed / ".ratchet" / "inbox.db")
    seen = query(reviewed, "SELECT revision FROM experiment WHERE number = 1")[0][0]
    request = inbox.ask("accept", "somebody", RealClock().now(), number=1, revision=seen - 1)

    def answered() -> object:
        found = inbox.get(request)
        return found if found is not None and found.state != "waiting" else None

    answer = until(answered, "an answer")
    assert answer.state == "refused" and "changed" in answer.outcome, answer
    assert waits(reviewed, 1), "it still waits"
    inbox.close()


def test_two_accepts_are_one(reviewed: Path) -> None:
    commands = [begin("accept", "1", at=reviewed) for _ in range(2)]
    said = [command.communicate(timeout=60)[0] for command in commands]
    assert sorted(c.returncode for c in commands)[0] == 0, said
    until(lambda: waits(reviewed, 2), "the second proposal")
    taken = query(reviewed, "SELECT COUNT(*) FROM event WHERE kind = 'DecisionTaken'")
    assert taken == [(1,)], (taken, said)


def test_what_is_asked_without_an_engine_waits_and_is_asked_again(tmp_path: Path) -> None:
    project = make_project(tmp_path, review="proposals")
    well("start", "--experiments", "1", at=project)
    until(lambda: waits(project, 1), "the first proposal")
    well("stop", at=project)
    assert "waits, and is asked again" in well("accept", "1", at=project)
    assert data("status", at=project)["requests_waiting"] == [{"id": 2, "kind": "accept", "state": "waiting"}]
    well("start", "--experiments", "0", at=project)
    try:
        shape = data("status", at=project)
        assert [r["state"] for r in shape["requests_waiting"]] == ["asleep"], "not carried out unasked"
        assert "is asleep" in well("status", at=project)
        assert waits(project, 1)
        assert well("accept", "1", at=project) == "experiment 1 accepted\n", "said again, it is carried out"
        assert data("status", at=project)["requests_waiting"] == [], "and the sleeping one is withdrawn"
        until(lambda: query(project, "SELECT 1 FROM experiment WHERE verdict = 'keep'"), "the verdict")
    finally:
        ratchet("stop", at=project)


def test_there_is_no_experiment_99(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.05)
    well("run", "--experiments", "1", at=project)
    for command in ("show", "diff", "log", "accept", "reject"):
        done = ratchet(command, "99", at=project)
        assert done.returncode == 3, (command, done.stderr)
        assert "99" in done.stderr and "`ratchet history`" in done.stderr
    done = ratchet("status", "--campaign", "other", at=project)
    assert done.returncode == 3 and "no campaign 'other'" in done.stderr and "known: " in done.stderr


def test_a_finished_campaign_can_be_read_without_an_engine(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    assert finish(project, experiments=3) == 0
    assert_sound(tmp_path, project)
    keep = next(row for row in data("history", at=project) if row["verdict"] == "keep")
    number = str(keep["number"])
    # diff: a patch that git takes, from the base to the candidate
    patch = tmp_path / "patch"
    patch.write_text(well("diff", number, at=project))
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(project), str(copy))
    git(copy, "fetch", "-q", str(project), keep["base"])
    git(copy, "checkout", "-q", keep["base"])
    git(copy, "apply", "--check", str(patch))
    # log: what the trial printed, also by the trial's own name
    printed = well("log", number, at=project)
    assert "val_loss: " in printed and "METRIC loss=" in printed
    trial = data("show", number, at=project)["trials"][-1]["id"]
    assert well("log", f"t{trial}", at=project) == printed
    assert "val_loss: " in well("log", "calibration", at=project)
    # results.tsv: by its header, as autoresearch's own analysis reads it
    file = tmp_path / "results.tsv"
    well("export", "--tsv", "-o", str(file), at=project)
    with file.open(newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert list(rows[0]) == ["commit", "val_loss", "memory_gb", "status", "description"]
    assert rows[0]["status"] == "keep" and rows[0]["description"] == "baseline"
    kept = next(r for r in rows if r["description"] == keep["title"])
    assert kept["status"] == "keep" and keep["commit"].startswith(kept["commit"])
    assert float(kept["val_loss"]) == pytest.approx(keep["score"], abs=1e-6)
    assert git(project, "cat-file", "-t", kept["commit"]) == "commit"
    # CSV and JSON: the same rows
    table = list(csv.DictReader(io.StringIO(well("export", "--csv", at=project))))
    history = data("history", at=project)
    assert [row["title"] for row in table] == [row["title"] for row in history]
    assert json.loads(well("export", "--json", at=project)) == history
    bad = ratchet("export", "-o", str(tmp_path / "nowhere" / "file"), at=project)
    assert bad.returncode != 0 and "Traceback" not in bad.stderr


def test_a_log_is_followed_to_the_end_of_its_trial(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=2.0)
    well("start", "--experiments", "0", at=project)
    try:
        until(lambda: query(project, "SELECT 1 FROM trial"), "the calibration to be queued")
        follower = begin("log", "calibration", "-f", at=project)
        said, _ = follower.communicate(timeout=60)
        assert follower.returncode == 0
        assert said.count("METRIC loss=") == 5 and said.count("val_loss: ") == 1, said
    finally:
        ratchet("stop", at=project)


def test_what_a_candidate_prints_reaches_no_terminal_as_an_escape_sequence() -> None:
    from console.commands.output import LogPrinter

    text = "loss \x1b[31m1.0\x1b[0m\r\nstep 1\rstep 2\rünicode \x1b]0;title\x07end"
    raw = b"\0\0" + text.encode()
    for size in (1, 2, 3, 7, len(raw)):
        printer = LogPrinter()
        said = "".join(printer.feed(raw[i : i + size]) for i in range(0, len(raw), size)) + printer.finish()
        assert said == "loss 1.0\nstep 1\nstep 2\nünicode end\n", (size, said)
        assert printer.read == len(raw)
