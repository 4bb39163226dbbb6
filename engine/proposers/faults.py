"""What went wrong with a request, in the outcomes' names: billed or not, worth asking again or not, and the mend.

The package's classes are looked at by their facts (status, type, headers), so that it need not be imported here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.proposers.stream import CutShort, Stalled

ATTEMPTS = 6  # of one request, when nothing was charged for the failed ones: half a minute of waiting
CHARGED_ATTEMPTS = 3  # ... when each failed one is charged at its worst case
LONGEST_WAIT = 300.0  # seconds; a server that asks for more is left alone
_FIRST_WAIT, _LONGEST_BACK_OFF = 1.0, 60.0

# Statuses of an intermediary that gave up waiting: the service behind it may have worked, and billed.
_UNSURE = (502, 504, 524)
# An error event in place of the first one: these say that no work was done.
_BEFORE_WORK = ("overloaded_error", "rate_limit_error", "invalid_request_error", "authentication_error",
                "billing_error", "permission_error", "not_found_error", "request_too_large")  # fmt: skip
_STATUS_OF_TYPE = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500,
    "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
_MENDS = {
    400: "if the server does not speak that part of the API, name it in [proposer] without; else look at model, "
    "effort and max_tokens",
    401: "give a valid key: ANTHROPIC_API_KEY, [proposer] key_file or key_command",
    402: "see to the account's billing, or choose another key",
    403: "this key may not use that model: choose another in [proposer] model, or another key",
    404: "look at [proposer] model and base_url",
    413: "make [proposer] brief_tokens smaller, or name fewer files under [project]",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """``outcome``: of a NoProposal, should nothing else help. ``wait``: what the server asks for, in seconds."""

    outcome: str
    message: str
    mend: str = ""
    again: bool = False  # the same request may be sent again
    unbilled: bool = False  # the service did no work, so the reservation is released
    wait: float | None = None
    status: int = 0  # of HTTP, where the server answered


def classify(error: BaseException, begun: bool) -> Fault:
    """The fault behind an exception of a request. ``begun``: an event of the response had come."""
    if isinstance(error, Stalled):
        return Fault("timed out", error.what, again=True)
    if isinstance(error, CutShort):
        return Fault("cut off", str(error), again=True)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _answered(error, status, begun)
    if _is_named(error, "APIConnectionError"):
        cause = error.__cause__
        # Nothing was sent where not even a connection came about; otherwise nobody knows what was worked on.
        unsent = any(_is_named(cause, name) for name in ("ConnectError", "ConnectTimeout", "PoolTimeout"))
        return Fault(
            "failed",
            f"no connection to the service: {_words(cause or error)}",
            "look at the network, proxies and [proposer] base_url",
            again=True,
            unbilled=unsent,
        )
    if _is_named(error, "TransportError"):
        return Fault("cut off", f"the connection broke: {_words(error)}", again=True)
    if isinstance(error, ValueError) and "tool parameter JSON" in str(error):
        return Fault("invalid edit", "the model's tool call was no JSON", again=True)
    return Fault("failed", f"the response made no sense: {_words(error)}", again=True)


def _answered(error: BaseException, status: int, begun: bool) -> Fault:
    """An error that the server put into words: by its HTTP status, or as an event of a stream (status 200)."""
    kind = str(getattr(error, "type", None) or "")
    in_stream = status == 200
    if in_stream:
        status = _STATUS_OF_TYPE.get(kind, 500)
    unbilled = not begun and (kind in _BEFORE_WORK if in_stream else status >= 400 and status not in _UNSURE)
    words = str(getattr(error, "api_message", None) or _words(error))[:500]
    message = f"{kind or 'error'} ({status}): {words}"
    if getattr(error, "error_code", None) == "enforced_spend_limit_reached":
        mend = "raise the spend limit of the account or workspace, or wait until it is renewed"
        return Fault("rate limited", message, mend, unbilled=unbilled, status=status)
    wait = None if in_stream else retry_after(getattr(getattr(error, "response", None), "headers", {}))
    patient = wait is None or wait <= LONGEST_WAIT
    impatient = "" if patient else f"the service asks to wait {wait:g} s: `ratchet resume` after that"
    too_long = status == 400 and "too long" in words
    outcome, mend = "failed", _MENDS.get(413 if too_long else status, impatient)
    if status == 429:
        outcome = "rate limited"
    elif status == 529:
        outcome, mend = "overloaded", impatient or "wait, or name fallback_models under [proposer]"
    again = patient and (status in (408, 409, 429) or status >= 500)
    return Fault(outcome, message, mend, again=again, unbilled=unbilled, wait=wait, status=status)


def retry_after(headers: Mapping[str, Any]) -> float | None:
    """Seconds that ``retry-after-ms`` or ``retry-after`` ask for; None without a usable number."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def back_off(failed: int, wait: float | None, rng: random.Random) -> float:
    """Seconds before the next attempt after ``failed`` failed ones: never less than what was asked for.

    Jittered, so that parallel drafts do not come back together.
    """
    longest = min(_LONGEST_BACK_OFF, _FIRST_WAIT * 2.0 ** (failed - 1))
    if wait is None:
        return longest * rng.uniform(0.5, 1.0)
    return min(wait, LONGEST_WAIT) + rng.uniform(0.0, min(longest, 0.25 * wait + 0.1))


def _is_named(error: BaseException | None, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
