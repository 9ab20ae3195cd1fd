"""Cut SIP messages out of a TCP or TLS stream (RFC 3261 §18.3, RFC 5626 §4.4.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from signaling.errors import RemoteError

_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*(?:\r\n[ \t]+)?([^\r\n]*)", re.IGNORECASE)
PING, PONG = b"\r\n\r\n", b"\r\n"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How much a peer may send before a message is whole."""

    head_bytes_max: int = 32_768
    body_bytes_max: int = 65_535


class Framer:
    """Takes bytes as they come; gives whole messages, and how many keep-alive pings to answer.

    A stream that cannot be cut any more (no Content-Length, a limit) raises RemoteError: close the connection.
    """

    def __init__(self, limits: StreamLimits | None = None) -> None:
        self._limits = limits or StreamLimits()
        self._buffer = bytearray()
        self._wanted = 0
        """Bytes of the message at the head of the buffer; 0: its headers are not whole yet."""
        self._searched = 0
        self.pings = 0
        """CRLF CRLF that came since the caller last set this to 0; each is answered with CRLF."""

    @property
    def idle(self) -> bool:
        """Whether no message is half here."""
        return not self._buffer

    def receive(self, data: bytes) -> list[bytes]:
        """Take what came; gives the messages that it completes."""
        self._buffer += data
        messages: list[bytes] = []
        while self._skip_keep_alive() and self._find_end() and len(self._buffer) >= self._wanted:
            messages.append(bytes(self._buffer[: self._wanted]))
            del self._buffer[: self._wanted]
            self._wanted = self._searched = 0
        return messages

    def _skip_keep_alive(self) -> bool:
        while not self._wanted and self._buffer.startswith(PING):
            del self._buffer[:4]
            self.pings += 1
        # A single CRLF is a pong, or the lenient separator of §7.5; three bytes may yet become a ping.
        while self._buffer.startswith(b"\r\n") and not PING.startswith(bytes(self._buffer[:4])):
            del self._buffer[:2]
        return bool(self._buffer) and not PING.startswith(bytes(self._buffer[:4]))

    def _find_end(self) -> bool:
        if self._wanted:
            return True
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        self._searched = len(self._buffer)
        if (end if end >= 0 else len(self._buffer)) > self._limits.head_bytes_max:
            raise RemoteError("the headers are too long", sip_status=513)
        if end < 0:
            return False
        self._wanted = end + 4 + self._body_bytes(bytes(self._buffer[: end + 2]))
        return True

    def _body_bytes(self, head: bytes) -> int:
        found = {value.strip() for value in _CONTENT_LENGTH.findall(head)}
        if len(found) != 1:
            raise RemoteError("a message in a stream needs one Content-Length (RFC 3261 §20.14)")
        value = found.pop()
        if not re.fullmatch(rb"[0-9]{1,9}", value):
            raise RemoteError("Content-Length is malformed")
        if int(value) > self._limits.body_bytes_max:
            raise RemoteError("the body is too long", sip_status=513)
        return int(value)
