"""Real sockets on the loopback interface, batched and portable."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from relay.errors import OperatorError
from relay.media import Address
from relay.plane import sockets
from relay.plane.hosts import PeerHosts
from relay.plane.packets import (
    OVERSIZED,
    RECEIVE_STRIDE,
    SEND_STRIDE,
    UNREADABLE,
    PacketTable,
    endpoint_address,
    endpoint_key,
    endpoint_socket,
    is_ipv6,
)
from relay.plane.sockets import SocketSettings, UdpSockets


@pytest.fixture(params=["batched", "portable"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "portable":
        monkeypatch.setattr(sockets, "_driver", lambda _batch_max, hosts: sockets._Portable(hosts))


@pytest.fixture
def opened(driver: None) -> Iterator[UdpSockets]:
    opened = UdpSockets(SocketSettings(hosts=("127.0.0.1", "127.0.0.2"), batch_max=4))
    yield opened
    opened.close()


@pytest.fixture
def dual(driver: None) -> Iterator[UdpSockets]:
    opened = UdpSockets(SocketSettings(hosts=("127.0.0.1", "::1"), batch_max=4))
    yield opened
    opened.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(2)
        yield peer


@pytest.fixture
def peer6() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
        peer.bind(("::1", 0))
        peer.settimeout(2)
        yield peer


def wait_readable(opened: UdpSockets) -> None:
    assert select.select([each.opened for each in opened._sockets], [], [], 2)[0]


def receive(opened: UdpSockets, table: PacketTable) -> int:
    wait_readable(opened)
    return opened.receive(table, time.monotonic())


def test_ports_are_pairs_the_same_on_every_address(opened: UdpSockets) -> None:
    (first, port), (second, same) = opened.addresses
    assert (first, second) == ("127.0.0.1", "127.0.0.2")
    assert port == same
    assert port % 2 == 0
    assert opened.receive_buffer_bytes >= 65_536


def test_what_comes_fills_rows_with_source_socket_and_time(opened: UdpSockets, peer: socket.socket) -> None:
    table = PacketTable(64)
    before = time.monotonic()
    host, port = opened.addresses[1]
    for number in range(10):
        peer.sendto(bytes([number]) * (number + 1), (host, port))
    peer.sendto(b"report", (host, port + 1))
    assert receive(opened, table) == 11
    now = time.monotonic()
    rows = {endpoint_socket(int(table.endpoint[row])): row for row in range(11)}
    assert set(rows) == {2, 3}
    assert table.datagram(rows[3]) == b"report"
    for row in range(11):
        assert endpoint_address(int(table.endpoint[row])) == peer.getsockname()
        assert before - 0.001 <= table.arrival[row] <= now + 0.001
    assert sorted(table.datagram(row) for row in range(11) if row != rows[3]) == [
        bytes([number]) * (number + 1) for number in range(10)
    ]


def test_a_full_table_leaves_the_rest_for_the_next_tick(opened: UdpSockets, peer: socket.socket) -> None:
    table = PacketTable(6)
    for number in range(15):
        peer.sendto(bytes([number]), opened.addresses[0])
    seen = [table.datagram(row) for _ in range(3) for row in range(receive(opened, table))]
    assert seen == [bytes([number]) for number in range(15)]
    assert opened.receive(table, time.monotonic()) == 0


def test_a_flooded_socket_does_not_starve_the_others(opened: UdpSockets, peer: socket.socket) -> None:
    table = PacketTable(4)
    for _ in range(40):
        peer.sendto(b"flood", opened.addresses[0])
    peer.sendto(b"call", opened.addresses[1])
    seen = [table.datagram(row) for _ in range(4) for row in range(receive(opened, table))]
    assert b"call" in seen


def test_datagrams_longer_than_a_row_are_marked(opened: UdpSockets, peer: socket.socket) -> None:
    table = PacketTable(4)
    peer.sendto(bytes(RECEIVE_STRIDE + 1), opened.addresses[0])
    peer.sendto(bytes(1500), opened.addresses[0])
    assert receive(opened, table) == 2
    assert sorted(table.length[:2].tolist()) == [OVERSIZED, 1500]


def test_rows_leave_from_the_socket_that_their_endpoint_names(opened: UdpSockets, peer: socket.socket) -> None:
    table = PacketTable(16, SEND_STRIDE)
    for row in range(9):
        table.put(row, bytes([row]) * (row + 1), endpoint_key((0, 2, 3)[row // 3], peer.getsockname()))
    assert opened.send(table, 9) == 0
    (first, port), (second, _) = opened.addresses
    expected: list[tuple[bytes, Address]] = [
        (bytes([row]) * (row + 1), ((first, port), (second, port), (second, port + 1))[row // 3]) for row in range(9)
    ]
    assert [peer.recvfrom(100) for _ in range(9)] == expected


def test_a_refused_destination_costs_only_its_own_packet(opened: UdpSockets, peer: socket.socket) -> None:
    table = PacketTable(8, SEND_STRIDE)
    for row in range(4):
        # To port 0 nothing can be sent: EINVAL.
        table.put(row, b"x%d" % row, endpoint_key(0, peer.getsockname() if row != 1 else ("127.0.0.1", 0)))
    assert opened.send(table, 4) == 1
    assert opened.rejected == 1
    assert [peer.recv(100) for _ in range(3)] == [b"x0", b"x2", b"x3"]
    assert opened.send(table, 0) == 0


def test_one_table_may_receive_after_it_sent(opened: UdpSockets, peer: socket.socket) -> None:
    table = PacketTable(4)
    table.put(0, b"out", endpoint_key(0, peer.getsockname()))
    opened.send(table, 1)
    assert peer.recv(100) == b"out"
    peer.sendto(b"and a longer answer", opened.addresses[0])
    before = time.monotonic()
    assert receive(opened, table) == 1
    assert table.datagram(0) == b"and a longer answer"
    assert abs(table.arrival[0] - before) < 1.0


def test_control_datagrams_leave_at_once(opened: UdpSockets, peer: socket.socket) -> None:
    opened.send_control(opened.addresses[1], b"stun", peer.getsockname())
    assert peer.recvfrom(100) == (b"stun", opened.addresses[1])
    opened.send_control(("192.0.2.1", 1), b"from nowhere", peer.getsockname())
    opened.send_control(opened.addresses[0], b"to nowhere", ("127.0.0.1", 0))


def test_a_taken_port_is_the_operators_to_solve(opened: UdpSockets) -> None:
    host, port = opened.addresses[0]
    with pytest.raises(OperatorError, match=f"UDP port {port}"):
        UdpSockets(SocketSettings(hosts=(host,), port=port))
    with pytest.raises(OperatorError):
        UdpSockets(SocketSettings(hosts=("192.0.2.1",)))


def test_both_families_share_ports_and_a_table(dual: UdpSockets, peer: socket.socket, peer6: socket.socket) -> None:
    (first, port), (second, same) = dual.addresses
    assert (first, second, port) == ("127.0.0.1", "::1", same)
    table = PacketTable(64)
    before = time.monotonic()
    for number in range(10):
        peer.sendto(b"four%d" % number, (first, port))
        peer6.sendto(b"six%d" % number, (second, port))
    peer6.sendto(b"report", (second, port + 1))
    assert receive(dual, table) == 21
    seen = {
        (endpoint_socket(int(table.endpoint[row])), table.datagram(row), dual.hosts.address(int(table.endpoint[row])))
        for row in range(21)
    }
    four: Address = peer.getsockname()
    six: Address = peer6.getsockname()[:2]
    assert seen == {
        *((0, b"four%d" % number, four) for number in range(10)),
        *((2, b"six%d" % number, six) for number in range(10)),
        (3, b"report", six),
    }
    assert all(before - 0.001 <= arrival <= time.monotonic() + 0.001 for arrival in table.arrival[:21])
    # Strangers' answers go back in the same tick, from the same socket, whatever the order of the rows.
    assert dual.send(table, 21) == 0
    assert sorted(peer.recvfrom(100) for _ in range(10)) == [(b"four%d" % n, dual.addresses[0]) for n in range(10)]
    came = sorted((data, source[:2]) for data, source in (peer6.recvfrom(100) for _ in range(11)))
    assert came == [(b"report", ("::1", port + 1)), *((b"six%d" % n, dual.addresses[1]) for n in range(10))]


def test_ipv6_peers_are_sent_to_by_key(dual: UdpSockets, peer: socket.socket, peer6: socket.socket) -> None:
    table = PacketTable(8, SEND_STRIDE)
    known = dual.hosts.key(2, peer6.getsockname()[:2])
    table.put(0, b"six", known)
    table.put(1, b"port 0", dual.hosts.key(2, ("::1", 0)))
    table.put(2, b"six again", dual.hosts.key(3, peer6.getsockname()[:2]))
    table.put(3, b"four", dual.hosts.key(0, peer.getsockname()))
    assert dual.send(table, 4) == dual.rejected == 1
    assert [(data, source[1]) for data, source in (peer6.recvfrom(100) for _ in range(2))] == [
        (b"six", dual.addresses[1][1]),
        (b"six again", dual.addresses[1][1] + 1),
    ]
    assert peer.recvfrom(100) == (b"four", dual.addresses[0])
    # What comes from the peer has the key that it is sent to by, tick after tick.
    peer6.sendto(b"in", dual.addresses[1])
    assert receive(dual, table) == 1
    assert int(table.endpoint[0]) == known
    assert (endpoint_socket(known), is_ipv6(known)) == (2, True)


def test_strangers_are_forgotten_with_their_batch(dual: UdpSockets, peer6: socket.socket) -> None:
    table = PacketTable(8)
    peer6.sendto(b"x", dual.addresses[1])
    assert receive(dual, table) == 1
    dual.receive(PacketTable(8), time.monotonic())
    if isinstance(dual._driver, sockets._Portable):
        with pytest.raises(AssertionError):
            dual.hosts.address(int(table.endpoint[0]))
    else:
        assert dual.send(table, 1) == 1
    assert len(dual.hosts) == 0


def test_a_host_with_the_word_of_another_counts_as_malformed(dual: UdpSockets, peer6: socket.socket) -> None:
    # With multipliers of zero every host has the word 0.
    opened = UdpSockets(SocketSettings(hosts=("::1",)), entropy=bytes)
    assert int(opened.hosts.key(0, ("2001:db8::1", 4000))) >> 32 == 0
    table = PacketTable(8)
    peer6.sendto(b"a whole packet", opened.addresses[0])
    assert receive(opened, table) == 1
    assert table.length[0] == UNREADABLE
    opened.close()


def test_control_datagrams_leave_by_ipv6(dual: UdpSockets, peer6: socket.socket) -> None:
    dual.send_control(dual.addresses[1], b"stun", peer6.getsockname()[:2])
    data, source = peer6.recvfrom(100)
    assert (data, source[:2]) == (b"stun", dual.addresses[1])


def test_linux_has_the_batched_calls() -> None:
    assert type(sockets._driver(8, PeerHosts(bytes))).__name__ == "_Batched"
