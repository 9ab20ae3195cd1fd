"""CPU of a tick by stage, in microseconds a leg-frame: conferences of three, G.711, SRTP.

    python -m benchmarks.plane [--legs 30 150 300 600] [--seconds 6] [--sockets real|simulated] [--ipv6] [--record]
                                [--no-srtp]

The load is made before it is measured: packets of every leg are encrypted beforehand, and copied into the receive table
(simulated: ticks follow one another at once) or sent over loopback from one socket a leg (real: ticks keep their time;
the sender is a process of its own, on the other core). With real sockets the figure includes the kernel's share, as
`time.thread_time` counts it. Set OPENBLAS_NUM_THREADS=1, as the relay does.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import random
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pylibsrtp

from recorder.capture import Captured, Frames
from relay import media
from relay.codecs import g711
from relay.media import Address, Codec, ConferenceId, Gain, LegId, OpenLeg, SetCrosspoints, SrtpKey, Step
from relay.plane.hosts import PeerHosts
from relay.plane.packets import PacketTable
from relay.plane.plane import Plane
from relay.plane.sockets import SocketSettings, UdpSockets
from relay.plane.stages import PlaneSettings

WARM_TICKS = 50
SUITE: media.SrtpSuite = "AES_CM_128_HMAC_SHA1_80"
STAGES = (
    ("intake", "_sockets.receive", "receive"),
    ("intake", "endpoints.find", "find"),
    ("intake", "_authenticate", "unprotect"),
    ("intake", "_sort", "parse and jitter in"),
    ("playout", "play", "jitter out and decode"),
    ("taps", "write", "tap"),
    ("loudness", "measure_from", "levels"),
    ("loudness", "measure_heard", "levels"),
    ("conferences", "mix", "mix"),
    ("transmission", "_payloads.write", "encode"),
    ("transmission", "_head", "headers"),
    ("transmission", "_encrypt", "protect"),
    ("transmission", "_sockets.send", "send"),
    ("reports", "due_leg_reports", "reports"),
)


class Load:
    """Encrypted packets of all legs, tick after tick."""

    def __init__(self, legs: int, ticks: int, *, srtp: bool, ports: list[int], host: str = "127.0.0.1") -> None:
        self.addresses: list[Address] = [(host, port) for port in ports]
        self.keys = [SrtpKey(SUITE, random.Random(leg).randbytes(30)) if srtp else None for leg in range(legs)]
        self.packets = np.zeros((ticks, legs, 182 if srtp else 172), np.uint8)
        for leg in range(legs):
            self._fill(leg, ticks)

    def _fill(self, leg: int, ticks: int) -> None:
        key = self.keys[leg]
        outbound = key and pylibsrtp.Session(
            pylibsrtp.Policy(key=key.master, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        )
        tone = np.sin(2 * math.pi * (300 + 5 * (leg % 400)) / 8000 * np.arange(160 * 40)) * 6000
        codes = np.empty((40, 160), np.uint8)
        g711.encode("PCMU", np.rint(tone).astype(np.int16).reshape(40, 160), codes)
        for tick in range(ticks):
            plain = struct.pack("!BBHII", 0x80, 0, tick & 0xFFFF, tick * 160, 9000 + leg) + codes[tick % 40].tobytes()
            packet = outbound.protect(plain) if outbound else plain
            self.packets[tick, leg] = np.frombuffer(packet, np.uint8)


class SimulatedSockets:
    """Hands over a tick's packets at once; costs one copy, which is counted as `receive`."""

    addresses = (("127.0.0.1", 40000),)

    def __init__(self, load: Load) -> None:
        self._load = load
        self.hosts = PeerHosts(os.urandom)
        self._endpoints = np.array([self.hosts.key(0, address) for address in load.addresses], np.uint64)
        self.tick = 0
        self.sent = 0

    def receive(self, table: PacketTable, now: float) -> int:
        """A tick's packets of all legs."""
        packets = self._load.packets[self.tick]
        self.tick += 1
        count, size = packets.shape
        table.data[:count, :size] = packets
        table.length[:count] = size
        table.endpoint[:count] = self._endpoints
        table.arrival[:count] = now - 0.005
        return count

    def send(self, table: PacketTable, count: int) -> int:
        """Thrown away."""
        self.sent += count
        return 0


def sender(legs: int, ticks: int, srtp: bool, host: str, pipe: Connection) -> None:
    """The other process: a socket a leg, absolute pacing, everything received is thrown away."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(legs)]
    for each in sockets:
        each.bind((host, 0))
    ports = [each.getsockname()[1] for each in sockets]
    load = Load(legs, ticks, srtp=srtp, ports=ports)
    pipe.send(ports)
    address = pipe.recv()
    for each in sockets:
        each.connect(address)
    pipe.recv()
    begin = time.monotonic()
    for tick in range(ticks):
        for leg, each in enumerate(sockets):
            each.send(load.packets[tick, leg])
        time.sleep(max(0.0, begin + (tick + 1) * media.TICK_SECONDS - time.monotonic()))


def open_legs(plane: Plane, load: Load, local: Address, *, record: bool) -> None:
    """Legs in conferences of three, each with a track if recorded."""
    legs = len(load.addresses)
    names = [LegId(f"leg-{leg}") for leg in range(legs)]
    for leg, name in enumerate(names):
        key = load.keys[leg]
        opening = OpenLeg(name, Codec("PCMU", 0), 50_000 + leg, key, key, local, load.addresses[leg])
        plane.apply(Step(None, (opening,)))
    for first in range(0, legs - 2, 3):
        three = names[first : first + 3]
        gains = tuple(Gain(one, other, 1.0) for one in three for other in three if one != other)
        contact = f"contact-{first}"
        tracks: tuple[media.MediaCommand, ...] = (
            (
                media.OpenRecording(contact),
                *(media.OpenTrack(contact, f"from-{name}", name, name, "other") for name in three),
            )
            if record
            else ()
        )
        plane.apply(Step(contact, (SetCrosspoints(ConferenceId(contact), gains), *tracks)))


def instrument(plane: Plane, spent: dict[str, float]) -> None:
    """Wrap the stages so that the time in each is added up; costs 0.2 µs a call, not a leg-frame."""
    for part, name, label in STAGES:
        owner: Any = getattr(plane.stages, part)
        *path, method = name.split(".")
        for step in path:
            owner = getattr(owner, step)
        setattr(owner, method, _timed(getattr(owner, method), label, spent))


def _timed(function: Callable[..., Any], label: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the stage takes
        begin = time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[label] += time.thread_time() - begin

    return timed


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured."""

    legs: int
    seconds: float
    real: bool
    srtp: bool
    record: bool
    stages: bool
    host: str

    @property
    def ticks(self) -> int:
        """A second more, which is not counted."""
        return WARM_TICKS + int(self.seconds * 50)


def prepare(work: Work) -> tuple[Load, Any, Connection | None]:
    """The load, the sockets, and the other process's pipe."""
    if not work.real:
        load = Load(work.legs, work.ticks, srtp=work.srtp, ports=[10_000 + leg for leg in range(work.legs)])
        return load, SimulatedSockets(load), None
    sockets = UdpSockets(SocketSettings(hosts=(work.host,)))
    here, there = multiprocessing.Pipe()
    arguments = (work.legs, work.ticks + 20, work.srtp, work.host, there)
    multiprocessing.Process(target=sender, args=arguments, daemon=True).start()
    load = Load(work.legs, 0, srtp=work.srtp, ports=here.recv(), host=work.host)
    here.send(sockets.addresses[0])
    return load, sockets, here


def measure(work: Work) -> dict[str, Any]:
    """One run."""
    load, sockets, pipe = prepare(work)
    captured: list[int] = [0]

    def sink(values: list[Captured]) -> None:
        captured[0] += sum(value.ticks for value in values if isinstance(value, Frames))

    plane = Plane(PlaneSettings(legs_max=max(2000, work.legs)), sockets, sink, entropy=os.urandom, wall=lambda now: now)
    open_legs(plane, load, sockets.addresses[0], record=work.record)
    spent: dict[str, float] = defaultdict(float)
    durations: list[float] = []
    begun = 0.0
    if pipe is not None:
        pipe.send("go")
    now = time.monotonic()
    for tick in range(work.ticks):
        if tick == WARM_TICKS:
            begun = time.thread_time()
            if work.stages:
                instrument(plane, spent)
        begin = time.perf_counter()
        plane.tick(now)
        durations.append(time.perf_counter() - begin)
        now += media.TICK_SECONDS
        if work.real:
            time.sleep(max(0.0, now - time.monotonic()))
    seconds = time.thread_time() - begun
    frames = work.legs * (work.ticks - WARM_TICKS)
    statistics = plane.statistics()
    return {
        "legs": work.legs,
        "us_per_leg_frame": round(seconds / frames * 1e6, 2),
        "cpu_ms_per_leg_second": round(seconds / frames * 50e3, 3),
        "tick_ms_p50": round(float(np.percentile(durations[WARM_TICKS:], 50)) * 1000, 2),
        "tick_ms_p99": round(float(np.percentile(durations[WARM_TICKS:], 99)) * 1000, 2),
        "received": statistics["received"],
        "failed": sum(count for name, count in statistics.items() if name.startswith("failed_")),
        "recorded_frames": captured[0],
        "stages_us": {label: round(value / frames * 1e6, 3) for label, value in spent.items()},
    }


def main() -> None:
    """Print one JSON object a number of legs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, nargs="+", default=[30, 150, 300, 600])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--sockets", choices=["simulated", "real"], default="simulated")
    parser.add_argument("--ipv6", action="store_true", help="real sockets: over ::1")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--no-srtp", action="store_true")
    parser.add_argument("--no-stages", action="store_true")
    arguments = parser.parse_args()
    print(f"# {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    for legs in arguments.legs:
        work = Work(
            legs,
            arguments.seconds,
            real=arguments.sockets == "real",
            srtp=not arguments.no_srtp,
            record=arguments.record,
            stages=not arguments.no_stages,
            host="::1" if arguments.ipv6 else "127.0.0.1",
        )
        print(json.dumps(measure(work)))


if __name__ == "__main__":
    main()
