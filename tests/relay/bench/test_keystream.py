"""The keystream made ahead is libsrtp's, packet for packet."""

from __future__ import annotations

import numpy as np
import pytest

from relay.bench.keystream import (
    AUTHENTICATION_LABEL,
    KEY_LABEL,
    SALT_LABEL,
    TAG_BYTES,
    Keystreams,
    derived,
)
from relay.errors import LocalError
from relay.media import SrtpKey
from relay.plane.packets import PacketTable
from relay.plane.rtp import HEADER_BYTES, write_headers
from relay.plane.srtp import OK, RowCrypto, SrtpContext

SSRCS = [0x10000000, 0x10000001, 0xFFFFFFFF]
KEYS = [SrtpKey("AES_CM_128_HMAC_SHA1_80", bytes(range(n, n + 30))) for n in range(len(SSRCS))]
PAYLOAD = 160


def test_session_keys_of_rfc_3711_b3() -> None:
    """As printed at https://www.rfc-editor.org/rfc/rfc3711#appendix-B.3."""
    master = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139" + "0EC675AD498AFEEBB6960B3AABE6")
    assert derived(master, KEY_LABEL, 16).hex().upper() == "C61E7A93744F39EE10734AFE3FF7A087"
    assert derived(master, SALT_LABEL, 14).hex().upper() == "30CBBC08863D8C85D49DB34A9AE1"
    assert derived(master, AUTHENTICATION_LABEL, 94).hex().upper() == (
        "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF72270986371C10C9A369AC2"
        "F94A8C5FBCDDDC256D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2"
    )


class Sender:
    """libsrtp, encrypting the same plain text for every stream."""

    def __init__(self) -> None:
        self._contexts = [SrtpContext(key, inbound=False) for key in KEYS]
        self._table = PacketTable(len(KEYS), 320)
        self._crypto = RowCrypto(self._table)

    def send(self, sequence: int, payload: bytes) -> np.ndarray:
        """The encrypted payloads of one packet of each stream."""
        size = len(KEYS)
        write_headers(
            self._table,
            size,
            second=np.zeros(size, np.uint8),
            sequence=np.full(size, sequence, np.uint16),
            timestamp=np.zeros(size, np.uint32),
            ssrc=np.array(SSRCS, np.uint32),
        )
        self._table.data[:, HEADER_BYTES : HEADER_BYTES + len(payload)] = np.frombuffer(payload, np.uint8)
        self._table.length[:] = HEADER_BYTES + len(payload)
        assert self._crypto.protect(range(size), [each.handle for each in self._contexts]) == [OK] * size
        assert self._table.length.tolist() == [HEADER_BYTES + len(payload) + TAG_BYTES] * size
        return self._table.data[:, HEADER_BYTES : HEADER_BYTES + len(payload)].copy()


def decrypted(keystreams: Keystreams, streams: list[int], sequences: list[int], payloads: np.ndarray) -> list[bytes]:
    words = keystreams.take(np.array(streams, np.intp), np.array(sequences, np.int64))
    plain = words.view(np.uint8)[:, : payloads.shape[1]] ^ payloads
    return [row.tobytes() for row in plain]


@pytest.mark.parametrize("size", [160, 288, 17])
def test_it_decrypts_what_libsrtp_encrypted_past_two_rollovers(size: int) -> None:
    """Every 1,000th packet of 140,000: the sequence number wraps twice, and the roll-over counter counts."""
    sender, keystreams = Sender(), Keystreams(KEYS, SSRCS, size)
    payload = bytes(i * 7 & 0xFF for i in range(size))
    for index in range(0, 140_000, 1000):
        said = sender.send(index & 0xFFFF, payload)
        assert decrypted(keystreams, [0, 1, 2], [index & 0xFFFF] * 3, said) == [payload] * 3
    assert keystreams.index.tolist() == [139_000] * 3


def test_every_packet_around_a_rollover() -> None:
    sender, keystreams = Sender(), Keystreams(KEYS, SSRCS, PAYLOAD)
    for index in range(65_500, 65_600):
        payload = bytes([index & 0xFF]) * PAYLOAD
        said = sender.send(index & 0xFFFF, payload)
        assert decrypted(keystreams, [0, 1, 2], [index & 0xFFFF] * 3, said) == [payload] * 3
    assert keystreams.index.tolist() == [65_599] * 3


def test_late_packets_of_before_the_rollover() -> None:
    sender, keystreams = Sender(), Keystreams(KEYS, SSRCS, PAYLOAD)
    sent = {index: sender.send(index & 0xFFFF, bytes([index & 0xFF]) * PAYLOAD) for index in range(65_530, 65_540)}
    for index in (65_530, 65_539, 65_535, 65_531, 65_538):
        plain = decrypted(keystreams, [0, 1, 2], [index & 0xFFFF] * 3, sent[index])
        assert plain == [bytes([index & 0xFF]) * PAYLOAD] * 3
    assert keystreams.index.tolist() == [65_539] * 3


def test_seconds_of_one_stream_in_one_batch() -> None:
    """Who listens again after a pause finds more packets than keystream is made at once."""
    sender, keystreams = Sender(), Keystreams(KEYS, SSRCS, PAYLOAD)
    payloads = [bytes([n]) * PAYLOAD for n in range(200)]
    sent = np.array([sender.send(n, payload)[1] for n, payload in enumerate(payloads)])
    assert decrypted(keystreams, [1] * 200, list(range(200)), sent) == payloads


def test_streams_at_different_places_in_one_batch() -> None:
    sender, keystreams = Sender(), Keystreams(KEYS, SSRCS, PAYLOAD)
    early, late = sender.send(3, bytes(PAYLOAD)), sender.send(5000, bytes([9]) * PAYLOAD)
    mixed = np.array([early[0], late[1], late[2]])
    assert decrypted(keystreams, [0, 1, 2], [3, 5000, 5000], mixed) == [bytes(PAYLOAD), *[bytes([9]) * PAYLOAD] * 2]


def test_only_counter_mode() -> None:
    with pytest.raises(LocalError, match="counter mode"):
        Keystreams([SrtpKey("AEAD_AES_128_GCM", bytes(28))], [1], PAYLOAD)
