"""The telephones of a benchmark, all in one process: some send every millisecond, and in between all listen."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay.bench import machine
from relay.bench.ears import Ears, Sound
from relay.bench.hearing import Hearing
from relay.bench.music import MusicHearing
from relay.bench.packets import Packets
from relay.bench.processes import heard, tell
from relay.bench.sounds import FRAMES_A_SECOND
from relay.bench.wire import BATCH, Sender, Wire
from relay.bench.work import BUSY_WARM_UP_SECONDS, WARM_UP_SECONDS, Work
from relay.errors import RelayError
from relay.media import TICK_SECONDS, Address

PHASES: Final = 20
"""Moments of a tick, a millisecond apart, at which legs send: telephones do not know of one another."""
_SPREAD: Final = 7
"""Neighbours, who share a conference, send at different moments."""
_LISTEN_PHASES: Final = 10
"""After so many phases all that has come is heard, batch by batch: the kernel has stamped it, so it may wait."""
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
    late_ms: list[float] = field(default_factory=list[float])
    """Of every burst."""
    cpu_seconds: float = 0.0
    seconds: float = 0.0


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
        self._ears = Ears(work, self._wire.table)
        self._hearing: Hearing | MusicHearing = (MusicHearing if work.queue else Hearing)(work, self._ticks, PHASES)
        self._base = np.full(work.legs, -1, np.int64)
        """The RTP timestamp of each leg's first packet."""
        self._count = Count()
        self._window_ns = (0, 0)
        self._waiting = True
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
        self._ears.begin()
        cpu, begun = time.process_time(), time.monotonic()
        tell(window="begin")
        for tick in range(first, first + ticks + 1):
            self._tick(sender, tick)
            if tick - first >= JUDGE_AFTER_TICKS:
                self._judge(tick - first)
        tell(window="end")
        self._count.cpu_seconds, self._count.seconds = time.process_time() - cpu, time.monotonic() - begun
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
            self._listen(due)
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            self._count.late_ms.append((time.monotonic() - due) * 1000)
            self._hearing.sent_ns[tick, phase] = time.time_ns()
            sender.send(phase % self._socket_count, self._bounds[phase], self._bounds[phase + 1])
            self._waiting |= phase % _LISTEN_PHASES == 0

    def _listen(self, due: float) -> None:
        """Hear what waits until something is due to be sent; one batch at least, or nothing would ever be heard."""
        while self._waiting:
            batch = self._wire.receive()
            self._waiting = batch.count == BATCH
            sound = self._ears.understand(batch.count)
            if sound.rows.size:
                self._hear(batch.arrivals_ns[sound.rows], sound)
            if time.monotonic() >= due:
                return

    def _hear(self, arrivals: NDArray[np.int64], sound: Sound) -> None:
        legs = sound.legs
        timestamps = self._wire.table.header["timestamp"][sound.rows].astype(np.int64)
        unknown = self._base[legs] < 0
        if unknown.any():
            self._base[legs[unknown]] = timestamps[unknown]
        places = ((timestamps - self._base[legs]) & 0xFFFFFFFF) // self._work.timestamp_steps[legs]
        marked = self._hearing.hear(legs, places, sound.frames, arrivals)
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
        exact = self._hearing.good & (self._ears.refused == 0)
        return {
            "sent": sent,
            "received": self._count.received,
            "refused": int(self._ears.refused.sum()),
            "authenticated_ratio": round(self._ears.authenticated / max(self._ears.understood, 1), 4),
            "unsent": sender.refused,
            "content_ok_legs": int(np.count_nonzero(exact)),
            "judgements": int(self._hearing.judgements.sum()),
            "mouth_to_ear_ms": {"p50": delays.p50, "p99": delays.p99} if delays.count else {"p50": None, "p99": None},
            "marks": delays.count,
            "delays": _counted(self._hearing.delays_ms()),
            "dropped": machine.dropped_datagrams(frozenset(port for _, port in self.addresses)),
            "load_late_ms": {"p50": round(float(late[0]), 2), "p99": round(float(late[1]), 2)},
            "load_cpu_ms_per_leg_second": round(
                self._count.cpu_seconds * 1000 / self._work.legs / self._count.seconds, 4
            ),
        }


def _counted(delays_ms: NDArray[np.float64]) -> list[tuple[float, int]]:
    """In buckets of a millisecond: upper edge and count of those that are not empty."""
    buckets, counts = np.unique(np.floor(delays_ms), return_counts=True)
    return list(zip((buckets + 1).tolist(), counts.tolist(), strict=True))


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
