import numpy as np
import pytest

from recorder.pcm import MARGIN, decoded, raised


def test_g711_values_of_the_tables():
    # ITU-T G.711 tables 1a/1b and 2a/2b, at 16 bits: μ-law in steps of 4, A-law in steps of 16.
    mu = decoded(bytes([0x00, 0x80, 0x7F, 0xFF, 0x0F, 0x10, 0xF0, 0xFE]), "pcmu")
    assert mu.tolist() == [-32_124, 32_124, 0, 0, -16_764, -15_996, 120, 8]
    a = decoded(bytes([0x2A, 0xAA, 0xD5, 0x55, 0xD4, 0x80]), "pcma")
    assert a.tolist() == [-32_256, 32_256, 8, -8, 24, 5_504]


def test_16_bit_samples_are_little_endian():
    assert decoded(b"\x01\x00\xff\xff", "s16").tolist() == [1, -1]


@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_given_samples_come_out_unchanged_and_in_place(factor):
    samples = np.random.default_rng(1).normal(0, 5_000, 400).astype(np.float32)
    out = raised(samples, factor)
    assert len(out) == (400 - 2 * MARGIN) * factor
    np.testing.assert_allclose(out[::factor], samples[MARGIN:-MARGIN], atol=0.01)


@pytest.mark.parametrize("hertz", [300.0, 1_000.0, 3_400.0])
def test_a_tone_stays_the_tone_and_where_it_was(hertz):
    low = 10_000 * np.sin(2 * np.pi * hertz * np.arange(-MARGIN, 800 + MARGIN) / 8_000)
    high = raised(low.astype(np.float32), 6)
    wanted = 10_000 * np.sin(2 * np.pi * hertz * np.arange(4_800) / 48_000)
    assert np.max(np.abs(high - wanted)) < 10  # 60 dB down: no delay, no images


def test_silence_stays_silence_and_a_level_a_level():
    assert not raised(np.zeros(200, np.float32), 6).any()
    np.testing.assert_allclose(raised(np.full(200, 1_000, np.float32), 6), 1_000, atol=0.01)
