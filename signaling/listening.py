"""Sockets to listen on, of either address family or of both, and the addresses that sockets show."""

from __future__ import annotations

import socket
from typing import Any

from signaling.addresses import plain_host


def bind(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A bound socket; `::` is every interface of both families. Raises OSError."""
    family, _, protocol, _, address = socket.getaddrinfo(host, port, type=kind)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setblocking(False)
        if kind is socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def shown_address(name: tuple[Any, ...]) -> tuple[str, int]:
    """Host and port of a socket's name; of IPv6 there would be flow and scope too."""
    return plain_host(str(name[0])), int(name[1])


def source_host(remote: tuple[str, int]) -> str | None:
    """The address of ours that reaches a peer: where a socket of all interfaces answers from."""
    family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(remote)
        except OSError:
            return None
        return str(probe.getsockname()[0])
