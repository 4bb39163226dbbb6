"""Slurm's commands: what is asked, and how the answers are read. Pure.

Relied on, the same from Slurm 21 to 25: ``sbatch --parsable``; ``squeue --noheader --states=all --jobs
--format`` with %i %T %L %N %j %r, and ``--steps`` with %i %j; ``scontrol --oneliner show job``; ``sacct
--parsable2``; ``scancel --batch --signal``; ``srun --jobid --exact --overlap``. Nothing else of their output
is read, and a word that is not known here is never evidence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from engine.runners.slurm_options import SlurmOptions, format_limit, parse_limit


class Phase(Enum):
    """What a state means to us. ENDED is positive evidence; GONE: the controller says it knows no such job."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"
    UNKNOWN = "unknown"


_STATES = {
    Phase.WAITING: "PENDING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT",
    # COMPLETING: its processes are being ended, and may not be dead yet.
    Phase.RUNNING: "RUNNING CONFIGURING COMPLETING SUSPENDED STOPPED SIGNALING STAGE_OUT RESIZING"
    " POWER_UP_NODE UPDATE_DB EXPEDITING",
    Phase.ENDED: "COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY"
    " REVOKED LAUNCH_FAILED RECONFIG_FAIL",
}
# What a job did not do to itself, in the controller's own words.
_TAKEN = frozenset(["PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"])
PHASES = {state: phase for phase, states in _STATES.items() for state in states.split()}

QUEUE_FORMAT = "job|%i|%T|%L|%N|%j|%r|end"  # the marks at both ends show a line that was cut or is no answer
STEPS_FORMAT = "step|%i|%j|end"
HISTORY_FIELDS = "JobIDRaw,State,NodeList,JobName"
GRACE_SECONDS = 60.0  # around a trial's own deadlines: start, sweep, exit


@dataclass(frozen=True, slots=True)
class Job:
    """A job as one of the commands has it. ``seconds_left`` is inf without a limit, None when not said.

    Of scontrol alone: ``restarts``, ``ran`` (seconds since it last started) and ``preempting`` (Slurm has chosen
    it to make room).
    """

    number: str
    state: str
    reason: str = ""
    nodes: str = ""
    seconds_left: float | None = None
    restarts: int = 0
    name: str = ""
    ran: float | None = None
    preempting: bool = False

    @property
    def taken(self) -> bool:
        """Whether Slurm itself took its node away, or the job from its node."""
        return self.state in _TAKEN or self.restarts > 0 or self.preempting

    @property
    def phase(self) -> Phase:
        return PHASES.get(self.state, Phase.UNKNOWN)

    @property
    def words(self) -> str:
        """For people, in Slurm's own words."""
        if self.phase is Phase.RUNNING and self.nodes:
            return f"{self.state} on {self.nodes}"
        return f"{self.state} ({self.reason})" if self.reason else self.state


# --- asking ------------------------------------------------------------------------------------------


def submit(
    options: SlurmOptions,
    trials: int,
    name: str,
    seconds: float,
    directory: str,
    script: Sequence[str],
) -> list[str]:
    """Submit ``script`` (a file, its arguments), with room for ``trials``; it prints to slurm.log there."""
    own = (
        "--parsable",
        f"--job-name={name}",
        f"--time={format_limit(seconds)}",
        f"--chdir={directory}",
        "--output=slurm.log",
        "--open-mode=append",
    )
    # A requeued job would come to a claimed directory. Before the options: a person may ask for it anyhow.
    return [options.command("sbatch"), "--no-requeue", *options.times(trials), *own, *script]


def queue(options: SlurmOptions, numbers: Iterable[str]) -> list[str]:
    """All of ``numbers`` at once, ended ones too while the controller remembers them (MinJobAge)."""
    return [
        options.command("squeue"),
        "--noheader",
        "--states=all",
        f"--jobs={','.join(sorted(numbers, key=int))}",
        f"--format={QUEUE_FORMAT}",
    ]


def named(options: SlurmOptions, name: str) -> list[str]:
    """All jobs of that name."""
    return [options.command("squeue"), "--noheader", "--states=all", f"--name={name}", f"--format={QUEUE_FORMAT}"]


def steps(options: SlurmOptions, numbers: Iterable[str]) -> list[str]:
    """The running steps of jobs, by name."""
    listed = ",".join(sorted(numbers, key=int))
    return [options.command("squeue"), "--noheader", "--steps", f"--jobs={listed}", f"--format={STEPS_FORMAT}"]


def show(options: SlurmOptions, number: str) -> list[str]:
    return [options.command("scontrol"), "--oneliner", "show", "job", number]


def history(options: SlurmOptions, number: str) -> list[str]:
    """From the accounting database, where there is one."""
    asked = ["--noheader", "--parsable2", "--allocations", f"--format={HISTORY_FIELDS}", f"--jobs={number}"]
    return [options.command("sacct"), *asked]


def cancel(options: SlurmOptions, number: str, name: str) -> list[str]:
    """End a job, if that is still its name; or a step ("17.3", without a name)."""
    return [options.command("scancel"), *([f"--name={name}"] if name else []), number]


def signal_batch(options: SlurmOptions, number: str, name: str, signal: str) -> list[str]:
    """To the batch script alone, not to what it started."""
    return [options.command("scancel"), f"--name={name}", "--batch", f"--signal={signal}", number]


def run_step(options: SlurmOptions, number: str, name: str, seconds: float, words: Sequence[str]) -> list[str]:
    """One trial in the allocation ``number``, with a share of its own within ``seconds``, or not at all."""
    own = [f"--jobid={number}", f"--job-name={name}", "--exact", "--nodes=1", "--ntasks=1", *options.step]
    # No bytes come through srun: the trial's output is in its directory.
    quiet = ["--input=none", "--output=none", "--error=none", f"--immediate={seconds:.0f}"]
    return [options.command("srun"), *own, *quiet, *words]


def run_beside(options: SlurmOptions, number: str, words: Sequence[str], node: str = "") -> list[str]:
    """A quick look from inside the allocation ``number``, beside whatever runs there."""
    where = [f"--nodelist={node}"] if node else []
    shape = ["--overlap", "--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--immediate=30", "--mem=0"]
    return [options.command("srun"), f"--jobid={number}", *shape, *where, *words]


def allocate(options: SlurmOptions, name: str, seconds: float, patience: float) -> list[str]:
    """A short allocation such as a trial's, if one is to be had within ``patience`` seconds."""
    own = [
        "--no-shell",
        f"--immediate={max(patience, 1.0):.0f}",
        f"--job-name={name}",
        f"--time={format_limit(seconds)}",
    ]
    return [options.command("salloc"), *options.submit, *own]


def partitions(options: SlurmOptions, partition: str) -> list[str]:
    asked = ["--noheader", "--format=%R|%a|%l|%D|end"]
    return [options.command("sinfo"), *asked, *([f"--partition={partition}"] if partition else [])]


def resources(options: SlurmOptions) -> list[str]:
    """What nodes have, by partition: its name (the default one's with a star), their features, their GPUs."""
    return [options.command("sinfo"), "--noheader", "--format=%P|%f|%G|end"]


# --- reading -----------------------------------------------------------------------------------------


def parse_submitted(text: str) -> str | None:
    """The job's number from ``sbatch --parsable`` ("17", or "17;cluster"); a site's banner may come before it."""
    for line in reversed(text.splitlines()):
        found = re.fullmatch(r"([1-9]\d{0,14})(;\S*)?", line.strip(), re.ASCII)
        if found:
            return found[1]
    return None


def parse_granted(text: str) -> str | None:
    """The job's number from what salloc says on standard error."""
    found = re.search(r"Granted job allocation ([1-9]\d{0,14})\b", text, re.ASCII)
    return found[1] if found else None


def parse_gpu_kinds(text: str, partitions: Collection[str], feature: str = "") -> set[str]:
    """Types of GPU that a job in one of ``partitions`` (none named: in the default one) may get, where it asks for
    no type; "" is a GPU whose type Slurm was not told. ``feature``: that its node must have."""
    found: set[str] = set()
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 4 or fields[-1] != "end":
            continue
        name, features, given, _ = fields
        if name.rstrip("*") not in partitions if partitions else not name.endswith("*"):
            continue
        if feature and feature not in features.split(","):
            continue
        for resource in re.sub(r"\([^)]*\)", "", given).split(","):
            words = resource.split(":")
            if words[0] == "gpu":
                found.add(":".join(word for word in words[1:] if not word.isdigit()))
    return found


def parse_queue(text: str) -> dict[str, Job]:
    """Jobs by number. A line that is not wholly as asked for counts as absent."""
    found = {}
    for line in text.splitlines():
        first, *fields = line.strip().split("|")
        # A reason is anybody's text and may hold the separator.
        if (
            first != "job"
            or len(fields) < 7
            or fields[-1] != "end"
            or not re.fullmatch(r"\d+", fields[0], re.ASCII)
        ):
            continue
        number, state, left, nodes, name = fields[:5]
        reason = _clean("|".join(fields[5:-1]))
        found[number] = Job(number, _state(state), reason, _clean(nodes), parse_limit(left), 0, name)
    return found


def parse_steps(text: str) -> dict[str, dict[str, str]]:
    """Running steps of each job: their ids by name."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"step\|((\d+)\.[^|]*)\|(.*)\|end", line.strip(), re.ASCII)
        if match:
            found.setdefault(match[2], {})[match[3]] = match[1]
    return found


def parse_show(text: str, number: str) -> Job | None:
    """``scontrol --oneliner show job``. None unless it is about ``number`` and names a state."""
    values: dict[str, str] = {}
    for match in re.finditer(r"(?:^|\s)([A-Za-z][\w:/.]*)=(\S*)", text.partition("\n")[0]):
        values.setdefault(match[1], match[2])  # the first: what a user wrote (Command, Comment) comes after
    if values.get("JobId") != number or "JobState" not in values:
        return None
    restarts = values.get("Restarts", "0")
    return Job(
        number,
        _state(values["JobState"]),
        _clean(values.get("Reason", "")),
        _clean(values.get("NodeList", "")),
        None,
        int(restarts) if re.fullmatch(r"\d{1,6}", restarts, re.ASCII) else 0,
        values.get("JobName", ""),
        parse_limit(values.get("RunTime", "")),
        values.get("PreemptTime", "None") not in ("None", "N/A", "Unknown"),
    )


def parse_history(text: str, number: str) -> Job | None:
    """``sacct``. None unless it has the job."""
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 4 and fields[0] == number:
            return Job(number, _state(fields[1]), nodes=_clean(fields[2]), name=fields[3])
    return None


def parse_partitions(text: str) -> dict[str, bool]:
    """Whether each partition is up, by name."""
    found: dict[str, bool] = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 5 and fields[4] == "end":
            found[fields[0]] = found.get(fields[0], False) or fields[1] == "up"
    return found


def says_unknown_job(complaint: str) -> bool:
    """Whether the controller itself said that it knows no such job (and not: that it does not answer)."""
    return "Invalid job id" in complaint


def _state(text: str) -> str:
    """The state's own word: sacct says "CANCELLED by 1000"."""
    words = text.split()
    return words[0].upper() if words else ""


def _clean(text: str) -> str:
    text = "".join(c for c in text.strip() if c.isprintable())[:200]
    return "" if text in ("None", "(null)", "N/A", "n/a", "None assigned", "(None)") else text
