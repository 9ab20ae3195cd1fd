"""Datagrams and sequences of them that once failed, or that stand where others have failed; each with its reason."""

from __future__ import annotations

import struct

from tests.fuzz.media import NARROW, PLAIN, UNSEEN, WIDE, Hostile


def _rtp(
    first: int, payload_type: int, rest: bytes, *, sequence: int = 1, timestamp: int = 0, ssrc: int = 4444
) -> bytes:
    return struct.pack("!BBHII", first, payload_type, sequence, timestamp, ssrc) + rest


MEDIA: dict[str, list[Hostile]] = {
    # Raised out of the intake until each leg followed one source a tick: the other's packet had no owner.
    "two sources of one leg in one tick": [
        Hostile(3, UNSEEN, _rtp(0x80, 0, bytes(160), sequence=n), protect=True, port=3 * n) for n in (1, 2)
    ],
    "a leg without keys heard from two ports in one tick": [
        Hostile(3, UNSEEN, _rtp(0x80, 0, bytes(160), sequence=n), port=2 + 3 * n) for n in (1, 2)
    ],
    # Grew a context a packet until the limit held within a tick.
    "a thousand SSRCs in one tick": [
        Hostile(3, NARROW, _rtp(0x80, 0, bytes(160), sequence=n, ssrc=9000 + n), protect=True) for n in range(1000)
    ],
    "a thousand SSRCs of reports": [
        Hostile(n // 50, NARROW, struct.pack("!BBHI", 0x80, 201, 1, 9000 + n), protect=True) for n in range(1000)
    ],
    # Fields that point beyond the datagram.
    "an extension longer than the packet": [
        Hostile(3, PLAIN, _rtp(0x90, 0, b"\xbe\xde\xff\xff" + bytes(156))),
        Hostile(4, PLAIN, _rtp(0x9F, 0, bytes(3))),
    ],
    "padding of nothing, of all, and of more": [
        Hostile(3 + n, PLAIN, _rtp(0xA0, 0, bytes(159) + bytes([padding])))
        for n, padding in enumerate((0, 160, 161, 255))
    ],
    "fifteen CSRCs and nothing else": [
        Hostile(3, PLAIN, _rtp(0x8F, 0, b"")),
        Hostile(4, PLAIN, _rtp(0x8F, 0, bytes(60))),
    ],
    "reports whose lengths lie": [
        Hostile(3, PLAIN, struct.pack("!BBHI", first, kind, words, 7) + bytes(rest))
        for first, kind, words, rest in (
            (0x9F, 200, 6, 20),
            (0x9F, 201, 1, 0),
            (0xA0, 203, 1, 0),
            (0xBF, 203, 0, 0),
            (0x80, 200, 65535, 0),
        )
    ],
    "SRTCP shorter than its tag": [
        Hostile(3, NARROW, struct.pack("!BBHI", 0x80, 200, 6, 4444) + bytes(size)) for size in range(20)
    ],
    "SRTP shorter than its tag": [Hostile(3, WIDE, _rtp(0x80, 111, bytes(size))) for size in range(20)],
    # Timestamps at the ends of what a signed difference holds.
    "timestamps at the ends of their range": [
        Hostile(3, NARROW, _rtp(0x80, 0, bytes(160), sequence=n, timestamp=stamp & 0xFFFFFFFF), protect=True)
        for n, stamp in enumerate((0, 0x7FFFFFFF, 0x80000000, -1, 0x7FFFFFB0, -160, 79, 81))
    ],
    "sound of 19 halves, most of it late": [
        Hostile(3 + n, NARROW, _rtp(0x80, 0, bytes(80 * 17), sequence=n, timestamp=stamp), protect=True)
        for n, stamp in enumerate((16_000, 16_000 - 80 * 16, 16_000 + 80 * 40))
    ],
    "Opus that is none": [
        Hostile(3, WIDE, _rtp(0x80, 111, payload, sequence=n, timestamp=960 * n), protect=True)
        for n, payload in enumerate(
            (
                b"",
                b"\xff",
                b"\xff\x00",
                b"\xff\x3f",
                b"\x7b\x82\xfc",
                b"\x01",
                b"\x03\xff",
                b"\xfb\xb0" + bytes(48),
                bytes(1300),
            )
        )
    ],
    "telephone events without end": [
        Hostile(3, NARROW, _rtp(0x80, 101, struct.pack("!BBH", 5, 0x80, 160), sequence=n, timestamp=n), protect=True)
        for n in range(500)
    ],
}
