"""A call survives what networks and strangers do to it: both sides go on hearing each other, and it is recorded."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import Callable

import pytest

from relay.media import SrtpKey
from tests.interop.conversation import conversation, recorded
from tests.interop.phone import FRAME, Junk, RoughWire, perfect_wire
from tests.relay.media_peers import session

pytestmark = [pytest.mark.interop, pytest.mark.slow]


async def test_loss_reordering_and_duplicates(relay):
    wire = RoughWire(random.Random(1))
    async with conversation(relay, wire) as call:
        await call.both_hear_each_other(3.0)
    tracks = await recorded(relay, call.contact)
    customer = tracks["customer"]
    assert wire.lost > 5
    # What came late by 50 ms is lost to a call, or the buffer has learnt to wait for it.
    assert 0.02 < customer["concealed"] / customer["expected"] < 0.2
    assert tracks["agent"]["concealed"] / tracks["agent"]["expected"] < 0.1


async def test_a_telephone_that_changes_its_source(relay):
    async with conversation(relay) as call:
        for _ in range(3):
            call.phone.media.renumber()
            await call.both_hear_each_other()
    customer = (await recorded(relay, call.contact))["customer"]
    assert customer["concealed"] / customer["expected"] < 0.1


async def test_packets_under_a_wrong_key(relay):
    """From the telephone's own address and source, as nobody but a man in the middle could send them."""
    forger = session(SrtpKey("AES_CM_128_HMAC_SHA1_80", os.urandom(30)), inbound=False)
    async with conversation(relay) as call:
        media = call.phone.media

        def forged(_number: int, packet: bytes) -> list[tuple[float, bytes]]:
            """What the telephone is about to send, and before it what it might send next."""
            sequence, timestamp = struct.unpack_from("!HI", packet, 2)
            header = struct.pack("!BBHII", 0x80, 0, (sequence + 1) & 0xFFFF, timestamp + FRAME, media.ssrc)
            return [(0.0, forger.protect(header + os.urandom(FRAME))), (0.0, packet)]

        before = await call.dropped("unauthenticated")
        media.wire = forged
        await call.both_hear_each_other(2.0)
        media.wire = perfect_wire
        assert await call.dropped("unauthenticated") - before >= 75
    customer = (await recorded(relay, call.contact))["customer"]
    assert customer["concealed"] / customer["expected"] < 0.1


async def test_a_flood_of_junk(relay):
    """5,000 datagrams a second to the media ports, and strangers at the doors of SIP and https."""
    rng = random.Random(2)
    async with conversation(relay) as call:
        before = await relay.metrics()
        flood = [
            asyncio.create_task(_flood_media(call.phone.media.remote, rng)),
            asyncio.create_task(_flood_doors(relay.ready.sips_address, rng)),
            asyncio.create_task(_flood_doors(relay.ready.softphone_url.split("/")[2], rng)),
        ]
        try:
            await call.both_hear_each_other(3.0)
        finally:
            for task in flood:
                task.cancel()
            await asyncio.gather(*flood, return_exceptions=True)
        after = await relay.metrics()
        for reason in ("malformed", "strangers", "control_misdirected"):
            name = f"koppel_packets_dropped_total{{{reason}}}"
            assert after[name] > before[name], reason
        assert (
            after["koppel_softphone_media_total{stun_malformed}"]
            > before["koppel_softphone_media_total{stun_malformed}"]
        )
    for track in (await recorded(relay, call.contact)).values():
        assert track["concealed"] / track["expected"] < 0.1


JUNK: tuple[Callable[[random.Random], bytes], ...] = (
    lambda rng: b"",
    lambda rng: rng.randbytes(rng.randrange(1, 1_400)),
    lambda rng: b"\x80\x00" + rng.randbytes(170),  # RTP
    lambda rng: b"\x80\xc8\x00\x06" + rng.randbytes(40),  # RTCP
    lambda rng: b"\x00\x01\x00\x08\x21\x12\xa4\x42" + rng.randbytes(12 + rng.randrange(30)),  # STUN
    lambda rng: b"\x16\xfe\xff" + rng.randbytes(rng.randrange(10, 300)),  # DTLS
    lambda rng: b"\x16\xfe\xff\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01" + rng.randbytes(64),
)


async def _flood_media(remote: tuple[str, int], rng: random.Random) -> None:
    strangers = [Junk() for _ in range(40)]
    try:
        while True:
            for _ in range(100):
                port = remote[1] + (rng.random() < 0.2)
                rng.choice(strangers).send(rng.choice(JUNK)(rng), (remote[0], port))
            await asyncio.sleep(0.02)
    finally:
        for stranger in strangers:
            stranger.close()


async def _flood_doors(address: str, rng: random.Random) -> None:
    """Connections that say no TLS, too little, or nothing at all."""
    host, _, port = address.rpartition(":")
    writers: list[asyncio.StreamWriter] = []
    try:
        while True:
            _, writer = await asyncio.open_connection(host, int(port))
            writers.append(writer)
            writer.write(
                rng.choice((b"", b"INVITE sip:a@b SIP/2.0\r\n\r\n", rng.randbytes(500), b"\x16\x03\x01\x02\x00\x01"))
            )
            if len(writers) > 30:
                writers.pop(0).close()
            await asyncio.sleep(0.01)
    finally:
        for writer in writers:
            writer.close()
