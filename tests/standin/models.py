"""The models that the stand-in serves, with what their requests may hold. Facts, and ``?`` where unverified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

_ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Model:
    """``thinking``: values of ``thinking.type`` that are no 400. ``reasons``: thinks without being asked to."""

    id: str
    name: str
    line: str
    max_input_tokens: int = 1_000_000
    max_tokens: int = 128_000
    effort: tuple[str, ...] = _ALL_EFFORTS
    thinking: tuple[str, ...] = ("adaptive", "disabled")  # ?
    reasons: bool = True
    forced_tools: bool = True
    prefill: bool = False  # ? the package says "models that don't support prefill" and names none
    cache_minimum: int = 1024  # tokens of the shortest prefix that is cached; ? except 512 of the 5.5 models
    created_at: str = "2026-01-01T00:00:00Z"  # ?

    def to_json(self) -> dict[str, Any]:
        """As GET /v1/models/{id} answers (``anthropic.types.ModelInfo``)."""

        def supported(yes: bool) -> dict[str, bool]:
            return {"supported": yes}

        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "line": self.line,
            "created_at": self.created_at,
            "lifecycle": "active",
            "deprecated_at": None,
            "retires_at": None,
            "max_input_tokens": self.max_input_tokens,
            "max_tokens": self.max_tokens,
            "capabilities": {
                "batch": supported(True),
                "citations": supported(True),
                "code_execution": supported(False),
                "context_management": {"supported": False},
                "effort": {
                    "supported": bool(self.effort),
                    **{level: supported(level in self.effort) for level in _ALL_EFFORTS},
                },
                "image_input": supported(True),
                "pdf_input": supported(True),
                "server_tools": {
                    "supported": False,
                    "code_execution": supported(False),
                    "web_search": supported(False),
                },
                "structured_outputs": supported(True),
                "thinking": {
                    "supported": True,
                    "types": {
                        kind: supported(kind in self.thinking)
                        for kind in ("adaptive", "between_tools", "disabled", "enabled")
                    },
                },
            },
        }


_OLDER = Model("", "", "opus", thinking=("adaptive", "enabled", "disabled"), reasons=False)  # ?
CATALOGUE = {
    model.id: model
    for model in (
        Model(
            "claude-fable-5-2", "Claude Fable 5.2", "fable", forced_tools=False, created_at="2026-10-01T00:00:00Z"
        ),
        Model(
            "claude-opus-5-5", "Claude Opus 5.5", "opus", thinking=("adaptive",), forced_tools=False,
            cache_minimum=512, created_at="2026-09-01T00:00:00Z",
        ),
        Model(
            "claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet", forced_tools=False, cache_minimum=512,
            created_at="2026-09-01T00:00:00Z",
        ),
        Model("claude-haiku-5-5", "Claude Haiku 5.5", "haiku", cache_minimum=512, created_at="2026-09-01T00:00:00Z"),
        Model("claude-fable-5-1", "Claude Fable 5.1", "fable", forced_tools=False),
        Model("claude-opus-5", "Claude Opus 5", "opus"),
        Model("claude-sonnet-5", "Claude Sonnet 5", "sonnet"),
        replace(_OLDER, id="claude-opus-4-8", name="Claude Opus 4.8"),
        replace(_OLDER, id="claude-opus-4-7", name="Claude Opus 4.7"),
        replace(_OLDER, id="claude-opus-4-6", name="Claude Opus 4.6"),
        replace(_OLDER, id="claude-sonnet-4-6", name="Claude Sonnet 4.6", line="sonnet"),
        Model(
            "claude-haiku-4-5", "Claude Haiku 4.5", "haiku", max_input_tokens=200_000, max_tokens=64_000, effort=(),
            thinking=("enabled", "disabled"), reasons=False, prefill=True,
        ),
    )
}  # fmt: skip
