"""Prompt caching, simulated from the request really sent, and the usage that the service would report.

An entry is an exact prefix, written at a breakpoint, read by a later request that has a breakpoint there or at
most ``LOOKBACK`` blocks after it. It becomes readable when the response of the request that wrote it begins to
stream; its lifetime runs from the start of the request that wrote or last read it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from tests.standin.models import CATALOGUE
from tests.standin.prefix import blocks, size
from tests.standin.script import Body

LIFETIME = {"5m": 300.0, "1h": 3600.0}  # seconds
LOOKBACK = 20  # blocks before a breakpoint in which an older entry is found (published documentation)


@dataclass(slots=True)
class _Entry:
    ttl: str
    expires: float


@dataclass(slots=True)
class Plan:
    """What one request reads and writes. ``usage`` has the input side of a message's usage, complete."""

    usage: dict[str, Any]
    _entries: dict[bytes, _Entry]
    _writes: dict[bytes, _Entry] = field(default_factory=dict)

    def began(self) -> None:
        """The response has begun to stream: from now on others can read what this request wrote."""
        for key, entry in self._writes.items():
            known = self._entries.get(key)
            if known is None or known.expires < entry.expires:
                self._entries[key] = entry


class PromptCache:
    """``minimum``: tokens of the shortest prefix cached; None: the model's own figure."""

    def __init__(self, minimum: int | None = None) -> None:
        self.minimum = minimum
        self._entries: dict[bytes, _Entry] = {}

    def plan(self, body: Body, now: float) -> Plan:
        """``now``: when the request started, seconds. Reading prolongs; nothing is written before ``began``."""
        parts = blocks(body)
        setting = _setting(body)
        keys = [hashlib.sha256(setting + part.digest).digest() for part in parts]
        marks = [index for index, part in enumerate(parts) if part.ttl]
        read = self._longest(keys, marks, now)
        plan = Plan({}, self._entries)
        created = {"5m": 0, "1h": 0}
        minimum = self._minimum(body)
        done = read  # the last block that is read or written
        for mark in marks:
            if size(parts[: mark + 1]) < minimum:
                continue
            ttl = parts[mark].ttl
            if mark > done:
                created[ttl] += size(parts[done + 1 : mark + 1])
                done = mark
            plan._writes.setdefault(keys[mark], _Entry(ttl, now + LIFETIME[ttl]))
        plan.usage = {
            "input_tokens": size(parts[done + 1 :]),
            "cache_creation_input_tokens": sum(created.values()),
            "cache_read_input_tokens": size(parts[: read + 1]),
            "cache_creation": {
                "ephemeral_5m_input_tokens": created["5m"],
                "ephemeral_1h_input_tokens": created["1h"],
            },
        }
        return plan

    def _longest(self, keys: list[bytes], marks: list[int], now: float) -> int:
        """Index of the last block that a live entry covers, -1 for none."""
        for mark in reversed(marks):
            for index in range(mark, max(mark - LOOKBACK, -1), -1):
                entry = self._entries.get(keys[index])
                if entry is not None and now < entry.expires:
                    entry.expires = now + LIFETIME[entry.ttl]
                    return index
        return -1

    def _minimum(self, body: Body) -> int:
        if self.minimum is not None:
            return self.minimum
        model = CATALOGUE.get(str(body.get("model")))
        return model.cache_minimum if model else 1024


def _setting(body: Body) -> bytes:
    """What breaks every entry when it changes: model, thinking, effort and output format."""
    return json.dumps(
        [body.get("model"), body.get("thinking"), body.get("output_config")], sort_keys=True
    ).encode()
