"""What both processes of a benchmark derive from one line of JSON."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from relay.bench.work import Work
from relay.errors import OperatorError


def test_conferences_of_three_and_what_is_left_over() -> None:
    assert Work(legs=9, conference=3).conferences == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    assert Work(legs=8, conference=3).conferences == ((0, 1, 2), (3, 4, 5), (6, 7))
    assert Work(legs=7, conference=3).conferences == ((0, 1, 2), (3, 4, 5, 6))
    assert Work(legs=7, conference=3).conference_of == (0, 0, 0, 1, 1, 1, 1)
    assert Work(legs=3, conference=2).conferences == ((0, 1, 2),)


def test_callers_in_a_queue_are_each_alone() -> None:
    assert Work(legs=3, conference=1, queue=True).conferences == ((0,), (1,), (2,))


@pytest.mark.parametrize("conference", [2, 3, 5, 30])
def test_no_two_tones_of_a_conference_are_near(conference: int) -> None:
    work = Work(legs=3000, conference=conference)
    for members in work.conferences:
        tones = sorted(work.tones_hz[leg] for leg in members)
        assert tones[0] >= 300
        assert tones[-1] < 3400
        assert min(b - a for a, b in pairwise(tones)) >= 50


def test_tones_are_whole_hertz_and_each_only_once() -> None:
    work = Work(legs=3000, conference=3)
    assert len(set(work.tones_hz)) == 3000
    assert work.tones_hz[:4] == (300, 1333, 2366, 689)


def test_the_sum_of_the_others_stays_below_the_limiter() -> None:
    assert Work(legs=2, conference=2).amplitude == 6000
    assert Work(legs=30, conference=30).amplitude == pytest.approx(20_000 / 29)


def test_keys_follow_from_the_seed_and_differ() -> None:
    work = Work(legs=4, conference=2, seed="one")
    keys = [key.master for leg in range(4) for key in (work.key_of_leg(leg), work.key_of_relay(leg)) if key]
    assert len(set(keys)) == 8
    assert {len(key) for key in keys} == {30}
    assert Work(legs=4, conference=2, seed="one").key_of_leg(3) == work.key_of_leg(3)
    assert Work(legs=4, conference=2, seed="two").key_of_leg(3) != work.key_of_leg(3)
    assert Work(legs=4, conference=2, srtp=False).key_of_leg(0) is None


def test_it_crosses_the_pipe_whole() -> None:
    work = Work(legs=6, conference=3, codec="opus", record=True, seconds=2.5, seed="x", relay_core=1, load_core=3)
    assert Work.parse(json.loads(json.dumps(work.to_json()))) == work


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"legs": 1}, "--legs"),
        ({"legs": 20_001}, "--legs"),
        ({"conference": 31}, "--conference"),
        ({"conference": 1}, "--conference"),
        ({"legs": 2, "conference": 3}, "--conference"),
        ({"queue": True}, "--queue"),
        ({"queue": True, "conference": 1, "codec": "opus+pcmu"}, "--queue"),
        ({"seconds": 0.5}, "--seconds"),
        ({"seconds": 3601.0}, "--seconds"),
    ],
)
def test_what_cannot_be_is_said_by_the_name_of_the_option(said: dict, complaint: str) -> None:
    with pytest.raises(OperatorError, match=complaint):
        Work(**({"legs": 60, "conference": 3} | said))
