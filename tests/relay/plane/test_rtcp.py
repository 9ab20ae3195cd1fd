"""Compound RTCP packets out and in, and the round trip."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.plane.rtcp import (
    Goodbye,
    Report,
    ReportBlock,
    SenderInfo,
    build,
    description,
    middle,
    ntp_time,
    parse,
    round_trip_seconds,
)

_U32 = st.integers(0, 0xFFFFFFFF)
_BLOCKS = st.builds(ReportBlock, _U32, st.integers(0, 255), st.integers(-0x800000, 0x7FFFFF), _U32, _U32, _U32, _U32)
_SENDERS = st.none() | st.builds(SenderInfo, st.integers(0, 2**64 - 1), _U32, _U32, _U32)
_REPORTS = st.builds(Report, _U32, _SENDERS, st.lists(_BLOCKS, max_size=31).map(tuple))


@given(_REPORTS, st.binary(max_size=60), st.booleans())
def test_what_is_built_is_read_back(report: Report, cname: bytes, goodbye: bool) -> None:
    packet = build(report, description(report.ssrc, cname), goodbye=goodbye)
    assert len(packet) % 4 == 0
    assert list(parse(packet)) == [report] + [Goodbye((report.ssrc,))] * goodbye


def test_the_bytes_of_a_sender_report() -> None:
    """RFC 3550 §6.4.1, field by field, then SDES with CNAME (§6.5) and BYE (§6.6)."""
    block = ReportBlock(0x0A0B0C0D, 64, -2, 0x00010002, 80, 0x11223344, 65_536)
    report = Report(0x01020304, SenderInfo(0xAABBCCDD_EEFF0011, 160, 3, 480), (block,))
    assert build(report, description(report.ssrc, b"a@b"), goodbye=True) == bytes.fromhex(
        "81c8000c 01020304 aabbccdd eeff0011 000000a0 00000003 000001e0"
        "0a0b0c0d 40fffffe 00010002 00000050 11223344 00010000"
        "81ca0003 01020304 01036140 62000000"
        "81cb0001 01020304".replace(" ", "")
    )


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_raising(data: bytes) -> None:
    assert len(list(parse(data))) <= 16


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\xc8",
        bytes.fromhex("80c90002") + bytes(4),  # says more than there is
        bytes.fromhex("40c90001") + bytes(4),  # version 1
        bytes.fromhex("80c80001") + bytes(4),  # a sender report without its sender
        bytes.fromhex("80c90000"),
    ],
)
def test_malformed_packets_hold_no_report(data: bytes) -> None:
    assert list(parse(data)) == []


def test_blocks_that_are_not_there_are_not_made_up() -> None:
    (report,) = parse(bytes.fromhex("9fc90007") + struct.pack("!I", 9) + bytes(24))
    assert isinstance(report, Report)
    assert len(report.blocks) == 1


def test_padding_and_unknown_packets_are_passed_over() -> None:
    unknown = bytes.fromhex("80cd0001") + bytes(4)
    padded = bytes.fromhex("a0c90002") + struct.pack("!I", 7) + bytes.fromhex("00000004")
    assert list(parse(unknown + padded)) == [Report(7, None, ())]


def test_round_trip_of_the_rfcs_figure() -> None:
    """RFC 3550 §6.4.1, figure 2: reported at b710:8000, last report b705:2000, delay 5.25 s: 6.125 s."""
    wall = 0xB44DB710_80000000 / 2**32 - 2_208_988_800
    assert middle(ntp_time(wall)) == 0xB7108000
    block = ReportBlock(1, 0, 0, 0, 0, last_sender_report=0xB7052000, delay=0x00054000)
    assert round_trip_seconds(block, wall) == 6.125


def test_round_trip_is_never_negative_and_unknown_without_a_report() -> None:
    assert round_trip_seconds(ReportBlock(1, 0, 0, 0, 0), 1000.0) is None
    now = ntp_time(1000.0)
    ahead = ReportBlock(1, 0, 0, 0, 0, last_sender_report=middle(now) + 10, delay=0)
    assert round_trip_seconds(ahead, 1000.0) == 0.0
    behind = ReportBlock(1, 0, 0, 0, 0, last_sender_report=middle(ntp_time(999.5)), delay=32_768 // 2)
    assert round_trip_seconds(behind, 1000.0) == pytest.approx(0.25, abs=1e-4)
