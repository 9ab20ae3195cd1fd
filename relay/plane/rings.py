"""The payload rings of G.711 legs: companded samples at the places that `relay.plane.jitter` gives them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relay.plane.jitter import Placement
from relay.plane.packets import Bytes, PacketTable, Rows
from relay.plane.rtp import HEADER_BYTES

SLOT_BYTES = 160
HALF_BYTES = 80


class PayloadRings:
    """A ring of 20 ms slots a leg; what is filled and what plays when is known to `JitterBuffers` alone."""

    def __init__(self, legs_max: int, slots: int) -> None:
        self._slots: Bytes = np.zeros((legs_max * slots, SLOT_BYTES), np.uint8)
        self._halves = self._slots.reshape(legs_max, slots * 2, HALF_BYTES)
        self._mask = slots * 2 - 1

    def put(self, legs: Rows, placement: Placement, table: PacketTable, rows: Rows, offsets: NDArray[np.int32]) -> None:
        """Copy the payloads of placed packets; `legs`, ascending `rows` and `offsets` are of the whole batch."""
        kept = placement.kept
        if kept.size < legs.size:
            legs, rows, offsets = legs[kept], rows[kept], offsets[kept]
        if not rows.size:
            return
        if placement.all_whole and offsets.max() == HEADER_BYTES:
            # Most ticks: one copy, and if the table holds nothing else, even from one stretch of it.
            stretch = slice(0, rows.size) if rows[-1] == rows.size - 1 else rows
            self._slots[placement.places] = table.data[stretch, HEADER_BYTES : HEADER_BYTES + SLOT_BYTES]
            return
        whole = (placement.places >= 0) & (offsets == HEADER_BYTES)
        self._slots[placement.places[whole]] = table.data[rows[whole], HEADER_BYTES : HEADER_BYTES + SLOT_BYTES]
        for i in np.flatnonzero(~whole).tolist():
            self._put_halves(int(legs[i]), int(placement.half[i]), int(placement.halves[i]), table, rows[i], offsets[i])

    def take(self, places: Rows) -> Bytes:
        """A copy of some slots, by their places in the rings of all legs as one."""
        return self._slots.take(places, axis=0)

    def _put_halves(self, leg: int, half: int, halves: int, table: PacketTable, row: int, offset: int) -> None:
        payload = table.data[row, offset : offset + halves * HALF_BYTES].reshape(halves, HALF_BYTES)
        self._halves[leg, np.arange(half, half + halves) & self._mask] = payload
