"""Softphone legs: ICE and DTLS of all browsers over the shared media sockets, until the media plane has their keys.

The plane hands every STUN and DTLS datagram to `datagram` (RFC 7983); SRTP never comes here. A datagram finds its
connection

- STUN request: by our fragment in USERNAME, then by its integrity, before anything else is done with it;
- STUN response: by the transaction id of the request that we sent, on the same socket;
- DTLS: by its source address, which an authenticated STUN check has validated before.

aioice is asked as long as a connection is being made, and whenever something changes; consent checks of connections
that stand, ours and theirs, are most of what comes, and never reach it.

Everything else is counted and dropped without an answer, so that a flood finds nothing to hold or to reflect.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aioice
import structlog
from aioice import stun as ice_stun
from aioice.candidate import candidate_priority
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCIceParameters, RTCIceTransport

from relay.errors import Exhausted, LocalError
from relay.media import Address, Codec, ControlDatagram, LegId, SrtpKey
from relay.webrtc import consent, stun
from relay.webrtc.dtls import KeyingDtlsTransport, SharedContextCertificate, SharedSocketGatherer
from relay.webrtc.ice_sockets import Send, SharedSocketConnection, SharedStunProtocol
from signaling.softphone.negotiation import (
    DEFAULT_PREFERENCE,
    Candidate,
    Encoding,
    Fingerprint,
    IceCredentials,
    LocalMedia,
    Offer,
    read_offer,
    write_answer,
)

_log = structlog.get_logger()

_CONSENT_PAUSE_SECONDS = 0.02
"""Between batches of consent checks: their answers should not all come in one tick, which takes only so many."""


@dataclass(frozen=True, slots=True)
class SoftphoneMediaSettings:
    """Limits and preferences of browser legs."""

    codecs: tuple[Encoding, ...] = DEFAULT_PREFERENCE
    opus_bitrate: int = 32_000
    opus_complexity: int = 5
    legs_max: int = 2_000
    connecting_max: int = 200
    """Legs whose ICE or DTLS is under way."""
    handshakes_max: int = 16
    """DTLS handshakes at a time; the others wait."""
    connect_timeout_s: float = 20.0
    consent_interval_s: float = consent.INTERVAL_SECONDS
    consent_expiry_s: float = consent.EXPIRY_SECONDS
    sources_max: int = 16
    """Addresses that one browser may validate."""
    datagrams_max: int = 32
    """DTLS datagrams that wait for one leg."""
    advertised: Mapping[str, str] = field(default_factory=dict[str, str])
    """The address that browsers reach instead of a local one, where a router translates (1:1 NAT, same port)."""


@dataclass(slots=True)
class SoftphoneMediaCounters:
    """What was dropped, and what became of the legs."""

    stun_malformed: int = 0
    stun_unknown: int = 0
    """For no leg of ours, or answers to no request of ours."""
    stun_unauthenticated: int = 0
    consent_refused: int = 0
    """Errors in answer to a consent check, which is then as if it had not been answered."""
    dtls_unknown: int = 0
    """From an address that no check has validated."""
    dtls_overflow: int = 0
    not_control: int = 0
    """Neither STUN nor DTLS."""
    sources_overflow: int = 0
    legs_refused: int = 0
    legs_ready: int = 0
    legs_lost: int = 0


@dataclass(frozen=True, slots=True)
class ReadyLeg:
    """A browser's media is up: what the plane needs to open its row."""

    local: Address
    remote: Address
    receive_key: SrtpKey
    send_key: SrtpKey
    codec: Codec
    telephone_event: int | None
    ssrc: int
    """Of what the relay sends, as the answer said."""


@dataclass(slots=True, eq=False)
class _Leg:
    """One browser's connection."""

    leg_id: LegId
    offer: Offer
    ssrc: int
    connection: SharedSocketConnection
    ice: RTCIceTransport
    dtls: KeyingDtlsTransport
    sources: set[tuple[Address, Address]] = field(default_factory=set[tuple[Address, Address]])
    pair: tuple[Address, Address] | None = None
    """(local, remote) that the peer uses."""
    is_ready: bool = False
    is_over: bool = False
    task: asyncio.Task[None] | None = None


class SoftphoneTransports:
    """ICE and DTLS of all browser legs; lives on the control loop.

    `send(local, data, remote)` sends from a media socket. `on_ready` comes once for each leg, `on_moved` when ICE
    nominates another pair after that, `on_lost` at most once, with the reason; a leg that was lost is forgotten and
    needs no `close`.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        send: Send,
        certificate: RTCCertificate,
        *,
        entropy: Callable[[int], bytes],
        on_ready: Callable[[LegId, ReadyLeg], None],
        on_moved: Callable[[LegId, Address, Address], None],
        on_lost: Callable[[LegId, str], None],
        settings: SoftphoneMediaSettings | None = None,
    ) -> None:
        if not addresses:
            raise LocalError("browser legs need at least one media address")
        self.settings = settings or SoftphoneMediaSettings()
        self.counters = SoftphoneMediaCounters()
        # Loopback last: a browser elsewhere would try its own machine first.
        self._addresses = tuple(sorted(addresses, key=lambda local: ipaddress.ip_address(local[0]).is_loopback))
        self._send = send
        self._certificate = SharedContextCertificate(certificate)
        self._entropy = entropy
        self._on_ready = on_ready
        self._on_moved = on_moved
        self._on_lost = on_lost
        self._legs: dict[LegId, _Leg] = {}
        self._by_username: dict[str, _Leg] = {}
        self._by_pair: dict[tuple[Address, Address], _Leg] = {}
        self._requests: dict[bytes, SharedStunProtocol] = {}
        self._consents = consent.Consents[_Leg](
            entropy,
            interval_seconds=self.settings.consent_interval_s,
            expiry_seconds=self.settings.consent_expiry_s,
        )
        self._consent_timer: asyncio.TimerHandle | None = None
        self._handshakes = asyncio.Semaphore(self.settings.handshakes_max)
        self._closing: set[asyncio.Task[None]] = set()

    # ---- legs

    async def connect(self, leg_id: LegId, offer_sdp: str) -> str:
        """Answer a browser's offer and begin ICE; raises RemoteError of signaling for a bad offer, and Exhausted."""
        if leg_id in self._legs:
            raise LocalError(f"leg {leg_id} is already there")
        offer = read_offer(offer_sdp, self.settings.codecs)
        connecting = sum(not leg.is_ready for leg in self._legs.values())
        if len(self._legs) >= self.settings.legs_max or connecting >= self.settings.connecting_max:
            self.counters.legs_refused += 1
            raise Exhausted("too many softphone legs; try again in a few seconds")
        leg = self._make_leg(leg_id, offer)
        self._legs[leg_id] = leg
        self._by_username[leg.connection.local_username] = leg
        await leg.ice.iceGatherer.gather()
        leg.task = asyncio.create_task(self._run(leg), name=f"softphone leg {leg_id}")
        return write_answer(offer, self._local_media(leg))

    async def close(self, leg_id: LegId) -> None:
        """End a leg with a DTLS close_notify; nothing if it is not there."""
        leg = self._legs.get(leg_id)
        if leg is not None:
            self._forget(leg)
            await self._stop(leg)

    async def close_all(self) -> None:
        """End all legs."""
        await asyncio.gather(*(self.close(leg_id) for leg_id in list(self._legs)))
        await asyncio.gather(*self._closing)

    def __len__(self) -> int:
        return len(self._legs)

    def _make_leg(self, leg_id: LegId, offer: Offer) -> _Leg:
        def validated(local: Address, remote: Address) -> bool:
            return self._validated(leg, local, remote)

        def selected(local: Address, remote: Address) -> None:
            self._selected(leg, local, remote)

        connection = SharedSocketConnection(
            self._addresses,
            self._send,
            self._requests,
            # RFC 8445 §5.3: at least 24 and 128 bits; base64 letters are ice-chars.
            username_fragment=base64.b64encode(self._entropy(6)).decode("ascii"),
            password=base64.b64encode(self._entropy(18)).decode("ascii"),
            on_validated=validated,
            on_selected=selected,
            datagrams_max=self.settings.datagrams_max,
        )
        connection.ice_controlling = offer.ice_lite  # RFC 8445 §6.1.1: the full agent controls
        ice = RTCIceTransport(SharedSocketGatherer(connection))
        dtls = KeyingDtlsTransport(ice, self._certificate, offer.setup)
        ssrc = int.from_bytes(self._entropy(4), "big") or 1
        leg = _Leg(leg_id, offer, ssrc, connection, ice, dtls)
        dtls.on("statechange", lambda: self._dtls_changed(leg))
        return leg

    def _local_media(self, leg: _Leg) -> LocalMedia:
        digest = next(f for f in self._certificate.getFingerprints() if f.algorithm == "sha-256")
        return LocalMedia(
            ice=IceCredentials(leg.connection.local_username, leg.connection.local_password),
            candidates=tuple(
                Candidate(
                    self.settings.advertised.get(candidate.host, candidate.host),
                    candidate.port,
                    candidate.priority,
                    candidate.foundation,
                )
                for candidate in leg.connection.local_candidates
            ),
            fingerprint=Fingerprint("sha-256", digest.value),
            ssrc=leg.ssrc,
            cname=self._entropy(8).hex(),
            session_id=int.from_bytes(self._entropy(7), "big"),
        )

    async def _run(self, leg: _Leg) -> None:
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                failure = await self._connect(leg)
        except TimeoutError:
            failure = "no connection in time"
        except Exception as error:  # noqa: BLE001 - whatever a library raises for one browser ends only its leg
            _log.warning("softphone leg failed", leg_id=leg.leg_id, error=type(error).__name__)
            failure = "the connection failed"
        if failure is not None:
            self._lost(leg, failure)

    async def _connect(self, leg: _Leg) -> str | None:
        """ICE, then DTLS; the reason if one fails."""
        for candidate in leg.offer.candidates:
            await leg.connection.add_remote_candidate(
                aioice.Candidate(
                    candidate.foundation, 1, "udp", candidate.priority, candidate.host, candidate.port, candidate.kind
                )
            )
        # End-of-candidates is never signalled: the browser may stand behind an address that only its checks will
        # show, and aioice would give up without a pair to check. The time-out ends it instead.
        await leg.ice.start(
            RTCIceParameters(leg.offer.ice.username_fragment, leg.offer.ice.password, leg.offer.ice_lite)
        )
        if leg.ice.state != "completed":
            return "ICE found no way"
        async with self._handshakes:
            fingerprints = [RTCDtlsFingerprint(f.algorithm, f.value) for f in leg.offer.fingerprints]
            await leg.dtls.start(RTCDtlsParameters(fingerprints))
        if leg.dtls.state != "connected":
            return leg.dtls.failure
        self._ready(leg)
        return None

    def _ready(self, leg: _Leg) -> None:
        keys = leg.dtls.receive_key, leg.dtls.send_key
        assert leg.pair is not None  # ICE completed with a nominated pair
        assert keys[0] is not None  # the DTLS state is connected only after the keys were exported
        assert keys[1] is not None
        chosen = leg.offer.codec
        leg.is_ready = True
        self.counters.legs_ready += 1
        self._begin_consent(leg)
        self._on_ready(
            leg.leg_id,
            ReadyLeg(
                local=leg.pair[0],
                remote=leg.pair[1],
                receive_key=keys[0],
                send_key=keys[1],
                codec=Codec(
                    chosen.encoding,
                    chosen.payload_type,
                    self.settings.opus_bitrate,
                    self.settings.opus_complexity,
                    chosen.in_band_fec,
                ),
                telephone_event=chosen.telephone_event,
                ssrc=leg.ssrc,
            ),
        )

    def _validated(self, leg: _Leg, local: Address, remote: Address) -> bool:
        pair = (local, remote)
        if pair not in leg.sources:
            if len(leg.sources) >= self.settings.sources_max or leg.is_over:
                self.counters.sources_overflow += 1
                return False
            leg.sources.add(pair)
        self._by_pair[pair] = leg
        return True

    def _selected(self, leg: _Leg, local: Address, remote: Address) -> None:
        if leg.pair != (local, remote) and not leg.is_over:
            leg.pair = (local, remote)
            if leg.is_ready:
                self._on_moved(leg.leg_id, local, remote)

    def _dtls_changed(self, leg: _Leg) -> None:
        if leg.is_ready and leg.dtls.state == "closed":
            self._lost(leg, "closed by the browser")

    def _lost(self, leg: _Leg, reason: str) -> None:
        if leg.is_over:
            return
        self._forget(leg)
        self.counters.legs_lost += 1
        task = asyncio.create_task(self._stop(leg), name=f"end softphone leg {leg.leg_id}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        self._on_lost(leg.leg_id, reason)

    def _forget(self, leg: _Leg) -> None:
        leg.is_over = True
        self._consents.end(leg)
        self._arm_consent()
        del self._legs[leg.leg_id]
        del self._by_username[leg.connection.local_username]
        for pair in leg.sources:
            if self._by_pair.get(pair) is leg:
                del self._by_pair[pair]

    async def _stop(self, leg: _Leg) -> None:
        if leg.task is not None and leg.task is not asyncio.current_task():
            leg.task.cancel()
            await asyncio.wait([leg.task])
        await leg.dtls.stop()
        await leg.ice.stop()

    # ---- consent

    def _begin_consent(self, leg: _Leg) -> None:
        ice, connection = leg.offer.ice, leg.connection
        self._consents.begin(
            leg,
            stun.check_attributes(
                f"{ice.username_fragment}:{connection.local_username}".encode("ascii"),
                candidate_priority(1, "prflx"),
                controlling=connection.ice_controlling,
                tie_breaker=int.from_bytes(self._entropy(8), "big"),
            ),
            ice.password.encode("ascii"),
            asyncio.get_running_loop().time(),
        )
        self._arm_consent()

    def _arm_consent(self, not_before: float = 0.0) -> None:
        """One timer for all legs."""
        at = self._consents.next_at() if len(self._consents) else None
        timer = self._consent_timer
        if timer is not None and (at is None or at < timer.when()):
            timer.cancel()
            timer = self._consent_timer = None
        if timer is None and at is not None:
            self._consent_timer = asyncio.get_running_loop().call_at(max(at, not_before), self._ask_for_consent)

    def _ask_for_consent(self) -> None:
        self._consent_timer = None
        now = asyncio.get_running_loop().time()
        due = self._consents.due(now)
        for leg, request in due.requests:
            assert leg.pair is not None, "a leg that is ready has a pair"
            self._send(leg.pair[0], request, leg.pair[1])
        for leg in due.expired:
            self._lost(leg, "consent expired")
        self._arm_consent(now + _CONSENT_PAUSE_SECONDS)

    def _consent_answered(self, leg: _Leg, event: ControlDatagram, header: stun.Header) -> None:
        if leg.pair != (event.local, event.source):
            self.counters.stun_unknown += 1
        elif header.message_class == "error":
            self.counters.consent_refused += 1
        elif not self._consents.answered(header.transaction_id, event.data, asyncio.get_running_loop().time()):
            self.counters.stun_unauthenticated += 1

    def _answer_at_once(self, leg: _Leg, event: ControlDatagram) -> bool:
        """Answer a check of the pair that is used anyway; False if aioice must look at it."""
        password = leg.connection.local_password.encode("ascii")
        answer = consent.answer(event.data, event.source, password, controlling=leg.connection.ice_controlling)
        if answer is not None:
            self._by_pair[event.local, event.source] = leg
            self._send(event.local, answer, event.source)
        return answer is not None

    # ---- datagrams

    def datagram(self, event: ControlDatagram) -> None:
        """Take a STUN or DTLS datagram of the media sockets; never raises for what a stranger sent."""
        first = event.data[0] if event.data else 255
        if first <= 3:
            self._stun(event)
        elif 20 <= first <= 63:
            self._dtls(event)
        else:
            self.counters.not_control += 1

    def _dtls(self, event: ControlDatagram) -> None:
        leg = self._by_pair.get((event.local, event.source))
        if leg is None:
            self.counters.dtls_unknown += 1
            return
        if not leg.is_ready:
            # The peer may use another valid pair than the last nominated; its DTLS shows which.
            leg.pair = (event.local, event.source)
        if not leg.connection.datagram_received(event.data):
            self.counters.dtls_overflow += 1

    def _stun(self, event: ControlDatagram) -> None:
        header = stun.peek(event.data)
        if header is None:
            self.counters.stun_malformed += 1
        elif header.message_class == "request":
            self._stun_request(event)
        elif header.message_class != "indication":  # RFC 8445 §11: keepalive indications need nothing
            self._stun_response(event, header)

    def _stun_request(self, event: ControlDatagram) -> None:
        fragments = stun.username(event.data)
        leg = self._by_username.get(fragments[0]) if fragments else None
        if fragments is None or leg is None or fragments[1] != leg.offer.ice.username_fragment:
            self.counters.stun_unknown += 1
            return
        standing = leg.is_ready and leg.pair == (event.local, event.source)
        if standing and self._answer_at_once(leg, event):
            return
        protocol = leg.connection.stun_by_local.get(event.local)
        message = _parse(event.data)
        if message is None or protocol is None or "PRIORITY" not in message.attributes:
            self.counters.stun_malformed += 1
        elif not message.check_message_integrity(leg.connection.local_password.encode("ascii")):
            self.counters.stun_unauthenticated += 1
        else:
            leg.connection.request_received(message, event.source, protocol)

    def _stun_response(self, event: ControlDatagram, header: stun.Header) -> None:
        leg = self._consents.awaits(header.transaction_id)
        if leg is not None:
            self._consent_answered(leg, event, header)
            return
        protocol = self._requests.get(header.transaction_id)
        if protocol is None or protocol.local != event.local:
            self.counters.stun_unknown += 1
            return
        message = _parse(event.data)
        if message is None:
            self.counters.stun_malformed += 1
        else:
            protocol.response_received(message, event.source)


def _parse(data: bytes) -> ice_stun.Message | None:
    try:
        return ice_stun.parse_message(data)
    except (ValueError, struct.error):
        return None
