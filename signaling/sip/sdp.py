"""Session descriptions: from text, to text, and the attributes that audio calls and WebRTC use (RFC 8866).

Unknown lines and attributes are kept and written again: `SessionDescription.parse(text).encode()` gives the lines back
in the order of RFC 8866 §5.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from signaling.errors import RemoteError

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
DIRECTIONS: tuple[Direction, ...] = ("sendrecv", "sendonly", "recvonly", "inactive")
UNSPECIFIED = "0.0.0.0"  # noqa: S104 - what an old-style hold signals, not an address to bind
UNSPECIFIED_IPV6 = "::"

SDP_BYTES_MAX = 32_768
LINES_MAX = 1_024
MEDIA_MAX = 16

_SESSION_ORDER = "vosiuepcbtrzka"
_MEDIA_ORDER = "micbka"
_NUMBER = re.compile(r"[0-9]{1,19}")
_LIFETIME = re.compile(r"2\^([0-9]{1,2})|[0-9]{1,19}")


def address_type(host: str) -> str:
    """`IP4` or `IP6`, as a numeric address is."""
    return "IP6" if ":" in host else "IP4"


@dataclass(frozen=True, slots=True)
class Attribute:
    """`a=name:value`, or `a=name` (value None)."""

    name: str
    value: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Attribute:
        """Read what follows `a=`."""
        name, colon, value = text.partition(":")
        return cls(name, value if colon else None)

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value}"


@dataclass(frozen=True, slots=True)
class Origin:
    """`o=`: who made the session, and its version, which grows with every change."""

    username: str = "-"
    session_id: str = "0"
    session_version: int = 0
    address_type: str = "IP4"
    address: str = "127.0.0.1"

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read the value; raises RemoteError."""
        parts = text.split()
        if len(parts) != 6 or not _NUMBER.fullmatch(parts[2]):
            raise RemoteError("o= is malformed")
        return cls(parts[0], parts[1], int(parts[2]), parts[4], parts[5])

    def __str__(self) -> str:
        return f"{self.username} {self.session_id} {self.session_version} IN {self.address_type} {self.address}"


@dataclass(frozen=True, slots=True)
class Connection:
    """`c=`: where media is to be sent."""

    address: str
    address_type: str = "IP4"

    @classmethod
    def to(cls, host: str) -> Connection:
        """To a numeric address of either family."""
        return cls(host, address_type(host))

    @classmethod
    def parse(cls, text: str) -> Connection:
        """Read the value; raises RemoteError. What multicast has behind a slash is left out."""
        parts = text.split()
        if len(parts) != 3 or parts[0].upper() != "IN":
            raise RemoteError("c= is malformed")
        return cls(parts[2].partition("/")[0], parts[1].upper())

    def __str__(self) -> str:
        return f"IN {self.address_type} {self.address}"


@dataclass(frozen=True, slots=True)
class RtpMap:
    """`a=rtpmap`: the encoding behind a payload type."""

    payload_type: int
    encoding: str
    clock_rate: int
    channels: int = 1

    @classmethod
    def parse(cls, text: str) -> RtpMap:
        """Read the value; raises RemoteError."""
        match = re.fullmatch(r"([0-9]{1,3})\s+([^/\s]+)/([0-9]{1,7})(?:/([0-9]{1,2}))?\s*", text)
        if match is None or int(match[1]) > 127:
            raise RemoteError("a=rtpmap is malformed")
        return cls(int(match[1]), match[2], int(match[3]), int(match[4] or 1))

    def __str__(self) -> str:
        channels = "" if self.channels == 1 else f"/{self.channels}"
        return f"{self.payload_type} {self.encoding}/{self.clock_rate}{channels}"


@dataclass(frozen=True, slots=True)
class Crypto:
    """`a=crypto` with one inline key (RFC 4568 §9.1); `key` is the master key joined with the master salt."""

    tag: int
    suite: str
    key: bytes = field(repr=False)
    lifetime: str = ""
    has_mki: bool = False
    session_parameters: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Crypto:
        """Read the value; raises RemoteError. The length of the key is for whoever knows the suite to check."""
        parts = text.split()
        if len(parts) < 3 or not _NUMBER.fullmatch(parts[0]) or not parts[2].lower().startswith("inline:"):
            raise RemoteError("a=crypto is malformed")
        if ";" in parts[2]:
            # Several keys are told apart by their MKI (RFC 4568 §6.1): reported as such, and refused as such.
            return cls(int(parts[0]), parts[1], b"", has_mki=True)
        key, *options = parts[2][len("inline:") :].split("|")
        try:
            decoded = base64.b64decode(key + "=" * (-len(key) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise RemoteError("the key of a=crypto is not base64") from None
        has_mki = any(":" in option for option in options)
        lifetime = next((option for option in options if ":" not in option), "")
        if lifetime and not _LIFETIME.fullmatch(lifetime):
            raise RemoteError("the lifetime of a=crypto is malformed")
        return cls(int(parts[0]), parts[1], decoded, lifetime, has_mki, tuple(parts[3:]))

    def __str__(self) -> str:
        lifetime = f"|{self.lifetime}" if self.lifetime else ""
        key = base64.b64encode(self.key).decode("ascii")
        return " ".join([f"{self.tag} {self.suite} inline:{key}{lifetime}", *self.session_parameters])


class _Attributes:
    """Looking up attributes; mixed into the session and its media."""

    __slots__ = ()
    attributes: tuple[Attribute, ...]

    def has(self, name: str) -> bool:
        """Whether an attribute is there, with a value or without."""
        return any(attribute.name == name for attribute in self.attributes)

    def get(self, name: str) -> str | None:
        """The value of the first attribute of this name; empty if it stands without one, None if it is not there."""
        return next((a.value or "" for a in self.attributes if a.name == name), None)

    def get_all(self, name: str) -> list[str]:
        """The values of all attributes of this name."""
        return [a.value or "" for a in self.attributes if a.name == name]

    @property
    def own_direction(self) -> Direction | None:
        """The direction said at this very level."""
        return next((d for a in self.attributes for d in DIRECTIONS if a.name == d), None)


@dataclass(frozen=True, slots=True)
class MediaDescription(_Attributes):
    """One `m=` section."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    attributes: tuple[Attribute, ...] = ()
    connection: Connection | None = None
    port_count: int = 1
    other: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Lines of other types (i, b, k) as (type, value)."""

    @classmethod
    def parse(cls, text: str) -> MediaDescription:
        """Read the value of `m=`; raises RemoteError."""
        match = re.fullmatch(r"(\S+)\s+([0-9]{1,5})(?:/([0-9]{1,5}))?\s+(\S+)((?:\s+\S+)*)\s*", text)
        if match is None or int(match[2]) > 65535:
            raise RemoteError("m= is malformed")
        return cls(match[1], int(match[2]), match[4], tuple(match[5].split()), port_count=int(match[3] or 1))

    def lines(self) -> Iterator[str]:
        """The lines of this section, in order."""
        count = "" if self.port_count == 1 else f"/{self.port_count}"
        yield f"m={' '.join((self.kind, f'{self.port}{count}', self.protocol, *self.formats))}"
        lines = list(self.other)
        if self.connection is not None:
            lines.append(("c", str(self.connection)))
        lines += [("a", str(attribute)) for attribute in self.attributes]
        yield from _in_order(lines, _MEDIA_ORDER)

    @property
    def rtpmaps(self) -> dict[int, RtpMap]:
        """The encodings by payload type; malformed ones are left out. Static types need not be there."""
        return {rtpmap.payload_type: rtpmap for rtpmap in _each(RtpMap, self.get_all("rtpmap"))}

    def fmtp(self, payload_type: int) -> dict[str, str]:
        """Format parameters of a payload type; a part without `=` is a key with an empty value."""
        for value in self.get_all("fmtp"):
            number, _, text = value.strip().partition(" ")
            if number == str(payload_type):
                pairs = (part.strip().partition("=") for part in text.split(";") if part.strip())
                return {name.strip().lower(): value.strip() for name, _, value in pairs}
        return {}

    @property
    def cryptos(self) -> list[Crypto]:
        """What SDES offers, in the order of preference; malformed lines are left out."""
        return list(_each(Crypto, self.get_all("crypto")))

    def milliseconds(self, name: Literal["ptime", "maxptime"]) -> int | None:
        """`ptime` or `maxptime`, None if it is not there or nonsense."""
        value = (self.get(name) or "").strip().partition(".")[0]
        return int(value) if value.isascii() and value.isdigit() and 0 < len(value) <= 5 and int(value) else None

    @property
    def mid(self) -> str | None:
        """Identification tag (RFC 5888)."""
        return self.get("mid")

    @property
    def rtcp(self) -> tuple[int, Connection | None] | None:
        """`a=rtcp` (RFC 3605): port, and its address if it is another one; None if absent or malformed."""
        port, _, address = (self.get("rtcp") or "").strip().partition(" ")
        if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) <= 65535:
            return None
        try:
            return int(port), Connection.parse(address) if address else None
        except RemoteError:
            return None


@dataclass(frozen=True, slots=True)
class SessionDescription(_Attributes):
    """A whole description."""

    origin: Origin
    media: tuple[MediaDescription, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    connection: Connection | None = None
    name: str = "-"
    timing: str = "0 0"
    other: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Lines of other types (i, u, e, p, b, r, z, k, further t) as (type, value)."""

    @classmethod
    def parse(cls, data: bytes | str) -> SessionDescription:
        """Read a description; lines may end with LF alone; raises RemoteError."""
        if len(data) > SDP_BYTES_MAX:
            raise RemoteError("the session description is too large", sip_status=413)
        text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
        lines = [line for line in re.split(r"\r?\n", text) if line.strip()]
        if len(lines) > LINES_MAX or not lines or lines[0].strip() != "v=0":
            raise RemoteError("the session description is too long or does not begin with v=0")
        if any(line[1:2] != "=" or "\r" in line for line in lines):
            raise RemoteError("a line of the session description is malformed")
        return _assemble([(line[0], line[2:].rstrip(" \t")) for line in lines[1:]])

    def encode(self) -> bytes:
        """Write it with CRLF line ends."""
        lines = [("v", "0"), ("o", str(self.origin)), ("s", self.name), ("t", self.timing), *self.other]
        if self.connection is not None:
            lines.append(("c", str(self.connection)))
        lines += [("a", str(attribute)) for attribute in self.attributes]
        written = [*_in_order(lines, _SESSION_ORDER), *(line for media in self.media for line in media.lines())]
        return ("\r\n".join(written) + "\r\n").encode("utf-8", "surrogateescape")

    def inherited(self, media: MediaDescription, name: str) -> str | None:
        """An attribute of a section, or else of the session (ice-ufrag, fingerprint, setup, ptime …)."""
        value = media.get(name)
        return self.get(name) if value is None else value

    def direction(self, media: MediaDescription) -> Direction:
        """A section's direction; sendrecv if none is said (RFC 8866 §6.7)."""
        return media.own_direction or self.own_direction or "sendrecv"

    def connection_of(self, media: MediaDescription) -> Connection | None:
        """Where a section's media is to be sent."""
        return media.connection or self.connection

    def groups(self, semantics: str) -> list[tuple[str, ...]]:
        """The mids of each group of these semantics, such as BUNDLE (RFC 5888 §5, RFC 9143)."""
        parts = [value.split() for value in self.get_all("group")]
        return [tuple(mids) for kind, *mids in filter(None, parts) if kind == semantics]


_Parsed = TypeVar("_Parsed", RtpMap, Crypto)


def _each(kind: type[_Parsed], values: list[str]) -> Iterator[_Parsed]:
    for value in values:
        try:
            yield kind.parse(value)
        except RemoteError:
            continue


def _in_order(lines: list[tuple[str, str]], order: str) -> Iterator[str]:
    rank = {kind: position for position, kind in enumerate(order)}
    rank = {kind: position for position, kind in enumerate(order)}
    for kind, value in sorted(lines, key=lambda line: rank.get(line[0], len(order))):
        yield f"{kind}={value}"


@dataclass(slots=True)
class _Section:
    """The lines of the session or of one `m=`, while they are being read."""

    known: dict[str, str] = field(default_factory=dict[str, str])
    attributes: list[Attribute] = field(default_factory=list[Attribute])
    other: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def take(self, kind: str, value: str, known: str) -> None:
        if kind == "a":
            self.attributes.append(Attribute.parse(value))
        elif kind in known and kind not in self.known:
            self.known[kind] = value
        else:
            self.other.append((kind, value))

    @property
    def connection(self) -> Connection | None:
        return Connection.parse(self.known["c"]) if "c" in self.known else None


def _assemble(lines: list[tuple[str, str]]) -> SessionDescription:
    session = _Section()
    media: list[tuple[MediaDescription, _Section]] = []
    for kind, value in lines:
        if kind == "m":
            media.append((MediaDescription.parse(value), _Section()))
        elif media:
            media[-1][1].take(kind, value, "c")
        else:
            session.take(kind, value, "osct")
    if len(media) > MEDIA_MAX or "o" not in session.known:
        raise RemoteError("the session description lacks o= or has too many m=")
    return SessionDescription(
        Origin.parse(session.known["o"]),
        tuple(
            replace(m, attributes=tuple(s.attributes), connection=s.connection, other=tuple(s.other)) for m, s in media
        ),
        tuple(session.attributes),
        session.connection,
        session.known.get("s", "-"),
        session.known.get("t", "0 0"),
        tuple(session.other),
    )
