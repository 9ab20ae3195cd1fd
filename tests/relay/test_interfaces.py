from __future__ import annotations

import socket
from ipaddress import ip_address

from relay.interfaces import addresses


def test_loopback_comes_first_and_each_address_once() -> None:
    found = addresses()
    assert found[0] == "127.0.0.1"
    assert len(set(found)) == len(found)


def test_every_address_can_be_listened_on() -> None:
    for address in addresses():
        assert ip_address(address).version == 4
        assert not ip_address(address).is_link_local
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
            listening.bind((address, 0))
