"""Sockets of both families, on loopback."""

from __future__ import annotations

import socket

import pytest

from signaling.listening import bind, shown_address, source_host


@pytest.mark.parametrize(
    ("listening", "reached"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("::1", {"::1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("::", {"127.0.0.1", "::1"}),
    ],
)
def test_who_reaches_a_listener(listening: str, reached: set[str]) -> None:
    with bind(listening, 0, socket.SOCK_STREAM) as server:
        server.listen()
        found = set[str]()
        for host in ("127.0.0.1", "::1"):
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
                if client.connect_ex((host, server.getsockname()[1])) == 0:
                    server.setblocking(True)
                    connection, name = server.accept()
                    connection.close()
                    assert shown_address(name) == client.getsockname()[:2]
                    found.add(host)
        assert found == reached


def test_a_taken_port_is_an_error() -> None:
    with bind("::1", 0, socket.SOCK_DGRAM) as first, pytest.raises(OSError, match="in use"):
        bind("::1", first.getsockname()[1], socket.SOCK_DGRAM)


def test_the_source_of_either_family() -> None:
    assert source_host(("::1", 9)) == "::1"
    assert source_host(("127.0.0.1", 9)) == "127.0.0.1"
    assert source_host(("ff0e::%nowhere", 9)) is None
