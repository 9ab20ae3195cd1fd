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
from relay.plane.packets import (
    OVERSIZED,
    RECEIVE_STRIDE,
    SEND_STRIDE,
    PacketTable,
    endpoint_address,
    endpoint_key,
    endpoint_socket,
)
from relay.plane.sockets import SocketSettings, UdpSockets


@pytest.fixture(params=["batched", "portable"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[UdpSockets]:
    if request.param == "portable":
        monkeypatch.setattr(sockets, "_driver", lambda _batch_max: sockets._Portable())
    opened = UdpSockets(SocketSettings(hosts=("127.0.0.1", "127.0.0.2"), batch_max=4))
    yield opened
    opened.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(2)
        yield peer


def wait_readable(opened: UdpSockets) -> None:
    assert select.select(opened._sockets, [], [], 2)[0]


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


def test_linux_has_the_batched_calls() -> None:
    assert type(sockets._driver(8)).__name__ == "_Batched"
