"""Every benchmark runs, with as little as it can: figures are for people, but scripts that nobody runs rot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = {
    "capacity": ["--rows", "pairs", "--legs", "4", "--seconds", "1"],
    "codecs": ["--times", "1"],
    "isolation": ["--legs", "3", "--seconds", "0.2"],
    "mixer": ["--ticks", "1"],
    "plane": ["--legs", "3", "--seconds", "0.1"],
    "recorder_seal": ["--chunks", "20", "--passes", "4"],
    "softphone_transport": ["--legs", "2", "--seconds", "0.5", "--aiortc-legs", "1", "--json"],
    "stages": ["--rows", "6", "--ticks", "1"],
    "tap": ["--ticks", "20"],
}
PARTS = {"measuring", "seldom", "softphone_peers", "softphone_relay", "softphone_stock"}
"""What others import or start."""


def run(name: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    return done.stdout


def test_none_is_forgotten():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == {*TINY, *PARTS}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TINY))
def test_it_runs(name, tmp_path):
    said = run(name, tmp_path, *TINY[name])
    if name == "softphone_transport":
        result = json.loads(said)
        for kind in ("softphone", "trunk"):
            of = result[kind]
            assert of["right"] > 0
            assert (of["refused"], of["relay_refused"], of["legs_lost"], of["defects"]) == (0, 0, 0, 0)
        assert result["aiortc PCMU"]["authentic"] > 0


@pytest.mark.slow
def test_the_plane_with_real_sockets_and_recording(tmp_path):
    said = json.loads(run("plane", tmp_path, *TINY["plane"], "--sockets", "real", "--record").splitlines()[-1])
    assert said["failed"] == 0
