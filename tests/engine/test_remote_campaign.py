"""Whole campaigns over networks that break: real engines, real sshd, a proxy before each that is cut.

The trials say themselves what ran, and the far side's own files say when it ended. RATCHET_CUT_SECONDS makes
the campaign under cuts longer, for figures.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.runners.following import ExitRecord, parse_exit
from tests.engine.engine_process import assert_sound, output, query, start
from tests.engine.engine_process import until as eventually
from tests.engine.runners.sshd import HOST, Network, Proxy, Sshd, serve
from tests.project_factory import git, make_project, runs

pytestmark = pytest.mark.slow

CUT_SECONDS = float(os.environ.get("RATCHET_CUT_SECONDS", "15"))
PATIENCE = 90.0 + 4 * CUT_SECONDS  # a guard against hanging for ever; no figure
TIMEOUT = 4  # seconds that a run may take where it runs into that
GRACE = 3.0  # between a job's SIGTERM and its SIGKILL
LATE = 5.0  # seconds after both, for a machine with much else to do

# Prints some hundred KB in irregular bursts; a proposal's program goes on for ever while the file HANG is there.
TRAIN = """
import hashlib, os, random, signal, time
LEVEL = 10  # lower is better

def main():
    seed = int(os.environ["RATCHET_SEED"])
    chance = random.Random(f"{LEVEL}/{seed}")
    me = hashlib.sha256(open(__file__, "rb").read()).hexdigest()[:12]
    out = os.fdopen(1, "wb", buffering=0)
    def note(what):
        with open(os.environ["RUNS"], "a") as file:
            file.write(f"{what} {me} {seed} {os.getpid()}\\n")
    def burst():
        size = chance.choice((10, 1000, 10_000, 50_000))
        out.write(chance.randbytes(size).hex().encode() + b"\\n" if chance.random() < 0.7 else b"x\\0\\xff" * size)
    note("start")
    if LEVEL != 10 and os.path.exists(os.environ["HANG"]):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note("hang")
        while True:
            burst()
            time.sleep(0.3)
    for _ in range(10):
        burst()
        time.sleep(chance.uniform(0, SECONDS / 5))
    out.write(f"\\n---\\nval_loss: {LEVEL + chance.gauss(0, 0.01):.6f}\\n".encode())
    note("end")

SECONDS = %r
main()
"""
CONFIRMED = "calibrate_seeds = 4\nconfirm_seeds = 2\nanchor_seeds = 1"
SINGLE = 'mode = "single"\ncalibrate_seeds = 1'


@dataclass(frozen=True, slots=True)
class Far:
    """A host over ssh, and the only way there."""

    name: str
    sshd: Sshd
    proxy: Proxy

    def section(self, slots: int) -> str:
        options = " ".join(self.sshd.client(self.proxy.port))
        return f'\n[[hosts]]\nname = "{self.name}"\nssh = "{options} {HOST}"\ndirectory = "~/trials"\nslots = {slots}\n'

    def control(self, directory: str) -> Path:
        """Of an attempt, where it ran."""
        (found,) = self.sshd.home.glob(f"trials/*/{directory}/control")
        return found


@dataclass(frozen=True, slots=True)
class Ground:
    """Two far hosts, ``a`` and ``b``, and a folder."""

    folder: Path
    network: Network
    hosts: dict[str, Far]

    def project(self, *, here: int, there: int, seconds: float, judge: str, timeout: int = 60) -> Path:
        """A project on so many slots ``here`` and on each far host, whose runs take some ``seconds``."""
        project = make_project(self.folder, judge=judge + "\nearly_stop = false")
        (project / "train.py").write_text(textwrap.dedent(TRAIN % seconds).lstrip())
        path = project / "ratchet.toml"
        text = path.read_text()
        text = text.replace("train_seconds = 5", "train_seconds = 3")
        text = text.replace('"python3 train.py"', '"exec python3 train.py"')  # deaf to SIGTERM when it wants to be
        text = text.replace("timeout_seconds = 30", f"timeout_seconds = {timeout}")
        text = text.replace("drafts = 1", "drafts = 3")
        text = text.replace("set = {", f'set = {{ HANG = "{self.hang}",')
        local = "\n[[hosts]]\nslots = 2\n"
        assert text.endswith(local)
        text = text.removesuffix(local) + (local.replace("2", str(here)) if here else "")
        path.write_text(text + "".join(host.section(there) for host in self.hosts.values()))
        git(project, "commit", "-aqm", "a chatty program")
        return project

    @property
    def hang(self) -> Path:
        return self.folder / "hang"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with contextlib.ExitStack() as stack:
        network = Network()
        stack.callback(network.end)
        hosts = {}
        for name in ("a", "b"):
            sshd = stack.enter_context(contextlib.contextmanager(serve)(tmp_path / name))
            sshd.start()
            hosts[name] = Far(name, sshd, network.way_to(sshd.port))
        yield Ground(tmp_path, network, hosts)


class Engine:
    """An engine over ``project`` that lives until it has done its ``experiments``, or is killed."""

    def __init__(self, project: Path, experiments: int) -> None:
        self.project = project
        self._process = start(project, experiments=experiments)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """The value of ``condition`` once it holds."""

        def look() -> Any:
            assert self._process.poll() is None, f"the engine ended before: {what}\n{output(self.project)}"
            return condition()

        return eventually(look, what)

    def stop(self) -> float:
        """Ask it to end, as a person does; how many seconds it took."""
        asked = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE)
        assert code == 0, output(self.project)
        return time.monotonic() - asked

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Its end by itself, which is a good one."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            left = query(
                self.project, "SELECT trial, number, host, state, reason FROM attempt WHERE state <> 'ended'"
            )
            raise AssertionError(f"the engine did not end: {left}\n{output(self.project)}") from None
        assert code == 0, output(self.project)

    def finish(self) -> str:
        """``end``, with nothing left open, lost or begun again. Returns the figures."""
        self.end()
        assert not query(self.project, "SELECT trial FROM attempt WHERE number > 1"), "a trial was begun again"
        return assert_sound(self.project.parent, self.project)


def attempts(project: Path, where: str = "1") -> list[tuple[str, str, str, str]]:
    """(host, directory, identity, state) of the attempts that began."""
    return query(project, f"SELECT host, directory, identity, state FROM attempt WHERE identity <> '' AND {where}")


def running(project: Path) -> dict[str, tuple[str, str]]:
    """host -> (directory, identity) of an attempt that runs there."""
    return {host: (directory, identity) for host, directory, identity, _ in attempts(project, "state = 'running'")}


def hanging(ground: Ground) -> int:
    """Runs that began to go on for ever."""
    return sum(what == "hang" for what, *_ in runs(ground.folder))


def exit_of(control: Path) -> ExitRecord | None:
    file = control / "exit"
    return parse_exit(file.read_text()) if file.exists() else None


def seconds_late(control: Path) -> float:
    """From a run's deadline to its end, by its own job's clock."""
    record = exit_of(control)
    assert record is not None and record.reason == "timeout", record
    (step,) = record.steps
    return step[2] - TIMEOUT


def processes_in(folder: Path) -> list[int]:
    """Processes whose job or work lies below ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in (entry / "cmdline").read_text() or str(entry.joinpath("cwd").readlink()).startswith(
                str(folder)
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


# --- connections that break, all the time --------------------------------------------------------------------


def test_a_campaign_whose_connections_are_cut_every_few_seconds_runs_all_once_and_loses_no_byte(
    ground: Ground,
) -> None:
    seed = int(os.environ.get("RATCHET_CUT_SEED", "24"))
    project = ground.project(here=0, there=2, seconds=2.0, judge=CONFIRMED)
    experiments = max(2, round(CUT_SECONDS / 5))
    engine = Engine(project, experiments=experiments)
    engine.until(lambda: query(project, "SELECT 1 FROM attempt"), "the first trial")
    ground.network.trouble(seed)
    sound = engine.finish()
    ground.network.calm()
    starts = Counter((program, trial) for what, program, trial, _ in runs(ground.folder) if what == "start")
    again = query(project, "SELECT COUNT(*) FROM attempt WHERE number > 1")[0][0]
    size, compared, waited = 0, 0, 0.0
    for host, directory, _, state in attempts(project):
        assert state == "ended"
        control = ground.hosts[host].control(directory)
        there, here = (
            (control / "log").read_bytes(),
            (project / ".ratchet" / directory / "control/log").read_bytes(),
        )
        assert there == here, (host, directory, len(there), len(here))
        size, compared = size + len(there), compared + 1
        ended = query(project, "SELECT ended_at FROM attempt WHERE directory = ?", directory)[0][0]
        waited = max(waited, ended - (control / "exit").stat().st_mtime)
    ways = [host.proxy for host in ground.hosts.values()]
    cuts, refusals = sum(way.cuts for way in ways), sum(way.refusals for way in ways)
    print(f"seed {seed}: {sound}")
    print(
        f"{cuts} cuts, {refusals} refusals; {compared} attempts, {again} second ones, {size} bytes of logs the same"
        f" on both sides; {sum(starts.values()) - len(starts)} second runs; an end was known {waited:.1f} s later"
        " at most"
    )
    assert cuts >= 5 and compared >= 6 and size > 100_000 * compared
    assert not again and set(starts.values()) == {1}
    assert {host for host, *_ in attempts(project)} == {"a", "b"}
    assert {what for what, *_ in runs(ground.folder)} == {"start", "end"}


# --- deadlines ---------------------------------------------------------------------------------------------


def test_a_deadline_is_held_on_a_host_that_is_cut_off_and_the_timeout_is_collected_afterwards(
    ground: Ground,
) -> None:
    project = ground.project(here=0, there=1, seconds=0.5, judge=SINGLE, timeout=TIMEOUT)
    ground.hang.touch()
    engine = Engine(project, experiments=2)
    engine.until(lambda: hanging(ground) == 2, "a candidate on each host")
    found = engine.until(lambda: len(now := running(project)) == 2 and now, "the store to know of both")
    for host in ground.hosts.values():
        ground.network.close(host.proxy)
    engine.until(lambda: not running(project), "both to be unknown")
    controls = {host: ground.hosts[host].control(directory) for host, (directory, _) in found.items()}
    engine.until(lambda: all(exit_of(control) for control in controls.values()), "their own jobs to end them")
    late = {host: seconds_late(control) for host, control in controls.items()}
    assert {state for *_, state in attempts(project, "ended_at IS NULL")} == {"unknown"}, "nobody here knows"
    for host in ground.hosts.values():
        ground.network.open(host.proxy)
    print(engine.finish())
    print(", ".join(f"{host}: ended {seconds:.2f} s after its deadline" for host, seconds in late.items()))
    assert all(0 <= seconds <= GRACE + LATE for seconds in late.values())
    outcomes = query(project, "SELECT outcome FROM trial WHERE purpose <> 'calibrate'")
    assert outcomes == [("timeout",)] * 2


# --- engines that die ---------------------------------------------------------------------------------------


def test_a_killed_engines_trials_on_three_hosts_are_found_again_as_what_they_were(ground: Ground) -> None:
    project = ground.project(here=1, there=1, seconds=2.5, judge=CONFIRMED)
    engine = Engine(project, experiments=0)
    before = engine.until(lambda: len(now := running(project)) == 3 and now, "a trial on each of three hosts")
    engine.kill()
    print(Engine(project, experiments=0).finish())
    ended = {
        (host, directory, identity) for host, directory, identity, state in attempts(project) if state == "ended"
    }
    assert {(host, *rest) for host, rest in before.items()} <= ended, "each came to its end as the process it was"
    outcomes = query(
        project,
        "SELECT t.outcome FROM trial t JOIN attempt a ON a.trial = t.id WHERE a.identity IN (?, ?, ?)",
        *(identity for _, identity in before.values()),
    )
    assert outcomes == [("ok",)] * 3
    print(f"{len(before)} trials on {', '.join(sorted(before))}: all found again, no second attempt")


def test_trials_end_at_their_deadlines_while_no_engine_lives_and_the_next_one_collects_them(
    ground: Ground,
) -> None:
    project = ground.project(here=1, there=1, seconds=0.5, judge=SINGLE, timeout=TIMEOUT)
    ground.hang.touch()
    engine = Engine(project, experiments=3)
    engine.until(lambda: hanging(ground) == 3, "a candidate on each host")
    found = engine.until(lambda: len(now := running(project)) == 3 and now, "the store to know of all three")
    engine.kill()
    places = {name: host.sshd.home for name, host in ground.hosts.items()} | {"local": project / ".ratchet"}
    controls = {
        host: (ground.hosts[host].control(at) if host in ground.hosts else places[host] / at / "control")
        for host, (at, _) in found.items()
    }
    assert all(processes_in(control.parent) for control in controls.values()), "they go on by themselves"
    eventually(lambda: all(exit_of(control) for control in controls.values()), "their own jobs to end them")
    late = {host: seconds_late(control) for host, control in controls.items()}
    eventually(
        lambda: not any(processes_in(control.parent) for control in controls.values()), "no process to be left", 5
    )
    print(Engine(project, experiments=0).finish())
    print(", ".join(f"{host}: ended {seconds:.2f} s after its deadline" for host, seconds in late.items()))
    assert all(0 <= seconds <= GRACE + LATE for seconds in late.values())
    collected = dict(query(project, "SELECT a.identity, t.outcome FROM attempt a JOIN trial t ON t.id = a.trial"))
    assert [collected[identity] for _, identity in found.values()] == ["timeout"] * 3
    assert hanging(ground) == 3 and len(runs(ground.folder)) == 8, "nothing was run again"


# --- a host that is gone ------------------------------------------------------------------------------------


def test_a_host_that_is_cut_off_for_good_holds_nobody_up_and_is_collected_when_it_is_back(ground: Ground) -> None:
    project = ground.project(here=1, there=1, seconds=2.0, judge=SINGLE)
    engine = Engine(project, experiments=6)
    engine.until(lambda: query(project, "SELECT 1 FROM event WHERE kind = 'Calibrated'"), "the calibration")
    dead = ground.hosts["b"]
    directory, identity = engine.until(lambda: running(project).get("b"), "a trial on the host that will die")
    ground.network.close(dead.proxy)
    engine.until(lambda: ("b", "away") in query(project, "SELECT name, state FROM host"), "it to be set aside")
    measured = "SELECT COUNT(*) FROM experiment WHERE verdict IN ('keep', 'discard')"
    before = query(project, measured)[0][0]
    cut = time.monotonic()
    engine.until(lambda: query(project, measured)[0][0] >= before + 3, "verdicts meanwhile")
    seconds = time.monotonic() - cut
    lost = query(project, "SELECT state, number FROM attempt WHERE identity = ?", identity)
    assert lost == [("unknown", 1)], "no evidence is no end"
    assert query(project, "SELECT state FROM campaign") == [("running",)]
    assert exit_of(dead.control(directory)), "there it has ended long ago"
    ground.network.open(dead.proxy)
    print(engine.finish())
    print(f"3 verdicts in {seconds:.1f} s with one host of three cut off")
    collected = query(
        project,
        "SELECT a.state, a.number, t.outcome FROM attempt a JOIN trial t ON t.id = a.trial WHERE a.identity = ?",
        identity,
    )
    assert collected == [("ended", 1, "ok")]


def test_an_engine_is_stopped_while_a_host_is_cut_off_and_the_next_one_collects_what_ran_there(
    ground: Ground,
) -> None:
    project = ground.project(here=1, there=1, seconds=2.0, judge=CONFIRMED)
    engine = Engine(project, experiments=0)
    before = engine.until(lambda: len(now := running(project)) == 3 and now, "a trial on each of three hosts")
    dead = ground.hosts["a"]
    ground.network.close(dead.proxy)
    engine.until(lambda: ("a", "away") in query(project, "SELECT name, state FROM host"), "it to be set aside")
    seconds = engine.stop()
    open_ones = query(project, "SELECT host, identity, state FROM attempt WHERE state NOT IN ('ended', 'lost')")
    assert open_ones == [("a", before["a"][1], "unknown")], "the others have ended and queue again"
    ground.network.open(dead.proxy)
    Engine(project, experiments=0).end()
    print(f"stopped in {seconds:.1f} s with one host of three cut off")
    collected = query(
        project,
        "SELECT a.state, a.number, t.outcome FROM attempt a JOIN trial t ON t.id = a.trial WHERE a.identity = ?",
        before["a"][1],
    )
    assert collected == [("ended", 1, "ok")]
    assert {outcome for (outcome,) in query(project, "SELECT outcome FROM trial")} == {"ok"}
