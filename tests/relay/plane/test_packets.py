"""The packet table and its endpoint keys."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from relay.plane.packets import (
    RECEIVE_STRIDE,
    SEND_STRIDE,
    PacketTable,
    endpoint_address,
    endpoint_key,
    endpoint_socket,
    is_ipv6,
    socket_column,
)

_HOSTS = st.ip_addresses(v=4).map(str)


@given(st.integers(0, 32_767), _HOSTS, st.integers(0, 65_535))
def test_endpoint_keys_come_back(socket: int, host: str, port: int) -> None:
    key = endpoint_key(socket, (host, port))
    assert endpoint_address(key) == (host, port)
    assert endpoint_socket(key) == socket
    assert not is_ipv6(key)
    assert socket_column(np.array([key], np.uint64)).tolist() == [socket]


def test_keys_differ_by_socket_host_and_port() -> None:
    keys = {
        endpoint_key(socket, (host, port))
        for socket in (0, 1)
        for host in ("10.0.0.1", "10.0.0.2")
        for port in (1, 256)
    }
    assert len(keys) == 8
    assert 0 not in keys


def test_rows_are_aligned_and_headers_are_views() -> None:
    table = PacketTable(5)
    assert table.data.ctypes.data % 64 == 0
    assert RECEIVE_STRIDE % 64 == SEND_STRIDE % 64 == 0
    assert RECEIVE_STRIDE // 64 % 2 == 1
    table.put(2, bytes.fromhex("80e51234deadbeefcafebabe") + b"payload", endpoint_key(0, ("127.0.0.1", 1)), 4.5)
    row = table.header[2]
    assert [int(row[name]) for name in ("first", "second", "sequence", "timestamp", "ssrc")] == [
        0x80, 0xE5, 0x1234, 0xDEADBEEF, 0xCAFEBABE,
    ]  # fmt: skip
    table.header["sequence"][2] = 0x4321
    assert table.datagram(2) == bytes.fromhex("80e54321deadbeefcafebabe") + b"payload"
    assert table.arrival[2] == 4.5
