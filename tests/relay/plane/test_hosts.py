"""Hosts of IPv6 peers and the words that stand for them."""

from __future__ import annotations

import random
from ipaddress import IPv6Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Exhausted
from relay.plane import hosts
from relay.plane.hosts import Addresses, PeerHosts
from relay.plane.packets import endpoint_key, endpoint_socket, host_column, is_ipv6, socket_column

_HOSTS = st.ip_addresses(v=6).map(str)


def peer_hosts(seed: int = 1) -> PeerHosts:
    return PeerHosts(random.Random(seed).randbytes)


def rows(*addresses: str) -> Addresses:
    return np.frombuffer(b"".join(IPv6Address(address).packed for address in addresses), np.uint64).reshape(-1, 2)


def ports(*numbers: int) -> np.ndarray:
    return np.array(numbers, ">u2").view(np.uint16)


@given(st.integers(0, 32_767), _HOSTS, st.integers(0, 65_535))
def test_keys_come_back(socket: int, host: str, port: int) -> None:
    known = peer_hosts()
    key = known.key(socket, (host, port))
    assert known.address(key) == (host, port)
    assert endpoint_socket(key) == socket
    assert socket_column(np.array([key], np.uint64)).tolist() == [socket]
    assert is_ipv6(key)
    assert key != 0


def test_ipv4_keys_are_what_they_were() -> None:
    known = peer_hosts()
    address = ("192.0.2.1", 5000)
    assert known.key(3, address) == endpoint_key(3, address)
    assert known.address(endpoint_key(3, address)) == address
    known.keep(endpoint_key(3, address))
    assert len(known) == 0


def test_what_comes_has_the_key_that_was_named() -> None:
    known = peer_hosts()
    named = [known.key(2, (f"2001:db8::{i:x}", 4000 + i)) for i in range(40)]
    keys, unlike = known.read(2, ports(*range(4000, 4040)), rows(*(f"2001:db8::{i:x}" for i in range(40))))
    assert keys.tolist() == named
    assert not unlike.any()
    # One host, many ports: one word.
    known.key(2, ("2001:db8::1", 9))
    assert len(known) == 40


def test_strangers_last_for_their_batch_unless_kept() -> None:
    known = peer_hosts()
    keys, unlike = known.read(0, ports(1, 2, 3), rows("2001:db8::a", "2001:db8::b", "2001:db8::a"))
    known.read(2, ports(4), rows("2001:db8::c"))
    assert not unlike.any()
    assert [known.address(int(key)) for key in keys] == [("2001:db8::a", 1), ("2001:db8::b", 2), ("2001:db8::a", 3)]
    known.keep(int(keys[1]))
    known.begin_batch()
    found, there = known.find(host_column(keys))
    assert there.tolist() == [False, True, False]
    assert found[1].tobytes() == IPv6Address("2001:db8::b").packed
    again, _ = known.read(0, ports(1), rows("2001:db8::a"))
    assert again[0] == keys[0], "a stranger has one key for ever: what failed once is remembered by it"


def test_no_host_is_taken_for_another_with_the_same_word() -> None:
    known = PeerHosts(bytes)  # multipliers of zero: every word is 0
    key = known.key(0, ("2001:db8::1", 7))
    with pytest.raises(Exhausted):
        known.key(0, ("2001:db8::2", 7))
    _, unlike = known.read(0, ports(7, 7, 7), rows("2001:db8::1", "2001:db8::2", "2001:db8::1"))
    assert unlike.tolist() == [False, True, False]
    assert known.address(key) == ("2001:db8::1", 7)


def test_of_strangers_with_the_same_word_the_first_stands() -> None:
    known = PeerHosts(bytes)
    keys, unlike = known.read(0, ports(7, 7, 7), rows("2001:db8::3", "2001:db8::2", "2001:db8::3"))
    assert unlike.tolist() == [False, True, False]
    assert known.address(int(keys[0])) == ("2001:db8::3", 7)
    # Also where they came to another socket.
    _, unlike = known.read(2, ports(7, 7), rows("2001:db8::3", "2001:db8::2"))
    assert unlike.tolist() == [False, True]


def test_words_depend_on_the_secret_and_on_every_byte() -> None:
    address = IPv6Address("2001:db8::1")
    flipped = [str(IPv6Address(int(address) ^ 1 << bit)) for bit in range(128)]
    words = [peer_hosts(seed)._hash(rows(str(address), *flipped)) for seed in range(4)]
    assert len({int(each[0]) for each in words}) == 4
    assert all(len(set(each.tolist())) == 129 for each in words)


def test_hosts_that_no_leg_needs_are_forgotten_at_the_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_CROWDED", 8)
    known = peer_hosts()
    legs = [known.key(0, (f"2001:db8:1::{i:x}", 5)) for i in range(1, 4)]
    known.alive = lambda: np.array([*legs, endpoint_key(0, ("192.0.2.1", 5)), 0], np.uint64)
    known._crowded_at = 8
    for i in range(200):
        known.key(0, (f"2001:db8:2::{i:x}", 5))
        assert len(known) <= 3 + 8 + 8 + 8
    assert [known.address(leg) for leg in legs] == [(f"2001:db8:1::{i:x}", 5) for i in range(1, 4)]
    newest = known.key(0, ("2001:db8:2::c7", 5))
    assert known.address(newest) == ("2001:db8:2::c7", 5)


def test_a_host_that_is_needed_again_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_CROWDED", 4)
    known = peer_hosts()
    needed: list[int] = []
    known.alive = lambda: np.array(needed, np.uint64)
    asked, alive, idle = (known.key(0, (f"2001:db8:1::{i:x}", 5)) for i in (1, 2, 3))
    for i in range(2):
        known.key(0, (f"2001:db8:2::{i:x}", 5))  # the second: a first look, at which nobody needs any of them
    needed.append(alive)
    assert known.key(0, ("2001:db8:1::1", 5)) == asked  # for a leg that is about to be there
    for i in range(2, 6):
        known.key(0, (f"2001:db8:2::{i:x}", 5))
    column = np.array([asked, alive, idle], np.uint64)
    assert known.find(host_column(column))[1].tolist() == [True, True, False]
