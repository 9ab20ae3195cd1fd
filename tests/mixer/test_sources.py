import numpy as np
import pytest

from mixer.frame import FULL_SCALE, RATES
from mixer.sources import BEEP_HZ, MUSIC_STRONGEST_HZ, RINGBACK_HZ, Source

NAMES = ["music", "ringback", "busy", "beep", "silence"]


@pytest.fixture(scope="module")
def sources():
    return {name: Source(name) for name in NAMES}


def strongest_hertz(sound, rate):
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size), 1 << 17))
    return np.fft.rfftfreq(1 << 17, 1 / rate)[spectrum.argmax()]


def dbov(sound):
    return 10 * np.log10(np.mean(sound.astype(float) ** 2) / FULL_SCALE**2)


@pytest.mark.parametrize(
    ("name", "seconds"), [("music", 8), ("ringback", 5), ("busy", 1), ("beep", 15), ("silence", 0.02)]
)
def test_loops_are_whole_ticks_of_whole_numbers(sources, name, seconds):
    for rate in RATES:
        loop = sources[name].loops[rate]
        assert loop.shape == (round(seconds * 50), rate // 50)
        assert loop.dtype == np.float32
        assert (loop == np.rint(loop)).all()


def test_frames_are_views_that_nobody_can_change(sources):
    frame = sources["music"].frame(3, 8000)
    assert np.shares_memory(frame, sources["music"].loops[8000])
    with pytest.raises(ValueError, match="read-only"):
        frame[0] = 1


def test_frames_come_round(sources):
    music = sources["music"]
    assert (music.frame(1_000_000 * 400 + 7, 48000) == music.frame(7, 48000)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", RATES)
def test_the_seam_is_no_step(sources, name, rate):
    """From the last sample to the first it moves no further than it does elsewhere."""
    sound = sources[name].loops[rate].ravel()
    assert abs(sound[0] - sound[-1]) <= np.abs(np.diff(sound)).max(initial=0)


@pytest.mark.parametrize("rate", RATES)
def test_in_every_tenth_of_a_second_the_stated_note_is_the_strongest(sources, rate):
    sound = sources["music"].loops[rate].ravel()
    size = rate // 10
    assert {
        round(strongest_hertz(np.roll(sound, -begin)[:size], rate) / 20) for begin in range(0, sound.size, size // 2)
    } <= {27, 28}
    assert strongest_hertz(sound, rate) == pytest.approx(MUSIC_STRONGEST_HZ, abs=0.4)


def test_music_is_music_and_quiet(sources):
    sound = sources["music"].loops[8000].ravel()
    assert -28 < dbov(sound) < -24
    assert np.abs(sound).max() < 6000
    spectrum = np.abs(np.fft.rfft(sound))
    notes = [110.0, 185.0, 220.0, 293.66, 329.63, 369.99, 440.0, 659.26, 739.99]
    for hertz in notes:
        around = spectrum[round((hertz - 2) * 8) : round((hertz + 2) * 8)].max()
        assert around > 20 * np.median(spectrum)


def test_music_is_the_same_at_every_rate(sources):
    low, high = (sources["music"].loops[rate].ravel() for rate in (8000, 48000))
    assert np.abs(low - high[::6]).max() <= 1


@pytest.mark.parametrize("rate", RATES)
def test_ringback_is_425_hz_for_one_second_of_five(sources, rate):
    loop = sources["ringback"].loops[rate]
    assert loop[:50].any(axis=1).all()
    assert not loop[50:].any()
    assert strongest_hertz(loop[:50].ravel(), rate) == pytest.approx(RINGBACK_HZ, abs=0.5)
    assert dbov(loop[1:49]) == pytest.approx(-19.5, abs=0.1)


def test_busy_is_half_a_second_of_one(sources):
    loop = sources["busy"].loops[8000]
    assert loop[:25].any(axis=1).all()
    assert not loop[25:].any()


def test_the_beep_is_short(sources):
    loop = sources["beep"].loops[8000]
    assert loop[:10].any(axis=1).all()
    assert not loop[10:].any()
    assert strongest_hertz(loop[:10].ravel(), 8000) == pytest.approx(BEEP_HZ, abs=1)


@pytest.mark.parametrize("name", ["ringback", "busy", "beep"])
def test_tones_begin_and_end_softly(sources, name):
    """Without its 5 ms edges the tone would jump by up to its amplitude, 4,915."""
    sound = sources[name].loops[8000].ravel()
    steps = np.abs(np.diff(sound, append=0))
    on = np.flatnonzero(sound)
    assert steps[on[0] - 1] < 400
    assert steps[on[-1]] < 400


def test_silence_is_silent(sources):
    assert not any(loop.any() for loop in sources["silence"].loops.values())


def test_only_the_rates_asked_for_are_made():
    assert list(Source("busy", [8000]).loops) == [8000]
