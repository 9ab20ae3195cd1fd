"""The voices of the simulated world tell apart who speaks and when, whatever carries them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from relay.codecs.opus import OpusDecoder
from tests.simulation import tones


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA"])
def test_a_frame_names_its_speaker_and_its_number(encoding: Literal["PCMU", "PCMA"]) -> None:
    for hertz in tones.VOICES_HZ:
        frames = tones.payloads(hertz, encoding)
        assert len(set(frames)) == tones.CODES
        spectrum = tones.amplitudes(tones.decoded(list(frames), encoding))
        assert tones.codes(spectrum).tolist() == list(range(tones.CODES))
        voices = spectrum[:, [tones.bin_of(each) for each in tones.VOICES_HZ]]
        assert (np.abs(voices[:, tones.VOICES_HZ.index(hertz)] - tones.VOICE) < 300).all()
        assert np.delete(voices, tones.VOICES_HZ.index(hertz), axis=1).max() < 400


def test_opus_keeps_both_tones() -> None:
    encoder, out = tones.wide_encoder(), np.zeros(1275, np.uint8)
    frames = tones.wide_frames(1400)
    packets = [out[: encoder.encode(frames[n % tones.CODES], out)].tobytes() for n in range(100)]
    spectrum = tones.amplitudes(tones.decoded(packets, "opus"))[2:]
    assert tones.codes(spectrum).tolist() == [n % tones.CODES for n in range(2, 100)]
    assert (np.abs(spectrum[:, tones.bin_of(1400)] - tones.VOICE) < 300).all()
    others = [tones.bin_of(each) for each in tones.VOICES_HZ if each != 1400]
    assert spectrum[:, others].max() < 700


def test_opus_recovers_from_a_loss_within_a_quarter_of_a_second() -> None:
    encoder, decoder = tones.wide_encoder(), OpusDecoder(48000)
    out, pcm = np.zeros(1275, np.uint8), np.zeros((60, 960), np.int16)
    for n, row in enumerate(pcm):
        payload = out[: encoder.encode(tones.wide_frames(1400)[n % tones.CODES], out)].tobytes()
        if n in (20, 21, 22):
            decoder.conceal(row)
        else:
            decoder.decode(payload, len(payload), row)
    voice = tones.amplitudes(tones.narrowed(pcm))[:, tones.bin_of(1400)]
    assert (voice[35:] > 6500).all()


@pytest.mark.parametrize(("encoding", "silence"), [("PCMU", 0xFF), ("PCMA", 0xD5)])
def test_silence_is_silent(encoding: Literal["PCMU", "PCMA"], silence: int) -> None:
    assert np.abs(tones.decoded([bytes([silence]) * 160], encoding)).max() <= 8
