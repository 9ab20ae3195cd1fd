"""What a relay says of its own health, and of its packets."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from relay.metrics import Metrics, Parts
from relay.plane.outcomes import Dropped, Taken
from tests.relay.media_peers import World, three

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


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


def test_what_came_is_the_sum_of_what_was_taken_and_what_was_dropped() -> None:
    world = World()
    three(world)
    world.run(20)
    for junk in (b"", b"\xff" * 50, b"\x80\x00" + bytes(60), b"\x00\x01" + bytes(18)):
        world.sockets.deliver(world.now - 0.01, junk, ("192.0.2.1", 9))
    world.run(20)
    packets = Metrics(cast("Parts", SimpleNamespace(plane=world.plane)))._packets()
    samples = {(each.name, *each.labels.values()): each.value for metric in packets for each in metric.samples}
    assert samples["koppel_packets_received_total",] == 124
    assert samples["koppel_packets_taken_total", "sound"] == 120
    assert samples["koppel_packets_taken_total", "control"] == 1
    for reason in ("empty", "malformed", "strangers"):
        assert samples["koppel_packets_dropped_total", reason] == 1
    names = {"koppel_packets_taken_total", "koppel_packets_dropped_total"}
    assert sum(value for (name, *_), value in samples.items() if name in names) == 124
    assert samples["koppel_latching_total", "latched"] == 3


def test_every_outcome_is_documented_and_exists_before_the_first_datagram() -> None:
    documented = re.findall(r"(?m)^\| `(\w+)` \|", DOCUMENT.read_text(encoding="utf-8"))
    names = [each.name for kind in (Taken, Dropped) for each in dataclasses.fields(kind)]
    assert documented == names
    packets = Metrics(cast("Parts", SimpleNamespace(plane=World().plane)))._packets()
    labels = [*(value for metric in packets for each in metric.samples for value in each.labels.values())]
    assert labels[: len(names)] == names
