"""What [storage] keep_artifacts promises, on a real campaign's folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.clock import RealClock
from engine.config import Config, load
from engine.fleet import single
from engine.runners.local import LocalHost
from engine.store import reading
from engine.store.core import Store, StoreThread
from engine.upkeep import Upkeep
from tests.engine.engine_process import finish, output
from tests.project_factory import make_project


@pytest.mark.slow
async def test_discarded_candidates_lose_their_files_and_keep_their_logs(tmp_path: Path) -> None:
    project = make_project(tmp_path, seconds=0.1)
    assert finish(project, experiments=4) == 0, output(project)
    state = project / ".ratchet"
    host = LocalHost("local", state, RealClock())
    fleet = single(host, RealClock(), state, project)
    await fleet.open()
    store = StoreThread(Store(state / "store.db", RealClock()), inline=True)
    store.store.take_over("here", "boot", 1)
    campaign = reading.campaign(store.store.conn)
    assert campaign is not None
    kept = {e.candidate for e in reading.experiments(store.store.conn, campaign.id) if e.commit}
    trials = reading.trials(store.store.conn, campaign.id)
    assert kept and any(t.version not in (*kept, campaign.baseline) for t in trials)

    async def tidy(policy: str) -> int:
        config = load(project)
        storage = config.storage.model_copy(update={"keep_artifacts": policy})
        changed: Config = config.model_copy(update={"storage": storage})
        conductor = cast(Any, SimpleNamespace(campaign=campaign))
        return await Upkeep(conductor, store, fleet, state, lambda: changed).tidy()

    def with_files() -> set[int]:
        return {t.version for t in trials if t.directory and (state / t.directory / "work").exists()}

    assert await tidy("all") == 0
    assert await tidy("kept") >= 1
    assert with_files() == kept | {campaign.baseline}
    assert await tidy("kept") == 0, "once is enough"
    await tidy("none")
    assert with_files() == set()
    logs = [state / t.directory / "control" / "log" for t in trials if t.directory]
    assert logs and all(log.exists() for log in logs)
    await fleet.close()
    store.close()
