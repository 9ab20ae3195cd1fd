"""The SRTP keystream of many streams, made ahead in batches, so that decrypting a whole batch of packets is one XOR.

RFC 3711 §4.1.1: the keystream of a packet is AES over counter blocks that follow from salt, SSRC and packet index, all
of which are known before the packet comes. What is left out is authentication: whoever needs it asks libsrtp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from relay.errors import LocalError
from relay.media import SrtpKey

KEY_LABEL: Final = 0
AUTHENTICATION_LABEL: Final = 1
SALT_LABEL: Final = 2
"""RFC 3711 §4.3.1 (and 4.3.2, which tells what they are for)."""
TAG_BYTES: Final = 10
"""HMAC-SHA1-80."""
_KEY_BYTES: Final = 16
_SALT_BYTES: Final = 14
_BLOCK_BYTES: Final = 16
_WORD_BYTES: Final = 4
_AHEAD: Final = 32
"""Packets whose keystream is made at once; a power of two."""
_ROUNDS: Final = 2
"""Batches that are kept: a late packet of the last one finds its keystream still there."""

Rows = NDArray[np.intp]
Words = NDArray[np.uint32]


def derived(master: bytes, label: int, size: int) -> bytes:
    """A session key of SRTP from master key and salt, joined (RFC 3711 §4.3.1, key derivation rate 0)."""
    key, salt = master[:_KEY_BYTES], master[_KEY_BYTES:]
    counter = (int.from_bytes(salt) ^ label << 48) << 16
    cipher = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(_BLOCK_BYTES))).encryptor()
    return cipher.update(bytes(size))


class Keystreams:
    """One stream a key, each of one SSRC; payloads of up to `payload_bytes_max`."""

    def __init__(self, keys: Sequence[SrtpKey], ssrcs: Sequence[int], payload_bytes_max: int) -> None:
        if any(key.suite != "AES_CM_128_HMAC_SHA1_80" for key in keys):
            raise LocalError("only AES counter mode has a keystream that can be made ahead like this")
        self._blocks = -(-payload_bytes_max // _BLOCK_BYTES)
        self.words = self._blocks * (_BLOCK_BYTES // _WORD_BYTES)
        """Of the keystream of one packet."""
        self.index = np.full(len(keys), -1, np.int64)
        """The highest packet index of each stream so far (RFC 3711 §3.3.1); -1: none came yet."""
        self._encryptors: list[CipherContext] = [_encryptor(derived(key.master, KEY_LABEL, _KEY_BYTES)) for key in keys]
        salts = [derived(key.master, SALT_LABEL, _SALT_BYTES) + bytes(2) for key in keys]
        halves = np.array([(int.from_bytes(salt[:8]), int.from_bytes(salt[8:])) for salt in salts], np.uint64)
        self._high = halves[:, 0] ^ np.array(ssrcs, np.uint64)
        self._low = halves[:, 1]
        self._made = np.full((len(keys), _ROUNDS), -1, np.int64)
        """Which batch lies in each place."""
        self._size = _AHEAD * self._blocks * _BLOCK_BYTES
        # The cipher asks for room for one more block, which it does not write to in this mode.
        self._bytes = np.zeros(len(keys) * _ROUNDS * self._size + _BLOCK_BYTES, np.uint8)
        self._buffer = self._bytes.data
        self._stream: Words = self._bytes[:-_BLOCK_BYTES].view(np.uint32).reshape(-1, self.words)
        packets, blocks = np.arange(_AHEAD, dtype=np.uint64), np.arange(self._blocks, dtype=np.uint64)
        self._counting = (packets[:, None] << np.uint64(16) | blocks).astype(">u8").view(np.uint64)
        """Packet and block, as they stand in the counter blocks."""

    def take(self, streams: Rows, sequences: NDArray[np.int64]) -> Words:
        """The keystream of packets: one row each, to be laid over their payloads."""
        indexes = self._indexes(streams, sequences)
        batches = indexes // _AHEAD
        made = (streams * _ROUNDS + batches % _ROUNDS) * _AHEAD + indexes % _AHEAD
        if (self._made[streams, batches % _ROUNDS] == batches).all():
            found: Words = self._stream[made]
            return found
        found = np.empty((streams.size, self.words), np.uint32)
        wanted = np.arange(streams.size)
        while wanted.size:  # once, but for who listens again after a pause of seconds
            self._make_missing(streams[wanted], batches[wanted])
            there = self._made[streams[wanted], batches[wanted] % _ROUNDS] == batches[wanted]
            found[wanted[there]] = self._stream[made[wanted[there]]]
            wanted = wanted[~there]
        return found

    def _indexes(self, streams: Rows, sequences: NDArray[np.int64]) -> NDArray[np.int64]:
        """RFC 3711 §3.3.1: the index nearest to the highest so far; a stream begins with a roll-over counter of 0."""
        highest = self.index[streams]
        step = (sequences - highest + 0x8000 & 0xFFFF) - 0x8000
        indexes: NDArray[np.int64] = np.where(highest < 0, sequences, np.maximum(highest + step, 0))
        np.maximum.at(self.index, streams, indexes)
        return indexes

    def _make_missing(self, streams: Rows, batches: NDArray[np.int64]) -> None:
        """Make one batch for each place of which another is wanted."""
        places = batches % _ROUNDS
        missing = np.flatnonzero(self._made[streams, places] != batches)
        _, first = np.unique(streams[missing] * _ROUNDS + places[missing], return_index=True)
        self._make(streams[missing[first]], batches[missing[first]])

    def _make(self, streams: Rows, batches: NDArray[np.int64]) -> None:
        places = batches % _ROUNDS
        first = ((streams * _ROUNDS + places) * self._size).tolist()
        for stream, at, counter in zip(streams.tolist(), first, self._counters(streams, batches), strict=True):
            self._encryptors[int(stream)].update_into(counter.data, self._buffer[at : at + self._size + _BLOCK_BYTES])
        self._made[streams, places] = batches

    def _counters(self, streams: Rows, batches: NDArray[np.int64]) -> NDArray[np.uint8]:
        """RFC 3711 §4.1.1: salt · 2^16 ⊕ SSRC · 2^64 ⊕ index · 2^16, counting up block by block."""
        low = self._low[streams] ^ (batches * _AHEAD).astype(np.uint64) << np.uint64(16)
        counters = np.empty((streams.size, *self._counting.shape, 2), np.uint64)
        counters[..., 0] = self._high[streams].astype(">u8").view(np.uint64)[:, None, None]
        counters[..., 1] = low.astype(">u8").view(np.uint64)[:, None, None] ^ self._counting
        return counters.view(np.uint8).reshape(streams.size, -1)


def _encryptor(key: bytes) -> CipherContext:
    # Counter mode is electronic code book over counters (NIST SP 800-38A §6.5), here for many packets in one call.
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - see above
