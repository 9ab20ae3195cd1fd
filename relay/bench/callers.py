"""Callers of a busy benchmark: calls over SIP and TLS with SRTP that are answered, last a moment, and are hung up."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from relay.certificates import client_context
from signaling.sip import events as sip
from signaling.sip import negotiation
from signaling.sip.digest import Credentials
from signaling.sip.socket import SipSockets
from signaling.sip.trunks import Trunks
from signaling.sip.user_agent import UserAgent

TALK_SECONDS: Final = 1.0
ANSWER_SECONDS_MAX: Final = 5.0
_PORTS: Final = 64
"""Media ports that calls share: more than there are calls at a time."""


class Callers:
    """One carrier's connection, and all calls over it. What the relay says to them is heard by nobody."""

    def __init__(self, where: Mapping[str, Any]) -> None:
        self.failed = 0
        """Calls that were not answered, or ended before they were hung up."""
        host, _, port = where["sips_address"].rpartition(":")
        self._host, self._port = host, int(port)
        self._credentials = Credentials("bench", where["password"])
        self._agent = UserAgent(
            sip.UserAgentSettings(product="Koppel benchmark"),
            Trunks(()),
            entropy=os.urandom,
            rng=random.SystemRandom(),
        )
        self._sockets = SipSockets(self._agent, (), self._heard, client_tls=client_context(Path(where["ca_file"])))
        self._media = [_deaf_socket() for _ in range(_PORTS)]
        self._answers: dict[sip.CallId, asyncio.Future[None]] = {}

    async def start(self) -> None:
        """Begin to listen."""
        await self._sockets.start()

    async def stop(self) -> None:
        """Hang the connection up."""
        await self._sockets.stop()
        for each in self._media:
            each.close()

    async def call(self, number: int) -> None:
        """One call from INVITE to BYE."""
        address = self._media[number % _PORTS].getsockname()
        offer = negotiation.make_offer(negotiation.LocalMedia(address), entropy=os.urandom)
        call = self._agent.invite(self._invite(offer.encode()), self._sockets.now())
        answer = self._answers[call] = asyncio.get_running_loop().create_future()
        self._sockets.transmit()
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await answer
            await asyncio.sleep(TALK_SECONDS)
        except (TimeoutError, ConnectionError):
            self.failed += 1
        finally:
            if self._answers.pop(call, None) is not None:
                self._agent.hang_up(call, self._sockets.now())
                self._sockets.transmit()

    def _invite(self, offer: bytes) -> sip.Invite:
        return sip.Invite(
            target=f"sip:bench@{self._host}:{self._port};transport=tls",
            caller=f"sip:caller@{self._host}",
            offer=offer,
            transport="tls",
            host=self._host,
            port=self._port,
            credentials=self._credentials,
        )

    def _heard(self, events: Iterable[sip.UserAgentEvent], _now: float) -> None:
        for event in events:
            match event:
                case sip.CallAnswered(call=call):
                    answer = self._answers.get(call)
                    if answer is not None and not answer.done():
                        answer.set_result(None)
                case sip.CallRefused(call=call) | sip.CallEnded(call=call):
                    self._gone(call)
                case _:
                    pass

    def _gone(self, call: sip.CallId) -> None:
        answer = self._answers.pop(call, None)
        if answer is None:
            return
        if answer.done():
            self.failed += 1
        else:
            answer.set_exception(ConnectionError("refused"))


def _deaf_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    with suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least that there is
    return made
