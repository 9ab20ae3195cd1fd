"""A network of seeded links: delay, jitter, loss, bursts of loss, duplicates and reordering.

`Link` is plain: `send(data, now)` puts a datagram in, `deliver(now)` takes out what has arrived. `Network` joins asyncio
datagram transports by such links; both give the same run for the same seed.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

Address = tuple[str, int]
P = TypeVar("P", bound=asyncio.DatagramProtocol)
D = TypeVar("D", bound=Sized)


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram between sockets."""

    source: Address
    destination: Address
    data: bytes

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Bursts:
    """Gilbert–Elliott loss: two states, entered and left by chance at every datagram, each with its own loss."""

    enter: float
    """Chance to go from good to bad."""
    leave: float
    """Chance to go from bad to good; bursts last 1 / `leave` datagrams on average."""
    loss_good: float = 0.0
    loss_bad: float = 1.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a link does to datagrams; chances are from 0 to 1."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Added to the delay, evenly spread from 0; order is kept."""
    loss: float = 0.0
    bursts: Bursts | None = None
    duplicate: float = 0.0
    """Chance that a datagram comes twice, the second up to `jitter_s` + 10 ms later."""
    reorder: float = 0.0
    """Chance that a datagram is held back by `reorder_s`, so that later ones overtake it."""
    reorder_s: float = 0.05
    datagram_bytes_max: int = 65_507
    """Larger ones are lost."""


class Link(Generic[D]):
    """One direction between two places; `D` is what travels: bytes, or anything that has a length."""

    def __init__(self, conditions: Conditions, rng: random.Random) -> None:
        self.conditions = conditions
        """May be replaced at any time; what is on its way keeps its time of arrival."""
        self.sent = self.lost = self.duplicated = self.reordered = self.delivered = 0
        self._random = rng
        self._in_burst = False
        self._last_arrival = 0.0
        self._count = 0
        self._travelling: list[tuple[float, int, D]] = []

    def send(self, data: D, now: float) -> None:
        """Put a datagram on its way."""
        self.sent += 1
        if self._is_lost() or len(data) > self.conditions.datagram_bytes_max:
            self.lost += 1
            return
        arrival = self._arrival(now)
        self._travel(arrival, data)
        if self._random.random() < self.conditions.duplicate:
            self.duplicated += 1
            self._travel(arrival + self._random.uniform(0.0, self.conditions.jitter_s + 0.01), data)

    def deliver(self, now: float) -> list[D]:
        """What has arrived since the last time, in order of arrival."""
        arrived: list[D] = []
        while self._travelling and self._travelling[0][0] <= now:
            arrived.append(heapq.heappop(self._travelling)[2])
        self.delivered += len(arrived)
        return arrived

    def next_arrival(self) -> float | None:
        """When `deliver` will have something; None: nothing is on its way."""
        return self._travelling[0][0] if self._travelling else None

    def change(self, **changes: Any) -> None:
        """Replace some of the conditions."""
        self.conditions = replace(self.conditions, **changes)

    def _is_lost(self) -> bool:
        bursts = self.conditions.bursts
        chance = self.conditions.loss
        if bursts is not None:
            turn = bursts.leave if self._in_burst else bursts.enter
            self._in_burst ^= self._random.random() < turn
            chance = max(chance, bursts.loss_bad if self._in_burst else bursts.loss_good)
        return self._random.random() < chance

    def _arrival(self, now: float) -> float:
        conditions = self.conditions
        arrival = now + conditions.delay_s + self._random.uniform(0.0, conditions.jitter_s)
        if self._random.random() < conditions.reorder:
            self.reordered += 1
            return arrival + conditions.reorder_s
        arrival = max(arrival, self._last_arrival)
        self._last_arrival = arrival
        return arrival

    def _travel(self, arrival: float, data: D) -> None:
        heapq.heappush(self._travelling, (arrival, self._count, data))
        self._count += 1


class Network:
    """Hosts that send each other datagrams; each pair of hosts has a link a direction."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int, conditions: Conditions | None = None) -> None:
        self._loop = loop
        self._seed = seed
        self._conditions = conditions or Conditions()
        self._links: dict[tuple[str, str], Link[Datagram]] = {}
        self._armed: dict[int, float] = {}
        """By link, when it is looked at next."""
        self._sockets: dict[Address, Socket] = {}
        self._next_port = 40_000
        self.unreachable = 0
        """Datagrams to an address where nobody listens."""

    def link(self, source: str, destination: str) -> Link[Datagram]:
        """The link from one host to another."""
        if (source, destination) not in self._links:
            rng = random.Random(f"{self._seed} {source} {destination}")
            self._links[source, destination] = Link(self._conditions, rng)
        return self._links[source, destination]

    def open(self, protocol_factory: Callable[[], P], local: Address) -> tuple[Socket, P]:
        """What `loop.create_datagram_endpoint` is in the real world; port 0 is any free one."""
        host, port = local
        if port == 0:
            port, self._next_port = self._next_port, self._next_port + 1
        if (host, port) in self._sockets:
            raise OSError(f"{host}:{port} is in use")
        protocol = protocol_factory()
        socket = Socket(self, (host, port), protocol)
        self._sockets[host, port] = socket
        protocol.connection_made(socket)
        return socket, protocol

    def send(self, data: bytes, source: Address, destination: Address) -> None:
        """Put a datagram on its way; it is handed over by the loop's clock."""
        link = self.link(source[0], destination[0])
        link.send(Datagram(source, destination, data), self._loop.time())
        self._arm(link)

    def _arm(self, link: Link[Datagram]) -> None:
        """One timer a link: a timer for each datagram that set the next one in its turn would soon be thousands."""
        arrival, armed = link.next_arrival(), self._armed.get(id(link))
        if arrival is not None and (armed is None or arrival < armed):
            self._armed[id(link)] = arrival
            self._loop.call_at(arrival, self._arrive, link, arrival)

    def _arrive(self, link: Link[Datagram], arrival: float) -> None:
        if self._armed.get(id(link)) != arrival:
            return  # something overtook what this was for
        del self._armed[id(link)]
        for datagram in link.deliver(self._loop.time()):
            socket = self._sockets.get(datagram.destination)
            if socket is None:
                self.unreachable += 1
            else:
                socket.protocol.datagram_received(datagram.data, datagram.source)
        self._arm(link)

    def forget(self, address: Address) -> None:
        """A socket was closed."""
        self._sockets.pop(address, None)


class Socket(asyncio.DatagramTransport):
    """One endpoint."""

    def __init__(self, network: Network, address: Address, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__({"sockname": address})
        self._network = network
        self.address = address
        self.protocol = protocol
        self._closing = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        if not self._closing:
            self._network.send(bytes(data), self.address, cast("Address", addr))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._network.forget(self.address)
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing
