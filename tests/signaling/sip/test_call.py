"""What happens within a call that is up: hold, refresh, glare, order, the end."""

import pytest

from signaling.sip.events import CallConfirmed, CallEnded, CallId, IncomingCall, SessionAnswered, SessionOffered
from signaling.sip.message import Request, Response
from signaling.sip.sdp import SessionDescription
from tests.signaling.sip.pair import answer_to, offer_of
from tests.signaling.sip.solo import Solo, labels, reply

ANSWER = answer_to(offer_of())
HOLD = offer_of(direction="sendonly").encode()


class Up(Solo):
    """A call to us that is up."""

    def __init__(self, *headers: tuple[str, str], transport: str = "tls") -> None:
        super().__init__(transport=transport)  # type: ignore[arg-type]
        invite = self.request("INVITE", *headers)
        self.give(invite)
        event = self.last(IncomingCall)
        assert isinstance(event, IncomingCall)
        self.call: CallId = event.call
        self.agent.answer(self.call, ANSWER, 0.0)
        self.drain()
        self.answer = self.sent[-1]
        assert isinstance(self.answer, Response)
        self.tag = self.answer.recipient.tag or ""
        self.give(self.ack(invite, self.answer))
        assert isinstance(self.events[-1], CallConfirmed)
        self.cseq = 1

    def within(self, method: str, *headers: tuple[str, str], body: bytes = b"", cseq: int = 0) -> Request:
        self.cseq = cseq or self.cseq + 1
        return self.request(method, *headers, cseq=self.cseq, to_tag=self.tag, body=body)


def test_hold_is_told_and_answered() -> None:
    up = Up()
    reinvite = up.within("INVITE", body=HOLD)
    assert labels(up.give(reinvite)) == ["100 INVITE"]
    assert up.events[-1] == SessionOffered(up.call, SessionDescription.parse(HOLD))
    up.agent.accept_offer(up.call, b"v=0 new", 0.0)
    up.drain()
    response = up.sent[-1]
    assert isinstance(response, Response)
    assert (labels([response]), response.body, response.recipient.tag) == (["200 INVITE"], b"v=0 new", up.tag)
    assert labels(up.wait(0.5)) == ["200 INVITE"], "repeated until its ACK"
    up.give(up.ack(reinvite, response))
    assert up.wait(60.0) == []
    assert len(up.events) == 3, "no second CallConfirmed"


def test_a_refused_offer_leaves_the_session_as_it_was() -> None:
    up = Up()
    reinvite = up.within("INVITE", body=HOLD)
    up.give(reinvite)
    up.agent.refuse_offer(up.call, 488, 0.1)
    up.agent.accept_offer(up.call, ANSWER, 0.1)
    up.drain()
    assert labels(up.sent)[-1] == "488 INVITE"
    up.give(up.ack(reinvite, up.sent[-1]))  # type: ignore[arg-type]
    up.agent.hang_up(up.call, 1.0)
    up.drain()
    assert labels(up.sent)[-1] == "BYE"


def test_update_with_and_without_an_offer() -> None:
    up = Up()
    (response,) = up.give(up.within("UPDATE"))
    assert (labels([response]), response.body) == (["200 UPDATE"], b"")
    assert len(up.events) == 2, "a bare refresh is nobody's business"
    assert up.give(up.within("UPDATE", body=HOLD)) == []
    up.agent.accept_offer(up.call, ANSWER, 0.1)
    up.drain()
    assert (labels(up.sent)[-1], up.sent[-1].body) == ("200 UPDATE", ANSWER)
    assert up.wait(40.0) == [], "a 200 to UPDATE is not repeated"


def test_a_reinvite_without_an_offer_gets_ours_and_its_ack_the_answer() -> None:
    up = Up()
    reinvite = up.within("INVITE")
    up.give(reinvite)
    assert up.events[-1] == SessionOffered(up.call, None)
    ours = offer_of("us").encode()
    up.agent.accept_offer(up.call, ours, 0.1)
    up.drain()
    response = up.sent[-1]
    assert isinstance(response, Response)
    assert response.body == ours
    assert labels(up.give(up.within("UPDATE", body=HOLD))) == ["491 UPDATE"], "our offer is not answered yet"
    theirs = answer_to(offer_of("us"))
    up.give(up.request("ACK", cseq=2, to_tag=up.tag, body=theirs))
    assert up.events[-1] == SessionAnswered(up.call, SessionDescription.parse(theirs))


def test_a_second_offer_while_one_waits() -> None:
    up = Up()
    first = up.within("INVITE", body=HOLD)
    up.give(first)
    (refused,) = up.give(up.within("INVITE", body=HOLD))
    assert labels([refused]) == ["500 INVITE"]
    assert 0 <= int(refused.get("Retry-After") or -1) <= 10
    assert labels(up.give(up.within("UPDATE", body=HOLD))) == ["500 UPDATE"]
    up.agent.accept_offer(up.call, ANSWER, 0.1)
    up.drain()
    assert labels(up.sent)[-1] == "200 INVITE"


def test_a_cancelled_reinvite() -> None:
    up = Up()
    reinvite = up.within("INVITE", body=HOLD)
    up.give(reinvite)
    cancel = up.request("CANCEL", cseq=2, to_tag=up.tag, branch=reinvite.via.branch)
    assert labels(up.give(cancel)) == ["200 CANCEL", "487 INVITE"]
    up.agent.accept_offer(up.call, ANSWER, 0.1)
    up.drain()
    assert labels(up.sent)[-1] == "487 INVITE"
    assert up.agent.calls == 1


@pytest.mark.parametrize("cseq", [1, 2])
def test_requests_out_of_order_are_500(cseq: int) -> None:
    up = Up()
    up.give(up.within("UPDATE"))
    assert labels(up.give(up.within("UPDATE", cseq=cseq))) == ["500 UPDATE"]


def test_a_body_that_is_no_session_description() -> None:
    up = Up()
    (refused,) = up.give(up.within("INVITE", ("Content-Type", "text/plain"), body=b"hi"))
    assert (labels([refused]), refused.get("Accept")) == (["415 INVITE"], "application/sdp")
    assert labels(up.give(up.within("INVITE", ("Content-Type", "application/sdp"), body=b"hi"))) == ["400 INVITE"]
    assert up.agent.calls == 1


def test_options_unknown_methods_and_requirements_within_a_call() -> None:
    up = Up()
    (ok,) = up.give(up.within("OPTIONS"))
    assert (labels([ok]), ok.tokens("Accept")) == (["200 OPTIONS"], {"application/sdp"})
    assert labels(up.give(up.within("INFO"))) == ["405 INFO"]
    (refused,) = up.give(up.within("INVITE", ("Require", "timer, privacy"), body=HOLD))
    assert (labels([refused]), refused.get("Unsupported")) == (["420 INVITE"], "privacy")


@pytest.mark.parametrize("change", [{"to_tag": "other"}, {"call_id": "other"}])
def test_a_dialog_is_found_by_all_its_names(change: dict[str, str]) -> None:
    up = Up()
    names = {"to_tag": up.tag, "call_id": "call-1", **change}
    assert labels(up.give(up.request("BYE", cseq=2, **names))) == ["481 BYE"]  # type: ignore[arg-type]
    assert up.give(up.request("ACK", cseq=2, **names)) == []  # type: ignore[arg-type]
    assert (up.agent.calls, up.agent.counters["stray_acks"]) == (1, 1)


def test_the_peer_hangs_up_while_its_offer_waits() -> None:
    up = Up()
    up.give(up.within("INVITE", body=HOLD))
    assert labels(up.give(up.within("BYE", ("Reason", "Q.850;cause=16")))) == ["200 BYE", "487 INVITE"]
    assert up.events[-1] == CallEnded(up.call, "peer", "Q.850;cause=16")


def test_a_new_contact_is_where_requests_go() -> None:
    up = Up()
    up.give(up.within("UPDATE", ("Contact", "<sip:moved@127.0.0.10:7000>")))
    up.agent.hang_up(up.call, 1.0)
    up.drain()
    bye = up.sent[-1]
    assert isinstance(bye, Request)
    assert bye.uri == "sip:moved@127.0.0.10:7000"


@pytest.mark.parametrize("status", [200, 408, 481, 503])
def test_whatever_comes_back_to_our_bye_the_call_is_over(status: int) -> None:
    up = Up()
    up.agent.hang_up(up.call, 1.0)
    up.drain()
    assert up.give(reply(up.sent[-1], status)) == []  # type: ignore[arg-type]
    assert up.agent.calls == 0
    assert not any(isinstance(event, CallEnded) for event in up.events)


def test_nobody_answers_our_bye() -> None:
    up = Up(transport="udp")
    up.agent.hang_up(up.call, 0.0)
    assert labels(up.wait(100.0)) == ["BYE"] * 11
    assert len(up.agent._core.layer) == 0


# Session timers (RFC 4028).


def test_the_caller_refreshes_and_when_it_does_not_the_call_ends() -> None:
    up = Up(("Session-Expires", "90"), ("Supported", "timer"))
    assert (up.answer.get("Session-Expires"), up.answer.get("Require")) == ("90;refresher=uac", "timer")
    up.now = 40.0
    (response,) = up.give(up.within("UPDATE", ("Session-Expires", "90;refresher=uac"), ("Supported", "timer")))
    assert response.get("Session-Expires") == "90;refresher=uac"
    assert up.wait(99.9) == []
    (bye,) = up.wait(100.0)
    assert bye.get("Reason") == 'SIP;cause=408;text="Session expired"', "60 s after the last refresh"
    assert up.events[-1] == CallEnded(up.call, "timeout", "session expired")


def test_a_refreshing_reinvite_with_the_same_description() -> None:
    up = Up(("Session-Expires", "90"), ("Supported", "timer"))
    up.now = 45.0
    body = offer_of().encode()
    reinvite = up.within("INVITE", ("Session-Expires", "90;refresher=uac"), ("Supported", "timer"), body=body)
    up.give(reinvite)
    up.agent.accept_offer(up.call, ANSWER, 45.0)
    up.drain()
    response = up.sent[-1]
    assert isinstance(response, Response)
    assert (response.body, response.get("Session-Expires")) == (ANSWER, "90;refresher=uac")
    up.give(up.ack(reinvite, response))
    assert up.wait(104.9) == []
    assert labels(up.wait(105.0)) == ["BYE"]


def test_a_refresh_without_a_timer_ends_the_timer() -> None:
    up = Up(("Session-Expires", "90"), ("Supported", "timer"))
    up.give(up.within("UPDATE"))
    assert up.wait(10_000.0) == []


def test_too_small_an_interval_is_422() -> None:
    solo = Solo()
    (refused,) = solo.give(solo.request("INVITE", ("Session-Expires", "60"), ("Supported", "timer")))
    assert (labels([refused]), refused.get("Min-SE")) == (["422 INVITE"], "90")
    up = Up()
    (refused,) = up.give(up.within("UPDATE", ("Session-Expires", "60"), ("Supported", "timer")))
    assert labels([refused]) == ["422 UPDATE"]


OURS = (("Session-Expires", "90;refresher=uas"), ("Supported", "timer"), ("Allow", "INVITE, ACK, BYE, UPDATE"))


def test_we_refresh_by_update_where_the_peer_takes_it() -> None:
    up = Up(*OURS)
    assert up.answer.get("Session-Expires") == "90;refresher=uas"
    (update,) = up.wait(45.0)
    assert isinstance(update, Request)
    assert (update.method, update.get("Session-Expires"), update.body) == ("UPDATE", "90;refresher=uac", b"")
    up.give(reply(update, 200, ("Session-Expires", "90;refresher=uac")))
    assert labels(up.wait(90.0)) == ["UPDATE"]
    assert labels(up.wait(105.0)) == ["BYE"], "45 s less 30 s after a refresh that nobody answered"
    assert up.events[-1] == CallEnded(up.call, "timeout", "session expired")


def test_we_refresh_by_reinvite_with_the_description_that_holds() -> None:
    up = Up(*OURS[:2])
    (reinvite,) = up.wait(45.0)
    assert isinstance(reinvite, Request)
    assert (reinvite.method, reinvite.body) == ("INVITE", ANSWER)
    assert labels(up.give(up.within("INVITE", body=HOLD))) == ["491 INVITE"], "glare"
    theirs = answer_to(offer_of())
    ok = reply(reinvite, 200, ("Session-Expires", "90;refresher=uac"), body=theirs)
    assert labels(up.give(ok)) == ["ACK"]
    assert up.events[-1] == SessionAnswered(up.call, SessionDescription.parse(theirs))
    assert labels(up.give(ok)) == ["ACK"], "a repeated 200 gets its ACK again"
    assert sum(isinstance(event, SessionAnswered) for event in up.events) == 1
    assert labels(up.wait(90.0)) == ["INVITE"]


def test_glare_on_our_refresh_is_tried_again() -> None:
    up = Up(*OURS[:2])
    (reinvite,) = up.wait(45.0)
    assert isinstance(reinvite, Request)
    up.give(reply(reinvite, 491))
    assert labels(up.wait(47.1)) == ["INVITE"]


@pytest.mark.parametrize("status", [408, 481])
def test_a_peer_that_forgot_the_dialog_ends_it(status: int) -> None:
    up = Up(*OURS)
    (update,) = up.wait(45.0)
    assert isinstance(update, Request)
    assert labels(up.give(reply(update, status))) == ["BYE"]
    assert up.events[-1] == CallEnded(up.call, "timeout")


def test_a_refresh_that_nobody_answers_ends_the_call() -> None:
    up = Up(("Session-Expires", "1800;refresher=uas"), OURS[1], OURS[2])
    up.wait(900.0)
    assert labels(up.wait(932.0)) == ["BYE"]
    assert up.events[-1] == CallEnded(up.call, "timeout")
