"""Every stage of the tick by itself, in microseconds of CPU a leg-frame.

    python -m benchmarks.stages [--rows 30 300 1200] [--ticks 60] [--stages mix tap] [--json]

Each stage works on all rows at once, as in the plane, warm and alone; in a running plane (`benchmarks.plane`) others
have taken its data out of the caches meanwhile. The least and the median of many ticks. What is not done in every tick
is counted a piece: reports of RTCP, counters for the control plane, consent checks of softphones. Opus is measured on
30 rows at most, since its cost a row is always the same.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.codecs import speech
from benchmarks.measuring import Stage, Work, measure
from benchmarks.seldom import SELDOM
from mixer.frame import SAMPLES_A_TICK, Rate
from mixer.levels import Levels
from mixer.limiter import Limiter
from mixer.mix import Mixer
from mixer.resample import Resampler
from recorder.tap import TapForm, TapTable
from relay.codecs import g711, opus
from relay.media import SrtpKey
from relay.plane.concealment import Concealment
from relay.plane.endpoints import Endpoints
from relay.plane.jitter import JitterBuffers, Placement
from relay.plane.opus_stream import OpusStream
from relay.plane.packets import PacketTable, endpoint_key
from relay.plane.reception import Reception
from relay.plane.rings import PayloadRings
from relay.plane.rtp import classify, header_words, payload_bounds, write_headers
from relay.plane.sockets import UdpSockets
from relay.plane.srtp import RowCrypto, SrtpContext

OPUS_ROWS_MAX = 30
KEY = SrtpKey("AES_CM_128_HMAC_SHA1_80", bytes(range(30)))


# ---- from the sockets to the jitter buffer


def packets(rows: int) -> PacketTable:
    """A table of G.711 packets as they come."""
    table = PacketTable(rows)
    table.endpoint[:] = [endpoint_key(0, ("127.0.0.1", 10_000 + row)) for row in range(rows)]
    head(table, rows, 0)()
    table.length[:] = 172
    return table


def head(table: PacketTable, rows: int, first: int) -> Callable[[], None]:
    """Headers, one sequence number after another."""
    numbers = iter(range(first, 1 << 30))
    ssrc = np.arange(rows, dtype=np.uint32) + 1000
    second = np.zeros(rows, np.uint8)

    def tick() -> None:
        number = next(numbers)
        sequence = np.full(rows, number & 0xFFFF, np.uint16)
        write_headers(
            table,
            rows,
            second=second,
            sequence=sequence,
            timestamp=np.full(rows, number * 160 & 0xFFFFFFFF, np.uint32),
            ssrc=ssrc,
        )

    return tick


def receive(rows: int, stack: ExitStack) -> Work:
    """From the kernel, its share included."""
    sockets, table = UdpSockets(), PacketTable(rows)
    stack.callback(sockets.close)
    sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender.connect(sockets.addresses[0])

    def before() -> None:
        for _ in range(rows):
            sender.send(bytes(182))

    def tick() -> None:
        assert sockets.receive(table, 0.0) == rows, "loopback loses nothing"

    return Work(tick, before)


def send(rows: int, stack: ExitStack) -> Work:
    """To the kernel, its share included, and loopback's delivery to sockets that are full."""
    sockets, table = UdpSockets(), packets(rows)
    stack.callback(sockets.close)
    sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sink.bind(("127.0.0.1", 0))
    table.endpoint[:] = endpoint_key(0, sink.getsockname())
    table.length[:] = 182
    return Work(lambda: sockets.send(table, rows))


def demux(rows: int, _: ExitStack) -> Work:
    """Kinds of datagrams, and whose they are."""
    table, endpoints = packets(rows), Endpoints()
    for row, endpoint in enumerate(table.endpoint.tolist()):
        endpoints.put(endpoint, row)
    return Work(lambda: (classify(header_words(table, rows), table.length), endpoints.find(table.endpoint)))


def unprotect(rows: int, _: ExitStack) -> Work:
    """AES-CM with HMAC-SHA1 of 80 bits."""
    table = packets(rows)
    crypto, advance = RowCrypto(table), head(table, rows, 1)
    outbound = [SrtpContext(KEY, inbound=False) for _ in range(rows)]
    inbound = [SrtpContext(KEY, inbound=True) for _ in range(rows)]

    def before() -> None:
        table.length[:] = 172
        advance()
        crypto.protect(range(rows), [context.handle for context in outbound])

    def tick() -> None:
        assert not any(crypto.unprotect(range(rows), [context.handle for context in inbound])), "all are authentic"

    return Work(tick, before)


def protect(rows: int, _: ExitStack) -> Work:
    """The same the other way."""
    table = packets(rows)
    crypto, advance = RowCrypto(table), head(table, rows, 1)
    contexts = [SrtpContext(KEY, inbound=False) for _ in range(rows)]

    def before() -> None:
        table.length[:] = 172
        advance()

    return Work(lambda: crypto.protect(range(rows), [context.handle for context in contexts]), before)


def parse(rows: int, _: ExitStack) -> Work:
    """Where payloads lie, and what is counted of each leg's stream."""
    table, reception = packets(rows), Reception(rows)
    legs, timed = np.arange(rows), np.ones(rows, np.bool_)
    advance = head(table, rows, 1)
    for leg in range(rows):
        reception.open(leg)

    def before() -> None:
        advance()
        table.arrival[:] += 0.02

    def tick() -> None:
        words = header_words(table, rows)
        reception.receive(legs, words[:, 0].astype(np.uint16), words[:, 1], table.arrival, timed)
        payload_bounds(table, legs, words)

    return Work(tick, before)


class Buffers:
    """Jitter buffers with a packet a tick and leg."""

    def __init__(self, rows: int) -> None:
        self.legs = np.arange(rows)
        self.jitter = JitterBuffers(rows)
        self.rings = PayloadRings(rows, self.jitter.settings.slots)
        self._table = packets(rows)
        self._timestamps = np.zeros(rows, np.uint32)
        self._durations = np.full(rows, 160, np.int32)
        self._ages = np.full(rows, 5.0)
        self._offsets = np.full(rows, 12, np.int32)
        for leg in range(rows):
            self.jitter.open(leg, 160)

    def put(self) -> Placement:
        """A packet of every leg."""
        self._timestamps += np.uint32(160)
        placement = self.jitter.place(self.legs, self._timestamps, self._durations, self._ages)
        self.rings.put(self.legs, placement, self._table, self.legs, self._offsets)
        return placement

    def take(self) -> object:
        """The slot that plays."""
        slots = self.jitter.take(self.legs)
        self.jitter.end_tick(self.legs)
        return self.rings.take(slots.places)


def jitter_in(rows: int, _: ExitStack) -> Work:
    """Find each packet's place, and copy its payload there."""
    buffers = Buffers(rows)
    return Work(buffers.put, buffers.take)


def jitter_out(rows: int, _: ExitStack) -> Work:
    """The slot that plays of every leg."""
    buffers = Buffers(rows)
    return Work(buffers.take, buffers.put)


# ---- from payloads to sound and back


def frames(rows: int, rate: Rate = 8000, loudness: float = 2000) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Noise."""
    return np.random.default_rng(1).normal(0, loudness, (rows, SAMPLES_A_TICK[rate])).astype(np.float32)


def decode_g711(law: g711.Law) -> Stage:
    """By table."""

    def made(rows: int, _: ExitStack) -> Work:
        codes = np.random.default_rng(1).integers(0, 256, (rows, 160), np.uint8)
        out = np.zeros((rows, 160), np.float32)
        return Work(lambda: g711.decode(law, codes, out))

    return made


def encode_g711(law: g711.Law) -> Stage:
    """By table."""

    def made(rows: int, _: ExitStack) -> Work:
        sound, out = frames(rows).astype(np.int16), np.zeros((rows, 160), np.uint8)
        return Work(lambda: g711.encode(law, sound, out))

    return made


def decode_opus(rows: int, _: ExitStack) -> Work:
    """48 kHz at 48 kHz, with the keeping of packets."""
    rows = min(rows, OPUS_ROWS_MAX)
    encoder, coded = opus.OpusEncoder(48000), np.zeros(opus.PAYLOAD_BYTES_MAX, np.uint8)
    payloads = cycle([bytes(coded[: encoder.encode(frame, coded)]) for frame in speech(48000)])
    streams, out = [OpusStream() for _ in range(rows)], np.zeros((rows, 960), np.int16)
    halves = iter(range(0, 1 << 30, 2))

    def tick() -> None:
        half, payload = next(halves), next(payloads)
        for row, stream in enumerate(streams):
            stream.put(half, payload)
            stream.take(half, 0x0101, out[row])

    return Work(tick, rows=rows)


def encode_opus(rows: int, _: ExitStack) -> Work:
    """48 kHz, 32 kbit/s, complexity 5: the product's defaults."""
    rows = min(rows, OPUS_ROWS_MAX)
    encoders = [opus.OpusEncoder(48000, 32_000, 5) for _ in range(rows)]
    sounds, out = cycle(speech(48000)), np.zeros(opus.PAYLOAD_BYTES_MAX, np.uint8)

    def tick() -> None:
        sound = next(sounds)
        for encoder in encoders:
            encoder.encode(sound, out)

    return Work(tick, rows=rows)


def conceal(rows: int, _: ExitStack) -> Work:
    """Every leg misses its first packet."""
    concealment, legs, last = Concealment(rows), np.arange(rows), frames(rows)
    return Work(lambda: concealment.conceal(legs, last), lambda: concealment.run.fill(0))


def recover(rows: int, _: ExitStack) -> Work:
    """Every leg's first packet after that."""
    concealment, legs, sound = Concealment(rows), np.arange(rows), frames(rows)
    return Work(lambda: concealment.recover(legs, sound), lambda: concealment.run.fill(1))


def tap(rows: int, _: ExitStack) -> Work:
    """A track a leg, amortised over chunks only in the median."""
    form, taps = TapForm("pcmu", 8000), TapTable(rows_max=rows)
    indices = np.array([taps.open("contact", f"track{row}", form).index for row in range(rows)])
    codes, concealed = np.zeros((rows, 160), np.uint8), np.zeros(rows, np.bool_)
    ticks = iter(range(1 << 30))

    def tick() -> None:
        number = next(ticks)
        taps.write(form, indices, codes, number, concealed=concealed)
        taps.collect(number)

    return Work(tick)


def levels(rows: int, _: ExitStack) -> Work:
    """One direction."""
    meter, legs, sound = Levels(rows), np.arange(rows), frames(rows)
    return Work(lambda: meter.measure(legs, sound))


def resample(source: Rate, target: Rate) -> Stage:
    """All rows."""

    def made(rows: int, _: ExitStack) -> Work:
        resampler, legs = Resampler(source, target, rows), np.arange(rows)
        before, after = frames(rows, source), np.zeros((rows, SAMPLES_A_TICK[target]), np.float32)
        return Work(lambda: resampler.process(before, legs, after))

    return made


def mix(rows: int, _: ExitStack) -> Work:
    """Conferences of three, everyone talking; the limiter's look included."""
    mixer = Mixer(rows)
    mixer.pcm[8000][:rows] = frames(rows)
    for row in range(rows):
        mixer.set_rate(row, 8000)
    for first in range(0, rows - 2, 3):
        three = range(first, first + 3)
        mixer.set_conference(first, three, three, 1 - np.eye(3))
    return Work(mixer.mix, mixer.begin_tick)


def limiter(loudness: float) -> Stage:
    """Sums that exceed full scale, or not."""

    def made(rows: int, _: ExitStack) -> Work:
        limiting, legs, sums = Limiter(rows), np.arange(rows), frames(rows, loudness=loudness)
        work = sums.copy()
        return Work(lambda: limiting.apply(8000, work, legs), lambda: np.copyto(work, sums))

    return made


def headers(rows: int, _: ExitStack) -> Work:
    """Of RTP."""
    return Work(head(PacketTable(rows), rows, 1))


STAGES: dict[str, Stage] = {
    "receive": receive,
    "demux": demux,
    "unprotect": unprotect,
    "parse": parse,
    "jitter in": jitter_in,
    "jitter out": jitter_out,
    "decode PCMU": decode_g711("PCMU"),
    "decode PCMA": decode_g711("PCMA"),
    "decode Opus 48 kHz": decode_opus,
    "conceal": conceal,
    "recover": recover,
    "tap": tap,
    "levels": levels,
    "resample 8 to 48 kHz": resample(8000, 48000),
    "resample 48 to 8 kHz": resample(48000, 8000),
    "mix": mix,
    "limiter, nothing to limit": limiter(2000),
    "limiter, every sum": limiter(20_000),
    "encode PCMU": encode_g711("PCMU"),
    "encode PCMA": encode_g711("PCMA"),
    "encode Opus 48 kHz": encode_opus,
    "headers": headers,
    "protect": protect,
    "send": send,
    **SELDOM,
}


def main() -> None:
    """Print a table, or one JSON object a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[30, 300, 1200])
    parser.add_argument("--ticks", type=int, default=60)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="STAGE")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not given.json:
        print("µs of CPU a leg-frame, the least and the median of", given.ticks, "ticks")
        print(f"{'rows':28}" + "".join(f"{rows:>18}" for rows in given.rows))
    for stage in given.stages:
        costs = {rows: measure(STAGES[stage], rows, given.ticks) for rows in given.rows}
        if given.json:
            told = {str(rows): {"min": cost.least, "median": cost.median} for rows, cost in costs.items()}
            print(json.dumps({"stage": stage, "us": told}))
        else:
            print(f"{stage:28}" + "".join(f"{cost.least:9.3f}{cost.median:9.3f}" for cost in costs.values()))


if __name__ == "__main__":
    main()
