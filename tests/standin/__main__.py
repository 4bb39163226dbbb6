"""``python -m tests.standin``: a Claude that costs nothing, for trying Ratchet by hand without a key."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.standin.faults import NAMED, faulty
from tests.standin.researcher import Researcher
from tests.standin.script import Script
from tests.standin.server import Standin


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=8787, help="on 127.0.0.1; 0: any that is free")
    parser.add_argument("--speed", type=float, default=60.0, help="tokens a second; 0: at once")
    parser.add_argument("--fault", metavar="NAME", help="one of --faults, as NAME or NAME:PLACE")
    parser.add_argument("--times", type=int, default=1, help="how often the fault strikes; -1: always")
    parser.add_argument("--mistakes", action="store_true", help="the first proposal crashes, to see it repaired")
    parser.add_argument("--faults", action="store_true", help="list the faults and end")
    return parser.parse_args(given)


def script(chosen: argparse.Namespace) -> Script:
    """Raises ValueError on an unknown fault or place."""
    researcher = Researcher(mistakes=chosen.mistakes)
    if not chosen.fault:
        return researcher
    name, _, place = chosen.fault.partition(":")
    if name not in NAMED:
        raise ValueError(f"no fault is called {name}; --faults lists them")
    return faulty(researcher, NAMED[name], place or None, chosen.times)


async def serve(chosen: argparse.Namespace) -> None:
    async with Standin(script(chosen), port=chosen.port, speed=chosen.speed) as standin:
        print(f"a stand-in of the Messages API at {standin.url} (Ctrl-C ends it)")
        print("in another terminal, in a project whose proposer is claude:")
        print(f"  ANTHROPIC_BASE_URL={standin.url} ANTHROPIC_API_KEY=stand-in ratchet", flush=True)
        await asyncio.Event().wait()


def main() -> int:
    chosen = arguments()
    if chosen.faults:
        for fault in NAMED.values():
            print(f"{fault.name:15} {fault.says} ({', '.join(fault.places)})")
        return 0
    try:
        asyncio.run(serve(chosen))
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError) as fault:
        print(f"the stand-in does not start: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
