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


# RFC 5769 §2.2 and §2.3: the responses to it from 192.0.2.1:32853 and [2001:db8:1234:5678:11:2233:4455:6677]:32853.
MAPPED = {
    "192.0.2.1": "002000080001a147e112a643",
    "2001:db8:1234:5678:11:2233:4455:6677": "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
}
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")


def test_the_sample_request_is_authentic():
    attributes = stun.attributes(REQUEST)
    assert list(attributes) == [0x8022, stun.PRIORITY, stun.ICE_CONTROLLED, stun.USERNAME, 8, stun.FINGERPRINT]
    assert stun.is_authentic(REQUEST, attributes, PASSWORD)
    assert not stun.is_authentic(REQUEST, attributes, PASSWORD + b"x")


def test_no_byte_can_be_changed():
    taken = []
    for place in range(len(REQUEST)):
        changed = REQUEST[:place] + bytes([REQUEST[place] ^ 1]) + REQUEST[place + 1 :]
        if stun.is_authentic(changed, stun.attributes(changed), PASSWORD):
            taken.append(place)
    # A FINGERPRINT of another type is an unknown attribute behind the proof.
    assert taken == [100, 101]


def test_what_follows_the_proof_is_not_believed():
    behind = REQUEST[:-8] + struct.pack("!HHI", stun.ICE_CONTROLLING, 4, 0)
    behind = behind[:2] + struct.pack("!H", len(behind) - 20) + behind[4:]
    assert stun.is_authentic(behind, stun.attributes(behind), PASSWORD)
    assert stun.ICE_CONTROLLING not in stun.attributes(behind)


@pytest.mark.parametrize("host", MAPPED)
def test_a_response_says_where_the_request_came_from(host):
    response = stun.binding_response(TRANSACTION, (host, 32853), PASSWORD)
    assert response[20:-32] == bytes.fromhex(MAPPED[host])
    message = ice_stun.parse_message(response)
    assert message.message_class == ice_stun.Class.RESPONSE
    assert message.attributes["XOR-MAPPED-ADDRESS"] == (host, 32853)
    assert message.check_message_integrity(PASSWORD)
    assert not message.check_message_integrity(PASSWORD + b"x")


@pytest.mark.parametrize("controlling", [True, False])
def test_a_request_is_what_another_implementation_reads(controlling):
    body = stun.check_attributes(b"abcde:fghijk", 1_845_501_695, controlling=controlling, tie_breaker=1 << 63)
    request = stun.binding_request(TRANSACTION, body, PASSWORD)
    message = ice_stun.parse_message(request)
    assert message.check_message_integrity(PASSWORD)
    assert message.transaction_id == TRANSACTION
    del message.attributes["MESSAGE-INTEGRITY"], message.attributes["FINGERPRINT"]
    assert message.attributes == {
        "USERNAME": "abcde:fghijk",
        "PRIORITY": 1_845_501_695,
        "ICE-CONTROLLING" if controlling else "ICE-CONTROLLED": 1 << 63,
    }
    assert stun.username(request) == ("abcde", "fghijk")


@pytest.mark.parametrize(
    "attributes", [b"\0\6\0", struct.pack("!HH", 6, 5) + b"abcd", struct.pack("!HH", 8, 0) + b"\0"]
)
def test_attributes_that_do_not_fit_are_none(attributes):
    assert stun.attributes(bytes(20) + attributes) == {}


@given(st.binary(max_size=200))
def test_nothing_makes_the_readers_raise(data):
    stun.peek(data)
    stun.username(data)
    stun.is_authentic(data, stun.attributes(data), PASSWORD)
