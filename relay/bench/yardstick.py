"""The yardstick of a benchmark: what the kernel and libsrtp alone cost for as many packets, in the same minute.

Every tick as many packets as there are legs are received, unprotected, protected and sent, in batches that C does, and
nothing else: no jitter buffer, no codec, no mixer. The machine's own speed wanders; a figure beside this one does not.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from relay.bench.packets import Packets
from relay.bench.processes import heard, tell
from relay.bench.wire import Wire
from relay.bench.work import Work
from relay.errors import RelayError
from relay.media import TICK_SECONDS
from relay.plane.packets import PacketTable
from relay.plane.sockets import UdpSockets
from relay.plane.srtp import RowCrypto, SrtpContext

TICKS: Final = 100
_WARM_TICKS: Final = 10


class Yardstick:
    """One process is both ends; only what stands for the relay is counted."""

    def __init__(self, work: Work) -> None:
        legs = np.arange(work.legs, dtype=np.intp)
        self._legs = work.legs
        self.relayed = 0
        """Packets that went through."""
        self._wire = Wire(1)
        self._sockets = UdpSockets()
        self._packets = Packets(work, TICKS + _WARM_TICKS, legs, lambda _: None)
        sources = [self._wire.address(leg, 0) for leg in range(work.legs)]
        self._sender = self._wire.sender(self._packets, sources, self._sockets.addresses[0])
        self._table = PacketTable(work.legs)
        self._crypto = RowCrypto(self._table)
        keys = [work.key_of_leg(leg) for leg in range(work.legs)]
        self._inbound = [SrtpContext(key, inbound=True) for key in keys if key]
        self._outbound = [SrtpContext(key, inbound=False) for key in keys if key]

    def run(self) -> float:
        """CPU milliseconds a leg-second."""
        spent = 0.0
        begun = time.monotonic()
        for tick in range(TICKS + _WARM_TICKS):
            self._sender.begin_tick(tick)
            self._sender.send(0, 0, self._legs)
            time.sleep(max(0.0, begun + (tick + 1) * TICK_SECONDS - time.monotonic()))
            before = time.thread_time()
            self._relay()
            if tick >= _WARM_TICKS:
                spent += time.thread_time() - before
            while self._wire.receive().count:
                pass
        return round(spent * 1000 / (self._legs * TICKS * TICK_SECONDS), 4)

    def close(self) -> None:
        """Give the ports back."""
        self._wire.close()
        self._sockets.close()

    def _relay(self) -> None:
        count = self._sockets.receive(self._table, 0.0)
        if self._inbound:
            self._crypto.unprotect(range(count), [context.handle for context in self._inbound[:count]])
            self._crypto.protect(range(count), [context.handle for context in self._outbound[:count]])
        self.relayed += count - self._sockets.send(self._table, count)


def main() -> None:
    """What the yardstick's process does."""
    try:
        tell(result=Yardstick(Work.parse(heard()["work"])).run())
    except RelayError as error:
        tell(error=str(error))


if __name__ == "__main__":
    main()
