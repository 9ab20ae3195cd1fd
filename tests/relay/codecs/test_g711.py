"""All 256 codes and all 65,536 samples against the recommendation's own tables of decision and output values.

ITU-T G.711 (11/1988), tables 1a to 2b: https://www.itu.int/rec/T-REC-G.711-198811-I
"""

import itertools

import av
import numpy as np
import pytest

from relay.codecs import g711

EVERY_CODE = np.arange(256, dtype=np.uint8)
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)


def decision_values(law):
    """Column 3 of tables 1a and 2a: x_0 = 0 and the upper end of each interval, in 13 (A) or 14 (mu) bits."""
    if law == "PCMA":
        steps = [(2, 32)] + [(2 << i, 16) for i in range(1, 7)]
        return list(itertools.accumulate((size for size, count in steps for _ in range(count)), initial=0))
    steps = [(1, 1), (2, 15)] + [(2 << i, 16) for i in range(1, 8)]
    return list(itertools.accumulate((size for size, count in steps for _ in range(count)), initial=0))


def character_signal(law, interval, positive):
    """Column 6 and its notes: the interval's number, the sign bit, and the inversion on the line."""
    if law == "PCMA":
        return (interval | (0x80 if positive else 0)) ^ 0x55
    return (0x7F - interval) | (0x80 if positive else 0)


def reference_encode(law, sample):
    """By search among the decision values; negative samples by one's complement, as in ITU-T G.191 (STL)."""
    bits = 3 if law == "PCMA" else 2
    magnitude = (sample if sample >= 0 else ~sample) >> bits
    values = decision_values(law)
    interval = max(n for n in range(len(values)) if values[n] <= magnitude)
    return character_signal(law, min(interval, 127), sample >= 0)


def reference_decode(law, code):
    """Columns 7 and 8: the middle of the interval (for mu, the first is 0)."""
    values = decision_values(law)
    bits = 3 if law == "PCMA" else 2
    for interval in range(128):
        for positive in (True, False):
            if character_signal(law, interval, positive) == code:
                middle = 0 if law == "PCMU" and interval == 0 else (values[interval] + values[interval + 1]) // 2
                return (middle if positive else -middle) << bits
    raise AssertionError(code)


def encoded(law, samples):
    out = np.zeros(samples.shape, np.uint8)
    g711.encode(law, samples, out)
    return out


def decoded(law, codes):
    out = np.zeros(codes.shape, np.int16)
    g711.decode_int16(law, codes, out)
    return out


LAWS = pytest.mark.parametrize("law", ["PCMU", "PCMA"])


def test_decision_values_end_where_the_tables_do():
    assert decision_values("PCMA")[-1] == 4096
    assert decision_values("PCMU")[-1] == 8159
    assert len(decision_values("PCMA")) == len(decision_values("PCMU")) == 129


@LAWS
def test_all_codes_decode_to_the_output_values(law):
    assert decoded(law, EVERY_CODE).tolist() == [reference_decode(law, code) for code in range(256)]


@LAWS
def test_all_samples_encode_by_the_decision_values(law):
    bits = 8 if law == "PCMA" else 4
    # The reference looks only at the upper 13 or 14 bits: one search serves all samples that share them.
    expected = np.repeat([reference_encode(law, sample) for sample in range(-32768, 32768, bits)], bits)
    assert (encoded(law, EVERY_SAMPLE) == expected).all()


@pytest.mark.parametrize(
    ("law", "code", "sample"),
    [
        ("PCMU", 0xFF, 0),
        ("PCMU", 0x7F, 0),
        ("PCMU", 0x80, 32124),
        ("PCMU", 0x00, -32124),
        ("PCMU", 0xFE, 8),
        ("PCMU", 0x8F, 16764),
        ("PCMA", 0xD5, 8),
        ("PCMA", 0x55, -8),
        ("PCMA", 0xAA, 32256),
        ("PCMA", 0x2A, -32256),
    ],
)
def test_single_values(law, code, sample):
    assert decoded(law, np.array([code], np.uint8)).tolist() == [sample]


@LAWS
def test_round_trip_of_codes(law):
    """Every code comes back, but for mu-law's negative zero, which is zero."""
    back = encoded(law, decoded(law, EVERY_CODE))
    expected = EVERY_CODE.copy()
    if law == "PCMU":
        expected[0x7F] = 0xFF
    assert (back == expected).all()


@LAWS
def test_round_trip_of_samples_errs_by_half_a_step(law):
    back = decoded(law, encoded(law, EVERY_SAMPLE)).astype(int)
    error, size = np.abs(back - EVERY_SAMPLE), np.abs(EVERY_SAMPLE.astype(int))
    largest = 32124 if law == "PCMU" else 32256
    inside = size <= largest
    # A step is a sixteenth of its segment; and the low bits of 16 are cut off before: 2 for mu-law, 3 for A-law.
    half_step, cut = ((size + 132) / 32, 1) if law == "PCMU" else (np.maximum(size, 256) / 32, 4)
    assert (error[inside] <= (half_step + cut)[inside]).all()
    assert (np.abs(back[~inside]) == largest).all()


@LAWS
def test_encoding_never_falls(law):
    assert (np.diff(decoded(law, encoded(law, EVERY_SAMPLE)).astype(int)) >= 0).all()


@LAWS
def test_another_implementation_hears_the_same(law):
    """FFmpeg decodes every code to the same sample."""
    decoder = av.CodecContext.create("pcm_mulaw" if law == "PCMU" else "pcm_alaw", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(av.Packet(EVERY_CODE.tobytes()))
    assert frame.to_ndarray().reshape(-1).tolist() == decoded(law, EVERY_CODE).tolist()


@LAWS
def test_tables_of_rows_keep_their_shape(law):
    codes = np.random.default_rng(1).integers(0, 256, (7, 160), dtype=np.uint8)
    sound = np.zeros((7, 160), np.float32)
    g711.decode(law, codes, sound)
    assert (sound == decoded(law, codes)).all()
    expected = np.where((codes == 0x7F) & (law == "PCMU"), 0xFF, codes)
    assert (encoded(law, sound.astype(np.int16)) == expected).all()


@LAWS
def test_silence(law):
    assert encoded(law, np.zeros(1, np.int16))[0] == g711.SILENCE[law]
