"""Opens and closes legs by the ten thousand: `python -m tests.soak.legs --cycles 100000`, which `make soak` runs.

The last line of standard output is one JSON object. Exit code 1: something is left over, and it was printed.
"""

from __future__ import annotations

# ruff: noqa: T201 - it is a program
import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator

import numpy as np

from relay.media import Codec, LegId, OpenLeg, Step
from tests.relay.media_peers import LOCAL
from tests.soak.lives import LEGS_MAX, Soak
from tests.soak.remains import Footprint, remains, row_by_row

RESIDENT_KB_MAX = 4096
"""What the process may have grown by after the warm-up, however many legs came and went: buffers at their fullest."""
OBJECTS_MAX = 20
"""Of one type, more than after the warm-up."""


def soak(cycles: int, seed: int = 1) -> tuple[list[str], dict[str, object]]:
    """So many lives of legs after a tenth as many to warm up; what is left over in the end, and what was measured."""
    began = time.process_time()
    world = Soak(seed)
    world.live(max(cycles // 10, 1000))
    world.drain()
    before = Footprint.taken()
    world.live(cycles)
    world.drain()
    after = Footprint.taken()
    left = [*remains(world.plane), *_grown(before, after), *_rows(world, Soak(seed))]
    measured: dict[str, object] = {
        "cycles": world.cycles,
        "cpu_seconds": round(time.process_time() - began, 1),
        "resident_kb": [before.resident_kb, after.resident_kb],
        "descriptors": [before.descriptors, after.descriptors],
        "objects": [before.objects.total(), after.objects.total()],
        "events": dict(world.events),
        "captured": dict(world.captured),
        "plane": {name: count for name, count in world.plane.statistics().items() if count},
    }
    return left, measured


def _grown(before: Footprint, after: Footprint) -> Iterator[str]:
    if after.resident_kb - before.resident_kb > RESIDENT_KB_MAX:
        yield f"memory: {before.resident_kb} kB grew to {after.resident_kb} kB"
    if (after.descriptors, after.threads) != (before.descriptors, before.threads):
        yield f"descriptors and threads: {before.descriptors}, {before.threads} → {after.descriptors}, {after.threads}"
    for name, count in after.grown(before, objects_max=OBJECTS_MAX).items():
        yield f"objects: {count} more of {name}"


def _rows(used: Soak, fresh: Soak) -> Iterator[str]:
    """A leg in every row, in a plane that has seen thousands and in one that has seen none: they find the same."""
    for world in (used, fresh):
        for row in range(LEGS_MAX):
            codec = Codec("PCMU", 0)
            world.plane.apply(Step(None, (OpenLeg(LegId(f"last {row}"), codec, 1, None, None, LOCAL),)))
        for _ in range(LEGS_MAX // 40 + 1):
            world.plane.tick(world.now)
            world.now += 0.02
    found, expected = row_by_row(used.plane), row_by_row(fresh.plane)
    for name, column in expected.items():
        if not np.array_equal(found[name], column, equal_nan=column.dtype.kind == "f"):
            yield f"column {name} is not as in a fresh plane: {np.unique(found[name])}"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable()  # the defects are meant
    left, measured = soak(options.cycles, options.seed)
    for sentence in left:
        print(f"left over: {sentence}", file=sys.stderr)
    print(json.dumps({"left_over": left, **measured}))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
