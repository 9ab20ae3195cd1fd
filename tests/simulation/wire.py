"""The wires of the world: seeded links for media and signalling, and a tap on all that the relay sends."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from relay.media import Address
from relay.plane.hosts import PeerHosts
from relay.plane.packets import OVERSIZED, PacketTable, endpoint_address, endpoint_key
from tests.simulation.schedule import Schedule
from tests.world.network import Conditions, Datagram, Link

RELAY: Final[Address] = ("10.0.0.1", 40_000)
"""The relay's one media socket; its RTCP socket is the port after it."""

D = TypeVar("D", bound=Sized)


class Pipe(Generic[D]):
    """A link that hands over what arrives when it arrives."""

    def __init__(self, schedule: Schedule, conditions: Conditions, seed: str, take: Callable[[D], None]) -> None:
        self.link = Link[D](conditions, random.Random(seed))
        self._schedule = schedule
        self._take = take
        self._armed: float | None = None

    def send(self, data: D) -> None:
        self.link.send(data, self._schedule.now)
        self._arm()

    def _arm(self) -> None:
        due = self.link.next_arrival()
        if due is not None and (self._armed is None or due < self._armed):
            self._armed = due
            self._schedule.at(due, lambda: self._arrive(due))

    def _arrive(self, due: float) -> None:
        if due != self._armed:
            return  # something overtook what this was for
        self._armed = None
        for data in self.link.deliver(self._schedule.now):
            self._take(data)
        self._arm()


class MediaPeer(Protocol):
    """Whoever has media addresses."""

    name: str

    def receive_media(self, datagram: Datagram) -> None: ...


@dataclass(slots=True)
class MediaPath:
    """One peer's way to the relay and back."""

    up: Pipe[Datagram]
    down: Pipe[Datagram]


@dataclass(slots=True)
class Wire:
    """All media paths. `tap(peer name, datagram)` sees what the relay sends before a link can lose it."""

    schedule: Schedule
    seed: str
    tap: Callable[[str, Datagram], None]
    paths: dict[str, MediaPath] = field(default_factory=dict)
    astray: list[Datagram] = field(default_factory=list)
    """What the relay sent to addresses of nobody."""
    unheard: int = 0
    """Datagrams that came while no relay ran."""
    arrivals: dict[str, list[float]] = field(default_factory=dict)
    """When what a peer sent reached the relay's place: what a network did to it."""
    sockets: SimulatedSockets | None = None
    """Of the relay that runs."""
    _owners: dict[Address, str] = field(default_factory=dict)

    def join(self, peer: MediaPeer, conditions: Conditions) -> None:
        self.paths[peer.name] = MediaPath(
            Pipe(self.schedule, conditions, f"{self.seed} {peer.name} up", self._arrive),
            Pipe(self.schedule, conditions, f"{self.seed} {peer.name} down", peer.receive_media),
        )

    def own(self, address: Address, peer: MediaPeer) -> None:
        """From now on this address is the peer's."""
        self._owners[address] = peer.name

    def send(self, datagram: Datagram) -> None:
        """The relay sends."""
        name = self._owners.get(datagram.destination)
        if name is None:
            self.astray.append(datagram)
        else:
            self.tap(name, datagram)
            self.paths[name].down.send(datagram)

    def _arrive(self, datagram: Datagram) -> None:
        if (name := self._owners.get(datagram.source)) is not None:
            self.arrivals.setdefault(name, []).append(self.schedule.now)
        if self.sockets is None:
            self.unheard += 1
        else:
            self.sockets.deliver(self.schedule.now, datagram)


class SimulatedSockets:
    """`relay.plane.packets.MediaSockets` of one life of the relay, over the wires."""

    def __init__(self, wire: Wire) -> None:
        self.addresses: Sequence[Address] = (RELAY,)
        self.hosts = PeerHosts(bytes)
        self._wire = wire
        self._queue: list[tuple[float, Datagram]] = []

    def deliver(self, arrival: float, datagram: Datagram) -> None:
        self._queue.append((arrival, datagram))

    def receive(self, table: PacketTable, now: float) -> int:
        assert not self._queue or self._queue[-1][0] <= now, "the schedule brings nothing before its time"
        taken, self._queue = self._queue[: table.rows], self._queue[table.rows :]
        for row, (arrival, datagram) in enumerate(taken):
            socket = datagram.destination[1] - RELAY[1]
            table.put(row, datagram.data[: table.stride], endpoint_key(socket, datagram.source), arrival)
            if len(datagram) > table.stride:
                table.length[row] = OVERSIZED
        return len(taken)

    def send(self, table: PacketTable, count: int) -> int:
        for row in range(count):
            self._wire.send(Datagram(RELAY, endpoint_address(int(table.endpoint[row])), table.datagram(row)))
        return 0
