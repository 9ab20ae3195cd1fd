"""SRTP in place: vectors, replay, roll-over, keys, and both ways of calling libsrtp."""

from __future__ import annotations

import random
import struct

import pylibsrtp
import pytest

from relay.errors import RemoteError
from relay.media import SrtpKey, SrtpSuite
from relay.plane import srtp
from relay.plane.packets import PacketTable
from relay.plane.srtp import FAILED, OK, REPLAYED, RowCrypto, SrtpContext

# The reference packets of libsrtp's own self-test (test/srtp_driver.c, srtp_validate and srtp_validate_gcm),
# https://github.com/cisco/libsrtp/blob/v2.6.0/test/srtp_driver.c; keys are derived as in RFC 3711 §4.3.
PLAIN = bytes.fromhex("800f1234decafbadcafebabe") + b"\xab" * 16
COUNTER_MODE = SrtpKey(
    "AES_CM_128_HMAC_SHA1_80", bytes.fromhex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6")
)
COUNTER_MODE_PACKET = bytes.fromhex("800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb")
GCM = SrtpKey("AEAD_AES_128_GCM", bytes.fromhex("000102030405060708090a0b0c0d0e0fa0a1a2a3a4a5a6a7a8a9aaab"))
GCM_PACKET = bytes.fromhex("800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392")


def key(suite: SrtpSuite, seed: int = 1) -> SrtpKey:
    size = {"AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44}.get(suite, 30)
    return SrtpKey(suite, random.Random(seed).randbytes(size))


def rtp(sequence: int, ssrc: int = 7) -> bytes:
    return struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, sequence * 160 & 0xFFFFFFFF, ssrc) + b"\x55" * 160


@pytest.fixture(params=["in place", "by public methods"])
def crypto(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[PacketTable, RowCrypto]:
    """Both ways must behave alike; contexts are made inside, since their handles differ too."""
    if request.param == "by public methods":
        monkeypatch.setattr(srtp, "_BINDING", None)
    table = PacketTable(8)
    return table, RowCrypto(table)


def test_the_private_names_are_there() -> None:
    """If this fails, pylibsrtp has changed: look at `relay.plane.srtp._binding` before raising the pin."""
    assert srtp._BINDING is not None
    assert srtp._update is not None


@pytest.mark.parametrize(("srtp_key", "packet"), [(COUNTER_MODE, COUNTER_MODE_PACKET), (GCM, GCM_PACKET)])
def test_reference_packets(crypto: tuple[PacketTable, RowCrypto], srtp_key: SrtpKey, packet: bytes) -> None:
    table, rows = crypto
    outbound, inbound = SrtpContext(srtp_key, inbound=False), SrtpContext(srtp_key, inbound=True)
    table.put(3, PLAIN, 0)
    assert rows.protect([3], [outbound.handle]) == [OK]
    assert table.datagram(3) == packet
    assert rows.unprotect([3], [inbound.handle]) == [OK]
    assert table.datagram(3) == PLAIN


def test_replays_wrong_keys_and_truncation_are_told_apart(crypto: tuple[PacketTable, RowCrypto]) -> None:
    table, rows = crypto
    inbound = SrtpContext(COUNTER_MODE, inbound=True)
    table.put(0, COUNTER_MODE_PACKET, 0)
    table.put(1, COUNTER_MODE_PACKET, 0)
    table.put(2, COUNTER_MODE_PACKET[:-1], 0)
    table.put(3, COUNTER_MODE_PACKET[:-1] + b"\0", 0)
    table.put(4, b"\x80", 0)
    statuses = rows.unprotect(range(5), [inbound.handle] * 5)
    assert statuses[0] == OK
    assert statuses[1] in REPLAYED
    assert all(status != OK and status not in REPLAYED for status in statuses[4:])
    other = SrtpContext(key("AES_CM_128_HMAC_SHA1_80"), inbound=True)
    table.put(5, COUNTER_MODE_PACKET, 0)
    (status,) = rows.unprotect([5], [other.handle])
    assert status not in {OK} | REPLAYED
    assert table.datagram(5) == COUNTER_MODE_PACKET


@pytest.mark.parametrize(
    ("suite", "media_tag", "report_tag"),
    [
        ("AES_CM_128_HMAC_SHA1_80", 10, 10),
        ("AES_CM_128_HMAC_SHA1_32", 4, 10),  # RFC 3711 §5.2: SRTCP keeps the long tag
        ("AEAD_AES_128_GCM", 16, 16),
        ("AEAD_AES_256_GCM", 16, 16),
    ],
)
def test_trailers_of_each_suite(suite: SrtpSuite, media_tag: int, report_tag: int) -> None:
    table = PacketTable(1)
    outbound, inbound = SrtpContext(key(suite), inbound=False), SrtpContext(key(suite), inbound=True)
    table.put(0, rtp(1), 0)
    assert RowCrypto(table).protect([0], [outbound.handle]) == [OK]
    assert table.length[0] == 172 + media_tag
    report = struct.pack("!BBHI", 0x80, 201, 1, 7)
    protected = outbound.protect_rtcp(report)
    assert len(protected) == 8 + 4 + report_tag
    assert inbound.unprotect_rtcp(protected) == (OK, report)
    assert inbound.unprotect_rtcp(protected)[0] in REPLAYED
    other = outbound.protect_rtcp(report)
    assert inbound.unprotect_rtcp(other[:-1] + bytes([other[-1] ^ 1])) == (FAILED, b"")
    assert inbound.unprotect_rtcp(b"") == (FAILED, b"")


def test_a_new_ssrc_begins_at_zero_beside_the_old_one() -> None:
    """RFC 3711 §3.2.3: a context is found by SSRC; the old one goes on with its roll-over counter."""
    table = PacketTable(1)
    rows = RowCrypto(table)
    outbound, inbound = SrtpContext(COUNTER_MODE, inbound=False), SrtpContext(COUNTER_MODE, inbound=True)

    def pass_through(sequence: int, ssrc: int) -> int:
        table.put(0, rtp(sequence, ssrc), 0)
        assert rows.protect([0], [outbound.handle]) == [OK]
        return rows.unprotect([0], [inbound.handle])[0]

    for sequence in range(65_000, 66_000, 100):
        assert pass_through(sequence, 1) == OK
    assert pass_through(5, 2) == OK
    assert pass_through(66_100, 1) == OK


def test_renewing_keeps_the_rollover_counter() -> None:
    """RFC 3711 §3.3.1: "the ROC is not reset" by a re-key; a fresh session does reset it, and fails."""
    table = PacketTable(1)
    rows = RowCrypto(table)
    fresh = key("AES_CM_128_HMAC_SHA1_80", 2)
    outbound, inbound = SrtpContext(COUNTER_MODE, inbound=False), SrtpContext(COUNTER_MODE, inbound=True)
    for sequence in range(65_500, 65_600):
        table.put(0, rtp(sequence), 0)
        rows.protect([0], [outbound.handle])
        assert rows.unprotect([0], [inbound.handle]) == [OK]
    outbound.renew(fresh)
    table.put(0, rtp(65_600), 0)
    rows.protect([0], [outbound.handle])
    packet = table.datagram(0)
    assert rows.unprotect([0], [inbound.handle])[0] != OK
    forgetful = SrtpContext(fresh, inbound=True)
    table.put(0, packet, 0)
    assert rows.unprotect([0], [forgetful.handle])[0] != OK
    inbound.renew(fresh)
    table.put(0, packet, 0)
    assert rows.unprotect([0], [inbound.handle]) == [OK]
    assert table.datagram(0) == rtp(65_600)


@pytest.mark.parametrize("master", [b"", b"short", bytes(29)])
def test_keys_of_the_wrong_length_are_the_peers_fault(master: bytes) -> None:
    with pytest.raises(RemoteError):
        SrtpContext(SrtpKey("AES_CM_128_HMAC_SHA1_80", master), inbound=True)
    with pytest.raises(RemoteError):
        SrtpContext(SrtpKey("AEAD_AES_256_GCM", master), inbound=False)


def test_trying_a_packet_leaves_it_as_it_was() -> None:
    """GCM decrypts before it authenticates: trials work on copies."""
    stranger = SrtpContext(key("AEAD_AES_128_GCM", 3), inbound=True)
    packet = bytes(GCM_PACKET)
    assert stranger.unprotect(packet) is None
    assert SrtpContext(GCM, inbound=True).unprotect(packet) == PLAIN
    assert stranger.unprotect(bytes(2000)) is None


def test_without_the_private_names_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Bare:
        """pylibsrtp without `_srtp`."""

        Session = object
        Policy = pylibsrtp.Policy

    monkeypatch.setattr(srtp, "_SRTP", Bare)
    assert srtp._binding() is None
    assert "public methods" in caplog.text
    assert FAILED not in REPLAYED
