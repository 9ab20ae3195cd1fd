"""Tones through every pair of rates, and the filter's own response."""

import numpy as np
import pytest

from mixer.frame import SAMPLES_A_TICK
from mixer.resample import Resampler, Resamplers, prototype

PAIRS = [(8000, 48000), (48000, 8000), (16000, 48000), (48000, 16000), (8000, 16000), (16000, 8000)]
TICKS = 20
SETTLED_TICKS = 2


def tone(hertz, rate, amplitude=10000.0, ticks=TICKS):
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(ticks * rate // 50) / rate)).astype(np.float32)


def run(resampler, sound, row=0, rows_max=1):
    """All ticks of one row's sound, resampled."""
    rows = np.array([row])
    source = np.zeros((rows_max, SAMPLES_A_TICK[resampler.source_rate]), np.float32)
    target = np.zeros((rows_max, SAMPLES_A_TICK[resampler.target_rate]), np.float32)
    out = []
    for frame in sound.reshape(-1, source.shape[1]):
        source[row] = frame
        resampler.process(source, rows, target)
        out.append(target[row].copy())
    return np.concatenate(out)


def settled(out, rate):
    return out[SETTLED_TICKS * rate // 50 :].astype(float)


def decibel(ratio):
    return 20 * np.log10(ratio)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("hertz", [50, 300, 1000, 2000, 3000, 3400])
def test_a_tone_passes_at_its_level_and_late_by_the_stated_delay(source, target, hertz):
    resampler = Resampler(source, target, 1)
    out = settled(run(resampler, tone(hertz, source)), target)
    at = np.arange(TICKS * target // 50)[-out.size :] / target - resampler.delay_seconds
    ideal = 10000 * np.sin(2 * np.pi * hertz * at)
    gain = out @ ideal / (ideal @ ideal)
    assert abs(decibel(gain)) < 0.1
    # Nothing else than the tone: images and folds are 60 dB down, phase is linear.
    assert decibel(np.std(out - gain * ideal) / np.std(ideal)) < -60


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[0] > pair[1]])
@pytest.mark.parametrize("above", [1.15, 1.3, 1.7, 1.95])
def test_what_the_lower_rate_cannot_carry_is_60_db_down(source, target, above):
    out = settled(run(Resampler(source, target, 1), tone(above * target / 2, source)), target)
    assert decibel(np.abs(out).max() / 10000) < -60


@pytest.mark.parametrize(("low", "high"), [(8000, 48000), (8000, 16000), (16000, 48000)])
def test_the_prototype_is_symmetric_flat_and_steep(low, high):
    taps = prototype(low, high)
    assert taps.size == 24 * high // low + 1
    assert np.allclose(taps, taps[::-1])
    response = np.abs(np.fft.rfft(taps, 1 << 16))
    hertz = np.fft.rfftfreq(1 << 16, 1 / high) * 8000 / low
    assert np.abs(decibel(response[hertz <= 3400])).max() < 0.1
    assert decibel(response[hertz >= 4600].max()) < -60


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_frames_join_as_if_there_were_none(source, target):
    """The framed, blocked filter is the plain convolution."""
    sound = np.random.default_rng(1).normal(0, 1000, 4 * source // 50).astype(np.float32)
    out = run(Resampler(source, target, 1), sound)
    up, down = max(target // source, 1), max(source // target, 1)
    stuffed = np.zeros(sound.size * up)
    stuffed[::up] = sound
    expected = up * np.convolve(stuffed, prototype(source, target).astype(float))[: stuffed.size : down]
    assert np.abs(out - expected).max() < 0.05


def test_rows_do_not_touch_each_other():
    resampler, rows = Resampler(8000, 48000, 5), np.array([1, 3])
    source = np.zeros((5, 160), np.float32)
    target = np.full((5, 960), 7, np.float32)
    source[1] = 1000
    resampler.process(source, rows, target)
    assert not target[3].any()
    assert (target[[0, 2, 4]] == 7).all()
    assert target[1, -1] == pytest.approx(1000, abs=5)


def test_a_row_that_comes_back_begins_out_of_silence():
    """Nothing that somebody said before comes out later, in another call."""
    resampler = Resampler(8000, 48000, 2)
    source, target = np.full((2, 160), 9000, np.float32), np.zeros((2, 960), np.float32)
    resampler.process(source, np.array([0, 1]), target)
    resampler.process(source, np.array([1]), target)
    source[:] = 0
    resampler.process(source, np.array([0, 1]), target)
    assert not target[0].any()
    assert target[1].any()


def test_all_directions_by_name():
    resamplers = Resamplers(1)
    pcm = {rate: np.zeros((2, samples), np.float32) for rate, samples in SAMPLES_A_TICK.items()}
    pcm[48000][0] = 100
    for _ in range(2):
        resamplers.process(48000, 8000, pcm, np.array([0]))
        resamplers.process(48000, 16000, pcm, np.zeros(0, np.intp))
    assert pcm[8000][0, -1] == pytest.approx(100, abs=0.1)
    assert not pcm[16000].any()
    assert resamplers.delay_seconds(48000, 8000) == resamplers.delay_seconds(8000, 48000) == 0.0015
    assert resamplers.delay_seconds(8000, 8000) == 0
