"""The search for the largest number of legs, over relays and loads whose limits are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.bench.search import RUNS_MAX, find_max, shortcomings


def result(legs: int, **changed: Any) -> dict[str, Any]:
    return {
        "legs": legs,
        "content_ok_legs": legs,
        "delivered_ratio": 1.0,
        "tick_ms": {"p50": 5.0, "p99": 9.0, "max": 12.0},
        "record": False,
        "recorded_tracks": 0,
        "cpu_ms_per_leg_second": 0.4,
        "yardstick_cpu_ms_per_leg_second": 0.3,
        "void": [],
    } | changed


def limited(relay: int, load: int = 1_000_000) -> Callable[[int], dict[str, Any]]:
    def measure(legs: int) -> dict[str, Any]:
        if legs > load:
            return result(legs, void=["the telephones were late"])
        return result(legs, content_ok_legs=legs if legs <= relay else legs - 1)

    return measure


def test_a_good_run_has_no_shortcomings() -> None:
    assert shortcomings(result(300)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"content_ok_legs": 299}, "299 of 300 legs heard exactly the others"),
        ({"delivered_ratio": 0.9949}, "99.49% of packets delivered"),
        ({"tick_ms": {"p99": 20.0}}, "ticks of 20.0 ms"),
        ({"record": True, "recorded_tracks": 599}, "599 tracks recorded"),
        ({"void": ["late"]}, "late"),
    ],
)
def test_each_shortcoming_alone(changed: dict[str, Any], said: str) -> None:
    assert shortcomings(result(300, **changed)) == [said]


@pytest.mark.parametrize("limit", [100, 301, 450, 999, 1500, 5000])
def test_it_is_found_within_a_twentieth(limit: int) -> None:
    found = find_max(300, 3, limited(limit), 20_000)
    assert found.best is not None
    assert limit * 0.9 <= found.best["legs"] <= limit
    assert found.best["legs"] % 3 == 0
    assert found.limited_by == "relay"
    assert len(found.tried) <= RUNS_MAX


def test_the_way_is_kept() -> None:
    found = find_max(300, 3, limited(500), 20_000)
    assert [(each["legs"], each["good"]) for each in found.tried] == [
        (300, True), (450, True), (675, False), (561, False), (504, False), (477, True), (489, True),
    ][: len(found.tried)]  # fmt: skip
    assert found.tried[2]["why"] == ["674 of 675 legs heard exactly the others"]
    assert found.tried[0]["cpu_ms_per_leg_second"] == 0.4


def test_the_limit_of_the_load_is_not_taken_for_the_relays() -> None:
    found = find_max(300, 3, limited(5000, load=700), 20_000)
    assert found.best is not None
    assert 630 <= found.best["legs"] <= 700
    assert found.limited_by == "load"
    assert [each["void"] for each in found.tried] == [not each["good"] for each in found.tried]


def test_whichever_limit_is_lower_counts() -> None:
    assert find_max(300, 3, limited(400, load=700), 20_000).limited_by == "relay"


def test_nothing_above_the_largest_number_is_tried() -> None:
    found = find_max(300, 3, limited(5000), 600)
    assert found.best is not None
    assert (found.best["legs"], found.limited_by) == (600, None)


def test_not_even_the_smallest() -> None:
    found = find_max(300, 3, limited(0), 20_000)
    assert found.best is None
    assert found.tried[-1]["good"] is False


def test_one_bad_run_is_made_again() -> None:
    runs = iter([result(300, content_ok_legs=0), result(300), result(450), *[result(600, content_ok_legs=1)] * 20])
    found = find_max(300, 3, lambda _: next(runs), 20_000)
    assert found.tried[0] == found.tried[0] | {"legs": 300, "good": True}
