from mixer.frame import RATES, SAMPLES_A_TICK


def test_a_tick_is_20_ms_at_every_rate():
    assert [(rate, SAMPLES_A_TICK[rate]) for rate in RATES] == [(8000, 160), (16000, 320), (48000, 960)]
