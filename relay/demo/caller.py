"""A demo customer: one real call over SIP/TLS and SRTP, in a process of its own.

`python -m relay.demo.caller` reads its setup as one line of JSON from standard input (so that no password stands in a
command line), then commands, one JSON object a line: `{"do": "listen", "seconds": 1.5}` says what was heard last,
`{"do": "hang_up"}` ends the call. What happens is told as one JSON object a line on standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixer.speech_like import speech_like
from relay.certificates import client_context
from relay.demo.hearing import listen, tone
from relay.demo.phone_media import RATE, MediaSetup, PhoneMedia, Samples
from relay.demo.processes import commands, tell
from signaling.addresses import written_host
from signaling.errors import RemoteError
from signaling.sip import events as sip
from signaling.sip import negotiation
from signaling.sip.digest import Credentials
from signaling.sip.sdp import SessionDescription
from signaling.sip.socket import SipSockets
from signaling.sip.trunks import Trunks
from signaling.sip.user_agent import UserAgent

SPEECH_SECONDS = 20.0
TONE_DBFS = -12.0


@dataclass(frozen=True, slots=True)
class CallerSetup:
    """Whom to call, how to prove who calls, and what to say."""

    dial: str
    """SIP URI to call."""
    host: str
    port: int
    ca_file: str
    username: str = field(repr=False)
    password: str = field(repr=False)
    number: str = field(default="+4930555020", repr=False)
    tone_hz: float | None = None
    """A constant tone; None: something like speech."""
    seconds_max: float = 120.0
    local_host: str = "127.0.0.1"


Tell = Callable[[Mapping[str, object]], None]


class Caller:
    """One call, from INVITE to BYE."""

    def __init__(self, setup: CallerSetup, tell: Tell) -> None:
        self._setup = setup
        self._tell = tell
        self._over = asyncio.Event()
        self._media = PhoneMedia(_sound(setup), ssrc=int.from_bytes(os.urandom(4), "big"))
        self._agent = UserAgent(
            sip.UserAgentSettings(product="Koppel demo caller"),
            Trunks(()),
            entropy=os.urandom,
            rng=random.SystemRandom(),
        )
        self._sockets = SipSockets(self._agent, (), self._on_events, client_tls=client_context(Path(setup.ca_file)))
        self._offer: SessionDescription | None = None
        self._call: sip.CallId | None = None

    async def run(self) -> None:
        """Call, and return when the call is over."""
        await self._sockets.start()
        try:
            address = await self._media.open(self._setup.local_host)
            self._offer = negotiation.make_offer(negotiation.LocalMedia(address), entropy=os.urandom)
            self._call = self._agent.invite(self._invite(self._offer), self._sockets.now())
            self._sockets.transmit()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._setup.seconds_max):
                    await self._over.wait()
            self.hang_up()
        finally:
            await self._media.close()
            await self._sockets.stop()

    def hang_up(self) -> None:
        """End the call."""
        if self._call is not None and not self._over.is_set():
            self._agent.hang_up(self._call, self._sockets.now())
            self._sockets.transmit()
            self._end("hung_up_here")

    def listen(self, seconds: float) -> None:
        """Tell what was heard in the last `seconds`."""
        first = max(0.0, self._media.heard_seconds - seconds)
        heard = listen(self._media.heard(first, seconds), RATE)
        self._tell({"event": "heard", "hz": heard.hz, "dbfs": heard.tone_dbfs, "packets": self._media.packets_received})

    def _invite(self, offer: SessionDescription) -> sip.Invite:
        return sip.Invite(
            target=self._setup.dial,
            caller=f"sip:{self._setup.number}@{written_host(self._setup.host)}",
            offer=offer.encode(),
            transport="tls",
            host=self._setup.host,
            port=self._setup.port,
            credentials=Credentials(self._setup.username, self._setup.password),
        )

    def _on_events(self, events: list[sip.UserAgentEvent], now: float) -> None:
        for event in events:
            match event:
                case sip.CallProgress(status=status):
                    self._tell({"event": "progress", "status": status})
                case sip.CallAnswered(answer=answer):
                    self._answered(answer)
                case sip.CallRefused(status=status):
                    self._tell({"event": "refused", "status": status})
                    self._end("refused")
                case sip.CallEnded():
                    self._end("hung_up_there")
                case sip.SessionOffered(call=call):
                    self._agent.refuse_offer(call, 488, now)
                case _:
                    pass

    def _answered(self, answer: SessionDescription) -> None:
        assert self._offer is not None, "an answer follows an offer"
        try:
            settled = negotiation.accept_answer(self._offer, answer).media
        except RemoteError:
            self._tell({"event": "problem", "what": "the answer does not fit the offer"})
            self.hang_up()
            return
        keys = settled.send_key, settled.receive_key
        if settled.remote is None or keys[0] is None or keys[1] is None or settled.encoding == "opus":
            self._tell({"event": "problem", "what": "the answer names no address or no keys"})
            self.hang_up()
            return
        self._media.start(
            MediaSetup(
                remote=settled.remote,
                encoding=settled.encoding,
                payload_type=settled.payload_type,
                suite=keys[0].suite,
                send_key=keys[0].master,
                receive_key=keys[1].master,
            )
        )
        self._tell({"event": "answered"})

    def _end(self, how: str) -> None:
        if not self._over.is_set():
            self._over.set()
            self._tell({"event": "ended", "how": how, "packets": self._media.packets_received})


def _sound(setup: CallerSetup) -> Callable[[int], Samples]:
    hertz = setup.tone_hz
    if hertz is not None:
        return lambda first: tone(hertz, RATE, 160, first=first, dbfs=TONE_DBFS)
    speech = np.clip(np.rint(speech_like(RATE, SPEECH_SECONDS, seed=7)), -32768, 32767).astype(np.int16)
    return lambda first: np.take(speech, range(first, first + 160), mode="wrap")


async def _obey(told: AsyncIterator[dict[str, object]], caller: Caller) -> None:
    async for command in told:
        match command:
            case {"do": "listen", "seconds": int() | float() as seconds}:
                caller.listen(seconds)
            case {"do": "hang_up"}:
                caller.hang_up()
            case _:
                tell({"event": "problem", "what": "unknown command"})
    caller.hang_up()  # whoever started us is gone


async def main() -> None:
    """Read the setup and make the call."""
    told = commands()
    setup = await anext(told)
    caller = Caller(CallerSetup(**setup), tell)  # type: ignore[arg-type] # from the program that started us
    obeying = asyncio.create_task(_obey(told, caller))
    try:
        await caller.run()
    finally:
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
