from __future__ import annotations

import asyncio

import pytest

from relay.webrtc.ice_sockets import SharedSocketConnection, VirtualTransport

OUTSIDE, LOOPBACK = ("192.0.2.1", 4000), ("127.0.0.1", 4000)
OUTSIDE6, LOOPBACK6 = ("2001:db8::1", 4000), ("::1", 4000)


class Protocol(asyncio.DatagramProtocol):
    lost = 0

    def connection_lost(self, exc):
        self.lost += 1


@pytest.mark.parametrize(
    ("local", "remote", "sent"),
    [
        (OUTSIDE, ("198.51.100.1", 9), True),
        (OUTSIDE, ("127.0.0.1", 9), False),
        (OUTSIDE, ("127.8.8.8", 9), False),
        (LOOPBACK, ("127.0.0.1", 9), True),
        (LOOPBACK, ("192.0.2.1", 9), True),
        (OUTSIDE6, ("2001:db8::9", 9), True),
        (OUTSIDE6, ("::1", 9), False),
        (LOOPBACK6, ("::1", 9), True),
    ],
)
def test_a_claimed_loopback_candidate_is_reached_from_loopback_alone(local, remote, sent):
    datagrams = []
    transport = VirtualTransport(local, lambda *sending: datagrams.append(sending), Protocol())
    transport.sendto(bytearray(b"x"), remote)
    assert datagrams == ([(local, b"x", remote)] if sent else [])


def test_a_closed_share_sends_nothing_and_says_so_once():
    datagrams, protocol = [], Protocol()
    transport = VirtualTransport(OUTSIDE, lambda *sending: datagrams.append(sending), protocol)
    assert transport.get_extra_info("sockname") == OUTSIDE
    assert transport.get_extra_info("socket") is None
    assert not transport.is_closing()
    transport.close()
    transport.abort()
    transport.sendto(b"x", ("198.51.100.1", 9))
    assert transport.is_closing()
    assert (datagrams, protocol.lost) == ([], 1)


async def test_candidates_are_exactly_the_shared_sockets_the_first_preferred():
    connection = SharedSocketConnection(
        [OUTSIDE, LOOPBACK],
        lambda *_: None,
        {},
        username_fragment="abcdefgh",
        password="p" * 24,
        on_validated=lambda *_: True,
        on_selected=lambda *_: None,
        datagrams_max=2,
    )
    await connection.gather_candidates()
    await connection.gather_candidates()
    assert [(c.host, c.port, c.type) for c in connection.local_candidates] == [
        (*OUTSIDE, "host"),
        (*LOOPBACK, "host"),
    ]
    first, second = connection.local_candidates
    assert first.priority > second.priority
    assert [connection.datagram_received(b"\x16") for _ in range(3)] == [True, True, False]
    await connection.query_consent()  # asks nobody, and ends at once
    await connection.close()
