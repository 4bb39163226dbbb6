"""Recordings: what is taken out of them, what is left of them, and files that are none."""

from __future__ import annotations

import gzip
import json
import random
import sqlite3
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RatchetError
from engine.store import recording
from engine.store.playback import Playback
from engine.store.reading import Reader
from engine.store.recording import (
    LARGEST,
    LOG_BYTES,
    RECORDED_POINTS,
    LogEnd,
    Recording,
    load,
    of_store,
    save,
    scrubbed,
)
from engine.store.row_life import Row
from tests.histories import make_histories

NAME, HOST, LOGIN = "wolfgang", "gpu17.lab.example.org", "acme-login"
SECRETS = (
    NAME, HOST, LOGIN, "/home/wolfgang", "/scratch/secret-project", "sk-ant-api03-abcdefgh12345678",
    "ghp_abcdefghijklmnop1234", "AKIAABCDEFGHIJKLMNOP", "wolfgang@example.org", "10.11.12.13",
    "b2c7f1d0-1111-2222-3333-444455556666", "hunter2hunter2", "https://internal.example.org/wiki",
)  # fmt: skip
SAYING = (
    'File "/home/wolfgang/proj/.venv/lib/x.py", line 3; see /scratch/secret-project/run.log on gpu17.lab.example.org'
    " by wolfgang (wolfgang@example.org, 10.11.12.13), key sk-ant-api03-abcdefgh12345678 ghp_abcdefghijklmnop1234"
    " AKIAABCDEFGHIJKLMNOP password=hunter2hunter2 b2c7f1d0-1111-2222-3333-444455556666 acme-login"
    " https://internal.example.org/wiki\n~/proj/notes\n"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "store.db"
    make_histories(path).close()
    return path


@pytest.fixture
def taken(store: Path) -> Recording:
    return of_store(store, "c9")


def planted(taken: Recording) -> Recording:
    """SAYING in every text of every row, and names where names are."""

    def told(table: str, column: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if column in ("host", "actor", "what") or (table, column) == ("fence", "host"):
            return HOST if column == "host" else NAME
        if column in ("data", "allocation", "spec", "usage", "calibration", "steps", "parameters", "limits"):
            found = json.loads(value)
            if isinstance(found, dict):
                found |= {"said": SAYING, "deep": [{"host": HOST, SAYING: SAYING, "actor": NAME}]}
            return json.dumps(found)
        names = ("state", "kind", "name", "sha", "purpose", "outcome", "verdict", "series", "directory", "head")
        return value if column in names else SAYING + value

    rows = {
        table: [{column: told(table, column, value) for column, value in row.items()} for row in found]
        for table, found in taken.rows.items()
    }
    event = {"id": 10**6, "at": 1_700_000_000.0, "campaign": 10, "kind": "Steered"}
    data = {"note": 1, "text": SAYING, "actor": NAME}
    host = {
        **event,
        "id": 10**6 + 1,
        "kind": "EngineStarted",
        "data": json.dumps({"epoch": 1, "host": LOGIN, "pid": 7}),
    }
    rows["event"] = [*rows["event"], {**event, "data": json.dumps(data)}, host]
    return replace(taken, rows=rows, logs={1: LogEnd(SAYING)}, manifest={"note": "by wolfgang"})


def test_no_name_no_path_no_address_and_no_key_gets_into_a_recording(taken: Recording, tmp_path: Path) -> None:
    source = planted(taken)
    assert all(secret in json.dumps(source.rows) for secret in SECRETS), "the test is about something"
    save(scrubbed(source), tmp_path / "r")
    text = gzip.decompress((tmp_path / "r").read_bytes()).decode()
    assert [secret for secret in SECRETS if secret in text] == []
    assert "/home/" not in text and "/scratch/" not in text and "secret-project" not in text
    assert "x.py" in text, "the last name of a path stays: a traceback is still one"


def test_names_of_the_machine_that_records_are_taken_out_as_well(taken: Recording) -> None:
    rows = {**taken.rows, "proposal": [{**row, "title": "faster on jupiter"} for row in taken.rows["proposal"]]}
    clean = scrubbed(replace(taken, rows=rows), private={"jupiter"})
    assert {row["title"] for row in clean.rows["proposal"]} == {"faster on person"}


def test_a_name_that_is_a_word_of_the_field_does_not_eat_the_text(taken: Recording) -> None:
    said = "the root mean square; accepted by root"
    rows = {**taken.rows, "proposal": [{**row, "hypothesis": said} for row in taken.rows["proposal"]]}
    clean = scrubbed(replace(taken, rows=rows), private={"root"})
    assert clean.rows["proposal"][0]["hypothesis"] == "the root mean square; accepted by person"


@pytest.mark.parametrize(
    "text", ["a/b and and/or", "x = a / b / c", "--- a/train.py\n+++ b/train.py", "/dev/null", "1/2/3"]
)
def test_what_only_looks_like_a_path_stays(taken: Recording, text: str) -> None:
    rows = {**taken.rows, "proposal": [{**row, "diff": text} for row in taken.rows["proposal"]]}
    assert scrubbed(replace(taken, rows=rows)).rows["proposal"][0]["diff"] == text


def test_a_scrubbed_recording_still_plays_to_its_end(taken: Recording, tmp_path: Path) -> None:
    save(scrubbed(planted(taken)), tmp_path / "r")
    (tmp_path / "scratch").mkdir()
    playback = Playback(load(tmp_path / "r"), tmp_path / "scratch")
    playback.forward(playback.timeline.end)
    reader = Reader(tmp_path / "scratch" / "store.db")
    assert reader.campaign().name == "c9"
    playback.close()


def test_what_is_saved_is_what_is_loaded_and_equal_recordings_are_equal_bytes(
    taken: Recording, tmp_path: Path
) -> None:
    odd = replace(taken, logs={3: LogEnd("tab\t \x1e \u2028 \x85 \u00fc\r\n\x00", 7)}, manifest={"note": "n"})
    save(odd, tmp_path / "one")
    save(odd, tmp_path / "two")
    back = load(tmp_path / "one")
    assert back.rows == {table: list(rows) for table, rows in taken.rows.items() if rows}
    assert back.logs == odd.logs and back.manifest["note"] == "n"
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"], "no draft is left"


def test_curves_are_thinned_and_keep_their_ends(taken: Recording) -> None:
    points: list[Row] = [
        {"trial": 1, "series": name, "seq": i, "step": float(i), "value": i / 7, "at": i / 3}
        for name, count in (("long", 1999), ("short", 50), ("one", 1))
        for i in range(count)
    ]
    found = scrubbed(replace(taken, rows={**taken.rows, "point": points})).rows["point"]
    seqs = {name: [row["seq"] for row in found if row["series"] == name] for name in ("long", "short", "one")}
    assert len(seqs["long"]) <= RECORDED_POINTS
    assert (seqs["long"][0], seqs["long"][-1]) == (0, 1998)
    assert seqs["short"] == list(range(50)) and seqs["one"] == [0]


def test_long_curves_are_read_thinned_whatever_their_lengths(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "SERIES_POINTS", 50)
    copy = tmp_path / "store.db"
    copy.write_bytes(store.read_bytes())
    conn = sqlite3.connect(copy)
    (trial,) = conn.execute("SELECT MIN(id) FROM trial").fetchone()
    conn.execute("DELETE FROM point")
    lengths = {"a": 120, "b": 170, "c": 2000, "d": 98}
    for name, count in lengths.items():
        rows = [(trial, name, i, float(i), 1.0, float(i)) for i in range(count)]
        conn.executemany("INSERT INTO point (trial, series, seq, step, value, at) VALUES (?, ?, ?, ?, ?, ?)", rows)
    conn.commit()
    conn.close()
    points = of_store(copy, "c0").rows["point"]
    for name, count in lengths.items():
        seqs = [row["seq"] for row in points if row["series"] == name]
        assert 20 <= len(seqs) <= 50 and seqs[0] == 0 and seqs[-1] == count - 1 and seqs == sorted(seqs), name


def test_the_end_of_a_long_log_is_taken_at_a_line_s_start(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store.db"
    copy.write_bytes(store.read_bytes())
    conn = sqlite3.connect(copy)
    trial, directory = conn.execute("SELECT trial, directory FROM attempt ORDER BY id LIMIT 1").fetchone()
    conn.close()
    folder = tmp_path / directory / "control"
    folder.mkdir(parents=True)
    whole = "".join(f"line {i}\r" for i in range(LOG_BYTES))
    (folder / "log").write_text(whole)
    log = of_store(copy, "c0").logs[trial]
    assert log.text.startswith("line ") and whole.endswith(log.text)
    assert LOG_BYTES - 20 <= len(log.text) <= LOG_BYTES
    assert log.before == len(whole) - LOG_BYTES


# --- files that are none ---------------------------------------------------------------------------------


def packed(*lines: object) -> bytes:
    return gzip.compress("\n".join(json.dumps(line) for line in lines).encode(), mtime=0)


HEAD = {"format": recording.FORMAT}
CAMPAIGN = {"table": "campaign", "columns": {"id": [1], "name": ["c"]}}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"not gzip", gzip.compress(b"", mtime=0), gzip.compress(b"\xff\xfe", mtime=0), packed({"format": "other"}), packed([1]),
        packed(HEAD), packed({"format": "ratchet recording 9"}), packed(HEAD, {"logs": [[1]]}),
        packed(HEAD, {"table": "campaign", "columns": {"id": [[1]], "name": ["c"]}}),
        packed(HEAD, {"table": "campaign", "columns": {"id": [1, 2], "name": ["c"]}}),
        packed(HEAD, {"table": "campaign", "columns": [1]}), packed(HEAD, 7), packed(HEAD, None),
        gzip.compress(b"[" * 100_000, mtime=0), packed(HEAD, CAMPAIGN)[:-9],
    ],
    ids=range(16),
)  # fmt: skip
def test_a_file_that_is_no_recording_is_told_with_a_mend(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(data)
    with pytest.raises(RatchetError) as told:
        load(tmp_path / "r")
    assert told.value.mend and str(tmp_path / "r") in told.value.message


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "LARGEST", 1 << 20)
    (tmp_path / "r").write_bytes(gzip.compress(b" " * (2 << 20)))
    with pytest.raises(RatchetError, match="larger than 1 MB"):
        load(tmp_path / "r")
    assert LARGEST < 1 << 30


@pytest.mark.parametrize(
    "directory", ["../../outside", "/etc", "a/../../b", "", ".ssh", "a//b", "trials/1/\n", "-"]
)
def test_a_stranger_s_recording_writes_nothing_outside_of_its_folder(
    taken: Recording, tmp_path: Path, directory: str
) -> None:
    rows = {**taken.rows, "attempt": [{**row, "directory": directory} for row in taken.rows["attempt"]]}
    logs = {row["trial"]: LogEnd("printed\n") for row in taken.rows["attempt"]}
    (tmp_path / "deep" / "scratch").mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    playback = Playback(replace(taken, rows=rows, logs=logs), tmp_path / "deep" / "scratch")
    playback.forward(playback.timeline.end)
    inside = tmp_path / "deep" / "scratch"
    assert {path for path in set(tmp_path.rglob("*")) - before if inside not in path.parents} == set()
    assert list(inside.rglob("log")), "and its logs are there"


@pytest.mark.parametrize("seed", range(30))
def test_odd_rows_are_told_and_nothing_else_happens(taken: Recording, tmp_path: Path, seed: int) -> None:
    """One value of one row is another, or a column or table is missing: it plays, or says that it cannot."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    rows = {table: [dict(row) for row in found] for table, found in taken.rows.items() if found}
    table = chance.choice(sorted(rows))
    row = chance.choice(rows[table])
    odd = chance.choice(
        [None, -1, 2**70, float("nan"), "".join(chance.choices(string.printable, k=9)), "[]", "{}"]
    )
    if chance.random() < 0.2:
        del rows[table]
    elif chance.random() < 0.3:
        del row[chance.choice(sorted(row))]
    else:
        row[chance.choice(sorted(row))] = odd
    (tmp_path / "s").mkdir()
    try:
        playback = Playback(replace(taken, rows=rows), tmp_path / "s")
        playback.forward(playback.timeline.end)
    except RatchetError as told:
        assert told.mend
