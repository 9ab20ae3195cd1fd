"""The largest number of legs that goes well: raised by half until it does not, then narrowed down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

DELIVERED_MIN: Final = 0.995
TICK_MS_MAX: Final = 20.0
GROWTH: Final = 1.5
NARROW: Final = 0.05
"""The answer is that near to the smallest number that did not go well."""
RUNS_MAX: Final = 12

Result = Mapping[str, Any]


def shortcomings(result: Result) -> list[str]:
    """Why a run did not go well; nothing if it did."""
    found: list[str] = list(result["void"])
    if result["content_ok_legs"] < result["legs"]:
        found.append(f"{result['content_ok_legs']} of {result['legs']} legs heard exactly the others")
    if result["delivered_ratio"] < DELIVERED_MIN:
        found.append(f"{result['delivered_ratio']:.2%} of packets delivered")
    if result["tick_ms"]["p99"] >= TICK_MS_MAX:
        found.append(f"ticks of {result['tick_ms']['p99']} ms")
    if result["record"] and result["recorded_tracks"] < 2 * result["legs"]:
        found.append(f"{result['recorded_tracks']} tracks recorded")
    return found


@dataclass(slots=True)
class Found:
    """The best run, and all that were made."""

    best: Result | None
    tried: list[dict[str, Any]]
    limited_by: Literal["relay", "load"] | None = None
    """What did not go well above the best; None: nothing was tried above it."""


def find_max(first: int, step: int, measure: Callable[[int], Result], legs_max: int) -> Found:
    """Begin with `first` legs; all numbers are multiples of `step`. `measure` makes one run."""
    found = Found(None, [])
    good, bad, legs = 0, 0, _rounded(first, step)
    for _ in range(RUNS_MAX):
        result = measure(legs)
        if shortcomings(result):
            result = measure(legs)  # once more: other programs come and go
        wrong = shortcomings(result)
        found.tried.append(_tried(result, legs, wrong))
        if wrong:
            bad, found.limited_by = legs, "load" if result["void"] else "relay"
        else:
            good, found.best = legs, result
        following = _rounded((good + bad) / 2 if bad else min(good * GROWTH, legs_max), step)
        if following <= good or following == bad or (bad and bad - good <= NARROW * bad):
            break
        legs = following
    return found


def _tried(result: Result, legs: int, wrong: list[str]) -> dict[str, Any]:
    figures = {name: result[name] for name in ("cpu_ms_per_leg_second", "yardstick_cpu_ms_per_leg_second", "tick_ms")}
    return {"legs": legs, "good": not wrong, "void": bool(result["void"]), "why": wrong, **figures}


def _rounded(legs: float, step: int) -> int:
    return max(step, int(legs) // step * step)
