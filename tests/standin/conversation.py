"""A request as its reader sees it: who said what, which tools were called with what result, what a file holds."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.standin.prefix import content
from tests.standin.script import Body

EDITS = ("create", "str_replace", "insert")
# A file in a prompt, with what names it: the fence's line and the two before it, or the opening tag.
_FENCE = re.compile(
    r"^(?P<label>(?:(?!`{3})[^\n]*\n){0,2}(?P<fence>`{3,})[^\n`]*\n)(?P<held>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_TAG = re.compile(r"(?P<label><(?P<tag>[a-zA-Z_]+)[^<>\n]*>)\n?(?P<held>.*?)</(?P=tag)>", re.DOTALL)
_PATH = re.compile(r"[\w./-]*\btrain\.py\b")
_NUMBERED = re.compile(r"^\s*(\d+)(?:\t| ?\| ?|: ?|$)(.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. ``result`` None: not answered yet. ``at``: number of the message that holds the call."""

    id: str
    name: str
    input: Mapping[str, Any]
    at: int
    result: str | None = None
    failed: bool = False

    @property
    def command(self) -> str:
        return str(self.input.get("command", ""))

    @property
    def path(self) -> str:
        return str(self.input.get("path", ""))


@dataclass(frozen=True, slots=True)
class Conversation:
    """``asked``: texts of people, with the number of their message; the system prompt's are at -1.
    ``said``: the model's texts, likewise.
    """

    tools: Mapping[str, Mapping[str, Any]]
    asked: Sequence[tuple[int, str]]
    said: Sequence[tuple[int, str]]
    calls: Sequence[Call]

    def tool(self, name: str) -> Mapping[str, Any] | None:
        return self.tools.get(name)

    @property
    def editor(self) -> str:
        """The name of the text editor tool, or of a custom one that is called like it; "" without one."""
        for name, tool in self.tools.items():
            properties = (tool.get("input_schema") or {}).get("properties") or {}
            if str(tool.get("type", "")).startswith("text_editor_") or {"command", "old_str"} <= set(properties):
                return name
        return ""

    def task(self, at: int) -> str:
        """What message number ``at`` asks for: its last text."""
        return next((text for number, text in reversed(self.asked) if number == at), "")

    def since(self, at: int, name: str = "") -> list[Call]:
        """Calls after message number ``at``."""
        return [call for call in self.calls if call.at > at and name in ("", call.name)]

    def everything_read(self) -> str:
        """All that the model was shown, its own words left out."""
        return "\n".join([text for _, text in self.asked] + [call.result or "" for call in self.calls])

    def path(self) -> str:
        """The file to edit: the one viewed, else the first ``train.py`` that is spoken of and can be seen."""
        views = [call for call in self.calls if call.command == "view" and call.path.endswith(".py")]
        named = [call.path for call in reversed(views) if not call.failed and call.result is not None]
        named += [name.removeprefix("./") for name in _PATH.findall(self.everything_read())] + ["train.py"]
        unseen = {call.path for call in views if call.failed}
        return next((name for name in named if name not in unseen), named[0])

    def file(self, path: str, *, prompt: bool = True) -> str | None:
        """The file's text as it is now, with the edits made since it was viewed.

        ``prompt``: or since the prompt showed it. A file of which a prompt shows only a part was not shown.
        """
        text: str | None = None
        named = re.compile(rf"(?<![\w./-]){re.escape(path)}(?![\w-])")
        for _, asked in self.asked if prompt else []:
            for label, program in _programs(asked):
                if named.search(label) and "rest" not in label:
                    text = program
        for call in self.calls:
            if call.name != self.editor or call.path != path or call.failed or call.result is None:
                continue
            if call.command == "view" and not call.input.get("view_range"):
                text = unnumbered(call.result)
            elif call.command == "create":
                text = str(call.input.get("file_text", ""))
            elif text is not None and call.command == "str_replace":
                text = text.replace(str(call.input.get("old_str")), str(call.input.get("new_str", "")), 1)
            elif text is not None and call.command == "insert":
                lines = text.splitlines(keepends=True)
                at = int(call.input.get("insert_line", 0))
                text = "".join([*lines[:at], str(call.input.get("insert_text", "")), *lines[at:]])
        return text


def read(body: Body) -> Conversation:
    asked = [(-1, str(block.get("text", ""))) for block in content(body.get("system") or [])]
    said: list[tuple[int, str]] = []
    calls: dict[str, Call] = {}
    for at, message in enumerate(body["messages"]):
        for block in content(message["content"]):
            kind = block.get("type")
            if kind == "text" and message["role"] == "assistant":
                said.append((at, str(block["text"])))
            elif kind == "text":
                asked.append((at, str(block["text"])))
            elif kind == "tool_use":
                given = block.get("input")
                calls[block["id"]] = Call(
                    block["id"], block["name"], given if isinstance(given, Mapping) else {}, at
                )
            elif kind == "tool_result" and block.get("tool_use_id") in calls:
                call = calls[block["tool_use_id"]]
                text = "\n".join(str(one.get("text", "")) for one in content(block.get("content") or []))
                failed = bool(block.get("is_error"))
                calls[call.id] = Call(call.id, call.name, call.input, call.at, text, failed)
    tools = {str(tool["name"]): tool for tool in body.get("tools") or []}
    return Conversation(tools, asked, said, list(calls.values()))


def unnumbered(listing: str) -> str:
    """A listing without its line numbers, where it has them, and without lines around it that have none."""
    lines = listing.split("\n")
    found = [_NUMBERED.match(line) for line in lines]
    numbers = [int(match[1]) for match in found if match]
    rising = all(b == a + 1 for a, b in itertools.pairwise(numbers))
    if not numbers or not rising or len(numbers) < 0.8 * len(lines) - 2:
        return listing
    return "\n".join(match[2] for match in found if match)


def _programs(text: str) -> Iterator[tuple[str, str]]:
    """What in a prompt is a Python file, fenced or tagged: (the words that announce it, the file)."""
    for pattern in (_FENCE, _TAG):
        for match in pattern.finditer(text):
            program = unnumbered(match["held"])
            try:
                body = ast.parse(program).body
            except (SyntaxError, ValueError):
                continue
            if any(isinstance(node, ast.Import | ast.ImportFrom) for node in body):
                yield match["label"], program
