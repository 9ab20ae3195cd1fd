"""STUN as far as a shared socket needs it: whose message it is, without parsing what a stranger sent (RFC 8489).

A flood must cost little: `peek` reads the header, and `username` walks attributes only until USERNAME. Connections that
stand exchange the same few messages for hours; those are read and written here too, at a tenth of what a general
implementation takes: a Binding request by its credentials, and the response to it.
"""

from __future__ import annotations

import binascii
import functools
import hmac
import ipaddress
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

HEADER_BYTES = 20
MESSAGE_BYTES_MAX = 1_280
MAGIC_COOKIE = 0x2112A442
BINDING = 0x001
USERNAME = 0x0006
USERNAME_BYTES_MAX = 513  # RFC 8489 §14.3: fewer than 509 bytes; ICE: two fragments of 256 and a colon

MESSAGE_INTEGRITY: Final = 0x0008
XOR_MAPPED_ADDRESS: Final = 0x0020
PRIORITY: Final = 0x0024
FINGERPRINT: Final = 0x8028
ICE_CONTROLLED: Final = 0x8029
ICE_CONTROLLING: Final = 0x802A

_REQUEST: Final = 0x0001
_RESPONSE: Final = 0x0101
_INTEGRITY_BYTES: Final = 24
_FINGERPRINT_BYTES: Final = 8
_FINGERPRINT_XOR: Final = 0x5354554E

Class = Literal["request", "indication", "success", "error"]
_CLASSES: dict[int, Class] = {0x000: "request", 0x010: "indication", 0x100: "success", 0x110: "error"}


@dataclass(frozen=True, slots=True)
class Header:
    """What the first 20 bytes of a Binding message say."""

    message_class: Class
    transaction_id: bytes


def peek(data: bytes) -> Header | None:
    """The header of a Binding message of honest length, else None (RFC 8489 §5)."""
    if not HEADER_BYTES <= len(data) <= MESSAGE_BYTES_MAX:
        return None
    message_type, length, cookie, transaction_id = struct.unpack_from("!HHI12s", data)
    if cookie != MAGIC_COOKIE or length != len(data) - HEADER_BYTES or length % 4 or message_type & 0x3EEF != BINDING:
        return None
    return Header(_CLASSES[message_type & 0x0110], transaction_id)


def username(data: bytes) -> tuple[str, str] | None:
    """The two fragments of USERNAME (RFC 8445 §7.2.2: the receiver's first) of a message that `peek` accepted."""
    position = HEADER_BYTES
    while position + 4 <= len(data):
        attribute_type, length = struct.unpack_from("!HH", data, position)
        position += 4
        if attribute_type == USERNAME:
            value = data[position : position + length]
            if len(value) != length or length > USERNAME_BYTES_MAX or not value.isascii():
                return None
            own, colon, other = value.decode("ascii").partition(":")
            return (own, other) if colon else None
        position += (length + 3) & ~3
    return None


def transaction_id(data: bytes) -> bytes:
    """Of a message that `peek` accepted."""
    return data[8:HEADER_BYTES]


def attributes(data: bytes) -> Mapping[int, int]:
    """Where the value of each attribute begins, of a message that `peek` accepted; empty if they do not fit it.

    Of what follows MESSAGE-INTEGRITY only FINGERPRINT is listed, since nothing else is proven (RFC 8489 §14.5).
    """
    found: dict[int, int] = {}
    position, end = HEADER_BYTES, len(data)
    while position < end:
        if position + 4 > end:
            return {}
        attribute_type, length = _ATTRIBUTE.unpack_from(data, position)
        position += 4
        if position + length > end:
            return {}
        if MESSAGE_INTEGRITY not in found or attribute_type == FINGERPRINT:
            found.setdefault(attribute_type, position)
        position += (length + 3) & ~3
    return found


def is_authentic(data: bytes, found: Mapping[int, int], password: bytes) -> bool:
    """Whether MESSAGE-INTEGRITY proves the password, and FINGERPRINT, if it is there, fits (RFC 8489 §14.5, §14.7)."""
    at = found.get(MESSAGE_INTEGRITY)
    if at is None or data[at - 2 : at] != b"\x00\x14":
        return False
    covered = data[:2] + _LENGTH.pack(at - HEADER_BYTES + 20) + data[4 : at - 4]
    if not hmac.compare_digest(hmac.digest(password, covered, "sha1"), data[at : at + 20]):
        return False
    at = found.get(FINGERPRINT)
    return at is None or data[at : at + 4] == _fingerprint(data[: at - 4])


def check_attributes(username: bytes, priority: int, *, controlling: bool, tie_breaker: int) -> bytes:
    """What is the same in all connectivity checks of one connection (RFC 8445 §7.2.2), but for USE-CANDIDATE."""
    role = ICE_CONTROLLING if controlling else ICE_CONTROLLED
    padded = username + bytes(-len(username) % 4)
    return struct.pack(
        f"!HH{len(padded)}sHHIHHQ", USERNAME, len(username), padded, PRIORITY, 4, priority, role, 8, tie_breaker
    )


def binding_request(transaction: bytes, body: bytes, password: bytes) -> bytes:
    """A request with these attributes, signed."""
    return _signed(_REQUEST, transaction, body, password)


def binding_response(transaction: bytes, source: tuple[str, int], password: bytes) -> bytes:
    """The success response to a request that came from `source`, signed."""
    return _signed(_RESPONSE, transaction, _mapped(source, transaction), password)


_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")
_LENGTH: Final = struct.Struct("!H")


def _signed(message_type: int, transaction: bytes, body: bytes, password: bytes) -> bytes:
    length = len(body) + _INTEGRITY_BYTES
    covered = _HEADER.pack(message_type, length, MAGIC_COOKIE, transaction) + body
    digest = hmac.digest(password, covered, "sha1")
    message = (
        covered[:2] + _LENGTH.pack(length + _FINGERPRINT_BYTES) + covered[4:] + _ATTRIBUTE.pack(MESSAGE_INTEGRITY, 20)
    ) + digest
    return message + _ATTRIBUTE.pack(FINGERPRINT, 4) + _fingerprint(message)


def _fingerprint(message: bytes) -> bytes:
    """Of everything before the attribute; the length in the header already counts it."""
    return (binascii.crc32(message) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def _mapped(source: tuple[str, int], transaction: bytes) -> bytes:
    """XOR-MAPPED-ADDRESS (RFC 8489 §14.2)."""
    packed = _packed(source[0])
    mask = _MAGIC + transaction
    hidden = (int.from_bytes(packed, "big") ^ int.from_bytes(mask[: len(packed)], "big")).to_bytes(len(packed), "big")
    family = 1 if len(packed) == 4 else 2
    return struct.pack("!HHHH", XOR_MAPPED_ADDRESS, 4 + len(packed), family, source[1] ^ (MAGIC_COOKIE >> 16)) + hidden


_MAGIC: Final = MAGIC_COOKIE.to_bytes(4, "big")


@functools.lru_cache(maxsize=4096)
def _packed(host: str) -> bytes:
    return ipaddress.ip_address(host).packed
