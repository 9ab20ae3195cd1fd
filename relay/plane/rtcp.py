"""RTCP: compound packets in and out (RFC 3550 §6), and the round trip that they tell."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 to 1970."""
PACKETS_MAX: Final = 16
"""Packets that one compound packet may hold before the rest is ignored."""


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What one receiver says of one sender (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Of 256, since the last report."""
    cumulative_lost: int
    highest_sequence: int
    """With its cycles in the upper 16 bits."""
    jitter: int
    """RTP clock ticks."""
    last_sender_report: int = 0
    """Middle 32 bits of the NTP time of the last sender report; 0: none."""
    delay: int = 0
    """1/65,536 seconds since that report came."""


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """What a sender says of itself."""

    ntp: int
    """64 bits."""
    timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class Report:
    """A sender or receiver report."""

    ssrc: int
    sender: SenderInfo | None
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """BYE: the source stops; it does not end the call, which is signalling's affair."""

    ssrcs: tuple[int, ...]


def ntp_time(wall: float) -> int:
    """Unix seconds as 64-bit NTP time."""
    return int((wall + NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def middle(ntp: int) -> int:
    """The middle 32 bits: 1/65,536 seconds (RFC 3550 §4)."""
    return ntp >> 16 & 0xFFFFFFFF


def round_trip_seconds(block: ReportBlock, wall: float) -> float | None:
    """A - LSR - DLSR (RFC 3550 §6.4.1), if the peer has seen a report of ours; never below zero."""
    if block.last_sender_report == 0:
        return None
    units = (middle(ntp_time(wall)) - block.last_sender_report - block.delay) & 0xFFFFFFFF
    if units >= 0x80000000:
        return 0.0
    return units / 65_536


def description(ssrc: int, cname: bytes) -> bytes:
    """The SDES packet with the CNAME, which RFC 3550 §6.1 demands in every compound packet."""
    item = bytes((1, len(cname))) + cname
    return _packet(SOURCE_DESCRIPTION, 1, struct.pack("!I", ssrc) + item + bytes(4 - len(item) % 4))


def build(report: Report, described: bytes, *, goodbye: bool = False) -> bytes:
    """A compound packet: report, description, and BYE."""
    kind, body = RECEIVER_REPORT, struct.pack("!I", report.ssrc)
    if report.sender is not None:
        sender = report.sender
        kind = SENDER_REPORT
        body += struct.pack("!QIII", sender.ntp, sender.timestamp, sender.packets, sender.octets)
    body += b"".join(_pack_block(block) for block in report.blocks)
    compound = _packet(kind, len(report.blocks), body) + described
    return compound + _packet(GOODBYE, 1, struct.pack("!I", report.ssrc)) if goodbye else compound


def parse(data: bytes) -> Iterator[Report | Goodbye]:
    """The reports and goodbyes of a compound packet, as far as it is well-formed (RFC 3550 A.2)."""
    offset = 0
    for _ in range(PACKETS_MAX):
        if offset + 4 > len(data):
            return
        first, kind, words = struct.unpack_from("!BBH", data, offset)
        end = offset + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            return
        body = data[offset + 4 : end - (data[end - 1] if first & 0x20 and words else 0)]
        parsed = _PARSERS.get(kind, _ignore)(body, first & 0x1F)
        if parsed is not None:
            yield parsed
        offset = end


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def _pack_block(block: ReportBlock) -> bytes:
    lost = max(-0x800000, min(0x7FFFFF, block.cumulative_lost)) & 0xFFFFFF
    return struct.pack(
        "!IIIIII",
        block.ssrc,
        block.fraction_lost << 24 | lost,
        block.highest_sequence & 0xFFFFFFFF,
        min(block.jitter, 0xFFFFFFFF),
        block.last_sender_report,
        block.delay & 0xFFFFFFFF,
    )


def _unpack_blocks(body: bytes, offset: int, count: int) -> tuple[ReportBlock, ...]:
    blocks: list[ReportBlock] = []
    for start in range(offset, min(offset + 24 * count, len(body) - 23), 24):
        ssrc, loss, highest, jitter, last, delay = struct.unpack_from("!IIIIII", body, start)
        lost = (loss & 0xFFFFFF) - (0x1000000 if loss & 0x800000 else 0)
        blocks.append(ReportBlock(ssrc, loss >> 24, lost, highest, jitter, last, delay))
    return tuple(blocks)


def _parse_sender_report(body: bytes, count: int) -> Report | None:
    if len(body) < 24:
        return None
    ssrc, ntp, timestamp, packets, octets = struct.unpack_from("!IQIII", body)
    return Report(ssrc, SenderInfo(ntp, timestamp, packets, octets), _unpack_blocks(body, 24, count))


def _parse_receiver_report(body: bytes, count: int) -> Report | None:
    if len(body) < 4:
        return None
    return Report(int.from_bytes(body[:4], "big"), None, _unpack_blocks(body, 4, count))


def _parse_goodbye(body: bytes, count: int) -> Goodbye:
    ssrcs = min(count, len(body) // 4)
    return Goodbye(struct.unpack_from(f"!{ssrcs}I", body))


def _ignore(body: bytes, count: int) -> None:
    """SDES, APP, feedback and extended reports tell us nothing yet."""


_PARSERS = {SENDER_REPORT: _parse_sender_report, RECEIVER_REPORT: _parse_receiver_report, GOODBYE: _parse_goodbye}
