"""A response's events as something to watch: thinking, text, what is called, and the edit as it grows. Pure.

It also keeps each tool call's input as it was written, so that it can be read strictly once it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.proposers.partial_json import GrowingStrings
from engine.proposers.redaction import RedactedStream, Redaction
from engine.types import StreamText

# What of a tool's input is shown as it is written, and where; the rest makes the line that names the call.
GROWING = {"new_str": "edit", "file_text": "edit", "insert_text": "edit", "title": "text", "hypothesis": "text"}
_TOLD = ("path", "pattern", "text", "show", "kind")
_PROSE = {"thinking_delta": ("thinking", "thinking"), "text_delta": ("text", "text")}
_LINE_LENGTH = 200


class Showing:
    """One response. ``take`` each event; ``inputs`` has the raw JSON of tool calls by block index."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._flows: dict[int, _Flow] = {}  # what a block shows just now
        self._calls: dict[int, _Call] = {}
        self.inputs: dict[int, str] = {}

    def take(self, event: Any) -> Iterator[StreamText]:
        if event.type == "content_block_start":
            block = event.content_block
            if block.type == "tool_use":
                self._calls[event.index] = _Call(str(block.name))
                self.inputs[event.index] = ""
        elif event.type == "content_block_delta":
            yield from self._delta(event.index, event.delta)
        elif event.type == "content_block_stop":
            yield from self._closed(event.index)
            if event.index in self._calls:
                yield from self._named(self._calls[event.index])

    def _delta(self, index: int, delta: Any) -> Iterator[StreamText]:
        if delta.type in _PROSE:
            channel, name = _PROSE[delta.type]
            yield from self._shown(index, channel, "", getattr(delta, name))
        elif delta.type == "input_json_delta" and index in self._calls:
            self.inputs[index] += delta.partial_json
            call = self._calls[index]
            for key, text in call.strings.feed(delta.partial_json):
                if key in GROWING:
                    yield from self._named(call)
                    yield from self._shown(index, GROWING[key], key, text)
            if "command" in call.strings.complete and "path" in call.strings.complete:
                yield from self._named(call)

    def _shown(self, index: int, channel: str, key: str, piece: str) -> Iterator[StreamText]:
        flow = self._flows.get(index)
        if flow is None or flow.key != key:
            yield from self._closed(index)
            flow = self._flows[index] = _Flow(channel, key, RedactedStream(self._redaction))
        if text := flow.pieces.feed(piece):
            flow.open_line = not text.endswith("\n")
            yield StreamText(channel, text)

    def _closed(self, index: int) -> Iterator[StreamText]:
        """What was kept back, and the end of the line: the next text begins a new one."""
        if (flow := self._flows.pop(index, None)) is not None:
            rest = flow.pieces.close()
            if rest or flow.open_line:
                yield StreamText(flow.channel, rest + "\n")

    def _named(self, call: _Call) -> Iterator[StreamText]:
        """One line that says what is called, before anything of it is shown."""
        if not call.named:
            call.named = True
            yield StreamText("tool", self._redaction.text(headline(call.name, call.strings.complete)) + "\n")


def headline(name: str, given: Mapping[str, object]) -> str:
    """A call in one line: the editor's command or the tool's name, and its short arguments."""
    words = [str(given.get("command") or name), *(str(given[key]) for key in _TOLD if given.get(key))]
    return " ".join(" ".join(words).split())[:_LINE_LENGTH]


class _Flow:
    """A text that is being shown. ``key``: of the tool's input, "" for prose."""

    def __init__(self, channel: str, key: str, pieces: RedactedStream) -> None:
        self.channel, self.key, self.pieces = channel, key, pieces
        self.open_line = False


class _Call:
    def __init__(self, name: str) -> None:
        self.name = name
        self.strings = GrowingStrings()
        self.named = False
