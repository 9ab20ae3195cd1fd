"""The packets of a whole run, encrypted before it begins: sending them is then the kernel's work alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.bench.sounds import Voices, payload_bytes_max
from relay.bench.work import SSRC_OF_LEG, Work
from relay.errors import OperatorError
from relay.plane.packets import PacketTable
from relay.plane.rtp import HEADER_BYTES, write_headers
from relay.plane.srtp import RowCrypto, SrtpContext

TRAILER_BYTES: Final = 20
BYTES_MAX: Final = 4 << 30


class Packets:
    """`data[tick, slot]` and `length[tick, slot]`; slots are legs in the order in which they send within a tick."""

    def __init__(self, work: Work, ticks: int, legs: NDArray[np.intp], progress: Callable[[float], None]) -> None:
        bytes_max = payload_bytes_max(work)
        stride = -(-(HEADER_BYTES + bytes_max + TRAILER_BYTES) // 64) * 64
        if ticks * work.legs * stride > BYTES_MAX:
            raise OperatorError(
                f"the packets of {work.legs} legs for {ticks / 50:.0f} s would fill more than {BYTES_MAX >> 30} GB: "
                "fewer --seconds or --legs"
            )
        voices = Voices(work)
        self.data = np.empty((ticks, work.legs, stride), np.uint8)
        self.length = np.empty((ticks, work.legs), np.int32)
        contexts = [SrtpContext(key, inbound=False) for leg in legs.tolist() if (key := work.key_of_leg(leg))]
        table = PacketTable(work.legs, stride)
        crypto = RowCrypto(table)
        payload = np.zeros((work.legs, stride), np.uint8)
        for tick in range(ticks):
            lengths = voices.frame(tick, payload)
            table.data[:, HEADER_BYTES : HEADER_BYTES + bytes_max] = payload[legs, :bytes_max]
            table.length[:] = lengths[legs] + HEADER_BYTES
            self._head(work, table, tick, legs)
            if contexts:
                crypto.protect(range(work.legs), [context.handle for context in contexts])
            self.data[tick], self.length[tick] = table.data, table.length
            if tick % (ticks // 4) == 0:
                progress(tick / ticks)

    @staticmethod
    def _head(work: Work, table: PacketTable, tick: int, legs: NDArray[np.intp]) -> None:
        size = work.legs
        write_headers(
            table,
            size,
            second=work.payload_types[legs] | np.uint8(0x80 if tick == 0 else 0),
            sequence=np.full(size, tick & 0xFFFF, np.uint16),
            timestamp=(tick * work.timestamp_steps[legs] + legs * 1009).astype(np.uint32),
            ssrc=(SSRC_OF_LEG + legs).astype(np.uint32),
        )
