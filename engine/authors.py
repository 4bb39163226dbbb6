"""Makes the proposer that ratchet.toml names, with what it needs: for Claude a key, a purse, records, prompts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine import api_key
from engine.clock import Clock
from engine.config import Config
from engine.errors import ConfigError, Fenced, UsageError
from engine.ledger import Ledger
from engine.prices import Prices
from engine.proposers.command import CommandProposer
from engine.proposers.search import SearchProposer
from engine.records import StoreRecords
from engine.scope import Scope
from engine.store import writes
from engine.store.core import StoreThread
from engine.store.rows import CampaignRow
from engine.types import Proposer
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.conductor import Conductor
    from engine.prompt_templates import PromptSet


class Authors:
    """One engine's proposers: the present one, and those before it whose drafts may still be at work."""

    def __init__(
        self,
        project: Path,
        state: Path,
        workspace: Workspace,
        store: StoreThread,
        campaign: CampaignRow,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._project, self._state = project, state
        self._workspace, self._store = workspace, store
        self._campaign, self._ledger, self._clock = campaign, ledger, clock
        self._made: list[tuple[Proposer, Path | None]] = []  # with the directory of its prompts
        self._another = asyncio.Event()

    def make(self, config: Config) -> Proposer:
        """Raises ConfigError for prompts that do not pass, UsageError without a key."""
        kind = config.proposer.kind
        if kind == "command":
            workspace = self._workspace
            made: Proposer = CommandProposer(
                config.proposer.command,
                lambda directory, base: workspace.changes_in(Path(directory), base),
                self._clock,
                environment=config.environment.pass_,
            )
        elif kind == "claude":
            made = self._claude(config)
        else:
            made = SearchProposer(config.proposer.ranges)
        self._made.append((made, prompts_directory(self._project, config)))
        self._another.set()
        return made

    def _claude(self, config: Config) -> Proposer:
        from engine.proposers.claude import ClaudeProposer

        settings = config.proposer
        return ClaudeProposer(
            settings,
            lambda: api_key.find(settings, self._project),
            self._ledger,
            StoreRecords(self._store, self._campaign, self._state),
            Scope(tuple(config.project.edit), tuple(config.project.frozen)),
            load_prompts(prompts_directory(self._project, config)),
            self._clock,
            random.Random(),
        )

    async def watch_prompts(self, config: Callable[[], Config], conductor: Conductor) -> None:
        """Take up prompts as people edit them, in whichever directory ``config`` names by then.

        What does not pass is said, and the last good ones stay.
        """
        while True:
            self._another.clear()
            directory = prompts_directory(self._project, config())
            following = None
            if config().proposer.kind == "claude" and directory is not None:
                following = asyncio.create_task(self._follow(directory, conductor))
            try:
                await self._another.wait()
            finally:
                if following is not None:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, directory: Path, conductor: Conductor) -> None:
        from engine.prompt_watching import PromptWatcher

        mine = [made for made, place in self._made if made.name == "claude" and place == directory]
        try:
            watcher = PromptWatcher(directory, mine[-1].prompts)  # type: ignore[attr-defined]
            async with contextlib.aclosing(watcher.updates()) as updates:
                async for news in updates:
                    if isinstance(news, ConfigError):
                        said = f"prompts are not taken up: {news.message}"
                        await self._store.write(writes.warn, self._campaign.id, said, news.mend)
                        continue
                    for made in mine:
                        made.prompts = news  # type: ignore[attr-defined]
                    conductor.wake()
        except Fenced:
            raise
        except Exception as fault:
            said = f"{directory} is not watched: {fault}"
            await self._store.write(writes.warn, self._campaign.id, said, "restart to take up changes of prompts")

    async def close(self) -> None:
        api_key.give_up()
        for made, _ in self._made:
            close = getattr(made, "aclose", None)
            if close is not None:
                await close()


def prompts_directory(project: Path, config: Config) -> Path | None:
    return project / config.proposer.prompts if config.proposer.prompts else None


def load_prompts(directory: Path | None) -> PromptSet:
    """The packaged prompts, or a project's own in their place. Raises ConfigError naming file, line, variable."""
    from engine.prompt_templates import PromptSet

    return PromptSet.load(directory)


def refuse_unready(project: Path, config: Config) -> None:
    """What Claude needs and does not have, before a campaign is begun: a key, a price, prompts that pass.

    Raises UsageError, UnknownPrice or ConfigError.
    """
    settings = config.proposer
    if settings.kind != "claude":
        return
    if config.limits.dollars is None:
        raise UsageError(
            "[limits] dollars is missing: Claude spends money",
            'give a limit, e.g. dollars = 20.0, or dollars = "unlimited"',
        )
    load_prompts(prompts_directory(project, config))
    prices = Prices.load(config.prices)
    for model in (settings.model, *settings.fallback_models):
        prices.worst(model, 1, 1, "")
    if not settings.base_url:
        api_key.find(settings, project)
