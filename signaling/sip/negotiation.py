"""Offer and answer of one audio stream with SDES keys, as trunks speak it (RFC 3264, RFC 4568).

Hold by the peer is a direction of the stream and nothing else: every answer is made anew from the offer that it
answers, our direction follows a table, our keys stay while the peer's stay, and the version in `o=` grows exactly when
our description changed. `_secure` alone judges an m-line's security: DTLS-SRTP joins there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from signaling.errors import RemoteError
from signaling.sip.sdp import (
    UNSPECIFIED,
    UNSPECIFIED_IPV6,
    Attribute,
    Connection,
    Crypto,
    Direction,
    MediaDescription,
    Origin,
    RtpMap,
    SessionDescription,
    address_type,
)

Encoding = Literal["PCMU", "PCMA", "opus"]
Suite = Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]
Address = tuple[str, int]
Entropy = Callable[[int], bytes]

KEY_BYTES: dict[Suite, int] = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30}
"""Length of master key and master salt together (RFC 4568 §6.2)."""
_SUITES: dict[str, Suite] = {suite: suite for suite in KEY_BYTES}

_CLOCK: dict[Encoding, tuple[int, int, int]] = {"PCMU": (0, 8_000, 1), "PCMA": (8, 8_000, 1), "opus": (111, 48_000, 2)}
"""Payload type that we offer, clock rate, channels (RFC 3551 §6, RFC 7587 §7)."""
_STATIC = {0: RtpMap(0, "PCMU", 8_000), 8: RtpMap(8, "PCMA", 8_000)}
_TELEPHONE_EVENT_OFFERED = {8_000: 101, 48_000: 110}
_SECURE_PROTOCOLS = {"RTP/SAVP", "RTP/SAVPF"}
_PLAIN_PROTOCOLS = {"RTP/AVP", "RTP/AVPF"}

MIRROR: dict[Direction, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
"""What a direction is, seen from the other end (RFC 3264 §6.1)."""

_WAYS: dict[Direction, tuple[bool, bool]] = {
    "sendrecv": (True, True),
    "sendonly": (True, False),
    "recvonly": (False, True),
    "inactive": (False, False),
}
_DIRECTIONS: dict[tuple[bool, bool], Direction] = {ways: direction for direction, ways in _WAYS.items()}


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """What we are ready to do with a peer's audio, and where."""

    address: Address
    """Numeric address and port that the peer is to send RTP to; a stream of the other family is not taken."""
    rtcp_port: int | None = None
    """Our RTCP port where it is not multiplexed; None: the port after RTP's."""
    encodings: tuple[Encoding, ...] = ("PCMU", "PCMA")
    """Order of preference in offers; an answer follows the order of the offer (RFC 3264 §6.1)."""
    suites: tuple[Suite, ...] = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")
    telephone_event: bool = True
    rtcp_mux: bool = True
    ptime_ms: int = 20
    direction: Direction = "sendrecv"
    """What we want ourselves; an answer takes from it what the offer forbids."""
    allow_plain_rtp: bool = False
    """Answer offers without SRTP, and offer none: only for trunks that the operator named."""


@dataclass(frozen=True, slots=True)
class SdesKey:
    """Master key and salt of one direction, joined."""

    suite: Suite
    master: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MediaParameters:
    """What was settled for the stream."""

    encoding: Encoding
    payload_type: int
    """What both ends send for the encoding: an answer takes the offer's number."""
    telephone_event: int | None
    """Payload type of RFC 4733 events with the encoding's clock."""
    ptime_ms: int
    """What the peer asked to receive."""
    receive_key: SdesKey | None
    """The peer's key; None: plain RTP."""
    send_key: SdesKey | None
    remote: Address | None
    """Where to send RTP; None: the peer named no usable address (0.0.0.0, ::, a name): only latching can tell."""
    remote_rtcp: Address | None
    """Where to send RTCP; None: multiplexed with RTP (RFC 5761), or nowhere while `remote` is None."""
    rtcp_mux: bool
    direction: Direction
    """Seen from us."""
    fmtp: tuple[tuple[str, str], ...] = ()
    """The peer's format parameters of the encoding, such as useinbandfec."""

    @property
    def sends(self) -> bool:
        """Whether the peer wants to hear us."""
        return _WAYS[self.direction][0]

    @property
    def receives(self) -> bool:
        """Whether the peer says that it sends."""
        return _WAYS[self.direction][1]


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The state of a stream between one exchange and the next."""

    answer: SessionDescription
    """Our present description, whether it was an answer or the offer that the peer accepted."""
    remote: SessionDescription
    media: MediaParameters


def answer(
    offer: SessionDescription, local: LocalMedia, *, entropy: Entropy, previous: Negotiated | None = None
) -> Negotiated:
    """Answer an offer; raises RemoteError 488 if nothing in it is acceptable.

    `previous` is what held until now in the same session: it keeps our keys, session id and version.
    """
    settled = previous.media if previous else None
    taken = next((media for media in offer.media if _choose(offer, media, local)), None)
    choice = _choose(offer, taken, local, settled) if taken else None
    if taken is None or choice is None:
        raise RemoteError("no audio stream of the offer is acceptable", sip_status=488)
    send_key = _send_key(choice.crypto, entropy, settled)
    direction = answer_direction(offer, taken, local.direction)
    parameters = _parameters(offer, taken, choice, send_key, direction, mux=local.rtcp_mux and taken.has("rtcp-mux"))
    line = _answered(taken, choice, local, parameters)
    lines = tuple(line if media is taken else _reject(media) for media in offer.media)
    return Negotiated(_describe(lines, local, previous.answer if previous else None, entropy), offer, parameters)


def make_offer(local: LocalMedia, *, entropy: Entropy) -> SessionDescription:
    """Offer a new session: SRTP with a key for each suite, or plain RTP if `local` allows that."""
    keys = () if local.allow_plain_rtp else tuple(SdesKey(s, entropy(KEY_BYTES[s])) for s in local.suites)
    return _describe((_offered(local, keys),), local, None, entropy)


def reoffer(current: Negotiated, local: LocalMedia, *, entropy: Entropy) -> SessionDescription:
    """Offer what holds now once more, with our own direction: for re-INVITEs without an offer, and for refreshes.

    The key is the one that the peer has, never a fresh one that it may not have learnt; payload types are kept.
    """
    keys = () if current.media.send_key is None else (current.media.send_key,)
    ours = next(media for media in current.answer.media if media.port)
    line = replace(_offered(local, keys, current.media), protocol=ours.protocol)
    lines = tuple(line if media is ours else media for media in current.answer.media)
    return _describe(lines, local, current.answer, entropy)


def accept_answer(offer: SessionDescription, answered: SessionDescription) -> Negotiated:
    """Take the peer's answer to our offer; raises RemoteError 488 if it does not fit the offer."""
    if len(answered.media) != len(offer.media):
        raise RemoteError("the answer has another number of streams than the offer", sip_status=488)
    ours, media = next((o, a) for o, a in zip(offer.media, answered.media, strict=True) if o.port)
    if media.protocol != ours.protocol or not set(media.formats) <= set(ours.formats):
        raise RemoteError("the answer takes what was not offered", sip_status=488)
    connection = offer.connection_of(ours)
    address = connection.address if connection else "", ours.port
    allowed = LocalMedia(address, None, tuple(_CLOCK), allow_plain_rtp=not ours.has("crypto"))
    choice = _choose(answered, media, allowed)
    if choice is None:
        raise RemoteError("the answer rejects the stream", sip_status=488)
    send_key = None if choice.crypto is None else _offered_key(ours, choice.crypto)
    if choice.crypto is not None and send_key is None:
        raise RemoteError("the answer names no key that we offered", sip_status=488)
    direction = answer_direction(answered, media, offer.direction(ours))
    mux = ours.has("rtcp-mux") and media.has("rtcp-mux")
    return Negotiated(offer, answered, _parameters(answered, media, choice, send_key, direction, mux=mux))


def offered_host(offer: SessionDescription) -> str:
    """Where the first audio stream of an offer is to be sent, as it says, to choose our own address by; "": nowhere.

    One that names no host (`::`, a host name) gives the unspecified address of its family.
    """
    streams = (media for media in offer.media if media.kind == "audio" and media.port)
    connection = next((offer.connection_of(media) for media in streams), None)
    if connection is None:
        return ""
    host = _host(connection)
    return host or {"IP4": UNSPECIFIED, "IP6": UNSPECIFIED_IPV6}.get(connection.address_type, "")


def answer_direction(offer: SessionDescription, media: MediaDescription, wanted: Direction) -> Direction:
    """Our direction: what the peer's direction and address leave of what we want.

    `c=0.0.0.0` says, whatever the attribute says, that the peer hears nothing (RFC 3264 §8.4, the hold of RFC 2543);
    so does its like in IPv6.
    """
    sends, hears = _WAYS[offer.direction(media)]
    if _is_unspecified(offer.connection_of(media)):
        hears = False
    want_send, want_receive = _WAYS[wanted]
    return _DIRECTIONS[want_send and hears, want_receive and sends]


@dataclass(frozen=True, slots=True)
class _Choice:
    """What we take of a stream."""

    encoding: Encoding
    payload_type: int
    telephone_event: int | None
    crypto: Crypto | None

    def rtpmaps(self) -> tuple[RtpMap, ...]:
        _, clock_rate, channels = _CLOCK[self.encoding]
        return (RtpMap(self.payload_type, self.encoding, clock_rate, channels),)


def _choose(
    offer: SessionDescription, media: MediaDescription, local: LocalMedia, settled: MediaParameters | None = None
) -> _Choice | None:
    """What we take of a stream, rather what is settled already than what now stands first; None: nothing."""
    if media.kind != "audio" or not media.port or not _is_reachable(offer.connection_of(media), local):
        return None
    secured, cryptos = _secure(media, local)
    encodings = _encodings(media, local.encodings)
    if not secured or not encodings:
        return None
    crypto = next((crypto for crypto in cryptos if settled and settled.receive_key == _key(crypto)), None)
    encoding, payload_type = next(
        (each for each in encodings if settled and each == (settled.encoding, settled.payload_type)), encodings[0]
    )
    event = _telephone_event(media, _CLOCK[encoding][1]) if local.telephone_event else None
    return _Choice(encoding, payload_type, event, crypto or next(iter(cryptos), None))


def _secure(media: MediaDescription, local: LocalMedia) -> tuple[bool, list[Crypto]]:
    """Whether the stream's security will do, and the keys that it may be received with.

    A key on RTP/AVP is taken as well: that is opportunistic SRTP (RFC 8643).
    """
    if media.protocol not in _SECURE_PROTOCOLS | _PLAIN_PROTOCOLS:
        return False, []
    cryptos = [crypto for crypto in media.cryptos if _usable(crypto, local.suites)]
    return bool(cryptos) or (media.protocol in _PLAIN_PROTOCOLS and local.allow_plain_rtp), cryptos


def _usable(crypto: Crypto, suites: tuple[Suite, ...]) -> bool:
    """A suite that we know, a whole key, no MKI, and no session parameter that weakens it (RFC 4568 §6.3)."""
    suite = _SUITES.get(crypto.suite)
    if suite not in suites or crypto.has_mki or len(crypto.key) != KEY_BYTES[suite]:
        return False
    return all(parameter.startswith(("-", "WSH=")) for parameter in crypto.session_parameters)


def _encodings(media: MediaDescription, encodings: tuple[Encoding, ...]) -> list[tuple[Encoding, int]]:
    """Those of the peer's formats that we speak, in its order, with their payload types."""
    rtpmaps = _STATIC | media.rtpmaps
    names: dict[tuple[str, int, int], Encoding] = {(name.lower(), *_CLOCK[name][1:]): name for name in encodings}
    found: list[tuple[Encoding, int]] = []
    for number in media.formats:
        rtpmap = rtpmaps.get(int(number)) if re.fullmatch("[0-9]{1,3}", number) else None
        encoding = names.get((rtpmap.encoding.lower(), rtpmap.clock_rate, rtpmap.channels)) if rtpmap else None
        if rtpmap and encoding:
            found.append((encoding, rtpmap.payload_type))
    return found


def _telephone_event(media: MediaDescription, clock_rate: int) -> int | None:
    events = (
        m.payload_type
        for m in media.rtpmaps.values()
        if m.encoding.lower() == "telephone-event"
        and m.clock_rate == clock_rate
        and str(m.payload_type) in media.formats
    )
    return next(events, None)


def _key(crypto: Crypto) -> SdesKey:
    return SdesKey(_SUITES[crypto.suite], crypto.key)


def _send_key(crypto: Crypto | None, entropy: Entropy, settled: MediaParameters | None) -> SdesKey | None:
    """Our key: the one that the peer already has, unless the peer changed its own (RFC 4568 §7.1.4)."""
    if crypto is None:
        return None
    key = _key(crypto)
    if settled and settled.send_key and settled.receive_key == key and settled.send_key.suite == key.suite:
        return settled.send_key
    return SdesKey(key.suite, entropy(KEY_BYTES[key.suite]))


def _offered_key(ours: MediaDescription, accepted: Crypto) -> SdesKey | None:
    """The key of ours that an answer took: by tag, and with the same suite (RFC 4568 §5.1.3)."""
    taken = (c for c in ours.cryptos if c.tag == accepted.tag and c.suite == accepted.suite)
    return next((_key(crypto) for crypto in taken), None)


def _parameters(
    remote: SessionDescription,
    media: MediaDescription,
    choice: _Choice,
    send_key: SdesKey | None,
    direction: Direction,
    *,
    mux: bool,
) -> MediaParameters:
    crypto = choice.crypto
    return MediaParameters(
        choice.encoding,
        choice.payload_type,
        choice.telephone_event,
        media.milliseconds("ptime") or 20,
        None if crypto is None else _key(crypto),
        send_key,
        _address(remote.connection_of(media), media.port),
        None if mux else _rtcp_address(remote, media),
        mux,
        direction,
        tuple(media.fmtp(choice.payload_type).items()),
    )


def _is_reachable(connection: Connection | None, local: LocalMedia) -> bool:
    """Whether our address and the peer's are of one family; what names no host says nothing of it."""
    if connection is None or _is_unspecified(connection):
        return connection is not None
    return address_type(_host(connection) or local.address[0]) == address_type(local.address[0])


def _is_unspecified(connection: Connection | None) -> bool:
    return connection is not None and connection.address in {UNSPECIFIED, UNSPECIFIED_IPV6}


def _host(connection: Connection | None) -> str | None:
    """A numeric address that can be sent to, else None."""
    try:
        address = ipaddress.ip_address(connection.address if connection else "")
    except ValueError:
        return None
    if address.is_unspecified or address.is_multicast:
        return None
    if isinstance(address, ipaddress.IPv6Address) and (
        # Neither has a meaning off its link or machine (RFC 4007 §6, RFC 4038 §4.2).
        address.is_link_local or address.ipv4_mapped is not None or address.scope_id is not None
    ):
        return None
    return str(address)


def _address(connection: Connection | None, port: int) -> Address | None:
    host = _host(connection)
    return None if host is None else (host, port)


def _rtcp_address(remote: SessionDescription, media: MediaDescription) -> Address | None:
    """Where RTCP goes: where `a=rtcp` says, if that is an address of the same family, or the port after RTP's."""
    port, named = media.rtcp or (min(media.port + 1, 65_535), None)
    address = _address(remote.connection_of(media), port)
    other = _address(named, port)
    if address is None or other is None:
        return address
    return other if address_type(other[0]) == address_type(address[0]) else address


def _reject(media: MediaDescription) -> MediaDescription:
    """A stream that we do not take: port 0 (RFC 3264 §6)."""
    mid = () if media.mid is None else (Attribute("mid", media.mid),)
    return MediaDescription(media.kind, 0, media.protocol, media.formats or ("0",), mid)


def _answered(
    media: MediaDescription, choice: _Choice, local: LocalMedia, settled: MediaParameters
) -> MediaDescription:
    """The m-line that answers the one that we take."""
    numbers = (choice.payload_type, choice.telephone_event)
    key = settled.send_key
    return MediaDescription(
        "audio",
        local.address[1],
        media.protocol,
        tuple(str(number) for number in numbers if number is not None),
        (
            *_codec_attributes(choice.rtpmaps(), (choice.telephone_event,), local),
            *(() if media.mid is None else (Attribute("mid", media.mid),)),
            *_crypto_attributes([] if key is None or choice.crypto is None else [(choice.crypto.tag, key)]),
            *_rtcp_attributes(local, mux=settled.rtcp_mux),
            Attribute(settled.direction),
        ),
        Connection.to(local.address[0]),
    )


def _offered(local: LocalMedia, keys: tuple[SdesKey, ...], settled: MediaParameters | None = None) -> MediaDescription:
    """The m-line of an offer; what is settled already keeps its payload types."""
    if settled is None:
        rtpmaps = tuple(RtpMap(_CLOCK[name][0], name, *_CLOCK[name][1:]) for name in local.encodings)
        rates = sorted({rtpmap.clock_rate for rtpmap in rtpmaps})
        events = tuple(_TELEPHONE_EVENT_OFFERED[rate] for rate in rates if local.telephone_event)
        mux = local.rtcp_mux
    else:
        rtpmaps = _Choice(settled.encoding, settled.payload_type, None, None).rtpmaps()
        events = () if settled.telephone_event is None else (settled.telephone_event,)
        mux = settled.rtcp_mux
    return MediaDescription(
        "audio",
        local.address[1],
        "RTP/SAVP" if keys else "RTP/AVP",
        tuple(str(number) for number in (*(rtpmap.payload_type for rtpmap in rtpmaps), *events)),
        (
            *_codec_attributes(rtpmaps, events, local),
            *_crypto_attributes(list(enumerate(keys, 1))),
            *_rtcp_attributes(local, mux=mux),
            Attribute(local.direction),
        ),
        Connection.to(local.address[0]),
    )


def _codec_attributes(
    rtpmaps: tuple[RtpMap, ...], events: tuple[int | None, ...], local: LocalMedia
) -> list[Attribute]:
    attributes: list[Attribute] = []
    for rtpmap in rtpmaps:
        attributes.append(Attribute("rtpmap", str(rtpmap)))
        if rtpmap.encoding == "opus":
            attributes.append(Attribute("fmtp", f"{rtpmap.payload_type} useinbandfec=1"))
    rates = sorted({rtpmap.clock_rate for rtpmap in rtpmaps})
    for rate, event in zip(rates, events, strict=False):
        if event is not None:
            attributes.append(Attribute("rtpmap", str(RtpMap(event, "telephone-event", rate))))
            attributes.append(Attribute("fmtp", f"{event} 0-16"))
    return [*attributes, Attribute("ptime", str(local.ptime_ms))]


def _crypto_attributes(keys: list[tuple[int, SdesKey]]) -> list[Attribute]:
    return [Attribute("crypto", str(Crypto(tag, key.suite, key.master))) for tag, key in keys]


def _rtcp_attributes(local: LocalMedia, *, mux: bool) -> list[Attribute]:
    rtcp = [] if local.rtcp_port is None else [Attribute("rtcp", str(local.rtcp_port))]
    return [Attribute("rtcp-mux")] if mux else rtcp


def _describe(
    media: tuple[MediaDescription, ...], local: LocalMedia, previous: SessionDescription | None, entropy: Entropy
) -> SessionDescription:
    """Our description of these streams; the version grows only if it says something new (RFC 3264 §8)."""
    if previous is not None:
        unchanged = replace(previous, media=media)
        if unchanged == previous:
            return previous
        origin = replace(previous.origin, session_version=previous.origin.session_version + 1)
        return replace(unchanged, origin=origin)
    session_id = str(int.from_bytes(entropy(7), "big"))
    return SessionDescription(
        Origin(
            session_id=session_id,
            session_version=1,
            address_type=address_type(local.address[0]),
            address=local.address[0],
        ),
        media,
        connection=Connection.to(local.address[0]),
    )
