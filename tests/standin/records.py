"""What the server keeps of each request, and what it tells of its (imagined) rate limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

RATE_LIMITS = {"requests": 4_000, "tokens": 2_400_000, "input-tokens": 2_000_000, "output-tokens": 400_000}


@dataclass(slots=True)
class Recorded:
    """One request as it came in, and what became of it.

    ``headers``: names in lower case. ``body``: parsed JSON, None where there is none. ``at``: the clock's now.
    ``status`` 0: nothing was answered. ``sent``: types of the SSE events sent. ``ended``: how the exchange
    ended: "whole", "cut by client", or the name of the fault.
    """

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any = None
    status: int = 0
    request_id: str = ""
    sent: list[str] = field(default_factory=list)
    ended: str = ""


def rate_headers(answered: int, now: float) -> dict[str, str]:
    """``answered``: message requests so far. Nothing is enforced; the headers are there to be parsed."""
    headers: dict[str, str] = {}
    reset = datetime.fromtimestamp(now + 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for kind, limit in RATE_LIMITS.items():
        remaining = limit - answered if kind == "requests" else limit
        headers |= {
            f"anthropic-ratelimit-{kind}-limit": str(limit),
            f"anthropic-ratelimit-{kind}-remaining": str(max(0, remaining)),
            f"anthropic-ratelimit-{kind}-reset": reset,
        }
    return headers
