from ipaddress import ip_network

import pytest

from signaling.errors import LocalError
from signaling.sip.digest import Credentials
from signaling.sip.events import Flow, FlowId, Transport
from signaling.sip.trunks import Trunk, Trunks

CARRIER = Trunk("carrier", (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")))
CERTIFIED = Trunk("certified", certificate_names=("sip.example", "sip:peer.example"))
OLD = Trunk("old", (ip_network("198.51.100.7/32"),), allow_udp=True)
DESK = Trunk("desk", credentials=(Credentials("alice", "x"), Credentials("bob", "y")), allow_tcp=True)
TRUNKS = Trunks((CARRIER, CERTIFIED, OLD, DESK))


def flow(host: str, transport: Transport = "tls", names: tuple[str, ...] = ()) -> Flow:
    return Flow(FlowId("f"), transport, ("203.0.113.1", 5061), (host, 40_000), names)


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (flow("192.0.2.200"), "carrier"),
        (flow("2001:db8::5"), "carrier"),
        (flow("::ffff:192.0.2.1"), "carrier"),
        (flow("192.0.2.1", "udp"), None),
        (flow("192.0.2.1", "tcp"), None),
        (flow("198.51.100.7", "udp"), "old"),
        (flow("198.51.100.7", "tcp"), None),
        (flow("198.51.100.8", "udp"), None),
        (flow("203.0.113.9", names=("other", "sip.example")), "certified"),
        (flow("203.0.113.9", names=("sip:peer.example",)), "certified"),
        (flow("203.0.113.9", names=("SIP.EXAMPLE",)), "certified"),
        (flow("203.0.113.9", names=("evil.sip.example",)), None),
        (flow("not an address"), None),
    ],
)
def test_matching_by_flow(at: Flow, name: str | None) -> None:
    found = TRUNKS.by_flow(at)
    assert (found.name if found else None) == name


def test_matching_by_user_name() -> None:
    assert TRUNKS.by_username("bob") == (DESK, DESK.credentials[1])
    assert TRUNKS.by_username("eve") is None
    assert [TRUNKS.challenged(flow("203.0.113.9", transport)) for transport in ("tls", "tcp", "udp")] == [
        True,
        True,
        False,
    ]
    assert not Trunks((CARRIER,)).challenged(flow("203.0.113.9"))
    assert TRUNKS.by_name("old") is OLD
    assert [trunk.name for trunk in TRUNKS] == ["carrier", "certified", "old", "desk"]


def test_names_are_unique() -> None:
    with pytest.raises(LocalError, match="name"):
        Trunks((CARRIER, CARRIER))
    with pytest.raises(LocalError, match="user name"):
        Trunks((DESK, Trunk("other", credentials=(Credentials("alice"),))))


def test_credentials_stay_out_of_reprs() -> None:
    assert "alice" not in repr(DESK)
