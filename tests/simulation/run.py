"""Runs scenarios by seed: `python -m tests.simulation.run --seeds 200`, or one again by `--seed S --scenario NAME`.

Progress goes to standard error; the last line of standard output is one JSON object. Exit code 1: something does not
hold, and the command that repeats it was printed.
"""

from __future__ import annotations

# ruff: noqa: T201 - it is a program
import argparse
import json
import multiprocessing
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.checkers import KILL_COST, check, counted
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World

_SENTENCES_MAX = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run."""

    seed: int
    scenario: str
    violations: dict[str, list[str]]
    counted: dict[str, int] = field(default_factory=dict)
    digest: str = ""

    @property
    def command(self) -> str:
        return f"python -m tests.simulation.run --seed {self.seed} --scenario {self.scenario}"


def scenario_of(seed: int) -> str:
    """Seeds take the scenarios in turn."""
    names = list(SCENARIOS)
    return names[seed % len(names)]


def play(seed: int, scenario: str, *, trace: bool = False) -> Outcome:
    """One run and its judgement; a crash is a violation like any other."""
    try:
        world = World(SCENARIOS[scenario](random.Random(f"{scenario} {seed}")), f"{scenario} {seed}")
        try:
            world.run()
        finally:
            if trace:
                print("\n".join(world.trace), file=sys.stderr)
        return Outcome(seed, scenario, check(world), counted(world), world.digest)
    except Exception:  # noqa: BLE001 - whatever it is, this seed found it
        return Outcome(seed, scenario, {"the run came to its end": [traceback.format_exc()]})


def _play(job: tuple[int, str]) -> Outcome:
    return play(*job)


def main() -> int:
    options = _options()
    if options.seed is not None:
        jobs = [(options.seed, options.scenario or scenario_of(options.seed))]
        outcomes: Iterable[Outcome] = [play(*jobs[0], trace=True)]
        return _report(outcomes, len(jobs))
    jobs = [
        (seed, options.scenario or scenario_of(seed)) for seed in range(options.first, options.first + options.seeds)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        return _report(pool.imap_unordered(_play, jobs), len(jobs))


def _report(outcomes: Iterable[Outcome], count: int) -> int:
    begun = time.monotonic()
    totals: Counter[str] = Counter()
    scenarios: Counter[str] = Counter()
    broken: list[str] = []
    for done, outcome in enumerate(outcomes, 1):
        worst = max(totals[KILL_COST], outcome.counted.get(KILL_COST, 0))
        totals.update(outcome.counted)
        totals[KILL_COST] = worst
        scenarios[outcome.scenario] += 1
        if outcome.violations:
            broken.append(outcome.command)
            print(f"\nviolation: {outcome.command}", file=sys.stderr)
            for checker, sentences in outcome.violations.items():
                for sentence in sentences[:_SENTENCES_MAX]:
                    print(f"  {checker}: {sentence}", file=sys.stderr)
        if done % 10 == 0 or done == count:
            print(f"{done} of {count} seeds, {len(broken)} with violations", file=sys.stderr)
    seconds = round(time.monotonic() - begun, 1)
    answer = {"seeds": count, "violations": len(broken), "repeat": broken, "seconds": seconds, **totals}
    print(json.dumps({**answer, "scenarios": len(scenarios)}))
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="how many runs")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one alone, and print its trace")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), help="this one alone; else all in turn")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
