"""ICE connections that own no socket: aioice over the media sockets that all browser legs share.

aioice opens a UDP socket for each address and connection. Here a connection gets a *virtual* transport for each shared
media socket instead, so that all browsers use one port, host candidates are exactly the given addresses (loopback too,
which aioice leaves out) and no STUN or TURN server can ever be asked. What comes in is demultiplexed by
`relay.webrtc.softphone_leg`, which hands over only authenticated STUN, and DTLS from validated addresses.

Rests on names of aioice 0.13 that it does not document; `PRIVATE_NAMES` lists them and the tests check each.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
from collections.abc import Callable, MutableMapping, Sequence
from typing import cast

import aioice
from aioice import stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol

from relay.media import Address

Send = Callable[[Address, bytes, Address], None]
"""Send a datagram from a media socket: local, data, remote."""

PRIVATE_NAMES = (
    "_protocols",
    "_local_candidates",
    "_local_candidates_start",
    "_local_candidates_end",
    "_nominated",
    "_queue",
)
"""Attributes of `aioice.Connection` that this module uses."""


class VirtualTransport(asyncio.DatagramTransport):
    """One connection's share of a media socket."""

    def __init__(self, local: Address, send: Send, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__()
        self._local = local
        self._send = send
        self._protocol = protocol
        self._closed = False
        self._is_loopback = _is_loopback(local[0])

    def get_extra_info(self, name: str, default: object = None) -> object:
        """`sockname` is the shared socket's."""
        return self._local if name == "sockname" else default

    def sendto(self, data: bytes | bytearray | memoryview, addr: object = None) -> None:
        """Send through the shared socket, but never from outside to a loopback candidate that a peer claimed."""
        remote = cast("Address", addr)
        if not self._closed and (self._is_loopback or not _is_loopback(remote[0])):
            self._send(self._local, bytes(data), remote)

    def is_closing(self) -> bool:
        """Whether this share was given up."""
        return self._closed

    def close(self) -> None:
        """Give up this share; the socket stays."""
        if not self._closed:
            self._closed = True
            self._protocol.connection_lost(None)

    def abort(self) -> None:
        """Nothing is buffered here: the same as `close`."""
        self.close()


class SharedStunProtocol(StunProtocol):
    """A connection's STUN on one shared socket; its outstanding requests stand in a common directory."""

    def __init__(self, connection: SharedSocketConnection, local: Address, requests: Requests) -> None:
        super().__init__(connection)
        self.connection = connection
        self.local = local
        self._requests = requests

    async def request(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, tuple[str, int]]:
        """Execute a STUN transaction, its response found by its id."""
        self._requests[request.transaction_id] = self
        try:
            return await super().request(request, addr, integrity_key, retransmissions)
        finally:
            del self._requests[request.transaction_id]

    def response_received(self, message: stun.Message, source: Address) -> None:
        """A response to one of our requests; aioice checks its integrity."""
        transaction = self.transactions.get(message.transaction_id)
        if transaction is not None:
            transaction.response_received(message, source)


Requests = MutableMapping[bytes, SharedStunProtocol]
"""Our outstanding STUN requests, of all connections, by transaction id."""


class SharedSocketConnection(aioice.Connection):
    """An ICE connection of one component over the shared sockets.

    `on_validated(local, remote)` is called for each pair on which the peer proved that it knows our password,
    `on_selected(local, remote)` when another pair is nominated.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        send: Send,
        requests: Requests,
        *,
        username_fragment: str,
        password: str,
        on_validated: Callable[[Address, Address], bool],
        on_selected: Callable[[Address, Address], None],
        datagrams_max: int,
    ) -> None:
        super().__init__(ice_controlling=False, local_username=username_fragment, local_password=password)
        self._addresses = addresses
        self._send_datagram = send
        self._requests = requests
        self._on_validated = on_validated
        self._on_selected = on_selected
        self._datagrams_max = datagrams_max
        self._selected: CandidatePair | None = None
        self.stun_by_local: dict[Address, SharedStunProtocol] = {}

    async def gather_candidates(self) -> None:
        """Make a host candidate of each shared socket, the first the most preferred; asks nobody."""
        if self._local_candidates_start:
            return
        self._local_candidates_start = True
        for rank, local in enumerate(self._addresses):
            protocol = SharedStunProtocol(self, local, self._requests)
            protocol.connection_made(VirtualTransport(local, self._send_datagram, protocol))
            protocol.local_candidate = aioice.Candidate(
                foundation=candidate_foundation("host", "udp", local[0]),
                component=1,
                transport="udp",
                priority=candidate_priority(1, "host", 65_535 - rank),
                host=local[0],
                port=local[1],
                type="host",
            )
            self.stun_by_local[local] = protocol
            self._protocols.append(protocol)
            self._local_candidates.append(protocol.local_candidate)
        self._local_candidates_end = True

    def check_incoming(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """A check with the right password came: its source may send DTLS."""
        assert isinstance(protocol, SharedStunProtocol)
        if self._on_validated(protocol.local, addr):
            super().check_incoming(message, addr, protocol)

    def check_complete(self, pair: CandidatePair) -> None:
        """A check of ours ended, or the peer nominated a pair that had succeeded."""
        super().check_complete(pair)
        selected = self._nominated.get(1)
        if selected is not None and selected is not self._selected:
            self._selected = selected
            self._on_validated(selected.local_addr, selected.remote_addr)
            self._on_selected(selected.local_addr, selected.remote_addr)

    def datagram_received(self, data: bytes) -> bool:
        """Queue a DTLS datagram; False if the queue is full."""
        if self._queue.qsize() >= self._datagrams_max:
            return False
        self.data_received(data, 1)
        return True

    async def query_consent(self) -> None:
        """Not here: one schedule asks for the consent of all peers (`relay.webrtc.consent`)."""


@functools.lru_cache(maxsize=4096)
def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
