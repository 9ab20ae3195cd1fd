"""What peers say and how it is told apart: a tone for each leg, and a second one that counts its frames.

All tones are multiples of 50 Hz, so that a frame of 20 ms holds whole periods: any two are orthogonal within a frame,
and a frame without a neighbour is without a click. Frame `n` carries code tone `n % 24`: what is heard or recorded
says to the frame when it was said, within 480 ms.

The G.711 coders here follow the formulas of the recommendation one sample at a time, and share nothing with the relay's.
"""

from __future__ import annotations

import functools
import math
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from relay.codecs import opus
from relay.codecs.opus import OpusDecoder, OpusEncoder
from relay.media import Encoding

Sound = npt.NDArray[np.float64]

FRAME: Final = 160
"""Samples of 20 ms at 8 kHz, at which everything is listened to."""
CODES: Final = 24
VOICES_HZ: Final = tuple(range(1000, 2000, 100))
"""A peer has one of these to itself; the music of the relay is faint up there."""
CODES_HZ: Final = tuple(range(2200, 2200 + 50 * CODES, 50))
VOICE: Final = 7000.0
CODE: Final = 5000.0
MUSIC_HZ: Final = 554.375
"""The note that sounds through the whole hold music."""
RINGBACK_HZ: Final = 425.0
_SET_APPLICATION, _RESTRICTED_LOWDELAY = 4000, 2051
OPUS_BITRATE: Final = 64_000
OPUS_COMPLEXITY: Final = 0
"""Tones are no speech: at less the coder smears them into one another's place."""


@functools.cache
def payloads(hertz: int, encoding: Literal["PCMU", "PCMA"]) -> tuple[bytes, ...]:
    """The frames of a voice in G.711, one for each code."""
    code = _mu_code if encoding == "PCMU" else _a_code
    return tuple(bytes(code(int(sample)) for sample in np.rint(_frame(hertz, n, 8000))) for n in range(CODES))


@functools.cache
def wide_frames(hertz: int) -> tuple[npt.NDArray[np.int16], ...]:
    """The frames of a voice at 48 kHz, one for each code."""
    return tuple(np.rint(_frame(hertz, n, 48000)).astype(np.int16) for n in range(CODES))


def wide_encoder() -> OpusEncoder:
    """A coder as a browser has it, but without the predictor of speech: at a tone that one rings on after each loss."""
    encoder = OpusEncoder(48000, OPUS_BITRATE, OPUS_COMPLEXITY)
    opus._set(opus._LIBRARY.opus_encoder_ctl, encoder._pointer, _SET_APPLICATION, _RESTRICTED_LOWDELAY)
    return encoder


def decoded(frames: list[bytes], encoding: Encoding) -> Sound:
    """Consecutive frames of one stream as [frames, 160] samples."""
    if encoding == "opus":
        return _opus_decoded(frames)
    return _DECODED[encoding][np.frombuffer(b"".join(frames), np.uint8)].reshape(-1, FRAME)


def narrowed(wide: npt.NDArray[np.int16]) -> Sound:
    """48 kHz as [frames, 160]: every sixth sample, since nothing that matters lies above 4 kHz."""
    return wide.reshape(-1, 6 * FRAME)[:, ::6].astype(np.float64)


def amplitudes(sound: Sound) -> Sound:
    """The amplitude of every multiple of 50 Hz in each frame."""
    spectrum: Sound = np.abs(np.fft.rfft(sound, axis=1)) * (2 / FRAME)
    return spectrum


def amplitude(sound: Sound, hertz: float) -> float:
    """The amplitude of any frequency, over all of the sound."""
    samples = sound.reshape(-1)
    phase = 2 * math.pi * hertz / 8000 * np.arange(samples.size)
    return float(2 * np.hypot(samples @ np.cos(phase), samples @ np.sin(phase)) / max(samples.size, 1))


def bin_of(hertz: int) -> int:
    """The column of `amplitudes`."""
    return hertz // 50


def codes(spectrum: Sound) -> npt.NDArray[np.intp]:
    """The loudest code tone of each frame."""
    first = bin_of(CODES_HZ[0])
    loudest: npt.NDArray[np.intp] = np.argmax(spectrum[:, first : first + CODES], axis=1)
    return loudest


def _frame(hertz: int, number: int, rate: int) -> Sound:
    turn = 2 * math.pi / rate * np.arange(rate // 50)
    frame: Sound = VOICE * np.sin(hertz * turn) + CODE * np.sin(CODES_HZ[number % CODES] * turn)
    return frame


def _opus_decoded(frames: list[bytes]) -> Sound:
    decoder = OpusDecoder(48000)
    pcm = np.zeros((len(frames), 960), np.int16)
    for row, payload in zip(pcm, frames, strict=True):
        assert decoder.decode(payload, len(payload), row) == 960
    return narrowed(pcm)


def _mu_code(sample: int) -> int:
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 15) & 0xFF


def _mu_sample(code: int) -> int:
    code = ~code & 0xFF
    magnitude = ((((code & 15) << 3) + 132) << (code >> 4 & 7)) - 132
    return -magnitude if code & 0x80 else magnitude


def _a_code(sample: int) -> int:
    sign = 0x80 if sample >= 0 else 0
    magnitude = sample if sample >= 0 else -sample - 1
    exponent = max(magnitude.bit_length() - 8, 0)
    mantissa = magnitude >> (max(exponent, 1) + 3) & 15
    return (sign | exponent << 4 | mantissa) ^ 0x55


def _a_sample(code: int) -> int:
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    magnitude = (mantissa << 4) + 8 if exponent == 0 else ((mantissa << 4) + 0x108) << (exponent - 1)
    return magnitude if code & 0x80 else -magnitude


_DECODED: Final[dict[str, Sound]] = {
    "PCMU": np.array([_mu_sample(code) for code in range(256)], np.float64),
    "PCMA": np.array([_a_sample(code) for code in range(256)], np.float64),
}
