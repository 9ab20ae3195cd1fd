"""The IPv4 addresses of this machine."""

from __future__ import annotations

from ipaddress import ip_address

import ifaddr

__all__ = ["addresses"]


def addresses() -> tuple[str, ...]:
    """Loopback first, then those of every interface that is up; link-local ones reach nobody who calls."""
    found = {ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if isinstance(ip.ip, str)}
    usable = sorted(address for address in found if not ip_address(address).is_link_local)
    return tuple(dict.fromkeys(["127.0.0.1", *usable]))
