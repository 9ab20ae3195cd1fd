"""Symmetric RTP that cannot be stolen: a stranger's packet finds its leg by authentication, never by address alone.

A packet from an unknown address is tried against the keys of legs on that socket that have not been heard yet, or not
for a second (an address translator changed its mind), or for which signalling named that very address. Only what
authenticates makes its source the leg's address. Trials cost a microsecond each, so they are rationed by tick, and a
source that failed is not tried again for a while.

Plain RTP has nothing to authenticate. Its leg accepts the address that signalling named, and, until something was
heard there, one other port of the same host (an address translator in front of an honest peer): this is why plain
trunks are only for those whom the operator names.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from relay.plane.endpoints import UNKNOWN, Endpoints
from relay.plane.hosts import PeerHosts
from relay.plane.legs import Leg, LegTable
from relay.plane.packets import PacketTable, Rows, endpoint_socket, host_column
from relay.plane.srtp import SrtpContext


@dataclass(frozen=True, slots=True)
class LatchSettings:
    """How much strangers may cost."""

    trials_per_tick_max: int = 256
    """Keys tried in a tick, over all strangers."""
    trials_per_packet_max: int = 64
    """Keys tried for one packet; the next packet goes on where this one stopped."""
    sources_per_tick_max: int = 32
    """Strangers of whom one packet is looked at, those that signalling named first."""
    retry_seconds: float = 0.1
    """How soon a source that failed is tried again."""
    sources_max: int = 4096
    """Failed sources that are remembered."""
    silent_seconds: float = 1.0
    """A leg that was heard more recently keeps its address."""


@dataclass(slots=True)
class LatchCounters:
    """What became of strangers' packets."""

    trials: int = 0
    latched: int = 0
    refused: int = 0
    """Packets that no key opened."""
    rationed: int = 0
    """Packets that were not tried."""


class Latching:
    """Gives strangers' packets to the legs that they authenticate for."""

    def __init__(
        self, legs: LegTable, endpoints: Endpoints, hosts: PeerHosts, settings: LatchSettings | None = None
    ) -> None:
        self.counters = LatchCounters()
        self._legs = legs
        self._endpoints = endpoints
        self._hosts = hosts
        self._settings = settings or LatchSettings()
        self._failed: dict[int, float] = {}
        self._trials_left = 0
        self._next = 0

    def adopt(self, table: PacketTable, rows: Rows, now: float) -> list[tuple[int, Leg]]:
        """Try strangers' RTP packets, one of each source; those that found their leg hold the plain packet now."""
        endpoints, first = np.unique(table.endpoint[rows], return_index=True)
        named = np.isin(endpoints, self._legs.named[self._legs.open])
        # The latest first: a leg follows one source in a tick, and a peer that moved is where it was heard last.
        order = np.lexsort((-table.arrival[rows[first]], ~named))[: self._settings.sources_per_tick_max]
        self.counters.rationed += endpoints.size - order.size
        self._trials_left = self._settings.trials_per_tick_max
        found: dict[int, int] = {}
        for i in order.tolist():
            row = int(rows[first[i]])
            leg = self._find(table, row, found, is_named=bool(named[i]), now=now)
            if leg is not None:
                found[leg.row] = row
        return [(row, self._legs.leg(leg)) for leg, row in found.items()]

    def latch(self, leg: Leg, endpoint: int) -> None:
        """A leg's packets come from an endpoint from now on, and are answered there."""
        self._hosts.keep(endpoint)
        if leg.endpoint:
            self._endpoints.remove(leg.endpoint, leg.row)
        before = self._endpoints.put(endpoint, leg.row)
        if before not in {UNKNOWN, leg.row}:
            self._legs.leg(before).endpoint = 0
        leg.endpoint = endpoint
        self._legs.remote[leg.row] = endpoint

    def trust(self, leg: Leg, endpoint: int) -> None:
        """An endpoint that ICE or, for plain RTP, signalling vouches for; plain RTP takes none from another leg."""
        owner = self._endpoints.owner(endpoint)
        if leg.inbound is not None or owner in {UNKNOWN, leg.row}:
            self.latch(leg, endpoint)

    def forget(self, leg: Leg) -> None:
        """A leg closes."""
        for endpoint in (leg.endpoint, leg.report_endpoint):
            self._endpoints.remove(endpoint, leg.row)

    def _find(self, table: PacketTable, row: int, found: Container[int], *, is_named: bool, now: float) -> Leg | None:
        endpoint, ssrc = int(table.endpoint[row]), int(table.header["ssrc"][row])
        if self._trials_left <= 0 or (not is_named and self._failed.get(endpoint, -1.0) > now):
            self.counters.rationed += 1
            return None
        packet = table.datagram(row)
        for candidate in self._candidates(endpoint, ssrc, now):
            if candidate in found or not self._legs.has_room(candidate, ssrc):
                continue
            leg = self._legs.leg(candidate)
            plain = packet if leg.inbound is None else self._try(leg.inbound, packet)
            if plain is not None:
                table.put(row, plain, endpoint, float(table.arrival[row]))
                self.counters.latched += 1
                return leg
        self.counters.refused += 1
        self._remember_failure(endpoint, now)
        return None

    def _try(self, inbound: SrtpContext, packet: bytes) -> bytes | None:
        self._trials_left -= 1
        self.counters.trials += 1
        return inbound.unprotect(packet)

    def _candidates(self, endpoint: int, ssrc: int, now: float) -> list[int]:
        """Legs that the packet may belong to, the likeliest first, as many as the ration allows."""
        legs = self._legs
        named = legs.named == np.uint64(endpoint)
        quiet = now - legs.heard >= self._settings.silent_seconds
        neighbour = np.isneginf(legs.heard) & (host_column(legs.named) == host_column(np.array([endpoint], np.uint64)))
        may_move = (legs.encrypted & (quiet | named)) | (~legs.encrypted & neighbour)
        rows = np.flatnonzero(legs.open & legs.latching & (legs.socket == endpoint_socket(endpoint)) & may_move)
        self._next += 1
        rows = np.roll(rows, self._next)
        likely = named[rows] | (legs.ssrc[rows] == ssrc)
        limit = min(self._trials_left, self._settings.trials_per_packet_max)
        ordered: list[int] = rows[np.argsort(~likely, kind="stable")][:limit].tolist()
        return ordered

    def _remember_failure(self, endpoint: int, now: float) -> None:
        if len(self._failed) >= self._settings.sources_max:
            self._failed.clear()
        self._failed[endpoint] = now + self._settings.retry_seconds
