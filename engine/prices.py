"""What requests to models cost: ``prices.toml`` and a user's overrides, exact, in billionths of a US dollar.

A price of $1 per million tokens is 1000 nano-dollars a token. Rates are fractions and every sum is rounded up
once, at its end, so that nothing is ever charged too little.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UnknownPrice
from engine.types import Usage

if TYPE_CHECKING:
    from engine.config_sections import PriceSection

NANO = 1_000_000_000  # to the dollar
TTLS = ("", "5m", "1h")
_SNAPSHOT = re.compile(r"-\d{8}$")
_RATES = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
_FILE = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars a token, for requests whose prompt has more than ``over`` tokens, cached ones included."""

    input: Fraction
    output: Fraction
    cache_write_5m: Fraction
    cache_write_1h: Fraction
    cache_read: Fraction
    over: int = 0

    def of(self, usage: Usage) -> Fraction:
        return (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.cache_read
            + usage.cache_write_5m_tokens * self.cache_write_5m
            + usage.cache_write_1h_tokens * self.cache_write_1h
        )

    def dearest_input(self, ttl: str) -> Fraction:
        """Of one token of a prompt, wherever it ends up. A 1 h request may write 5 min entries too."""
        writes = {"": (), "5m": (self.cache_write_5m,), "1h": (self.cache_write_5m, self.cache_write_1h)}[ttl]
        return max(self.input, self.cache_read, *writes)


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model. ``tiers`` go from small prompts to large; the first holds from no tokens on."""

    tiers: tuple[Rates, ...]
    read_on: str = ""  # when, perhaps where, somebody read it
    own: bool = False  # a user's, from ratchet.toml

    def worst(self, input_tokens: int, max_tokens: int, ttl: str) -> int:
        """Of a request with at most ``input_tokens`` in its prompt and ``max_tokens`` of output."""
        ends = [tier.over for tier in self.tiers[1:]] + [input_tokens]
        dearest = max(
            min(input_tokens, end) * tier.dearest_input(ttl) + max_tokens * tier.output
            for tier, end in zip(self.tiers, ends, strict=True)
            if tier.over == 0 or tier.over < input_tokens
        )
        return math.ceil(dearest)

    def cost(self, usage: Usage) -> int:
        prompt = prompt_tokens(usage)
        tier = next(t for t in reversed(self.tiers) if t.over == 0 or prompt > t.over)
        return math.ceil(tier.of(usage))


class Prices(Mapping[str, Price]):
    """Prices by model id. ``of`` also knows the dated snapshots of a model."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = dict(prices)

    @classmethod
    def load(cls, overrides: Mapping[str, PriceSection] | None = None) -> Prices:
        """The built-in prices, with a user's own in their place."""
        own = {model: _of_user(section) for model, section in (overrides or {}).items()}
        return cls({**_built_in(), **own})

    def __getitem__(self, model: str) -> Price:
        return self._prices[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prices)

    def __len__(self) -> int:
        return len(self._prices)

    def of(self, model: str) -> Price:
        """Raises UnknownPrice with the lines to add to ratchet.toml."""
        return self._prices[self.id_of(model)]

    def id_of(self, model: str) -> str:
        """The id under which the price of ``model`` is known: its own, or its family's."""
        for known in (model, _SNAPSHOT.sub("", model)):
            if known in self._prices:
                return known
        raise self._unknown(model)

    def worst(
        self, model: str, input_tokens: int, max_tokens: int, ttl: str = "", *, fallbacks: Sequence[str] = ()
    ) -> int:
        """Nano-dollars that a request may cost at most, whichever of ``model`` and ``fallbacks`` answers it.

        ``input_tokens`` is an upper bound of the whole prompt, ``ttl`` of the cache entries that it may write.
        """
        if input_tokens < 0 or max_tokens < 0:
            raise ValueError(f"a request of {input_tokens} tokens with {max_tokens} of output")
        if ttl not in TTLS:
            raise ValueError(f'expected a time to live of {TTLS}, got "{ttl}"')
        return max(self.of(one).worst(input_tokens, max_tokens, ttl) for one in (model, *fallbacks))

    def cost(self, usage: Usage) -> int:
        """Nano-dollars of ``usage``, at the price of the model that answered."""
        return self.of(usage.model).cost(usage)

    def _unknown(self, model: str) -> UnknownPrice:
        near = difflib.get_close_matches(model, self._prices, 1, 0.75)
        example = self._prices[near[0]].tiers[-1] if near else None
        rates = (example.input, example.output) if example else (Fraction(10_000), Fraction(50_000))
        lines = [f"[prices.{_quoted(model)}]"]
        lines += [f"{name} = {float(r / 1000):g}" for name, r in zip(("input", "output"), rates, strict=True)]
        add = "add its true price, in US dollars per million tokens, to ratchet.toml:\n" + "\n".join(lines)
        return UnknownPrice(
            f"nobody knows what the model {_quoted(model)} costs, so nothing may be spent on it",
            f"did you mean {near[0]}? If not, {add}" if near else add,
        )


def prompt_tokens(usage: Usage) -> int:
    """The whole prompt: what was read from and written to the cache too."""
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens


def cap_of(dollars: float | str | None) -> int | None:
    """``[limits] dollars`` in nano-dollars, rounded down; None (no limit) where it is absent or "unlimited"."""
    if dollars is None or isinstance(dollars, str):
        return None
    return math.floor(_exact(dollars) * NANO)


def nano_per_second(usd_per_hour: float, share: int = 1) -> int:
    """What a second of one of ``share`` equal slots of a host costs, rounded up."""
    return math.ceil(_exact(usd_per_hour) * NANO / 3600 / share)


def in_dollars(nano: int) -> str:
    """Exact, for messages about money: ``$20.00``, ``$0.0000123``."""
    whole, rest = divmod(abs(nano), NANO)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}${whole:,}.{decimals}"


@functools.cache
def _built_in() -> Mapping[str, Price]:
    with _FILE.open("rb") as file:
        data: dict[str, Any] = tomllib.load(file, parse_float=Decimal)
    return {model: _of_table(table, data["read_on"]) for model, table in data["models"].items()}


def _of_table(table: Mapping[str, Any], read_on: str) -> Price:
    tiers = [{"over": 0, **table}, *table.get("tiers", ())]
    found = [Rates(**{name: _nano(tier[name]) for name in _RATES}, over=tier["over"]) for tier in tiers]
    return Price(tuple(sorted(found, key=lambda rates: rates.over)), read_on)


def _of_user(section: PriceSection) -> Price:
    base = _nano(section.input)

    def rate(given: float | None, absent: Fraction) -> Fraction:
        return absent if given is None else _nano(given)

    rates = Rates(
        base,
        _nano(section.output),
        rate(section.cache_write_5m, base * 5 / 4),
        rate(section.cache_write_1h, base * 2),
        rate(section.cache_read, base),
    )
    return Price((rates,), section.read_on, own=True)


def _nano(dollars_per_million: Decimal | float) -> Fraction:
    return _exact(dollars_per_million) * 1000


def _exact(number: Decimal | float) -> Fraction:
    """The number that was written: 0.1 is a tenth, and not the float nearest to it."""
    return Fraction(number if isinstance(number, Decimal) else repr(number))


def _quoted(text: str) -> str:
    # JSON escapes what TOML wants escaped, but for DEL and for what no UTF-8 file can hold.
    clean = text.encode("utf-8", "replace").decode()
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")
