"""What a relay says of its own health."""

from types import SimpleNamespace
from typing import cast

import pytest

from relay.metrics import Metrics, Parts


def parts(*, standstill: float = 0.01, failing: bool = False, lost: int = 0, dropped: int = 0) -> Parts:
    return cast(
        "Parts",
        SimpleNamespace(
            version="1",
            ticker=SimpleNamespace(standstill_seconds=standstill),
            recorder=SimpleNamespace(statistics=lambda: SimpleNamespace(stage_failing=failing)),
            keeper=SimpleNamespace(lost=lost),
            inbox=SimpleNamespace(dropped=dropped),
        ),
    )


def test_a_relay_that_does_its_work_is_well() -> None:
    assert Metrics(parts()).health() == {"ok": True, "problems": [], "version": "1"}


@pytest.mark.parametrize(
    ("ill", "problem"),
    [
        (parts(standstill=3.0), "the media plane stands still"),
        (parts(failing=True), "the recorder cannot write its journal"),
        (parts(lost=1), "writes to the database were lost"),
        (parts(dropped=1), "events of the plane were lost"),
    ],
)
def test_what_is_wrong_is_named(ill: Parts, problem: str) -> None:
    assert Metrics(ill).health() == {"ok": False, "problems": [problem], "version": "1"}
