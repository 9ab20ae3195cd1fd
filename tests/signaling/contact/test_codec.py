"""Events as canonical JSON: one spelling each, nothing else is read."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signaling.contact import events
from signaling.contact.codec import ENTRY_BYTES_MAX, decode, encode
from signaling.errors import LocalError, RemoteError
from tests.signaling.contact.stories import CALLER, hold, leaves, started

EVENTS = events.ContactEvent.__args__


def test_the_exact_bytes_of_two_events():
    assert encode(hold(CALLER, 2.5, by="system")) == (
        b'{"at":2.5,"by":"system","participant_id":"caller","type":"Held","version":1}'
    )
    assert encode(started()) == (
        b'{"account_id":"a-1","answer":"at_once","at":0.0,"contact_id":"c-1","customer_number":"+4930123456",'
        b'"instance_id":"i-1","participant_id":"caller","queue":"main","recorded":["agent","customer"],'
        b'"system_number":"+4989987654","trunk":"carrier","type":"ContactStarted","version":1,"waiting_source":"music"}'
    )


def test_no_number_in_a_representation():
    assert "30123456" not in repr(started())
    assert "89987654" not in repr(started())


@given(st.one_of([st.from_type(each) for each in EVENTS]))
@example(hold(CALLER, 3))  # a whole number of seconds is still a float
@example(leaves("\ud800é\0"))
def test_what_is_written_is_read_again(event):
    try:
        data = encode(event)
    except LocalError:
        assert event.at != event.at or abs(event.at) == float("inf")
        return
    assert data.isascii()
    assert decode(data) == event
    assert encode(decode(data)) == data


GOOD = json.loads(encode(hold(CALLER, 2.5)))
BAD = {
    "not JSON": b"{",
    "not an object": b"[]",
    "nothing": b"",
    "not UTF-8": b'"\xff"',
    "deeply nested": b"[" * 100_000,
    "too long": encode(hold("x" * ENTRY_BYTES_MAX)),
    "no version": {"type": "Held", "at": 1.0, "participant_id": "p", "by": "b"},
    "another version": {**GOOD, "version": 2},
    "version of another type": {**GOOD, "version": True},
    "version as float": {**GOOD, "version": 1.0},
    "no type": {k: v for k, v in GOOD.items() if k != "type"},
    "unknown type": {**GOOD, "type": "Exploded"},
    "type is a list": {**GOOD, "type": ["Held"]},
    "field missing": {k: v for k, v in GOOD.items() if k != "by"},
    "field too many": {**GOOD, "extra": 1},
    "time is text": {**GOOD, "at": "2.5"},
    "time is a boolean": {**GOOD, "at": True},
    "time is an integer": {**GOOD, "at": 2},
    "time is null": {**GOOD, "at": None},
    "name is a number": {**GOOD, "by": 7},
    "name is null": {**GOOD, "by": None},
    "choice unknown": {**json.loads(encode(leaves(CALLER))), "cause": "bored"},
    "array for a choice": {**json.loads(encode(leaves(CALLER))), "cause": ["ended"]},
    "text for an array": {**json.loads(encode(started())), "recorded": "agent"},
    "wrong value in an array": {**json.loads(encode(started())), "recorded": ["agent", "dog"]},
    "infinite time": encode(hold(CALLER, 2.5)).replace(b"2.5", b"Infinity"),
    "huge time": encode(hold(CALLER, 2.5)).replace(b"2.5", b"1e999"),
    "white space": json.dumps(GOOD, sort_keys=True).encode(),
    "other order": json.dumps(dict(sorted(GOOD.items(), reverse=True)), separators=(",", ":")).encode(),
    "other spelling of a number": encode(hold(CALLER, 2.5)).replace(b"2.5", b"2.50"),
    "other spelling of text": encode(hold(CALLER, 2.5)).replace(b"caller", b"call\\u0065r"),
    "key twice": encode(hold(CALLER, 2.5)).replace(b'{"at"', b'{"at":2.5,"at"'),
    "trailing bytes": encode(hold(CALLER, 2.5)) + b"\n",
}


@pytest.mark.parametrize("name", list(BAD))
def test_anything_else_is_refused(name):
    data = BAD[name]
    if isinstance(data, dict):
        data = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(RemoteError, match="log entry"):
        decode(data)


@given(st.binary(max_size=200))
def test_noise_is_refused(data):
    with pytest.raises(RemoteError):
        decode(data)


@pytest.mark.parametrize("at", [float("nan"), float("inf"), "x", None])
def test_what_the_log_cannot_hold_is_a_local_error(at):
    with pytest.raises(LocalError, match="Held"):
        encode(hold(CALLER, at))


def test_every_event_has_a_time_and_every_field_is_written():
    for kind in EVENTS:
        assert next(f.name for f in fields(kind)) == "at"
