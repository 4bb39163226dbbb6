"""What a cluster's node has proved, kept beside the trials: a start while no node is free must not know less.

A containment is part of what makes scores comparable, so one that comes and goes with the queue would have the
baseline measured anew. Each job asks its own node again before it claims anything (slurm.sh). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from engine.runners import Containment

FILE = "node-proof.json"
MOST_BYTES = 64 << 10


def dump(asked: Sequence[str], found: Containment) -> bytes:
    """``asked``: the options by which the node was chosen."""
    fields = {"asked": list(asked), "kind": found.kind, "wrap": list(found.wrap), "proof": found.proof}
    return json.dumps(fields, indent=1).encode() + b"\n"


def parse(data: bytes, asked: Sequence[str]) -> Containment | None:
    """What was proved on a node that was asked for in the same way; None for anything odd."""
    try:
        fields = json.loads(data)
        words = [*fields["asked"], *fields["wrap"], fields["kind"], fields["proof"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not all(isinstance(word, str) and "\0" not in word for word in words) or fields["asked"] != list(asked):
        return None
    return Containment(fields["kind"], tuple(fields["wrap"]), fields["proof"])
