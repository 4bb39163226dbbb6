"""`ratchet doctor` on hosts elsewhere: over a real sshd, and what it makes of answers that it does not like."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from engine.clock import RealClock
from engine.config import parse
from engine.host_checks import answers, check_hosts, lingering
from engine.runners.transport import Completed
from tests.engine.runners.sshd import serve

CONFIG = (
    '[metric]\nname = "x"\n[trial]\ncommand = "python3 train.py"\n[[hosts]]\nname = "far"\nssh = "{ssh}"\n{more}'
)


@pytest.mark.slow
async def test_a_host_over_ssh_is_looked_at_and_a_dead_one_says_why(tmp_path: Path) -> None:
    with contextlib.contextmanager(serve)(tmp_path / "sshd") as sshd:
        sshd.start()
        config = parse(CONFIG.format(ssh=f"{' '.join(sshd.client())} box", more='directory = "~/trials"\n'))
        found = {check.name: check for check in await check_hosts(config, tmp_path, RealClock())}
        print(found)
        names = ("shell", "disk", "clock", "logout", "devices", "kernel", "containment")
        assert set(found) == {f"far: {name}" for name in names}
        assert found["far: shell"].status == "ok" and abs(offset(found["far: clock"].detail)) < 5
        assert not (sshd.home / "trials").exists(), "looking leaves nothing behind"
        sshd.stop()
        (dead,) = await check_hosts(config, tmp_path, RealClock())
        assert (dead.name, dead.status) == ("far: connection", "fail") and dead.detail


def offset(detail: str) -> float:
    found = re.match(r"([-+.\d]+) s", detail)
    assert found, detail
    return float(found[1])


async def test_data_of_the_project_needs_a_place_there(tmp_path: Path) -> None:
    config = parse('[data]\nlink = ["data/"]\n' + CONFIG.format(ssh="box", more=""))
    (found,) = await check_hosts(config, tmp_path, RealClock())
    assert found.status == "fail" and 'project = "~/my-project"' in found.mend


def answer(*words: str) -> Completed:
    return Completed(0, ("motd\n\0" + "\0".join(words) + "\0").encode(), b"")


def test_missing_commands_full_disks_and_wrong_clocks_are_findings() -> None:
    checks = answers("far", "~/r", answer("1000.0", " flock", "500", "yes", "no", "b true", "all"), 2000.0)
    by_name = {check.name.removeprefix("far: "): check for check in checks}
    assert by_name["shell"].status == "fail" and "flock" in by_name["shell"].detail
    assert by_name["disk"].status == "fail" and by_name["clock"].status == "warn"
    assert by_name["logout"].status == "warn" and "enable-linger" in by_name["logout"].mend
    fine = answers("far", "~/r", answer("2000.0", "", "900000000", "yes", "yes", "b true", "all"), 2000.5)
    assert {check.status for check in fine} == {"ok"}
    (nothing,) = answers("far", "~/r", Completed(1, b"Welcome!", b"no shell for you"), 0.0)
    assert nothing.status == "fail" and "no shell for you" in nothing.detail


def test_without_logind_nothing_ends_processes() -> None:
    assert lingering("logout", "", "").status == "ok" and lingering("logout", "no", "b false").status == "ok"
