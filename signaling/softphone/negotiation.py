"""A browser's WebRTC offer to our answer: one audio stream, one codec, ICE and DTLS parameters (RFC 8829, RFC 8839).

The answer names a single codec and, beside it, telephone-event of the same clock, so that the browser cannot change
codec under the media plane. Sections other than the first usable audio section are rejected with port 0.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from signaling.errors import RemoteError
from signaling.sip.sdp import (
    UNSPECIFIED,
    Attribute,
    Connection,
    Direction,
    MediaDescription,
    Origin,
    RtpMap,
    SessionDescription,
)

Encoding = Literal["opus", "PCMU", "PCMA"]
DEFAULT_PREFERENCE: tuple[Encoding, ...] = ("opus", "PCMU", "PCMA")
CANDIDATES_MAX = 16
"""Of the browser's candidates this many are checked: each costs STUN requests to an address that the peer chose."""
NOT_ACCEPTABLE_HERE = 488
PROTOCOLS = ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP")

_RTPMAPS: dict[Encoding, RtpMap] = {
    "opus": RtpMap(-1, "opus", 48_000, 2),
    "PCMU": RtpMap(0, "PCMU", 8_000),
    "PCMA": RtpMap(8, "PCMA", 8_000),
}
_ANSWERED_SETUP: dict[str, Literal["active", "passive"]] = {
    # RFC 5763 §5: the answerer should be active, which saves a round trip.
    "actpass": "active",
    "passive": "active",
    "active": "passive",
}
_ANSWERED_DIRECTION: dict[Direction, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
_BROADCAST = ipaddress.IPv4Address(2**32 - 1)
_DIGEST_OCTETS = {"sha-256": 32, "sha-384": 48, "sha-512": 64}


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """`a=ice-ufrag` and `a=ice-pwd`."""

    username_fragment: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A UDP candidate of component 1 with a numeric address (RFC 8839 §5.1)."""

    host: str
    port: int
    priority: int
    foundation: str
    kind: Literal["host", "srflx", "relay"] = "host"

    def __str__(self) -> str:
        return f"{self.foundation} 1 udp {self.priority} {self.host} {self.port} typ {self.kind}"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`a=fingerprint`: what the peer's certificate must hash to (RFC 8122)."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


@dataclass(frozen=True, slots=True)
class ChosenCodec:
    """The one codec of the answer."""

    encoding: Encoding
    payload_type: int
    in_band_fec: bool
    """Opus: the browser asked for it (useinbandfec=1, RFC 7587 §6.1)."""
    telephone_event: int | None
    """Payload type of RFC 4733 events at the codec's clock."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What matters of a browser's offer."""

    description: SessionDescription = field(repr=False)
    section: int
    """Which `m=` is answered."""
    codec: ChosenCodec
    ice: IceCredentials
    ice_lite: bool
    candidates: tuple[Candidate, ...]
    fingerprints: tuple[Fingerprint, ...]
    setup: Literal["active", "passive"]
    """Our DTLS role."""
    direction: Direction
    """Ours."""


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """What the relay answers with."""

    ice: IceCredentials
    candidates: tuple[Candidate, ...]
    fingerprint: Fingerprint
    ssrc: int
    cname: str
    session_id: int


def read_offer(sdp: str, preference: Sequence[Encoding] = DEFAULT_PREFERENCE) -> Offer:
    """Read an offer and choose its codec; raises RemoteError that says what is missing."""
    description = SessionDescription.parse(sdp)
    section = _audio_section(description)
    media = description.media[section]
    if not media.has("rtcp-mux"):
        raise RemoteError("the offer has no a=rtcp-mux", sip_status=NOT_ACCEPTABLE_HERE)
    setup = _ANSWERED_SETUP.get(description.inherited(media, "setup") or "")
    if setup is None:
        raise RemoteError("a=setup must be actpass, active or passive", sip_status=NOT_ACCEPTABLE_HERE)
    return Offer(
        description=description,
        section=section,
        codec=_choose_codec(media, preference),
        ice=_credentials(description, media),
        ice_lite=description.has("ice-lite"),
        candidates=_candidates(media),
        fingerprints=_fingerprints(description, media),
        setup=setup,
        direction=_ANSWERED_DIRECTION[description.direction(media)],
    )


def _audio_section(description: SessionDescription) -> int:
    for index, media in enumerate(description.media):
        if media.kind == "audio" and media.port and media.protocol in PROTOCOLS:
            return index
    raise RemoteError("the offer has no audio over UDP/TLS/RTP/SAVPF", sip_status=NOT_ACCEPTABLE_HERE)


def _choose_codec(media: MediaDescription, preference: Sequence[Encoding]) -> ChosenCodec:
    for encoding in preference:
        wanted = _RTPMAPS[encoding]
        payload_type = _payload_type(media, wanted)
        if payload_type is not None:
            return ChosenCodec(
                encoding,
                payload_type,
                in_band_fec=encoding == "opus" and media.fmtp(payload_type).get("useinbandfec") == "1",
                telephone_event=_payload_type(media, RtpMap(-1, "telephone-event", wanted.clock_rate)),
            )
    raise RemoteError(f"the offer has none of {', '.join(preference)}", sip_status=NOT_ACCEPTABLE_HERE)


def _payload_type(media: MediaDescription, wanted: RtpMap) -> int | None:
    rtpmaps = media.rtpmaps
    for text in media.formats:
        number = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else -1
        offered = rtpmaps.get(number)
        if offered is None:
            # A static payload type needs no rtpmap (RFC 3551 §6).
            if number == wanted.payload_type >= 0:
                return number
        elif (offered.encoding.lower(), offered.clock_rate, offered.channels) == (
            wanted.encoding.lower(),
            wanted.clock_rate,
            wanted.channels,
        ):
            return number
    return None


def _credentials(description: SessionDescription, media: MediaDescription) -> IceCredentials:
    username_fragment = description.inherited(media, "ice-ufrag") or ""
    password = description.inherited(media, "ice-pwd") or ""
    # RFC 8839 §5.4: 4 to 256 and 22 to 256 ice-chars.
    if not re.fullmatch(r"[A-Za-z0-9+/]{4,256}", username_fragment):
        raise RemoteError("a=ice-ufrag is missing or malformed", sip_status=NOT_ACCEPTABLE_HERE)
    if not re.fullmatch(r"[A-Za-z0-9+/]{22,256}", password):
        raise RemoteError("a=ice-pwd is missing or malformed", sip_status=NOT_ACCEPTABLE_HERE)
    return IceCredentials(username_fragment, password)


def _candidates(media: MediaDescription) -> tuple[Candidate, ...]:
    """The candidates that we can check; a browser behind the others is learned from its own checks (RFC 8445 §7.3)."""
    read = (_candidate(value) for value in media.get_all("candidate"))
    return tuple(candidate for candidate in read if candidate is not None)[:CANDIDATES_MAX]


def _candidate(text: str) -> Candidate | None:
    match = re.match(
        r"([A-Za-z0-9+/]{1,32}) 1 udp ([0-9]{1,10}) ([0-9A-Fa-f.:]{2,39}) ([0-9]{1,5}) typ (host|srflx|relay)(?: |$)",
        text,
        re.IGNORECASE,
    )
    if match is None or not 0 < int(match[4]) <= 65535 or int(match[2]) >= 2**32:
        return None
    try:
        address = ipaddress.ip_address(match[3])
    except ValueError:
        return None
    if address.is_multicast or address.is_unspecified or address == _BROADCAST:
        return None
    # RFC 8445 §5.1.1.1: neither of these is to be used; the one names no interface, the other would be IPv4 twice.
    if isinstance(address, ipaddress.IPv6Address) and (address.is_link_local or address.ipv4_mapped is not None):
        return None
    kinds: dict[str, Literal["host", "srflx", "relay"]] = {"host": "host", "srflx": "srflx", "relay": "relay"}
    return Candidate(str(address), int(match[4]), int(match[2]), match[1], kinds[match[5].lower()])


def _fingerprints(description: SessionDescription, media: MediaDescription) -> tuple[Fingerprint, ...]:
    values = media.get_all("fingerprint") or description.get_all("fingerprint")
    found = tuple(fingerprint for fingerprint in map(_fingerprint, values) if fingerprint is not None)
    if not found:
        raise RemoteError("a=fingerprint with sha-256, sha-384 or sha-512 is missing", sip_status=NOT_ACCEPTABLE_HERE)
    return found


def _fingerprint(text: str) -> Fingerprint | None:
    algorithm, _, value = text.strip().partition(" ")
    octets = _DIGEST_OCTETS.get(algorithm.lower())
    if octets is None or not re.fullmatch(rf"[0-9A-Fa-f]{{2}}(:[0-9A-Fa-f]{{2}}){{{octets - 1}}}", value):
        return None
    return Fingerprint(algorithm.lower(), value.upper())


def write_answer(offer: Offer, local: LocalMedia) -> str:
    """The answer's SDP; `local` must have at least one candidate."""
    sections = tuple(
        _accepted(offer, media, local) if index == offer.section else _rejected(media)
        for index, media in enumerate(offer.description.media)
    )
    mid = offer.description.media[offer.section].mid
    bundled = mid is not None and bool(offer.description.groups("BUNDLE"))
    answer = SessionDescription(
        Origin(session_id=str(local.session_id), session_version=1),
        sections,
        (Attribute("group", f"BUNDLE {mid}"),) if bundled else (),
    )
    return answer.encode().decode("utf-8", "replace")


def _accepted(offer: Offer, media: MediaDescription, local: LocalMedia) -> MediaDescription:
    default = local.candidates[0]
    attributes = [
        *([Attribute("mid", media.mid)] if media.mid is not None else []),
        Attribute("ice-ufrag", local.ice.username_fragment),
        Attribute("ice-pwd", local.ice.password),
        *(Attribute("candidate", str(candidate)) for candidate in local.candidates),
        Attribute("end-of-candidates"),
        Attribute("fingerprint", str(local.fingerprint)),
        Attribute("setup", offer.setup),
        Attribute("rtcp-mux"),
        Attribute(offer.direction),
        *_codec_attributes(offer.codec),
        Attribute("ptime", "20"),
        Attribute("maxptime", "20"),
        Attribute("msid", f"{local.cname} audio"),
        Attribute("ssrc", f"{local.ssrc} cname:{local.cname}"),
    ]
    formats = [offer.codec.payload_type, offer.codec.telephone_event]
    return MediaDescription(
        "audio",
        default.port,
        media.protocol,
        tuple(str(number) for number in formats if number is not None),
        tuple(attributes),
        Connection.to(default.host),
    )


def _codec_attributes(codec: ChosenCodec) -> list[Attribute]:
    rtpmap = _RTPMAPS[codec.encoding]
    channels = f"/{rtpmap.channels}" if rtpmap.channels > 1 else ""
    attributes = [Attribute("rtpmap", f"{codec.payload_type} {rtpmap.encoding}/{rtpmap.clock_rate}{channels}")]
    if codec.encoding == "opus":
        attributes.append(Attribute("fmtp", f"{codec.payload_type} minptime=20;useinbandfec=1"))
    if codec.telephone_event is not None:
        attributes.append(Attribute("rtpmap", f"{codec.telephone_event} telephone-event/{rtpmap.clock_rate}"))
        attributes.append(Attribute("fmtp", f"{codec.telephone_event} 0-15"))
    return attributes


def _rejected(media: MediaDescription) -> MediaDescription:
    # RFC 3264 §6: the section stays in its place with port 0 and its own formats.
    attributes = (Attribute("mid", media.mid),) if media.mid is not None else ()
    return MediaDescription(media.kind, 0, media.protocol, media.formats or ("0",), attributes, Connection(UNSPECIFIED))
