"""The packets of a run: what was said, in RTP, encrypted so that a relay takes them."""

from __future__ import annotations

import numpy as np
import pytest

from relay.bench.packets import BYTES_MAX, Packets
from relay.bench.sounds import MARK_TICKS, Marks, mark, second_of_tone
from relay.bench.work import SSRC_OF_LEG, Work
from relay.codecs import g711
from relay.errors import OperatorError
from relay.plane.packets import RTP_HEADER
from relay.plane.srtp import SrtpContext

ORDER = np.array([2, 0, 1], np.intp)


def packets(work: Work, ticks: int) -> Packets:
    return Packets(work, ticks, ORDER, lambda _: None)


def expected(work: Work, leg: int, tick: int) -> bytes:
    samples = second_of_tone(work, leg, 8000).reshape(50, 160)[tick % 50]
    if Marks(work).marking(tick)[leg]:
        samples = samples + mark(8000)
    codes = np.empty(160, np.uint8)
    g711.encode("PCMU", np.rint(samples).astype(np.int16), codes)
    return codes.tobytes()


@pytest.mark.parametrize("srtp", [False, True])
def test_each_slot_holds_its_leg(srtp: bool) -> None:
    work = Work(legs=3, conference=3, srtp=srtp, seed="x")
    made = packets(work, 60)
    contexts = [SrtpContext(key, inbound=True) if (key := work.key_of_leg(leg)) else None for leg in range(3)]
    for tick in range(60):
        for slot, leg in enumerate(ORDER.tolist()):
            datagram = made.data[tick, slot, : made.length[tick, slot]].tobytes()
            context = contexts[leg]
            plain = context.unprotect(datagram) if context else datagram
            assert plain is not None
            header = np.frombuffer(plain[:12], RTP_HEADER)[0]
            assert header["first"] == 0x80
            assert header["second"] == (0x80 if tick == 0 else 0)
            assert header["sequence"] == tick
            assert header["timestamp"] == tick * 160 + leg * 1009
            assert header["ssrc"] == SSRC_OF_LEG + leg
            assert plain[12:] == expected(work, leg, tick)


def test_each_leg_of_a_conference_marks_in_its_turn() -> None:
    work = Work(legs=6, conference=3)
    marks = Marks(work)
    turns = {tick: np.flatnonzero(marks.marking(tick)).tolist() for tick in range(3 * MARK_TICKS)}
    assert {tick: legs for tick, legs in turns.items() if legs} == {
        0: [0], 1: [3], 25: [1], 26: [4], 50: [2], 51: [5],
    }  # fmt: skip
    at, speaker = marks.latest(np.array([0, 3]), np.array([49, 49]))
    assert (at.tolist(), speaker.tolist()) == ([25, 26], [1, 4])


def test_what_would_not_fit_into_memory_is_said_before() -> None:
    work = Work(legs=20_000, conference=2, seconds=3600)
    with pytest.raises(OperatorError, match=f"more than {BYTES_MAX >> 30} GB"):
        Packets(work, 180_000, np.arange(20_000), lambda _: None)
