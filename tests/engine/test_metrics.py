"""What a trial prints -> points and one objective, or a typed problem."""

from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.metrics import (
    LogParser,
    Reported,
    check_constraints,
    combine,
    parse_constraint,
    read_metrics_file,
    with_training,
)
from engine.types import Point, Score, TrialOutcome

BLOCK = b"""---
val_bpb:          0.997900
training_seconds: 300.1
total_seconds:    325.9
peak_vram_mb:     45060.2
mfu_percent:      39.80
total_tokens_M:   499.6
num_steps:        953
num_params_M:     50.3
depth:            8
"""
PROGRESS = (
    b"\rstep 00042 (3.1%) | loss: 5.123456 | lrm: 1.00 | dt: 320ms | tok/sec: 1,638,400 | mfu: 40.1% | "
    b"epoch: 1 | remaining: 290s    "
)


def read(log: bytes, objective: str = "val_bpb", pattern: str | None = None) -> Reported:
    parser = LogParser(objective, pattern)
    parser.feed(log)
    return parser.finish()


def series(log: bytes, objective: str = "val_bpb", pattern: str | None = None) -> dict[str, list[tuple]]:
    parser = LogParser(objective, pattern)
    found: dict[str, list[tuple]] = {}
    for point in [*parser.feed(log, at=7.0), *parser.flush(at=7.0)]:
        assert point.at == 7.0
        found.setdefault(point.series, []).append((point.step, point.value))
    return found


# --- formats that need no configuration ------------------------------------------------------------


def test_autoresearchs_block_gives_the_objective_and_every_other_key() -> None:
    reported = read(PROGRESS * 3 + b"\n" + BLOCK + b"forks_append_keys: 7\n")
    assert reported.objective == 0.9979
    assert reported.problem is None
    assert reported.scores[0] == Score("val_bpb", 0.9979, "validation", "reported")
    assert {s.name: s.value for s in reported.scores} == {
        "val_bpb": 0.9979,
        "training_seconds": 300.1,
        "total_seconds": 325.9,
        "peak_vram_mb": 45060.2,
        "mfu_percent": 39.8,
        "total_tokens_M": 499.6,
        "num_steps": 953.0,
        "num_params_M": 50.3,
        "depth": 8.0,
        "forks_append_keys": 7.0,
    }
    assert reported.detail == "val_bpb = 0.997900 (final block, line 3)"


def test_autoresearchs_progress_line_is_seven_series_and_a_share_of_the_budget() -> None:
    parser = LogParser("val_bpb")
    points = parser.feed(PROGRESS + b"\r")
    assert {p.series: p.value for p in points} == {
        "progress": 0.031,
        "loss": 5.123456,
        "lrm": 1.0,
        "dt": 320.0,
        "tok/sec": 1_638_400.0,
        "mfu": 40.1,
        "epoch": 1.0,
        "remaining": 290.0,
    }
    assert {p.step for p in points} == {42.0}
    assert parser.fraction == 0.031


def test_a_progress_line_without_an_end_is_read_at_the_end() -> None:
    parser = LogParser("val_bpb")
    assert parser.feed(PROGRESS) == []
    assert len(parser.flush()) == 8


def test_nanogpt() -> None:
    log = b"step 0: train loss 4.2, val loss 4.3\niter 0: loss 4.25, time 25.10ms, mfu -100.00%\n"
    log += b"iter 10: loss 3.2, time 25ms\nstep 250: train loss 1.9, val loss 2.1\n"
    assert series(log) == {
        "train_loss": [(0, 4.2), (250, 1.9)],
        "val_loss": [(0, 4.3), (250, 2.1)],
        "loss": [(0, 4.25), (10, 3.2)],
        "time_ms": [(0, 25.1), (10, 25.0)],
        "mfu": [(0, -100.0)],
    }
    assert read(log, "val_loss").objective == 2.1


def test_metric_lines() -> None:
    log = b"METRIC val_loss=3.0 step=10\nMETRIC val_loss=2.5 step=20 lr=1e-3\nMETRIC latency_\xc2\xb5s=152\n"
    assert series(log)["val_loss"] == [(10, 3.0), (20, 2.5)]
    assert series(log)["lr"] == [(20, 0.001)]
    assert series(log)["latency_µs"] == [(0, 152.0)]
    assert read(log, "val_loss").objective == 2.5
    assert read(b"METRIC val_loss = 2.5\n", "val_loss").objective == 2.5


def test_json_lines() -> None:
    log = b'{"step": 1, "loss": 3.5, "val": {"loss": 3.6}, "note": "x", "ok": true, "gone": null}\n'
    log += b'{"step": 2, "loss": 2.5, "val": {"loss": 2.6}}\n{"torn": 1, "lo'
    assert series(log) == {"loss": [(1, 3.5), (2, 2.5)], "val.loss": [(1, 3.6), (2, 2.6)]}
    assert read(log, "val.loss").objective == 2.6


@pytest.mark.parametrize(
    "line", [b"val_acc: 0.5", b"val_acc = 0.5", b"  val_acc:0.5  ", b"\x1b[32mval_acc: 0.5\x1b[0m"]
)
def test_a_plain_line_counts_only_for_the_objective(line: bytes) -> None:
    reported = read(b"lr: 0.1\n" + line, "val_acc")
    assert reported.objective == 0.5
    assert [s.name for s in reported.scores] == ["val_acc"]


def test_names_of_constraints_may_stand_as_plain_lines_too() -> None:
    parser = LogParser("val_acc", watch=["peak_mb"])
    parser.feed(b"peak_mb: 12.5\nval_acc: 0.5\n")
    assert Score("peak_mb", 12.5) in parser.finish().scores


def test_a_pattern_is_the_only_source_of_the_objective() -> None:
    log = b"[3] final loss => 1.25 !\n---\nloss: 9.0\n"
    for pattern in (r"final loss => ([0-9.]+)", r"final loss => (?P<value>\S+)"):
        reported = read(log, "loss", pattern)
        assert (reported.objective, reported.configured) == (1.25, True)
    assert series(log, "loss", r"\[(?P<step>\d+)\] final (?P<name>\w+) => (?P<value>\S+)")["loss"] == [(3, 1.25)]
    silent = read(b"---\nloss: 9.0\n", "loss", r"final loss => (\S+)")
    assert silent.problem is TrialOutcome.NO_METRIC
    assert "pattern" in silent.detail


@pytest.mark.parametrize("pattern", ["(", "no group", "(?P<value>"])
def test_a_bad_pattern_is_a_usage_error(pattern: str) -> None:
    with pytest.raises(UsageError):
        LogParser("loss", pattern)


# --- which number is the objective -----------------------------------------------------------------


@pytest.mark.parametrize(
    "log",
    [
        BLOCK + BLOCK,
        BLOCK + b"METRIC val_bpb=0.9979\n",
        b'{"val_bpb": 0.99790012}\n' + BLOCK,  # the block only rounds it
        b"val_bpb: 1.5\nval_bpb: 1.2\n" + BLOCK,  # a curve printed while training
        b"METRIC val_bpb=1.1 step=900\n" + BLOCK,
        BLOCK + b"METRIC val_bpb=0.1 step=901\n",  # a point of a curve is no final word
        BLOCK.replace(b"training", b"UserWarning: something on stderr\nlook here\ntraining"),
        BLOCK + b"wandb: Synced 5 files\nFAIL\n",
        BLOCK.replace(b"\n", b"\r\n"),
        BLOCK.rstrip(b"\n"),
        b"---\nlr: 0.1\nnot a key\n" + b"words\n" * 10 + BLOCK,
    ],
)
def test_the_final_block_decides(log: bytes) -> None:
    assert read(log).objective == 0.9979


FORGED = [
    BLOCK.replace(b"0.997900", b"0.1"),
    b"---\nval_bpb: 0.1\n",
    b"val_bpb: 0.1\n",
    b"val_bpb = 0.1\n",
    b"METRIC val_bpb=0.1\n",
    b'{"val_bpb": 0.1}\n',
    b"val_bpb: 0.1",  # an exit handler without a newline
    b"val_bpb: 0.997\n",
    b"METRIC val_bpb=nan\n",
    b"\x1b[2Kval_bpb: 0.1\n",
    b"\rval_bpb: 0.1\r",
    b"---\nval_bpb: -0.9979\n",
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_second_final_report_that_differs_is_a_conflict(forged: bytes) -> None:
    reported = read(BLOCK + forged)
    assert (reported.problem, reported.objective) == (TrialOutcome.CONFLICT, None)
    assert all(score.name != "val_bpb" for score in reported.scores)
    assert "twice with different values" in reported.detail
    assert "\n" not in reported.detail
    assert "\x1b" not in reported.detail


def test_a_value_stated_once_before_the_block_must_agree_with_it() -> None:
    assert read(b"METRIC val_bpb=0.5\n" + BLOCK).problem is TrialOutcome.CONFLICT


def test_rounding_is_agreement_only_where_enough_digits_agree() -> None:
    assert read(b"val_bpb: 0.52\n---\nval_bpb: 0.5\n").problem is TrialOutcome.CONFLICT
    assert read(b"val_bpb: 0.5214\n---\nval_bpb: 0.521\n").objective == 0.521
    assert read(b"val_bpb: 0.5216\n---\nval_bpb: 0.521\n").problem is TrialOutcome.CONFLICT


def test_a_statement_beats_the_end_of_a_curve() -> None:
    log = b'{"step": 9, "val_loss": 2.0}\nMETRIC val_loss=1.9\n{"step": 10, "val_loss": 2.1}\n'
    assert read(log, "val_loss").objective == 1.9


def test_of_two_curves_the_one_that_reaches_further_counts() -> None:
    log = b'step 500: train loss 2, val loss 2.25\n{"step": 490, "val_loss": 2.5}\n'
    assert read(log, "val_loss").objective == 2.25
    log += b'{"step": 500, "val_loss": 2.5}\n'
    assert read(log, "val_loss").problem is TrialOutcome.CONFLICT


def test_a_secondary_score_that_blocks_dispute_is_left_out() -> None:
    reported = read(BLOCK + BLOCK.replace(b"45060.2", b"9.0"))
    assert reported.objective == 0.9979
    names = {s.name for s in reported.scores}
    assert "peak_vram_mb" not in names and "depth" in names


def test_nan_is_noted_with_its_step_and_never_a_point() -> None:
    log = b"METRIC loss=2.0 step=1\nMETRIC loss=nan step=2\nMETRIC loss=inf step=3\n"
    reported = read(log, "loss")
    assert reported.problem is TrialOutcome.NOT_FINITE
    found = reported.first_not_finite
    assert found is not None and (found.series, found.step) == ("loss", 2.0)
    assert series(log) == {"loss": [(1, 2.0)]}
    progress = read(PROGRESS.replace(b"5.123456", b"nan") + b"\nFAIL\n")
    assert (progress.problem, progress.fail_line) == (TrialOutcome.NO_METRIC, 2)
    assert "FAIL" in progress.detail
    assert progress.first_not_finite is not None and progress.first_not_finite.step == 42


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        (b"", "print "),
        (b"METRIC val_bp=0.5\n", "did you mean val_bp"),
        (b"METRIC loss=0.5\n", "found loss"),
        (b"METRIC val_bpb=1 000\n", "not a number"),
        (b"METRIC val_bpb 0.5\n", "not METRIC name=value"),
        (b"val_bpb: 0.5 after 3 epochs\n", "more than a number"),
        (b"val_bpb: 0x10\n", "not a number"),
        (b"val_bpb: 0.5" + b"0" * 70_000 + b"\n", "cut, too long"),
    ],
)
def test_an_absent_objective_is_explained(log: bytes, hint: str) -> None:
    reported = read(log)
    assert reported.problem is TrialOutcome.NO_METRIC
    assert hint in reported.detail


# --- gaps ------------------------------------------------------------------------------------------


def test_the_lines_on_both_sides_of_a_gap_are_not_believed() -> None:
    parser = LogParser("val_bpb")
    parser.feed(b"METRIC val_bpb=0.9")  # ... of 0.9979
    parser.mark_gap()
    parser.feed(b"5\nMETRIC loss=3 step=1\n")
    reported = parser.finish()
    assert reported.problem is TrialOutcome.NO_METRIC
    assert [s.name for s in reported.scores] == ["loss"]


def test_what_follows_a_gap_may_be_the_end_of_another_line() -> None:
    parser = LogParser("val_bpb")
    parser.mark_gap()
    parser.feed(b"METRIC val_bpb=0.5\n")
    assert parser.finish().problem is TrialOutcome.NO_METRIC


def test_a_gap_ends_a_block() -> None:
    parser = LogParser("val_bpb")
    parser.feed(b"---\n")
    parser.mark_gap()
    parser.feed(b"rest of a line\npeak_vram_mb: 3\n")
    assert parser.finish().scores == ()


def test_a_punched_hole_reads_as_nothing() -> None:
    hole = b"\0" * 200_000
    assert read(b"val_bpb: 0.5" + hole + b"\n").problem is TrialOutcome.NO_METRIC
    assert read(hole + b"val_bpb: 0.5\n").problem is TrialOutcome.NO_METRIC
    assert read(b"final 0.5\0\0\0\n", pattern=r"final ([0-9.]+)").problem is TrialOutcome.NO_METRIC
    assert read(b"head\nhalf" + hole + b"line\n" + BLOCK).objective == 0.9979


# --- several sources -------------------------------------------------------------------------------


def test_sources_that_agree_and_sources_that_do_not() -> None:
    log, silent = read(BLOCK), read(b"words\n")
    exact = read_metrics_file(b'{"val_bpb": 0.99790012, "extra": 1}\n{"torn', "val_bpb")
    assert combine(log).objective == 0.9979
    both = combine(log, exact)
    assert both.objective == 0.99790012, "the more precise source"
    assert {"extra", "depth"} <= {s.name for s in both.scores}
    assert combine(silent, exact).objective == 0.99790012
    assert combine(silent).problem is TrialOutcome.NO_METRIC
    other = combine(log, read_metrics_file(b'{"val_bpb": 0.5}', "val_bpb"))
    assert (other.problem, other.objective) == (TrialOutcome.CONFLICT, None)
    assert all(s.name != "val_bpb" for s in other.scores)
    curve = read_metrics_file(b'{"step": 900, "val_bpb": 1.1}\n', "val_bpb")
    assert combine(log, curve).objective == 0.9979, "a statement beats the end of a curve"
    assert combine(log, read_metrics_file(b'{"val_bpb": NaN}', "val_bpb")).problem is TrialOutcome.CONFLICT


def test_a_configured_source_wins_over_everything_even_by_being_silent() -> None:
    metrics = read_metrics_file(b'{"loss": 0.5}', "loss")
    assert combine(read(b"final 1.5\n", "loss", r"final (\S+)"), metrics).objective == 1.5
    silent = combine(read(b"nothing\n", "loss", r"final (\S+)"), metrics)
    assert (silent.problem, silent.objective) == (TrialOutcome.NO_METRIC, None)
    assert all(s.name != "loss" for s in silent.scores)


def test_training_may_add_scores_but_not_the_objective() -> None:
    evaluated = read(b"METRIC val_bpb=0.9\n")
    training = read(b"METRIC val_bpb=0.1\nMETRIC peak=5\n", "")
    assert {s.name: s.value for s in with_training(evaluated, [training]).scores} == {
        "val_bpb": 0.9,
        "peak": 5.0,
    }
    failed = with_training(read(b""), [training])
    assert [s.name for s in failed.scores] == ["peak"]


# --- constraints -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("peak <= 8", 8.0, True),
        ("peak<=8", 8.1, False),
        ("peak < 8", 8.0, False),
        ("peak >= 8e0", 8.0, True),
        ("peak > 8", 8.0, False),
        ("peak == 8", 8.0, True),
        ("peak == 8", 7.0, False),
    ],
)
def test_constraints(text: str, value: float, holds: bool) -> None:
    broken = check_constraints([text], [Score("peak", value)])
    assert (broken is None) is holds
    assert holds or "peak" in str(broken)


def test_a_constraint_on_what_was_not_reported_does_not_hold() -> None:
    broken = check_constraints(["peak_vram_mb <= 8"], [Score("peak_vram", 1.0)])
    assert broken == "constraint peak_vram_mb <= 8: peak_vram_mb was not reported; did you mean peak_vram"


@pytest.mark.parametrize(
    "text", ["", "peak", "peak <= ", "<= 8", "peak = 8", "peak <= nan", "peak <= 8 GB", "a <= 0x8"]
)
def test_a_bad_constraint_is_a_usage_error_with_the_mend(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_constraint(text)
    assert "peak_vram_mb <= 80000" in caught.value.mend


def test_points_carry_the_time_they_were_read_at() -> None:
    parser = LogParser("x")
    assert parser.feed(b"METRIC a=1\n", at=3.5) == [Point("a", 0, 1.0, 3.5)]
