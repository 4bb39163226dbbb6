"""Before the first turn: the workspace, the host, the proposer and the campaign's rows, or a clear refusal.

Nothing is written to the store before everything that can refuse has been asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import effect
from engine.authors import Authors, refuse_unready
from engine.clock import Clock
from engine.config import Config
from engine.environment import EnvironmentPaths, ensure_environment
from engine.errors import HostFault, RatchetError, UsageError
from engine.fleet import Fleet
from engine.hosts import is_local, make_fleet
from engine.ledger import Ledger
from engine.prices import Prices
from engine.programs import refuse_missing
from engine.runners import Containment, Host
from engine.store import hosting, reading, reading_hosts, writes
from engine.store.core import StoreThread
from engine.store.rows import CampaignRow
from engine.types import Proposer
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.service import Order

DATA_FILES_HASHED = 20_000
PAUSED_BY = "paused by "  # a person's pause outlives the engine; a fault's is tried again at the next start


@dataclass(frozen=True, slots=True)
class Opening:
    """What a conductor is made of."""

    campaign: CampaignRow
    workspace: Workspace
    fleet: Fleet
    proposer: Proposer
    ledger: Ledger
    authors: Authors


def refuse_unsupported(config: Config) -> None:
    """What the file asks for and this version cannot do is an error, never silently less."""
    asked = config.unsupported()
    if asked:
        raise UsageError(
            "ratchet.toml asks for what this version does not do yet: " + "; ".join(asked),
            "take it out, or wait for a version whose CHANGELOG names it",
        )


async def require_git(project: Path) -> None:
    """Raises RatchetError without git, a repository or a first commit: asked before anything is made."""
    from engine.doctor import check_git

    found = await asyncio.to_thread(check_git, project)
    if found.status == "fail":
        raise RatchetError(found.detail, found.mend)


async def open_campaign(
    project: Path,
    state: Path,
    config: Config,
    order: Order,
    store: StoreThread,
    clock: Clock,
    cap: Callable[[], int | None] = lambda: None,
) -> Opening:
    """The campaign that ``order`` means: an existing one goes on, otherwise it is begun.

    ``cap``: nano-dollars that the whole campaign may spend, asked whenever something is spent.
    """
    workspace = await Workspace.open(project, state, clock)
    await workspace.exclude_state()
    environment = EnvironmentPaths()
    if not all(section.ssh for section in config.hosts):
        environment = await ensure_environment(config, project, state, clock)
    if any(is_local(section) for section in config.hosts):
        await refuse_missing(config, project, environment)
    refuse_unready(project, config)
    fleet = make_fleet(
        config, project, state, clock, environment, lambda found: refuse_weak_containment(config, found)
    )
    await recall(fleet, store)
    await fleet.open()
    try:
        campaign = await store.read(reading.campaign, order.campaign)
        if (
            campaign is not None
            and order.campaign is None
            and await store.read(reading.baseline_failed, campaign.id)
        ):
            # Its snapshot can never be measured; what was mended since is in the files, so begin from them.
            await store.write(writes.set_campaign_state, campaign.id, "finished", "its baseline failed")
            campaign = None
        if campaign is None:
            campaign = await _begin(project, state, config, order, store, workspace, environment, clock)
        refuse_other_metric(config, campaign)
        key, spec = await protocol_spec(config, workspace, campaign.baseline_sha, fleet)
        await store.write(
            writes.open_protocol,
            campaign.id,
            key,
            json.dumps(spec),
            hashlib.sha256(config.text.encode()).hexdigest(),
            config.text,
            "the campaign's first protocol" if not campaign.protocol else "measurement changed since the last run",
        )
        await workspace.hold(campaign.name, "baseline", campaign.baseline_sha)
        await _check_branch(campaign, workspace, store)
        if campaign.state != "running" and not campaign.pause_reason.startswith(PAUSED_BY):
            await store.write(writes.set_campaign_state, campaign.id, "running", by="engine start")
        found = await store.read(reading.campaign, campaign.name)
        assert found is not None
        ledger = Ledger(store, found.id, Prices.load(config.prices), cap)
        await ledger.recover()
        authors = Authors(project, state, workspace, store, found, ledger, clock)
        return Opening(found, workspace, fleet, authors.make(config), ledger, authors)
    except BaseException:
        await fleet.close()
        raise


async def recall(fleet: Fleet, store: StoreThread) -> None:
    """What people said of the hosts before; refused when one is gone on which trials may still run."""
    for name, trial in (await store.read(reading_hosts.open_hosts)).items():
        if not fleet.knows(name):
            raise UsageError(
                f"trial {trial} may still run on host {name!r}, which ratchet.toml does not name any more",
                "put that [[hosts]] back until `ratchet stop` has ended its trials",
            )
    for row in await store.read(reading_hosts.hosts):
        fleet.restore(row.name, row.drained, row.lent)
    await store.write(hosting.forgotten, {post.name for post in fleet.posts})


async def _begin(
    project: Path,
    state: Path,
    config: Config,
    order: Order,
    store: StoreThread,
    workspace: Workspace,
    environment: EnvironmentPaths,
    clock: Clock,
) -> CampaignRow:
    name = order.campaign or await _free_name(workspace, clock)
    snapshot = await workspace.snapshot(committed=order.committed, message=f"ratchet: baseline of {name}")
    if any(is_local(section) for section in config.hosts):
        await prove_effect(project, config, workspace, environment, snapshot, store, clock)
    else:
        await store.write(
            writes.warn,
            None,
            "that edits reach the run is not proved: no host of this campaign is this machine",
            "`ratchet doctor` proves it where the training command runs here too",
        )
    seed = order.seed if order.seed is not None else secrets.randbelow(2**31)
    await store.write(writes.create_campaign, name, config.metric.name, str(config.metric.goal), seed, snapshot)
    found = await store.read(reading.campaign, name)
    assert found is not None
    return found


async def _free_name(workspace: Workspace, clock: Clock) -> str:
    """Today's date, as the field names its branches (``mar8``); numbered when taken."""
    day = datetime.fromtimestamp(clock.now(), UTC)
    base = f"{day:%b}{day.day}".lower()
    name, number = base, 1
    while await workspace.head(name) is not None or await workspace.branch(name) is not None:
        number += 1
        name = f"{base}-{number}"
    return name


async def _check_branch(campaign: CampaignRow, workspace: Workspace, store: StoreThread) -> None:
    """The store is the truth; a ref that was moved behind its back is said before anything is built on it."""
    head = await workspace.head(campaign.name)
    if head is None:
        await workspace.advance(campaign.name, None, campaign.head)
    elif head == await store.read(reading.stepped_back_from, campaign):
        await workspace.advance(campaign.name, head, campaign.head)
    elif head != campaign.head and not await store.read(reading.merge_under_way, campaign.id):
        raise RatchetError(
            f"refs/ratchet/{campaign.name}/head is at {head[:12]}, the store says {campaign.head[:12]}",
            f"`git update-ref refs/ratchet/{campaign.name}/head {campaign.head}` puts it back",
        )


def refuse_other_metric(config: Config, campaign: CampaignRow) -> None:
    if (config.metric.name, str(config.metric.goal)) != (campaign.metric, campaign.goal):
        raise UsageError(
            f"campaign {campaign.name} {campaign.goal}s {campaign.metric}; ratchet.toml now says"
            f" {config.metric.goal} {config.metric.name}",
            "begin another campaign with --campaign NAME, or put [metric] back",
        )


def refuse_weak_containment(config: Config, found: Containment) -> None:
    """Fail closed (TRUST.md row 11): what is required must have been proved on this host."""
    wanted = config.sandbox.kind
    if wanted not in ("auto", found.kind):
        raise HostFault(
            f'[sandbox] kind = "{wanted}" is not to be had here; this host proved {found.kind}: {found.proof}',
            'write kind = "auto", or see `ratchet doctor`',
        )
    missing = [need for need in config.sandbox.require if need != "processes"]
    if missing:
        raise UsageError(
            f"[sandbox] require = {list(config.sandbox.require)}: this version contains processes only",
            'write require = ["processes"]',
        )
    if "processes" in config.sandbox.require and found.kind == "sweep":
        why = "; ".join(f"{kind}: {reason}" for kind, reason in found.refused.items())
        raise HostFault(
            f"no process containment on this host ({why})",
            found.mend
            or "install util-linux with user namespaces allowed, or write [sandbox] require = []: a process that"
            " escapes then outlives its run",
        )


# --- what makes scores comparable ------------------------------------------------------------------------


async def protocol_spec(
    config: Config, workspace: Workspace, baseline: str, fleet: Fleet
) -> tuple[str, dict[str, Any]]:
    """The protocol's key and its spec: measurement settings, hashes of frozen files and data, device kind."""
    frozen = await workspace.files(baseline, config.project.frozen)
    spec = {
        "measurement": config.measurement(),
        "frozen": {path: hashlib.sha256(content).hexdigest() for path, content in sorted(frozen.items())},
        "data": await asyncio.to_thread(_data_hash, workspace.project, config),
        **(_of_one(config, fleet.posts[0].host) if fleet.alone else {"gpus": config.trial.gpus}),
    }
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest(), spec


def _of_one(config: Config, host: Host) -> dict[str, Any]:
    """Of several hosts one may be away: there each run's own fingerprint keeps scores apart, not the protocol."""
    shared = config.hosts[0].trials_per_device
    return {
        "devices": sorted({d.name for d in host.devices}) or ["cpu"],
        "gpus": config.trial.gpus if host.devices else 0,
        "containment": host.containment.kind,
        "capacity": host.capacity,
        # Only where it is used: protocols of before stay what they are.
        **({"trials_per_device": shared} if shared > 1 and host.devices else {}),
    }


def _data_hash(project: Path, config: Config) -> str:
    """Names and sizes of the data files: contents may be terabytes, a changed shard changes its size."""
    digest = hashlib.sha256()
    for entry in sorted(config.data.visible):
        root = Path(entry).expanduser()
        root = root if root.is_absolute() else project / root
        for count, (name, size) in enumerate(_listing(root)):
            if count >= DATA_FILES_HASHED:
                break
            digest.update(f"{entry}\0{name}\0{size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _listing(root: Path) -> Iterator[tuple[str, int]]:
    if root.is_file():
        yield "", root.stat().st_size
        return
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            try:
                yield path.relative_to(root).as_posix(), path.stat().st_size
            except OSError:
                continue


# --- proof of effect -------------------------------------------------------------------------------------


async def prove_effect(
    project: Path,
    config: Config,
    workspace: Workspace,
    environment: EnvironmentPaths,
    snapshot: str,
    store: StoreThread,
    clock: Clock,
) -> None:
    """A campaign starts only when edits reach the run: else every candidate would be the baseline."""
    found = await effect.prove_project(project, config, workspace, environment, snapshot, clock)
    refused = effect.refusal(found)
    if refused:
        raise RatchetError(refused, "mend it as said above, then start again; `ratchet doctor` shows this proof")
    for one in found:
        if not one.reached:
            await store.write(
                writes.warn, None, f"edits of {one.path} do not reach the run: {one.evidence}", one.mend
            )
