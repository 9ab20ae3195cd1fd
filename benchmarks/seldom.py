"""What a relay does for its legs, but not in every tick, as `benchmarks.stages` measures it."""

from __future__ import annotations

import os
from contextlib import ExitStack

import numpy as np

from benchmarks.measuring import Stage, Work
from benchmarks.plane import Load, SimulatedSockets, open_legs
from relay.media import SrtpKey
from relay.plane import rtcp
from relay.plane.plane import Plane
from relay.plane.srtp import SrtpContext
from relay.plane.stages import PlaneSettings
from relay.webrtc import consent, stun

KEY = SrtpKey("AES_CM_128_HMAC_SHA1_80", bytes(range(30)))
ADDRESS = ("127.0.0.1", 40_000)


def rtcp_out(rows: int, _: ExitStack) -> Work:
    """A compound packet with a sender report, encrypted."""
    contexts = [SrtpContext(KEY, inbound=False) for _ in range(rows)]
    report = a_report()
    return Work(lambda: [context.protect_rtcp(rtcp.build(report, b"bench")) for context in contexts])


def rtcp_in(rows: int, _: ExitStack) -> Work:
    """The same, decrypted and read."""
    outbound = [SrtpContext(KEY, inbound=False) for _ in range(rows)]
    inbound = [SrtpContext(KEY, inbound=True) for _ in range(rows)]
    packet, encrypted = rtcp.build(a_report(), b"bench"), [b""] * rows

    def before() -> None:
        encrypted[:] = [context.protect_rtcp(packet) for context in outbound]

    def tick() -> None:
        for context, data in zip(inbound, encrypted, strict=True):
            plain = context.unprotect_rtcp(data)
            assert plain is not None, "all are authentic"
            for _ in rtcp.parse(plain):
                pass

    return Work(tick, before)


def a_report() -> rtcp.Report:
    """With everything in it."""
    block = rtcp.ReportBlock(1, 0, 0, 100, 5, 7, 9)
    return rtcp.Report(1, rtcp.SenderInfo(1 << 60, 160, 50, 8000), (block,))


def leg_reports(rows: int, _: ExitStack) -> Work:
    """Counters of every leg for the control plane, once a second."""
    load = Load(rows, 0, srtp=False, ports=[10_000 + row for row in range(rows)])
    sockets = SimulatedSockets(load)
    settings = PlaneSettings(legs_max=rows, steps_per_tick_max=2 * rows)
    plane = Plane(settings, sockets, lambda _: None, entropy=os.urandom, wall=lambda now: now)
    open_legs(plane, load, sockets.addresses[0], record=False)
    load.packets = np.zeros((1, 0, 172), np.uint8)
    load.addresses.clear()
    sockets._endpoints = np.zeros(0, np.uint64)
    plane.tick(0.0)
    assert len(plane.stages.legs) == rows, "all were opened"
    legs = np.arange(rows)
    return Work(lambda: list(plane.stages.reports.leg_reports(legs)))


def check_answered(rows: int, _: ExitStack) -> Work:
    """A softphone's consent check: authenticated, and its response signed."""
    body = stun.check_attributes(b"relay123:browser1", 1, controlling=True, tie_breaker=1)
    request = stun.binding_request(bytes(12), body, b"p" * 24)
    return Work(lambda: [consent.answer(request, ADDRESS, b"p" * 24, controlling=False) for _ in range(rows)])


def consent_asked(rows: int, _: ExitStack) -> Work:
    """Our own consent check: planned, signed, and its response authenticated."""
    consents, times = consent.Consents[int](os.urandom), iter(range(0, 1 << 30, 7))
    body = stun.check_attributes(b"browser1:relay123", 1, controlling=False, tie_breaker=1)
    for row in range(rows):
        consents.begin(row, body, b"p" * 24, -7.0)

    def tick() -> None:
        now = float(next(times))
        while requests := consents.due(now).requests:
            for _, request in requests:
                transaction = stun.transaction_id(request)
                assert consents.answered(transaction, stun.binding_response(transaction, ADDRESS, b"p" * 24), now)

    return Work(tick)


SELDOM: dict[str, Stage] = {
    "RTCP out (a report)": rtcp_out,
    "RTCP in (a report)": rtcp_in,
    "counters (a report)": leg_reports,
    "check answered (a check)": check_answered,
    "consent asked (a check)": consent_asked,
}
