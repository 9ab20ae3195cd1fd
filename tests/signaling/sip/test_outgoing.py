"""Calls of ours, message by message."""

import pytest

from signaling.errors import Exhausted, LocalError
from signaling.sip.digest import Authorization, Credentials
from signaling.sip.events import CallAnswered, CallEnded, CallId, CallProgress, CallRefused, Invite
from signaling.sip.message import Request, Response
from signaling.sip.sdp import SessionDescription
from tests.signaling.sip.pair import answer_to, offer_of, user_agent
from tests.signaling.sip.solo import Solo, labels, reply

OFFER = offer_of("us").encode()
ANSWER = answer_to(offer_of("us"))
ANSWERED = SessionDescription.parse(ANSWER)


class Calling(Solo):
    """A call of ours whose INVITE is out."""

    def __init__(self, transport: str = "tls", credentials: Credentials | None = None, **settings: object) -> None:
        super().__init__(user_agent("solo", **settings), transport)  # type: ignore[arg-type]
        self.agent._core.flows[self.flow.flow_id] = self.flow
        self.call: CallId = self.agent.invite(
            Invite("sip:+4940@carrier.example", "sip:+4930@relay.example", OFFER, self.flow, credentials=credentials,
                   headers=(("P-Asserted-Identity", "<sip:+4930@relay.example>"),)),
            0.0,
        )  # fmt: skip
        self.drain()
        self.invite = self.sent[0]
        assert isinstance(self.invite, Request)

    def answered(self) -> Response:
        assert isinstance(self.invite, Request)
        response = reply(self.invite, 200, ("Allow", "UPDATE"), body=ANSWER)
        self.give(response)
        return response

    def reply(self, status: int, *headers: tuple[str, str], body: bytes = b"", tag: str = "called") -> list[str]:
        assert isinstance(self.invite, Request)
        return labels(self.give(reply(self.invite, status, *headers, body=body, tag=tag)))


def test_what_the_invite_says() -> None:
    invite = Calling().invite
    assert isinstance(invite, Request)
    assert (invite.uri, invite.body) == ("sip:+4940@carrier.example", OFFER)
    assert (str(invite.recipient), invite.sender.uri.number) == ("<sip:+4940@carrier.example>", "+4930")
    assert str(invite.contacts[0]) == "<sip:koppel@127.0.0.1:5061;transport=tls>"
    assert (invite.tokens("Supported"), invite.get("Max-Forwards")) == ({"timer"}, "70")
    assert invite.get("P-Asserted-Identity") == "<sip:+4930@relay.example>"


def test_progress_answer_and_hang_up() -> None:
    calling = Calling()
    assert calling.reply(100) == []
    assert calling.reply(180) == []
    assert calling.reply(183, body=ANSWER) == []
    assert calling.reply(200, body=ANSWER) == ["ACK"]
    assert calling.events == [
        CallProgress(calling.call, 180), CallProgress(calling.call, 183, ANSWERED), CallAnswered(calling.call, ANSWERED),
    ]  # fmt: skip
    ack = calling.sent[-1]
    assert isinstance(ack, Request)
    assert isinstance(calling.invite, Request)
    assert (ack.uri, ack.cseq.number) == ("sip:peer@127.0.0.9:5061;transport=tls", calling.invite.cseq.number)
    assert ack.via.branch != calling.invite.via.branch, "the ACK of a 2xx is a transaction of its own (§17.1.1.3)"
    calling.agent.hang_up(calling.call, 5.0)
    calling.drain()
    assert labels(calling.sent)[-1] == "BYE"
    assert calling.sent[-1].cseq.number == calling.invite.cseq.number + 1


def test_a_repeated_200_gets_the_same_ack() -> None:
    calling = Calling()
    response = calling.answered()
    (again,) = calling.give(response)
    assert labels([again]) == ["ACK"]
    assert sum(isinstance(event, CallAnswered) for event in calling.events) == 1


def test_early_media_serves_when_the_200_is_empty() -> None:
    calling = Calling()
    calling.reply(183, body=ANSWER)
    calling.reply(200)
    assert calling.events[-1] == CallAnswered(calling.call, ANSWERED)


@pytest.mark.parametrize("body", [b"", b"nonsense"])
def test_an_answer_without_description_is_ended(body: bytes) -> None:
    calling = Calling()
    assert calling.reply(200, body=body) == ["ACK", "BYE"]
    assert isinstance(calling.events[-1], CallRefused)
    assert calling.agent.calls == 0


def test_another_fork_that_answers_too_is_ended() -> None:
    calling = Calling()
    calling.answered()
    assert calling.reply(200, body=ANSWER, tag="second") == ["ACK", "BYE"]
    bye = calling.sent[-1]
    assert bye.recipient.tag == "second"
    assert calling.agent.calls == 1
    assert calling.reply(200, body=ANSWER, tag="second") == ["ACK"]


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_refusals(status: int) -> None:
    calling = Calling()
    assert calling.reply(status) == ["ACK"]
    (event,) = calling.events
    assert isinstance(event, CallRefused)
    assert event.status == status
    assert (calling.agent.calls, calling.wait(100.0)) == (0, [])


def test_nobody_answers() -> None:
    calling = Calling("udp")
    assert labels(calling.wait(100.0)) == ["INVITE"] * 6
    assert calling.events == [CallRefused(calling.call, 408)]


def test_ringing_too_long_is_cancelled() -> None:
    calling = Calling(ring_seconds_max=60.0)
    calling.reply(180)
    assert labels(calling.wait(60.0)) == ["CANCEL"]
    assert calling.events[-1] == CallRefused(calling.call, 408, "rang too long")
    assert calling.reply(487) == ["ACK"]
    assert calling.agent.calls == 0
    assert len(calling.events) == 2


def test_hang_up_while_ringing_cancels() -> None:
    calling = Calling()
    calling.reply(180)
    calling.agent.hang_up(calling.call, 1.0)
    calling.agent.hang_up(calling.call, 1.0)
    calling.drain()
    assert labels(calling.sent) == ["INVITE", "CANCEL"]
    cancel = calling.sent[-1]
    assert calling.give(reply(cancel, 200)) == []  # type: ignore[arg-type]
    assert calling.reply(487) == ["ACK"]
    assert [type(event) for event in calling.events] == [CallProgress]
    assert calling.agent.calls == 0


def test_hang_up_before_any_response_waits_to_cancel() -> None:
    calling = Calling()
    calling.agent.hang_up(calling.call, 0.1)
    calling.drain()
    assert labels(calling.sent) == ["INVITE"], "RFC 3261 §9.1: no CANCEL before a provisional response"
    assert calling.reply(100) == ["CANCEL"]
    assert calling.reply(180) == []


def test_an_answer_that_crosses_our_cancel_is_ended() -> None:
    calling = Calling()
    calling.reply(180)
    calling.agent.hang_up(calling.call, 1.0)
    calling.drain()
    assert calling.reply(200, body=ANSWER) == ["ACK", "BYE"]
    assert calling.agent.calls == 0
    assert not any(isinstance(event, CallAnswered) for event in calling.events)


def test_a_cancel_that_brings_nothing_is_given_up() -> None:
    calling = Calling()
    calling.reply(180)
    calling.agent.hang_up(calling.call, 0.0)
    calling.wait(32.0)
    assert calling.agent.calls == 0


# Proof of identity.

CHALLENGE = ("WWW-Authenticate", 'Digest realm="c", nonce="n1", algorithm=SHA-256, qop="auth"')
ALICE = Credentials("alice", "secret")


def test_a_challenge_is_answered_once() -> None:
    calling = Calling(credentials=ALICE)
    first = calling.invite
    assert calling.reply(401, CHALLENGE) == ["ACK", "INVITE"]
    second = calling.sent[-1]
    assert isinstance(second, Request)
    assert (second.cseq.number, second.call_id, second.sender.tag) == (
        first.cseq.number + 1, first.call_id, first.sender.tag,
    )  # fmt: skip
    assert second.via.branch != first.via.branch
    proof = Authorization.parse(second.get("Authorization") or "")
    assert (proof.get("username"), proof.get("uri"), proof.get("nc")) == (
        "alice",
        "sip:+4940@carrier.example",
        "00000001",
    )
    calling.invite = second
    assert calling.reply(401, CHALLENGE) == ["ACK"], "the same proof would be wrong again"
    assert calling.events == [CallRefused(calling.call, 401, "Unauthorized")]


def test_a_stale_nonce_is_answered_again_and_the_ack_carries_the_proof() -> None:
    calling = Calling(credentials=ALICE)
    calling.reply(407, ("Proxy-Authenticate", CHALLENGE[1]))
    calling.invite = calling.sent[-1]
    assert calling.reply(407, ("Proxy-Authenticate", CHALLENGE[1].replace("n1", "n2") + ", stale=true")) == [
        "ACK",
        "INVITE",
    ]
    calling.invite = calling.sent[-1]
    assert calling.reply(200, body=ANSWER) == ["ACK"]
    assert calling.sent[-1].get("Proxy-Authorization") == calling.invite.get("Proxy-Authorization")
    calling.agent.hang_up(calling.call, 1.0)
    calling.drain()
    bye = calling.sent[-1]
    assert isinstance(bye, Request)
    (again,) = calling.give(reply(bye, 407, ("Proxy-Authenticate", CHALLENGE[1].replace("n1", "n3"))))
    assert (labels([again]), again.cseq.number) == (["BYE"], bye.cseq.number + 1)
    assert Authorization.parse(again.get("Proxy-Authorization") or "").get("nonce") == "n3"


def test_a_peer_that_only_ever_asks_again_is_given_up() -> None:
    calling = Calling(credentials=ALICE)
    for _ in range(3):
        assert calling.reply(401, (CHALLENGE[0], CHALLENGE[1] + ", stale=true")) == ["ACK", "INVITE"]
        calling.invite = calling.sent[-1]
    assert calling.reply(401, (CHALLENGE[0], CHALLENGE[1] + ", stale=true")) == ["ACK"]
    assert isinstance(calling.events[-1], CallRefused)


@pytest.mark.parametrize("challenge", ["Basic x", 'Digest realm="c", nonce="n", algorithm=SHA-512'])
def test_challenges_that_we_cannot_answer(challenge: str) -> None:
    calling = Calling(credentials=ALICE)
    assert calling.reply(401, ("WWW-Authenticate", challenge)) == ["ACK"]
    assert isinstance(calling.events[-1], CallRefused)


def test_without_credentials_a_challenge_refuses() -> None:
    assert Calling().reply(401, CHALLENGE) == ["ACK"]


# Connections.


def out(solo: Solo) -> CallId:
    return solo.agent.invite(
        Invite("sip:b@c", "sip:a@r", OFFER, transport="tls", host="carrier.example", port=5061), 0.0
    )


def test_a_connection_is_opened_first() -> None:
    solo = Solo()
    call = out(solo)
    solo.drain()
    (opened,) = solo.opened
    assert (opened.transport, opened.host, opened.port) == ("tls", "carrier.example", 5061)
    assert solo.sent == []
    solo.agent.flow_opened(opened.request_id, solo.flow, 0.5)
    solo.drain()
    assert labels(solo.sent) == ["INVITE"]
    solo.agent.flow_closed(solo.flow.flow_id, 1.0)
    solo.drain()
    assert solo.events == [CallRefused(call, 503)]


def test_a_connection_that_cannot_be_had() -> None:
    solo = Solo()
    call = out(solo)
    solo.drain()
    solo.agent.flow_failed(solo.opened[0].request_id, 0.5)
    solo.agent.flow_failed(solo.opened[0].request_id, 0.5)
    solo.drain()
    assert solo.events == [CallRefused(call, 503)]


def test_hang_up_while_connecting() -> None:
    solo = Solo()
    call = out(solo)
    solo.agent.hang_up(call, 0.1)
    solo.drain()
    solo.agent.flow_opened(solo.opened[0].request_id, solo.flow, 0.5)
    solo.drain()
    assert (solo.sent, solo.events, solo.agent.calls) == ([], [], 0)


def test_limits_and_misuse() -> None:
    solo = Solo(user_agent("solo", calls_max=1))
    out(solo)
    with pytest.raises(Exhausted):
        out(solo)
    with pytest.raises(LocalError):
        Solo().agent.invite(Invite("not a uri", "sip:a@r", OFFER), 0.0)
    with pytest.raises(LocalError):
        solo.agent.reject(CallId("x"), 200, 0.0)


def test_a_session_timer_that_the_called_end_asks_for() -> None:
    calling = Calling()
    calling.reply(200, ("Session-Expires", "90;refresher=uac"), ("Allow", "UPDATE"), body=ANSWER)
    assert labels(calling.wait(45.0)) == ["UPDATE"]
    other = Calling()
    other.reply(200, ("Session-Expires", "90;refresher=uas"), body=ANSWER)
    assert labels(other.wait(60.0)) == ["BYE"]
    assert other.events[-1] == CallEnded(other.call, "timeout", "session expired")
