"""One conversation with one model, from the brief to a submitted proposal. Append-only: nothing sent changes.

Tools run only after a whole response that stopped in order to call them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from engine.proposers.exchange import Answer, Exchange, ToolCall
from engine.proposers.faults import Fault
from engine.proposers.redaction import Redaction
from engine.proposers.requests import Block, Turn, build
from engine.proposers.showing import headline
from engine.proposers.tool_definitions import EDITOR, OWN_EDITOR
from engine.proposers.tools import Tools
from engine.types import Message, Proposal, StreamText

if TYPE_CHECKING:
    from engine.config_sections import ProposerSection
    from engine.prompting import Prompt

WARN_LEFT = 3  # requests left when the model is told so

REMINDER = (
    "You ended your turn without submitting. If the change is ready, submit it now; if not, finish it and then "
    "submit. A proposal exists only once it is submitted."
)
CUT_OFF = (
    "Your answer was cut off at the limit of output tokens, and nothing of an unfinished tool call was done. "
    "Continue, and be brief: think less, and prefer small replacements to whole files."
)
NOT_WHOLE = "The input of this call was no complete JSON object, so nothing was done. Call the tool again."


class Conversation:
    def __init__(
        self,
        exchange: Exchange,
        tools: Tools,
        prompt: Prompt,
        settings: ProposerSection,
        model: str,
        experiment: int,
        ttl: str,
        redaction: Redaction,
    ) -> None:
        self._exchange, self._tools, self._prompt, self._settings = exchange, tools, prompt, settings
        self._model, self._experiment, self._ttl = model, experiment, ttl
        self._redaction = redaction
        self._turns: list[Turn] = []
        self._reminded = self._was_cut = False
        self._refused = ("", "")  # outcome, words: of the last edit or submission, when that was refused

    async def run(self) -> AsyncGenerator[StreamText | Message | Proposal | Fault, None]:
        """The last event is a Proposal, or the Fault that ended it. At most ``requests`` requests."""
        definitions = self._tools.definitions()
        for number in range(1, self._settings.requests + 1):
            kwargs = build(
                self._prompt,
                definitions,
                self._turns,
                model=self._model,
                effort=self._settings.effort,
                max_tokens=self._settings.max_tokens,
                without=self._settings.without,
                ttl=self._ttl,
            )
            ended: Answer | Fault | None = None
            async with aclosing(self._exchange.ask(self._experiment, kwargs, self._ttl)) as events:
                async for event in events:
                    if isinstance(event, StreamText | Message):
                        yield event
                    else:
                        ended = event
            if not isinstance(ended, Answer):
                assert ended is not None
                yield ended
                return
            yield self._said(ended)
            if (fault := self._final(ended)) is not None:
                yield fault
                return
            left = self._settings.requests - number
            async with aclosing(self._reply(ended, left)) as replies:
                async for reply in replies:
                    yield reply
            if self._tools.submitted:
                yield self._tools.proposal(ended.model)
                return
        yield self._gave_up(f"{self._settings.requests} requests brought no submitted proposal")

    def _final(self, answer: Answer) -> Fault | None:
        """Why the conversation ends with this response, if it does."""
        stop = answer.stop_reason
        if stop == "refusal":
            category = f" ({answer.category})" if answer.category else ""
            mend = "name another model under [proposer] fallback_models, or reword what the project says of itself"
            return Fault("refused", f"{answer.model} refused{category}", mend)
        if stop == "model_context_window_exceeded":
            return Fault("cut off", f"the context window of {answer.model} is full", "make brief_tokens smaller")
        if stop == "max_tokens" and self._was_cut:
            words = f"twice more than {self._settings.max_tokens} tokens of output"
            return Fault("cut off", words, "raise [proposer] max_tokens, or lower effort")
        if stop not in ("max_tokens", "pause_turn", "tool_use") and self._reminded:
            return self._gave_up("the model ended its turn twice without submitting")
        return None

    def _gave_up(self, words: str) -> Fault:
        outcome, said = self._refused
        return Fault(outcome or "gave up", f"{words}; the last refusal: {said}" if said else words)

    async def _reply(self, answer: Answer, left: int) -> AsyncGenerator[StreamText | Message, None]:
        """Append the response and what is said to it; empty after ``pause_turn``, which goes on by itself."""
        content = _replayed(answer)
        if content:
            self._turns.append({"role": "assistant", "content": content})
        if answer.stop_reason == "pause_turn":
            return
        called = [block["id"] for block in content if block["type"] == "tool_use"]
        calls = {call.id: call for call in answer.calls}
        said: list[Block] = []
        shown: list[Block] = []
        if answer.stop_reason == "tool_use" and called:
            for one in called:
                result, seen, texts = await self._run(calls[one])
                said.append(result)
                shown.append(seen)
                for text in texts:
                    yield text
                if self._tools.submitted:
                    break  # what is called after submitting changes nothing any more
            if left <= WARN_LEFT:
                said.append(_text(f"Requests left for this proposal: {left}. Submit before they are used up."))
        elif answer.stop_reason == "max_tokens":
            self._was_cut = True
            said += [_result(one, CUT_OFF, True) for one in called]
            said.append(_text(CUT_OFF))
        else:
            self._reminded = True
            said += [_result(one, NOT_WHOLE, True) for one in called]
            said.append(_text(REMINDER))
        self._turns.append({"role": "user", "content": said})
        yield Message("user", self._redaction.data([*shown, *said[len(shown) :]]))

    async def _run(self, call: ToolCall) -> tuple[Block, Block, list[StreamText]]:
        """One call's result: as it is sent, as it is kept, and as it is watched."""
        if call.input is None:
            text, failed, label, outcome = (
                NOT_WHOLE,
                True,
                f"refused: {call.name} with half an input",
                "invalid edit",
            )
        else:
            result = await self._tools.run(call.name, call.input)
            text, label = self._redaction.text(result.text), self._redaction.text(result.label)
            failed, outcome = result.is_error, result.outcome
        if _changes(call):
            self._refused = (outcome, label) if failed else ("", "")
        sent = _result(call.id, text, failed)
        # The line that named the call is on the screen already.
        news = label and label != self._redaction.text(headline(call.name, call.input or {}))
        return sent, {**sent, "label": label}, [StreamText("tool", f"  {label}\n")] if news else []

    def _said(self, answer: Answer) -> Message:
        """The response for the transcript: its blocks, why it stopped and what it used."""
        blocks: list[Mapping[str, Any]] = [
            {name: value for name, value in block.items() if name != "signature"} for block in answer.content
        ]
        usage = answer.usage
        used = {name: getattr(usage, name) for name in usage.__slots__} if usage is not None else None
        end = {"type": "end", "model": answer.model, "stop_reason": answer.stop_reason, "usage": used}
        if answer.category:
            end["category"] = answer.category
        return Message("assistant", self._redaction.data([*blocks, end]))


def _changes(call: ToolCall) -> bool:
    """Whether the call was to change something, or to hand it in."""
    if call.name in (EDITOR, OWN_EDITOR):
        return (call.input or {}).get("command") != "view"
    return call.name in ("delete", "submit")


def _replayed(answer: Answer) -> list[Block]:
    """The response as it may be sent back: never empty text, never ending in thinking."""
    content = [dict(block) for block in answer.content]
    if answer.stop_reason == "max_tokens" and content and content[-1].get("signature") == "":
        content.pop()  # cut off before it was signed: it would be refused
    if content and content[-1]["type"] in ("thinking", "redacted_thinking") and answer.stop_reason != "pause_turn":
        content.append(_text("(nothing more)"))
    return content


def _result(call: str, text: str, failed: bool) -> Block:
    block = {"type": "tool_result", "tool_use_id": call, "content": text or "(empty)"}
    return {**block, "is_error": True} if failed else block


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
