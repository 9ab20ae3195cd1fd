"""Whole runs of the benchmark, short and small: what they report is there and true. Nothing is said of how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from relay.bench import run
from relay.bench.processes import BenchProcess
from relay.bench.run import Bench
from tests.tidy.source import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: koppel bench runs nowhere else"),
]

CONTRACT = {
    "legs", "seconds", "sent", "received", "delivered_ratio", "content_ok_legs", "cpu_ms_per_leg_second",
    "tick_late_ms", "tick_ms", "missed_ticks", "mouth_to_ear_ms", "concealed_ratio", "recorded_tracks", "rss_mb",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cores() -> Generator[None]:
    """A run moves its own process to one core."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


ATTEMPTS = 6


def koppel_bench(*arguments: str, good: int) -> dict[str, Any]:
    """The result of a run in which `good` legs heard the others; where other programs have the cores, after some more."""
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [sys.executable, "-c", "from relay.cli import main; main()", "bench", "--json", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            cwd=ROOT,
        )
        result: dict[str, Any] = json.loads(done.stdout)
        if result["content_ok_legs"] == good:
            break
    return result


def assert_contract(result: dict[str, Any]) -> None:
    assert result.keys() >= CONTRACT
    for name in ("tick_late_ms", "tick_ms"):
        assert result[name].keys() >= {"p50", "p99", "max"}
    assert result["mouth_to_ear_ms"].keys() >= {"p50", "p99"}


@pytest.mark.parametrize("record", [False, True])
def test_everybody_hears_exactly_the_others(record: bool) -> None:
    recorded = ["--record"] if record else []
    result = koppel_bench("--conference", "3", "--legs", "12", "--seconds", "1.5", *recorded, good=12)
    assert_contract(result)
    assert (result["legs"], result["content_ok_legs"]) == (12, 12)
    assert result["sent"] == pytest.approx(12 * 75, rel=0.1)
    assert result["recorded_tracks"] == (24 if record else 0)
    assert result["refused"] == 0
    assert 0.01 < result["authenticated_ratio"] < 0.03
    assert result["cpu_ms_per_leg_second"] > 0
    assert result["load_cpu_ms_per_leg_second"] > 0
    assert result["yardstick_cpu_ms_per_leg_second"] > 0


def test_pairs_without_encryption(tmp_path: Path) -> None:
    wanted = ["--pairs", "--legs", "4", "--seconds", "1", "--no-srtp", "--codec", "pcma"]
    result = koppel_bench(*wanted, "--plot", str(tmp_path / "out.png"), good=4)
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert "distributions" not in result
    assert_contract(result)
    assert result["content_ok_legs"] == 4
    assert result["authenticated_ratio"] == 0


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
def test_callers_in_a_queue_hear_the_music(codec: str) -> None:
    result = koppel_bench("--queue", "--legs", "6", "--seconds", "1.2", "--codec", codec, good=6)
    assert_contract(result)
    assert (result["content_ok_legs"], result["queue"], result["conference"]) == (6, True, 1)
    assert result["mouth_to_ear_ms"] == {"p50": None, "p99": None}
    assert result["opus"] == ({"bitrate": 32_000, "complexity": 5, "frame_ms": 20} if codec == "opus" else None)


def test_a_softphone_in_a_call_with_a_telephone() -> None:
    result = koppel_bench("--pairs", "--legs", "4", "--seconds", "1.2", "--codec", "opus+pcmu", good=4)
    assert result["content_ok_legs"] == 4
    assert result["opus"] == {"bitrate": 32_000, "complexity": 5, "frame_ms": 20}


def test_a_relay_that_crosses_conferences_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """All packets come, and all are authentic: only listening shows that three of twelve legs hear strangers."""

    def process(module: str, *arguments: Any) -> BenchProcess:
        return BenchProcess(module.replace("relay.bench.relay_process", "tests.relay.bench.crossed_relay"), *arguments)

    monkeypatch.setattr(run, "BenchProcess", process)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for _ in range(ATTEMPTS):
        result = Bench(conference=3, seconds=1.5).run(12, lambda _: None)
        assert result["content_ok_legs"] <= 9
        if result["content_ok_legs"] == 9:
            break
    assert result["content_ok_legs"] == 9
    assert result["refused"] == 0
    assert result["delivered_ratio"] > 0.9
    ticks = {name: sum(count for _, count in counts) for name, counts in result["distributions"].items()}
    assert ticks["tick_ms"] == ticks["tick_late_ms"] > 0
    assert ticks["mouth_to_ear_ms"] > 0
