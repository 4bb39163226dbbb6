"""Output that lies, tears or breaks: never a wrong score, never an exception, never unbounded memory."""

from __future__ import annotations

import itertools
import math
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.metrics import LogParser, Reported, read_metrics_file, read_result_file
from engine.types import Point

HONEST = b"---\nval_bpb: 0.997900\npeak_vram_mb: 45060.2\n"

NO_NUMBERS = [  # as seen on one line of a log
    b"NaN", b"nan", b"-nan", b"inf", b"-inf", b"Infinity", b"1e999", b"-1e999", b"9" * 400, b"0x10", b"0b1",
    b"1_000", b"1,234", b"1.234,5", b"1'000", b"1 000", b"12%", b"5s", b"0.5f", b"1e", b"e5", b".", b"-",
    b"+", b"--1", b"1.2.3", b"True", b"null", b"None", b'"0.5"', b"[0.5]", b"\xd9\xa1\xd9\xa2",
    b"\xef\xbc\x91", b"\xe2\x88\x921.0", b"\xff\xfe", b"0.5\x00", b"1/2", b"1j", b"tensor(0.5)",
    b"0.5" + b"0" * 70_000,
]  # fmt: skip


def feed(log: bytes, objective: str = "val_bpb") -> Reported:
    parser = LogParser(objective)
    parser.feed(log)
    return parser.finish()


@pytest.mark.parametrize("token", NO_NUMBERS, ids=lambda t: ascii(t[:12]))
@pytest.mark.parametrize(
    "line",
    [
        b"---\nval_bpb: %s\n",
        b"val_bpb: %s\n",
        b"METRIC val_bpb=%s\n",
        b"METRIC val_bpb=%s step=3\n",
        b"val_bpb=%s",
    ],
)
def test_what_is_no_finite_number_is_never_a_score(line: bytes, token: bytes) -> None:
    reported = feed(line % token)
    assert reported.objective is None
    assert reported.problem is not None
    assert all(s.name != "val_bpb" and math.isfinite(s.value) for s in reported.scores)
    assert reported.detail.isprintable()


@pytest.mark.parametrize("token", NO_NUMBERS, ids=lambda t: ascii(t[:12]))
def test_neither_in_json_nor_in_a_csv(token: bytes) -> None:
    assert read_metrics_file(b'{"val_bpb": %s}\n' % token, "val_bpb").objective is None
    if token in (b'"0.5"', NO_NUMBERS[-1]):
        return  # a CSV may quote its cells, and a file has no lines that could be too long
    spec = "out/*:val_bpb"
    assert read_result_file(spec, {"out/a.json": b'{"val_bpb": %s}' % token}, "val_bpb").objective is None
    table = b"step;val_bpb\n1;%s\n" % token  # semicolons: a comma in the cell stays in the cell
    assert read_result_file(spec, {"out/a.csv": table}, "val_bpb").objective is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"val_bpb": 0.5, "val_bpb": 0.6}',
        b'{"val_bpb": 0.5, "val_bpb": 0.5}',
        b'{"val_bpb": {"x": 1}, "val_bpb": 0.5}',
        b'{"val_bpb": "0.5"}',
        b'{"val_bpb": true}',
        b'{"val_bpb": [0.5]}',
        b'{"val_bpb": 0.5',
        b'{"val_bpb": 0.5} {"val_bpb": 0.6}',
        b"{'val_bpb': 0.5}",
        b'[{"val_bpb": 0.5}]',
        b'{"val_bpb": ' + b"[" * 60_000,
        b'{"a":' * 8_000 + b'{"val_bpb": 0.5}' + b"}" * 8_000,
    ],
    ids=range(12),
)
def test_json_that_may_not_be_believed(line: bytes) -> None:
    assert feed(line + b"\n").objective is None
    assert read_metrics_file(line + b"\n", "val_bpb").objective is None
    assert feed(line + b"\n" + HONEST).objective in (0.9979, None)


def test_negative_zero_is_stored_as_zero() -> None:
    for log in (b"METRIC val_bpb=-0.0\n", b'{"val_bpb": -0.0}\n', b"---\nval_bpb: -0\n"):
        reported = feed(log)
        assert reported.objective == 0.0
        assert math.copysign(1.0, reported.scores[0].value) == 1.0


def test_an_unreadable_last_value_does_not_revive_an_earlier_one() -> None:
    assert feed(b"METRIC val_bpb=0.5\nMETRIC val_bpb=0x1\n").objective is None
    assert feed(b"METRIC loss=0.5\nMETRIC loss=oops\n").scores == ()


def test_a_flood_of_names_is_bounded_and_cannot_push_the_objective_out() -> None:
    flood = b"".join(b"METRIC m%d=1\n" % i for i in range(5000))
    block = b"---\n" + b"".join(b"k%d: 1\n" % i for i in range(5000))
    parser = LogParser("val_bpb", watch=["peak_vram_mb"])
    points = parser.feed(flood + block + HONEST)
    reported = parser.finish()
    assert reported.objective == 0.9979
    assert len({p.series for p in points}) <= 512
    assert len(reported.scores) <= 256


def test_a_line_without_end_takes_bounded_memory() -> None:
    parser = LogParser("val_bpb")
    for _ in range(2000):
        parser.feed(b"x" * 10_000)
    assert sum(map(sys.getsizeof, parser._lines._held)) < 1 << 20
    parser.feed(b"\n" + HONEST)
    assert parser.finish().objective == 0.9979


@pytest.mark.parametrize("name", [b"a\x01b", b"\xff", b"n" * 300, b"\xe2\x80\xae", b"\xc2\x9b31m"])
def test_a_name_that_cannot_be_shown_is_ignored(name: bytes) -> None:
    assert feed(b"METRIC %s=1\n" % name).scores == ()
    surrogate = feed(b'{"\\ud800": 1}\n')
    assert surrogate.scores == (), "SQLite could not store it"


LINES = [
    b"---",
    b"val_bpb: 0.9979",
    b"val_bpb: 0.5",
    b"val_bpb: nan",
    b"METRIC val_bpb=0.9979",
    b"METRIC loss=2 step=4",
    b"METRIC loss=nan",
    b'{"step": 3, "val_bpb": 0.9, "x\xc3\xa9": 2}',
    b'{"val_bpb": 1, "val_bpb": 2}',
    b"peak: 5",
    b"step 00042 (3.1%) | loss: 5.1 | dt: 320ms | tok/sec: 1,638,400 | mfu: 40.1%    ",
    b"iter 10: loss 3.2, time 25ms, mfu 1.2%",
    b"step 250: train loss 1.9, val loss 2.1",
    b"\x1b[31mval_bpb: 1\x1b[0m",
    b"pattern 7.5",
    b"\0\0\0\0",
    b"FAIL",
    b"\xe2\x9c\x93 done",
    b"y" * 66_000,
    b"",
]
LOGS = st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from([b"\n", b"\r", b"\r\n", b""])), max_size=12).map(
    lambda parts: b"".join(line + end for line, end in parts)
)


def outcome(log: bytes, cuts: list[int]) -> tuple[list[Point], str]:
    parser = LogParser("val_bpb", r"pattern (?P<value>\S+)" if len(log) % 3 == 0 else None)
    points: list[Point] = []
    edges = [0, *sorted(c % (len(log) + 1) for c in cuts), len(log)]
    for start, end in itertools.pairwise(edges):
        points += parser.feed(log[start:end])
    points += parser.flush()
    return points, repr(parser.finish())  # repr: NaN does not equal itself


@given(LOGS, st.lists(st.integers(0, 1 << 20), max_size=30))
@example(b"val_bpb: 0.9979\r\n\xe2\x9c\x93 METRIC", [14, 16, 18, 19])
def test_where_a_log_is_cut_changes_nothing(log: bytes, cuts: list[int]) -> None:
    assert outcome(log, cuts) == outcome(log, [])


@given(st.lists(st.sampled_from(LINES), max_size=5))
def test_byte_by_byte_is_the_same_too(lines: list[bytes]) -> None:
    log = b"\n".join(line for line in lines if len(line) < 1000)
    assert outcome(log, list(range(len(log)))) == outcome(log, [])


@given(st.binary(max_size=3000), st.binary(max_size=200))
def test_no_bytes_raise(noise: bytes, more: bytes) -> None:
    parser = LogParser("val_bpb", r"(\w+)")
    for data in (noise, HONEST, more):
        assert all(math.isfinite(p.value) and math.isfinite(p.step) for p in parser.feed(data))
    parser.mark_gap()
    parser.feed(noise)
    assert parser.finish().detail.isprintable()
    read_metrics_file(noise, "val_bpb")
    for path in ("a.json", "a.csv", "a.tsv", "a.jsonl"):
        reported = read_result_file("a.*:val_bpb", {path: noise}, "val_bpb")
        assert reported.objective is None or math.isfinite(reported.objective)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"METRIC ", b"{", b"step ", b"iter ", b"---\n", b"val_bpb: "]),
            st.binary(max_size=60),
        ),
        max_size=20,
    )
)
def test_noise_behind_the_right_beginnings_does_not_raise(parts: list[tuple[bytes, bytes]]) -> None:
    reported = feed(b"\n".join(start + noise for start, noise in parts))
    assert (reported.objective is None) is (reported.problem is not None)
    assert reported.detail.isprintable()
