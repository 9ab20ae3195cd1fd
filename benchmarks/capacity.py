"""The table of `benchmarks/README.md`: every kind of work once through `koppel bench`, as rows of Markdown.

    python -m benchmarks.capacity [--seconds 10] [--rows NAME …] [--legs N]

Takes two to three minutes. Each row is one command, which it prints; run it on a machine that does nothing else. A run
that `koppel bench` itself calls void is said to be, and makes the exit code 1, as does a leg that heard anything wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work."""

    what: str
    legs: int
    options: tuple[str, ...]

    def command(self, seconds: float, legs: int | None) -> list[str]:
        """What to type."""
        return [
            "koppel",
            "bench",
            *self.options,
            "--legs",
            f"{legs or self.legs}",
            "--seconds",
            f"{seconds:g}",
            "--json",
        ]


ROWS = {
    "conferences": Row("G.711, conferences of 3, SRTP", 300, ("--conference", "3")),
    "recorded": Row("the same, both directions of every leg recorded", 300, ("--conference", "3", "--record")),
    "pairs": Row("G.711, two parties, SRTP, passed through", 300, ("--pairs",)),
    "plain": Row("G.711, conferences of 3, no SRTP", 300, ("--conference", "3", "--no-srtp")),
    "few": Row("G.711, conferences of 3, SRTP", 150, ("--conference", "3")),
    "many": Row("G.711, conferences of 3, SRTP", 600, ("--conference", "3")),
    "opus": Row("Opus, conferences of 3, SRTP", 30, ("--conference", "3", "--codec", "opus")),
    "opus and trunk": Row("Opus with G.711, two parties, SRTP", 60, ("--pairs", "--codec", "opus+pcmu")),
    "queue": Row("500 callers with the same music, Opus, SRTP", 500, ("--queue", "--codec", "opus")),
    "queue of telephones": Row("500 callers with the same music, G.711, SRTP", 500, ("--queue",)),
}


def run(command: list[str]) -> dict[str, Any]:
    """What it measured."""
    arguments = [sys.executable, "-c", "from relay.cli import main; main()", *command[1:]]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in {0, 1}:
        sys.exit(done.returncode)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def line(what: str, result: dict[str, Any]) -> str:
    """A row of the table."""
    cost, yardstick = result["cpu_ms_per_leg_second"], result["yardstick_cpu_ms_per_leg_second"]
    cells = (
        what,
        result["legs"],
        f"{cost:.2f}",
        f"{yardstick:.2f}",
        f"{cost / yardstick:.2f}",
        f"{result['content_ok_legs']} of {result['legs']}",
        f"{result['delivered_ratio']:.2%}",
        f"{result['tick_ms']['p50']:g} / {result['tick_ms']['p99']:g}",
        f"{result['tick_late_ms']['p99']:g}",
        result["missed_ticks"],
        "void" if result["void"] else f"{result['load_late_ms']['p99']:g}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


COLUMNS = (
    "work",
    "legs",
    "CPU ms a leg-second",
    "yardstick",
    "ratio",
    "legs that heard right",
    "delivered",
    "tick p50 / p99 ms",
    "late p99 ms",
    "missed ticks",
    "load late p99 ms",
)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME")
    parser.add_argument("--legs", type=int, help="instead of each row's own number")
    given = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    wrong = 0
    for name in given.rows:
        command = ROWS[name].command(given.seconds, given.legs)
        print(" ".join(command), file=sys.stderr, flush=True)
        result = run(command)
        wrong += bool(result["void"]) or result["content_ok_legs"] < result["legs"]
        print(line(ROWS[name].what, result), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
