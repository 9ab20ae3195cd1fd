"""Agents of a busy benchmark: softphones whose media comes and goes, with ICE and DTLS-SRTP as a browser would."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final

import aioice
import aioice.ice
import websockets
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCIceGatherer, RTCIceParameters
from aiortc import RTCIceTransport as IceTransport

from relay.webrtc.dtls import KeyingDtlsTransport

REQUEST_SECONDS_MAX: Final = 5.0
CONTACT_SECONDS_MAX: Final = 3.0
"""An agent to whom no contact comes for so long hangs its media up all the same."""
_OFFER: Final = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
m=audio 9 UDP/TLS/RTP/SAVPF 0
c=IN IP4 0.0.0.0
a=rtcp-mux
a=mid:0
a=sendrecv
a=rtpmap:0 PCMU/8000
a=ice-ufrag:{fragment}
a=ice-pwd:{password}
a=fingerprint:{fingerprint}
a=setup:actpass
"""


class RefusedError(Exception):
    """The relay refused, or did not answer in time."""


class _Gatherer(RTCIceGatherer):
    """A gatherer of the side that controls, which asks no server."""

    def __init__(self) -> None:
        super().__init__(iceServers=[])
        self._connection = aioice.Connection(ice_controlling=True, use_ipv6=False)

    @property
    def connection(self) -> aioice.Connection:
        """What carries it."""
        return self._connection


class Media:
    """One media connection of a softphone; it hears nothing of what comes, and says nothing."""

    def __init__(self, certificate: RTCCertificate) -> None:
        self._gatherer = _Gatherer()
        self._ice = IceTransport(self._gatherer)
        # RFC 5763 §5: the relay is active, we are the DTLS server.
        self._dtls = KeyingDtlsTransport(self._ice, certificate, "passive")
        self._fingerprint = next(each for each in certificate.getFingerprints() if each.algorithm == "sha-256")

    async def offer(self) -> str:
        """The offer with all candidates."""
        await self._gatherer.gather()
        connection = self._gatherer.connection
        head = _OFFER.format(
            fragment=connection.local_username,
            password=connection.local_password,
            fingerprint=f"sha-256 {self._fingerprint.value}",
        )
        lines = head.splitlines() + [f"a=candidate:{each.to_sdp()}" for each in connection.local_candidates]
        return "\r\n".join(lines) + "\r\n"

    async def connect(self, answer: str) -> None:
        """ICE, then DTLS."""
        fields = dict(re.findall(r"(?m)^a=(ice-ufrag|ice-pwd|fingerprint):(.*?)\r?$", answer))
        for line in re.findall(r"(?m)^a=candidate:(.*? 127\.0\.0\.1 .*?)\r?$", answer):
            await self._gatherer.connection.add_remote_candidate(aioice.Candidate.from_sdp(line))
        await self._ice.start(RTCIceParameters(fields["ice-ufrag"], fields["ice-pwd"]))
        algorithm, _, value = fields["fingerprint"].partition(" ")
        await self._dtls.start(RTCDtlsParameters([RTCDtlsFingerprint(algorithm, value)]))
        if self._dtls.state != "connected":
            raise RefusedError(self._dtls.failure)

    async def close(self) -> None:
        """Hang it up."""
        await self._dtls.stop()
        await self._ice.stop()


class Agent:
    """One softphone's WebSocket, logged in; `turn` has media set up, takes a contact, and hangs up."""

    def __init__(self, url: str, tls: ssl.SSLContext, token: str, certificate: RTCCertificate) -> None:
        self._url, self._tls, self._token = url, tls, token
        self._certificate = certificate
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._states: dict[str, asyncio.Event] = {}
        self._contact_id = ""
        self._connection: websockets.ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and log in."""
        self._connection = await websockets.connect(self._url, ssl=self._tls, compression=None, proxy=None)
        self._reading = asyncio.create_task(self._read(self._connection), name="agent's reader")
        await self._request("session.log_in", token=self._token)

    async def stop(self) -> None:
        """Log out."""
        if self._connection is not None:
            await self._connection.close()
        if self._reading is not None:
            await asyncio.wait({self._reading})

    async def turn(self) -> None:
        """Media up, a contact if one comes, media down. Raises RefusedError."""
        media = Media(self._certificate)
        for name in ("connected", "ringing", "ended"):
            self._states[name] = asyncio.Event()
        try:
            answer = await self._request("media.connect", sdp=await media.offer())
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                await media.connect(str(answer["sdp"]))
                await self._states["connected"].wait()
            await self._request("agent.set_state", state="available")
            if await self._within("ringing"):
                await self._take()
            await self._request("agent.set_state", state="break")
            await self._request("media.disconnect")
        except (TimeoutError, ConnectionError) as error:
            raise RefusedError(str(error) or "no media in time") from None
        finally:
            await media.close()

    async def _take(self) -> None:
        try:
            await self._request("contact.accept", contact_id=self._contact_id)
        except RefusedError:
            return  # the caller has just hung up
        await self._within("ended")

    async def _within(self, name: str) -> bool:
        try:
            async with asyncio.timeout(CONTACT_SECONDS_MAX):
                return await self._states[name].wait()
        except TimeoutError:
            return False

    async def _request(self, method: str, **params: object) -> dict[str, Any]:
        assert self._connection is not None, "requests follow the connection"
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            asked = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            await self._connection.send(json.dumps(asked))
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                message = await answer
        except (TimeoutError, websockets.ConnectionClosed):
            raise RefusedError(f"{method} was not answered") from None
        finally:
            del self._waiting[number]
        if "error" in message:
            raise RefusedError(f"{method}: {message['error']['message']}")
        result: dict[str, Any] = message["result"]
        return result

    async def _read(self, connection: websockets.ClientConnection) -> None:
        async for text in connection:
            message: dict[str, Any] = json.loads(text)
            if "id" in message:
                answer = self._waiting.get(message["id"])
                if answer is not None and not answer.done():
                    answer.set_result(message)
            else:
                self._notified(message["method"], message["params"])

    def _notified(self, method: str, params: Mapping[str, Any]) -> None:
        if method == "media.state" and params["state"] == "connected":
            self._states["connected"].set()
        elif method == "contact.ringing":
            self._contact_id = params["contact_id"]
            self._states["ringing"].set()
        elif method == "contact.ended":
            self._states["ended"].set()


class Agents:
    """Some agents, each of whom takes its turn when it is free."""

    def __init__(self, where: Mapping[str, Any], tls: ssl.SSLContext) -> None:
        self.failed = 0
        self.problem = ""
        """Why the last one failed."""
        # What aioice leaves out: a machine may have no other address than the loopback's, and nothing leaves it.
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
        certificate = RTCCertificate.generateCertificate()
        self._all = [Agent(where["softphone_url"], tls, token, certificate) for token in where["agents"]]
        self._free: asyncio.Queue[Agent] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._all)

    async def start(self) -> None:
        """All log in."""
        for agent in self._all:
            await agent.start()
            self._free.put_nowait(agent)

    async def stop(self) -> None:
        """All log out."""
        await asyncio.gather(*(agent.stop() for agent in self._all))

    async def turn(self, _number: int) -> None:
        """Whoever is free has a turn."""
        agent = await self._free.get()
        try:
            await agent.turn()
        except RefusedError as error:
            self.failed += 1
            self.problem = str(error)
        finally:
            self._free.put_nowait(agent)
