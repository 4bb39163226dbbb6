"""Every fault of the service and the way to it, before, during and after an edit (TRUST.md row 25).

Whatever happens: nothing partial is ever proposed, nothing crashes, and every request's money is booked, never
below what the service billed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from engine.types import Proposal
from tests.engine.proposers.claude_drafts import WANTED, Draft, desk, worker
from tests.engine.proposers.claude_setting import dollars
from tests.standin.faults import Case, faulty, matrix

# What becomes of a draft, by fault: struck once, and struck each time. A proposal, or the outcome's name.
ENDS = {
    "drop": ("proposal", "cut off"),
    "cut": ("proposal", "cut off"),
    "eof": ("proposal", "cut off"),
    "stall": ("proposal", "timed out"),
    "pings": ("proposal", "timed out"),
    "stream-error": ("proposal", "overloaded"),
    "open": ("proposal", "proposal"),
    "reset": ("proposal", "failed"),
    "400": ("failed", "failed"),
    "401": ("failed", "failed"),
    "402": ("failed", "failed"),
    "403": ("failed", "failed"),
    "404": ("failed", "failed"),
    "413": ("failed", "failed"),
    "429": ("proposal", "rate limited"),
    "429-ms": ("proposal", "rate limited"),
    "spend-limit": ("rate limited", "rate limited"),
    "500": ("proposal", "failed"),
    "504": ("proposal", "failed"),
    "529": ("proposal", "overloaded"),
    "refusal": ("proposal", "refused"),
    "refusal-midway": ("proposal", "refused"),
    "max-tokens": ("proposal", "cut off"),
    "context-full": ("cut off", "cut off"),
    "pause": ("proposal", "gave up"),
    "bad-json": ("proposal", "invalid edit"),
    "outside": ("proposal", "proposal"),
    "cache-hit": ("proposal", "proposal"),
    "cache-miss": ("proposal", "proposal"),
}
# Where the place matters: the edit itself is outside each time; an edit's result is there to be answered once.
ALWAYS = {"outside-during": "invalid edit", "pause-after": "proposal"}


@dataclass
class Row:
    case: str
    end: str
    partial: int
    requests: int
    charged: int
    billed: int


ROWS: list[Row] = []


@pytest.fixture(scope="module", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """Printed once all is done, whatever captures the output."""
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{'fault':<24}{'ends in':<14}{'partial':>8}{'requests':>10}{'charged $':>11}{'billed $':>10}")
        for row in ROWS:
            print(
                f"{row.case:<24}{row.end:<14}{row.partial:>8}{row.requests:>10}{dollars(row.charged):>11.4f}"
                f"{dollars(row.billed):>10.4f}"
            )
        print(
            f"{len(ROWS)} cases: {sum(row.partial for row in ROWS)} partial edits, 0 crashes, "
            f"{sum(row.charged < row.billed for row in ROWS)} charged below what was billed"
        )


def partial(draft: Draft) -> int:
    """Changes that are anything but the whole edit."""
    if not isinstance(draft.end, Proposal):
        return 0
    return sum((change.path, change.content) != ("train.py", WANTED) for change in draft.end.changes)


@pytest.mark.parametrize("times", [1, -1], ids=["once", "always"])
@pytest.mark.parametrize("case", matrix(), ids=str)
async def test_a_fault_leaves_no_partial_edit_no_crash_and_no_unbooked_dollar(case: Case, times: int) -> None:
    script = faulty(worker, case.fault, case.place, times)
    async with desk(script, fallback_models=("claude-opus-5",)) as it:
        draft = await it.draft()
        end = "proposal" if isinstance(draft.end, Proposal) else draft.nothing.outcome
        billed = it.standin.billed(it.purse.prices)
        row = Row(
            f"{case}{' x' if times < 0 else ''}",
            end,
            partial(draft),
            len(it.standin.messages),
            it.purse.charged,
            billed,
        )
        ROWS.append(row)
        assert script.struck, "the fault never happened"
        assert row.partial == 0
        assert "open" not in it.purse.states
        assert it.purse.charged >= billed
        once, always = ENDS[case.fault.name]
        assert end == (once if times > 0 else ALWAYS.get(str(case), always))


def test_the_table_knows_every_fault() -> None:
    assert set(ENDS) == {case.fault.name for case in matrix()}
