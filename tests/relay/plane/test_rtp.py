"""Kinds of datagrams, bounds of payloads, and headers of what is sent."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.plane.packets import SEND_STRIDE, PacketTable
from relay.plane.rtp import Kinds, classify, header_words, payload_bounds, write_headers


def table_of(*datagrams: bytes) -> PacketTable:
    table = PacketTable(max(len(datagrams), 1))
    for row, datagram in enumerate(datagrams):
        table.put(row, datagram, 0)
    return table


def header(first: int = 0x80, second: int = 0) -> bytes:
    return struct.pack("!BBHII", first, second, 1, 2, 3)


def kinds_of(*datagrams: bytes) -> Kinds:
    table = table_of(*datagrams)
    return classify(header_words(table, len(datagrams)), table.length[: len(datagrams)])


def test_kinds_by_first_and_second_byte() -> None:
    datagrams = [
        header() + b"x",
        header(second=0x80 | 101),
        header(second=200),  # RTCP sender report
        header(second=192),
        header(second=223),
        header(second=224),  # marker and payload type 96
        b"\x00\x01",  # STUN
        b"\x03",
        b"\x14",  # DTLS
        b"\x3f",
        b"\x04rest",
        b"\x40channel",  # TURN channel data: none of ours
        header()[:11],
        b"\x80\xc8\x00",
        b"",
    ]
    kinds = kinds_of(*datagrams)
    assert kinds.rtp.tolist() == [0, 1, 5]
    assert kinds.rtcp.tolist() == [2, 3, 4]
    assert kinds.control.tolist() == [6, 7, 8, 9]
    assert kinds.malformed == 5


def test_a_plain_table_is_sorted_at_once() -> None:
    kinds = kinds_of(header(), header(), header())
    assert kinds.rtp.tolist() == [0, 1, 2]
    assert kinds.rtcp.size == kinds.control.size == kinds.malformed == 0


@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        (header() + b"abc", b"abc"),
        (header(), b""),
        (header(0x82) + b"CSRC" * 2 + b"abc", b"abc"),
        (header(0x90) + b"\xbe\xde\x00\x01" + b"ext!" + b"abc", b"abc"),
        (header(0x91) + b"CSRC" + b"\xbe\xde\x00\x00" + b"abc", b"abc"),
        (header(0xA0) + b"abc" + b"\0\0\x03", b"abc"),
        (header(0xA0) + b"\x01", b""),
        (header(0xB1) + b"CSRC\xbe\xde\x00\x01ext!abc\0\x02", b"abc"),
        (header(0x8F) + b"CSRC", None),
        (header(0x90) + b"\xbe", None),
        (header(0x90) + b"\xbe\xde\xff\xff", None),
        (header(0xA0) + b"abc\x00", None),
        (header(0xA0) + b"abc\x05", None),
        (header(0xA0), None),
    ],
)
def test_bounds_of_payloads(packet: bytes, payload: bytes | None) -> None:
    table = table_of(packet)
    offset, size = payload_bounds(table, np.zeros(1, np.intp), header_words(table, 1))
    if payload is None:
        assert size[0] < 0
    else:
        assert table.data[0, offset[0] : offset[0] + size[0]].tobytes() == payload


@given(st.binary(min_size=12, max_size=200))
def test_bounds_never_leave_the_datagram(packet: bytes) -> None:
    table = table_of(bytes([0x80 | packet[0] & 0x3F]) + packet[1:])
    offset, size = payload_bounds(table, np.zeros(1, np.intp), header_words(table, 1))
    assert size[0] < 0 or 12 <= offset[0] <= offset[0] + size[0] <= len(packet)


def test_headers_of_what_is_sent() -> None:
    table = PacketTable(3, SEND_STRIDE)
    write_headers(
        table,
        2,
        second=np.array([0x80, 0x6F], np.uint8),
        sequence=np.array([1, 0xFFFF], np.uint16),
        timestamp=np.array([160, 0xFFFFFFFF], np.uint32),
        ssrc=np.array([0xDEADBEEF, 1], np.uint32),
    )
    assert table.data[0, :12].tobytes() == struct.pack("!BBHII", 0x80, 0x80, 1, 160, 0xDEADBEEF)
    assert table.data[1, :12].tobytes() == struct.pack("!BBHII", 0x80, 0x6F, 0xFFFF, 0xFFFFFFFF, 1)
    assert not table.data[2].any()
