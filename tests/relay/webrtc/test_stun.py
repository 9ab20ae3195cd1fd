from __future__ import annotations

import struct

import pytest
from aioice import stun as ice_stun
from hypothesis import given
from hypothesis import strategies as st

from relay.webrtc import stun

# RFC 5769 §2.1, https://www.rfc-editor.org/rfc/rfc5769#section-2.1
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"


def test_the_sample_request_is_the_one_of_the_rfc():
    assert ice_stun.parse_message(REQUEST).check_message_integrity(PASSWORD)


def test_the_sample_request_is_read():
    assert stun.peek(REQUEST) == stun.Header("request", bytes.fromhex("b7e7a701bc34d686fa87dfae"))
    assert stun.username(REQUEST) == ("evtj", "h6vY")


@pytest.mark.parametrize(
    ("message_type", "message_class"),
    [(0x0001, "request"), (0x0011, "indication"), (0x0101, "success"), (0x0111, "error")],
)
def test_the_four_classes(message_type, message_class):
    header = stun.peek(struct.pack("!HHI12s", message_type, 0, 0x2112A442, bytes(12)))
    assert header == stun.Header(message_class, bytes(12))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        REQUEST[:19],
        REQUEST[:-1],
        REQUEST + b"\0",
        REQUEST[:4] + bytes(4) + REQUEST[8:],  # another cookie
        b"\x00\x03" + REQUEST[2:],  # Allocate
        REQUEST[:2] + b"\x00\x57" + REQUEST[4:-1],  # a length that no attributes have
        struct.pack("!HHI12s", 1, 1_264, 0x2112A442, bytes(12)) + bytes(1_264),
    ],
)
def test_what_is_no_binding_message(data):
    assert stun.peek(data) is None


@pytest.mark.parametrize(
    "attributes",
    [
        b"",
        struct.pack("!HH", 6, 400) + b"a:b",  # longer than the message
        struct.pack("!HH", 6, 4) + b"abcd",  # no colon
        struct.pack("!HH", 6, 4) + b"a:\xff\xff",
        struct.pack("!HH", 6, 516) + b"a:" + b"b" * 514,
        struct.pack("!HH", 5, 3) + b"a:b",  # cut short
        b"\0\6",
    ],
)
def test_no_username(attributes):
    assert stun.username(bytes(20) + attributes) is None


@given(st.binary(max_size=200))
def test_nothing_makes_the_readers_raise(data):
    stun.peek(data)
    stun.username(data)
