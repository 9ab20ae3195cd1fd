"""The hosts of IPv6 peers by a word each, so that an endpoint key of 64 bits names them as it does IPv4 ones.

An address of 16 bytes is hashed to 32 bits, for a whole batch at once; the key holds that word where an IPv4 key holds
the address. A table turns words back into addresses. Two kinds of hosts stand in it: those that legs have to do with
(`key`, `keep`), for as long as one has, and the strangers of the present batch, so that what they sent can be answered.

No two hosts are ever taken for one another: what comes is compared with the whole address that stands under its word,
and a datagram from another one is dropped. The hash is keyed (strongly universal: any two addresses meet with
probability 2^-32, whatever they are), so that nobody can look for an address that meets a given one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relay.errors import Exhausted
from relay.media import Address
from relay.plane.packets import IPV6, endpoint_address, endpoint_key, host_column, ipv6_column, is_ipv6

_CROWDED = 1024
"""So many hosts more than legs had at the last look, and those that no leg needs are forgotten."""

Words = NDArray[np.uint32]
Addresses = NDArray[np.uint64]
"""A row of two words an address, as they lie in `sockaddr_in6`."""


@dataclass(frozen=True, slots=True)
class _Hosts:
    """Hosts by word, ascending."""

    words: Words = field(default_factory=lambda: np.zeros(0, np.uint32))
    addresses: Addresses = field(default_factory=lambda: np.zeros((0, 2), np.uint64))

    def find(self, words: Words) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Whether each word stands here, and where."""
        if not self.words.size:
            return np.zeros(words.size, np.bool_), np.zeros(words.size, np.intp)
        at = np.searchsorted(self.words, words)
        np.minimum(at, self.words.size - 1, out=at)
        return self.words[at] == words, at


class PeerHosts:
    """All hosts that keys are known for; `entropy(n)` gives `n` random bytes. Belongs to the thread that ticks."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self.alive: Callable[[], NDArray[np.uint64]] | None = None
        """All endpoint keys that legs have; asked when the table is crowded."""
        self._multipliers = np.frombuffer(entropy(32), np.uint64)
        self._offset = np.frombuffer(entropy(8), np.uint64)[0]
        self._kept = _Hosts()
        self._strangers: list[_Hosts] = []
        self._unneeded: Words = self._kept.words
        """Words that no leg needed at the last look; a second look that finds the same forgets them."""
        self._crowded_at = _CROWDED

    def __len__(self) -> int:
        return self._kept.words.size

    def key(self, socket_index: int, address: Address) -> int:
        """The endpoint key of a peer, whose host is kept from now on; raises Exhausted if its word is taken."""
        host, port = address
        if ":" not in host:
            return endpoint_key(socket_index, address)
        row = np.frombuffer(ipaddress.IPv6Address(host).packed, np.uint64).reshape(1, 2)
        words = self._hash(row)
        self._keep(words, row)
        return int(_keys(socket_index, np.array([port], ">u2").view(np.uint16), words)[0])

    def address(self, key: int) -> Address:
        """The peer's address of a key that was kept or came in the present batch."""
        if not is_ipv6(key):
            return endpoint_address(key)
        column = np.array([key], np.uint64)
        rows, known = self.find(host_column(column))
        assert known[0], "keys of hosts that are not known go nowhere"
        return str(ipaddress.IPv6Address(rows[0].tobytes())), int(column.view(">u2")[1])

    def keep(self, key: int) -> None:
        """A stranger of the present batch is a leg's peer now."""
        if is_ipv6(key):
            words = host_column(np.array([key], np.uint64))
            rows, known = self.find(words)
            assert known[0], "the present batch holds it"
            self._keep(words, rows)

    def begin_batch(self) -> None:
        """Forget strangers: another batch comes."""
        if self._strangers:
            self._strangers = []

    def read(
        self, socket_index: int, ports: NDArray[np.uint16], addresses: Addresses
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Keys of what came to a socket (ports in the order of the network), and which rows none can be given to."""
        words = self._hash(addresses)
        known, at = self._kept.find(words)
        if known.all():
            unlike = (self._kept.addresses[at] != addresses).any(axis=1)
        else:
            unlike = np.zeros(words.size, np.bool_)
            unlike[known] = (self._kept.addresses[at[known]] != addresses[known]).any(axis=1)
            strange = np.flatnonzero(~known)
            unlike[strange] = self._meet(words[strange], addresses[strange])
        return _keys(socket_index, ports, words), unlike

    def find(self, words: Words) -> tuple[Addresses, NDArray[np.bool_]]:
        """The addresses of hosts, and which of them are known."""
        known, at = self._kept.find(words)
        if known.all():
            return self._kept.addresses[at], known
        found: Addresses = np.zeros((words.size, 2), np.uint64)
        found[known] = self._kept.addresses[at[known]]
        for hosts in self._strangers:
            here, at = hosts.find(words)
            found[here] = hosts.addresses[at[here]]
            known |= here
        return found, known

    def _hash(self, addresses: Addresses) -> Words:
        """Vector multiply-shift (Thorup, "High Speed Hashing for Integers and Strings", 2015, §3.3)."""
        parts = addresses.view(np.uint32).astype(np.uint64)
        words: Words = ((parts @ self._multipliers + self._offset) >> np.uint64(32)).astype(np.uint32)
        return words

    def _meet(self, words: Words, addresses: Addresses) -> NDArray[np.bool_]:
        """Strangers, for as long as the batch; returns which of them have a word that another host has."""
        unlike = np.zeros(words.size, np.bool_)
        for hosts in self._strangers:
            here, at = hosts.find(words)
            unlike[here] |= (hosts.addresses[at[here]] != addresses[here]).any(axis=1)
        unique, first, inverse = np.unique(words, return_index=True, return_inverse=True)
        unlike |= (addresses[first][inverse] != addresses).any(axis=1)
        self._strangers.append(_Hosts(unique, addresses[first]))
        return unlike

    def _keep(self, words: Words, addresses: Addresses) -> None:
        known, at = self._kept.find(words)
        if known[0]:
            if (self._kept.addresses[at] != addresses).any():
                raise Exhausted("the word of this host is another's")
            self._unneeded = self._unneeded[self._unneeded != words[0]]
            return
        if len(self) >= self._crowded_at:
            self._forget_unneeded()
        before = np.searchsorted(self._kept.words, words)
        self._kept = _Hosts(
            np.insert(self._kept.words, before, words), np.insert(self._kept.addresses, before, addresses, axis=0)
        )

    def _forget_unneeded(self) -> None:
        """Forget hosts that no leg needs now nor needed at the last look: a leg that just closed still says BYE."""
        if self.alive is None:
            return
        keys = self.alive()
        needed = np.isin(self._kept.words, host_column(keys[ipv6_column(keys)]))
        rest = needed | ~np.isin(self._kept.words, self._unneeded)
        self._unneeded = self._kept.words[~needed]
        self._kept = _Hosts(self._kept.words[rest], self._kept.addresses[rest])
        self._crowded_at = len(self) + _CROWDED


def _keys(socket_index: int, ports: NDArray[np.uint16], words: Words) -> NDArray[np.uint64]:
    """What `endpoint_key` makes of one IPv4 peer, of many IPv6 ones."""
    keys = np.empty(words.size, np.uint64)
    halves = keys.view(np.uint16).reshape(-1, 4)
    halves[:, 0] = socket_index | IPV6
    halves[:, 1] = ports
    keys.view(np.uint32).reshape(-1, 2)[:, 1] = words
    return keys
