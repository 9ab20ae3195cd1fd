from __future__ import annotations

import io
import json
import logging
import uuid
from collections.abc import Iterator

import h11
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from relay.config import LogSettings
from relay.logs import REMOVED, TEXT_MAX, configure, redact, redact_text


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure(LogSettings(level="debug", format="json"), stream)
    yield stream
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_ids(log: io.StringIO) -> None:
    structlog.get_logger("relay.test").info("leg opened", leg_id="leg-17", key_id="k1", packets=1_234_567_890)
    (line,) = lines(log)
    assert line.pop("timestamp")
    assert line == {
        "event": "leg opened",
        "leg_id": "leg-17",
        "key_id": "k1",
        "packets": 1_234_567_890,
        "level": "info",
        "logger": "relay.test",
    }


def test_peers_cannot_fill_the_log_through_libraries(log: io.StringIO) -> None:
    library = logging.getLogger("uvicorn.error")
    library.error("ASGI callable returned without completing handshake.")
    try:
        b"\xff".decode()
    except UnicodeDecodeError:
        library.exception("Invalid UTF-8 sequence received from client.")
    try:
        raise h11.LocalProtocolError("can't handle event type Response when role=SERVER and state=MUST_CLOSE")
    except h11.LocalProtocolError:
        library.exception("Exception in ASGI application\n")
    logging.getLogger("asyncio").warning("socket.send() raised exception.")
    assert lines(log) == []


@pytest.mark.parametrize(
    "name",
    ["customer_number", "ani", "token", "SDP", "send_key", "digits", "password", "authorization", "from_uri", "salt"],
)
def test_values_with_a_forbidden_name_are_removed(name: str) -> None:
    assert redact(None, "info", {"event": "x", name: "anything"})[name] == REMOVED
    assert redact(None, "info", {"event": "x", "inner": {name: 5}})["inner"] == {name: REMOVED}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("call from +49 30 5550-1234 ended", f"call from {REMOVED} ended"),
        ("INVITE sip:+4930555010@192.0.2.7:5061", f"INVITE sip:{REMOVED}@192.0.2.7:5061"),
        ("to <tel:+4930555010>", f"to <tel:{REMOVED}>"),
        (
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc+/=|2^20",
            f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{REMOVED}|2^20",
        ),
        ("a=ice-pwd:s3cr3t", f"a=ice-pwd:{REMOVED}"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {REMOVED}"),
        ('Authorization: Digest username="bob", response="00ff"', f"Authorization: Digest {REMOVED}"),
        ("token kpl_00112233aabbccdd_" + "x" * 43 + " refused", f"token {REMOVED} refused"),
        ("https://h/softphone?token=abc&x=1", f"https://h/softphone?token={REMOVED}&x=1"),
        ("-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----", REMOVED),
    ],
)
def test_texts_lose_what_looks_like_a_secret(text: str, left: str) -> None:
    assert redact_text(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "listening on 192.168.100.200:5061",
        "from 127.0.0.1 port 49170",
        "2026-11-24T02:45:16Z began",
        "contact 3f2b8c1e-1234-4567-8901-123456789012 ended",
        "5000 packets in 123456 ms",
    ],
)
def test_ids_addresses_and_times_stay(text: str) -> None:
    assert redact_text(text) == text


@given(st.uuids())
def test_ids_are_never_mistaken_for_numbers(value: uuid.UUID) -> None:
    assert redact_text(f"contact {value} ended") == f"contact {value} ended"


@given(st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True), st.sampled_from([" ", ":", "<", "'", '"', "=", "("]))
def test_no_number_in_e164_passes(number: str, before: str) -> None:
    assert number[1:] not in redact_text(f"to{before}{number} now")


def test_lines_of_libraries_pass_the_same_way(log: io.StringIO) -> None:
    logging.getLogger("aiortc.thing").warning("dialled %s", "+4930555010")
    assert lines(log)[0]["event"] == f"dialled {REMOVED}"


def test_traces_of_errors_are_redacted_and_show_no_variables(log: io.StringIO) -> None:
    secret_thing = "kpl_00112233aabbccdd_" + "y" * 43
    try:
        raise ValueError(f"refused {secret_thing}")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "y" * 43 not in log.getvalue()
    assert "ValueError: refused" in str(lines(log)[0]["exception"])


def test_bytes_are_counted_not_shown_and_texts_are_bounded() -> None:
    event = redact(None, "info", {"event": "x", "data": b"\x00" * 7, "text": "a b " * TEXT_MAX})
    assert event["data"] == "(7 bytes)"
    assert event["text"].endswith(f"… ({4 * TEXT_MAX} characters)")


def test_libraries_tell_their_everyday_only_at_level_debug() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    for chosen, lines_told in (("info", 1), ("debug", 3)):
        configure(LogSettings(level=chosen, format="json"), stream)  # type: ignore[arg-type]
        logging.getLogger("uvicorn.error").info("started")
        logging.getLogger("uvicorn.error").warning("odd")
        assert len(stream.getvalue().splitlines()) == lines_told
    configure(LogSettings(level="info"), stream)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_level_is_obeyed() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure(LogSettings(level="warning", format="console"), stream)
    structlog.get_logger().info("not this")
    structlog.get_logger().warning("but this")
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    assert "not this" not in stream.getvalue()
    assert "but this" in stream.getvalue()
