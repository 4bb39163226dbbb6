"""ratchet.toml: what is read, what is refused, and how a person is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import Config, expand, expand_command, load, parse, placeholders
from engine.config_source import locate
from engine.errors import ConfigError, UsageError
from engine.types import Goal

MINIMAL = '[metric]\nname = "loss"\n[trial]\ncommand = "python train.py"\n'


def told(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "ratchet.toml")
    assert caught.value.exit_code == 2
    assert caught.value.mend
    return caught.value.message.splitlines()


def test_a_metric_and_a_command_are_enough() -> None:
    config = parse(MINIMAL)
    assert config.text == MINIMAL
    assert config.metric.goal is Goal.MINIMIZE
    assert config.project.edit == ("train.py",)
    assert [host.name for host in config.hosts] == ["local"]
    assert config.limits.experiments is None and config.limits.dollars is None
    assert config.unsupported() == []


def test_the_design_page_s_own_example_parses_and_names_what_is_not_carried_out_yet() -> None:
    config = parse(
        """
[project]
edit = ["train.py"]
frozen = ["prepare.py", "evaluate.py"]
context = ["program.md", "README.md"]
[environment]
key = ["uv.lock"]
setup = "uv sync"
pass = ["NCCL_DEBUG"]
set = { OMP_NUM_THREADS = "1" }
[data]
link = ["data/"]
[metric]
name = "val_bpb"
goal = "minimize"
mode = "scored"
[trial]
command = "python train.py"
train_seconds = 300
timeout_seconds = 600
[proposer]
kind = "claude"
ranges = { LR = "1e-4..1e-2 log", ACT = "relu, gelu" }
[review]
ask_if = ["lines > 80"]
unanswered_after = "30m"
[limits]
experiments = 100
hours = 10
dollars = 20.0
[[hosts]]
name = "local"
[[hosts]]
name = "cluster"
ssh = "login"
slurm = { partition = "gpu", time = "00:15:00" }
slots = 32
usd_per_hour = 2.5
"""
    )
    assert config.environment.pass_ == ("NCCL_DEBUG",)
    assert config.hosts[1].slurm == {"partition": "gpu", "time": "00:15:00"}
    asked = "\n".join(config.unsupported())
    for feature in ("scored",):
        assert feature in asked, feature


def test_every_mistake_is_told_at_once_with_its_line_and_the_nearest_name() -> None:
    lines = told(
        """# a comment
[metric]
name = "loss"
[trial]
command = '''
python train.py \\
  --x [ {sed}
'''
train_secnds = 3
gpus = "2"
[review]
mode = "propsals"
[[hosts]]
name = "a"
[[hosts]]
name = "b"
slot = 1
[trail]
x = 1
[limits]
dollars = "unlimted"
"""
    )
    assert [line.split(":")[1] for line in lines] == ["9", "10", "12", "17", "18", "21"], lines
    text = "\n".join(lines)
    assert 'did you mean "train_seconds"?' in lines[0]
    assert 'gpus: expected a whole number, got "2"' in lines[1]
    assert 'did you mean "proposals"?' in lines[2]
    assert "[[hosts]] #2 slot" in lines[3]
    assert 'did you mean "trial"?' in lines[4]
    assert '"unlimited"' in text


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("[trial]\ntimeout_seconds = 300", "more than train_seconds"),
        ("[trial]\nsteps = -1", "greater than or equal to 0"),
        ("[trial]\nlog_mb = inf", "finite"),
        ("[judge]\ncalibrate_seeds = 1", "noise needs two runs"),
        ("[judge]\nconfirm_alpha = 0.7", "less than 0.5"),
        ("[judge]\nearly_stop = 1", "true or false"),
        ('[metric]\nmode = "evaluated"', "needs the command"),
        ('[metric]\nfile = "out.json"', "glob:key.path"),
        ('[metric]\nfile = "../out.json:x"', "inside the project"),
        ('[metric]\npattern = "loss=[0-9"', "not a regular expression"),
        ('[metric]\npattern = "loss=[0-9]+"', "expected a group"),
        ('[metric]\nconstraints = ["peak <"]', "peak <"),
        ('[metric]\ngoal = "minimise"', 'did you mean "minimize"?'),
        ('[proposer]\nkind = "command"', "needs the program"),
        ("[proposer]\nranges = { LR = [1, 2] }", "text in quotes"),
        ('[project]\nedit = ["~/x"]', "of the project"),
        ('[project]\nedit = ["a/../../b"]', "of the project"),
        ('[project]\nedit = ["!train.py"]', "frozen"),
        ('[environment]\nkey = ["/etc/passwd"]', "inside the project"),
        ("[project]\nedit = []", "at least one"),
        ('[project]\nedit = ["prepare.py"]', "both editable and frozen"),
        ('[environment]\npass = ["HF_TOKEN"]', "secret"),
        ('[environment]\nset = { RATCHET_SEED = "1" }', "set by the engine"),
        ('[data]\nlink = ["./"]', "whole tree"),
        ('[[hosts]]\nname = "a"\n[[hosts]]\nname = "a"', "a second host"),
        ("[[hosts]]\ntrials_per_device = 0", "greater than or equal to 1"),
        ("[[hosts]]\nslots = 3\ntrials_per_device = 2", "make slots a multiple of 2"),
        ('[[hosts]]\nslurm = { partition = "gpu" }\ntrials_per_device = 2', 'gres = "shard:1"'),
        ("[trial]\ngpus = 4\n[[hosts]]\ntrials_per_device = 2", "each asks for 4 whole devices"),
        ("[trial]\ngpus = 0\n[[hosts]]\ntrials_per_device = 2", "asks for no device"),
        ("hosts = []", "one a machine"),
        ("trial = 3", "expected a table"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_what_was_expected(extra: str, expected: str) -> None:
    if extra == "trial = 3":
        assert any(expected in line for line in told(extra + '\n[metric]\nname="x"\n'))
        return
    head, _, rest = extra.partition("\n")
    if head == "[trial]":
        text = MINIMAL + rest
    elif head == "[metric]":
        text = MINIMAL.replace('name = "loss"', 'name = "loss"\n' + rest)
    elif head == "hosts = []":
        text = extra + "\n" + MINIMAL
    else:
        text = MINIMAL + extra
    lines = told(text + "\n")
    assert len(lines) == 1 and expected in lines[0], lines
    assert lines[0].startswith("ratchet.toml:"), "every mistake here has a line"


def test_a_syntax_error_names_its_line() -> None:
    assert told('[metric]\nname = "loss\n')[0].startswith("ratchet.toml:2: not TOML")
    assert told("[trial")[0].startswith("ratchet.toml:1: not TOML")


def test_a_key_at_the_wrong_level_is_told_where_it_belongs() -> None:
    assert '"gpus" belongs in [trial]' in told("gpus = 1\n" + MINIMAL)[0]


def test_a_missing_or_binary_file_is_a_message_with_a_mend(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ratchet init"):
        load(tmp_path)
    (tmp_path / "ratchet.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path)
    (tmp_path / "ratchet.toml").write_text(MINIMAL)
    assert load(tmp_path) == load(tmp_path / "ratchet.toml")


def test_only_what_touches_measurement_moves_its_key() -> None:
    key = parse(MINIMAL).measurement_key()
    same = [
        '[proposer]\nkind = "command"\ncommand = "x"',
        "[limits]\nhours = 3",
        '[judge]\nmode = "single"',
        '[review]\nmode = "all"',
        '[[hosts]]\nname = "local"\nslots = 4',
        "[storage]\nmax_gb = 9",
    ]
    other = [
        '[project]\nfrozen = ["eval.py"]',
        '[data]\nlink = ["data"]',
        '[environment]\nset = { A = "1" }',
    ]
    for extra in same:
        assert parse(MINIMAL + extra + "\n").measurement_key() == key, extra
    for extra in other:
        assert parse(MINIMAL + extra + "\n").measurement_key() != key, extra
    for line in ("train_seconds = 10", "gpus = 2", "steps = 5", 'evaluate = "python e.py"'):
        assert parse(MINIMAL + line + "\n").measurement_key() != key, line
    for line in ("memory_gb = 4", "log_mb = 3", 'smoke = "true"', "train_seconds = 300.0"):
        assert parse(MINIMAL + line + "\n").measurement_key() == key, line


def test_lines_are_found_through_long_strings_lists_and_headers() -> None:
    lines = locate(
        'a = """\n[not.a.table]\nb = 1\n"""\n'
        '[t]\nc = [\n  "x]", # ]\n  "y",\n]\n"d e" = {f = 1}\n'
        "[[h]]\nn=1\n[h.s]\np=2\n"
    )
    assert lines[("t",)] == 5 and lines[("t", "c")] == 6 and lines[("t", "d e")] == 10
    assert lines[("h", 0)] == 11 and lines[("h", 0, "n")] == 12 and lines[("h", 0, "s", "p")] == 14
    assert ("not", "a") not in lines and ("b",) not in lines


def test_only_placeholders_are_filled_in_and_json_and_shell_braces_stay() -> None:
    command = """python t.py --s {seed} --j '{"a": {"b": 1}}' ${HOME} {{seed}} {a,b} {}"""
    assert placeholders(command) == {"seed"}
    assert expand(command, {"seed": 7}) == ("""python t.py --s 7 --j '{"a": {"b": 1}}' ${HOME} {seed} {a,b} {}""")
    assert expand_command("train --out {out}", {"out": "a b'c"}) == """train --out 'a b'"'"'c'"""
    with pytest.raises(UsageError, match=r"\{port\}"):
        expand("x {port}", {})


def test_an_unknown_placeholder_names_the_valid_ones_and_the_escape() -> None:
    line = told(MINIMAL.replace("train.py", "train.py {sed}"))[0]
    assert 'did you mean "seed"?' in line and "{{sed}}" in line and "{gpus}" in line
    assert "[trial] steps is 0" in told(MINIMAL.replace("train.py", "train.py {steps}"))[0]


def test_a_configuration_cannot_be_changed_in_place() -> None:
    config: Config = parse(MINIMAL)
    with pytest.raises(Exception, match="frozen"):
        config.trial.gpus = 3  # type: ignore[misc]
