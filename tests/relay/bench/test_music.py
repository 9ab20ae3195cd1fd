"""A caller in a queue who hears anything but the music, or the music at another time than the others, is found out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mixer.sources import Source
from relay.bench.music import MusicHearing, as_heard
from relay.bench.sounds import second_of_tone
from relay.bench.work import Work
from relay.codecs.opus import OpusDecoder, OpusEncoder

WORK = Work(legs=4, conference=1, queue=True)
LEGS = np.arange(4)
FRAMES = 60
MUSIC = as_heard(WORK)
TICK_NS = 20_000_000

Heard = dict[int, np.ndarray]


def pieces(first: int = 380) -> np.ndarray:
    """A second and a bit of the music, past the end of its loop."""
    return MUSIC[(first + np.arange(FRAMES)) % len(MUSIC)]


def judged(heard: Heard, *, came: np.ndarray | None = None, work: Work = WORK) -> list[int]:
    hearing = MusicHearing(work, 10, 1)
    hear(hearing, heard, came)
    hearing.judge(LEGS)
    return np.flatnonzero(hearing.good).tolist()


def hear(hearing: MusicHearing, heard: Heard, came: np.ndarray | None = None, first: int = 1000) -> None:
    """Streams whose places are of their own: leg n began n frames before it was heard."""
    for tick in range(FRAMES) if came is None else came.tolist():
        frames = np.array([heard.get(leg, pieces())[tick] for leg in LEGS.tolist()])
        arrivals = np.full(4, (first + tick) * TICK_NS + 7_000_000)
        marked = hearing.hear(LEGS, LEGS + tick, frames, arrivals)
        assert not marked.any()


def test_all_hear_the_same_music() -> None:
    assert judged({}) == [0, 1, 2, 3]


SPOILT: dict[str, Callable[[], np.ndarray]] = {
    "silence": lambda: np.zeros((FRAMES, 160), np.int16),
    "its own voice beside the music": lambda: pieces() + own(1),
    "another's voice, a tenth as loud": lambda: pieces() + own(2) // 10,
    "ringback": lambda: Source("ringback", (8000,)).loops[8000][:FRAMES],
    "the music half as loud": lambda: pieces() // 2,
    "the music two frames later than the others": lambda: pieces(378),
    "the same frame again and again": lambda: np.repeat(pieces()[:1], FRAMES, axis=0),
    "six frames of silence": lambda: np.concatenate([pieces()[:30], np.zeros((6, 160)), pieces()[36:]]),
}


def own(leg: int) -> np.ndarray:
    tone = second_of_tone(WORK, leg, 8000).astype(np.int16).reshape(50, 160)
    return tone[np.arange(FRAMES) % 50]


@pytest.mark.parametrize("what", SPOILT)
def test_one_that_does_not_is_found_out(what: str) -> None:
    assert judged({1: SPOILT[what]().astype(np.int16)}) == [0, 2, 3]


def test_five_frames_may_be_missing_but_not_all() -> None:
    silence = np.concatenate([pieces()[:30], np.zeros((5, 160), np.int16), pieces()[35:]])
    assert judged({1: silence}) == [0, 1, 2, 3]
    assert judged({}, came=np.arange(45)) == [0, 1, 2, 3]
    assert judged({}, came=np.arange(44)) == []


def test_a_tick_that_the_relay_missed_is_one_wrong_frame_and_the_music_goes_on() -> None:
    """The piece goes by the clock, so all jump with it, and stay together."""
    jumped = np.concatenate([pieces()[:30], pieces(411)[: FRAMES - 30]])
    hearing = MusicHearing(WORK, 10, 1)
    for tick in range(FRAMES):
        arrivals = np.full(4, (1000 + tick + (tick >= 30)) * TICK_NS)
        hearing.hear(LEGS, LEGS + tick, np.repeat(jumped[tick : tick + 1], 4, axis=0), arrivals)
    assert hearing._wrong.tolist() == [1, 1, 1, 1]
    hearing.judge(LEGS)
    assert hearing.good.all()


def test_wrong_music_in_one_second_of_many_is_remembered() -> None:
    hearing = MusicHearing(WORK, 10, 1)
    hear(hearing, {})
    hearing.begin()
    hear(hearing, {2: np.zeros((FRAMES, 160), np.int16)}, first=1400)
    hearing.judge(LEGS)
    hear(hearing, {}, first=1800)
    hearing.judge(LEGS)
    assert hearing.good.tolist() == [True, True, False, True]
    assert hearing.judgements.tolist() == [2, 2, 2, 2]


def test_opus_is_compared_with_what_opus_makes_of_the_piece() -> None:
    """An encoder that began elsewhere in the piece codes it a little differently: no fault. One frame later is one."""
    work = Work(legs=4, conference=1, queue=True, codec="opus")
    loop = Source("music", (48_000,)).loops[48_000].astype(np.int16)
    encoder, decoder, packet = OpusEncoder(48_000), OpusDecoder(8000), np.zeros(400, np.uint8)
    heard = np.zeros((FRAMES + 20, 160), np.int16)
    for n, out in enumerate(heard):
        decoder.decode(packet, encoder.encode(np.ascontiguousarray(loop[(360 + n) % 400]), packet), out)
    music = as_heard(work)[(380 + np.arange(FRAMES)) % 400]
    everyone = dict.fromkeys(range(4), music)
    assert judged(everyone | {1: heard[20:]}, work=work) == [0, 1, 2, 3]
    assert judged(everyone | {1: heard[18:-2]}, work=work) == [0, 2, 3]
    assert judged(everyone | {1: music + own(1)}, work=work) == [0, 2, 3]
