"""Concealment of G.711: how it sounds is another benchmark's affair, that it never clicks is this one's."""

from __future__ import annotations

import numpy as np

from relay.plane.concealment import Concealment

LEG = np.array([1], np.intp)
AT = np.arange(160)


def tone(tick: int, hertz: float = 430.0, amplitude: float = 10_000.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz / 8000 * (tick * 160 + AT)))[None, :].astype(np.float32)


def play(missing: set[int], ticks: int = 20) -> tuple[np.ndarray, list[bool]]:
    concealment = Concealment(2)
    last, out, audible = np.zeros((1, 160), np.float32), [], []
    for tick in range(ticks):
        if tick in missing:
            frame, heard = concealment.conceal(LEG, last)
            audible.append(bool(heard[0]))
        else:
            frame = tone(tick).copy()
            if concealment.run[1]:
                concealment.recover(LEG, frame)
        last = frame
        out.append(frame[0])
    return np.concatenate(out), audible


def test_three_ticks_fade_and_then_there_is_silence() -> None:
    sound, audible = play({5, 6, 7, 8, 9})
    assert audible == [True, True, True, False, False]
    peaks = np.abs(sound.reshape(-1, 160)).max(axis=1)
    assert 9_000 < peaks[5] <= 10_000 > peaks[6] > peaks[7] > 0
    assert peaks[8] == peaks[9] == 0
    assert abs(sound[8 * 160 - 1]) < 100


def test_no_step_is_larger_than_the_sounds_own() -> None:
    own = np.abs(np.diff(play(set())[0][160:])).max()
    for missing in ({5}, {5, 6}, {5, 6, 7}, {5, 6, 7, 8, 9}, {4, 6, 8}):
        sound, _ = play(missing)
        # Where a real frame takes over, the blend adds at most its own slope: two amplitudes in 40 samples.
        assert np.abs(np.diff(sound[160:])).max() <= own + 2 * 10_000 / 40, missing


def test_a_leg_begins_in_silence_and_fades_in() -> None:
    sound, audible = play({0, 1})
    assert audible == [False, False]
    assert not sound[:320].any()
    assert np.abs(np.diff(sound[319:])).max() <= np.abs(np.diff(tone(2))).max() + 2 * 10_000 / 40
    assert np.array_equal(sound[320 + 40 :], play(set())[0][320 + 40 :])


def test_real_frames_are_left_as_they_are() -> None:
    sound, _ = play(set())
    assert np.array_equal(sound[160:], np.concatenate([tone(tick)[0] for tick in range(1, 20)]))


def test_opening_forgets_the_past() -> None:
    concealment = Concealment(2)
    concealment.run[1] = 0
    concealment.conceal(LEG, tone(3))
    concealment.open(1)
    frame, heard = concealment.conceal(LEG, tone(4))
    assert not frame.any()
    assert not heard[0]
