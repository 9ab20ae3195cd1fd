"""The addresses of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import ifaddr

__all__ = ["addresses"]


def addresses() -> tuple[str, ...]:
    """IPv4 before IPv6, loopback first, then those of every interface that is up; link-local ones reach nobody."""
    found = sorted((address for address in _all() if not ip_address(address).is_link_local), key=_rank)
    return tuple(dict.fromkeys(found)) or ("127.0.0.1",)


def _rank(address: str) -> tuple[int, bool, str]:
    parsed = ip_address(address)
    return parsed.version, not parsed.is_loopback, address


def _all() -> Iterator[str]:
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if isinstance(ip.ip, str):
                yield ip.ip
            elif _is_ready(ip.ip[0]):
                yield str(ip_address(ip.ip[0]))


def _is_ready(host: str) -> bool:
    """Whether an IPv6 address can be listened on: one that was just configured cannot yet (RFC 4862 §5.4)."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
        return True
