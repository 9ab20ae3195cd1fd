"""Calls to us, message by message."""

import pytest

from signaling.sip.events import CallCancelled, CallConfirmed, CallEnded, CallId, IncomingCall
from signaling.sip.message import Request, Response
from signaling.sip.sdp import SessionDescription
from tests.signaling.sip.pair import answer_to, offer_of, user_agent
from tests.signaling.sip.solo import Solo, labels

ANSWER = answer_to(offer_of())


def incoming(solo: Solo, *headers: tuple[str, str], body: bytes | None = None) -> tuple[Request, CallId]:
    invite = solo.request("INVITE", *headers, body=body)
    assert labels(solo.give(invite)) == ["100 INVITE"]
    event = solo.last(IncomingCall)
    assert isinstance(event, IncomingCall)
    return invite, event.call


def answered(solo: Solo, *headers: tuple[str, str]) -> tuple[Request, CallId, Response]:
    invite, call = incoming(solo, *headers)
    solo.agent.answer(call, ANSWER, solo.now)
    solo.drain()
    response = solo.sent[-1]
    assert isinstance(response, Response)
    return invite, call, response


def test_what_an_incoming_call_tells() -> None:
    solo = Solo()
    invite = solo.request("INVITE", ("P-Asserted-Identity", "<sip:+49301@c>"), ("X-Case", "7"), ("Subject", "no"))
    solo.give(invite)
    (event,) = solo.events
    assert isinstance(event, IncomingCall)
    assert (event.trunk, event.caller, event.called, event.local) == ("carrier", "+4930", "100", ("127.0.0.1", 5061))
    assert event.offer == SessionDescription.parse(offer_of().encode())
    assert event.headers == (("P-Asserted-Identity", "<sip:+49301@c>"), ("X-Case", "7"))
    assert "4930" not in repr(event)


def test_ring_progress_answer() -> None:
    solo = Solo()
    invite, call = incoming(solo)
    solo.agent.ring(call, 1.0)
    solo.agent.progress(call, ANSWER, 2.0)
    solo.agent.answer(call, ANSWER, 3.0)
    solo.drain()
    assert labels(solo.sent) == ["100 INVITE", "180 INVITE", "183 INVITE", "200 INVITE"]
    tags = {message.recipient.tag for message in solo.sent[1:]}
    assert len(tags) == 1, "one dialog"
    assert solo.sent[0].recipient.tag is None
    early, final = solo.sent[2], solo.sent[3]
    assert isinstance(final, Response)
    assert (early.body, final.body) == (ANSWER, ANSWER)
    assert str(final.contacts[0]) == "<sip:koppel@127.0.0.1:5061;transport=tls>"
    assert final.tokens("Allow") >= {"update", "prack", "bye", "cancel"}
    assert solo.give(solo.ack(invite, final)) == []
    assert isinstance(solo.events[-1], CallConfirmed)


def test_record_route_goes_back_and_is_used() -> None:
    solo = Solo()
    invite, call, response = answered(solo, ("Record-Route", "<sip:p.example;lr>"))
    assert response.get("Record-Route") == "<sip:p.example;lr>"
    solo.give(solo.ack(invite, response))
    solo.agent.hang_up(call, 1.0)
    solo.drain()
    assert (solo.sent[-1].get("Route"), labels(solo.sent)[-1]) == ("<sip:p.example;lr>", "BYE")


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_a_200_is_repeated_until_its_ack_whatever_the_transport(transport: str) -> None:
    solo = Solo(transport=transport)  # type: ignore[arg-type]
    invite, _, response = answered(solo)
    times = []
    for at in range(1, 40):
        times += [at / 2 for message in solo.wait(at / 2) if message == response]
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5]
    solo.give(solo.ack(invite, response))
    assert solo.wait(100.0) == []


def test_no_ack_ends_the_call_with_bye() -> None:
    solo = Solo()
    answered(solo)
    assert labels(solo.wait(32.0))[-1] == "BYE"
    assert solo.sent[-1].get("Reason") == 'SIP;cause=408;text="No ACK"'
    assert solo.events[-1] == CallEnded(solo.events[0].call, "timeout", "no ACK")
    assert solo.agent.calls == 0


def test_reject_with_a_reason_and_the_ack_of_it() -> None:
    solo = Solo(transport="udp")
    invite, call = incoming(solo)
    solo.agent.reject(call, 486, 1.0, "Queue Full")
    solo.drain()
    refusal = solo.sent[-1]
    assert isinstance(refusal, Response)
    assert (refusal.status, refusal.reason) == (486, "Queue Full")
    assert labels(solo.wait(2.6)) == ["486 INVITE", "486 INVITE"], "0.5 and 1.5 s later"
    assert solo.give(solo.ack(invite, refusal)) == []
    assert solo.wait(50.0) == []
    assert len(solo.events) == 1, "we did it ourselves"


def test_hang_up_before_the_answer_declines() -> None:
    solo = Solo()
    _, call = incoming(solo)
    solo.agent.hang_up(call, 1.0)
    solo.agent.hang_up(call, 1.0)
    solo.agent.answer(call, ANSWER, 1.0)
    solo.drain()
    assert labels(solo.sent) == ["100 INVITE", "603 INVITE"]


def test_hang_up_between_200_and_ack_waits_for_the_ack() -> None:
    solo = Solo()
    invite, call, response = answered(solo)
    solo.agent.hang_up(call, 0.1, "Q.850;cause=16")
    solo.drain()
    assert labels(solo.sent)[-1] == "200 INVITE", "RFC 3261 §15: no BYE before the ACK"
    (bye,) = solo.give(solo.ack(invite, response))
    assert (labels([bye]), bye.get("Reason")) == (["BYE"], "Q.850;cause=16")
    assert not any(isinstance(event, CallConfirmed) for event in solo.events)


def test_cancel() -> None:
    solo = Solo()
    invite, call = incoming(solo)
    cancel = solo.request("CANCEL", branch=invite.via.branch)
    assert labels(solo.give(cancel)) == ["200 CANCEL", "487 INVITE"]
    assert solo.events[-1] == CallCancelled(call)
    assert labels(solo.give(cancel)) == ["200 CANCEL"], "repeated"
    assert len(solo.events) == 2


def test_cancel_after_the_answer_changes_nothing() -> None:
    solo = Solo()
    invite, call, response = answered(solo)
    assert labels(solo.give(solo.request("CANCEL", branch=invite.via.branch))) == ["200 CANCEL"]
    solo.give(solo.ack(invite, response))
    assert solo.events[-1] == CallConfirmed(call)


def test_cancel_of_nothing_is_481() -> None:
    assert labels(Solo().give(Solo().request("CANCEL"))) == ["481 CANCEL"]


def test_bye_before_the_ack_and_before_the_answer() -> None:
    solo = Solo()
    _, call, response = answered(solo)
    tag = response.recipient.tag or ""
    assert labels(solo.give(solo.request("BYE", ("Reason", "Q.850;cause=16"), cseq=2, to_tag=tag))) == ["200 BYE"]
    assert solo.events[-1] == CallEnded(call, "peer", "Q.850;cause=16")
    assert solo.wait(100.0) == [], "the 200 is not repeated any more"
    early = Solo()
    _, call = incoming(early)
    early.agent.ring(call, 0.0)
    early.drain()
    tag = early.sent[-1].recipient.tag or ""
    assert labels(early.give(early.request("BYE", cseq=2, to_tag=tag))) == ["200 BYE", "487 INVITE"]
    assert early.events[-1] == CallCancelled(call)


def test_an_invite_without_an_offer_is_answered_with_ours() -> None:
    solo = Solo()
    invite, call = incoming(solo, body=b"")
    assert solo.events[-1].offer is None  # type: ignore[union-attr]
    solo.agent.answer(call, offer_of("us").encode(), 0.0)
    solo.drain()
    response = solo.sent[-1]
    assert isinstance(response, Response)
    theirs = answer_to(offer_of("us"))
    solo.give(solo.ack(invite, response, theirs))
    assert solo.events[-1] == CallConfirmed(call, SessionDescription.parse(theirs))


@pytest.mark.parametrize("body", [b"", b"nonsense"])
def test_an_ack_that_owes_us_an_answer_ends_the_call(body: bytes) -> None:
    solo = Solo()
    invite, call = incoming(solo, body=b"")
    solo.agent.answer(call, offer_of("us").encode(), 0.0)
    solo.drain()
    response = solo.sent[-1]
    assert isinstance(response, Response)
    assert labels(solo.give(solo.ack(invite, response, body))) == ["BYE"]
    assert solo.events[-1] == CallEnded(call, "peer", "no answer")


def test_ringing_too_long() -> None:
    solo = Solo(user_agent("solo", ring_seconds_max=60.0))
    _, call = incoming(solo)
    assert labels(solo.wait(60.0)) == ["480 INVITE"]
    assert solo.events[-1] == CallEnded(call, "timeout", "rang too long")


def test_the_connection_of_a_ringing_caller_is_lost() -> None:
    solo = Solo()
    _, call = incoming(solo)
    solo.agent.flow_closed(solo.flow.flow_id, 1.0)
    solo.drain()
    assert solo.events[-1] == CallEnded(call, "transport")
    assert (solo.agent.calls, solo.wait(500.0)) == (0, [])


def test_the_connection_of_a_call_is_lost_and_the_call_stays() -> None:
    solo = Solo()
    invite, call, response = answered(solo)
    solo.give(solo.ack(invite, response))
    solo.agent.flow_closed(solo.flow.flow_id, 1.0)
    solo.drain()
    assert solo.agent.calls == 1
    solo.agent.hang_up(call, 2.0)
    solo.drain()
    (opened,) = solo.opened
    assert (opened.transport, opened.host, opened.port, opened.server_name) == ("tls", "127.0.0.9", 5061, "127.0.0.9")
    solo.agent.flow_opened(opened.request_id, solo.flow, 2.1)
    solo.drain()
    assert labels(solo.sent)[-1] == "BYE"


# RFC 3262: ringing reliably.


def reliably(solo: Solo) -> tuple[Request, CallId]:
    return incoming(solo, ("Require", "100rel"))


def prack(solo: Solo, invite: Request, response: Request | Response, cseq: int, sequence: str = "") -> Request:
    rack = f"{sequence or response.get('RSeq')} {invite.cseq}"
    return solo.request("PRACK", ("RAck", rack), cseq=cseq, to_tag=response.recipient.tag or "")


def test_ringing_is_repeated_until_its_prack() -> None:
    solo = Solo()
    invite, call = reliably(solo)
    solo.agent.ring(call, 0.0)
    solo.agent.progress(call, ANSWER, 0.0)
    solo.drain()
    ringing = solo.sent[-1]
    assert (labels(solo.sent)[-1], ringing.get("Require")) == ("180 INVITE", "100rel")
    assert labels(solo.wait(3.6)) == ["180 INVITE"] * 3, "after 0.5, 1.5 and 3.5 s"
    first = prack(solo, invite, ringing, 2)
    ok, progress = solo.give(first)
    assert labels([ok, progress]) == ["200 PRACK", "183 INVITE"], "what waited goes next"
    assert int(progress.get("RSeq") or 0) == int(ringing.get("RSeq") or 0) + 1
    assert labels(solo.give(first)) == ["200 PRACK"], "a repeated PRACK is its transaction's"
    solo.agent.answer(call, ANSWER, 4.0)
    solo.drain()
    assert labels(solo.sent)[-1] != "200 INVITE", "the early answer must have come first (RFC 3262 §5)"
    assert labels(solo.give(prack(solo, invite, progress, 3))) == ["200 PRACK", "200 INVITE"]


def test_a_prack_for_nothing_is_481() -> None:
    solo = Solo()
    invite, call = reliably(solo)
    solo.agent.ring(call, 0.0)
    solo.drain()
    assert labels(solo.give(prack(solo, invite, solo.sent[-1], 2, "1"))) == ["481 PRACK"]


def test_no_prack_ends_the_call() -> None:
    solo = Solo()
    _, call = reliably(solo)
    solo.agent.ring(call, 0.0)
    assert labels(solo.wait(32.0))[-1] == "504 INVITE"
    assert solo.events[-1] == CallEnded(call, "timeout", "no PRACK")


def test_answering_while_the_ringing_is_unacknowledged() -> None:
    solo = Solo()
    _, call = reliably(solo)
    solo.agent.ring(call, 0.0)
    solo.agent.answer(call, ANSWER, 0.1)
    solo.drain()
    assert labels(solo.sent)[-1] == "200 INVITE", "a 180 without description need not have come"
