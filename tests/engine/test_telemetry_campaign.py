"""Real engines over scripted devices, here and over a real sshd: runs of seconds get their joules, on the ledger too."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from tests.console.ratchet_command import data, well
from tests.engine.engine_process import assert_sound, finish, output, query
from tests.engine.fake_nvidia_smi import FakeNvidiaSmi
from tests.engine.runners.sshd import serve
from tests.project_factory import git, make_project

pytestmark = pytest.mark.slow
WATTS = 500.0


def devices(folder: Path) -> FakeNvidiaSmi:
    smi = FakeNvidiaSmi(folder / "smi", seconds=1.0)
    mark = f"GPU-{os.getpid()}-{folder.name}"  # locks are the machine's: no other test has these
    told = f"NVIDIA H100 80GB HBM3, 90, 71000, 81559, {WATTS}, 88, 1200, 0x0000000000000060"
    smi.show(*(f"{mark}-{n}, {told}" for n in range(2)))
    return smi


@pytest.mark.parametrize("sort", ["local", "ssh"])
def test_a_run_of_seconds_has_its_joules_in_the_store_on_the_ledger_and_in_status(
    tmp_path: Path, sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = devices(tmp_path)
    with contextlib.ExitStack() as stack:
        host = '[[hosts]]\nname = "box"\nusd_per_hour = 3.6\n'
        if sort == "ssh":
            sshd = stack.enter_context(contextlib.contextmanager(serve)(tmp_path / "sshd"))
            sshd.login = smi.login()
            sshd.start()
            host += f'ssh = "{" ".join(sshd.client())} box"\ndirectory = "~/trials"\n'
        else:
            monkeypatch.setenv("PATH", f"{smi.bin}{os.pathsep}{os.environ['PATH']}")
        project = make_project(tmp_path, seconds=3.0, judge="calibrate_seeds = 2")
        config = project / "ratchet.toml"
        text = config.read_text().replace("[[hosts]]\nslots = 2\n", host)
        config.write_text(f"{text}[limits]\ndollars = 5.0\n")
        git(project, "commit", "-aqm", "devices")
        assert finish(project, experiments=0) == 0, output(project)
        print(assert_sound(tmp_path, project))
        scores = query(
            project,
            "SELECT t.id, t.seconds, t.detail, s.name, s.value FROM trial t JOIN score s ON s.trial = t.id"
            " WHERE s.source = 'engine'",
        )
        runs = {trial: (seconds, detail) for trial, seconds, detail, *_ in scores}
        found = {(trial, name): value for trial, *_, name, value in scores}
        assert len(runs) == 2
        for trial, (seconds, detail) in runs.items():
            assert found[trial, "device_seconds"] == pytest.approx(seconds)
            assert found[trial, "joules"] == pytest.approx(WATTS * seconds, rel=0.001)
            assert found[trial, "utilisation"] == pytest.approx(90) and found[trial, "throttled"] == 1.0
            assert "clocks held down by heat or power for 100% of the run" in detail
        booked = [
            json.loads(usage) for (usage,) in query(project, "SELECT usage FROM spend WHERE kind = 'device'")
        ]
        assert sorted(one["joules"] for one in booked) == pytest.approx(
            sorted(value for (_, name), value in found.items() if name == "joules")
        )
        used = data("status", at=project)["used"]
        assert (used["trials"], used["metered"]) == (2, 2) and used["joules"] == pytest.approx(
            WATTS * used["device_seconds"], rel=0.001
        )
        assert " device hours in 2 runs, " in well("status", at=project)
        shown = well("hosts", at=project)
        assert "gpu0: 90 % busy, 69.3/80 GB, 500 W, 88 C, 1200 MHz, clocks held down: thermal" in shown
        (host_shape,) = data("hosts", at=project)
        assert [one["throttle"] for one in host_shape["readings"]] == [["thermal"]] * 2
