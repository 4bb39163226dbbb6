"""The containment ladder believes only what it has tried."""

from __future__ import annotations

import os

import pytest

from engine import sandbox
from engine.clock import RealClock
from engine.sandbox import Rung


async def test_a_rung_that_does_not_hold_is_refused_and_the_sweep_is_proved() -> None:
    """setsid alone contains nothing: this is what a probe that merely looked for a command would miss."""
    found = await sandbox.climb(RealClock(), [Rung("unshare", ("/usr/bin/env",), dies_with_job=False)])
    assert found.kind == "sweep" and found.wrap == ()
    assert "outlived" in found.refused["unshare"] and "killed" in found.proof


async def test_a_rung_that_is_forbidden_or_missing_says_why() -> None:
    ladder = [
        Rung("unshare", ("unshare", "--no-such-option", "--"), dies_with_job=False),
        Rung("other", ("/no/such/program",), dies_with_job=False),
    ]
    found = await sandbox.climb(RealClock(), ladder)
    assert found.kind == "sweep"
    assert "unshare" in found.refused["unshare"] and "no/such" in found.refused["other"]


async def test_the_probe_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_found", None)
    first = await sandbox.probe(RealClock())

    async def never(*_: object) -> None:
        raise AssertionError("probed again")

    monkeypatch.setattr(sandbox, "climb", never)
    assert await sandbox.probe(RealClock()) is first
    print(first.kind, "|", first.proof, "|", dict(first.refused))
    assert "\n" not in first.proof
    assert all(word.startswith(("/", "-")) or word == "KILL" for word in first.wrap)


@pytest.mark.parametrize("user", ["--map-current-user", "--map-root-user"])
@pytest.mark.parametrize("mount", [True, False])
async def test_a_namespace_contains_an_unprivileged_user_too(user: str, mount: bool) -> None:
    """As nobody, where the tests run as root: most users of this tool are not."""
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")
    rungs = [r for r in sandbox.LADDER if user in r.argv and ("--mount-proc" in r.argv) == mount]
    if os.geteuid() == 0:
        rungs = [Rung(r.kind, (*nobody, *r.argv), r.dies_with_job) for r in rungs]
    found = await sandbox.climb(RealClock(), rungs)
    if found.kind == "sweep" and "not permitted" in found.refused["unshare"]:
        pytest.skip("this machine forbids user namespaces")
    assert found.kind == "unshare", found.refused
    assert user in found.wrap


async def test_devices_stay_visible_inside() -> None:
    """CUDA needs the nodes of /dev."""
    found = await sandbox.probe(RealClock())
    host = sandbox.LocalTransport(RealClock())
    listing = ["/bin/sh", "-c", "ls /dev"]
    assert (await host.run([*found.wrap, *listing])).stdout == (await host.run(listing)).stdout
