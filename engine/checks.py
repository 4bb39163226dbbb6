"""One finding of ``ratchet doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``mend`` says what to do; "" when nothing is to be done."""

    name: str
    status: Status
    detail: str
    mend: str = ""
