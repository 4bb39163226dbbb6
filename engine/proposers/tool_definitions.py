"""The tools as the API is told of them. The same bytes each time, so that a prompt cache can begin with them.

Every property is required and ``additionalProperties`` is false, as ``strict`` wants it; "nothing" is an empty
text or 0, and null where a command of the editor has no use for a property.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

KINDS = (
    "architecture",
    "optimizer",
    "schedule",
    "initialization",
    "regularization",
    "data",
    "batch",
    "precision",
    "efficiency",
    "loss",
    "other",
)
VERDICTS = ("any", "keep", "discard", "crash", "invalid", "cancelled", "open")
COMMANDS = ("view", "create", "str_replace", "insert")
EDITOR = "str_replace_based_edit_tool"
OWN_EDITOR = "edit"

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}


def definitions(without: Collection[str] = ()) -> list[dict[str, Any]]:
    """All tools, in a fixed order. ``without``: what of "editor", "strict", "eager" is left out."""
    return [
        _own_editor(without) if "editor" in without else {"type": "text_editor_20250728", "name": EDITOR},
        _tool(
            "delete",
            "Delete one editable file of your working copy.",
            {"path": {**_TEXT, "description": "The file, relative to the project folder."}},
            without,
        ),
        _tool(
            "search",
            "Find lines in the files that you may read, as they are in your working copy. Returns path, line "
            "number and line. Lines are searched one by one.",
            {
                "pattern": {**_TEXT, "description": "Plain text, or a Python regular expression."},
                "regex": {"type": "boolean", "description": "Whether pattern is a regular expression."},
                "path": {**_TEXT, "description": 'A file or folder to search in; "" for all.'},
            },
            without,
        ),
        _tool(
            "history",
            "Look up earlier experiments of this campaign: verdict, effect with its 90 % interval, score, "
            "hypothesis and reason. With a number: all about that one, its diff included. Look before you propose "
            "what may have been tried.",
            {
                "number": {**_NUMBER, "description": "One experiment in full; 0 for a list."},
                "verdict": {**_TEXT, "enum": list(VERDICTS), "description": "open: not settled yet."},
                "kind": {**_TEXT, "enum": ["any", *KINDS]},
                "text": {
                    **_TEXT,
                    "description": 'Only those whose title, hypothesis or reason holds it; "" for all.',
                },
                "last": {**_NUMBER, "description": "How many at most, the newest; 0 for 20."},
            },
            without,
        ),
        _tool(
            "trial_log",
            "Read what an experiment's newest trials printed last, or its learning curves as numbers.",
            {
                "number": {**_NUMBER, "description": "The experiment."},
                "show": {**_TEXT, "enum": ["tail", "curve"]},
                "lines": {**_NUMBER, "description": "Lines of the log at most; 0 for 60. Of no use to curve."},
            },
            without,
        ),
        _tool(
            "check",
            "Check your edits without running them: changed files compile or parse, every name is defined, the "
            "change is not one that was tried already. Problems that the base version has too are not listed.",
            {},
            without,
        ),
        _tool(
            "submit",
            "Hand in the proposal: all edits of your working copy as one experiment. This ends your work when it "
            "is accepted; when it is refused, mend what it says and submit again.",
            {
                "title": {**_TEXT, "description": "The change in a few words, at most 100 characters."},
                "hypothesis": {**_TEXT, "description": "The mechanism: why this should help. 2 or 3 sentences."},
                "expected_effect": {
                    "type": "number",
                    "description": "The change of the metric that you expect, in the metric's own unit, with its "
                    "sign: new score minus the incumbent's; negative when lower is better. 0 for a "
                    "simplification.",
                },
                "effect_reason": {
                    **_TEXT,
                    "description": "The same in words: how sure you are of the size, and why that large.",
                },
                "refuted_by": {**_TEXT, "description": "The measurement that would refute the hypothesis."},
                "kind": {**_TEXT, "enum": list(KINDS)},
                "despite": {
                    **_TEXT,
                    "description": 'Normally "". When submit was refused for a doubt that is mistaken (a name '
                    "that is defined after all): submit again, nothing else changed, with the reason here.",
                },
            },
            without,
            eager=True,
        ),
    ]


def _own_editor(without: Collection[str]) -> dict[str, Any]:
    """The standard editor's commands as a tool of our own, for servers that do not know it."""
    return _tool(
        OWN_EDITOR,
        "View and edit files of your working copy. view: a file with line numbers, or a folder. str_replace: "
        "old_str must occur exactly once in the file, whitespace included. insert: insert_text goes after line "
        "insert_line, 0 is before the first. create: the whole file, new or not. Properties that a command does "
        "not use are null.",
        {
            "command": {**_TEXT, "enum": list(COMMANDS)},
            "path": {**_TEXT, "description": "Relative to the project folder."},
            "view_range": {
                "type": ["array", "null"],
                "items": {"type": "integer"},
                "description": "view: [first, last], -1 is the end; null for all.",
            },
            "file_text": {"type": ["string", "null"], "description": "create"},
            "old_str": {"type": ["string", "null"], "description": "str_replace"},
            "new_str": {"type": ["string", "null"], "description": "str_replace"},
            "insert_line": {"type": ["integer", "null"], "description": "insert"},
            "insert_text": {"type": ["string", "null"], "description": "insert"},
        },
        without,
        eager=True,
    )


def _tool(
    name: str, description: str, properties: dict[str, Any], without: Collection[str], *, eager: bool = False
) -> dict[str, Any]:
    tool: dict[str, Any] = {
        "name": name,
        "description": description,
        "input_schema": {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        },
    }
    if "strict" not in without:
        tool["strict"] = True
    # Long texts only: a person watches them grow.
    if eager and "eager" not in without:
        tool["eager_input_streaming"] = True
    return tool
