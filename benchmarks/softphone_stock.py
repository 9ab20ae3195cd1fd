"""aiortc as it ships, for `benchmarks.softphone_transport` to compare with: peer connections that echo."""

from __future__ import annotations

import asyncio
from typing import Any

from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from benchmarks.softphone_peers import ProcessWindow, only_loopback
from relay.bench.processes import tell
from relay.demo.processes import commands


class Echoes:
    """All peer connections."""

    def __init__(self) -> None:
        self._connections: list[RTCPeerConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.window = ProcessWindow()

    def connect(self, number: int, sdp: str) -> None:
        """Answer an offer."""
        task = asyncio.create_task(self._connect(number, sdp))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, number: int, sdp: str) -> None:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connections.append(connection)

        @connection.on("track")
        def echo(track: MediaStreamTrack) -> None:
            connection.addTrack(track)

        @connection.on("connectionstatechange")
        def changed() -> None:
            if connection.connectionState == "connected":
                tell(ready=number, suite="")

        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        tell(answer=number, sdp=connection.localDescription.sdp)

    async def close(self) -> None:
        """End all."""
        await asyncio.gather(*(connection.close() for connection in self._connections))
        self._connections.clear()


async def obey(command: dict[str, Any], echoes: Echoes) -> None:
    """One thing that the benchmark asks."""
    match command:
        case {"connect": number, "sdp": sdp}:
            echoes.connect(number, sdp)
        case {"window": "begin"}:
            echoes.window.begin()
        case {"window": "end"}:
            tell(window=echoes.window.end(), stretches=None)
        case {"close": _}:
            await echoes.close()


async def main() -> None:
    """Until nobody asks any more."""
    only_loopback()
    echoes = Echoes()
    tell(up=True)
    async for command in commands():
        await obey(command, echoes)
    await echoes.close()


if __name__ == "__main__":
    asyncio.run(main())
