"""Hosts as peers and people write them, and how many of them one party may have."""

from __future__ import annotations

import ipaddress


def written_host(host: str) -> str:
    """A host as URIs, Via and Host write it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def plain_host(host: str) -> str:
    """The same host without disguise: a socket of both families shows an IPv4 peer as ::ffff:192.0.2.1."""
    if not host.startswith("::ffff:"):
        return host
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if mapped is None else str(mapped)


def party(host: str) -> str:
    """What limits by address count by: one household or machine has a whole /64 of IPv6 (RFC 6177)."""
    host = plain_host(host)
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
