"""What ``slurm = { ... }`` of a host means: options of sbatch as they are, and a few of our own.

Pure. Every key but OWN is an option of sbatch (``cpus_per_task = 4`` is ``--cpus-per-task=4``).
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import UsageError

# Ours: time (a limit in Slurm's notation), extra (more words for sbatch), pilot (true: one long job serves
# many trials), idle, poll, probe (seconds), bin (where Slurm's commands are, when not on PATH).
OWN = ("time", "extra", "pilot", "idle", "poll", "probe", "bin")

# The launcher stands on these; a trial that is an array, waits, or writes elsewhere is no trial of ours.
TAKEN = frozenset(
    """
    array chdir clusters cluster-constraint deadline error export export-file get-user-env help hold immediate
    input job-name jobid kill-on-bad-exit kill-on-invalid-dep nodes no-kill ntasks ntasks-per-node open-mode
    output parsable quiet signal test-only time time-min uid usage verbose version wait wait-all-nodes wrap
    """.split()  # noqa: SIM905
)
# What a step inside an allocation is given too, so that it takes its share and no more.
OF_STEPS = frozenset(
    {"cpus-per-task", "cpus-per-gpu", "gres", "gpus", "gpus-per-task", "gpus-per-node"}
    | {"mem", "mem-per-cpu", "mem-per-gpu"}
)
# What an allocation for several trials needs several times. All else is per cpu or device, or no amount.
AMOUNTS = ("gres", "gpus", "gpus-per-node", "mem")


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """``submit``: options for each trial's job, ``--key=value``. Durations in seconds.

    ``limit``: the job's time limit, or the pilot's; None: as long as the trial's own deadlines need.
    ``given``: the options by name, in the file's order.
    """

    given: tuple[tuple[str, str], ...] = ()
    extra: tuple[str, ...] = ()
    limit: float | None = None
    pilot: bool = False
    idle: float = 300.0
    poll: float = 10.0
    probe: float = 60.0
    bin: str = ""

    @property
    def submit(self) -> tuple[str, ...]:
        return (*(_option(key, value) for key, value in self.given), *self.extra)

    @property
    def step(self) -> tuple[str, ...]:
        """Options of srun for one trial inside an allocation."""
        return tuple(_option(key, value) for key, value in self.given if key in OF_STEPS)

    def times(self, trials: int) -> tuple[str, ...]:
        """Options of a job on one node that holds ``trials`` trials at once."""
        many = tuple(
            (key, multiplied(key, value, trials) if key in AMOUNTS else value) for key, value in self.given
        )
        return (*(_option(key, value) for key, value in many), *self.extra, "--nodes=1", f"--ntasks={trials}")

    def value(self, key: str) -> str:
        """An option's value, or ""."""
        return dict(self.given).get(key, "")

    def command(self, name: str) -> str:
        return f"{self.bin.rstrip('/')}/{name}" if self.bin else name

    @property
    def gpus(self) -> tuple[str, int]:
        """Kind and number of the devices that each trial asks for; ("", 0): none."""
        for key in ("gres", "gpus", "gpus-per-node", "gpus-per-task"):
            text = self.value(key)
            for part in text.split(","):
                words = part.partition("(")[0].replace("=", ":").split(":")
                if key == "gres":
                    if words[0].removeprefix("gres/") != "gpu":
                        continue
                    words = words[1:]
                if text:
                    count = int(words[-1]) if words and words[-1].isdigit() else 1
                    return ":".join(word for word in words if not word.isdigit()) or "gpu", count
        return "", 0


def _option(key: str, value: str) -> str:
    return f"--{key}={value}" if value else f"--{key}"


def parse_options(given: Mapping[str, str | int | float | bool]) -> SlurmOptions:
    """Read the table. Raises UsageError that names the key."""
    options: list[tuple[str, str]] = []
    for key, value in given.items():
        name = key.replace("_", "-")
        if key in OWN or value is False:
            continue
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise UsageError(
                f'slurm: "{key}" is no long option of sbatch', 'write for instance { partition = "gpu" }'
            )
        if name in TAKEN:
            raise UsageError(f'slurm: "{key}" is set by the engine itself', "take it out")
        text = "" if value is True else str(value)
        if "\0" in text or "\n" in text:
            raise UsageError(f"slurm: {key} is more than one line")
        options.append((name, text))
    limit = None
    if "time" in given:
        limit = parse_limit(str(given["time"]))
        if limit is None or limit <= 0:
            raise UsageError(
                f'slurm: time = "{given["time"]}" is no limit', 'write it as in "00:15:00" or "1-12:00:00"'
            )
    pilot = given.get("pilot", False)
    if not isinstance(pilot, bool):
        raise UsageError(f"slurm: pilot is true or false, not {pilot!r}")
    if pilot and (limit is None or math.isinf(limit)):
        raise UsageError("slurm: a pilot needs a time limit", 'add for instance time = "08:00:00"')
    return SlurmOptions(
        given=tuple(options),
        extra=_extra(str(given.get("extra", ""))),
        limit=limit,
        pilot=pilot,
        idle=_seconds(given, "idle", 300.0),
        poll=_seconds(given, "poll", 10.0),
        probe=_seconds(given, "probe", 60.0),
        bin=str(given.get("bin", "")),
    )


def _extra(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as fault:
        raise UsageError(f"slurm: extra cannot be split into words: {fault}") from None
    for word in words:
        name = word.partition("=")[0]
        # A short option or a bare word could be the script's name, and would then take the trial's place.
        if not name.startswith("--") or name[2:] in TAKEN:
            raise UsageError(f'slurm: extra may not hold "{word}"', "write long options of sbatch as --key=value")
    return words


def _seconds(given: Mapping[str, str | int | float | bool], key: str, otherwise: float) -> float:
    value = given.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"slurm: {key} is a number of seconds, not {value!r}")
    return float(value)


def parse_limit(text: str) -> float | None:
    """Seconds of a limit as sbatch takes it and squeue prints it; inf for UNLIMITED, None for anything else.

    "MIN", "MIN:SEC", "HOURS:MIN:SEC", "DAYS-HOURS", "DAYS-HOURS:MIN", "DAYS-HOURS:MIN:SEC".
    """
    text = text.strip()
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return math.inf
    found = re.fullmatch(r"(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?", text, re.ASCII)
    if found is None:
        return None
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def format_limit(seconds: float) -> str:
    """For ``--time``: whole minutes, rounded up, as Slurm counts them."""
    minutes = max(math.ceil(min(seconds, 3.2e9) / 60), 1)
    return f"{minutes // 1440}-{minutes // 60 % 24:02}:{minutes % 60:02}:00"


def multiplied(key: str, value: str, by: int) -> str:
    """An amount for ``by`` trials: ``gpu:a100:1`` x 4 is ``gpu:a100:4``, ``8G`` x 4 is ``32G``."""
    if key == "mem":
        found = re.fullmatch(r"(\d+)([KMGTkmgt]?)", value)
        return f"{int(found[1]) * by}{found[2]}" if found else value
    parts = []
    for part in value.split(","):
        found = re.fullmatch(r"(.*?)(\d+)((?:\(.*\))?)", part) if re.search(r"(^|:)\d+(\(.*\))?$", part) else None
        parts.append(f"{found[1]}{int(found[2]) * by}{found[3]}" if found else f"{part}:{by}")
    return ",".join(parts)
