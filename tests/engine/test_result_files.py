"""``[metric] file``: the objective from JSON and CSV files."""

from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.metrics import combine, read_metrics_file, read_result_file, split_result_spec
from engine.types import Score, TrialOutcome


@pytest.mark.parametrize(
    ("spec", "files", "value"),
    [
        ("out/*.json:val.loss", {"out/a.json": b'{"val": {"loss": 0.5}}'}, 0.5),
        ("a.json:val.loss", {"a.json": b'{"val.loss": 0.5, "val": {"loss": 3}}'}, 0.5),
        ("a.json:runs[0].loss", {"a.json": b'{"runs": [{"loss": 2}, {"loss": 3}]}'}, 2.0),
        ("a.json:runs[-1].loss", {"a.json": b'{"runs": [{"loss": 2}, {"loss": 3}]}'}, 3.0),
        ("a.json:[1]", {"a.json": b"[1, 2]"}, 2.0),
        ("a.json:loss", {"a.json": b'\xef\xbb\xbf{"loss": 0.5}'}, 0.5),
        ("a.jsonl:loss", {"a.jsonl": b'{"loss": 1}\n{"loss": 2}\n{"x": 1}\n{"loss": 3'}, 2.0),
        ("a.csv:loss", {"a.csv": b"step,loss\n1,0.9\n2,0.5\n"}, 0.5),
        ("a.csv:val_loss", {"a.csv": b"step,loss,val_loss\n1,,0.7\n2,0.5,\n\n"}, 0.7),
        ("a.csv:loss", {"a.csv": b'\xef\xbb\xbf"loss","step"\r\n"0.5",1\r\n'}, 0.5),
        ("a.csv:val.loss", {"a.csv": b"step; val.loss\n1; 0.5\n"}, 0.5),
        ("a.tsv:loss", {"a.tsv": b"step\tloss\n1\t0.5"}, 0.5),
        ("*.json:loss", {"a.json": b'{"loss": 0.5}', "config.json": b'{"lr": 1}', "c.json": b"{"}, 0.5),
        ("*.json:loss", {"a.json": b'{"loss": 0.5}', "b.json": b'{"loss": 0.5}'}, 0.5),
    ],
)
def test_the_number_is_found(spec: str, files: dict[str, bytes], value: float) -> None:
    reported = read_result_file(spec, files, "objective")
    assert (reported.objective, reported.problem, reported.configured) == (value, None, True)
    assert reported.scores[0] == Score("objective", value)


@pytest.mark.parametrize(
    ("files", "problem", "said"),
    [
        ({}, TrialOutcome.NO_METRIC, "no file matches"),
        ({"a.json": b"{}"}, TrialOutcome.NO_METRIC, 'has no "loss"'),
        ({"a.json": b"[1]"}, TrialOutcome.NO_METRIC, 'has no "loss"'),
        ({"a.json": b'{"loss": 0.'}, TrialOutcome.NO_METRIC, "cannot be read"),
        ({"a.json": b'{"loss": "0.5"}'}, TrialOutcome.NO_METRIC, "not a number"),
        ({"a.json": b'{"loss": null}'}, TrialOutcome.NO_METRIC, "has no"),
        ({"a.json": b'{"loss": NaN}'}, TrialOutcome.NOT_FINITE, "not a finite number"),
        ({"a.json": b'{"loss": 1e999}'}, TrialOutcome.NOT_FINITE, "not a finite number"),
        ({"a.json": b'{"loss": 1, "loss": 2}'}, TrialOutcome.CONFLICT, "twice"),
        ({"a.json": b'{"loss": 1}', "b.json": b'{"loss": 2}'}, TrialOutcome.CONFLICT, "b.json"),
        ({"a.csv": b"loss,loss\n1,2\n"}, TrialOutcome.CONFLICT, "twice"),
        ({"a.csv": b"step,loss\n1,\n"}, TrialOutcome.NO_METRIC, "has no"),
        ({"a.csv": b""}, TrialOutcome.NO_METRIC, "has no"),
        ({"a.csv": b"step,loss\n1,1e\n"}, TrialOutcome.NO_METRIC, "not a number"),
    ],
)
def test_anything_else_is_a_typed_problem(files: dict[str, bytes], problem: TrialOutcome, said: str) -> None:
    reported = read_result_file("*:loss", files, "loss")
    assert (reported.problem, reported.objective) == (problem, None)
    assert said in reported.detail
    assert all(score.name != "loss" for score in reported.scores)


def test_other_numbers_of_the_file_serve_constraints_and_the_log_cannot_overrule_it() -> None:
    file = read_result_file("a.json:val.loss", {"a.json": b'{"val": {"loss": 0.5}, "peak_mb": 9}'}, "loss")
    assert {s.name: s.value for s in file.scores} == {"loss": 0.5, "peak_mb": 9.0}
    log = read_metrics_file(b'{"loss": 0.1}', "loss")
    assert combine(log, result_file=file).objective == 0.5
    silent = read_result_file("a.json:val.loss", {}, "loss")
    overall = combine(log, result_file=silent)
    assert (overall.problem, overall.objective) == (TrialOutcome.NO_METRIC, None)
    assert overall.scores == ()


def test_without_a_name_the_key_gives_it() -> None:
    assert read_result_file("a.json:val.loss", {"a.json": b'{"val": {"loss": 1}}'}).scores[0].name == "loss"


@pytest.mark.parametrize("spec", ["", "a.json", "a.json:", ":loss", "/etc/x.json:loss", "../x.json:loss"])
def test_a_bad_spec_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError):
        split_result_spec(spec)


def test_a_spec_is_a_glob_and_a_key_path() -> None:
    assert split_result_spec("out/*.json:val.loss") == ("out/*.json", "val.loss")
