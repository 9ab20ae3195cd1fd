from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.softphone.messages import (
    AgentStateChanged,
    ConnectMedia,
    ContactChanged,
    ContactEnded,
    ContactRequest,
    ContactRinging,
    ContactSnapshot,
    DisconnectMedia,
    ErrorCode,
    IceServer,
    Levels,
    LoggedIn,
    LogIn,
    MediaStateChanged,
    Ping,
    Problem,
    Quality,
    RequestError,
    SessionReplaced,
    SetState,
)
from signaling.softphone.protocol import (
    METHODS,
    Call,
    Dropped,
    Limits,
    Refused,
    RequestReader,
    failure,
    notification,
    result,
)


def reader(**limits) -> RequestReader:
    return RequestReader(Limits(**limits), 0.0)


def read(text: str, **limits):
    return reader(**limits).read(text, 0.0)


def text(method: str, params: object = None, request_id: object = 1) -> str:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return json.dumps(message if params is None else message | {"params": params})


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("session.log_in", {"token": "t"}, LogIn("t")),
        ("session.ping", None, Ping()),
        ("session.ping", {"newer": [1]}, Ping()),
        ("media.connect", {"sdp": "v=0\r\n"}, ConnectMedia("v=0\r\n")),
        ("media.disconnect", {}, DisconnectMedia()),
        ("agent.set_state", {"state": "break"}, SetState("break")),
        ("contact.accept", {"contact_id": "c"}, ContactRequest("accept", "c")),
        ("contact.hang_up", {"contact_id": "c"}, ContactRequest("hang_up", "c")),
    ],
)
def test_requests_become_values(method, params, expected):
    assert read(text(method, params)) == Call(1, expected)


def test_every_contact_method_carries_its_own_name():
    for method in (method for method in METHODS if method.startswith("contact.")):
        call = read(text(method, {"contact_id": "c-1"}))
        assert call == Call(1, ContactRequest(method.partition(".")[2], "c-1"))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", -32700),
        ("{", -32700),
        ("[" * 60_000, -32700),
        ('{"jsonrpc":"2.0","id":NaN,"method":"session.ping"}', -32700),
        ('{"id":1,"id":2,"jsonrpc":"2.0","method":"session.ping"}', -32700),
        ("1" * 5_000, -32700),
        ("7", -32600),
        ("[]", -32600),
        ("{}", -32600),
        ('{"jsonrpc":"1.0","id":1,"method":"session.ping"}', -32600),
        (text("session.ping", request_id=None), -32600),
        (text("session.ping", request_id=True), -32600),
        (text("session.ping", request_id=1.5), -32600),
        (text("session.ping", request_id=2**53), -32600),
        (text("session.ping", request_id="x" * 65), -32600),
        (text("session.ping", request_id="\ud800"), -32600),
        (text("session.ping", {"a": [[[[1]]]]}), -32600),
        ('{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (text("session.pong"), -32601),
        (text("session.ping", [1]), -32602),
        (text("session.log_in"), -32602),
        (text("session.log_in", {"token": ""}), -32602),
        (text("session.log_in", {"token": 5}), -32602),
        (text("session.log_in", {"token": "x" * 513}), -32602),
        (text("session.log_in", {"token": "\udfff"}), -32602),
        (text("agent.set_state", {"state": "asleep"}), -32602),
        (text("contact.accept", {"contact_id": None}), -32602),
        (text("media.connect", {"sdp": "x" * 32_769}), -32602),
    ],
)
def test_nonsense_is_answered_with_its_code(message, code):
    refused = read(message)
    assert isinstance(refused, Refused)
    answer = json.loads(refused.text)
    assert answer["error"]["code"] == refused.code == code
    assert answer["jsonrpc"] == "2.0"
    assert "result" not in answer


def test_the_answer_bears_the_id_once_it_could_be_read():
    assert json.loads(read(text("x", request_id="a")).text)["id"] == "a"
    assert json.loads(read("{").text)["id"] is None


def test_a_frame_that_is_too_long_is_not_parsed():
    assert read("[" * 101, text_max=100).code == ErrorCode.INVALID_REQUEST


def test_notifications_and_responses_of_a_client_get_no_answer():
    assert read('{"jsonrpc":"2.0","method":"session.ping"}') == Dropped()
    assert read('{"jsonrpc":"2.0","id":1,"result":{}}') == Dropped()


def test_requests_are_rationed():
    session = reader(requests_per_second=2.0, requests_burst=3)
    ping = text("session.ping")
    assert [type(session.read(ping, 0.0)) for _ in range(4)] == [Call, Call, Call, Refused]
    refused = session.read(ping, 0.25)
    assert json.loads(refused.text)["error"] == {
        "code": -32004,
        "message": "too many requests",
        "data": {"retry_after_s": 0.25},
    }
    assert isinstance(session.read(ping, 0.5), Call)
    assert isinstance(session.read(ping, 0.5), Refused)
    assert [type(session.read(ping, 1_000.0)) for _ in range(4)] == [Call, Call, Call, Refused]


@given(st.text(max_size=300))
def test_no_text_makes_the_reader_raise(anything):
    assert isinstance(read(anything), Call | Refused | Dropped)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from([*METHODS, "other"]), json_values, json_values)
def test_no_params_and_no_id_make_the_reader_raise(method, params, request_id):
    assert isinstance(read(text(method, params, request_id)), Call | Refused | Dropped)


@pytest.mark.parametrize(
    ("told", "method", "params"),
    [
        (AgentStateChanged("available"), "agent.state", {"state": "available", "next_state": None}),
        (
            ContactRinging("c", "+4930", "Support"),
            "contact.ringing",
            {"contact_id": "c", "number": "+4930", "queue": "Support"},
        ),
        (ContactChanged("held", "c"), "contact.held", {"contact_id": "c"}),
        (
            ContactEnded("c", "hung_up_by_customer"),
            "contact.ended",
            {"contact_id": "c", "reason": "hung_up_by_customer"},
        ),
        (MediaStateChanged("connected"), "media.state", {"state": "connected", "reason": None}),
        (Levels(-30.5, -127.0), "media.levels", {"microphone": -30.5, "ear": -127.0}),
        (Quality(0.01, 3.5, None), "media.quality", {"loss_ratio": 0.01, "jitter_ms": 3.5, "round_trip_ms": None}),
        (SessionReplaced(), "session.replaced", {}),
        (Problem("für alle"), "error", {"message": "für alle"}),
    ],
)
def test_notifications_are_written(told, method, params):
    assert json.loads(notification(told)) == {"jsonrpc": "2.0", "method": method, "params": params}


def test_results_and_failures_are_written():
    assert json.loads(result("a", {"sdp": "v=0"})) == {"jsonrpc": "2.0", "id": "a", "result": {"sdp": "v=0"}}
    error = RequestError(ErrorCode.UNAVAILABLE, "later", retry_after=5.0)
    assert json.loads(failure(7, error)) == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": -32005, "message": "later", "data": {"retry_after_s": 5.0}},
    }


def test_log_in_tells_all_that_a_page_needs():
    logged_in = LoggedIn(
        "ada",
        "agent",
        "on_contact",
        "connected",
        (IceServer(("turn:x",), "u", "p"), IceServer(("stun:y",))),
        ContactSnapshot("c", "connected", "+49", "Support", muted=True, connected_s=3.5),
    )
    assert logged_in.as_result() == {
        "protocol": 1,
        "user": "ada",
        "role": "agent",
        "state": "on_contact",
        "media": "connected",
        "iceServers": [{"urls": ("turn:x",), "username": "u", "credential": "p"}, {"urls": ("stun:y",)}],
        "contact": {
            "contact_id": "c",
            "state": "connected",
            "number": "+49",
            "queue": "Support",
            "on_hold": False,
            "muted": True,
            "connected_s": 3.5,
        },
    }


def test_no_secret_and_no_number_shows_in_a_repr():
    shown = repr(
        [
            LogIn("s3cret"),
            ConnectMedia("s3cret"),
            ContactRinging("c", "+49301", "q"),
            ContactSnapshot("c", "ringing", "+49301", "q"),
            IceServer(("turn:x",), "u", "s3cret"),
        ]
    )
    assert "s3cret" not in shown
    assert "+49301" not in shown
