from __future__ import annotations

import socket
from ipaddress import ip_address

from relay.interfaces import addresses


def test_loopback_comes_first_and_each_address_once() -> None:
    found = addresses()
    assert found[0] == "127.0.0.1"
    versions = [ip_address(address).version for address in found]
    assert versions == sorted(versions)
    assert found[versions.index(6)] == "::1"
    assert len(set(found)) == len(found)


def test_every_address_can_be_listened_on() -> None:
    for address in addresses():
        parsed = ip_address(address)
        assert address == str(parsed)
        assert not parsed.is_link_local
        family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as listening:
            listening.bind((address, 0))
