import itertools

import numpy as np
import pytest

from mixer.frame import FULL_SCALE, SAMPLE_MAX
from mixer.levels import Levels
from mixer.speech_like import speech_like


def dbov(sound):
    return 10 * np.log10(np.mean(sound.astype(float) ** 2) / FULL_SCALE**2)


def test_the_seed_decides_all():
    assert (speech_like(8000, 3, 1) == speech_like(8000, 3, 1)).all()
    assert (speech_like(8000, 3, 1) != speech_like(8000, 3, 2)).any()


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_shape_and_scale(rate):
    voice = speech_like(rate, 2, 5)
    assert voice.shape == (2 * rate,)
    assert voice.dtype == np.float32
    assert (voice == np.rint(voice)).all()
    assert np.abs(voice).max() <= SAMPLE_MAX


def test_it_is_as_loud_as_a_caller():
    assert -26 < dbov(speech_like(8000, 10, 3)) < -19


def test_it_can_be_looped():
    voice = speech_like(8000, 4, 9)
    assert not voice[:800].any()
    assert not voice[-400:].any()


def test_it_speaks_in_phrases_with_pauses():
    levels, row = Levels(1), np.array([0])
    talking = []
    for tick, frame in enumerate(speech_like(8000, 20, 7).reshape(-1, 160)):
        levels.measure(row, frame[None])
        if tick % 10 == 9:
            talking.append(bool(levels.report(row)[1][0]))
    assert 0.5 < np.mean(talking) < 0.98
    assert sum(a != b for a, b in itertools.pairwise(talking)) >= 4


def test_it_is_voiced_like_speech_with_its_energy_in_the_telephone_band():
    voice = speech_like(48000, 5, 2)
    power = np.abs(np.fft.rfft(voice)) ** 2
    hertz = np.fft.rfftfreq(voice.size, 1 / 48000)
    assert power[(hertz > 80) & (hertz < 3400)].sum() > 0.95 * power.sum()
    # More than one formant: a fifth of the energy lies above 500 Hz.
    assert power[hertz > 500].sum() > 0.2 * power.sum()


def test_the_pitch_can_be_chosen():
    def pitch(hertz):
        voice = speech_like(8000, 5, 4, hertz)
        correlation = np.fft.irfft(np.abs(np.fft.rfft(voice, 1 << 17)) ** 2)
        return 8000 / (25 + correlation[25:120].argmax())

    assert pitch(110) == pytest.approx(115, rel=0.15)
    assert pitch(210) == pytest.approx(220, rel=0.15)


def test_a_second_may_be_too_short_for_a_word():
    assert not speech_like(8000, 0.2, 1).any()
