"""Where a trunk's peer is told to send its media, and what becomes of a change of address family."""

from __future__ import annotations

import random

import pytest

from relay.calls.trunk_calls import TrunkCalls
from relay.media import Address, MoveLeg
from signaling.errors import RemoteError
from signaling.sip import events as sip
from signaling.sip import negotiation
from signaling.sip.sdp import SessionDescription
from tests.relay.exchange_world import CallLog

ADDRESSES: tuple[Address, ...] = (
    ("127.0.0.1", 40_000),
    ("192.0.2.10", 40_000),
    ("198.51.100.10", 40_000),
    ("::1", 40_000),
    ("fd00::10", 40_000),
    ("2001:db8::10", 40_000),
)
CALL = sip.CallId("call")


class Trunk:
    """The calls of one trunk, and its offers."""

    def __init__(self, *, addresses: tuple[Address, ...] = ADDRESSES, advertised: dict[str, str] | None = None) -> None:
        self.control = CallLog()
        self.random = random.Random(1)
        self.calls = TrunkCalls(self.control, addresses, advertised or {}, {}, self.random.randbytes)

    def offer(self, host: str, port: int = 5000) -> SessionDescription:
        entropy = random.Random(2).randbytes  # the same keys in every offer
        return negotiation.make_offer(negotiation.LocalMedia((host, port)), entropy=entropy)

    def admit(self, offered: str, signalling: str) -> Address:
        self.calls.admit(sip.IncomingCall(CALL, "carrier", (signalling, 5061), "a", "b", self.offer(offered)), "c", "p")
        call = self.calls.find(CALL)
        assert call is not None
        leg = self.calls.answer(call, 0.0)
        assert leg.remote == (offered, 5000)
        return leg.local

    @property
    def told(self) -> str:
        described = SessionDescription.parse(self.control.answers[CALL])
        connection = described.connection_of(described.media[0])
        assert connection is not None
        return str(connection)


@pytest.mark.parametrize(
    ("offered", "signalling", "local"),
    [
        ("192.0.2.99", "192.0.2.10", "192.0.2.10"),
        ("192.0.2.99", "198.51.100.10", "198.51.100.10"),
        ("192.0.2.99", "203.0.113.1", "192.0.2.10"),
        ("127.0.0.5", "203.0.113.1", "127.0.0.1"),
        ("192.0.2.99", "fd00::10", "192.0.2.10"),
        ("2001:db8::99", "fd00::10", "fd00::10"),
        ("2001:db8::99", "192.0.2.10", "fd00::10"),
        ("2001:db8::99", "2001:db8::10", "2001:db8::10"),
        ("::1", "127.0.0.1", "::1"),
    ],
)
def test_the_offers_family_then_the_signallings_address(offered: str, signalling: str, local: str) -> None:
    trunk = Trunk()
    assert trunk.admit(offered, signalling) == (local, 40_000)
    assert trunk.told == f"IN {'IP6' if ':' in local else 'IP4'} {local}"


def test_an_advertised_ipv6_address_is_told_and_not_listened_on() -> None:
    trunk = Trunk(advertised={"fd00::10": "2001:db8:ffff::10"})
    assert trunk.admit("2001:db8::99", "fd00::10") == ("fd00::10", 40_000)
    assert trunk.told == "IN IP6 2001:db8:ffff::10"


def test_without_an_address_of_the_family_there_is_no_call() -> None:
    trunk = Trunk(addresses=ADDRESSES[:3])
    with pytest.raises(RemoteError) as caught:
        trunk.admit("2001:db8::99", "192.0.2.10")
    assert caught.value.sip_status == 488


def test_a_peer_may_go_on_in_the_other_family() -> None:
    trunk = Trunk()
    trunk.admit("192.0.2.99", "192.0.2.10")
    moved = trunk.calls.offered_anew(sip.SessionOffered(CALL, trunk.offer("2001:db8::99")), 1.0)
    call = trunk.calls.find(CALL)
    assert call is not None
    assert call.leg_id is not None
    assert moved == MoveLeg(call.leg_id, ("2001:db8::99", 5000), None, ("fd00::10", 40_000))
    assert trunk.told == "IN IP6 fd00::10"
    # Held by either family's unspecified address, it stays where it is.
    for held in ("::", "0.0.0.0"):
        again = trunk.calls.offered_anew(sip.SessionOffered(CALL, trunk.offer(held)), 2.0)
        assert again is None
        assert trunk.told == "IN IP6 fd00::10"
    back = trunk.calls.offered_anew(sip.SessionOffered(CALL, trunk.offer("192.0.2.99")), 3.0)
    assert isinstance(back, MoveLeg)
    assert back.local == ("192.0.2.10", 40_000)


def test_a_peer_that_moves_within_its_family_leaves_us_where_we_are() -> None:
    trunk = Trunk()
    trunk.admit("2001:db8::99", "2001:db8::10")
    moved = trunk.calls.offered_anew(sip.SessionOffered(CALL, trunk.offer("2001:db8::77")), 1.0)
    assert isinstance(moved, MoveLeg)
    assert (moved.remote, moved.local) == (("2001:db8::77", 5000), None)
    assert trunk.told == "IN IP6 2001:db8::10"


def test_a_move_to_a_family_that_is_not_there_is_refused() -> None:
    trunk = Trunk(addresses=ADDRESSES[:3])
    trunk.admit("192.0.2.99", "192.0.2.10")
    assert trunk.calls.offered_anew(sip.SessionOffered(CALL, trunk.offer("2001:db8::99")), 1.0) is None
    assert trunk.control.asked[-1] == ("refuse 488", CALL)
