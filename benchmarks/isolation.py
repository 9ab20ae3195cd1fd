"""Ticks beside busy threads of the same interpreter, on one core: lateness and duration, by what keeps them apart.

    python -m benchmarks.isolation [--legs 150] [--seconds 5] [--core 0]

The other threads do what a control plane does, without end: pieces of pure Python of about a millisecond, with a system
call after each. Sockets are simulated, so that the tick's own work is the same in each row.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.plane import Load, SimulatedSockets, open_legs
from relay.media import MediaEvent
from relay.plane.plane import Plane
from relay.plane.stages import PlaneSettings
from relay.plane.ticker import Ticker
from relay.right_of_way import RightOfWay

WARM_SECONDS = 1.0
PIECE = 6_000
"""Turns of a loop: about a millisecond."""


def busy(give_way: Callable[[], None], stopping: threading.Event) -> None:
    """One thread of a control plane that never rests."""
    with Path(os.devnull).open("w") as nowhere:
        while not stopping.is_set():
            give_way()
            sum(i * i for i in range(PIECE))
            nowhere.write("a line of a log\n")
            nowhere.flush()


def measure(legs: int, seconds: float, threads: int, *, gives_way: bool) -> dict[str, Any]:
    """One row."""
    ticks = int((seconds + WARM_SECONDS) * 50) + 100
    load = Load(legs, ticks, srtp=True, ports=[10_000 + leg for leg in range(legs)])
    sockets = SimulatedSockets(load)
    plane = Plane(
        PlaneSettings(legs_max=max(2000, legs)), sockets, lambda _: None, entropy=os.urandom, wall=lambda now: now
    )
    open_legs(plane, load, sockets.addresses[0], record=False)
    way = RightOfWay()
    ticker = Ticker(plane, nobody, right_of_way=way)
    stopping = threading.Event()
    give_way: Callable[[], None] = way.give_way if gives_way else lambda: None
    others = [threading.Thread(target=busy, args=(give_way, stopping)) for _ in range(threads)]
    ticker.start()
    for other in others:
        other.start()
    time.sleep(WARM_SECONDS)
    ticker.reset()
    time.sleep(seconds)
    found = ticker.statistics()
    stopping.set()
    for other in others:
        other.join()
    ticker.stop()
    return {
        "busy_threads": threads,
        "give_way": gives_way,
        "late_ms": {"p50": found.late_ms.p50, "p99": found.late_ms.p99, "max": found.late_ms.max},
        "tick_ms": {"p50": found.tick_ms.p50, "p99": found.tick_ms.p99, "max": found.tick_ms.max},
        "missed_ticks": found.missed_ticks,
    }


def nobody(_events: list[MediaEvent]) -> None:
    """Events go nowhere."""


def main() -> None:
    """Print one JSON object a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--core", type=int, default=0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    for threads, gives_way in ((0, False), (1, False), (1, True), (3, False), (3, True)):
        print(json.dumps(measure(given.legs, given.seconds, threads, gives_way=gives_way)), flush=True)


if __name__ == "__main__":
    main()
