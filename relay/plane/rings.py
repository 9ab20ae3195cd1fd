"""The payload rings of G.711 legs: companded samples at the places that `relay.plane.jitter` gives them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relay.plane.jitter import Placement
from relay.plane.packets import Bytes, PacketTable, Rows

SLOT_BYTES = 160
HALF_BYTES = 80


class PayloadRings:
    """A ring of 20 ms slots a leg; what is filled and what plays when is known to `JitterBuffers` alone."""

    def __init__(self, legs_max: int, slots: int) -> None:
        self._slots: Bytes = np.zeros((legs_max, slots, SLOT_BYTES), np.uint8)
        self._halves = self._slots.reshape(legs_max, slots * 2, HALF_BYTES)
        self._mask = slots * 2 - 1

    def put(self, legs: Rows, placement: Placement, table: PacketTable, rows: Rows, offsets: NDArray[np.int32]) -> None:
        """Copy the payloads of placed packets; `legs`, `rows` and `offsets` are of the whole batch."""
        kept = placement.kept
        legs, rows, offsets = legs[kept], rows[kept], offsets[kept]
        whole = (placement.halves == 2) & (placement.half & 1 == 0) & (offsets == 12)
        if whole.all():
            self._slots[legs, (placement.half & self._mask) >> 1] = table.data[rows, 12 : 12 + SLOT_BYTES]
            return
        plain = np.flatnonzero(whole)
        places = (placement.half[plain] & self._mask) >> 1
        self._slots[legs[plain], places] = table.data[rows[plain], 12 : 12 + SLOT_BYTES]
        for i in np.flatnonzero(~whole).tolist():
            self._put_halves(int(legs[i]), int(placement.half[i]), int(placement.halves[i]), table, rows[i], offsets[i])

    def take(self, legs: Rows, places: NDArray[np.int32]) -> Bytes:
        """A copy of one slot of each leg."""
        taken: Bytes = self._slots[legs, places]
        return taken

    def _put_halves(self, leg: int, half: int, halves: int, table: PacketTable, row: int, offset: int) -> None:
        payload = table.data[row, offset : offset + halves * HALF_BYTES].reshape(halves, HALF_BYTES)
        self._halves[leg, np.arange(half, half + halves) & self._mask] = payload
