"""The https origin over real TLS on loopback."""

from __future__ import annotations

import asyncio
import signal
import ssl

import httpx
import pytest
from fastapi import Request

from signaling.api import PAGE, SECURITY_HEADERS, DemoAgent, HttpsServer, _may_pin, create_app, is_local
from tests.signaling.softphone.https import Client, Served, serving


def client(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=served.tls, base_url=served.origin)


async def test_the_page_is_served_with_security_headers(tmp_path):
    async with serving(tmp_path) as served, client(served) as http:
        page = await http.get("/")
        assert page.status_code == 200
        assert page.text == (PAGE / "index.html").read_text(encoding="utf-8")
        for name, value in SECURITY_HEADERS.items():
            assert page.headers[name] == value
        assert page.headers["Cache-Control"] == "no-cache"
        assert "Strict-Transport-Security" not in page.headers
        assert "server" not in page.headers
        missing = await http.get("/nothing.js")
        assert missing.status_code == 404
        assert missing.headers["X-Frame-Options"] == "DENY"
        again = await http.get("/", headers={"If-None-Match": page.headers["ETag"]})
        assert again.status_code == 304


async def test_nothing_beside_the_page_can_be_read(tmp_path):
    async with serving(tmp_path) as served, client(served) as http:
        for path in ("/../api.py", "/%2e%2e/%2e%2e/api.py", "/..%2fprotocol.py", "/docs", "/redoc"):
            assert (await http.get(path)).status_code == 404


async def test_health_says_what_it_is_told(tmp_path):
    async with serving(tmp_path) as served, client(served) as http:
        answer = await http.get("/api/health")
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("reached", ["[::1]", "127.0.0.1"])
async def test_this_machine_is_known_on_a_listener_of_both_families(tmp_path, reached):
    demo = DemoAgent("demo", "secret")
    async with (
        serving(tmp_path, listening="::", reached=reached, metrics=lambda: b"x", demo=demo) as served,
        client(served) as http,
    ):
        assert (await http.get("/api/demo")).json()["demo"] is True
        assert (await http.get("/metrics")).status_code == 200


async def test_metrics_go_to_whom_the_operator_lets(tmp_path):
    async with serving(tmp_path, metrics=lambda: b"koppel_legs 1\n") as served, client(served) as http:
        answer = await http.get("/metrics")
        assert (answer.status_code, answer.text) == (200, "koppel_legs 1\n")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    async with (
        serving(tmp_path, metrics=lambda: b"x", may_read_metrics=lambda _request: False) as served,
        client(served) as http,
    ):
        assert (await http.get("/metrics")).status_code == 404


async def test_the_demo_agent_is_there_only_under_the_demo_switch(tmp_path):
    async with serving(tmp_path) as served, client(served) as http:
        assert (await http.get("/api/demo")).json() == {"demo": False}
    async with serving(tmp_path, demo=DemoAgent("ada", "t0ken")) as served, client(served) as http:
        assert (await http.get("/api/demo")).json() == {"demo": True, "user": "ada", "token": "t0ken"}
        assert "t0ken" not in (await http.get("/api/openapi.json")).text


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("testclient", False)]
)
def test_what_counts_as_this_machine(host, local):
    assert is_local(Request({"type": "http", "client": (host, 1), "headers": []})) is local


@pytest.mark.parametrize(
    ("host", "pinned"),
    [
        (b"phone.example.com", True),
        (b"phone.example.com:8443", True),
        (b"localhost:8443", False),
        (b"agent.localhost", False),
        (b"127.0.0.1:8443", False),
        (b"[::1]:8443", False),
        (b"", False),
    ],
)
def test_only_real_names_are_pinned_to_https(host, pinned):
    assert _may_pin({"type": "http", "headers": [(b"host", host)]}) is pinned


async def test_the_server_leaves_signals_alone_and_stops_with_an_open_socket(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(tmp_path) as served:
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        connection = await served.connect()
        await Client(connection).log_in()
        async with asyncio.timeout(4):
            await served.server.stop()
            await connection.wait_closed()
        assert served.service.closed_sessions != []


async def test_an_address_in_use_is_an_error_of_the_caller(tmp_path):
    async with serving(tmp_path) as served:
        app = create_app(served.socket, health=dict)
        with pytest.raises(OSError, match="in use"):
            await HttpsServer.start(app, "127.0.0.1", served.server.port, ssl.create_default_context())


async def test_plain_http_and_junk_do_not_disturb(tmp_path):
    async with serving(tmp_path) as served, client(served) as http:
        for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xff" * 50, bytes(2_000)):
            _, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
            writer.write(junk)
            await writer.drain()
            writer.close()
        assert (await http.get("/api/health")).status_code == 200
