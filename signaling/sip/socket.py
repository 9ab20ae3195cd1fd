"""The shell of the SIP user agent: TLS, TCP and UDP sockets, one timer, nothing else.

Receive, hand to the user agent, carry out what it wants, arm the timer. What a peer does wrong ends at most its own
connection, and is counted.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import structlog

from signaling.addresses import party
from signaling.errors import LocalError, RemoteError
from signaling.listening import bind, shown_address, source_host
from signaling.sip.events import (
    Address,
    CloseFlow,
    Effect,
    Flow,
    FlowId,
    OpenFlow,
    SendMessage,
    Transport,
    UserAgentEvent,
)
from signaling.sip.stream import PONG, Framer, StreamLimits

_log = structlog.get_logger()


class Agent(Protocol):
    """What the shell needs of a `UserAgent`."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one whole message."""

    def flow_opened(self, request_id: str, flow: Flow, now: float) -> None:
        """A connection that was asked for is there."""

    def flow_failed(self, request_id: str, now: float) -> None:
        """A connection that was asked for cannot be had."""

    def flow_closed(self, flow_id: FlowId, now: float) -> None:
        """A connection is gone."""

    def handle_timer(self, now: float) -> None:
        """Fire what is due."""

    def next_timer(self) -> float | None:
        """When something is due."""
        ...

    def poll(self) -> list[Effect]:
        """Take all effects."""
        ...

    def trusts(self, flow_id: FlowId) -> bool:
        """Whether a trunk has shown itself on a connection."""
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen; a TLS listener needs its context (CERT_OPTIONAL lets client certificates name trunks)."""

    transport: Transport
    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What peers may use up."""

    connections_max: int = 1_000
    connections_per_address_max: int = 200
    write_buffer_bytes_max: int = 1_048_576
    """A peer that reads so slowly that more than this waits for it is cut off."""
    idle_seconds: float = 900.0
    """A connection without a byte for so long is closed."""
    stranger_seconds: float = 32.0
    """The same for connections on which no trunk has shown itself."""
    handshake_seconds: float = 10.0
    connect_seconds: float = 10.0
    shutdown_seconds: float = 2.0
    """How long a TLS connection that closes waits for the peer to agree."""
    opening_max: int = 200
    """Connections of ours that are being made at a time."""
    stream: StreamLimits = field(default_factory=StreamLimits)


class SipSockets:
    """All sockets of one user agent, on the running event loop.

    `on_events(events, now)` is called with what the user agent tells; it may call the user agent at once. Whoever calls
    the user agent at other times calls `transmit` afterwards.
    """

    def __init__(
        self,
        agent: Agent,
        listeners: tuple[Listener, ...],
        on_events: Callable[[list[UserAgentEvent], float], None],
        *,
        client_tls: ssl.SSLContext | None = None,
        limits: SocketLimits | None = None,
    ) -> None:
        self._agent = agent
        self._listeners = listeners
        self._on_events = on_events
        self._client_tls = client_tls
        self.limits = limits or SocketLimits()
        self.counters: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._datagrams: dict[FlowId, _Datagrams] = {}
        self._connections: dict[FlowId, _Connection] = {}
        self._outbound: dict[tuple[Transport, str, int], FlowId] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._transmitting = False
        self._count = 0

    async def start(self) -> None:
        """Listen; raises OSError if an address is taken, LocalError for a TLS listener without a context."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            if listener.transport == "udp":
                await self._listen_udp(listener)
                continue
            if (listener.transport == "tls") != (listener.tls is not None):
                raise LocalError("a TLS listener needs a TLS context, and a plain one must not have one")
            server = await loop.create_server(
                self._accept_tls if listener.tls else self._accept_tcp,
                sock=bind(listener.host, listener.port, socket.SOCK_STREAM),
                ssl=listener.tls,
                ssl_handshake_timeout=self.limits.handshake_seconds if listener.tls else None,
                ssl_shutdown_timeout=self.limits.shutdown_seconds if listener.tls else None,
            )
            self._servers.append(server)
        self._sweep_idle()

    async def stop(self) -> None:
        """Stop listening, say what is left to say, close all."""
        self.transmit()
        for handle in (self._timer, self._sweep):
            if handle is not None:
                handle.cancel()
        self._timer = self._sweep = None
        for server in self._servers:
            server.close()
        for task in self._opening:
            task.cancel()
        closing = list(self._connections.values())
        closed = [connection.close() for connection in closing]
        closed += [datagrams.close() for datagrams in self._datagrams.values()]
        try:
            async with asyncio.timeout(2 * self.limits.shutdown_seconds):
                await asyncio.gather(*(event.wait() for event in closed))
        except TimeoutError:
            for connection in closing:
                connection.abort()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def addresses(self) -> dict[Transport, Address]:
        """Where it listens, by transport (the port that the system chose, if it was left to it)."""
        found: dict[Transport, Address] = {}
        streams = [listener for listener in self._listeners if listener.transport != "udp"]
        for listener, server in zip(streams, self._servers, strict=False):
            found[listener.transport] = shown_address(server.sockets[0].getsockname())
        for datagrams in self._datagrams.values():
            found["udp"] = datagrams.local
        return found

    def transmit(self) -> None:
        """Carry out what the user agent wants, tell its events, arm the timer."""
        if self._transmitting:
            return
        self._transmitting = True
        try:
            while effects := self._agent.poll():
                events = [event for effect in effects if (event := self._carry_out(effect)) is not None]
                if events:
                    self._on_events(events, self.now())
        finally:
            self._transmitting = False
            self._arm()

    def now(self) -> float:
        """The clock of the loop."""
        return asyncio.get_running_loop().time()

    # What connections and datagram sockets tell.

    def receive(self, data: bytes, flow: Flow) -> None:
        """A message came."""
        self._agent.receive(data, flow, self.now())
        self.transmit()

    def _accept_tls(self) -> _Connection:
        return _Connection(self, "tls")

    def _accept_tcp(self) -> _Connection:
        return _Connection(self, "tcp")

    def admit(self, connection: _Connection) -> FlowId | None:
        """A connection was made; None: there are too many."""
        same = sum(other.party == connection.party for other in self._connections.values())
        if len(self._connections) >= self.limits.connections_max or same >= self.limits.connections_per_address_max:
            self.counters["connections_refused"] += 1
            return None
        flow_id = self._flow_id(connection.transport_name)
        self._connections[flow_id] = connection
        return flow_id

    def lost(self, flow_id: FlowId) -> None:
        """A connection is gone."""
        self._connections.pop(flow_id, None)
        self._outbound = {key: value for key, value in self._outbound.items() if value != flow_id}
        self._agent.flow_closed(flow_id, self.now())
        self.transmit()

    def _flow_id(self, transport: Transport) -> FlowId:
        self._count += 1
        return FlowId(f"{transport}-{self._count}")

    # Effects.

    def _carry_out(self, effect: Effect) -> UserAgentEvent | None:
        if isinstance(effect, SendMessage):
            self._send(effect)
        elif isinstance(effect, OpenFlow):
            self._open(effect)
        elif isinstance(effect, CloseFlow):
            if effect.flow_id in self._connections:
                self._connections[effect.flow_id].close()
        else:
            return effect
        return None

    def _send(self, effect: SendMessage) -> None:
        if effect.flow_id in self._connections:
            self._connections[effect.flow_id].send(effect.data)
        elif effect.flow_id in self._datagrams:
            self._datagrams[effect.flow_id].send(effect.data, effect.remote)
        else:
            self.counters["sent_to_nobody"] += 1

    def _open(self, effect: OpenFlow) -> None:
        if len(self._opening) >= self.limits.opening_max:
            self.counters["connections_not_tried"] += 1
            self._agent.flow_failed(effect.request_id, self.now())
            return
        task = asyncio.get_running_loop().create_task(self._connect(effect))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, effect: OpenFlow) -> None:
        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                flow = await self._flow_to(effect)
        except (OSError, TimeoutError, LocalError) as error:
            self.counters["connections_failed"] += 1
            _log.info("sip connection failed", transport=effect.transport, error=type(error).__name__)
            self._agent.flow_failed(effect.request_id, self.now())
        else:
            self._agent.flow_opened(effect.request_id, flow, self.now())
        self.transmit()

    async def _flow_to(self, effect: OpenFlow) -> Flow:
        loop = asyncio.get_running_loop()
        if effect.transport == "udp":
            found = await loop.getaddrinfo(effect.host, effect.port, type=socket.SOCK_DGRAM)
            for name in (str(each[4][0]) for each in found):
                for datagrams in self._datagrams.values():
                    if datagrams.reaches(name):
                        return datagrams.flow((name, effect.port))
            raise LocalError("there is no UDP listener to send from")
        key = effect.transport, effect.host, effect.port
        known = self._connections.get(self._outbound.get(key, FlowId("")))
        if known is not None and known.flow is not None:
            return known.flow
        if effect.transport == "tls" and self._client_tls is None:
            raise LocalError("there is no TLS context for connections of ours")
        secured = effect.transport == "tls"
        _, connection = await loop.create_connection(
            lambda: _Connection(self, effect.transport),
            effect.host,
            effect.port,
            ssl=self._client_tls if secured else None,
            server_hostname=effect.server_name if secured else None,
            ssl_shutdown_timeout=self.limits.shutdown_seconds if secured else None,
        )
        if connection.flow is None:
            raise ConnectionError("the connection was refused or is gone")
        self._outbound[key] = connection.flow.flow_id
        return connection.flow

    async def _listen_udp(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        flow_id = self._flow_id("udp")
        _, datagrams = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self, flow_id), sock=bind(listener.host, listener.port, socket.SOCK_DGRAM)
        )
        self._datagrams[flow_id] = datagrams

    # Timers.

    def _arm(self) -> None:
        deadline = self._agent.next_timer()
        if self._timer is not None:
            if deadline is not None and not self._timer.cancelled() and self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        try:
            self._agent.handle_timer(self.now())
        finally:
            self.transmit()

    def _sweep_idle(self) -> None:
        limits, now = self.limits, self.now()
        for flow_id, connection in list(self._connections.items()):
            patience = limits.idle_seconds if self._agent.trusts(flow_id) else limits.stranger_seconds
            if now - connection.last_heard > patience:
                self.counters["connections_idle"] += 1
                connection.close()
        self._sweep = asyncio.get_running_loop().call_later(min(limits.stranger_seconds, 5.0), self._sweep_idle)


class _Connection(asyncio.Protocol):
    """One TLS or TCP connection, theirs or ours."""

    def __init__(self, owner: SipSockets, transport_name: Transport) -> None:
        self.transport_name: Transport = transport_name
        self.flow: Flow | None = None
        self.remote: Address = ("", 0)
        self.party = ""
        self.last_heard = 0.0
        self.closed = asyncio.Event()
        self._owner = owner
        self._framer = Framer(owner.limits.stream)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.last_heard = self._owner.now()
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not local:
            # The peer reset the connection before we looked.
            self._transport.abort()
            return
        self.remote = shown_address(peer)
        self.party = party(self.remote[0])
        flow_id = self._owner.admit(self)
        if flow_id is None:
            self._transport.abort()
            return
        names = certificate_names(transport.get_extra_info("peercert"))
        self.flow = Flow(flow_id, self.transport_name, shown_address(local), self.remote, names)

    def data_received(self, data: bytes) -> None:
        if self.flow is None:
            return
        self.last_heard = self._owner.now()
        try:
            messages = self._framer.receive(data)
        except RemoteError:
            self._owner.counters["streams_malformed"] += 1
            self.abort()
            return
        if self._framer.pings:
            self.send(PONG * self._framer.pings)
            self._framer.pings = 0
        for message in messages:
            try:
                self._owner.receive(message, self.flow)
            except Exception:  # noqa: BLE001 - a bug of ours must end one connection, not everybody's signalling
                _log.exception("a SIP message could not be handled", flow=self.flow.flow_id)
                self.abort()
                return

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed.set()
        if self.flow is not None:
            flow_id, self.flow = self.flow.flow_id, None
            self._owner.lost(flow_id)

    def send(self, data: bytes) -> None:
        """Send, unless the peer reads too slowly: then it is cut off."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > self._owner.limits.write_buffer_bytes_max:
            self._owner.counters["connections_too_slow"] += 1
            self.abort()

    def close(self) -> asyncio.Event:
        """Close after what is buffered was sent; the event is set when it is closed."""
        if self._transport is not None:
            self._transport.close()
        return self.closed

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    """One UDP socket."""

    def __init__(self, owner: SipSockets, flow_id: FlowId) -> None:
        self.local: Address = ("", 0)
        self.closed = asyncio.Event()
        self._owner = owner
        self._flow_id = flow_id
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.local = shown_address(transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if not data.strip(b"\r\n\0"):
            # Keep-alives of address translators.
            return
        try:
            self._owner.receive(data, self.flow(shown_address(addr)))
        except Exception:  # noqa: BLE001 - a bug of ours must cost one datagram, not everybody's signalling
            _log.exception("a SIP datagram could not be handled")

    def error_received(self, exc: Exception) -> None:
        del exc
        self._owner.counters["datagrams_undeliverable"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed.set()

    def reaches(self, host: str) -> bool:
        """Whether a numeric address is of this socket's family, or of either."""
        return self.local[0] == "::" or (":" in self.local[0]) == (":" in host)

    def flow(self, remote: Address) -> Flow:
        """The flow to a peer."""
        local = self.local
        if local[0] in {"0.0.0.0", "::"}:  # noqa: S104 - a question, not a bind
            local = source_host(remote) or local[0], local[1]
        return Flow(self._flow_id, "udp", local, remote)

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram; what the system refuses at once is counted as what it refuses later."""
        if self._transport is not None and not self._transport.is_closing():
            host, port = remote
            if self.local[0] == "::" and ":" not in host:
                host = f"::ffff:{host}"
            self._transport.sendto(data, (host, port))

    def close(self) -> asyncio.Event:
        """Close the socket; the event is set when it is closed."""
        if self._transport is not None:
            self._transport.close()
        return self.closed


def certificate_names(certificate: object) -> tuple[str, ...]:
    """DNS names and URIs of a verified certificate (RFC 5922 §7.1), as `ssl` describes it."""
    if not isinstance(certificate, dict):
        return ()
    names = cast("dict[str, Any]", certificate).get("subjectAltName", ())
    return tuple(value for kind, value in names if kind in {"DNS", "URI"})
