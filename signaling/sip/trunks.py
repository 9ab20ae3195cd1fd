"""Trunks by name: which one a request comes from, and what that one is allowed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from signaling.errors import LocalError
from signaling.sip.digest import Credentials
from signaling.sip.events import Flow

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Trunk:
    """One peer that calls come from: known by address, by certificate, or by proof of a password."""

    name: str
    addresses: tuple[Network, ...] = ()
    certificate_names: tuple[str, ...] = ()
    """DNS names or URIs (`sip:carrier.example`) of its client certificate (RFC 5922 §7.1)."""
    credentials: tuple[Credentials, ...] = field(default=(), repr=False)
    allow_udp: bool = False
    """Whether its signalling may come in clear over UDP."""
    allow_tcp: bool = False
    """Whether its signalling may come in clear over TCP."""
    allow_plain_rtp: bool = False
    """Whether its calls may do without SRTP."""
    transactions_max: int = 1_000
    """Requests in work at a time; beyond it 503."""
    calls_max: int = 500

    def allows(self, flow: Flow) -> bool:
        """Whether its signalling may come this way."""
        return {"tls": True, "tcp": self.allow_tcp, "udp": self.allow_udp}[flow.transport]


class Trunks:
    """All trunks; raises LocalError if two have the same name or user name."""

    def __init__(self, trunks: Iterable[Trunk]) -> None:
        self._trunks = tuple(trunks)
        self._users: dict[str, tuple[Trunk, Credentials]] = {}
        if len({trunk.name for trunk in self._trunks}) != len(self._trunks):
            raise LocalError("two trunks have the same name")
        for trunk in self._trunks:
            for credentials in trunk.credentials:
                if credentials.username in self._users:
                    raise LocalError("two trunks have the same user name")
                self._users[credentials.username] = trunk, credentials

    def __iter__(self) -> Iterator[Trunk]:
        return iter(self._trunks)

    def by_name(self, name: str) -> Trunk | None:
        """The trunk of a name."""
        return next((trunk for trunk in self._trunks if trunk.name == name), None)

    def by_flow(self, flow: Flow) -> Trunk | None:
        """The trunk that a flow's address or certificate belongs to and that may use such a flow, else None."""
        return next((trunk for trunk in self._trunks if trunk.allows(flow) and _matches(trunk, flow)), None)

    def by_username(self, username: str) -> tuple[Trunk, Credentials] | None:
        """The trunk of a user name, with what proves it."""
        return self._users.get(username)

    def challenged(self, flow: Flow) -> bool:
        """Whether any trunk may prove itself by a password on such a flow."""
        return any(trunk.allows(flow) for trunk, _ in self._users.values())


def _matches(trunk: Trunk, flow: Flow) -> bool:
    shown = {name.casefold() for name in flow.certificate_names}
    if any(name.casefold() in shown for name in trunk.certificate_names):
        return True
    try:
        address = ipaddress.ip_address(flow.remote[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in trunk.addresses)
