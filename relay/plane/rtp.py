"""RTP headers of a whole table: what kind each datagram is, where its payload lies, and the headers of what we send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.plane.packets import PacketTable, Rows

HEADER_BYTES: Final = 12
CLOCK_RATE_PER_TICK: Final = {"PCMU": 160, "PCMA": 160, "opus": 960}
"""RTP clock ticks in 20 ms: 8,000 Hz (RFC 3551 §4.5.14), 48,000 Hz (RFC 7587 §4.1)."""
COMFORT_NOISE: Final = 13
"""RFC 3389 §4: the static payload type at 8,000 Hz."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Rows of a table by the protocol that their first bytes show."""

    rtp: Rows
    rtcp: Rows
    control: Rows
    """STUN (0–3) and DTLS (20–63), RFC 7983 §7."""
    malformed: int
    """How many are none of these, or too short for what they say they are."""


def header_words(table: PacketTable, count: int) -> NDArray[np.uint32]:
    """The first three words of rows 0 to `count`: of RTP, the whole fixed header (RFC 3550 §5.1).

    SRTP leaves them in the clear. Of a datagram of less than twelve bytes, some is of whatever the row held before.
    """
    return table.data[:count, :HEADER_BYTES].view(">u4").astype(np.uint32)


def classify(words: NDArray[np.uint32], length: NDArray[np.int32]) -> Kinds:
    """Sort datagrams by RFC 7983 §7, and RTCP from RTP by RFC 5761 §4; `words` as `header_words` gives them."""
    kind = _KINDS.take(words[:, 0] >> 16)
    rtp = (kind == _RTP) & (length >= HEADER_BYTES)
    if rtp.all():
        return Kinds(np.arange(length.size, dtype=np.intp), _NONE, _NONE, 0)
    rtcp = (kind == _RTCP) & (length >= 8)
    # A single byte tells STUN and DTLS: the second may be of whatever the row held before.
    control = (kind == _CONTROL) & (length > 0)
    known = int(np.count_nonzero(rtp)) + int(np.count_nonzero(rtcp)) + int(np.count_nonzero(control))
    return Kinds(np.flatnonzero(rtp), np.flatnonzero(rtcp), np.flatnonzero(control), length.size - known)


def payload_bounds(
    table: PacketTable, rows: Rows, words: NDArray[np.uint32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Offset and size of the payloads of RTP packets; a size below zero is malformed. `words` are their headers."""
    size = table.length.take(rows) - HEADER_BYTES
    offset = np.full(rows.size, HEADER_BYTES, np.int32)
    unusual = words[:, 0] & _PADDING_EXTENSION_CSRC
    if unusual.any():
        for i in np.flatnonzero(unusual).tolist():
            offset[i], size[i] = _bounds(table, int(rows[i]), int(words[i, 0]) >> 24)
    return offset, size


def write_headers(
    table: PacketTable,
    count: int,
    *,
    second: NDArray[np.uint8],
    sequence: NDArray[np.uint16],
    timestamp: NDArray[np.uint32],
    ssrc: NDArray[np.uint32],
) -> None:
    """Write the headers of rows 0 to `count`; `second` is marker and payload type."""
    header = table.header[:count]
    header["first"] = 0x80
    header["second"] = second
    header["sequence"] = sequence
    header["timestamp"] = timestamp
    header["ssrc"] = ssrc


def _bounds(table: PacketTable, row: int, first: int) -> tuple[int, int]:
    """RFC 3550 §5.1 and §5.3.1, for headers with CSRCs, an extension or padding."""
    data, end = table.data[row], int(table.length[row])
    offset = HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:
        if offset + 4 > end:
            return offset, -1
        offset += 4 + 4 * (int(data[offset + 2]) << 8 | int(data[offset + 3]))
    if first & 0x20:
        padding = int(data[end - 1])
        if padding == 0 or offset + padding > end:
            return offset, -1
        end -= padding
    return offset, end - offset


def _kinds() -> NDArray[np.uint8]:
    """By the first two bytes."""
    first, second = np.divmod(np.arange(65536), 256)
    version_two = first >> 6 == 2
    reports = version_two & (second >= 192) & (second <= 223)
    kinds = np.select(
        [reports, version_two, (first <= 3) | ((first >= 20) & (first <= 63))], [_RTCP, _RTP, _CONTROL], _OTHER
    )
    return kinds.astype(np.uint8)


_PADDING_EXTENSION_CSRC: Final = np.uint32(0x3F000000)
_NONE: Rows = np.zeros(0, np.intp)
_OTHER, _RTP, _RTCP, _CONTROL = range(4)
_KINDS = _kinds()
