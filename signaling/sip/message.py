"""SIP requests and responses: from bytes, to bytes, and what every element must know of them (RFC 3261 §7, §20).

Header values are kept as written, as text that gives back the very bytes (UTF-8 with surrogate escapes), and are read
on demand; `parse` has read those that every element depends on, so that their properties do not raise afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from signaling.errors import LocalError, RemoteError
from signaling.sip.grammar import CSeq, NameAddress, Uri, Via, is_token, split_list

_COMPACT = {
    "a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition", "e": "Content-Encoding",
    "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported", "l": "Content-Length", "m": "Contact",
    "o": "Event", "r": "Refer-To", "s": "Subject", "t": "To", "u": "Allow-Events", "v": "Via", "x": "Session-Expires",
    "y": "Identity",
}  # fmt: skip
_NAMES = {
    name.lower(): name
    for name in (
        *_COMPACT.values(), "Accept", "Allow", "Authorization", "CSeq", "Expires", "Max-Forwards", "Min-SE",
        "P-Asserted-Identity", "Privacy", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Require", "RAck", "RSeq",
        "Reason", "Record-Route", "Replaces", "Require", "Retry-After", "Route", "Server", "Timestamp", "Unsupported",
        "User-Agent", "WWW-Authenticate", "Warning",
    )
}  # fmt: skip
_SINGLE = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type")
_FOLD = re.compile(r"\r\n[ \t]+")
_CALL_ID = re.compile(r"[^\s@]+(@[^\s@]+)?")
_NUMBER = re.compile(r"[0-9]{1,20}")

REASONS = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 183: "Session Progress", 200: "OK",
    302: "Moved Temporarily", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout",
    413: "Request Entity Too Large", 415: "Unsupported Media Type", 416: "Unsupported URI Scheme",
    420: "Bad Extension", 422: "Session Interval Too Small", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops", 484: "Address Incomplete",
    486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here", 491: "Request Pending",
    500: "Server Internal Error", 501: "Not Implemented", 503: "Service Unavailable", 504: "Server Time-out",
    505: "Version Not Supported", 513: "Message Too Large", 600: "Busy Everywhere", 603: "Decline",
    606: "Not Acceptable",
}  # fmt: skip

Items = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """How large a message may be; beyond it is a RemoteError 513."""

    message_bytes_max: int = 65_535
    headers_max: int = 128
    values_max: int = 64
    """Values of one list header, such as Via."""


class MalformedMessage(RemoteError):
    """What came is no message; `request` is what of it can be answered, None: drop it."""

    def __init__(self, what: str, request: Request | None = None, *, sip_status: int = 400) -> None:
        super().__init__(what, sip_status=sip_status)
        self.request = request


@dataclass(frozen=True, slots=True)
class Message:
    """What requests and responses have in common."""

    headers: Items = field(default=(), repr=False)
    """Names in their long form, in the order of the wire."""
    body: bytes = field(default=b"", repr=False)

    def get(self, name: str) -> str | None:
        """The first value of a header, as written."""
        return next((value for key, value in self.headers if key == name), None)

    def values(self, name: str) -> list[str]:
        """Every value of a list header, whether on one line or on many; raises RemoteError."""
        found = [part for key, line in self.headers if key == name for part in split_list(line)]
        return [value for value in found if value]

    def lines(self, name: str) -> list[str]:
        """Every line of a header whose commas do not part values (the authentication headers, §7.3.1)."""
        return [value for key, value in self.headers if key == name]

    def tokens(self, name: str) -> frozenset[str]:
        """The values of a list of tokens (Supported, Require, Allow), in lower case."""
        return frozenset(value.lower() for value in self.values(name))

    def number(self, name: str, maximum: int = 2**32 - 1) -> int | None:
        """A header that is one number; None if it is not there. Parameters are left out. Raises RemoteError."""
        value = self.get(name)
        if value is None:
            return None
        digits = value.split(";")[0].strip()
        if not _NUMBER.fullmatch(digits) or int(digits) > maximum:
            raise RemoteError(f"{name} is malformed or out of range")
        return int(digits)

    @property
    def via(self) -> Via:
        """The top Via."""
        return Via.parse(split_list(self._required("Via"))[0])

    @property
    def sender(self) -> NameAddress:
        """From."""
        return NameAddress.parse(self._required("From"))

    @property
    def recipient(self) -> NameAddress:
        """To."""
        return NameAddress.parse(self._required("To"))

    @property
    def call_id(self) -> str:
        """Call-ID."""
        return self._required("Call-ID")

    @property
    def cseq(self) -> CSeq:
        """CSeq."""
        return CSeq.parse(self._required("CSeq"))

    @property
    def contacts(self) -> list[NameAddress]:
        """Contact; `*` (RFC 3261 §10.2.2) is no address and left out."""
        return [NameAddress.parse(value) for value in self.values("Contact") if value != "*"]

    def addresses(self, name: str) -> list[NameAddress]:
        """A header of addresses, such as Record-Route or P-Asserted-Identity; raises RemoteError."""
        return [NameAddress.parse(value) for value in self.values(name)]

    def content_type(self) -> str:
        """Type of the body in lower case without parameters; empty if none is said."""
        return (self.get("Content-Type") or "").split(";")[0].strip().lower().replace(" ", "")

    def _required(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise RemoteError(f"{name} is missing")
        return value

    def _encode(self, start_line: str) -> bytes:
        head = [start_line]
        head += [f"{name}: {value}" for name, value in self.headers if name != "Content-Length"]
        head.append(f"Content-Length: {len(self.body)}")
        if any("\r" in line or "\n" in line for line in head):
            raise LocalError("a header value must not hold a line end")
        return "\r\n".join((*head, "", "")).encode("utf-8", "surrogateescape") + self.body


@dataclass(frozen=True, slots=True)
class Request(Message):
    """A request; its URI as written."""

    method: str = ""
    uri: str = field(default="", repr=False)

    def __bytes__(self) -> bytes:
        return self._encode(f"{self.method} {self.uri} SIP/2.0")


@dataclass(frozen=True, slots=True)
class Response(Message):
    """A response."""

    status: int = 0
    reason: str = ""

    def __bytes__(self) -> bytes:
        return self._encode(f"SIP/2.0 {self.status} {self.reason}")


def canonical_name(name: str) -> str:
    """The long form of a header's name, in the capitals of its RFC where it is known."""
    lower = name.lower()
    return _COMPACT.get(lower) or _NAMES.get(lower) or name


def parse(data: bytes, limits: MessageLimits | None = None) -> Request | Response:
    """Read one whole message: a datagram, or what `stream.Framer` cut out; raises MalformedMessage."""
    limits = limits or MessageLimits()
    if len(data) > limits.message_bytes_max:
        raise MalformedMessage("the message is too large", sip_status=513)
    head, separator, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not separator:
        raise MalformedMessage("the message has no end of its headers")
    text = _FOLD.sub(" ", head.decode("utf-8", "surrogateescape"))
    start_line, *lines = text.split("\r\n")
    if len(lines) > limits.headers_max:
        raise MalformedMessage("the message has too many headers", sip_status=513)
    broken, headers = _parse_headers(lines)
    if start_line[:4].upper() == "SIP/":
        return _parse_response(start_line, headers, body, limits, broken)
    return _parse_request(start_line, headers, body, limits, broken)


def _parse_headers(lines: Iterable[str]) -> tuple[bool, Items]:
    broken, headers = False, list[tuple[str, str]]()
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        # A stray CR or LF would become a line of its own at the next element.
        if not colon or not is_token(name) or "\r" in value or "\n" in value:
            broken = True
            continue
        headers.append((canonical_name(name), value.strip(" \t")))
    return broken, tuple(headers)


def _parse_request(start_line: str, headers: Items, body: bytes, limits: MessageLimits, broken: bool) -> Request:
    method, _, rest = start_line.partition(" ")
    uri, _, version = rest.rpartition(" ")
    request = Request(headers, body, method, uri)
    try:
        if version.upper() != "SIP/2.0" and re.fullmatch(r"SIP/[0-9]+\.[0-9]+", version, re.IGNORECASE):
            raise RemoteError("the version of SIP is another", sip_status=505)
        if broken or version.upper() != "SIP/2.0" or not is_token(method):
            raise RemoteError("the request line or a header is malformed")
        Uri.parse(uri)
        _check(request, limits)
        if request.cseq.method != method:
            raise RemoteError("CSeq names another method")
        return replace(request, body=_cut_body(request))
    except RemoteError as error:
        raise MalformedMessage(str(error), _answerable(request), sip_status=error.sip_status) from None


def _parse_response(start_line: str, headers: Items, body: bytes, limits: MessageLimits, broken: bool) -> Response:
    match = re.fullmatch(r"SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?", start_line, re.IGNORECASE)
    if match is None or broken or re.search(r"[\r\n]", start_line):
        raise MalformedMessage("the status line or a header is malformed")
    response = Response(headers, body, int(match[1]), match[2] or "")
    try:
        _check(response, limits)
        return replace(response, body=_cut_body(response))
    except RemoteError as error:
        raise MalformedMessage(str(error)) from None


def _check(message: Message, limits: MessageLimits) -> None:
    """Read what every element depends on, so that it can be relied on from here; raises RemoteError."""
    names = [name for name, _ in message.headers]
    if any(names.count(name) > 1 for name in _SINGLE):
        raise RemoteError("a header that may stand once stands twice")
    if len(message.values("Via")) > limits.values_max:
        raise RemoteError("the message passed too many hops")
    _ = message.via, message.cseq, message.recipient, message.contacts
    _ = message.addresses("Route"), message.addresses("Record-Route"), message.number("Max-Forwards", 255)
    if not _CALL_ID.fullmatch(message.call_id) or not message.sender.uri.scheme:
        raise RemoteError("Call-ID or From is malformed")


def _cut_body(message: Message) -> bytes:
    """The body that Content-Length names; on datagrams the rest is ignored, and none means all (§18.3)."""
    length = message.number("Content-Length")
    if length is None:
        return message.body
    if length > len(message.body):
        raise RemoteError("the body is shorter than Content-Length")
    return message.body[:length]


def _answerable(request: Request) -> Request | None:
    """What of a broken request is needed to answer it (§8.2.6), None if not even that is there."""
    names = {name for name, _ in request.headers}
    if request.method == "ACK" or not names >= {"Via", "From", "To", "Call-ID", "CSeq"}:
        return None
    try:
        _ = request.via
    except RemoteError:
        return None
    once = {name: (name, value) for name, value in reversed(request.headers) if name in _SINGLE}
    vias = tuple((name, value) for name, value in request.headers if name == "Via")
    return Request((*vias, *once.values()), b"", request.method, request.uri)


def respond(
    request: Request, status: int, *, to_tag: str = "", headers: Items = (), body: bytes = b"", reason: str = ""
) -> Response:
    """Make a response to a request: it carries what §8.2.6.2 says that it must, then `headers`."""
    copied = [(name, value) for name, value in request.headers if name in {"Via", "From", "Call-ID", "CSeq"}]
    to = request.get("To") or ""
    if to_tag and not _has_tag(request):
        to = f"{to};tag={to_tag}"
    if status == 100:
        copied += [("Timestamp", value) for value in request.lines("Timestamp")]
    reason = reason or REASONS.get(status, "")
    return Response((*copied, ("To", to), *headers), body, status, reason)


def _has_tag(request: Request) -> bool:
    """Whether To has a tag; one that cannot be read is given none, but goes back as it came."""
    try:
        return request.recipient.tag is not None
    except RemoteError:
        return True
