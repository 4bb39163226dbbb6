"""The proposer that is Claude: a tool-using conversation, streamed as it happens, each request paid for first.

The package ``anthropic`` takes a second to import, so it is, with its client, made in a thread when first needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.clock import Clock
from engine.errors import RatchetError
from engine.prompting import Prompt, PromptSet, render
from engine.proposers.conversation import Conversation
from engine.proposers.exchange import Exchange
from engine.proposers.faults import Fault
from engine.proposers.first_event import FirstEvent
from engine.proposers.redaction import Redaction
from engine.proposers.requests import cache_ttl, opening
from engine.proposers.tools import Tools
from engine.scope import Scope
from engine.types import Brief, Message, NoProposal, Proposal, ProposerEvent, Purse, Records, StreamText

if TYPE_CHECKING:
    from engine.config_sections import ProposerSection

CONNECT_SECONDS = 30.0


@dataclasses.dataclass(slots=True)
class _Open:
    """What was made with one key: its client, and what removes that key from all that goes out."""

    client: Any
    exchange: Exchange
    redaction: Redaction
    valid: bool = True  # False once the service refused the key


class ClaudeProposer:
    """One for all drafts of an engine; ``aclose`` when it ends.

    ``key`` may block (a command that prints it) and is asked in a thread, once, and again after the service
    refused what it gave. Outcomes of NoProposal: refused, cut off, over budget, rate limited, overloaded,
    invalid edit, gave up, no change, duplicate, timed out, failed.
    """

    name = "claude"

    def __init__(
        self,
        settings: ProposerSection,
        key: Callable[[], str],
        purse: Purse,
        records: Records,
        scope: Scope,
        prompts: PromptSet,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._settings, self._key, self._purse = settings, key, purse
        self._records, self._scope = records, scope
        self.prompts = prompts  # replaced when a person edits them: the next draft is written with the new ones
        self._clock, self._rng = clock, rng
        self._gate = FirstEvent(clock)
        self._opening = asyncio.Lock()
        self._opened: list[_Open] = []

    def __repr__(self) -> str:
        return f"ClaudeProposer({self._settings.model!r})"

    async def aclose(self) -> None:
        """Close every connection. Drafts that still run are cancelled before this."""
        opened, self._opened = self._opened, []
        for one in opened:
            with contextlib.suppress(Exception):
                await one.client.close()

    async def propose(self, brief: Brief) -> AsyncGenerator[ProposerEvent, None]:
        """Stream the work on one proposal; the last event is a Proposal or a NoProposal."""
        try:
            opened = await self._open()
            written = await asyncio.to_thread(render, brief, self.prompts, self._settings.brief_tokens)
        except RatchetError as fault:
            yield NoProposal("failed", Redaction().text(fault.message), fault.mend)
            return
        if (nothing := _unworkable(brief, self._scope)) is not None:
            yield nothing
            return
        redaction = opened.redaction
        prompt = _redacted(written, redaction)
        ttl = cache_ttl(brief.trial_seconds, self._settings.without)
        yield Message("system", prompt.system)
        yield Message("user", opening(prompt))
        models = list(dict.fromkeys((self._settings.model, *self._settings.fallback_models)))
        refusals = 0
        while True:
            model = models.pop(0)
            tools = Tools(brief, self._records, self._scope, self._settings.without)
            conversation = Conversation(
                opened.exchange, tools, prompt, self._settings, model, brief.experiment, ttl, redaction
            )
            ended: Proposal | Fault | None = None
            async with contextlib.aclosing(conversation.run()) as events:
                async for event in events:
                    if isinstance(event, StreamText | Message):
                        yield event
                    else:
                        ended = event
            if isinstance(ended, Proposal):
                yield _redacted_proposal(ended, redaction)
                return
            assert ended is not None
            refusals += ended.outcome == "refused"
            if models and (ended.outcome == "overloaded" or (ended.outcome == "refused" and refusals == 1)):
                why = redaction.text(ended.message)
                yield StreamText("tool", f"{why}; asking {models[0]} instead\n")
                yield Message(
                    "note", {"type": "note", "what": "fell back", "from": model, "to": models[0], "why": why}
                )
                continue
            if ended.status == 401:
                opened.valid = False
            yield NoProposal(ended.outcome, redaction.text(ended.message), redaction.text(ended.mend))
            return

    async def _open(self) -> _Open:
        """The client, made once. Raises RatchetError when there is no key, or no package."""
        async with self._opening:
            if not self._opened or not self._opened[-1].valid:
                key, client = await asyncio.to_thread(self._connect)
                redaction = Redaction(key)
                exchange = Exchange(
                    client,
                    self._purse,
                    self._clock,
                    self._rng,
                    self._gate,
                    redaction,
                    self._settings.stall_seconds,
                )
                self._opened.append(_Open(client, exchange, redaction))
            return self._opened[-1]

    def _connect(self) -> tuple[str, Any]:
        """In a thread: importing and reading certificates take a second."""
        settings = self._settings
        key = self._key_or_none()
        try:
            import anthropic
        except ImportError as fault:
            raise RatchetError(
                f"the package anthropic cannot be imported: {fault}", 'install it: pip install "anthropic>=2.11"'
            ) from fault
        client = anthropic.AsyncAnthropic(
            api_key=key or "none",
            base_url=settings.base_url or None,
            default_headers=dict(settings.headers),
            max_retries=0,
            # Reading has no limit here: the watchdog counts what means something, and pings do not.
            timeout=anthropic.Timeout(None, connect=CONNECT_SECONDS),
            open_telemetry=False,
        )
        _ = client.messages  # imports its resources
        return key, client

    def _key_or_none(self) -> str:
        """A server of one's own may need no key; the service does. Raises RatchetError."""
        settings = self._settings
        try:
            key = self._key().strip()
        except RatchetError:
            if not settings.base_url or settings.key_file or settings.key_command:
                raise
            return ""
        if not key and not settings.base_url:
            raise RatchetError(
                "there is no API key", "set ANTHROPIC_API_KEY, or give [proposer] key_file or key_command"
            )
        return key


def _unworkable(brief: Brief, scope: Scope) -> NoProposal | None:
    """Asked before any money is spent: whether there is a file at all that Claude could read and change."""
    refused = []
    for path, content in sorted(brief.files.items()):
        if scope.check(path) is None:
            try:
                content.decode("utf-8")
            except UnicodeDecodeError:
                refused.append(path)
            else:
                return None
    why = f"{', '.join(refused[:5])} cannot be read as UTF-8 text" if refused else "no regular file matches"
    return NoProposal(
        "failed",
        f"there is nothing to edit: {why} ([project] edit = {', '.join(brief.editable)})",
        "name files under [project] edit that are UTF-8 text and tracked by git; a symbolic link is not followed",
    )


def _redacted(prompt: Prompt, redaction: Redaction) -> Prompt:
    """A key in a log or a file is nobody's to send; the same text each time, so that the cache still holds."""
    return dataclasses.replace(
        prompt,
        system=redaction.text(prompt.system),
        history=tuple(redaction.text(text) for text in prompt.history),
        files=redaction.text(prompt.files),
        task=redaction.text(prompt.task),
    )


def _redacted_proposal(proposal: Proposal, redaction: Redaction) -> Proposal:
    words: Mapping[str, str] = {
        name: redaction.text(getattr(proposal, name))
        for name in ("title", "hypothesis", "expected_effect", "refuted_by", "kind")
    }
    return dataclasses.replace(proposal, **words)  # type: ignore[arg-type]
