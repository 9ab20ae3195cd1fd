"""Nonsense and ill will at every door: a clear error or a counted drop, and the call in progress is not disturbed."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import websockets

from relay.ready import Ready
from signaling.softphone.messages import ErrorCode
from tests.interop.conversation import Call, conversation, recorded
from tests.interop.relay_process import RelayProcess

pytestmark = [pytest.mark.interop, pytest.mark.slow]

ANSWER_SECONDS = 5.0
_numbers = itertools.count(1)


@pytest.fixture
async def call(relay: RelayProcess) -> AsyncIterator[Call]:
    """A conversation that has to live through the test, and be recorded whole."""
    async with conversation(relay) as there:
        yield there
    for track in (await recorded(relay, there.contact)).values():
        assert track["concealed"] / track["expected"] < 0.1
    metrics = await relay.metrics()
    assert metrics["koppel_softphone_events_total{errors}"] == 0


# ---- SIP


class Sip:
    """A raw TLS connection to the SIP port."""

    def __init__(self, ready: Ready, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ready = ready
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> str:
        """The next final response; empty if the connection was closed instead."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    head = (await self._reader.readuntil(b"\r\n\r\n")).decode(errors="replace").lstrip()  # pongs
                    length = re.search(r"(?im)^content-length: *(\d+)", head)
                    body = await self._reader.readexactly(int(length[1]) if length else 0)
                    if head and not head.startswith("SIP/2.0 1"):
                        return head + body.decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""

    async def status(self, data: bytes) -> int:
        """Of the answer to this; 0 if the connection was closed."""
        await self.send(data)
        answer = await self.answer()
        assert "Traceback" not in answer
        assert 'File "' not in answer
        return int(answer.split()[1]) if answer else 0

    async def authorised(
        self, body: bytes, *, password: str | None = None, content_type: str = "application/sdp"
    ) -> str:
        """An INVITE that knows the demo's password (or another); the final answer to it."""
        trunk = self._ready.trunk
        assert trunk is not None
        await self.send(message("INVITE", body=body, content_type=content_type))
        challenge = await self.answer()
        assert challenge.startswith("SIP/2.0 401")
        nonces = re.findall(r'(?im)^www-authenticate:.*algorithm="?MD5.*$', challenge)
        nonce = re.search(r'nonce="([^"]+)"', nonces[0])
        assert nonce is not None
        uri, realm = "sip:+4930555010@127.0.0.1", "koppel"
        secret = password if password is not None else trunk.password
        ha1 = md5(f"{trunk.username}:{realm}:{secret}")
        response = md5(f"{ha1}:{nonce[1]}:00000001:abc:auth:{md5(f'INVITE:{uri}')}")
        proof = (
            f'Authorization: Digest username="{trunk.username}", realm="{realm}", nonce="{nonce[1]}", uri="{uri}", '
            f'response="{response}", algorithm=MD5, cnonce="abc", qop=auth, nc=00000001\r\n'
        )
        await self.send(message("INVITE", proof, body=body, content_type=content_type))
        return await self.answer()

    async def close(self) -> None:
        self._writer.close()


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@asynccontextmanager
async def sip(relay: RelayProcess) -> AsyncIterator[Sip]:
    host, _, port = relay.ready.sips_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=relay.tls())
    connection = Sip(relay.ready, reader, writer)
    try:
        yield connection
    finally:
        await connection.close()


def message(
    method: str,
    headers: str = "",
    *,
    body: bytes = b"",
    content_type: str = "application/sdp",
    leave_out: str = "",
    uri: str = "sip:+4930555010@127.0.0.1",
    version: str = "SIP/2.0",
) -> bytes:
    """A request like a telephone's, each with its own branch, tags and ids."""
    number = f"{next(_numbers)}{os.urandom(4).hex()}"
    lines = {
        "Via": f"SIP/2.0/TLS 127.0.0.1:5999;branch=z9hG4bK{number};rport",
        "Max-Forwards": "70",
        "From": f"<sip:mallory@127.0.0.1>;tag=f{number}",
        "To": "<sip:+4930555010@127.0.0.1>",
        "Call-ID": f"call-{number}",
        "CSeq": f"1 {method}",
        "Contact": "<sip:mallory@127.0.0.1:5999;transport=tls>",
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
    }
    lines.pop(leave_out, None)
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {uri} {version}\r\n{text}{headers}\r\n".encode() + body


MALFORMED = {
    "no Via": message("OPTIONS", leave_out="Via"),
    "no From": message("OPTIONS", leave_out="From"),
    "no To": message("OPTIONS", leave_out="To"),
    "no Call-ID": message("OPTIONS", leave_out="Call-ID"),
    "no CSeq": message("OPTIONS", leave_out="CSeq"),
    "no Content-Length": message("OPTIONS", leave_out="Content-Length"),
    "another CSeq": message("OPTIONS", leave_out="CSeq").replace(b"\r\n\r\n", b"\r\nCSeq: 1 INVITE\r\n\r\n"),
    "a CSeq too large": message("OPTIONS", leave_out="CSeq").replace(
        b"\r\n\r\n", b"\r\nCSeq: 99999999999 OPTIONS\r\n\r\n"
    ),
    "two CSeq": message("OPTIONS", "CSeq: 2 OPTIONS\r\n"),
    "two lengths": message("OPTIONS", "Content-Length: 5\r\n"),
    "a negative length": message("OPTIONS", leave_out="Content-Length").replace(
        b"\r\n\r\n", b"\r\nContent-Length: -1\r\n\r\n"
    ),
    "a giant length": message("OPTIONS", leave_out="Content-Length").replace(
        b"\r\n\r\n", b"\r\nl: 9999999999999\r\n\r\n"
    ),
    "another version": message("OPTIONS", version="SIP/3.0"),
    "a line without a colon": message("OPTIONS", "nonsense\r\n"),
    "NUL": message("OPTIONS", "X: \0\0\0\r\n"),
    "not UTF-8": message("OPTIONS").replace(b"mallory", b"\xff\xfe\xc0"),
    "an open quote": message("OPTIONS", leave_out="From").replace(b"\r\n\r\n", b'\r\nFrom: "a <sip:a@b>;tag=1\r\n\r\n'),
    "an open bracket": message("OPTIONS", leave_out="To").replace(b"\r\n\r\n", b"\r\nTo: <sip:a@b;tag=1\r\n\r\n"),
    "a URI of another kind": message("OPTIONS", uri="http://127.0.0.1/"),
    "an empty URI": message("OPTIONS", uri=""),
    "a long URI": message("OPTIONS", uri="sip:" + "a" * 20_000 + "@b"),
    "a long header": message("OPTIONS", "X: " + "a" * 60_000 + "\r\n"),
    "many headers": message("OPTIONS", "X: a\r\n" * 20_000),
    "hops used up": message("OPTIONS", leave_out="Max-Forwards").replace(b"\r\n\r\n", b"\r\nMax-Forwards: 0\r\n\r\n"),
    "http": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "a response to nothing": message("OPTIONS").replace(
        b"OPTIONS sip:+4930555010@127.0.0.1 SIP/2.0", b"SIP/2.0 200 OK"
    ),
    "random": os.urandom(2_000) + b"\r\n\r\n",
    "random with a form": b"INVITE " + os.urandom(300).replace(b"\n", b"") + b" SIP/2.0\r\nContent-Length: 0\r\n\r\n",
}


async def test_malformed_sip_is_refused(call):
    statuses: dict[str, int] = {}
    for name, data in MALFORMED.items():
        async with sip(call.relay) as peer:
            # What cannot be answered is dropped; then the next request is.
            statuses[name] = await peer.status(data + message("BYE"))
    assert {name: status for name, status in statuses.items() if status and not 400 <= status < 600} == {}


async def test_requests_that_belong_to_nothing_are_refused(call):
    async with sip(call.relay) as peer:
        assert (
            await peer.status(message("BYE", leave_out="To").replace(b"\r\n\r\n", b"\r\nTo: <sip:a@b>;tag=x\r\n\r\n"))
            == 481
        )
        assert await peer.status(message("CANCEL")) == 481
        await peer.send(message("ACK"))  # is never answered (RFC 3261 §17.1.1.3)
        assert await peer.status(message("REGISTER")) in {401, 403, 405, 501}
        assert await peer.status(message("DANCE")) in {401, 403, 405, 501}
        for method in ("INFO", "UPDATE", "PRACK", "REFER", "SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH"):
            assert 400 <= await peer.status(message(method)) < 600
        assert await peer.status(message("INVITE", "Require: teleport\r\n")) in {401, 420}
        assert await peer.status(message("OPTIONS")) in {200, 401}


async def test_slow_and_broken_connections_hurt_nobody(call):
    async with sip(call.relay) as slow, sip(call.relay) as many:
        whole = message("BYE")
        for byte in whole[:60]:
            await slow.send(bytes([byte]))
        await many.send(b"\r\n\r\n" * 1_000 + b"".join(message("BYE") for _ in range(200)))
        for _ in range(200):
            assert (await many.answer()).startswith("SIP/2.0 481")
        assert await slow.status(whole[60:]) == 481
    for _ in range(50):
        async with sip(call.relay) as peer:
            await peer.send(message("INVITE", body=b"v=0\r\n")[:-3])


OFFER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 40000 RTP/SAVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
)
BAD_OFFERS = {
    "no encryption": OFFER.replace("SAVP", "AVP").replace("a=crypto:1", "a=other:1"),
    "a key too short": OFFER.replace("d0Rmdmcm", ""),
    "a key that is no base64": OFFER.replace("d0Rmdmcm", "!!!!!!!!"),
    "a suite that nobody knows": OFFER.replace("AES_CM_128_HMAC_SHA1_80", "ROT13"),
    "no media": OFFER.split("m=", maxsplit=1)[0],
    "only video": OFFER.replace("m=audio", "m=video"),
    "no codec that we have": OFFER.replace(" 0\r\n", " 97\r\n").replace("rtpmap:0 PCMU", "rtpmap:97 speex"),
    "a port that is none": OFFER.replace("40000", "99999"),
    "a port that is not a number": OFFER.replace("40000", "forty"),
    "no version": OFFER.removeprefix("v=0\r\n"),
    "no origin": OFFER.replace("o=- 1 1 IN IP4 127.0.0.1\r\n", ""),
    "lines that are none": OFFER + "nonsense\r\n" * 100,
    "too many streams": OFFER + "m=audio 0 RTP/SAVP 0\r\n" * 1_000,
    "empty": "",
}


async def test_offers_that_cannot_be_answered_are_refused(call):
    async with sip(call.relay) as peer:
        for name, offer in BAD_OFFERS.items():
            if not offer:
                continue  # an INVITE without one is an offer asked for
            answer = await peer.authorised(offer.encode())
            assert answer.startswith(("SIP/2.0 4", "SIP/2.0 6")), (name, answer)
            assert "Traceback" not in answer
        assert (await peer.authorised(BAD_OFFERS["no encryption"].encode())).startswith("SIP/2.0 488")
        assert (await peer.authorised(os.urandom(500))).startswith("SIP/2.0 4")
        assert (await peer.authorised(b"{}", content_type="application/json")).startswith("SIP/2.0 415")
        assert (await peer.authorised(OFFER.encode(), password="wrong")).startswith(("SIP/2.0 403", "SIP/2.0 401"))


# ---- the softphone's socket


def rpc(method: str, **params: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": next(_numbers), "method": method, "params": params})


MALFORMED_RPC = (
    "",
    "nonsense",
    "[]",
    "[[" * 5_000,
    '{"a":' * 5_000,
    '{"jsonrpc": "1.0", "id": 1, "method": "session.ping"}',
    '{"jsonrpc": "2.0", "id": {}, "method": "session.ping"}',
    '{"jsonrpc": "2.0", "id": 1e400, "method": "session.ping"}',
    '{"jsonrpc": "2.0", "id": NaN, "method": "session.ping"}',
    '{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "session.ping"}',
    '{"jsonrpc": "2.0", "id": 1, "method": 7}',
    '{"jsonrpc": "2.0", "id": 1, "method": "__init__"}',
    '{"jsonrpc": "2.0", "id": 1, "method": "agent.set_state", "params": ["available"]}',
    '{"jsonrpc": "2.0", "id": 1, "method": "agent.set_state", "params": {"state": "\\ud800"}}',
    '{"jsonrpc": "2.0", "id": 1, "method": "agent.set_state", "params": {"state": {"a": [[[[[[]]]]]]}}}',
    '{"jsonrpc": "2.0", "id": 1, "method": "contact.hold", "params": {"contact_id": "../../etc/passwd"}}',
    json.dumps({"jsonrpc": "2.0", "id": 10**30, "method": "session.ping"}),
    rpc("agent.set_state", state="x" * 30_000),
    rpc("contact.accept", contact_id="00000000-0000-4000-8000-000000000000"),
    rpc("media.connect", sdp=OFFER),
    rpc("media.connect", sdp=""),
    rpc("media.disconnect", force=True),
)


def socket(relay: RelayProcess, **options: object) -> websockets.connect:
    url = relay.ready.softphone_url.replace("https", "wss") + "softphone"
    return websockets.connect(url, ssl=relay.tls(), **options)  # type: ignore[arg-type] # options of a library


async def test_malformed_json_rpc_is_refused_before_the_log_in(call):
    async with socket(call.relay) as connection:
        for text in MALFORMED_RPC:
            await connection.send(text)
            refused = await _error(connection)
            assert refused["code"] != ErrorCode.INTERNAL_ERROR
            assert refused["message"]
    async with socket(call.relay) as connection:
        await connection.send(os.urandom(50))
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()
    async with socket(call.relay) as connection:
        await connection.send(b"\xff\xfe", text=True)
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()
    async with socket(call.relay) as connection:
        await connection.send("x" * 1_000_000)
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()


async def _error(connection: websockets.ClientConnection) -> dict:
    answer = json.loads(await asyncio.wait_for(connection.recv(), ANSWER_SECONDS))
    assert set(answer) == {"jsonrpc", "id", "error"}
    return answer["error"]


async def test_a_user_who_has_logged_in_gets_no_further(call):
    """A second agent of the instance: the calls of others are not its, whatever it sends."""
    added = await call.relay.koppel("users", "add", "mallory", "--json")
    assert added.code == 0, added.err
    async with socket(call.relay) as connection:
        await connection.send(rpc("session.log_in", token=added.json()["token"]))
        await _result(connection)
        for text in MALFORMED_RPC:
            if "media.disconnect" not in text and text != rpc("session.ping"):
                await connection.send(text)
                refused = await _next(connection)
                assert "error" in refused, (text[:80], refused)
                assert refused["error"]["code"] != ErrorCode.INTERNAL_ERROR
        for action in ("accept", "reject", "hold", "resume", "mute", "unmute", "hang_up", "complete"):
            await connection.send(rpc(f"contact.{action}", contact_id=call.contact))
            assert (await _next(connection))["error"]["code"] == ErrorCode.NOT_FOUND
        for sdp in _offers():
            await connection.send(rpc("media.connect", sdp=sdp))
            refused = await _next(connection)
            assert "error" in refused, sdp
            assert refused["error"]["code"] != ErrorCode.INTERNAL_ERROR


def _offers() -> list[str]:
    """A browser's offer, with something wrong in each."""
    good = (
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\n"
        "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"
        "a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\n"
    )
    return [
        good.replace("sha-256", "md5"),
        good.replace("AB:AB:AB", "AB:XY:AB"),
        good.replace("a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n", ""),
        good.replace("a=ice-ufrag:abcd\r\n", ""),
        good.replace("a=rtcp-mux\r\n", ""),
        good.replace("opus/48000/2", "opus/96000/5"),
        good.replace("m=audio", "m=video"),
        good.replace("a=setup:actpass", "a=setup:sideways"),
        good.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
        "v=0\r\n" * 2_000,
    ]


async def _next(connection: websockets.ClientConnection) -> dict:
    """The next answer; notifications are passed over."""
    while True:
        answer = json.loads(await asyncio.wait_for(connection.recv(), ANSWER_SECONDS))
        if "method" not in answer:
            return answer


async def _result(connection: websockets.ClientConnection) -> dict:
    answer = await _next(connection)
    assert "result" in answer, answer
    return answer["result"]


async def test_wrong_tokens_are_refused_and_guessing_is_slowed_down(call):
    for token in ("x", "kpl_0000000000000000_" + "A" * 43, call.relay.ready.agent.token[:-1] + "!", "x" * 512):
        async with socket(call.relay) as connection:
            await connection.send(rpc("session.log_in", token=token))
            assert (await _error(connection))["code"] == ErrorCode.NOT_LOGGED_IN
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd.code == 4001
    for _ in range(6):
        async with socket(call.relay) as connection:
            await connection.send(rpc("session.log_in", token="guess"))
            await _error(connection)
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with socket(call.relay):
            pass
    assert refused.value.response.status_code == 429
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with socket(call.relay, origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403


# ---- https


async def test_malformed_http_is_refused(call):
    origin = call.relay.ready.softphone_url.rstrip("/")
    async with httpx.AsyncClient(verify=call.relay.tls(), trust_env=False) as client:
        for path in (
            "/api/nothing",
            "/..%2f..%2f..%2fetc/passwd",
            "/%2e%2e/%2e%2e/main.py",
            "/api/demo/../../x",
            "/\0"[:1] + "%00",
        ):
            answer = await client.get(origin + path)
            assert answer.status_code in {400, 404}, path
            assert "Traceback" not in answer.text
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await client.request(method, origin + "/")).status_code == 405
        assert (await client.get(origin + "/softphone")).status_code in {400, 404, 405, 426}
    host, _, port = origin.removeprefix("https://").rpartition(":")
    for data in (
        os.urandom(500) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET /softphone HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=call.relay.tls())
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(2_000), ANSWER_SECONDS)
        assert not answer or answer.split()[1][:1] == b"4", (data[:60], answer)
        assert b"Traceback" not in answer
        writer.close()
