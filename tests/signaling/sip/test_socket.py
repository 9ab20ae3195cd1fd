"""The shell over real sockets on loopback: TLS with and without client certificates, TCP, UDP, and unkind peers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from signaling.errors import LocalError
from signaling.sip.digest import Credentials
from signaling.sip.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallRefused,
    IncomingCall,
    Invite,
    Transport,
    UserAgentEvent,
    UserAgentSettings,
)
from signaling.sip.socket import Listener, SipSockets, SocketLimits
from signaling.sip.stream import StreamLimits
from signaling.sip.trunks import Trunk, Trunks
from signaling.sip.user_agent import UserAgent
from tests.signaling.sip.pair import LOOPBACK_TRUNK, answer_to, offer_of
from tests.signaling.sip.solo import Solo

ALICE = Credentials("alice", "secret")
DESK = Trunk("desk", credentials=(ALICE,))
CERTIFIED = Trunk("certified", certificate_names=("sip.carrier.example",))


class Authority:
    """A certificate authority of the tests' own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._sign(self.name, self.key.public_key(), [], ca=True))

    def issue(self, *names: x509.GeneralName) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        stem = self.folder / f"{len(list(self.folder.iterdir()))}"
        certificate, private = stem.with_suffix(".crt"), stem.with_suffix(".key")
        certificate.write_bytes(self._sign(subject, key.public_key(), list(names), ca=False))
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
        return certificate, private

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: list[x509.GeneralName], *, ca: bool
    ) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self.name, subject, key, x509.random_serial_number(), now - timedelta(hours=1), now + timedelta(days=1)
        ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Contexts:
    """TLS contexts of a server, of a client, and of a client with a certificate."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        loopback = [x509.IPAddress(ip_address(host)) for host in ("127.0.0.1", "::1")]
        server = authority.issue(x509.DNSName("localhost"), *loopback)
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
        self.server.load_cert_chain(*server)
        self.server.verify_mode = ssl.CERT_OPTIONAL
        self.client = ssl.create_default_context(cafile=authority.file)
        self.certified = ssl.create_default_context(cafile=authority.file)
        self.certified.load_cert_chain(
            *authority.issue(x509.DNSName("sip.carrier.example"), x509.UniformResourceIdentifier("sip:carrier.example"))
        )
        self.stranger = ssl.create_default_context()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return Contexts(tmp_path_factory.mktemp("tls"))


class End:
    """A user agent with its sockets; answers calls at once, and keeps every event."""

    def __init__(
        self, trunks: tuple[Trunk, ...] = (), listeners: tuple[Listener, ...] = (), client: ssl.SSLContext | None = None,
        limits: SocketLimits | None = None,
    ) -> None:  # fmt: skip
        self.agent = UserAgent(UserAgentSettings(), Trunks(trunks), entropy=os.urandom, rng=random.Random(1))
        self.sockets = SipSockets(self.agent, listeners, self._on_events, client_tls=client, limits=limits)
        self.events: list[UserAgentEvent] = []
        self._news = asyncio.Event()

    def _on_events(self, events: list[UserAgentEvent], now: float) -> None:
        self.events += events
        self._news.set()
        for event in events:
            if isinstance(event, IncomingCall) and event.offer is not None:
                self.agent.ring(event.call, now)
                self.agent.answer(event.call, answer_to(event.offer), now)

    async def wait_for(self, kind: type[UserAgentEvent]) -> UserAgentEvent:
        async with asyncio.timeout(5):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def running(*ends: End) -> AsyncIterator[None]:
    for end in ends:
        await end.sockets.start()
    try:
        yield
    finally:
        for end in ends:
            await end.sockets.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until it is so: what sockets do on loopback has no event to wait for."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.001)


def listen(transport: Transport, tls: ssl.SSLContext | None = None) -> tuple[Listener, ...]:
    return (Listener(transport, "127.0.0.1", 0, tls),)


def dial(
    end: End, to: End, transport: Transport, credentials: Credentials | None = None, host: str = "127.0.0.1"
) -> None:
    port = to.sockets.addresses()[transport][1]
    invite = Invite(
        "sip:100@127.0.0.1", "sip:alice@127.0.0.1", offer_of().encode(),
        transport=transport, host=host, port=port, credentials=credentials,
    )  # fmt: skip
    end.agent.invite(invite, end.sockets.now())
    end.sockets.transmit()


@pytest.mark.parametrize(
    ("transport", "trunk"), [("tls", DESK), ("tls", CERTIFIED), ("tcp", LOOPBACK_TRUNK), ("udp", LOOPBACK_TRUNK)]
)
async def test_a_call(contexts: Contexts, transport: Transport, trunk: Trunk) -> None:
    called = End((trunk,), listen(transport, contexts.server if transport == "tls" else None))
    client = contexts.certified if trunk is CERTIFIED else contexts.client
    caller = End((), listen("udp") if transport == "udp" else (), client)
    async with running(called, caller):
        dial(caller, called, transport, ALICE if trunk is DESK else None)
        assert isinstance(await caller.wait_for(CallAnswered), CallAnswered)
        confirmed = await called.wait_for(CallConfirmed)
        incoming = called.events[0]
        assert isinstance(incoming, IncomingCall)
        assert (incoming.trunk, incoming.local) == (trunk.name, called.sockets.addresses()[transport])
        assert isinstance(confirmed, CallConfirmed)
        called.agent.hang_up(confirmed.call, called.sockets.now())
        called.sockets.transmit()
        ended = await caller.wait_for(CallEnded)
        assert isinstance(ended, CallEnded)
        assert ended.by == "peer"
    assert (called.agent.calls, caller.agent.calls) == (0, 0)


LOOPBACK6_TRUNK = Trunk("six", (ip_network("::1/128"),), allow_udp=True, allow_tcp=True)


@pytest.mark.parametrize("transport", ["tls", "tcp", "udp"])
async def test_a_call_over_ipv6(contexts: Contexts, transport: Transport) -> None:
    tls = contexts.server if transport == "tls" else None
    called = End((LOOPBACK6_TRUNK,), (Listener(transport, "::1", 0, tls),))
    caller = End((), (Listener("udp", "::1", 0),) if transport == "udp" else (), contexts.client)
    async with running(called, caller):
        local = called.sockets.addresses()[transport]
        assert local[0] == "::1"
        invite = Invite(
            f"sip:100@[::1]:{local[1]}", "sip:alice@[::1]", offer_of().encode(),
            transport=transport, host="[::1]", port=local[1],
        )  # fmt: skip
        caller.agent.invite(invite, caller.sockets.now())
        caller.sockets.transmit()
        await caller.wait_for(CallAnswered)
        confirmed = await called.wait_for(CallConfirmed)
        incoming = called.events[0]
        assert isinstance(incoming, IncomingCall)
        assert (incoming.trunk, incoming.local) == ("six", local)
        assert isinstance(confirmed, CallConfirmed)
        # The peer's Contact, in brackets, is where the BYE goes.
        called.agent.hang_up(confirmed.call, called.sockets.now())
        called.sockets.transmit()
        await caller.wait_for(CallEnded)
    assert (called.agent.calls, caller.agent.calls) == (0, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_listener_of_both_families_knows_a_trunk_by_either_address(transport: Transport, host: str) -> None:
    called = End((LOOPBACK_TRUNK, LOOPBACK6_TRUNK), (Listener(transport, "::", 0),))
    caller = End((), (Listener("udp", host, 0),) if transport == "udp" else ())
    async with running(called, caller):
        dial(caller, called, transport, host=host)
        await caller.wait_for(CallAnswered)
        await called.wait_for(CallConfirmed)
        incoming = called.events[0]
        assert isinstance(incoming, IncomingCall)
        # Media is offered on the same address: it is that of the interface, in its own family.
        assert incoming.local[0] == host
        assert incoming.trunk == ("carrier" if host == "127.0.0.1" else "six")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_calls_of_ours_leave_from_a_listener_of_both_families(host: str) -> None:
    called = End((LOOPBACK_TRUNK, LOOPBACK6_TRUNK), (Listener("udp", host, 0),))
    caller = End((), (Listener("udp", "::", 0),))
    async with running(called, caller):
        dial(caller, called, "udp", host=host)
        await caller.wait_for(CallAnswered)
        await called.wait_for(CallConfirmed)


async def test_a_family_without_a_listener_cannot_be_called_by_datagram() -> None:
    called = End((LOOPBACK6_TRUNK,), (Listener("udp", "::1", 0),))
    caller = End((), listen("udp"))
    async with running(called, caller):
        dial(caller, called, "udp", host="::1")
        refused = await caller.wait_for(CallRefused)
        assert isinstance(refused, CallRefused)
        assert refused.status == 503


async def test_the_certificate_of_a_trunk_reaches_its_flow(contexts: Contexts) -> None:
    called = End((CERTIFIED,), listen("tls", contexts.server))
    caller = End((), (), contexts.certified)
    async with running(called, caller):
        dial(caller, called, "tls")
        await called.wait_for(IncomingCall)
        (connection,) = called.sockets._connections.values()
        assert connection.flow is not None
        assert connection.flow.certificate_names == ("sip.carrier.example", "sip:carrier.example")


async def test_without_the_certificate_the_trunk_is_unknown(contexts: Contexts) -> None:
    called = End((CERTIFIED,), listen("tls", contexts.server))
    caller = End((), (), contexts.client)
    async with running(called, caller):
        dial(caller, called, "tls")
        refused = await caller.wait_for(CallRefused)
        assert isinstance(refused, CallRefused)
        assert refused.status == 403


async def test_a_server_that_nobody_vouches_for_gets_no_call(contexts: Contexts) -> None:
    called = End((DESK,), listen("tls", contexts.server))
    caller = End((), (), contexts.stranger)
    async with running(called, caller):
        dial(caller, called, "tls", ALICE)
        refused = await caller.wait_for(CallRefused)
        assert isinstance(refused, CallRefused)
        assert (refused.status, caller.sockets.counters["connections_failed"]) == (503, 1)
    assert called.events == []


@pytest.mark.parametrize("transport", ["tls", "udp"])
async def test_connections_that_we_lack_the_means_for(contexts: Contexts, transport: Transport) -> None:
    called = End((DESK,), listen(transport, contexts.server if transport == "tls" else None))
    caller = End()
    async with running(called, caller):
        dial(caller, called, transport)
        await caller.wait_for(CallRefused)


async def test_one_connection_serves_many_calls(contexts: Contexts) -> None:
    called = End((DESK,), listen("tls", contexts.server))
    caller = End((), (), contexts.client)
    async with running(called, caller):
        dial(caller, called, "tls", ALICE)
        await caller.wait_for(CallAnswered)
        dial(caller, called, "tls", ALICE)
        await until(lambda: sum(isinstance(event, CallAnswered) for event in caller.events) == 2)
        assert len(called.sockets._connections) == 1


async def test_a_lost_connection_leaves_the_call_and_its_bye_finds_a_new_one() -> None:
    called = End((LOOPBACK_TRUNK,), listen("tcp"))
    caller = End((LOOPBACK_TRUNK,), listen("tcp"))
    async with running(called, caller):
        port = caller.sockets.addresses()["tcp"][1]
        caller.agent._core.settings = replace(caller.agent._core.settings, contact_ports=(("tcp", port),))
        dial(caller, called, "tcp")
        confirmed = await called.wait_for(CallConfirmed)
        assert isinstance(confirmed, CallConfirmed)
        for connection in list(called.sockets._connections.values()):
            connection.abort()
        await until(lambda: not called.sockets._connections and not caller.sockets._connections)
        assert (called.agent.calls, caller.agent.calls) == (1, 1)
        called.agent.hang_up(confirmed.call, called.sockets.now())
        called.sockets.transmit()
        await caller.wait_for(CallEnded)


async def raw(end: End, transport: Transport = "tcp") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*end.sockets.addresses()[transport])


async def finished(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other end closes."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01" + bytes(40_000),
        b"OPTIONS sip:a SIP/2.0\r\nl: 99999\r\n\r\n",
    ],
)
async def test_a_stream_that_cannot_be_cut_is_closed_and_others_go_on(junk: bytes) -> None:
    called = End((LOOPBACK_TRUNK,), listen("tcp"))
    caller = End()
    async with running(called, caller):
        reader, writer = await raw(called)
        writer.write(junk)
        assert await finished(reader) == b""
        await close(writer)
        assert called.sockets.counters["streams_malformed"] == 1
        dial(caller, called, "tcp")
        await caller.wait_for(CallAnswered)


async def test_keep_alives_are_answered() -> None:
    called = End((LOOPBACK_TRUNK,), listen("tcp"))
    async with running(called):
        reader, writer = await raw(called)
        writer.write(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        writer.write(bytes(Solo().request("OPTIONS")) + b"\r\n\r\n")
        answers = await reader.readexactly(2) + await reader.readuntil(b"\r\n\r\n")
        assert answers.startswith(b"\r\nSIP/2.0 200 OK\r\n")
        await close(writer)


async def test_malformed_messages_are_answered_and_the_connection_stays() -> None:
    called = End((LOOPBACK_TRUNK,), listen("tcp"))
    async with running(called):
        reader, writer = await raw(called)
        for _ in range(2):
            writer.write(bytes(Solo().request("OPTIONS")).replace(b"1 OPTIONS", b"1 INVITE"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"SIP/2.0 400 Bad Request\r\n")
        await close(writer)


async def test_too_many_connections() -> None:
    called = End((LOOPBACK_TRUNK,), listen("tcp"), limits=SocketLimits(connections_per_address_max=2))
    async with running(called):
        kept = [await raw(called) for _ in range(2)]
        await until(lambda: len(called.sockets._connections) == 2)
        reader, writer = await raw(called)
        assert await finished(reader) == b""
        assert called.sockets.counters["connections_refused"] == 1
        for _, each in [*kept, (reader, writer)]:
            await close(each)
        await until(lambda: not called.sockets._connections)


async def test_strangers_that_say_nothing_are_closed_and_trunks_are_not() -> None:
    limits = SocketLimits(stranger_seconds=0.05, idle_seconds=60.0)
    called = End((LOOPBACK_TRUNK,), listen("tcp"), limits=limits)
    async with running(called):
        reader, writer = await raw(called)
        known_reader, known_writer = await raw(called)
        known_writer.write(bytes(Solo().request("OPTIONS")))
        await known_reader.readuntil(b"\r\n\r\n")
        assert await finished(reader) == b""
        assert called.sockets.counters["connections_idle"] == 1
        assert len(called.sockets._connections) == 1
        await close(writer)
        await close(known_writer)


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    called = End((LOOPBACK_TRUNK,), listen("tcp"), limits=SocketLimits(write_buffer_bytes_max=100_000))
    async with running(called):
        reader, writer = await raw(called)
        await until(lambda: bool(called.sockets._connections))
        (connection,) = called.sockets._connections.values()
        for _ in range(500):
            connection.send(bytes(100_000))
        assert called.sockets.counters["connections_too_slow"] == 1
        await until(lambda: not called.sockets._connections)
        await finished(reader)
        await close(writer)


async def test_datagrams_that_are_junk_and_keep_alives() -> None:
    called = End((LOOPBACK_TRUNK,), listen("udp"))
    caller = End((), listen("udp"))
    async with running(called, caller):
        (sender,) = caller.sockets._datagrams.values()
        for junk in (b"\r\n\r\n", b"\0\0\0\0", b"\xff" * 1500, b"SIP/2.0 200 OK\r\n\r\n"):
            sender.send(junk, called.sockets.addresses()["udp"])
        dial(caller, called, "udp")
        await caller.wait_for(CallAnswered)
        assert called.agent.counters["malformed"] == 2


async def test_a_bug_of_ours_ends_one_connection_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = End((LOOPBACK_TRUNK,), listen("tcp"))
    real = called.agent.receive

    def broken(data: bytes, *rest: object) -> None:
        if b"crash" in data:
            raise ZeroDivisionError
        real(data, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(called.agent, "receive", broken)
    async with running(called):
        reader, writer = await raw(called)
        other_reader, other_writer = await raw(called)
        writer.write(bytes(Solo().request("OPTIONS", call_id="crash")))
        assert await finished(reader) == b""
        other_writer.write(bytes(Solo().request("OPTIONS")))
        assert (await other_reader.readuntil(b"\r\n\r\n")).startswith(b"SIP/2.0 200")
        await close(writer)
        await close(other_writer)
    assert "a SIP message could not be handled" in capsys.readouterr().out


async def test_listeners_and_contexts_go_together(contexts: Contexts) -> None:
    for listener in (Listener("tls", "127.0.0.1", 0), Listener("tcp", "127.0.0.1", 0, contexts.server)):
        end = End((), (listener,))
        with pytest.raises(LocalError):
            await end.sockets.start()


async def test_a_wildcard_socket_says_the_address_that_reaches_the_peer() -> None:
    called = End((LOOPBACK_TRUNK,), (Listener("udp", "0.0.0.0", 0),))
    caller = End((), listen("udp"))
    async with running(called, caller):
        dial(caller, called, "udp")
        incoming = await called.wait_for(IncomingCall)
        assert isinstance(incoming, IncomingCall)
        assert incoming.local[0] == "127.0.0.1"


async def test_limits_of_messages() -> None:
    limits = SocketLimits(stream=StreamLimits(head_bytes_max=500))
    called = End((LOOPBACK_TRUNK,), listen("tcp"), limits=limits)
    async with running(called):
        reader, writer = await raw(called)
        writer.write(bytes(Solo().request("OPTIONS", ("Subject", "x" * 600))))
        assert await finished(reader) == b""
        await close(writer)


assert ip_network("127.0.0.0/8") in LOOPBACK_TRUNK.addresses
