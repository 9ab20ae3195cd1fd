"""The ears of a benchmark's legs: what comes for them, decrypted, some of it authenticated, and decoded, in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.bench.keystream import TAG_BYTES, Keystreams
from relay.bench.sounds import g711_law
from relay.bench.work import SSRC_OF_RELAY, Work
from relay.codecs import g711
from relay.codecs.opus import OpusDecoder
from relay.plane.packets import PacketTable
from relay.plane.rtp import HEADER_BYTES
from relay.plane.srtp import RowCrypto, SrtpContext

AUTHENTICATED_EVERY: Final = 50
"""Of each leg's packets so many are authenticated by libsrtp, whose HMAC costs more than all else that ears do."""
FRAME: Final = 160
_OPUS_BYTES_MAX: Final = 288
"""What the plane's rows have room for."""
_PLAIN_HEADER: Final = 0x80
"""Version 2 without padding, extension or CSRCs: all that the relay sends."""

Rows = NDArray[np.intp]
Frames = NDArray[np.int16]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sound:
    """A frame of 8,000 Hz for each packet that could be understood; all columns belong to the ears until the next."""

    rows: Rows
    legs: Rows
    frames: Frames


class OpusStream:
    """A stream up to one of its packets. Streams that were the same so far are one, and decoded once.

    Callers who hear the same music may be sent the same packets: to decode them for each would cost the load more than
    to encode them once costs the relay.
    """

    def __init__(self, decoder: OpusDecoder | None, frame: Frames, *, good: bool) -> None:
        self.frame = frame
        self.good = good
        self._decoder = decoder
        """None: it has decoded another packet after this one."""
        self._after: dict[bytes, OpusStream] = {}

    @classmethod
    def begin(cls) -> OpusStream:
        """Before the first packet."""
        return cls(OpusDecoder(8000), np.zeros(FRAME, np.int16), good=True)

    def after(self, packet: bytes) -> OpusStream:
        """With one more packet. Where streams part, all but one go on with a decoder that knows nothing of before."""
        following = self._after.get(packet)
        if following is None:
            decoder, self._decoder = self._decoder or OpusDecoder(8000), None
            frame = np.zeros(FRAME, np.int16)
            good = decoder.decode(packet, len(packet), frame) == FRAME
            following = self._after[packet] = OpusStream(decoder, frame, good=good)
        return following


class Ears:
    """Understands what comes into the rows of a table."""

    def __init__(self, work: Work, table: PacketTable) -> None:
        self._work = work
        self._table = table
        self.refused = np.zeros(work.legs, np.int64)
        """By leg: packets that did not authenticate, or were not what was negotiated."""
        self.understood = 0
        self.authenticated = 0
        keys = [key for leg in range(work.legs) if (key := work.key_of_relay(leg)) is not None]
        self._tag_bytes = TAG_BYTES if keys else 0
        self._opus = np.array([leg in work.opus_legs for leg in range(work.legs)], np.bool_)
        self._streams: list[OpusStream] = [OpusStream.begin()] * work.legs if work.opus_legs else []
        payload_bytes_max = _OPUS_BYTES_MAX if work.opus_legs else FRAME
        ssrcs = [SSRC_OF_RELAY + leg for leg in range(work.legs)]
        self._keystreams = Keystreams(keys, ssrcs, payload_bytes_max) if keys else None
        self._contexts: list[SrtpContext] = [SrtpContext(key, inbound=True) for key in keys]
        self._met = np.zeros(work.legs, np.bool_)
        """Whose first packet libsrtp has seen: without it, it would not know of a roll-over before the next it sees."""
        self._sample = PacketTable(table.rows, table.stride)
        self._crypto = RowCrypto(self._sample)
        self._payload = table.data[:, HEADER_BYTES : HEADER_BYTES + payload_bytes_max]
        self._frames: Frames = np.zeros((table.rows, FRAME), np.int16)

    def begin(self) -> None:
        """From here on it counts."""
        self.refused[:] = 0
        self.understood = self.authenticated = 0

    def understand(self, count: int) -> Sound:
        """What rows 0 to `count` say; whatever is not media for one of the legs is passed over."""
        header = self._table.header[:count]
        legs = header["ssrc"].astype(np.intp) - SSRC_OF_RELAY
        media = (header["first"] == _PLAIN_HEADER) & (legs >= 0) & (legs < self._work.legs)
        media &= (header["second"] & 0x7F) == self._work.payload_types[legs.clip(0, self._work.legs - 1)]
        rows = np.flatnonzero(media)
        legs = legs[rows]
        size = self._table.length[rows] - (HEADER_BYTES + self._tag_bytes)
        fits: NDArray[np.bool_] = size == FRAME
        if self._streams:
            fits = np.where(self._opus[legs], (size > 0) & (size <= self._payload.shape[1]), fits)
        if not fits.all():
            self._refuse(legs[~fits])
            rows, legs, size = rows[fits], legs[fits], size[fits]
        self.understood += rows.size
        payload = self._payload[rows]
        if self._keystreams is not None and rows.size:
            sequences = header["sequence"][rows].astype(np.int64)
            payload ^= self._keystreams.take(legs, sequences).view(np.uint8)[:, : payload.shape[1]]
            self._authenticate(rows, legs, sequences, payload)
        return self._decoded(rows, legs, payload, size)

    def _authenticate(self, rows: Rows, legs: Rows, sequences: NDArray[np.int64], payload: Bytes) -> None:
        """libsrtp must take the sampled packets, and find in them what we found."""
        chosen = np.flatnonzero(((sequences + legs) % AUTHENTICATED_EVERY == 0) | ~self._met[legs])
        count = chosen.size
        if not count:
            return
        sample, legs = self._sample, legs[chosen]
        self._met[legs] = True
        sample.data[:count] = self._table.data[rows[chosen]]
        sample.length[:count] = self._table.length[rows[chosen]]
        statuses = self._crypto.unprotect(range(count), [self._contexts[int(leg)].handle for leg in legs])
        self.authenticated += count
        size = sample.length[:count] - HEADER_BYTES
        theirs = sample.data[:count, HEADER_BYTES : HEADER_BYTES + payload.shape[1]]
        differs = theirs ^ payload[chosen]
        differs[np.arange(payload.shape[1]) >= size[:, None]] = 0
        failed = (differs.max(axis=1) > 0) | (np.array(statuses, np.int64) != 0)
        self._refuse(legs[failed])

    def _decoded(self, rows: Rows, legs: Rows, payload: Bytes, size: NDArray[np.int32]) -> Sound:
        frames = self._frames[: rows.size]
        g711.decode_int16(g711_law(self._work), payload[:, :FRAME], frames)
        if not self._streams:
            return Sound(rows, legs, frames)
        good = np.ones(rows.size, np.bool_)
        for i in np.flatnonzero(self._opus[legs]).tolist():
            leg = int(legs[i])
            stream = self._streams[leg].after(payload[i, : size[i]].tobytes())
            good[i], frames[i], self._streams[leg] = stream.good, stream.frame, stream
        self._refuse(legs[~good])
        return Sound(rows[good], legs[good], frames[good])

    def _refuse(self, legs: Rows) -> None:
        np.add.at(self.refused, legs, 1)
