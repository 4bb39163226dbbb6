"""The statements that book money (table ``spend``): set aside first, then closed exactly once.

A reservation is checked against the cap in the transaction that makes it, so that spent + reserved never passes
the cap however many ask at once. Amounts are billionths of a US dollar.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from engine import events
from engine.errors import OverBudget, RatchetError
from engine.prices import in_dollars
from engine.store import reading_money
from engine.store.core import Transaction
from engine.store.reading_money import DEVICE, MODEL
from engine.types import Allocation

LARGEST = 1 << 62  # beyond this SQLite could not add it up


def reserve(
    tx: Transaction,
    campaign: int,
    kind: str,
    what: str,
    amount: int,
    cap: int | None,
    *,
    experiment: int | None = None,
    trial: int | None = None,
    usage: Mapping[str, Any] | None = None,
) -> int:
    """Set ``amount`` aside before anything is sent or started; returns the reservation's id.

    Raises OverBudget, and books nothing, when spent + reserved + amount would pass ``cap`` (None: no limit).
    """
    found = reading_money.balance(tx.conn, campaign)
    ceiling = LARGEST if cap is None else min(cap, LARGEST)
    if amount < 0 or not found.fits(amount, ceiling):
        raise _over(kind, what, amount, ceiling, found)
    return tx.insert(
        "spend",
        campaign=campaign,
        experiment=experiment,
        trial=trial,
        kind=kind,
        what=what,
        state="reserved",
        reserved=amount,
        epoch=tx.epoch,
        usage=json.dumps(dict(usage or {})),
        created_at=tx.now,
    )


def _over(kind: str, what: str, amount: int, cap: int, found: reading_money.Balance) -> OverBudget:
    task = f"a request to {what}" if kind == MODEL else f"a run on {what}"
    mend = "raise dollars in [limits] of ratchet.toml, or give --dollars"
    if cap == 0:
        return OverBudget(f"{task} costs money (up to {in_dollars(amount)}), and the dollar limit is $0.00", mend)
    less = "max_tokens or a cheaper model in [proposer]" if kind == MODEL else "timeout_seconds in [trial]"
    return OverBudget(
        f"{task} may cost up to {in_dollars(amount)}, and that does not fit under the limit of {in_dollars(cap)}: "
        f"{in_dollars(found.spent)} spent, {in_dollars(found.reserved)} set aside",
        f"{mend}; or ask for less: a smaller {less}",
    )


def settle(
    tx: Transaction, reservation: int, spent: int, usage: Mapping[str, Any], *, what: str = "", detail: str = ""
) -> bool:
    """Charge ``spent``; what else was set aside is free again. ``what``: who really answered, if another.

    Returns False, and changes nothing, when the reservation was closed before.
    """
    row = tx.execute("SELECT campaign, what, reserved FROM spend WHERE id = ?", (reservation,)).fetchone()
    changed = _close(tx, reservation, "settled", spent, usage, what, detail)
    if changed and spent > row[2]:
        # It was used and will be billed: the books stay true, even where that passes the cap.
        tx.emit(
            row[0],
            events.Warned(
                f"{what or row[1]} cost {in_dollars(spent)}, and only {in_dollars(row[2])} were set aside",
                "the estimate of its worst case was too low: tell the makers of this program",
            ),
        )
    return changed


def forfeit(tx: Transaction, reservation: int, why: str) -> bool:
    """Charge all that was set aside: nobody knows what was used. False when it was closed before."""
    return _close(tx, reservation, "forfeited", None, None, "", why)


def release(tx: Transaction, reservation: int, why: str) -> bool:
    """Charge nothing: nothing was used. False when it was closed before."""
    return _close(tx, reservation, "released", 0, None, "", why)


def _close(
    tx: Transaction,
    reservation: int,
    state: str,
    spent: int | None,
    usage: Mapping[str, Any] | None,
    what: str,
    detail: str,
) -> bool:
    changed = tx.execute(
        "UPDATE spend SET state = ?, spent = COALESCE(?, reserved), usage = COALESCE(?, usage),"
        " what = COALESCE(NULLIF(?, ''), what), detail = ?, settled_at = ? WHERE id = ? AND state = 'reserved'",
        (state, spent, None if usage is None else json.dumps(dict(usage)), what, detail, tx.now, reservation),
    ).rowcount
    if not changed and not tx.execute("SELECT 1 FROM spend WHERE id = ?", (reservation,)).fetchone():
        raise RatchetError(f"there is no reservation {reservation} of money to close")
    return bool(changed)


def orphans(tx: Transaction) -> int:
    """Close what engines that are gone left open; returns what that charges.

    A request ended with its engine: it may have been billed in full, so its worst case is charged. A trial goes on
    without one: its device stays reserved as long as an attempt at it is open.
    """
    rows = tx.execute(
        "SELECT s.id, s.campaign, s.kind, s.reserved FROM spend s WHERE s.state = 'reserved' AND s.epoch < ?"
        " AND (s.kind = ? OR NOT EXISTS (SELECT 1 FROM attempt a WHERE a.trial = s.trial"
        " AND a.state NOT IN ('ended', 'lost')))",
        (tx.epoch, MODEL),
    ).fetchall()
    for reservation, *_ in rows:
        forfeit(tx, reservation, "cut off: the engine ended")
    for campaign in sorted({r[1] for r in rows}):
        amounts = [r[3] for r in rows if r[1] == campaign and r[2] == MODEL and r[3]]
        if amounts:
            requests = "1 request" if len(amounts) == 1 else f"{len(amounts)} requests"
            tx.emit(
                campaign,
                events.Warned(
                    f"{requests} under way when the engine ended: charged at the worst case, "
                    f"{in_dollars(sum(amounts))}, because nobody saw what was used"
                ),
            )
    return sum(r[3] for r in rows)


# --- devices ----------------------------------------------------------------------------------------


def device_cost(seconds: float, nano_per_second: int) -> int:
    """Of ``seconds`` on an allocation, rounded up. Microseconds count."""
    return -(-round(seconds * 1_000_000) * nano_per_second // 1_000_000)


def device_started(tx: Transaction, trial: int, allocation: Allocation, seconds: float, cap: int | None) -> None:
    """Before an attempt at ``trial`` starts: set aside ``seconds`` of its allocation, the longest it may take.

    Raises OverBudget. Devices that cost nothing are not booked.
    """
    if not allocation.nano_per_second:
        return
    campaign, experiment = tx.execute("SELECT campaign, experiment FROM trial WHERE id = ?", (trial,)).fetchone()
    reserve(
        tx,
        campaign,
        DEVICE,
        allocation.host,
        device_cost(seconds, allocation.nano_per_second),
        cap,
        experiment=experiment,
        trial=trial,
        usage={"nano_per_second": allocation.nano_per_second},
    )


def device_ended(
    tx: Transaction,
    trial: int,
    seconds: float | None,
    why: str = "",
    *,
    joules: float | None = None,
    at_most: bool = False,
) -> None:
    """An attempt at ``trial`` ended after ``seconds`` (None, or no number of seconds: nobody knows).

    ``at_most``: they only bound what it used, as what was set aside does.
    """
    measured = {} if joules is None else {"joules": joules}
    rows = tx.execute(
        "SELECT id, usage, reserved FROM spend WHERE trial = ? AND kind = ? AND state = 'reserved'",
        (trial, DEVICE),
    ).fetchall()
    for reservation, usage, reserved in rows:
        rate = int(json.loads(usage)["nano_per_second"])
        cost = device_cost(seconds, rate) if seconds is not None and math.isfinite(seconds) else -1
        if at_most:
            cost = min(cost, int(reserved))
        if 0 <= cost <= LARGEST:
            settle(tx, reservation, cost, {"nano_per_second": rate, "seconds": seconds, **measured}, detail=why)
        else:
            forfeit(tx, reservation, why or "nobody knows how long it ran")


def budget_reached(tx: Transaction, campaign: int, cap: int) -> None:
    found = reading_money.balance(tx.conn, campaign)
    tx.emit(campaign, events.BudgetReached(cap, found.spent, found.reserved))
