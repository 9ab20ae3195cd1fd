"""A leg that hears anything but exactly the others, at any time of a run, is found out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from relay.bench.hearing import FRESH_MIN, Hearing
from relay.bench.sounds import FRAMES_A_SECOND, mark, second_of_tone
from relay.bench.work import Work
from relay.codecs import g711

WORK = Work(legs=9, conference=3)
LEGS = np.arange(9)
PHASES = np.zeros(9, np.intp)

Second = np.ndarray
Spoil = Callable[[Second], Second]


def others(leg: int, work: Work = WORK) -> Second:
    """What a leg ought to hear in a second, 50 rows."""
    members = work.conferences[work.conference_of[leg]]
    return said(*[other for other in members if other != leg], work=work)


def said(*legs: int, work: Work = WORK) -> Second:
    tones = [second_of_tone(work, leg, 8000) for leg in legs]
    return np.sum([np.zeros(8000), *tones], axis=0).reshape(FRAMES_A_SECOND, 160)


def through_g711(sound: Second) -> np.ndarray:
    codes, samples = np.empty(sound.shape, np.uint8), np.empty(sound.shape, np.int16)
    g711.encode("PCMU", np.rint(sound).clip(-32768, 32767).astype(np.int16), codes)
    g711.decode_int16("PCMU", codes, samples)
    return samples


def hear(hearing: Hearing, seconds: dict[int, Second], places: np.ndarray | None = None) -> None:
    for place in np.arange(FRAMES_A_SECOND) if places is None else places:
        legs = np.array(list(seconds), np.intp)
        frames = through_g711(np.array([second[place] for second in seconds.values()]))
        hearing.hear(legs, np.full(legs.size, int(place)), frames, np.zeros(legs.size, np.int64))


def judged(seconds: dict[int, Second], places: np.ndarray | None = None) -> list[int]:
    """The legs that heard exactly the others; who is not named heard what it ought to."""
    hearing = Hearing(WORK, 10, 1)
    hear(hearing, {leg: seconds.get(leg, others(leg)) for leg in LEGS.tolist()}, places)
    hearing.judge(LEGS)
    assert hearing.judgements.tolist() == [1] * 9
    return np.flatnonzero(hearing.good).tolist()


def test_all_hear_the_others() -> None:
    assert judged({}) == [0, 1, 2, 3, 4, 5, 6, 7, 8]


SPOILT: dict[str, Callable[[], Second]] = {
    "a wrong tone instead of one of the others": lambda: said(1, 5),
    "somebody of another conference beside the others": lambda: others(0) + said(7),
    "somebody of another conference at a fifth of the level": lambda: others(0) + said(7) * 0.25,
    "its own tone": lambda: others(0) + said(0),
    "only its own tone": lambda: said(0),
    "one of the others only": lambda: said(2),
    "one of the others at 40 %": lambda: said(1) + said(2) * 0.4,
    "one of the others at 160 %": lambda: said(1) + said(2) * 1.6,
    "silence": lambda: np.zeros((FRAMES_A_SECOND, 160)),
    "noise": lambda: np.random.default_rng(1).normal(0, 3000, (FRAMES_A_SECOND, 160)),
    "noise beside the others": lambda: others(0) + np.random.default_rng(1).normal(0, 12000, (FRAMES_A_SECOND, 160)),
    "the others of another conference": lambda: others(3),
    "wrong audio in the middle third": lambda: np.concatenate([others(0)[:17], others(3)[:16], others(0)[33:]]),
    "six frames of another conference": lambda: np.concatenate([others(0)[:17], others(3)[:6], others(0)[23:]]),
    "a third of a second of its own tone": lambda: (
        others(0) + said(0) * (np.arange(FRAMES_A_SECOND) // 17 == 1)[:, None]
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_one_that_does_not_is_found_out(what: str) -> None:
    assert judged({0: SPOILT[what]()}) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_mark_is_no_wrong_tone() -> None:
    marked = others(0)
    marked[10] += mark(8000)
    marked[35] += mark(8000)
    assert judged({0: marked}) == LEGS.tolist()


def test_a_delay_turns_the_sound_and_is_no_fault() -> None:
    assert judged({0: np.roll(others(0).ravel(), 137).reshape(FRAMES_A_SECOND, 160)}) == LEGS.tolist()


def test_a_frame_skipped_by_the_relay_is_no_fault() -> None:
    """From frame 20 on it hears what it would have heard a frame later."""
    sound = others(0)
    assert judged({0: np.concatenate([sound[:20], sound[21:], sound[:1]])}) == LEGS.tolist()


def test_a_tenth_of_a_second_may_be_missing_or_made_up() -> None:
    sound = others(0)
    missing, mirrored = sound.copy(), sound.copy()
    missing[20:25] = 0
    mirrored[20:30] = sound[20:30, ::-1]
    assert judged({0: missing, 1: np.roll(others(1), 20, axis=0), 3: mirrored * 0 + others(3)}) == LEGS.tolist()
    assert judged({0: mirrored}) == LEGS.tolist()


def test_fewer_frames_than_must_come() -> None:
    assert judged({}, np.arange(FRESH_MIN)) == LEGS.tolist()
    assert judged({}, np.arange(FRESH_MIN - 1)) == []


def test_what_was_heard_in_the_second_before_does_not_count_again() -> None:
    hearing = Hearing(WORK, 10, 1)
    hear(hearing, {leg: others(leg) for leg in LEGS.tolist()})
    hearing.judge(LEGS)
    hearing.judge(LEGS[:4])
    assert hearing.good.tolist() == [False] * 4 + [True] * 5


def test_wrong_audio_in_one_second_of_many_is_remembered() -> None:
    hearing = Hearing(WORK, 10, 1)
    hearing.begin()
    for second in range(4):
        sounds = {leg: others(leg) for leg in LEGS.tolist()}
        if second == 1:
            sounds[4] = others(7)
        hear(hearing, sounds)
        hearing.judge(LEGS)
    assert np.flatnonzero(~hearing.good).tolist() == [4]
    assert hearing.judgements.tolist() == [4] * 9
    hearing.begin()
    assert hearing.good.all()


def test_two_legs_and_thirty() -> None:
    """The extremes: one other at full amplitude, and 29 whose sum stays below the limiter."""
    for work in (Work(legs=2, conference=2), Work(legs=30, conference=30)):
        hearing = Hearing(work, 10, 1)
        hear(hearing, {leg: others(leg, work) for leg in range(work.legs)})
        hearing.judge(np.arange(work.legs))
        assert hearing.good.all()
        hear(hearing, {leg: others(leg, work) * (leg != 1) for leg in range(work.legs)})
        hearing.judge(np.arange(work.legs))
        assert np.flatnonzero(~hearing.good).tolist() == [1]


def test_what_passes_quickly_passes_closely_and_what_ought_to_pass_does_so_quickly() -> None:
    hearing = Hearing(WORK, 10, 1)
    sounds = {leg: SPOILT[what]() for leg, what in enumerate(list(SPOILT)[:8], 1)} | {0: others(0)}
    hear(hearing, dict(sorted(sounds.items())))
    plainly = hearing._plainly(LEGS).tolist()
    assert plainly == [True] + [False] * 8
    assert hearing._closely(0)


def test_delays_are_from_the_sending_of_a_mark_to_its_arrival() -> None:
    """Conference 0 has its first mark in tick 0, by leg 0; leg 1 hears it 31 ms after it was sent, leg 2 after 45."""
    hearing = Hearing(WORK, 100, 1)
    hearing.begin()
    hearing.sent_ns[:, 0] = np.arange(100) * 20_000_000
    hearing.time(np.array([1, 2]), PHASES, np.array([31_000_000, 45_000_000]), np.array([1, 2]))
    # the rest of the mark, in the next frame, is not counted again
    hearing.time(np.array([1, 2]), PHASES, np.array([51_000_000, 65_000_000]), np.array([2, 3]))
    delays = hearing.delays()
    assert (delays.p50, delays.p99, delays.count) == (38.0, 44.86, 2)
    assert hearing.good.all()


def test_whoever_hears_his_own_mark_hears_himself() -> None:
    hearing = Hearing(WORK, 100, 1)
    hearing.sent_ns[:, 0] = np.arange(100) * 20_000_000
    hearing.time(np.array([0, 1]), PHASES, np.array([31_000_000, 31_000_000]), np.array([1, 1]))
    assert np.flatnonzero(~hearing.good).tolist() == [0]
