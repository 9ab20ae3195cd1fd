"""Every scenario with a few seeds, the seeds that once failed, and that a run is the same whenever and wherever it runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.simulation.run import play, scenario_of
from tests.simulation.scenarios import SCENARIOS

REGRESSIONS = [
    (2094, "kill"),  # killed between a log entry and the track that it opened: replay found the track missing
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_checker_is_content(scenario: str, seed: int) -> None:
    outcome = play(seed, scenario)
    assert outcome.violations == {}, f"repeat it by: {outcome.command}"
    assert outcome.counted["calls"] > 0


@pytest.mark.slow
def test_a_run_is_much_to_judge() -> None:
    counted = play(2, "hold").counted
    assert counted["conversations"] == 1
    assert counted["packets_heard"] > 300
    assert play(0, "kill").counted["kills"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "scenario"), REGRESSIONS)
def test_what_once_failed_holds(seed: int, scenario: str) -> None:
    assert play(seed, scenario).violations == {}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["hostile", "kill", "crowd"])
def test_the_same_seed_gives_the_same_run_to_the_bit(scenario: str) -> None:
    one, again, other = (play(seed, scenario).digest for seed in (7, 7, 8))
    assert one == again
    assert one != other


@pytest.mark.slow
def test_the_order_of_hashes_changes_nothing() -> None:
    """Sets and dictionaries of another process iterate otherwise."""
    program = "from tests.simulation.run import play; print(play(3, 'anything').digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {play(3, "anything").digest + "\n"}


def test_seeds_take_the_scenarios_in_turn() -> None:
    assert {scenario_of(seed) for seed in range(len(SCENARIOS))} == set(SCENARIOS)


@pytest.mark.slow
def test_the_command_reports_as_the_contract_says() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation.run", "--seeds", "2", "--scenario", "answer"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert (answer["seeds"], answer["violations"], answer["repeat"]) == (2, 0, [])
    assert "2 of 2 seeds" in ran.stderr
