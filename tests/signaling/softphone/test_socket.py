"""The WebSocket over real TLS on loopback, with the websockets client."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from signaling.errors import Exhausted, LocalError, RemoteError, Unavailable
from signaling.softphone.messages import (
    AgentStateChanged,
    ContactRequest,
    ErrorCode,
    Levels,
    RequestError,
    SetState,
)
from signaling.softphone.protocol import Limits
from signaling.softphone.socket import SocketSettings
from signaling.softphone.throttle import ThrottleSettings
from tests.signaling.softphone.fake_service import FakeService
from tests.signaling.softphone.https import Client, serving


async def refused(connecting) -> websockets.Response:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await connecting
    return caught.value.response


async def test_log_in_request_and_notification(tmp_path):
    async with serving(tmp_path) as served, served.connect() as connection:
        client = Client(connection)
        answer = await client.log_in()
        assert answer["result"] == {
            "protocol": 1,
            "user": "ada",
            "role": "agent",
            "state": "offline",
            "media": "closed",
            "iceServers": [],
            "contact": None,
        }
        assert (await client.ask("session.ping"))["result"] == {}
        assert (await client.ask("agent.set_state", state="available"))["result"] == {"state": "available"}
        assert served.service.requests == [SetState("available")]
        assert await client.next_told() == {
            "jsonrpc": "2.0",
            "method": "agent.state",
            "params": {"state": "available", "next_state": None},
        }
    assert served.socket.counters.logged_in == 1


async def test_nothing_is_served_before_log_in(tmp_path):
    async with serving(tmp_path) as served, served.connect() as connection:
        client = Client(connection)
        answer = await client.ask("contact.accept", contact_id="c")
        assert answer["error"]["code"] == ErrorCode.NOT_LOGGED_IN
        assert served.service.requests == []
        assert "result" in await client.log_in()
        assert (await client.log_in())["error"]["code"] == ErrorCode.CONFLICT


async def test_a_wrong_token_is_told_and_closed(tmp_path):
    async with serving(tmp_path) as served, served.connect() as connection:
        client = Client(connection)
        assert (await client.log_in("wrong"))["error"] == {"code": -32001, "message": "the token is not known"}
        assert await client.close_code() == (4001, "log-in failed")
        assert len(served.socket) == 0


async def test_guessing_is_stopped_by_address(tmp_path):
    settings = SocketSettings(throttle=ThrottleSettings(failures_max=2))
    async with serving(tmp_path, settings) as served:
        for _ in range(2):
            async with served.connect() as connection:
                await Client(connection).log_in("wrong")
        response = await refused(served.connect())
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) <= 60
        assert served.socket.counters.log_ins_failed == 2
        assert served.socket.counters.log_ins_throttled == 1


async def test_a_silent_connection_is_closed(tmp_path):
    async with serving(tmp_path, SocketSettings(log_in_timeout_s=0.05)) as served, served.connect() as connection:
        assert await Client(connection).close_code() == (4001, "no log-in in time")
        assert served.service.closed_sessions == []


async def test_the_newest_log_in_wins(tmp_path):
    async with serving(tmp_path) as served, served.connect() as first, served.connect() as second:
        older, newer = Client(first), Client(second)
        await older.log_in()
        await newer.log_in()
        assert (await older.next_told())["method"] == "session.replaced"
        assert await older.close_code() == (4002, "logged in elsewhere")
        await served.service.wait_until(lambda: len(served.service.closed_sessions) == 1)
        served.service.set_state("available")
        assert (await newer.next_told())["method"] == "agent.state"


@pytest.mark.parametrize(("listening", "reached"), [("::1", "[::1]"), ("::", "[::1]"), ("::", "127.0.0.1")])
async def test_the_page_of_either_family_may_connect(tmp_path, listening, reached):
    async with serving(tmp_path, listening=listening, reached=reached) as served:
        assert served.origin == f"https://{reached}:{served.server.port}"
        async with served.connect(origin=served.origin) as connection:
            assert "result" in await Client(connection).log_in()
        assert (await refused(served.connect(origin="https://[::2]"))).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"), [("https://evil.example", 403), ("null", 403), ("http://127.0.0.1", 403), (None, 101)]
)
async def test_only_our_own_page_may_connect(tmp_path, origin, status):
    async with serving(tmp_path) as served:
        if status == 101:
            async with served.connect():
                pass
            async with served.connect(origin=served.origin):
                pass
        else:
            assert (await refused(served.connect(origin=origin))).status_code == status
            assert served.socket.counters.refused_origin == 1


async def test_connections_are_limited_in_all_and_before_log_in(tmp_path):
    async with serving(tmp_path, SocketSettings(connections_max=2, waiting_per_address_max=1)) as served:
        async with served.connect() as first:
            assert (await refused(served.connect())).status_code == 503
            await Client(first).log_in()
            async with served.connect() as second:
                await Client(second).ask("session.ping")
                assert (await refused(served.connect())).status_code == 503
        assert served.socket.counters.refused_full == 2


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (RequestError(ErrorCode.CONFLICT, "not now"), -32003, "not now"),
        (RemoteError("bad offer"), -32602, "bad offer"),
        (Exhausted("too many legs"), -32004, "too many legs"),
        (Unavailable("draining", retry_after=3.0), -32005, "draining"),
        (LocalError("wrong state"), -32003, "wrong state"),
        (ZeroDivisionError("a secret inside"), -32603, "internal error"),
    ],
)
async def test_errors_of_the_service_are_told_without_their_insides(tmp_path, raised, code, message):
    async with serving(tmp_path) as served, served.connect() as connection:
        client = Client(connection)
        await client.log_in()
        served.service.raises = raised
        answer = await client.ask("contact.hold", contact_id="c")
        assert answer["error"]["code"] == code
        assert answer["error"]["message"] == message
        served.service.raises = None
        assert "result" in await client.ask("session.ping")
        assert served.socket.counters.errors == (1 if code == -32603 else 0)


async def test_a_service_that_hangs_is_given_up(tmp_path):
    async with serving(tmp_path, SocketSettings(request_timeout_s=0.05)) as served, served.connect() as connection:
        client = Client(connection)
        await client.log_in()
        served.service.hold_up = asyncio.Event()
        assert (await client.ask("media.disconnect"))["error"]["code"] == ErrorCode.UNAVAILABLE


async def test_a_request_is_finished_even_if_its_softphone_has_gone(tmp_path):
    async with serving(tmp_path) as served:
        service = served.service
        service.hold_up = asyncio.Event()
        async with served.connect() as connection:
            await Client(connection).log_in()
            await connection.send('{"jsonrpc":"2.0","id":1,"method":"agent.set_state","params":{"state":"break"}}')
            await service.wait_until(lambda: bool(service.requests))
        service.hold_up.set()
        await service.wait_until(lambda: bool(service.closed_sessions))
        assert service.state == "break"


async def test_a_client_that_does_not_read_is_closed(tmp_path):
    settings = SocketSettings(outbound_max=20, flush_timeout_s=0.05)
    async with serving(tmp_path, settings) as served, served.connect(max_queue=1, close_timeout=0.05) as connection:
        await Client(connection).log_in()
        session = served.service.session
        while not session.closing.done():
            for _ in range(19):
                session.notify(AgentStateChanged("available" * 2_000))
            await asyncio.sleep(0)
        assert session.closing.result().code == 4003
        await served.service.wait_until(lambda: bool(served.service.closed_sessions))
        assert served.socket.counters.closed_too_slow == 1
        session.notify(Levels(0.0, 0.0))  # nothing happens any more


@pytest.mark.parametrize("frame", ["{", "7", '{"jsonrpc":"2.0","method":"x"}', "\N{PILE OF POO}"])
async def test_abuse_is_closed_after_a_while(tmp_path, frame):
    settings = SocketSettings(refusals_max=5, limits=Limits(requests_burst=1_000))
    async with serving(tmp_path, settings) as served, served.connect() as connection:
        for _ in range(6):
            await connection.send(frame)
        assert (await Client(connection).close_code())[0] == 4004
        assert served.socket.counters.closed_for_abuse == 1


async def test_bytes_and_large_frames_are_refused(tmp_path):
    async with serving(tmp_path) as served:
        async with served.connect() as connection:
            await connection.send(b"\x00\x01")
            assert (await Client(connection).close_code())[0] == 1003
        async with served.connect() as connection:
            await connection.send("x" * 70_000)
            assert (await Client(connection).close_code())[0] == 1009


async def test_contact_requests_reach_the_service_in_order(tmp_path):
    async with serving(tmp_path) as served, served.connect() as connection:
        client = Client(connection)
        await client.log_in()
        served.service.ring()
        assert [(await client.next_told())["method"] for _ in range(2)] == ["agent.state", "contact.ringing"]
        for action in ("accept", "hold", "resume", "mute", "unmute", "hang_up", "complete"):
            assert (await client.ask(f"contact.{action}", contact_id="c-1"))["result"] == {}
        assert [request.action for request in served.service.requests if isinstance(request, ContactRequest)] == [
            "accept",
            "hold",
            "resume",
            "mute",
            "unmute",
            "hang_up",
            "complete",
        ]
        assert [told["method"] for told in client.told] == [
            "agent.state",
            "contact.connected",
            "contact.held",
            "contact.resumed",
            "contact.muted",
            "contact.unmuted",
            "contact.ended",
            "agent.state",
            "contact.closed",
            "agent.state",
        ]


async def test_draining_ends_all_and_takes_no_more(tmp_path):
    async with serving(tmp_path) as served, served.connect() as connection:
        client = Client(connection)
        await client.log_in()
        served.socket.drain()
        assert await client.close_code() == (1001, "the relay stops")
        assert (await refused(served.connect())).status_code == 503


async def test_a_session_that_came_back_finds_its_contact(tmp_path):
    service = FakeService()
    async with serving(tmp_path, service=service) as served:
        async with served.connect() as connection:
            client = Client(connection)
            await client.log_in()
            service.ring()
            await client.ask("contact.accept", contact_id="c-1")
        await service.wait_until(lambda: bool(service.closed_sessions))
        async with served.connect() as connection:
            contact = (await Client(connection).log_in())["result"]["contact"]
            assert (contact["contact_id"], contact["state"]) == ("c-1", "connected")
