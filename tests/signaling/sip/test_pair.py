"""Two user agents back to back: the whole course of a call, each message lost in turn, and links that lose at random."""

import random

import pytest

from signaling.sip.digest import Credentials
from signaling.sip.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallId,
    CallProgress,
    CallRefused,
    IncomingCall,
    Invite,
    Transport,
    UserAgentEvent,
)
from signaling.sip.message import Request, Response
from signaling.sip.trunks import Trunk
from tests.signaling.sip.pair import Pair, answer_to, label, offer_of, user_agent


def call(pair: Pair, credentials: Credentials | None = None) -> CallId:
    """The caller calls at 0; the called end rings at once."""

    def react(event: UserAgentEvent, now: float) -> None:
        if isinstance(event, IncomingCall):
            pair.called.agent.ring(event.call, now)

    pair.react["called"] = react
    offer = offer_of().encode()
    invite = Invite("sip:100@127.0.0.2", "sip:alice@127.0.0.1", offer, pair.caller.flow, credentials=credentials)
    return pair.caller.agent.invite(invite, 0.0)


def answer(pair: Pair) -> CallId:
    event = pair.called.last(IncomingCall)
    assert isinstance(event, IncomingCall)
    assert event.offer is not None
    pair.called.agent.answer(event.call, answer_to(event.offer), pair.now)
    return event.call


def whole_call(pair: Pair, credentials: Credentials | None = None) -> None:
    caller = call(pair, credentials)
    pair.run(20.0)
    answer(pair)
    pair.run(40.0)
    pair.caller.agent.hang_up(caller, pair.now)
    pair.run(200.0)


def kinds(events: list[UserAgentEvent]) -> list[type]:
    return [type(event) for event in events]


def assert_nothing_is_left(pair: Pair) -> None:
    for end in pair.ends.values():
        core = end.agent._core
        assert end.agent.calls == 0
        assert (len(core.layer), len(core.timers), core.dialogs, core._opening) == (0, 0, {}, {})


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_the_wire_of_a_call(transport: Transport) -> None:
    pair = Pair(transport)
    whole_call(pair)
    assert [(at, by, label(message)) for at, by, message in pair.wire] == [
        (0.0, "caller", "INVITE"), (0.01, "called", "100 INVITE"), (0.01, "called", "180 INVITE"),
        (20.0, "called", "200 INVITE"), (20.01, "caller", "ACK"), (40.0, "caller", "BYE"), (40.01, "called", "200 BYE"),
    ]  # fmt: skip
    assert kinds(pair.caller.events) == [CallProgress, CallAnswered]
    assert kinds(pair.called.events) == [IncomingCall, CallConfirmed, CallEnded]
    assert_nothing_is_left(pair)


LOSABLE = [
    ("caller", "INVITE"), ("called", "100 INVITE"), ("called", "180 INVITE"), ("called", "200 INVITE"), ("caller", "ACK"),
    ("caller", "BYE"), ("called", "200 BYE"),
]  # fmt: skip


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(("by", "what"), LOSABLE)
def test_each_message_lost(by: str, what: str, times: int) -> None:
    lost = 0

    def drop(sender: str, message: Request | Response, _: int) -> bool:
        nonlocal lost
        if (sender, label(message)) == (by, what) and lost < times:
            lost += 1
            return True
        return False

    pair = Pair("udp", drop=drop)
    whole_call(pair)
    assert lost == (times if what not in {"100 INVITE", "180 INVITE"} else lost)
    assert kinds(pair.called.events) == [IncomingCall, CallConfirmed, CallEnded]
    progress = [CallProgress] if what != "180 INVITE" else []
    assert kinds(pair.caller.events) == [*progress, CallAnswered]
    assert_nothing_is_left(pair)


@pytest.mark.parametrize(("what", "times"), [("INVITE", [0.0, 0.5, 1.5]), ("BYE", [40.0, 40.5, 41.5])])
def test_when_a_lost_request_goes_again(what: str, times: list[float]) -> None:
    seen = 0

    def drop(_: str, message: Request | Response, __: int) -> bool:
        nonlocal seen
        seen += label(message) == what
        return label(message) == what and seen <= 2

    pair = Pair("udp", drop=drop)
    whole_call(pair)
    assert pair.sent("caller", what) == times


@pytest.mark.parametrize("seed", range(60))
def test_a_link_that_loses_a_third(seed: int) -> None:
    rng = random.Random(seed)
    pair = Pair("udp", drop=lambda *_: rng.random() < 0.33)
    caller = call(pair)
    pair.run(20.0)
    if any(isinstance(event, IncomingCall) for event in pair.called.events):
        answer(pair)
    pair.run(20.0 + rng.random() * 3)
    pair.caller.agent.hang_up(caller, pair.now)
    pair.run(1000.0)
    if CallConfirmed in kinds(pair.called.events):
        assert kinds(pair.called.events)[-1] is CallEnded, "whoever hangs up first, both know in the end"
    assert_nothing_is_left(pair)


@pytest.mark.parametrize("algorithms", [("SHA-256", "MD5"), ("MD5",)])
def test_challenge_and_proof(algorithms: tuple[str, ...]) -> None:
    alice = Credentials("alice", "secret")
    called = user_agent("called", [Trunk("desk", credentials=(alice,))], digest_algorithms=algorithms)
    pair = Pair("tls", called=called)
    whole_call(pair, alice)
    assert [label(message) for _, _, message in pair.wire][:5] == [
        "INVITE",
        "401 INVITE",
        "ACK",
        "INVITE",
        "100 INVITE",
    ]
    assert kinds(pair.called.events) == [IncomingCall, CallConfirmed, CallEnded]
    assert_nothing_is_left(pair)


def test_a_wrong_password() -> None:
    called = user_agent("called", [Trunk("desk", credentials=(Credentials("alice", "secret"),))])
    pair = Pair("tls", called=called)
    call(pair, Credentials("alice", "wrong"))
    pair.run(100.0)
    assert [event.status for event in pair.caller.events if isinstance(event, CallRefused)] == [403]
    assert_nothing_is_left(pair)


@pytest.mark.parametrize("cancel_at", [20.0, 20.005, 20.0099, 20.01, 20.02])
def test_cancel_against_answer(cancel_at: float) -> None:
    """Whatever crosses whatever on the wire, both ends agree that there is no call."""
    pair = Pair("udp")
    caller = call(pair)
    pair.run(20.0)
    answer(pair)
    pair.run(cancel_at)
    pair.caller.agent.hang_up(caller, pair.now)
    pair.run(200.0)
    assert_nothing_is_left(pair)
    assert kinds(pair.called.events)[-1] is CallEnded


def test_both_hang_up_at_once() -> None:
    pair = Pair("udp")
    caller = call(pair)
    pair.run(20.0)
    called = answer(pair)
    pair.run(40.0)
    pair.caller.agent.hang_up(caller, pair.now)
    pair.called.agent.hang_up(called, pair.now)
    pair.run(200.0)
    assert_nothing_is_left(pair)


def test_the_called_end_vanishes() -> None:
    pair = Pair("udp", drop=lambda sender, *_: sender == "called" and pair.now > 30.0)
    caller = call(pair)
    pair.run(20.0)
    answer(pair)
    pair.run(40.0)
    pair.caller.agent.hang_up(caller, pair.now)
    pair.run(200.0)
    assert len(pair.sent("caller", "BYE")) == 11
    assert_nothing_is_left(pair)
