"""Places where a test may kill the engine: between intent, effect and confirm of every step.

``RATCHET_FAILPOINT=name`` (or ``name:3`` for the third passing) ends the process there with SIGKILL, as
a power cut would: no ``finally``, no flush. Without that variable a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal

NAMES: tuple[str, ...] = (
    "engine.started",
    "campaign.created",
    "experiment.created",
    "draft.proposed",
    "draft.candidate",
    "draft.stored",
    "review.decided",
    "trials.queued",
    "attempt.intent",
    "attempt.staged",
    "attempt.launched",
    "attempt.confirmed",
    "attempt.exited",
    "trial.done",
    "judge.asked",
    "judge.ruled",
    "merge.intent",
    "merge.commit",
    "merge.advanced",
    "merge.confirmed",
    "settled",
    "stepback.stored",
)

_armed, _, _count = os.environ.get("RATCHET_FAILPOINT", "").partition(":")
_left = int(_count or 1)


def hit(name: str) -> None:
    """Pass a failpoint. Unknown names are a programming error, so that the kill matrix stays complete."""
    global _left
    if name != _armed:
        if name not in NAMES:
            raise ValueError(f"unregistered failpoint {name!r}")
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
