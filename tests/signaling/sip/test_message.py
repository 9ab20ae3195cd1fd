import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.errors import LocalError, RemoteError
from signaling.sip.message import MalformedMessage, MessageLimits, Request, Response, parse, respond
from tests.signaling.sip.torture import Vector, vector, vectors

INVITE = (
    b"INVITE sip:100@relay.example SIP/2.0\r\n"
    b"Via: SIP/2.0/TLS a.example;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b.example, SIP/2.0/TCP c.example;x\r\n"
    b"f: <sip:alice@a.example>;tag=1\r\nt: sip:100@relay.example\r\ni: call@a\r\nCSeq: 7 INVITE\r\n"
    b'm: <sip:alice@a.example:5070?Replaces=y>;+sip.instance="<urn:uuid:1>"\r\nMax-Forwards: 70\r\n\r\nbody'
)


@pytest.mark.parametrize("each", vectors(), ids=lambda each: f"{each.section}-{each.name}")
def test_torture(each: Vector) -> None:
    """See https://www.rfc-editor.org/rfc/rfc4475 for what each one is about."""
    if each.expected == "ok":
        message = parse(each.data)
        assert parse(bytes(message)) == parse(bytes(parse(bytes(message))))
        return
    with pytest.raises(MalformedMessage) as caught:
        parse(each.data)
    if each.expected == "drop":
        assert caught.value.request is None
    else:
        assert caught.value.request is not None
        assert caught.value.sip_status == int(each.expected)
        answer = respond(caught.value.request, caught.value.sip_status, to_tag="t")
        assert bytes(answer).startswith(b"SIP/2.0 " + each.expected.encode())


def test_what_the_short_tortuous_invite_says() -> None:
    message = parse(vector("wsinv").data)
    assert isinstance(message, Request)
    assert message.values("Via") == [
        "SIP  /   2.0 /UDP 192.0.2.2;branch=390skdjuw",
        "SIP  / 2.0  / TCP     spindle.example.com   ; branch  =   z9hG4bK9ikj8",
        "SIP  /    2.0   / UDP  192.168.255.111   ; branch= z9hG4bK30239",
    ]
    assert (message.cseq.number, message.number("Max-Forwards"), message.sender.tag) == (9, 68, "98asjd8")
    assert message.sender.display_name == 'J Rosenberg \\"'
    assert message.contacts[0].parameter("secondparam") == ""
    assert message.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    assert message.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert len(message.body) == 150


def test_unusual_characters_survive() -> None:
    data = vector("intmeth").data
    message = parse(data)
    assert isinstance(message, Request)
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.recipient.display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert dict(message.sender.parameters)["fromparam''~+*_!.-%"] == '"работающий"'
    assert "\ufeff大停電".encode() in bytes(message)


def test_escaped_percent_signs_are_unescaped_once() -> None:
    message = parse(vector("esc01").data)
    assert message.recipient.uri.number == "user"
    assert message.contacts[0].uri.parameter("n%61me") == "v%61lue%25%34%31"
    assert message.sender.uri.number == "I have spaces"


def test_a_second_request_in_a_datagram_is_ignored() -> None:
    message = parse(vector("dblreq").data)
    assert isinstance(message, Request)
    assert (message.method, message.body) == ("REGISTER", b"")


def test_compact_forms_lists_and_a_missing_content_length() -> None:
    message = parse(INVITE)
    assert isinstance(message, Request)
    assert [name for name, _ in message.headers] == [
        "Via", "Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards",
    ]  # fmt: skip
    assert message.values("Via")[1:] == ["SIP/2.0/UDP b.example", "SIP/2.0/TCP c.example;x"]
    assert message.contacts[0].uri.headers == "Replaces=y"
    assert message.body == b"body", "on datagrams a missing Content-Length means all (RFC 3261 §18.3)"
    assert b"Content-Length: 4\r\n\r\nbody" in bytes(message)


def test_contact_star_and_quoted_commas() -> None:
    data = INVITE.replace(b"INVITE", b"REGISTER").replace(
        b"Max-Forwards: 70",
        b'Contact: *\r\nAuthorization: Digest realm="a, b", qop="auth,auth-int", nonce="n"\r\nExpires: 0',
    )
    message = parse(data)
    assert [contact.uri.user for contact in message.contacts] == ["alice"]
    assert message.lines("Authorization") == ['Digest realm="a, b", qop="auth,auth-int", nonce="n"']


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"CSeq: 7 INVITE", b"CSeq: 7 BYE"),
        (b"Max-Forwards: 70", b"Max-Forwards: 256"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nno colon here"),
        (b"Max-Forwards: 70", b"Subject: a\rb"),
        (b"Max-Forwards: 70", b"Subject: a\nX-Injected: b"),
        (b"Max-Forwards: 70", b"Content-Length: 5"),
        (b"Max-Forwards: 70", b"Content-Length: 4, 4"),
        (b"Max-Forwards: 70", b"Bad Name: 1"),
        (b"i: call@a", b"i: call a"),
        (b"m: <", b'm: "<'),
        (b" SIP/2.0\r\nVia: SIP/2.0/TLS", b" SIP2.0\r\nVia: SIP/2.0/TLS"),
    ],
)
def test_malformed_requests_that_can_be_answered(old: bytes, new: bytes) -> None:
    assert old in INVITE
    with pytest.raises(MalformedMessage) as caught:
        parse(INVITE.replace(old, new))
    assert caught.value.sip_status == 400
    assert caught.value.request is not None
    response = bytes(respond(caught.value.request, 400, to_tag="x"))
    assert response.startswith(b"SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/TLS a.example;branch=z9hG4bK1\r\n")


@pytest.mark.parametrize("header", [b"Via", b"f", b"t", b"i", b"CSeq"])
def test_requests_without_a_mandatory_header_are_dropped(header: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse(re.sub(header + rb": [^\r]*\r\n", b"", INVITE))
    assert caught.value.request is None


def test_limits() -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse(INVITE, MessageLimits(message_bytes_max=100))
    assert (caught.value.sip_status, caught.value.request) == (513, None)
    with pytest.raises(MalformedMessage, match="too many headers"):
        parse(INVITE, MessageLimits(headers_max=5))
    with pytest.raises(MalformedMessage, match="too many hops"):
        parse(INVITE, MessageLimits(values_max=2))


def test_response_carries_what_it_must() -> None:
    request = parse(INVITE)
    assert isinstance(request, Request)
    response = respond(request, 180, to_tag="mine", headers=(("Server", "Koppel"),))
    assert bytes(response) == (
        b"SIP/2.0 180 Ringing\r\nVia: SIP/2.0/TLS a.example;branch=z9hG4bK1\r\n"
        b"Via: SIP/2.0/UDP b.example, SIP/2.0/TCP c.example;x\r\nFrom: <sip:alice@a.example>;tag=1\r\n"
        b"Call-ID: call@a\r\nCSeq: 7 INVITE\r\nTo: sip:100@relay.example;tag=mine\r\nServer: Koppel\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


def test_a_tag_that_is_there_is_kept() -> None:
    request = parse(INVITE.replace(b"t: sip:100@relay.example", b"t: <sip:100@relay.example>;tag=old"))
    assert isinstance(request, Request)
    assert respond(request, 200, to_tag="new").recipient.tag == "old"


@pytest.mark.parametrize("text", ["a\r\nX-Injected: b", "a\nb", "a\rb"])
def test_no_line_end_leaves_in_a_header(text: str) -> None:
    with pytest.raises(LocalError):
        bytes(Request((("Subject", text),), b"", "INVITE", "sip:a"))
    with pytest.raises(LocalError):
        bytes(Response((), b"", 200, text))


MANY = 60_000


@pytest.mark.parametrize(
    ("to", "more"),
    [
        ('"' + '\\"' * (MANY // 2), ""), ("<sip:a@b>" + " " * MANY, ""), ("<sip:a@b>", "Subject:" + " " * MANY + "x\r\n"),
        ("<" * MANY, ""), ("<sip:a@b>" + ";a" * (MANY // 2), ""), ("<sip:a@" + "a-" * (MANY // 2) + ">", ""),
        ("<sip:a@b>", "Route: " + "<sip:a>," * (MANY // 8) + "<sip:a>\r\n"), ("<sip:a@b>", "Subject: a" + "\r\n " * (MANY // 3) + "\r\n"),
    ],
)  # fmt: skip
def test_no_message_takes_long_to_read(to: str, more: str) -> None:
    """Each of these took seconds with a parser that looks again from every place."""
    head = f"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: {to}\r\n"
    started = time.process_time()
    with contextlib.suppress(MalformedMessage):
        parse(f"{head}Call-ID: x\r\nCSeq: 1 OPTIONS\r\n{more}\r\n".encode())
    assert time.process_time() - started < 0.5


def test_messages_keep_numbers_out_of_their_repr() -> None:
    assert "alice" not in repr(parse(INVITE))
    assert "100" not in repr(parse(INVITE))


_TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-.!%*_+`'~", min_size=1, max_size=12)
_VALUE = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=40).map(str.strip)


@given(_TOKEN, st.lists(st.tuples(_TOKEN.map("X-".__add__), _VALUE), max_size=5), st.binary(max_size=60))
def test_what_is_written_is_read_again(method: str, headers: list[tuple[str, str]], body: bytes) -> None:
    request = Request(
        (
            ("Via", "SIP/2.0/UDP a.example;branch=z9hG4bK1"), ("From", "<sip:a@b>;tag=1"), ("To", "<sip:c@d>"),
            ("Call-ID", "x"), ("CSeq", f"1 {method}"), *((name, value.strip(" \t")) for name, value in headers),
        ),
        body, method, "sip:c@d",
    )  # fmt: skip
    again = parse(bytes(request))
    assert isinstance(again, Request)
    assert again.headers == (*request.headers, ("Content-Length", str(len(body))))
    assert (again.method, again.uri, again.body) == (method, "sip:c@d", body)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_remote_error(data: bytes) -> None:
    with contextlib.suppress(RemoteError):
        parse(data)


@given(st.data())
def test_no_change_of_a_message_raises_anything_but_remote_error(data: st.DataObject) -> None:
    base = bytearray(data.draw(st.sampled_from([INVITE, vector("wsinv").data, vector("unreason").data])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(base) - 1))
        cut = data.draw(st.integers(0, 8))
        base[at : at + cut] = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"\r\n", b'"', b"<", b",", b";", b"\xff"])
        )
    try:
        message = parse(bytes(base))
    except MalformedMessage as error:
        if error.request is not None:
            bytes(respond(error.request, error.sip_status, to_tag="t"))
        return
    assert isinstance(message, Request | Response)
    assert message.via.transport
    assert message.cseq.number < 2**31
