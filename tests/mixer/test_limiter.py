import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.frame import RATES, SAMPLE_MAX
from mixer.limiter import THRESHOLD, Limiter

ROWS = np.array([0])


def sine(amplitude, ticks=1, hertz=300.0, rate=8000):
    samples = rate // 50 * ticks
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32).reshape(ticks, 1, -1)


def limited(limiter, frames, rate=8000):
    for frame in frames:
        limiter.apply(rate, frame, ROWS)
    return frames.reshape(-1)


def test_what_fits_is_left_alone_to_the_bit():
    sound = sine(THRESHOLD, 5)
    assert (limited(Limiter(1), sound.copy()) == sound.reshape(-1)).all()


@pytest.mark.parametrize("rate", RATES)
def test_four_loud_voices_never_exceed_full_scale(rate):
    out = limited(Limiter(1), sine(4 * 32000.0, 20, rate=rate), rate)
    assert np.abs(out).max() <= SAMPLE_MAX


def test_after_the_attack_a_steady_sum_keeps_its_shape():
    """Once the gain has settled, what comes out is the same sine at the threshold: no distortion."""
    out = limited(Limiter(1), sine(90000.0, 10))[160:]
    assert np.abs(out - sine(THRESHOLD, 10).reshape(-1)[160:]).max() < 2


def test_the_gain_comes_back_by_0_6_db_a_tick():
    limiter = Limiter(1)
    limited(limiter, sine(2 * THRESHOLD))
    gains = []
    for _ in range(12):
        limited(limiter, sine(1000.0))
        gains.append(float(limiter.gain[0]))
    assert gains[0] == pytest.approx(0.5 * 10**0.03, rel=0.01)
    assert gains[9] == pytest.approx(0.5 * 10**0.3, rel=0.01)
    assert gains[11] == 1.0


def test_only_loud_rows_are_touched():
    sums = np.concatenate([sine(60000.0)[0], sine(20000.0)[0]])
    Limiter(2).apply(8000, sums, np.array([0, 1]))
    assert (sums[1] == sine(20000.0)[0, 0]).all()
    assert np.abs(sums[0]).max() <= SAMPLE_MAX


def test_single_voices_are_exact_even_at_full_scale():
    sums = sine(32767.0)[0]
    Limiter(1).apply(8000, sums, ROWS, copies=1)
    assert (sums == sine(32767.0)[0]).all()


def test_a_slot_that_fades_to_one_voice_gets_its_gain_back():
    limiter = Limiter(1)
    limited(limiter, sine(90000.0))
    limiter.apply(8000, sine(1000.0)[0], ROWS, copies=1, fading=np.array([0]))
    assert limiter.gain[0] == 1


@given(
    st.lists(st.floats(0, 130000), min_size=2, max_size=8),
    st.sampled_from([100.0, 300.0, 777.0]),
)
def test_no_step_is_steeper_than_the_sum_was(amplitudes, hertz):
    """The gain moves by at most 1/20 of its range a sample (2.5 ms at 8 kHz), from tick to tick too."""
    frames = np.concatenate([sine(amplitude, hertz=hertz) for amplitude in amplitudes])
    out = limited(Limiter(1), frames.copy())
    sums = frames.reshape(-1)
    allowed = np.abs(np.diff(sums)) + np.maximum(np.abs(sums[1:]), np.abs(sums[:-1])) / 20
    assert (np.abs(np.diff(out)) <= allowed + 1).all()
