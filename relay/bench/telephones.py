"""The telephones of a benchmark, all in one process: every millisecond some of them send, and all are listened to."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay.bench import machine
from relay.bench.hearing import FRAME, Hearing
from relay.bench.packets import Packets
from relay.bench.processes import heard, tell
from relay.bench.sounds import FRAMES_A_SECOND, g711_law
from relay.bench.wire import Received, Sender, Wire
from relay.bench.work import BUSY_WARM_UP_SECONDS, SSRC_OF_RELAY, WARM_UP_SECONDS, Work
from relay.codecs import g711
from relay.codecs.opus import OpusDecoder
from relay.errors import RelayError
from relay.media import TICK_SECONDS, Address
from relay.plane.rtp import HEADER_BYTES
from relay.plane.srtp import RowCrypto, SrtpContext

PHASES: Final = 20
"""Moments of a tick, a millisecond apart, at which legs send: telephones do not know of one another."""
_SPREAD: Final = 7
"""Neighbours, who share a conference, send at different moments."""
_LISTEN_PHASES: Final = 4
LEGS_A_SOCKET: Final = 128
JOIN_SECONDS_MAX: Final = 6.0
"""By then every leg must have heard something."""
TAIL_SECONDS: Final = 1.4
"""After the window, for the last judgement of all."""
JUDGE_AFTER_TICKS: Final = 55
JUDGE_EVERY_TICKS: Final = 60
"""Each leg's last second is judged so often."""
_TICK_NS: Final = 20_000_000


@dataclass(slots=True)
class Count:
    """What one run counted within the window."""

    received: int = 0
    refused: int = 0
    """Packets that did not authenticate, or were not what was negotiated."""
    late_ms: list[float] = field(default_factory=list[float])


class Ears:
    """Decrypts and decodes what comes for the legs."""

    def __init__(self, work: Work, wire: Wire) -> None:
        self._work = work
        self._table = wire.table
        self._crypto = RowCrypto(wire.table)
        self._contexts: list[SrtpContext] = [
            SrtpContext(key, inbound=True) for leg in range(work.legs) if (key := work.key_of_relay(leg)) is not None
        ]
        self._decoders = [OpusDecoder(8000) for _ in range(work.legs)] if work.codec == "opus" else []
        self._frames = np.zeros((wire.table.rows, FRAME), np.int16)
        self.refused = 0

    def take(self, batch: Received) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int16]]:
        """The rows of a batch that hold sound, their legs, and the sound."""
        header = self._table.header[: batch.count]
        legs = header["ssrc"].astype(np.int64) - SSRC_OF_RELAY
        media = (header["second"] & 0x7F) == self._work.offered.payload_type
        rows = np.flatnonzero(media & (legs >= 0) & (legs < self._work.legs))
        legs = legs[rows].astype(np.intp)
        if self._contexts:
            statuses = self._crypto.unprotect(rows.tolist(), [self._contexts[int(leg)].handle for leg in legs])
            good = np.array(statuses, np.int64) == 0
            self.refused += int(np.count_nonzero(~good))
            rows, legs = rows[good], legs[good]
        return self._decode(rows, legs)

    def _decode(
        self, rows: NDArray[np.intp], legs: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int16]]:
        frames = self._frames[: rows.size]
        if self._decoders:
            good = np.array(
                [
                    self._decoded(row, leg, out)
                    for row, leg, out in zip(rows.tolist(), legs.tolist(), frames, strict=True)
                ],
                np.bool_,
            )
        else:
            good = self._table.length[rows] == HEADER_BYTES + FRAME
            g711.decode_int16(g711_law(self._work), self._table.data[rows, HEADER_BYTES : HEADER_BYTES + FRAME], frames)
        if not good.all():
            self.refused += int(np.count_nonzero(~good))
            return rows[good], legs[good], frames[good]
        return rows, legs, frames

    def _decoded(self, row: int, leg: int, out: NDArray[np.int16]) -> bool:
        size = int(self._table.length[row]) - HEADER_BYTES
        return self._decoders[leg].decode(self._table.data[row, HEADER_BYTES:], size, out) == FRAME


class Telephones:
    """All legs of a benchmark."""

    def __init__(self, work: Work) -> None:
        self._work = work
        phase = np.arange(work.legs, dtype=np.intp) * _SPREAD % PHASES
        self._phase = phase
        self._order = np.argsort(phase, kind="stable").astype(np.intp)
        self._bounds = np.searchsorted(phase[self._order], np.arange(PHASES + 1)).tolist()
        self._socket_count = min(PHASES, -(-work.legs // LEGS_A_SOCKET))
        self._wire = Wire(self._socket_count)
        self.addresses: list[Address] = [
            self._wire.address(leg, int(phase[leg]) % self._socket_count) for leg in range(work.legs)
        ]
        seconds = JOIN_SECONDS_MAX + WARM_UP_SECONDS + work.windows * (work.seconds + TAIL_SECONDS) + 0.1
        seconds += (work.windows - 1) * BUSY_WARM_UP_SECONDS
        self._ticks = int(seconds * FRAMES_A_SECOND)
        self._packets: Packets | None = None
        self._ears = Ears(work, self._wire)
        self._hearing = Hearing(work, self._ticks, PHASES)
        self._base = np.full(work.legs, -1, np.int64)
        """The RTP timestamp of each leg's first packet."""
        self._count = Count()
        self._window_ns = (0, 0)
        self._relay_phase: list[float] = []
        self._begun = 0.0
        self._begun_ns = 0

    def prepare(self) -> None:
        """Make the packets."""
        self._packets = Packets(
            self._work,
            self._ticks,
            self._order,
            lambda share: tell(progress=f"packets of {self._work.legs} legs: {share:.0%} encrypted"),
        )

    def run(self, relay: Address) -> None:
        """Call, warm up, be measured once or twice, and say what came of it."""
        assert self._packets is not None, "prepared before"
        sources: list[Address] = [self.addresses[int(leg)] for leg in self._order]
        sender = self._wire.sender(self._packets, sources, relay)
        gc.collect()
        gc.freeze()
        gc.disable()
        self._begun_ns, self._begun = time.time_ns(), time.monotonic()
        tick = self._join(sender)
        warm_up = WARM_UP_SECONDS
        for _ in range(self._work.windows):
            tick = self._pass(sender, tick, int(warm_up * FRAMES_A_SECOND))
            tick = self._measure(sender, tick)
            self._hearing.forget(np.arange(self._work.legs))
            tick = self._pass(sender, tick, int(TAIL_SECONDS * FRAMES_A_SECOND))
            self._hearing.judge(np.arange(self._work.legs))
            tell(result=self._result(sender))
            warm_up = BUSY_WARM_UP_SECONDS

    def _join(self, sender: Sender) -> int:
        tick = 0
        while (self._base < 0).any():
            if tick >= int(JOIN_SECONDS_MAX * FRAMES_A_SECOND):
                tell(progress=f"{np.count_nonzero(self._base < 0)} legs hear nothing")
                break
            self._tick(sender, tick)
            tick += 1
        return tick

    def _pass(self, sender: Sender, first: int, count: int) -> int:
        for tick in range(first, first + count):
            self._tick(sender, tick)
        return first + count

    def _measure(self, sender: Sender, first: int) -> int:
        """The window begins and ends between two bursts of the relay, so that it holds whole ticks."""
        quiet = _opposite(self._relay_phase)
        start = self._begun_ns + first * _TICK_NS
        start += (quiet - start) % _TICK_NS
        ticks = round(self._work.seconds * FRAMES_A_SECOND)
        self._window_ns = start, start + ticks * _TICK_NS
        self._hearing.begin()
        self._count = Count()
        self._ears.refused = 0
        tell(window="begin")
        for tick in range(first, first + ticks + 1):
            self._tick(sender, tick)
            if tick - first >= JUDGE_AFTER_TICKS:
                self._judge(tick - first)
        tell(window="end")
        return first + ticks + 1

    def _judge(self, tick: int) -> None:
        """In turn, all legs in `JUDGE_EVERY_TICKS`."""
        place, legs = tick % JUDGE_EVERY_TICKS, self._work.legs
        turn = np.arange(place * legs // JUDGE_EVERY_TICKS, (place + 1) * legs // JUDGE_EVERY_TICKS)
        if turn.size:
            self._hearing.judge(turn)

    def _tick(self, sender: Sender, tick: int) -> None:
        sender.begin_tick(tick)
        for phase in range(PHASES):
            due = self._begun + (tick + phase / PHASES) * TICK_SECONDS
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            self._hearing.sent_ns[tick, phase] = time.time_ns()
            sender.send(phase % self._socket_count, self._bounds[phase], self._bounds[phase + 1])
            if phase == 0:
                self._count.late_ms.append((time.monotonic() - due) * 1000)
            if phase % _LISTEN_PHASES == 0:
                self._listen()

    def _listen(self) -> None:
        for batch in self._wire.receive():
            rows, legs, frames = self._ears.take(batch)
            if rows.size:
                self._hear(batch.arrivals_ns[rows], rows, legs, frames)

    def _hear(
        self, arrivals: NDArray[np.int64], rows: NDArray[np.intp], legs: NDArray[np.intp], frames: NDArray[np.int16]
    ) -> None:
        timestamps = self._wire.table.header["timestamp"][rows].astype(np.int64)
        unknown = self._base[legs] < 0
        if unknown.any():
            self._base[legs[unknown]] = timestamps[unknown]
        places = ((timestamps - self._base[legs]) & 0xFFFFFFFF) // (self._work.rate // FRAMES_A_SECOND)
        marked = self._hearing.hear(legs, places, frames)
        begin, end = self._window_ns
        within = (arrivals >= begin) & (arrivals < end)
        self._count.received += int(np.count_nonzero(within))
        if not end:
            self._relay_phase.append(float(arrivals[0] % _TICK_NS))
        timed = marked & within
        if timed.any():
            ticks = (arrivals[timed] - self._begun_ns) // _TICK_NS
            self._hearing.time(legs[timed], self._phase, arrivals[timed], ticks)

    def _result(self, sender: Sender) -> dict[str, Any]:
        begin, end = self._window_ns
        within = (self._hearing.sent_ns >= begin) & (self._hearing.sent_ns < end)
        sent = int((within.sum(axis=0) * np.diff(self._bounds)).sum())
        delays = self._hearing.delays()
        late = np.percentile(self._count.late_ms, [50, 99])
        return {
            "sent": sent,
            "received": self._count.received,
            "refused": self._ears.refused,
            "unsent": sender.refused,
            "content_ok_legs": int(np.count_nonzero(self._hearing.good)),
            "judgements": int(self._hearing.judgements.sum()),
            "mouth_to_ear_ms": {"p50": delays.p50, "p99": delays.p99},
            "marks": delays.count,
            "dropped": machine.dropped_datagrams(frozenset(port for _, port in self.addresses)),
            "load_late_ms": {"p50": round(float(late[0]), 2), "p99": round(float(late[1]), 2)},
        }


def _opposite(phases: list[float]) -> int:
    """The moment of a tick that is furthest from when the relay sends."""
    turns = np.exp(2j * np.pi * np.array(phases or [0.0]) / _TICK_NS).mean()
    return int((np.angle(turns) / (2 * np.pi) + 0.5) % 1.0 * _TICK_NS)


def main() -> None:
    """What the benchmark's own process does."""
    try:
        telephones = Telephones(Work.parse(heard()["work"]))
        tell(addresses=telephones.addresses)
        telephones.prepare()
        tell(prepared=True)
        host, port = heard()["relay"]
        telephones.run((host, port))
    except RelayError as error:
        tell(error=str(error))


if __name__ == "__main__":
    main()
