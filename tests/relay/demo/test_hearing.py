"""What was heard is measured right: frequency to a tenth of a hertz, level to a tenth of a decibel."""

import numpy as np
import pytest

from relay.demo.hearing import listen, tone


@pytest.mark.parametrize("rate", [8000, 48000])
@pytest.mark.parametrize("hz", [300.0, 440.0, 697.3, 1209.0])
def test_a_tone_is_heard_at_its_frequency_and_level(hz: float, rate: int) -> None:
    heard = listen(tone(hz, rate, rate, dbfs=-12.0), rate)
    assert heard.hz == pytest.approx(hz, abs=0.1)
    assert heard.tone_dbfs == pytest.approx(-12.0, abs=0.5)
    assert heard.level_dbfs == pytest.approx(-12.0, abs=0.1)


def test_the_stronger_of_two_tones_is_heard() -> None:
    both = tone(500, 8000, 8000, dbfs=-20) + tone(900, 8000, 8000, dbfs=-14)
    assert listen(both, 8000).hz == pytest.approx(900, abs=0.1)


def test_silence_and_too_short_a_stretch_are_nothing() -> None:
    assert listen(np.zeros(8000, np.int16), 8000).level_dbfs < -120
    assert listen(tone(500, 8000, 100), 8000).hz == 0.0


def test_frames_join_without_a_seam() -> None:
    joined = np.concatenate([tone(444, 8000, 160, first=n * 160) for n in range(50)])
    assert np.array_equal(joined, tone(444, 8000, 8000))
