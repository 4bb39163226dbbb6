"""Slurm's answers as they are, cut, garbled and hostile: what is not understood is never evidence."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import RealClock
from engine.errors import HostFault, UsageError
from engine.runners import AttemptPlan, Containment, Step, node_proof
from engine.runners import slurm_commands as commands
from engine.runners.slurm_attempt import adapted, allowance, parse_facts
from engine.runners.slurm_commands import PHASES, Phase, parse_queue, parse_show, parse_submitted
from engine.runners.slurm_host import Files, SlurmHost
from engine.runners.slurm_options import format_limit, multiplied, parse_limit, parse_options
from engine.runners.transport import Completed, Transport
from engine.types import Allocation

SHOWN = (
    "JobId=17 JobName=ratchet-t UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=4294901759 Nice=0"
    " JobState=PENDING Reason=BeginTime Dependency=(null) Requeue=1 Restarts=1 BatchFlag=1 ExitCode=0:0"
    " Partition=main NodeList=(null) CPUs/Task=1 ReqB:S:C:T=0:0:*:* Comment=JobState=COMPLETED"
    " Command=/x/JobState=FAILED WorkDir=/tmp Power=\n"
)
TERMINAL = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "REVOKED", "TIMEOUT", "LAUNCH_FAILED", "RECONFIG_FAIL",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 300), ("5:30", 330), ("1:02:03", 3723), ("1-02:03:04", 93784), ("2-0", 172800), ("1-2:30", 95400),
        ("0:00", 0), ("364-23:59:40", 31535980), ("UNLIMITED", math.inf), (" infinite\n", math.inf),
        ("INVALID", None), ("NOT_SET", None), ("", None), ("Partition_Limit", None), ("-5", None), ("1-", None),
        ("1:2:3:4", None), ("٣:٣٠", None), ("1e3", None),
    ],
)  # fmt: skip
def test_limits_are_read_as_slurm_writes_them(text: str, seconds: float | None) -> None:
    assert parse_limit(text) == seconds


@given(st.floats(min_value=1, max_value=3e9))
def test_a_limit_that_is_written_is_never_shorter_and_at_most_a_minute_longer(seconds: float) -> None:
    read = parse_limit(format_limit(seconds))
    assert read is not None and seconds <= read < seconds + 60


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("17\n", "17"), ("17;cluster\n", "17"), ("Welcome to X\nquota: 3 jobs\n4711;c1", "4711"), ("", None), ("0", None),
        ("Submitted batch job 17", None), ("17;a b", None), ("17_3", None), ("-17", None), ("१७", None), ("17\n\nbye", "17"),
    ],
)  # fmt: skip
def test_the_number_of_a_submitted_job(text: str, number: str | None) -> None:
    assert parse_submitted(text) == number


def test_states_that_end_a_job_are_these_and_no_others() -> None:
    assert {state for state, phase in PHASES.items() if phase is Phase.ENDED} == TERMINAL
    assert not {state for state in PHASES if PHASES[state] in (Phase.GONE, Phase.UNKNOWN)}
    for unsure in (
        "COMPLETING",
        "REQUEUED",
        "SUSPENDED",
        "SPECIAL_EXIT",
        "",
        "completed?",
        "NEW_STATE",
        "COMPLETE",
    ):
        assert PHASES.get(unsure) is not Phase.ENDED


def test_a_queue_is_read_line_by_line() -> None:
    text = (
        "CLUSTER: c1\n"
        "job|17|PENDING|10:00||ratchet-a|Priority|end\n"
        "job|18|RUNNING|1-00:00:00|node[7-8]|ratchet-b|None|end\n"
        "job|19|PENDING|INVALID||ratchet-c|ReqNodeNotAvail, UnavailableNodes:n|1|end\n"
        "job|20|COMPLETED|0:00|node7|ratchet-d|No"  # cut
    )
    jobs = parse_queue(text)
    assert {number: job.words for number, job in jobs.items()} == {
        "17": "PENDING (Priority)",
        "18": "RUNNING on node[7-8]",
        "19": "PENDING (ReqNodeNotAvail, UnavailableNodes:n|1)",
    }
    assert [job.seconds_left for job in jobs.values()] == [600, 86400, None]
    assert [job.name for job in jobs.values()] == ["ratchet-a", "ratchet-b", "ratchet-c"]


NODES = """\
gpu*|ib,a100|gpu:a100:4(S:0-1),lustre:1|end
gpu*|ib,h100|gpu:h100:8|end
mig|(null)|gpu:1g.5gb:7|end
old|(null)|gpu:2|end
cpu|(null)|(null)|end
gpu|cut short
"""


def test_types_of_gpu_that_a_job_may_get_where_it_names_none() -> None:
    def kinds(*partitions: str, feature: str = "") -> set[str]:
        return commands.parse_gpu_kinds(NODES, partitions, feature)

    assert kinds() == kinds("gpu") == {"a100", "h100"}, "none named: the default partition"
    assert kinds("gpu", feature="h100") == {"h100"}
    assert kinds("mig") == {"1g.5gb"} and kinds("old") == {""} and kinds("cpu") == set()
    assert kinds("old", "mig") == {"", "1g.5gb"}


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"gres": "gpu:1"}, True),
        ({"gres": "gpu:1", "partition": "gpu"}, True),
        ({"gpus": 2, "partition": "old,mig"}, True),
        ({"gres": "gpu:h100:1"}, False),
        ({"gres": "gpu:1", "constraint": "a100"}, False),
        ({"gres": "gpu:1", "partition": "mig"}, False),
        ({"partition": "gpu"}, False),
        ({"gres": "gpu:1", "nodelist": "n1"}, False),
    ],
)
async def test_a_host_whose_trials_could_get_different_gpus_is_refused_with_the_mend(
    asked: dict[str, str | int | float | bool], refused: bool
) -> None:
    class Scripted:
        async def run(self, argv: Sequence[str], **_: object) -> Completed:
            if "sinfo" not in argv[0]:
                return Completed(0, b"", b"")
            found = "gpu|up|1:00:00|2|end\nmig|up|1:00:00|1|end\nold|up|1:00:00|1|end\n"
            return Completed(0, (NODES if "%G" in argv[-1] else found).encode(), b"")

    transport = cast(Transport, Scripted())
    host = SlurmHost("c", cast(Files, None), transport, parse_options(asked), RealClock())
    if not refused:
        return await host.check_cluster()
    with pytest.raises(HostFault, match="could get different GPUs") as fault:
        await host.check_cluster()
    assert "gres" in fault.value.mend


LINE = "job|17|RUNNING|10:00|node7|ratchet-a|None|end"


@given(st.integers(0, len(LINE) - 1), st.text(max_size=40))
def test_a_line_that_was_cut_or_written_over_never_says_that_a_job_ended(at: int, rest: str) -> None:
    for text in (LINE[:at], LINE[:at] + rest, rest + LINE[at:]):
        for job in parse_queue(text).values():
            assert job.phase is not Phase.ENDED or any(state in rest.upper() for state in TERMINAL)


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "replace")))
def test_no_output_whatever_raises_or_says_anything(text: str) -> None:
    assert all(job.phase is not Phase.ENDED for job in parse_queue(text).values())
    assert parse_show(text, "17") is None
    assert commands.parse_history(text, "17") is None
    assert commands.parse_steps(text) == {}
    (
        commands.parse_submitted(text),
        commands.parse_granted(text),
        commands.parse_partitions(text),
        commands.parse_gpu_kinds(text, ()),
        parse_facts(text),
    )


@given(
    st.sampled_from(sorted(PHASES)),
    st.text(st.characters(exclude_characters="\r\n|", exclude_categories=["C", "Z"]), max_size=30),
)
def test_words_for_people_hold_the_state_and_no_control_characters(state: str, reason: str) -> None:
    (job,) = parse_queue(f"job|1|{state}|0:10|n\x1b[31m1|x|{reason}\x07|end").values()
    assert job.words.startswith(state) and job.words.isprintable()


def test_a_shown_job_is_read_by_its_own_fields_and_not_by_what_a_user_wrote() -> None:
    job = parse_show(SHOWN, "17")
    assert job is not None
    assert (job.state, job.reason, job.restarts, job.nodes, job.name) == (
        "PENDING",
        "BeginTime",
        1,
        "",
        "ratchet-t",
    )
    assert parse_show(SHOWN, "1") is None and parse_show(SHOWN.replace("JobState=PENDING", ""), "1") is None
    for cut in range(SHOWN.index("JobState=")):
        assert parse_show(SHOWN[:cut], "17") is None


@pytest.mark.parametrize(
    ("state", "more", "taken"),
    [
        ("PREEMPTED", "", True), ("NODE_FAIL", "", True), ("BOOT_FAIL", "", True), ("LAUNCH_FAILED", "", True),
        ("RUNNING", " PreemptEligibleTime=2026-11-21T12:00:00 PreemptTime=2026-11-21T12:01:00", True),
        ("RUNNING", " PreemptEligibleTime=2026-11-21T12:00:00 PreemptTime=None", False), ("RUNNING", "", False),
        ("TIMEOUT", "", False), ("CANCELLED", "", False), ("FAILED", "", False), ("OUT_OF_MEMORY", "", False),
        ("COMPLETED", "", False), ("COMPLETED", " Restarts=2", True), ("PENDING", " Restarts=1", True),
    ],
)  # fmt: skip
def test_what_slurm_took_away_is_told_from_what_ended_by_itself(state: str, more: str, taken: bool) -> None:
    job = parse_show(f"JobId=17 JobName=ratchet-t JobState={state}{more} RunTime=1-00:01:40 Comment=x\n", "17")
    assert job is not None and job.taken is taken and job.ran == 86500


def test_what_a_node_has_proved_is_remembered_for_the_same_question_only() -> None:
    found = Containment("unshare", ("/usr/bin/unshare", "--pid", "--"), "an escapee was dead", {"x": "y"})
    asked = ("--partition=gpu", "--gres=gpu:1")
    data = node_proof.dump(asked, found)
    assert node_proof.parse(data, asked) == Containment(found.kind, found.wrap, found.proof)
    assert node_proof.parse(data, ("--partition=cpu",)) is None
    for at in range(len(data) - 2):
        assert node_proof.parse(data[:at], asked) is None, "cut"


@given(st.binary() | st.builds(lambda value: json.dumps(value).encode(), st.dictionaries(
    st.sampled_from(["asked", "kind", "wrap", "proof"]), st.recursive(st.none() | st.text() | st.integers(), st.lists)
)))  # fmt: skip
def test_a_proof_that_is_none_proves_nothing(data: bytes) -> None:
    found = node_proof.parse(data, ("--partition=gpu",))
    assert found is None, found


def test_the_past_is_read_from_the_accounting_database() -> None:
    job = commands.parse_history("16|FAILED|n1|x\n17|CANCELLED by 1000|None assigned|ratchet-t\n", "17")
    assert job is not None and (job.state, job.phase, job.nodes, job.name) == (
        "CANCELLED",
        Phase.ENDED,
        "",
        "ratchet-t",
    )


def test_steps_are_known_by_name() -> None:
    text = "step|5.0|tok1|end\nstep|5.batch|batch|end\nstep|6.0|a|b|end\nstep|7.1|cut|en"
    assert commands.parse_steps(text) == {"5": {"tok1": "5.0", "batch": "5.batch"}, "6": {"a|b": "6.0"}}


def test_options_become_words_of_sbatch() -> None:
    given = {
        "partition": "gpu",
        "cpus_per_task": 4,
        "gres": "gpu:a100:1",
        "mem": "8G",
        "exclusive": True,
        "time": "00:15:00",
    }
    options = parse_options({**given, "extra": "--constraint='a|b' --comment=\"two words\"", "requeue": False})
    assert options.limit == 900 and options.gpus == ("a100", 1)
    argv = commands.submit(options, 1, "ratchet-x", 900, "/d", ["/d/slurm.sh", "run", "/d"])
    assert argv[:2] == ["sbatch", "--no-requeue"] and argv[-3:] == ["/d/slurm.sh", "run", "/d"]
    wanted = {
        "--partition=gpu",
        "--cpus-per-task=4",
        "--gres=gpu:a100:1",
        "--mem=8G",
        "--exclusive",
        "--time=0-00:15:00",
    }
    assert wanted | {"--constraint=a|b", "--comment=two words", "--job-name=ratchet-x", "--parsable"} <= set(argv)
    assert {"--gres=gpu:a100:4", "--mem=32G", "--cpus-per-task=4", "--ntasks=4", "--nodes=1"} <= set(
        options.times(4)
    )
    assert set(options.step) == {"--cpus-per-task=4", "--gres=gpu:a100:1", "--mem=8G"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"job_name": "x"}, "job_name"), ({"array": "1-9"}, "array"), ({"wrap": "true"}, "wrap"), ({"chdir": "/"}, "chdir"),
        ({"nodes": 2}, "nodes"), ({"Partition": "x"}, "Partition"), ({"-p": "x"}, "-p"), ({"time": "soon"}, "soon"),
        ({"time": 0}, "time"), ({"partition": "a\nb"}, "partition"), ({"extra": "-p gpu"}, "-p"), ({"extra": "script.sh"}, "script.sh"),
        ({"extra": "'"}, "extra"), ({"extra": "--array=1-3"}, "--array"), ({"pilot": "yes"}, "pilot"), ({"pilot": True}, "limit"),
        ({"pilot": True, "time": "UNLIMITED"}, "limit"), ({"poll": 0}, "poll"), ({"idle": "x"}, "idle"), ({"probe": math.inf}, "probe"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant_are_refused_by_name(
    given: dict[str, str | int | float | bool], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        parse_options(given)


@pytest.mark.parametrize(
    ("gres", "kind", "count"),
    [
        ("gpu", "gpu", 1),
        ("gpu:2", "gpu", 2),
        ("gpu:a100:4", "a100", 4),
        ("shard:3,gpu:h100:1(S:0)", "h100", 1),
        ("license:2", "", 0),
    ],
)
def test_the_kind_and_number_of_devices(gres: str, kind: str, count: int) -> None:
    assert parse_options({"gres": gres}).gpus == (kind, count)


@pytest.mark.parametrize(
    ("key", "value", "many"),
    [
        ("gres", "gpu", "gpu:3"),
        ("gres", "gpu:a100:2,tmp:1", "gpu:a100:6,tmp:3"),
        ("gpus", "2", "6"),
        ("mem", "500", "1500"),
        ("mem", "0", "0"),
    ],
)
def test_amounts_for_several_trials(key: str, value: str, many: str) -> None:
    assert multiplied(key, value, 3) == many


def test_a_plan_for_a_node_leaves_devices_and_cores_to_slurm() -> None:
    allocation = Allocation("c", "slurm0", devices=("c-slurm0-gpu0",), cpus=(1, 2))
    environment = {"CUDA_VISIBLE_DEVICES": "c-slurm0-gpu0", "A": "b"}
    plan = AttemptPlan(
        "/d", "token-12345", (Step("s", "true", 10.0), Step("t", "true", 5.0)), environment, allocation, ("w",)
    )
    changed = adapted(plan)
    assert (
        changed.allocation.devices == ()
        and changed.allocation.cpus == ()
        and dict(changed.environment) == {"A": "b"}
    )
    assert changed.wrap[-1] == "w" and "/d/control/node.env" in changed.wrap
    assert allowance(plan) == 10 + 5 + 2 * 3 + 60
