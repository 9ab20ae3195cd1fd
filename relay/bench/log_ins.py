"""A flood of log-ins from many addresses: tokens that are right, wrong, and half right."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

import websockets

from signaling import access

ADDRESSES: Final = 60_000
"""Of the loopback network: so many that nobody has failed often enough to be turned away unheard."""
SECONDS_MAX: Final = 5.0


class LogIns:
    """One connection each: it says a token, hears the answer, and goes."""

    def __init__(self, where: Mapping[str, Any], tls: ssl.SSLContext) -> None:
        self.unanswered = 0
        self._url: str = where["softphone_url"]
        self._tls = tls
        self._known: list[str] = where["guessed"]

    async def log_in(self, number: int) -> None:
        """Connect, say a token, and hear whether it is right."""
        try:
            async with (
                asyncio.timeout(SECONDS_MAX),
                websockets.connect(
                    self._url,
                    ssl=self._tls,
                    local_addr=(_address(number), 0),
                    compression=None,
                    close_timeout=1,
                    proxy=None,
                ) as connection,
            ):
                params = {"token": self._token(number)}
                asked = {"jsonrpc": "2.0", "id": 1, "method": "session.log_in", "params": params}
                await connection.send(json.dumps(asked))
                await connection.recv()
        except (OSError, TimeoutError, websockets.WebSocketException):
            self.unanswered += 1

    def _token(self, number: int) -> str:
        known = self._known[number // 4 % len(self._known)]
        match number % 4:
            case 0:
                return known
            case 1:
                # Whoever knows the half that may be logged makes the relay hash the other one.
                return access.Token(access.parse(known).token_id, os.urandom(access.SECRET_BYTES)).reveal()
            case _:
                return access.mint(os.urandom).reveal()


def _address(number: int) -> str:
    place = number % ADDRESSES
    return f"127.{1 + place // 62_500}.{place // 250 % 250}.{1 + place % 250}"
