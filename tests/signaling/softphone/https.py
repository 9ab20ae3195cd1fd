"""The real https server on loopback with a certificate of its own authority, for tests of socket, API and page."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import websockets

from relay.certificates import client_context, ensure, server_context
from signaling.api import HttpsServer, create_app
from signaling.softphone.socket import SocketSettings, SoftphoneSocket
from tests.signaling.softphone.fake_service import TOKEN, FakeService


class Served:
    """A running server, and what a client needs to reach it."""

    def __init__(
        self, server: HttpsServer, socket: SoftphoneSocket, service: FakeService, ca_file: Path, host: str
    ) -> None:
        self.server, self.socket, self.service, self.ca_file = server, socket, service, ca_file
        self.tls = client_context(ca_file)
        self.origin = f"https://{host}:{server.port}"
        self.url = f"wss://{host}:{server.port}/softphone"

    def connect(self, **options):
        return websockets.connect(self.url, ssl=self.tls, **options)


@asynccontextmanager
async def serving(
    folder: Path,
    settings: SocketSettings | None = None,
    service: FakeService | None = None,
    *,
    listening: str = "127.0.0.1",
    reached: str = "127.0.0.1",
    **app_options,
) -> AsyncIterator[Served]:
    service = service or FakeService()
    socket = SoftphoneSocket(
        service, entropy=os.urandom, clock=asyncio.get_running_loop().time, settings=settings or SocketSettings()
    )
    certificates = ensure(folder, ["127.0.0.1", "::1", "localhost"], now=datetime.now(UTC))
    app = create_app(socket, health=lambda: {"ok": True}, **app_options)
    server = await HttpsServer.start(app, listening, 0, server_context(certificates))
    assert certificates.ca_file is not None
    try:
        yield Served(server, socket, service, certificates.ca_file, reached)
    finally:
        socket.drain()
        await server.stop()


class Client:
    """A JSON-RPC client over one WebSocket; notifications are kept in order."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.told: list[dict] = []
        self._number = 0

    async def ask(self, method: str, **params) -> dict:
        """Send a request and return its whole response."""
        self._number += 1
        await self.connection.send(
            json.dumps({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        )
        while True:
            message = await self.receive()
            if "id" in message:
                assert message["id"] == self._number
                return message
            self.told.append(message)

    async def receive(self) -> dict:
        async with asyncio.timeout(5):
            return json.loads(await self.connection.recv())

    async def log_in(self, token: str = TOKEN) -> dict:
        return await self.ask("session.log_in", token=token)

    async def next_told(self) -> dict:
        return self.told.pop(0) if self.told else await self.receive()

    async def close_code(self) -> tuple[int, str]:
        async with asyncio.timeout(5):
            await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason
