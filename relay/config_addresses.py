"""The kinds of addresses that settings name: to listen on, to recognise peers by, to receive media on."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, PlainValidator

__all__ = ["Host", "MediaAddress", "Network"]


def _numeric_address(text: str) -> str:
    try:
        return str(ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise ValueError(
            "must be a numeric address, such as 127.0.0.1 or ::1, or 0.0.0.0 or :: for all interfaces"
        ) from None


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"must be an address or a network such as 192.0.2.0/24: {error}") from None


def _media_address(value: object) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(str(value))
    except ValueError:
        raise ValueError("must be a numeric address, such as 192.0.2.1 or 2001:db8::1") from None
    if isinstance(address, IPv6Address):
        if address.is_link_local or address.scope_id is not None:
            raise ValueError("is link-local: peers on other links cannot send to it; name a global address, or ::1")
        if address.is_unspecified or address.is_multicast or address.ipv4_mapped is not None:
            raise ValueError("cannot be told to peers: name an IPv6 address of one interface")
    return address


Host = Annotated[str, AfterValidator(_numeric_address)]
"""A numeric address to listen on; `0.0.0.0` is every IPv4 interface, `::` every interface of both families."""
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(_network), PlainSerializer(str, return_type=str)]
"""An address, or a network in CIDR notation."""
MediaAddress = Annotated[
    IPv4Address | IPv6Address, PlainValidator(_media_address), PlainSerializer(str, return_type=str)
]
"""An address that media comes to, as it is told to peers."""
