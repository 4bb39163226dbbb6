"""Prices: every model of the price list to the nano-dollar, tiers, overrides, and worst cases that are none too low."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.formats import dollars
from engine import prices as prices_module
from engine.config import PriceSection
from engine.errors import UnknownPrice
from engine.prices import NANO, Prices, cap_of, in_dollars, nano_per_second
from engine.types import Usage

# US dollars per million tokens: input, output, cache write 5 min, cache write 1 h, cache read. Copied by hand from the
# published list and not from prices.toml, so that a slip in either shows.
LIST = {
    "claude-fable-5-2": ("8", "40", "10", "16", "0.20"),
    "claude-opus-5-5": ("4", "20", "5", "8", "0.20"),
    "claude-sonnet-5-5": ("2", "10", "2.50", "4", "0.10"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.125", "0.20", "0.01"),
    "claude-fable-5-1": ("10", "50", "12.50", "20", "0.25"),
    "claude-opus-5": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-8": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-7": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-6": ("5", "25", "6.25", "10", "0.50"),
    "claude-sonnet-5": ("2", "10", "2.50", "4", "0.20"),
    "claude-sonnet-4-6": ("3", "15", "3.75", "6", "0.30"),
    "claude-haiku-4-5": ("1", "5", "1.25", "2", "0.10"),
}
HAIKU_LARGE = ("0.50", "2.50", "0.625", "1", "0.05")  # a prompt of more than 100K tokens
PRICES = Prices.load()
COUNTS = ("input_tokens", "output_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens")


def nano(dollars_per_million: str) -> int:
    """Of one token, by moving the decimal point: $1 a million is 1000."""
    whole, _, part = dollars_per_million.partition(".")
    return int(whole + part.ljust(3, "0"))


@pytest.mark.parametrize("model", LIST)
def test_each_token_of_each_model_costs_exactly_what_the_list_says(model: str) -> None:
    for count, price in zip(COUNTS, LIST[model], strict=True):
        assert PRICES.cost(Usage(model, **{count: 1})) == nano(price), count
        assert PRICES.cost(Usage(model, **{count: 99_999})) == 99_999 * nano(price), count
    together = Usage(model, **dict.fromkeys(COUNTS, 7))
    assert PRICES.cost(together) == 7 * sum(map(nano, LIST[model]))
    assert PRICES.of(model).read_on == "2026-11-20"


def test_the_list_is_whole_and_its_date_is_one() -> None:
    assert set(PRICES) == set(LIST)
    data = tomllib.loads(Path(prices_module.__file__).with_name("prices.toml").read_text())
    assert date.fromisoformat(data["read_on"])


def test_a_prompt_over_a_tier_reprices_the_whole_request() -> None:
    at = Usage("claude-haiku-5-5", input_tokens=60_000, cache_read_tokens=40_000, output_tokens=1000)
    over = replace(at, cache_write_1h_tokens=1)  # cached tokens count towards the prompt's size
    assert PRICES.cost(at) == 60_000 * 100 + 40_000 * 10 + 1000 * 500
    assert PRICES.cost(over) == 60_000 * 500 + 40_000 * 50 + 1000 * 2500 + 1000
    for count, price in zip(COUNTS, HAIKU_LARGE, strict=True):
        others = 0 if count != "output_tokens" else 200_000
        used = Usage("claude-haiku-5-5", **{"input_tokens": others, count: 200_000})
        assert PRICES.cost(used) == 200_000 * nano(price) + others * nano("0.50")


def test_the_worst_case_is_the_dearest_rate_that_the_prompt_can_reach() -> None:
    assert PRICES.worst("claude-opus-5-5", 14_000, 4000) == 14_000 * 4000 + 4000 * 20_000
    assert PRICES.worst("claude-opus-5-5", 14_000, 4000, "5m") == 14_000 * 5000 + 4000 * 20_000
    assert PRICES.worst("claude-opus-5-5", 14_000, 4000, "1h") == 14_000 * 8000 + 4000 * 20_000
    assert PRICES.worst("claude-haiku-5-5", 100_000, 10, "5m") == 100_000 * 125 + 10 * 500
    assert PRICES.worst("claude-haiku-5-5", 100_001, 10, "5m") == 100_001 * 625 + 10 * 2500
    assert PRICES.worst("claude-opus-5-5", 0, 0) == 0
    with_fallback = PRICES.worst("claude-opus-5-5", 1000, 1000, fallbacks=("claude-opus-5", "claude-haiku-4-5"))
    assert with_fallback == PRICES.worst("claude-opus-5", 1000, 1000)
    with pytest.raises(ValueError):
        PRICES.worst("claude-opus-5-5", -1, 10)
    with pytest.raises(ValueError):
        PRICES.worst("claude-opus-5-5", 1, 10, "2h")


@st.composite
def requests(draw: st.DrawFn) -> tuple[tuple[str, ...], int, int, str, Usage]:
    """Models, bounds, a time to live, and what one of the models may report within them."""
    ids = st.sampled_from([*LIST, "mine", "odd", "claude-haiku-5-5-20261101"])
    models = tuple(draw(st.lists(ids, min_size=1, max_size=4)))
    bound = draw(st.one_of(st.integers(0, 300_000), st.integers(99_990, 100_010)))
    max_tokens = draw(st.integers(0, 128_000))
    ttl = draw(st.sampled_from(["", "5m", "1h"]))
    prompt = draw(st.one_of(st.just(bound), st.integers(0, bound)))
    kinds = ["input_tokens", "cache_read_tokens"]
    kinds += [] if not ttl else ["cache_write_5m_tokens"] if ttl == "5m" else list(COUNTS[2:4])
    cuts = sorted(draw(st.lists(st.integers(0, prompt), min_size=len(kinds) - 1, max_size=len(kinds) - 1)))
    parts = [high - low for low, high in zip([0, *cuts], [*cuts, prompt], strict=True)]
    output = draw(st.one_of(st.just(max_tokens), st.integers(0, max_tokens)))
    usage = Usage(draw(st.sampled_from(models)), output_tokens=output, **dict(zip(kinds, parts, strict=True)))
    return models, bound, max_tokens, ttl, usage


OWN = Prices.load(
    {
        "mine": PriceSection(input=0.0375, output=1 / 3),
        # reading the cache dearer than writing it: nobody sells that, and a file may say so
        "odd": PriceSection(input=0.3, output=0.1, cache_write_5m=0.0, cache_write_1h=0.2, cache_read=7.7),
    }
)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(requests())
def test_no_usage_within_a_reservation_costs_more_than_its_worst_case(
    request_: tuple[tuple[str, ...], int, int, str, Usage],
) -> None:
    models, bound, max_tokens, ttl, usage = request_
    worst = OWN.worst(models[0], bound, max_tokens, ttl, fallbacks=models[1:])
    cost = OWN.cost(usage)
    assert isinstance(cost, int) and isinstance(worst, int)
    assert 0 <= cost <= worst


@settings(max_examples=300, deadline=None, derandomize=True)
@given(requests())
def test_the_worst_case_is_reached_by_some_usage_and_not_just_any_large_number(
    request_: tuple[tuple[str, ...], int, int, str, Usage],
) -> None:
    models, bound, max_tokens, ttl, _ = request_
    kinds = {"": (), "5m": ("cache_write_5m_tokens",), "1h": COUNTS[2:4]}[ttl]
    reached = max(
        OWN.cost(Usage(model, output_tokens=max_tokens, **{kind: size}))
        for model in models
        for kind in ("input_tokens", "cache_read_tokens", *kinds)
        for size in {bound, min(bound, 100_000)}
    )
    assert reached == OWN.worst(models[0], bound, max_tokens, ttl, fallbacks=models[1:])


# --- a user's own prices ----------------------------------------------------------------------------


def test_a_users_price_takes_the_place_of_ours_tiers_and_all() -> None:
    own = Prices.load({"claude-haiku-5-5": PriceSection(input=1.0, output=2.0, read_on="2027-01-02, my contract")})
    assert own.cost(Usage("claude-haiku-5-5", input_tokens=200_000)) == 200_000 * 1000
    assert own.cost(Usage("claude-haiku-5-5", cache_write_5m_tokens=4)) == 5000
    assert own.cost(Usage("claude-haiku-5-5", cache_write_1h_tokens=1)) == 2000
    assert own.cost(Usage("claude-haiku-5-5", cache_read_tokens=1)) == 1000
    assert own.of("claude-haiku-5-5").own and own.of("claude-haiku-5-5").read_on == "2027-01-02, my contract"
    assert own.of("claude-opus-5-5") == PRICES.of("claude-opus-5-5")


def test_fractions_of_a_nano_dollar_round_up_once_a_request() -> None:
    own = Prices.load({"m": PriceSection(input=0.0001, output=0.0)})  # a tenth of a nano-dollar a token
    assert [own.cost(Usage("m", input_tokens=n)) for n in (0, 1, 10, 11, 1_000_001)] == [0, 1, 1, 2, 100_001]
    tenth = Prices.load({"m": PriceSection(input=0.1, output=0.0)})  # no float is a tenth
    assert tenth.cost(Usage("m", input_tokens=3)) == 300
    free = Prices.load({"m": PriceSection(input=0.0, output=0.0)})
    assert free.worst("m", 10**6, 10**6, "1h") == 0


def test_a_dated_snapshot_costs_what_its_family_costs_unless_a_user_says_otherwise() -> None:
    used = Usage("claude-opus-5-5-20261101", input_tokens=3)
    assert PRICES.cost(used) == 12_000
    assert PRICES.id_of("claude-opus-5-5-20261101") == "claude-opus-5-5"
    own = Prices.load({"claude-opus-5-5-20261101": PriceSection(input=1.0, output=1.0)})
    assert own.cost(used) == 3000
    assert own.cost(replace(used, model="claude-opus-5-5-20261001")) == 12_000
    for unknown in (
        "claude-opus-5-5-2026110",
        "claude-opus-5-5-latest",
        "claude-opus-5-5-20261101-x",
        "-20261101",
    ):
        with pytest.raises(UnknownPrice):
            PRICES.of(unknown)


@pytest.mark.parametrize(
    "model",
    ["my-model", "claude-opus-5-6", "", 'a"b\\c', "line\nbreak\x7f", "模型 🙂", "odd\ud800surrogate", "a.b]"],
)
def test_an_unknown_price_refuses_with_lines_that_work_once_added(model: str) -> None:
    with pytest.raises(UnknownPrice) as caught:
        PRICES.worst("claude-opus-5-5", 1, 1, fallbacks=(model,))
    mend = caught.value.mend
    added = tomllib.loads(mend[mend.index("[prices.") :])
    (found,) = added["prices"]
    assert found == model or "\ud800" in model
    own = Prices.load({name: PriceSection(**table) for name, table in added["prices"].items()})
    assert own.worst(found, 1000, 1000) > 0
    assert ("did you mean claude-opus-5-5?" in mend) == (model == "claude-opus-5-6")
    assert caught.value.exit_code == 2
    with pytest.raises(UnknownPrice):
        PRICES.cost(Usage(model, input_tokens=1))


# --- dollars ----------------------------------------------------------------------------------------


def test_a_limit_in_dollars_is_exact_and_rounds_down() -> None:
    assert cap_of(None) is None and cap_of("unlimited") is None
    assert cap_of(0) == 0 and cap_of(0.0) == 0
    assert cap_of(20.0) == 20 * NANO and cap_of(0.1) == NANO // 10
    assert cap_of(0.0000000019) == 1


def test_a_hosts_price_an_hour_is_shared_by_its_slots_and_rounds_up() -> None:
    assert nano_per_second(0) == 0
    assert nano_per_second(3.6) == 1_000_000
    assert nano_per_second(2.5) == 694_445  # 694,444.4
    assert nano_per_second(28.8, 8) == 1_000_000


def test_messages_name_the_exact_amount() -> None:
    amounts = {0: "$0.00", 1: "$0.000000001", 12_300_000: "$0.0123", 20 * NANO: "$20.00", -NANO // 2: "-$0.50"}
    assert {n: in_dollars(n) for n in amounts} == amounts
    assert in_dollars(1_234_567_891_000_000) == "$1,234,567.891"


def test_amounts_on_the_screen_have_the_digits_that_matter() -> None:
    amounts = {
        0: "$0.00", 1: "$0.000000001", 12_345: "$0.00001235", 12_300_000: "$0.0123", 160_000_000: "$0.16",
        123_456_789: "$0.1235", 999_949_999: "$0.9999", 999_950_000: "$1.00", NANO: "$1.00", 1_004_999_999: "$1.00",
        1_005_000_000: "$1.01", 1_234_560_000_000: "$1,234.56", -500_000_000: "-$0.50", None: "-",
    }  # fmt: skip
    assert {n: dollars(n) for n in amounts} == amounts
