"""Opus coders, one a leg and direction, straight from and into rows of numpy tables (RFC 6716, RFC 7587).

What fails for one packet is a negative number, which the plane counts: nothing raises through a tick. `error_text`
names it. The `…_at` methods take addresses, for tables whose row addresses are computed once; the others take arrays.
A coder belongs to one thread at a time; different coders run truly in parallel, as libopus is called without the GIL.
Importing this module raises `OperatorError` where no libopus is to be had.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relay.codecs import libopus
from relay.errors import LocalError

OpusRate = Literal[8000, 12000, 16000, 24000, 48000]
"""Rates that libopus codes at; the RTP clock is 48,000 Hz whatever this is (RFC 7587 §4.1)."""
Payload = NDArray[np.uint8] | bytes

PACKET_SAMPLES_MAX_48K = 5760
"""A packet lasts at most 120 ms (RFC 6716 §3.2.5)."""
PAYLOAD_BYTES_MAX = 1275
"""One frame; longer packets hold several (RFC 6716 §3.2.1). What we send holds one."""
FRAME_SAMPLES = np.array(
    [480, 960, 1920, 2880] * 3 + [480, 960] * 2 + [120, 240, 480, 960] * 4,  # SILK, hybrid, CELT
    np.int32,
)
"""By configuration, the upper five bits of a packet: samples at 48,000 Hz of each of its frames (RFC 6716 §3.1)."""
EXPECTED_LOSS_PERCENT = 10
"""What the encoder plans its in-band FEC for until `set_expected_loss` says better."""

BITRATE_MIN, BITRATE_MAX = 500, 512_000
COMPLEXITY_MAX = 10
"""What libopus takes."""

BAD_ARGUMENT = -1
BUFFER_TOO_SMALL = -2
INVALID_PACKET = -4

_APPLICATION_VOIP = 2048
_SIGNAL_VOICE = 3001
_SET_BITRATE = 4002
_SET_MAX_BANDWIDTH = 4004
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014
_SET_DTX = 4016
_SET_SIGNAL = 4024
_RESET_STATE = 4028
_BANDWIDTH: dict[OpusRate, int] = {8000: 1101, 12000: 1102, 16000: 1103, 24000: 1104, 48000: 1105}
"""Narrowband to fullband (RFC 6716 §2)."""

_LIBRARY = libopus.load()
_FRAME_SIZES = (ctypes.c_int16 * 48)()
"""Where libopus writes what nobody reads: it must have a place. A packet holds at most 48 frames (RFC 6716 §3.2.5)."""


class OpusDecoder:
    """One stream in, mono at `rate` whatever the packets' bandwidth and channels; freed with the object."""

    def __init__(self, rate: OpusRate) -> None:
        self.rate = rate
        self._pointer = _create(lambda error: _LIBRARY.opus_decoder_create(rate, 1, error))
        self._finalizer = weakref.finalize(self, _LIBRARY.opus_decoder_destroy, self._pointer)

    def decode(self, payload: Payload, length: int, out: NDArray[np.int16]) -> int:
        """Decode the first `length` bytes; returns the samples written, or a negative error."""
        if not 0 < length <= len(payload):
            return BAD_ARGUMENT  # libopus takes an empty payload for a lost one
        return self.decode_at(_address(payload), length, out.ctypes.data, out.size)

    def decode_at(self, payload: int | bytes, length: int, out: int, samples_max: int) -> int:
        """Like `decode`, by addresses; `length` is not zero."""
        return int(_LIBRARY.opus_decode(self._pointer, payload, length, out, samples_max, 0))

    def decode_fec(self, payload: Payload, length: int, out: NDArray[np.int16]) -> int:
        """Recover the lost packet *before* this one, as long as `out`, from its in-band FEC, else conceal it."""
        if not 0 < length <= len(payload):
            return BAD_ARGUMENT
        return int(_LIBRARY.opus_decode(self._pointer, _address(payload), length, out.ctypes.data, out.size, 1))

    def conceal(self, out: NDArray[np.int16]) -> int:
        """Make up a lost packet, as long as `out` (a multiple of 2.5 ms)."""
        return self.conceal_at(out.ctypes.data, out.size)

    def conceal_at(self, out: int, samples: int) -> int:
        """Like `conceal`, by address."""
        return int(_LIBRARY.opus_decode(self._pointer, None, 0, out, samples, 0))

    def reset(self) -> None:
        """Forget the past: another sender (SSRC) begins."""
        _set(_LIBRARY.opus_decoder_ctl, self._pointer, _RESET_STATE)

    def close(self) -> None:
        """Free it now; no method may be called any more."""
        self._finalizer()


class OpusEncoder:
    """One stream out, mono voice from `rate`: constant packets (no DTX), for that rate's bandwidth at most."""

    def __init__(self, rate: OpusRate, bitrate: int = 32_000, complexity: int = 5, *, fec: bool = True) -> None:
        self.rate = rate
        self._pointer = _create(lambda error: _LIBRARY.opus_encoder_create(rate, 1, _APPLICATION_VOIP, error))
        self._finalizer = weakref.finalize(self, _LIBRARY.opus_encoder_destroy, self._pointer)
        for request, value in (
            (_SET_BITRATE, bitrate),
            (_SET_COMPLEXITY, complexity),
            (_SET_INBAND_FEC, int(fec)),
            (_SET_PACKET_LOSS_PERC, EXPECTED_LOSS_PERCENT if fec else 0),
            (_SET_MAX_BANDWIDTH, _BANDWIDTH[rate]),
            (_SET_SIGNAL, _SIGNAL_VOICE),
            (_SET_DTX, 0),
        ):
            _set(_LIBRARY.opus_encoder_ctl, self._pointer, request, value)

    def encode(self, pcm: NDArray[np.int16], out: NDArray[np.uint8]) -> int:
        """Encode one frame (2.5 to 60 ms); returns the bytes written, or a negative error."""
        return self.encode_at(pcm.ctypes.data, pcm.size, out.ctypes.data, out.size)

    def encode_at(self, pcm: int, samples: int, out: int, bytes_max: int) -> int:
        """Like `encode`, by addresses."""
        return int(_LIBRARY.opus_encode(self._pointer, pcm, samples, out, bytes_max))

    def set_expected_loss(self, percent: int) -> None:
        """Spend this much more on in-band FEC: what the peer's receiver reports say."""
        _set(_LIBRARY.opus_encoder_ctl, self._pointer, _SET_PACKET_LOSS_PERC, min(max(percent, 0), 100))

    def reset(self) -> None:
        """Forget the past: the stream begins anew."""
        _set(_LIBRARY.opus_encoder_ctl, self._pointer, _RESET_STATE)

    def close(self) -> None:
        """Free it now; no method may be called any more."""
        self._finalizer()


def packet_samples(payload: Payload, length: int, rate: OpusRate = 48000) -> int:
    """How long a packet lasts, in samples at `rate`, by its first bytes (RFC 6716 §3.1); negative if malformed."""
    if not 0 < length <= len(payload):
        return BAD_ARGUMENT
    return int(_LIBRARY.opus_packet_get_nb_samples(_address(payload), length, rate))


def is_packet(payload: Payload, length: int) -> bool:
    """Whether a payload is whole, as RFC 6716 §3.4 demands of what a decoder takes."""
    if not 0 < length <= len(payload):
        return False
    return int(_LIBRARY.opus_packet_parse(_address(payload), length, None, None, _FRAME_SIZES, None)) > 0


def packet_frames(payload: Payload, length: int) -> int:
    """How many frames a packet holds; negative if it is malformed."""
    if not 0 < length <= len(payload):
        return BAD_ARGUMENT
    return int(_LIBRARY.opus_packet_get_nb_frames(_address(payload), length))


def error_text(code: int) -> str:
    """What libopus calls a negative result."""
    return str(_LIBRARY.opus_strerror(code).decode())


def version() -> str:
    """Which libopus this is."""
    return str(_LIBRARY.opus_get_version_string().decode())


def _create(create: Callable[[ctypes.Array[ctypes.c_int]], int | None]) -> int:
    error = (ctypes.c_int * 1)()
    pointer = create(error)
    if pointer is None or error[0] != 0:
        raise LocalError(f"libopus refused a coder: {error_text(error[0])}")
    return pointer


def _set(control: Callable[..., int], pointer: int, request: int, *values: int) -> None:
    code = control(pointer, request, *(ctypes.c_int32(value) for value in values))
    if code != 0:
        raise LocalError(f"libopus refused setting {request} to {values}: {error_text(code)}")


def _address(payload: Payload) -> int | bytes:
    """What ctypes passes on as a pointer without copying."""
    return payload if isinstance(payload, bytes) else payload.ctypes.data
