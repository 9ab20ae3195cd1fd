"""What comes of an Opus leg's packets, sample by sample beside a decoder that gets each packet once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from relay.codecs.opus import OpusDecoder, OpusEncoder
from relay.plane.opus_stream import HALF_SAMPLES, SAMPLES, OpusStream

FULL = 0x0101


def _packets(count: int, samples: int) -> list[bytes]:
    encoder = OpusEncoder(48_000)
    out = np.zeros(1275, np.uint8)
    packets = []
    for number in range(count):
        at = np.arange(number * samples, (number + 1) * samples)
        pcm = np.rint(8000 * np.sin(2 * math.pi * 700 / 48_000 * at)).astype(np.int16)
        packets.append(out[: encoder.encode(pcm, out)].tobytes())
    return packets


@pytest.mark.parametrize("halves", [1, 2, 4, 6])
def test_each_packet_is_decoded_once(halves: int) -> None:
    packets = _packets(12 // halves * 2, halves * HALF_SAMPLES)
    decoder, expected = OpusDecoder(48_000), np.zeros((len(packets), halves * HALF_SAMPLES), np.int16)
    for packet, row in zip(packets, expected, strict=True):
        assert decoder.decode(packet, len(packet), row) == row.size
    stream, heard = OpusStream(), np.zeros((12, SAMPLES), np.int16)
    for number, packet in enumerate(packets):
        stream.put(number * halves, packet)
    for slot, out in enumerate(heard):
        assert stream.take(2 * slot, FULL, out)
    # The first 5 ms fade in out of silence.
    assert np.array_equal(heard.reshape(-1)[240:], expected.reshape(-1)[240:])
