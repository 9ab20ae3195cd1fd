import numpy as np
import pytest

from mixer.frame import RATES
from mixer.levels import HANGOVER_TICKS, REPORT_TICKS, SILENCE_DBOV, Levels

ROW = np.array([0])


def sine(dbov_of_sine, rate=8000, hertz=500.0):
    amplitude = 32768 * 10 ** ((dbov_of_sine + 3.0103) / 20)
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(rate // 50) / rate)).astype(np.float32)[None]


def noise(dbov, rng):
    return rng.normal(0, 32768 * 10 ** (dbov / 20), (1, 160)).astype(np.float32)


def talking_after(levels, frames):
    said = []
    for frame in frames:
        levels.measure(ROW, frame)
        said.append(bool(levels.report(ROW)[1][0]))
    return said


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("level", [-3.01, -20.0, -60.0])
def test_a_sine_measures_what_it_is(rate, level):
    levels = Levels(1)
    for _ in range(REPORT_TICKS):
        levels.measure(ROW, sine(level, rate))
    assert levels.report(ROW)[0][0] == pytest.approx(level, abs=0.05)


def test_a_full_scale_square_wave_is_0_dbov_in_int16_too():
    levels = Levels(1)
    levels.measure(ROW, np.full((1, 160), -32768, np.int16))
    assert levels.report(ROW)[0][0] == pytest.approx(0, abs=1e-4)


def test_energies_are_averaged_not_decibels():
    levels = Levels(1)
    levels.measure(ROW, sine(-20))
    levels.measure(ROW, np.zeros((1, 160), np.float32))
    assert levels.report(ROW)[0][0] == pytest.approx(-23.01, abs=0.05)


def test_silence_and_what_was_not_measured():
    levels = Levels(2)
    levels.measure(ROW, np.zeros((1, 160), np.float32))
    dbov, talking = levels.report(np.array([0, 1]))
    assert dbov.tolist() == [SILENCE_DBOV, SILENCE_DBOV]
    assert talking.tolist() == [False, False]


def test_a_report_begins_anew():
    levels = Levels(1)
    levels.measure(ROW, sine(-20))
    levels.report(ROW)
    levels.measure(ROW, sine(-40))
    assert levels.report(ROW)[0][0] == pytest.approx(-40, abs=0.05)


def test_speech_begins_at_once_and_hangs_over():
    said = talking_after(Levels(1), [sine(-30)] * 2 + [np.zeros((1, 160), np.float32)] * 20)
    assert said == [True] * (2 + HANGOVER_TICKS - 1) + [False] * (20 - HANGOVER_TICKS + 1)


def test_steady_noise_is_learnt_and_speech_above_it_is_not():
    rng = np.random.default_rng(1)
    levels = Levels(1)
    learning = talking_after(levels, [noise(-47, rng) for _ in range(700)])
    assert not any(learning[-50:])
    assert talking_after(levels, [noise(-25, rng)]) == [True]


def test_who_holds_a_tone_goes_on_talking():
    assert all(talking_after(Levels(1), [sine(-20)] * 3000))


def test_faint_sound_is_not_speech():
    assert not any(talking_after(Levels(1), [sine(-55)] * 20))


def test_many_rows_keep_apart_and_a_reset_forgets_one():
    levels, rows = Levels(4), np.array([3, 1])
    levels.measure(rows, np.concatenate([sine(-20), sine(-40)]))
    levels.reset(3)
    dbov, talking = levels.report(np.array([0, 1, 2, 3]))
    assert dbov == pytest.approx([-127, -40, -127, -127], abs=0.05)
    assert talking.tolist() == [False, True, False, False]


def test_no_rows_is_no_work():
    levels = Levels(1)
    levels.measure(np.zeros(0, np.intp), np.zeros((0, 160), np.float32))
    assert levels.report(np.zeros(0, np.intp))[0].size == 0
