import pytest

from signaling.errors import Exhausted
from signaling.sip.events import Flow, FlowId, SendMessage, Timing
from signaling.sip.message import Request, Response, parse, respond
from signaling.sip.transaction_layer import Failed, Received, TransactionLayer, response_address, stamp_via
from tests.signaling.sip.pair import entropy_of

UDP = Flow(FlowId("u"), "udp", ("203.0.113.1", 5060), ("192.0.2.9", 4711))
TLS = Flow(FlowId("t"), "tls", ("203.0.113.1", 5061), ("192.0.2.9", 4712))


class User:
    """Takes what a transaction passes up."""

    def receive_response(self, *_: object) -> None: ...
    def transaction_failed(self, *_: object) -> None: ...


def layer(maximum: int = 100) -> TransactionLayer:
    return TransactionLayer(Timing(), maximum, entropy_of("layer"))


def request(
    method: str = "INVITE",
    branch: str = "z9hG4bKa",
    *,
    via: str = "192.0.2.1:5070;rport",
    to: str = "<sip:b@b>",
    cseq: int = 1,
) -> Request:
    headers = (
        ("Via", f"SIP/2.0/UDP {via};branch={branch}" if branch else f"SIP/2.0/UDP {via}"), ("From", "<sip:a@a>;tag=f"),
        ("To", to), ("Call-ID", "x"), ("CSeq", f"{cseq} {method}"), ("Max-Forwards", "70"),
        ("Route", "<sip:p.example;lr>"),
    )  # fmt: skip
    return Request(headers, b"", method, "sip:b@b")


def sent(under_test: TransactionLayer) -> list[Request | Response]:
    return [parse(item.data) for item in under_test.poll() if isinstance(item, SendMessage)]


def test_a_repeated_request_gets_the_last_response_again() -> None:
    under_test = layer()
    transaction = under_test.accept(request(), UDP, 0.0)
    under_test.respond(transaction, respond(request(), 180, to_tag="t"), 0.0)
    found = under_test.find_server(request())
    assert found is transaction
    under_test.repeat(transaction, request(), 1.0)
    assert [message.status for message in sent(under_test) if isinstance(message, Response)] == [180, 180]


@pytest.mark.parametrize("branch", ["z9hG4bKa", "", "old-style"])
def test_ack_and_cancel_find_their_invite(branch: str) -> None:
    under_test = layer()
    transaction = under_test.accept(request(branch=branch), UDP, 0.0)
    assert under_test.find_cancelled(request("CANCEL", branch)) is transaction
    assert under_test.find_server(request("CANCEL", branch)) is None
    under_test.respond(transaction, respond(request(branch=branch), 486, to_tag="t"), 0.0)
    ack = request("ACK", branch, to="<sip:b@b>;tag=t")
    assert under_test.find_server(ack) is transaction
    under_test.repeat(transaction, ack, 0.1)
    sent(under_test)
    under_test.handle_timer(5.1)
    assert len(under_test) == 0, "timer I is over (T4)"
    assert sent(under_test) == []


@pytest.mark.parametrize(
    "other",
    [
        request(branch="z9hG4bKb"),
        request(via="192.0.2.1:5071;rport"),
        request(via="192.0.2.2:5070"),
        request("OPTIONS"),
    ],
)
def test_other_branches_hosts_and_methods_are_other_transactions(other: Request) -> None:
    under_test = layer()
    under_test.accept(request(), UDP, 0.0)
    assert under_test.find_server(other) is None


def test_a_copied_branch_from_elsewhere_is_another_transaction() -> None:
    under_test = layer()
    under_test.accept(stamp_via(request(), UDP), UDP, 0.0)
    thief = Flow(FlowId("u"), "udp", UDP.local, ("198.51.100.66", 4711))
    assert under_test.find_server(stamp_via(request(), UDP)) is not None
    assert under_test.find_server(stamp_via(request(), thief)) is None
    assert under_test.find_cancelled(stamp_via(request("CANCEL"), thief)) is None


def test_the_same_request_by_another_way_is_merged() -> None:
    under_test = layer()
    transaction = under_test.accept(request(), UDP, 0.0)
    assert not under_test.is_merged(request())
    assert under_test.is_merged(request(branch="z9hG4bKfork"))
    assert not under_test.is_merged(request(branch="z9hG4bKnext", cseq=2))
    under_test.respond(transaction, respond(request(), 486, to_tag="t"), 0.0)
    under_test.handle_timer(40.0)
    assert not under_test.is_merged(request(branch="z9hG4bKfork")), "the first is over and forgotten"


def test_requests_within_a_dialog_are_never_merged() -> None:
    under_test = layer()
    under_test.accept(request("UPDATE", to="<sip:b@b>;tag=t"), UDP, 0.0)
    assert not under_test.is_merged(request("UPDATE", "z9hG4bKother", to="<sip:b@b>;tag=t"))


def test_a_client_transaction_over_its_life() -> None:
    under_test = layer()
    plain = Request(request().headers[1:], b"", "INVITE", "sip:b@b")
    transaction = under_test.begin(plain, UDP, User(), 0.0)
    (invite,) = sent(under_test)
    assert isinstance(invite, Request)
    branch = entropy_of("layer")(12).hex()
    assert invite.get("Via") == f"SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bK{branch};rport"
    under_test.receive_response(respond(invite, 180, to_tag="t"), 0.1)
    busy = respond(invite, 486, to_tag="t")
    under_test.receive_response(busy, 0.2)
    output = under_test.poll()
    assert [type(item) for item in output] == [Received, SendMessage, Received]
    ack = parse(output[1].data) if isinstance(output[1], SendMessage) else None
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri, ack.get("Via"), ack.get("To"), ack.get("Route"), str(ack.cseq)) == (
        "ACK", "sip:b@b", invite.get("Via"), "<sip:b@b>;tag=t", "<sip:p.example;lr>", "1 ACK",
    )  # fmt: skip
    under_test.receive_response(busy, 1.0)
    assert [message.method for message in sent(under_test) if isinstance(message, Request)] == ["ACK"]
    under_test.handle_timer(32.2)
    assert len(under_test) == 0
    under_test.receive_response(busy, 33.0)
    assert (under_test.poll(), under_test.stray_responses) == ([], 1)
    assert transaction.response == busy


def test_a_cancel_shares_branch_and_headers() -> None:
    under_test = layer()
    transaction = under_test.begin(Request(request().headers[1:], b"body", "INVITE", "sip:b@b"), UDP, User(), 0.0)
    under_test.cancel(transaction, 0.1)
    invite, cancel = sent(under_test)
    assert isinstance(cancel, Request)
    assert (cancel.method, str(cancel.cseq), cancel.body) == ("CANCEL", "1 CANCEL", b"")
    for name in ("Via", "From", "To", "Call-ID", "Route"):
        assert cancel.get(name) == invite.get(name)


def test_limits() -> None:
    under_test = layer(2)
    first = under_test.accept(request(), UDP, 0.0)
    under_test.begin(Request(request().headers[1:], b"", "OPTIONS", "sip:b@b"), UDP, User(), 0.0)
    with pytest.raises(Exhausted):
        under_test.accept(request(branch="z9hG4bKb"), UDP, 0.0)
    with pytest.raises(Exhausted):
        under_test.begin(request(), UDP, User(), 0.0)
    under_test.count(first, "carrier")
    assert (under_test.load("carrier"), under_test.load("")) == (1, 0)
    under_test.respond(first, respond(request(), 486, to_tag="t"), 0.0)
    under_test.handle_timer(40.0)
    assert under_test.load("carrier") == 0
    assert not +under_test._load


def test_a_lost_connection_fails_what_waits_on_it() -> None:
    under_test = layer()
    under_test.begin(Request(request().headers[1:], b"", "INVITE", "sip:b@b"), TLS, User(), 0.0)
    under_test.begin(Request(request().headers[1:], b"", "INVITE", "sip:b@b"), UDP, User(), 0.0)
    under_test.accept(request("OPTIONS"), TLS, 0.0)
    under_test.poll()
    under_test.flow_failed(TLS.flow_id, 1.0)
    assert [item.why for item in under_test.poll() if isinstance(item, Failed)] == ["error", "error"]
    assert len(under_test) == 1


@pytest.mark.parametrize(
    ("via", "flow", "stamped", "answer_to"),
    [
        ("192.0.2.9:5070", UDP, "SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKa", ("192.0.2.9", 5070)),
        ("192.0.2.9", UDP, "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa", ("192.0.2.9", 5060)),
        ("10.0.0.1:5070", UDP, "SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;received=192.0.2.9", ("192.0.2.9", 5070)),
        (
            "10.0.0.1:5070;rport", UDP, "SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;received=192.0.2.9;rport=4711",
            ("192.0.2.9", 4711),
        ),
        ("a.example", TLS, "SIP/2.0/UDP a.example;branch=z9hG4bKa;received=192.0.2.9", ("192.0.2.9", 4712)),
        ("evil;received=203.0.113.66", UDP, "SIP/2.0/UDP evil;branch=z9hG4bKa;received=192.0.2.9", ("192.0.2.9", 5060)),
    ],
)  # fmt: skip
def test_where_answers_go(via: str, flow: Flow, stamped: str, answer_to: tuple[str, int]) -> None:
    """RFC 3261 §18.2, RFC 3581 §4: never to an address that only the message names."""
    got = stamp_via(request(via=via), flow)
    assert got.get("Via") == stamped
    assert response_address(respond(got, 200, to_tag="t"), flow) == answer_to


def test_only_the_top_via_is_stamped() -> None:
    vias = ("Via", "SIP/2.0/UDP a.example;branch=z9hG4bKa, SIP/2.0/TCP b.example;branch=z9hG4bKb")
    got = stamp_via(Request((vias, *request().headers[1:]), b"", "INVITE", "sip:b@b"), UDP)
    assert got.values("Via") == [
        "SIP/2.0/UDP a.example;branch=z9hG4bKa;received=192.0.2.9", "SIP/2.0/TCP b.example;branch=z9hG4bKb",
    ]  # fmt: skip
