"""One host in the fleet, and what is known of it: state, reason, what a person said, kinds of hardware."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from engine.errors import HostFault
from engine.grounds import Grounds
from engine.runners import Host
from engine.store.reading_hosts import HostRow


class HostState(StrEnum):
    OPENING = "opening"
    READY = "ready"
    AWAY = "away"


@dataclass
class Post:
    """One host in the fleet, and what is known of it. ``prepare`` runs after each opening of the host, for as long
    as it takes; it is given a way to tell what it is at."""

    host: Host
    prepare: Callable[[Host, Callable[[str], None]], Awaitable[Grounds]]
    usd_per_hour: float = 0.0
    avoid_foreign: bool = True
    sort: str = "local"  # local | ssh | slurm
    state: HostState = HostState.OPENING
    reason: str = ""
    mend: str = ""
    drained: str = ""  # who took it out of service
    lent: dict[str, float] = field(default_factory=dict)  # device ("" = all of it) -> until, seconds of the clock
    kinds: Counter[str] = field(default_factory=Counter)  # hardware -> slots, as it said when it was last open
    foreign: frozenset[str] = frozenset()  # devices on which somebody else's processes are
    held: int = 0  # trials that hold an allocation
    _capacity: int = 0
    _grounds: Grounds | None = None
    _since: float = 0.0  # monotonic, of ``state``
    _failures: int = 0
    _told: str = ""  # why it is away, as a person was told
    _disturbed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def grounds(self) -> Grounds:
        if self._grounds is None:
            raise HostFault(f"{self.name} was not opened" + (f": {self.reason}" if self.reason else ""), self.mend)
        return self._grounds

    @property
    def capacity(self) -> int:
        """Trials at once, as it said when it was last open."""
        return self._capacity

    def row(self) -> HostRow:
        """As the store keeps it."""
        opened = self._grounds is not None
        containment = self.host.containment if opened else None
        return HostRow(
            name=self.name,
            sort=self.sort,
            state=self.state,
            reason=self.reason,
            mend=self.mend,
            capacity=self._capacity,
            kinds=dict(self.kinds),
            devices=[asdict(device) for device in self.host.devices] if opened else [],
            containment=f"{containment.kind}: {containment.proof}" if containment else "",
            usd_per_hour=self.usd_per_hour,
            drained=self.drained,
            lent=dict(self.lent),
        )


@dataclass(frozen=True, slots=True)
class HostNews:
    """A host's row changed. ``warning``: what a person should be told, with its mend."""

    post: Post
    warning: str = ""
    mend: str = ""
