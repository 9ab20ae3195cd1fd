"""STUN as far as a shared socket needs it: whose message it is, without parsing what a stranger sent (RFC 8489).

A flood must cost little: `peek` reads the header, and `username` walks attributes only until USERNAME.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

HEADER_BYTES = 20
MESSAGE_BYTES_MAX = 1_280
MAGIC_COOKIE = 0x2112A442
BINDING = 0x001
USERNAME = 0x0006
USERNAME_BYTES_MAX = 513  # RFC 8489 §14.3: fewer than 509 bytes; ICE: two fragments of 256 and a colon

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
