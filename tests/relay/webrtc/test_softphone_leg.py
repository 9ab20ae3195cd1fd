"""Softphone legs over one real shared socket, with stock aiortc peers on the other side."""

from __future__ import annotations

import asyncio
import os
import random
import re
import struct

import pylibsrtp
import pytest
from aiortc import RTCSessionDescription
from aiortc.rtcdtlstransport import RTCDtlsTransport

from relay.errors import Exhausted, LocalError
from relay.media import ControlDatagram, LegId
from relay.webrtc import stun
from relay.webrtc.softphone_leg import SoftphoneMediaSettings, SoftphoneTransports
from signaling.errors import RemoteError
from tests.relay.shared_socket import CERTIFICATE, browser, call, shared_sockets

LEG = LegId("leg-1")
STRANGER = ("127.0.0.9", 9)

PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


def srtp(key, direction):
    return pylibsrtp.Session(pylibsrtp.Policy(key=key.master, ssrc_type=direction, srtp_profile=PROFILES[key.suite]))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_media_flows_both_ways_with_the_exported_keys(host):
    async with shared_sockets(hosts=(host,)) as relay, browser(hosts=(host,)) as peer:
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        ready, socket = relay.ready[LEG], relay.sockets[0]
        assert ready.local == socket.local
        assert ready.remote[0] == host

        async with asyncio.timeout(5):
            await socket.arrived.wait()
        data, source = socket.srtp[0]
        assert source == ready.remote
        packet = srtp(ready.receive_key, pylibsrtp.Policy.SSRC_ANY_INBOUND).unprotect(data)
        assert packet[1] & 0x7F == ready.codec.payload_type

        track = peer.getReceivers()[0].track
        sending = srtp(ready.send_key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        for number in range(10):
            header = struct.pack("!BBHII", 0x80, ready.codec.payload_type, number, number * 960, ready.ssrc)
            relay.sent(ready.local, sending.protect(header + bytes.fromhex("f8fffe")), ready.remote)
        async with asyncio.timeout(5):
            frame = await track.recv()
        assert frame.sample_rate == 48_000


@pytest.mark.parametrize("profile", ["SRTP_AEAD_AES_128_GCM", "SRTP_AEAD_AES_256_GCM", "SRTP_AES128_CM_SHA1_80"])
async def test_every_protection_profile_is_served(profile, monkeypatch):
    from aiortc import rtcdtlstransport

    async with shared_sockets() as relay, browser() as peer:
        for transport in [t.sender.transport for t in peer.getTransceivers()]:
            monkeypatch.setattr(transport, "_srtp_profiles", [getattr(rtcdtlstransport, profile)])
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        async with asyncio.timeout(5):
            await relay.sockets[0].arrived.wait()
        receiving = srtp(relay.ready[LEG].receive_key, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        receiving.unprotect(relay.sockets[0].srtp[0][0])


async def test_an_active_browser_makes_us_the_dtls_server():
    async with shared_sockets() as relay, browser() as peer:
        offer = peer.localDescription.sdp.replace("a=setup:actpass", "a=setup:active")
        answer = await relay.transports.connect(LEG, offer)
        assert "a=setup:passive" in answer
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await relay.wait_until(lambda: LEG in relay.ready)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_of_two_families_the_browsers_own_is_used(host):
    async with shared_sockets(hosts=("127.0.0.1", "::1")) as relay, browser(hosts=(host,)) as peer:
        answer = await relay.transports.connect(LEG, peer.localDescription.sdp)
        assert re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", answer) == [
            (local, str(port)) for local, port in (socket.local for socket in relay.sockets)
        ]
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await relay.wait_until(lambda: LEG in relay.ready)
        assert relay.ready[LEG].local[0] == relay.ready[LEG].remote[0] == host


async def test_an_ipv6_candidate_of_the_browser_is_checked_by_us():
    async with shared_sockets(hosts=("::1",)) as relay, browser(hosts=("::1",)) as peer:
        # Of our answer the browser learns no candidate: it is our checks of its own that connect them.
        answer = await relay.transports.connect(LEG, peer.localDescription.sdp)
        without = re.sub(r"a=(candidate:.*|end-of-candidates)\r\n", "", answer)
        assert "candidate" not in without
        await peer.setRemoteDescription(RTCSessionDescription(without, "answer"))
        await relay.wait_until(lambda: LEG in relay.ready)


async def test_two_browsers_share_one_port():
    other = LegId("leg-2")
    async with shared_sockets() as relay, browser() as one, browser() as two:
        await asyncio.gather(call(one, relay, LEG), call(two, relay, other))
        await relay.wait_until(lambda: len(relay.ready) == 2)
        assert relay.ready[LEG].local == relay.ready[other].local
        assert relay.ready[LEG].remote != relay.ready[other].remote
        assert relay.ready[LEG].receive_key != relay.ready[other].receive_key


async def test_a_browser_that_closes_is_lost_and_forgotten_and_the_other_stays():
    other = LegId("leg-2")
    async with shared_sockets() as relay, browser() as one, browser() as two:
        await asyncio.gather(call(one, relay, LEG), call(two, relay, other))
        await relay.wait_until(lambda: len(relay.ready) == 2)
        await one.close()
        await relay.wait_until(lambda: LEG in relay.lost)
        assert relay.lost == {LEG: "closed by the browser"}
        assert len(relay.transports) == 1


async def test_closing_a_leg_tells_the_browser_and_says_nothing_of_loss():
    async with shared_sockets() as relay, browser() as peer:
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        transport = peer.getSenders()[0].transport
        closed = asyncio.Event()
        transport.on("statechange", lambda: transport.state == "closed" and closed.set())
        await relay.transports.close(LEG)
        async with asyncio.timeout(5):
            await closed.wait()
        assert relay.lost == {}
        assert len(relay.transports._consents) == 0  # nor is it asked for consent any more
        assert relay.transports._consent_timer is None
        await relay.transports.close(LEG)


async def test_consent_that_expires_loses_the_leg():
    settings = SoftphoneMediaSettings(consent_interval_s=0.01, consent_expiry_s=0.05)
    async with shared_sockets(settings=settings) as relay, browser() as peer:
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        relay.sockets[0].transports = None  # nothing of the browser arrives any more
        await relay.wait_until(lambda: LEG in relay.lost)
        assert relay.lost == {LEG: "consent expired"}
        assert relay.transports._consent_timer is None


async def test_a_browser_that_answers_keeps_its_leg(monkeypatch):
    settings = SoftphoneMediaSettings(consent_interval_s=0.01, consent_expiry_s=0.25)
    async with shared_sockets(settings=settings) as relay, browser() as peer:
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        consents, answers, enough = relay.transports._consents, [], asyncio.Event()
        until = asyncio.get_running_loop().time() + 0.5

        def answered(transaction_id, data, now):
            answers.append(type(consents).answered(consents, transaction_id, data, now))
            if now >= until:
                enough.set()
            return answers[-1]

        monkeypatch.setattr(consents, "answered", answered)
        async with asyncio.timeout(5):
            await enough.wait()
        assert all(answers)
        assert relay.lost == {}


async def test_consent_is_not_had_from_another_address_nor_by_an_error():
    async with shared_sockets() as relay, browser() as peer:
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        ready, counters = relay.ready[LEG], relay.transports.counters
        leg = relay.transports._legs[LEG]
        relay.transports._consents.due(asyncio.get_running_loop().time() + 10)
        transaction = relay.transports._consents._by_owner[leg].transaction_id
        right = stun.binding_response(transaction, ready.remote, leg.offer.ice.password.encode())
        wrong = stun.binding_response(transaction, ready.remote, b"p" * 24)
        error = b"\x01\x11" + right[2:]
        for data, source in ((right, STRANGER), (wrong, ready.remote), (error, ready.remote)):
            relay.transports.datagram(ControlDatagram(ready.local, source, data))
            assert relay.transports._consents.awaits(transaction) is leg
        assert (counters.stun_unknown, counters.stun_unauthenticated, counters.consent_refused) == (1, 1, 1)
        relay.transports.datagram(ControlDatagram(ready.local, ready.remote, right))
        assert relay.transports._consents.awaits(transaction) is None


async def test_a_leg_that_stands_answers_checks_without_aioice(monkeypatch):
    async with shared_sockets() as relay, browser() as peer:
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        ready, leg, transports = relay.ready[LEG], relay.transports._legs[LEG], relay.transports
        for_aioice, sent = [], []
        monkeypatch.setattr(leg.connection, "request_received", lambda *received: for_aioice.append(received))
        monkeypatch.setattr(transports, "_send", lambda *sending: sent.append(sending))
        name = f"{leg.connection.local_username}:{leg.offer.ice.username_fragment}".encode()
        password = leg.connection.local_password.encode()

        def check(source, *, controlling=True, key=password):
            body = stun.check_attributes(name, 1, controlling=controlling, tie_breaker=0)
            transports.datagram(ControlDatagram(ready.local, source, stun.binding_request(bytes(12), body, key)))
            return len(for_aioice), len(sent)

        assert check(ready.remote) == (0, 1)
        assert sent == [(ready.local, stun.binding_response(bytes(12), ready.remote, password), ready.remote)]
        assert check(STRANGER) == (1, 1)  # another pair
        assert check(ready.remote, controlling=False) == (2, 1)  # a conflict of roles
        assert check(ready.remote, key=b"p" * 24) == (2, 1)
        assert transports.counters.stun_unauthenticated == 1


async def test_a_wrong_certificate_fails_the_leg():
    async with shared_sockets() as relay, browser() as peer:
        offer = re.sub("(a=fingerprint:sha-256 )..", r"\g<1>00", peer.localDescription.sdp)
        assert offer != peer.localDescription.sdp
        answer = await relay.transports.connect(LEG, offer)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await relay.wait_until(lambda: LEG in relay.lost)
        assert relay.lost == {LEG: "the certificate does not have the fingerprint of the offer"}
        assert relay.ready == {}


async def test_a_browser_that_never_comes_is_given_up():
    settings = SoftphoneMediaSettings(connect_timeout_s=0.05)
    async with shared_sockets(settings=settings) as relay, browser() as peer:
        await relay.transports.connect(LEG, peer.localDescription.sdp.replace("a=candidate", "a=x-candidate"))
        await relay.wait_until(lambda: LEG in relay.lost)
        assert relay.lost == {LEG: "no connection in time"}
        assert len(relay.transports) == 0


async def test_a_browser_without_candidates_is_learned_from_its_checks():
    async with shared_sockets() as relay, browser() as peer:
        offer = peer.localDescription.sdp.replace("a=candidate", "a=x-candidate")
        answer = await relay.transports.connect(LEG, offer)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await relay.wait_until(lambda: LEG in relay.ready)


async def test_every_media_address_is_a_candidate_and_no_server_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr("aioice.ice.server_reflexive_candidate", lambda *a: asked.append(a))
    monkeypatch.setattr("aioice.ice.relayed_candidate", lambda **a: asked.append(a))
    loop = asyncio.get_running_loop()
    async with shared_sockets(3) as relay, browser() as peer:
        monkeypatch.setattr(loop, "create_datagram_endpoint", lambda *a, **k: asked.append(a))
        answer = await relay.transports.connect(LEG, peer.localDescription.sdp)
        monkeypatch.undo()
        ports = re.findall(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) typ host", answer)
        assert [int(port) for port in ports] == [s.local[1] for s in relay.sockets]
        assert asked == []


async def test_a_translated_address_is_the_one_that_browsers_are_told():
    settings = SoftphoneMediaSettings(advertised={"127.0.0.1": "203.0.113.9"})
    async with shared_sockets(settings=settings) as relay, browser() as peer:
        answer = await relay.transports.connect(LEG, peer.localDescription.sdp)
        port = relay.sockets[0].local[1]
        assert f"203.0.113.9 {port} typ host\r\n" in answer
        assert "c=IN IP4 203.0.113.9\r\n" in answer


def test_loopback_is_the_last_that_browsers_try():
    def candidates(*addresses):
        async def make():
            transports = SoftphoneTransports(
                addresses,
                lambda *_: None,
                CERTIFICATE,
                entropy=os.urandom,
                on_ready=lambda *_: None,
                on_moved=lambda *_: None,
                on_lost=lambda *_: None,
            )
            return transports._addresses

        return asyncio.run(make())

    assert candidates(("127.0.0.1", 5), ("192.0.2.1", 5)) == (("192.0.2.1", 5), ("127.0.0.1", 5))
    with pytest.raises(LocalError):
        candidates()


async def test_handshakes_wait_for_one_another():
    settings = SoftphoneMediaSettings(handshakes_max=1)
    async with shared_sockets(settings=settings) as relay, browser() as one, browser() as two:
        await asyncio.gather(call(one, relay, LEG), call(two, relay, LegId("leg-2")))
        await relay.wait_until(lambda: len(relay.ready) == 2)


async def test_one_browser_validates_only_so_many_addresses():
    settings = SoftphoneMediaSettings(sources_max=3)
    async with shared_sockets(settings=settings) as relay, browser() as peer:
        await relay.transports.connect(LEG, peer.localDescription.sdp)
        leg, local = relay.transports._legs[LEG], relay.sockets[0].local
        taken = [relay.transports._validated(leg, local, ("192.0.2.1", port)) for port in (1, 2, 3, 4, 1)]
        assert taken == [True, True, True, False, True]
        assert relay.transports.counters.sources_overflow == 1
        await relay.transports.close(LEG)
        assert relay.transports._by_pair == {}
        assert not relay.transports._validated(leg, local, ("192.0.2.1", 9))


async def test_bad_offers_and_limits_are_refused_in_words():
    settings = SoftphoneMediaSettings(connecting_max=1)
    async with shared_sockets(settings=settings) as relay, browser() as peer:
        for offer in ("", "v=0", "junk" * 100, peer.localDescription.sdp.replace("m=audio", "m=video")):
            with pytest.raises(RemoteError):
                await relay.transports.connect(LEG, offer)
        await relay.transports.connect(LEG, peer.localDescription.sdp)
        with pytest.raises(LocalError):
            await relay.transports.connect(LEG, peer.localDescription.sdp)
        with pytest.raises(Exhausted):
            await relay.transports.connect(LegId("leg-2"), peer.localDescription.sdp)
        assert relay.transports.counters.legs_refused == 1


async def test_junk_is_counted_and_never_answered_nor_kept():
    chance = random.Random(7)
    async with shared_sockets() as relay:
        transports, local = relay.transports, relay.sockets[0].local
        sent = []
        transports._send = lambda *a: sent.append(a)
        for _ in range(5_000):
            first = chance.choice([0, 1, 3, 20, 63, 200])
            data = bytes([first]) + chance.randbytes(chance.randrange(200))
            transports.datagram(ControlDatagram(local, STRANGER, data))
        transports.datagram(ControlDatagram(local, STRANGER, b""))
        counters = transports.counters
        assert counters.stun_malformed + counters.stun_unknown + counters.dtls_unknown + counters.not_control == 5_001
        assert sent == []
        assert len(transports) == 0


async def test_a_flood_does_not_disturb_a_leg_that_connects():
    async with shared_sockets() as relay, browser() as peer:
        local = relay.sockets[0].local
        answer = await relay.transports.connect(LEG, peer.localDescription.sdp)
        fragment = re.search(r"a=ice-ufrag:(\S+)", answer)[1]
        other = re.search(r"a=ice-ufrag:(\S+)", peer.localDescription.sdp)[1]
        guess = binding_request(f"{fragment}:{other}".encode(), priority=True)
        for data in (
            guess,
            binding_request(f"{fragment}:wrong".encode(), priority=True),
            binding_request(f"{fragment}:{other}".encode(), priority=False),
            binding_request(b"\xff\xfe", priority=True),
            guess[:2] + b"\0\0" + guess[4:],
            b"\x01\x01" + guess[2:],
            b"\x16\xfe\xfd" + os.urandom(60),
        ):
            for _ in range(50):
                relay.transports.datagram(ControlDatagram(local, STRANGER, data))
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await relay.wait_until(lambda: LEG in relay.ready)
        counters = relay.transports.counters
        assert counters.stun_unauthenticated == 50
        assert counters.stun_unknown == 150
        assert counters.stun_malformed == 100
        assert counters.dtls_unknown == 50
        assert relay.lost == {}


async def test_dtls_from_a_validated_address_is_bounded():
    settings = SoftphoneMediaSettings(datagrams_max=4)
    async with shared_sockets(settings=settings) as relay, browser() as peer:
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        ready = relay.ready[LEG]
        for _ in range(20):
            relay.transports.datagram(ControlDatagram(ready.local, ready.remote, b"\x17\xfe\xfd" + bytes(30)))
        assert relay.transports.counters.dtls_overflow == 16
        assert relay.lost == {}


async def test_another_nominated_pair_moves_the_leg():
    async with shared_sockets(2) as relay, browser() as peer:
        await call(peer, relay, LEG)
        await relay.wait_until(lambda: LEG in relay.ready)
        leg = relay.transports._legs[LEG]
        before = leg.pair
        other = next(s.local for s in relay.sockets if s.local != before[0])
        relay.transports._selected(leg, other, before[1])
        relay.transports._selected(leg, other, before[1])
        assert relay.moved == [(LEG, other, before[1])]


def test_the_private_names_that_we_rest_on_are_there():
    import aioice

    from relay.webrtc import dtls, ice_sockets

    async def check():
        connection = aioice.Connection(ice_controlling=False)
        return [name for name in ice_sockets.PRIVATE_NAMES if not hasattr(connection, name)]

    assert asyncio.run(check()) == []
    for name in ("check_incoming", "check_complete", "data_received", "request_received", "recv", "gather_candidates"):
        assert callable(getattr(aioice.Connection, name))
    source = RTCDtlsTransport.__init__.__code__.co_names
    assert [n for n in dtls.PRIVATE_NAMES if not hasattr(RTCDtlsTransport, n) and n not in source] == []


def binding_request(username: bytes, *, priority: bool) -> bytes:
    """A Binding request with a wrong MESSAGE-INTEGRITY."""
    body = struct.pack("!HH", 0x0006, len(username)) + username + bytes(-len(username) % 4)
    if priority:
        body += struct.pack("!HHI", 0x0024, 4, 1)
    body += struct.pack("!HH", 0x0008, 20) + bytes(20)
    return struct.pack("!HHI", 1, len(body), 0x2112A442) + os.urandom(12) + body
