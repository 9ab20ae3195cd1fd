"""The pieces that SIP header values are made of: lists, parameters, URIs, addresses, Via and CSeq (RFC 3261 §25.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from signaling.errors import RemoteError

Parameters = tuple[tuple[str, str | None], ...]
"""Names in lower case, values as written (quotes and all); None: the name stood alone."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PIECE = re.compile(rf"{_QUOTED}|<[^<>]*>|[,;]|[^\",;<]+|.", re.DOTALL)
_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_METHOD = _TOKEN
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*[A-Za-z0-9_.])?)(?:\s*:\s*([0-9]{1,5}))?")
_VIA = re.compile(rf"({_TOKEN.pattern})\s*/\s*({_TOKEN.pattern})\s*/\s*({_TOKEN.pattern})\s+(.+)", re.DOTALL)
_CSEQ = re.compile(r"([0-9]{1,20})\s+(\S+)")
_USER = re.compile(r"[^\s<>\"@]*")
_PARAMETERS_MAX = 64


def is_token(text: str) -> bool:
    """Whether `text` is a token of RFC 3261 §25.1."""
    return _TOKEN.fullmatch(text) is not None


def split_list(text: str, separator: str = ",") -> list[str]:
    """Cut at separators outside quotes and angle brackets; raises RemoteError where one of those is not closed."""
    if '"' not in text and "<" not in text:
        return [part.strip() for part in text.split(separator)]
    parts: list[str] = []
    current: list[str] = []
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece == separator:
            parts.append("".join(current).strip())
            current.clear()
        elif piece in {'"', "<"}:
            raise RemoteError("a quoted string or an angle bracket is not closed")
        else:
            current.append(piece)
    parts.append("".join(current).strip())
    return parts


def parse_parameters(parts: Iterable[str]) -> Parameters:
    """Read `name=value` parts; raises RemoteError on a nameless one."""
    found: list[tuple[str, str | None]] = []
    for part in parts:
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not name or (equals and not value):
            raise RemoteError("a parameter lacks its name or value")
        found.append((name, value if equals else None))
    if len(found) > _PARAMETERS_MAX:
        raise RemoteError("too many parameters")
    return tuple(found)


def write_parameters(parameters: Parameters) -> str:
    """Write parameters, each with its semicolon."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in parameters)


def unquote(text: str) -> str:
    """Take the quotes and backslashes off a quoted string; other text is returned as it is."""
    if len(text) >= 2 and text[0] == '"' == text[-1]:
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text


def quote(text: str) -> str:
    """Write a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lookup(parameters: Parameters, name: str) -> str | None:
    return next((value or "" for key, value in parameters if key == name), None)


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Read `host[:port]`; raises RemoteError if it is neither a name nor an address."""
    match = _HOST.fullmatch(text.strip())
    if match is None:
        raise RemoteError("a host is malformed")
    port = int(match[2]) if match[2] else None
    if port is not None and port > 65535:
        raise RemoteError("a port is out of range")
    return match[1], port


def _write_host_port(host: str, port: int | None) -> str:
    return host if port is None else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Uri:
    """A SIP or SIPS URI (RFC 3261 §19.1); of any other scheme only `opaque`, the text after the colon, is kept."""

    scheme: str
    host: str = ""
    user: str | None = field(default=None, repr=False)
    """User part as escaped, with its password if there is one."""
    port: int | None = None
    parameters: Parameters = ()
    headers: str = field(default="", repr=False)
    """What follows the question mark, as escaped."""
    opaque: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read a URI; raises RemoteError."""
        scheme, colon, rest = text.partition(":")
        if not colon or not _SCHEME.fullmatch(scheme) or re.search(r'[\s<>"]', text):
            raise RemoteError("a URI is malformed")
        scheme = scheme.lower()
        if scheme not in {"sip", "sips"}:
            return cls(scheme, opaque=rest)
        # The user part may hold `;`, `?` and `,` (RFC 4475 §3.1.1.2), so it goes first.
        userinfo, at, rest = rest.rpartition("@") if "@" in rest else ("", "", rest)
        if at and (not userinfo or not _USER.fullmatch(userinfo)):
            raise RemoteError("the user part of a URI is malformed")
        address, _, headers = rest.partition("?")
        hostport, *parameters = address.split(";")
        host, port = parse_host_port(hostport)
        return cls(scheme, host, userinfo or None, port, parse_parameters(parameters), headers)

    def __str__(self) -> str:
        if self.scheme not in {"sip", "sips"}:
            return f"{self.scheme}:{self.opaque}"
        user = "" if self.user is None else f"{self.user}@"
        headers = f"?{self.headers}" if self.headers else ""
        return (
            f"{self.scheme}:{user}{_write_host_port(self.host, self.port)}{write_parameters(self.parameters)}{headers}"
        )

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, empty if it stands alone, None if it is not there."""
        return _lookup(self.parameters, name)

    @property
    def number(self) -> str:
        """The user without parameters and password, unescaped: a telephone number or a name; also of `tel:` URIs."""
        text = self.opaque if self.scheme not in {"sip", "sips"} else self.user or ""
        text = re.split(r"[;:]", text, maxsplit=1)[0]
        return re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), text)

    @property
    def bare(self) -> Uri:
        """The address of record: no parameters, no headers."""
        return replace(self, parameters=(), headers="")


@dataclass(frozen=True, slots=True)
class NameAddress:
    """`"Name" <uri>;parameters`: the value of From, To, Contact, Route and their like (RFC 3261 §20.10)."""

    uri: Uri
    display_name: str = field(default="", repr=False)
    parameters: Parameters = ()

    @classmethod
    def parse(cls, text: str) -> NameAddress:
        """Read one value; raises RemoteError."""
        head, *parameters = split_list(text, ";")
        if head.endswith(">") and "<" in head:
            name, _, uri = head[:-1].rpartition("<")
            return cls(Uri.parse(uri.strip()), unquote(name.strip()), parse_parameters(parameters))
        # Without angle brackets all parameters belong to the header, not to the URI (§20.10).
        if re.search(r"[,?]", head.rpartition("@")[2]):
            raise RemoteError("a URI with a comma or a question mark lacks its angle brackets")
        return cls(Uri.parse(head), "", parse_parameters(parameters))

    def __str__(self) -> str:
        name = f"{quote(self.display_name)} " if self.display_name else ""
        return f"{name}<{self.uri}>{write_parameters(self.parameters)}"

    def parameter(self, name: str) -> str | None:
        """The value of a header parameter, empty if it stands alone, None if it is not there."""
        return _lookup(self.parameters, name)

    @property
    def tag(self) -> str | None:
        """The tag that names one end of a dialog (§19.3)."""
        return self.parameter("tag") or None

    def tagged(self, tag: str) -> NameAddress:
        """The same address with this tag."""
        rest = tuple(pair for pair in self.parameters if pair[0] != "tag")
        return replace(self, parameters=(*rest, ("tag", tag)))


@dataclass(frozen=True, slots=True)
class Via:
    """One hop that a request has passed (RFC 3261 §20.42)."""

    transport: str
    host: str
    port: int | None = None
    parameters: Parameters = ()
    protocol: str = "SIP/2.0"

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one value; raises RemoteError."""
        head, *parameters = split_list(text, ";")
        match = _VIA.fullmatch(head)
        if match is None:
            raise RemoteError("Via is malformed")
        host, port = parse_host_port(match[4])
        return cls(match[3].upper(), host, port, parse_parameters(parameters), f"{match[1]}/{match[2]}".upper())

    def __str__(self) -> str:
        sent_by = _write_host_port(self.host, self.port)
        return f"{self.protocol}/{self.transport} {sent_by}{write_parameters(self.parameters)}"

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, empty if it stands alone, None if it is not there."""
        return _lookup(self.parameters, name)

    @property
    def branch(self) -> str:
        """The transaction's name at that hop; empty before RFC 3261."""
        return self.parameter("branch") or ""

    def with_parameters(self, **values: str) -> Via:
        """The same hop with these parameters set."""
        rest = tuple(pair for pair in self.parameters if pair[0] not in values)
        return replace(self, parameters=(*rest, *values.items()))


@dataclass(frozen=True, slots=True)
class CSeq:
    """Order of a request within its dialog (RFC 3261 §8.1.1.5)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Read it; raises RemoteError if the number is not below 2**31."""
        match = _CSEQ.fullmatch(text.strip())
        if match is None or not is_token(match[2]) or int(match[1]) >= 2**31:
            raise RemoteError("CSeq is malformed")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"
