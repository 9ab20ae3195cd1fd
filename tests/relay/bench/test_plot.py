"""The picture of a result is drawn whatever the result is, or refused before anything was measured."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from relay.bench.plot import check, draw
from relay.errors import OperatorError

RESULT: dict[str, Any] = {
    "legs": 300, "seconds": 10.0, "conference": 3, "queue": False, "codec": "pcmu", "srtp": True, "record": False,
    "delivered_ratio": 1.0, "content_ok_legs": 300, "cpu_ms_per_leg_second": 0.5, "missed_ticks": 0,
    "yardstick_cpu_ms_per_leg_second": 0.4, "load_cpu_ms_per_leg_second": 0.3, "concealed_ratio": 0.0,
    "tick_ms": {"p50": 4.0, "p99": 6.0, "max": 7.1}, "mouth_to_ear_ms": {"p50": 31.0, "p99": 44.0},
    "recorded_tracks": 0, "load_late_ms": {"p50": 0.1, "p99": 0.4}, "void": [], "machine": "a machine",
}  # fmt: skip
DISTRIBUTIONS = {
    "tick_ms": [(3.9, 50), (4.1, 440), (6.3, 10)],
    "tick_late_ms": [(0.1, 490), (2.0, 10)],
    "mouth_to_ear_ms": [(20.0, 100), (31.0, 300), (45.0, 6)],
}
TRIED = [
    {"legs": legs, "good": legs <= 450, "void": legs > 600, "why": [], "cpu_ms_per_leg_second": 0.5,
     "yardstick_cpu_ms_per_leg_second": 0.4, "tick_ms": {"p50": 4.0, "p99": legs / 25, "max": 30.0}}
    for legs in (300, 450, 675, 562)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"tried": TRIED, "max_legs": 450, "limited_by": "load"},
        {"record": True, "recorded_tracks": 599, "void": ["late"], "content_ok_legs": 0, "missed_ticks": 9},
    ],
)
def test_it_is_a_png(tmp_path: Path, changed: dict[str, Any]) -> None:
    draw(RESULT | changed, DISTRIBUTIONS, tmp_path / "out.png")
    content = (tmp_path / "out.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1440, 960)


@pytest.mark.slow
def test_a_queue_has_no_delays(tmp_path: Path) -> None:
    silent = {"queue": True, "conference": 1, "mouth_to_ear_ms": {"p50": None, "p99": None}}
    draw(RESULT | silent, DISTRIBUTIONS | {"mouth_to_ear_ms": []}, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"--plot: cannot write .*missing/out\.png: No such file"):
        check(tmp_path / "missing" / "out.png")
    with pytest.raises(OperatorError, match="Is a directory"):
        check(tmp_path)


def test_asking_leaves_everything_as_it_was(tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"before")
    check(there)
    check(tmp_path / "new.png")
    assert [file.name for file in tmp_path.iterdir()] == ["there.png"]
    assert there.read_bytes() == b"before"
