"""Who is let in, what is refused and how, and that nothing a peer sends raises."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling.sip.digest import Authorization, Credentials, authorize
from signaling.sip.events import Flow, FlowId, IncomingCall, SendMessage
from signaling.sip.message import Request, Response
from signaling.sip.trunks import Trunk
from signaling.sip.user_agent import UserAgent
from tests.signaling.sip.pair import LOOPBACK_TRUNK, answer_to, offer_of, user_agent
from tests.signaling.sip.solo import PEER, Solo, labels
from tests.signaling.sip.torture import Vector, vectors

ALICE = Credentials("alice", "secret")
DESK = Trunk("desk", credentials=(ALICE,))


def desk(**changes: object) -> UserAgent:
    return user_agent("desk", [DESK], **changes)


def prove(solo: Solo, challenged: Request, response: Request | Response, credentials: Credentials = ALICE) -> Request:
    asked = Authorization.parse(response.lines("WWW-Authenticate")[0])
    value = authorize(asked, credentials, challenged.method, challenged.uri, challenged.body, cnonce="c")
    return solo.request(
        challenged.method, ("Authorization", value), cseq=challenged.cseq.number + 1, body=challenged.body
    )


# Trunks.


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_an_unknown_peer_is_challenged_and_let_in_on_proof(method: str) -> None:
    solo = Solo(desk())
    first = solo.request(method)
    (challenge,) = solo.give(first)
    assert labels([challenge]) == [f"401 {method}"]
    assert ["SHA-256" in value for value in challenge.lines("WWW-Authenticate")] == [True, False]
    assert not solo.agent.trusts(solo.flow.flow_id)
    assert labels(solo.give(prove(solo, first, challenge))) == [
        {"INVITE": "100 INVITE", "OPTIONS": "200 OPTIONS"}[method]
    ]
    assert solo.agent.trusts(solo.flow.flow_id)
    if method == "INVITE":
        event = solo.last(IncomingCall)
        assert isinstance(event, IncomingCall)
        assert event.trunk == "desk"


@pytest.mark.parametrize("credentials", [Credentials("alice", "wrong"), Credentials("eve", "secret")])
def test_a_failed_proof_is_403(credentials: Credentials) -> None:
    solo = Solo(desk())
    first = solo.request("INVITE")
    (challenge,) = solo.give(first)
    assert labels(solo.give(prove(solo, first, challenge, credentials))) == ["403 INVITE"]
    assert (solo.events, solo.agent.counters["proofs_failed"]) == ([], 1)


def test_a_proof_is_good_for_one_request() -> None:
    solo = Solo(desk())
    first = solo.request("INVITE")
    (challenge,) = solo.give(first)
    proved = prove(solo, first, challenge)
    solo.give(proved)
    again = solo.request("INVITE", ("Authorization", proved.get("Authorization") or ""), cseq=9, call_id="call-2")
    (refused,) = solo.give(again)
    assert labels([refused]) == ["401 INVITE"]
    assert "stale=true" in (refused.get("WWW-Authenticate") or "")
    assert solo.agent.counters["digest_replays"] == 1


def test_an_old_baresip_is_asked_for_md5_only() -> None:
    solo = Solo(desk())
    (challenge,) = solo.give(solo.request("INVITE", ("User-Agent", "baresip v1.0.0 (x86_64/linux)")))
    assert ["MD5" in value for value in challenge.lines("WWW-Authenticate")] == [True]


def test_malformed_authorization_is_400() -> None:
    assert labels(Solo(desk()).give(Solo().request("INVITE", ("Authorization", 'Digest realm="')))) == ["400 INVITE"]


def test_without_passwords_an_unknown_peer_is_403() -> None:
    agent = user_agent("x", [Trunk("carrier", (ip_network("192.0.2.0/24"),))])
    assert labels(Solo(agent).give(Solo().request("INVITE"))) == ["403 INVITE"]


@pytest.mark.parametrize(("transport", "answers"), [("udp", []), ("tcp", ["403 INVITE"]), ("tls", ["100 INVITE"])])
def test_plain_signalling_only_where_it_is_named(transport: str, answers: list[str]) -> None:
    agent = user_agent("x", [Trunk("carrier", (ip_network("127.0.0.0/8"),))])
    solo = Solo(agent, transport)  # type: ignore[arg-type]
    assert labels(solo.give(solo.request("INVITE"))) == answers
    assert agent.counters["strangers_dropped"] == (transport == "udp")


def test_a_right_proof_on_a_plain_flow_is_403() -> None:
    tcp = Trunk("old", credentials=(Credentials("old", "x"),), allow_tcp=True)
    solo = Solo(user_agent("desk", [DESK, tcp]), "tcp")
    first = solo.request("INVITE")
    (challenge,) = solo.give(first)
    assert labels(solo.give(prove(solo, first, challenge))) == ["403 INVITE"]
    assert labels(Solo(desk(), "tcp").give(solo.request("INVITE"))) == ["403 INVITE"], (
        "nobody could prove himself there"
    )


def test_a_client_certificate_names_its_trunk() -> None:
    agent = user_agent("x", [DESK, Trunk("carrier", certificate_names=("sip.carrier.example",))])
    solo = Solo(agent)
    solo.flow = Flow(FlowId("f"), "tls", ("127.0.0.1", 5061), PEER, ("sip.carrier.example",))
    solo.give(solo.request("INVITE"))
    event = solo.last(IncomingCall)
    assert isinstance(event, IncomingCall)
    assert event.trunk == "carrier"


def test_limits_of_a_trunk_and_of_all() -> None:
    narrow = Trunk("narrow", (ip_network("127.0.0.0/8"),), calls_max=1, transactions_max=3)
    solo = Solo(user_agent("x", [narrow]))
    assert labels(solo.give(solo.request(call_id="1"))) == ["100 INVITE"]
    (full,) = solo.give(solo.request(call_id="2"))
    assert (labels([full]), full.get("Retry-After")) == (["503 INVITE"], "10")
    assert labels(solo.give(solo.request("OPTIONS", call_id="3"))) == ["200 OPTIONS"]
    assert labels(solo.give(solo.request("OPTIONS", call_id="4"))) == ["503 OPTIONS"]
    solo.wait(33.0)
    assert labels(solo.give(solo.request("OPTIONS", call_id="5"))) == ["200 OPTIONS"]
    few = Solo(user_agent("x", calls_max=1))
    few.give(few.request(call_id="1"))
    assert labels(few.give(few.request(call_id="2"))) == ["503 INVITE"]


def test_too_many_transactions_are_refused_without_one() -> None:
    solo = Solo(user_agent("x", transactions_max=1), "udp")
    solo.give(solo.request(call_id="1"))
    (refused,) = solo.give(solo.request(call_id="2"))
    assert (labels([refused]), refused.get("Retry-After")) == (["503 INVITE"], "10")
    assert (len(solo.agent._core.layer), solo.agent.counters["transactions_refused"]) == (1, 1)


def test_strangers_cannot_crowd_out_trunks() -> None:
    agent = user_agent("x", [DESK, LOOPBACK_TRUNK], stranger_transactions_max=2)
    known, stranger = Solo(agent), Solo(agent)
    stranger.flow = Flow(FlowId("s"), "tls", ("127.0.0.1", 5061), ("192.0.2.66", 4711))
    got = [labels(stranger.give(stranger.request(call_id=f"s{n}"))) for n in range(3)]
    assert got == [["401 INVITE"], ["401 INVITE"], ["503 INVITE"]]
    assert labels(known.give(known.request(call_id="k"))) == ["100 INVITE"]


def test_a_call_over_tls_is_not_steered_in_clear() -> None:
    solo = Solo()
    invite = solo.request()
    solo.give(invite)
    event = solo.last(IncomingCall)
    assert isinstance(event, IncomingCall)
    solo.agent.answer(event.call, answer_to(offer_of()), 0.0)
    solo.drain()
    tag = solo.sent[-1].recipient.tag or ""
    clear = replace(solo.flow, flow_id=FlowId("u"), transport="udp")
    solo.flow, secured = clear, solo.flow
    assert labels(solo.give(solo.request("BYE", cseq=2, to_tag=tag))) == ["403 BYE"]
    assert solo.give(solo.request("ACK", to_tag=tag)) == []
    solo.flow = secured
    assert labels(solo.give(solo.request("BYE", cseq=3, to_tag=tag))) == ["200 BYE"]


# What every element must refuse or answer.


@pytest.mark.parametrize(
    ("request_", "expected", "header"),
    [
        (Solo().request("OPTIONS"), "200 OPTIONS", ("Accept", "application/sdp")),
        (Solo().request("OPTIONS", ("Max-Forwards", "0")), "200 OPTIONS", None),
        (Solo().request("REGISTER"), "405 REGISTER", ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK")),
        (Solo().request("BYE"), "481 BYE", None),
        (Solo().request("UPDATE"), "481 UPDATE", None),
        (Solo().request("INVITE", to_tag="gone"), "481 INVITE", None),
        (Solo().request("INVITE", ("Require", "100rel, gruu")), "420 INVITE", ("Unsupported", "gruu")),
        (Solo().request("INVITE", ("Max-Forwards", "0")), "483 INVITE", None),
        (
            Solo().request("INVITE", ("Content-Type", "text/plain"), body=b"x"),
            "415 INVITE",
            ("Accept", "application/sdp"),
        ),
        (Solo().request("INVITE", ("Accept", "text/html")), "406 INVITE", ("Accept", "application/sdp")),
        (Solo().request("INVITE", ("Accept", "text/html, application/sdp;level=1")), "100 INVITE", None),
        (Solo().request("INVITE", body=b"v=0\r\nnonsense"), "400 INVITE", None),
        (Solo().request("INVITE", ("Session-Expires", "soon")), "400 INVITE", None),
        (Solo().request("INVITE", ("Contact", "*")), "400 INVITE", None),
        (Solo().request("INVITE", uri="mailto:a@b"), "416 INVITE", None),
        (Solo().request("INVITE", uri="tel:+4930"), "100 INVITE", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answers(request_: Request, expected: str, header: tuple[str, str] | None) -> None:
    solo = Solo()
    (response,) = solo.give(request_)
    assert labels([response]) == [expected]
    if header is not None:
        assert response.get(header[0]) == header[1]
    assert response.get("Server") == "Koppel"
    assert response.recipient.tag or expected.startswith("100")


def test_the_same_invite_by_two_ways_is_482() -> None:
    solo = Solo()
    assert labels(solo.give(solo.request())) == ["100 INVITE"]
    assert labels(solo.give(solo.request())) == ["482 INVITE"]
    assert solo.agent.calls == 1


def test_a_repeated_invite_is_answered_by_its_transaction() -> None:
    solo = Solo(transport="udp")
    invite = solo.request()
    solo.give(invite)
    assert labels(solo.give(invite)) == ["100 INVITE"]
    assert len(solo.events) == 1


@pytest.mark.parametrize("each", [each for each in vectors() if each.expected.isdigit()], ids=lambda each: each.name)
def test_malformed_messages_are_answered(each: Vector) -> None:
    solo = Solo(transport="udp")
    solo.agent.receive(each.data, solo.flow, 0.0)
    (effect,) = solo.agent.poll()
    assert isinstance(effect, SendMessage)
    # What cannot be read goes back as it came, so the answer itself need not be a message that we would take.
    assert effect.data.startswith(f"SIP/2.0 {each.expected} ".encode())
    assert (solo.agent.counters["malformed"], len(solo.agent._core.layer)) == (1, 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wsinv", ["481 INVITE"]),  # To has a tag
        ("intmeth", ["405 !interesting-Method0123456789_*+`.%indeed'~"]), ("esc01", ["100 INVITE"]),
        ("escnull", ["405 REGISTER"]), ("esc02", ["405 RE%47IST%45R"]), ("lwsdisp", ["200 OPTIONS"]),
        ("semiuri", ["200 OPTIONS"]), ("transports", ["200 OPTIONS"]), ("unreason", []), ("noreason", []),
        ("escruri", ["100 INVITE"]), ("baddate", ["100 INVITE"]), ("badaspec", ["200 OPTIONS"]), ("baddn", ["200 OPTIONS"]),
        ("badbranch", ["200 OPTIONS"]), ("unkscm", ["416 OPTIONS"]), ("novelsc", ["416 OPTIONS"]),
        ("bext01", ["420 OPTIONS"]), ("invut", ["415 INVITE"]), ("bcast", []), ("zeromf", ["200 OPTIONS"]),
        ("sdp01", ["406 INVITE"]), ("inv2543", ["400 INVITE"]),  # no Contact, so no dialog
        ("badinv01", []), ("bigcode", []), ("insuf", []), ("scalarlg", []),
    ],
)  # fmt: skip
def test_torture_messages(name: str, expected: list[str]) -> None:
    solo = Solo(transport="udp")
    data = next(each.data for each in vectors() if each.name == name)
    assert labels(solo.give(data)) == expected


def test_responses_that_nobody_waits_for_are_counted() -> None:
    solo = Solo()
    solo.give(next(each.data for each in vectors() if each.name == "bcast"))
    assert (solo.sent, solo.agent.counters["stray_responses"]) == ([], 1)


# Whatever comes, nothing raises, and in the end nothing is left.

METHODS = ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "PRACK", "INFO", "REGISTER"]
HEADERS = [
    ("Require", "100rel"), ("Session-Expires", "90"), ("Session-Expires", "x"), ("Supported", "timer"), ("RAck", "1 1 INVITE"),
    ("Max-Forwards", "0"), ("Contact", "*"), ("Contact", "<tel:1>"), ("Record-Route", "<sip:p>"), ("Authorization", "Digest x"),
    ("Accept", "a/b"), ("Reason", "x"), ("RAck", ""), ("Content-Type", "text/plain"),
]  # fmt: skip
BODIES = [b"", offer_of().encode(), b"v=0", offer_of(direction="sendonly").encode()]
STEP = st.one_of(
    st.tuples(
        st.just("request"), st.sampled_from(METHODS), st.lists(st.sampled_from(HEADERS), max_size=2, unique_by=lambda h: h[0]),
        st.integers(1, 4), st.sampled_from(["", "last", "other"]), st.sampled_from(["", "z9hG4bKx", "z9hG4bKy", "old"]),
        st.sampled_from(BODIES),
    ),
    st.tuples(st.just("act"), st.sampled_from(["ring", "progress", "answer", "reject", "hang_up", "accept_offer", "refuse_offer"])),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 40.0, 200.0])),
    st.tuples(st.just("bytes"), st.binary(max_size=60)),
    st.tuples(st.just("closed")),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=14), st.sampled_from(["udp", "tls"]))
def test_any_course_of_a_call(steps: list[tuple[object, ...]], transport: str) -> None:
    solo = Solo(user_agent("fuzz", [LOOPBACK_TRUNK, DESK]), transport)  # type: ignore[arg-type]
    for step in steps:
        take(solo, step)
    for message in solo.sent:
        if isinstance(message, Response):
            assert message.status >= 100
    for event in list(solo.events):
        if isinstance(event, IncomingCall):
            solo.agent.hang_up(event.call, solo.now)
    solo.wait(solo.now + 2000.0)
    assert solo.agent.calls == 0
    assert len(solo.agent._core.layer) == 0
    assert len(solo.agent._core.timers) == 0
    assert solo.agent._core.dialogs == {}
    assert not +solo.agent._core.trunk_calls


def take(solo: Solo, step: tuple[object, ...]) -> None:
    match step:
        case ("request", str(method), list(headers), int(cseq), str(tag), str(branch), bytes(body)):
            tags = [message.recipient.tag for message in solo.sent if message.recipient.tag]
            to_tag = {"": "", "last": tags[-1] if tags else "", "other": "other"}[tag] or ""
            solo.give(solo.request(method, *headers, cseq=cseq, to_tag=to_tag, branch=branch, body=body))
        case ("act", str(name)):
            calls = [event.call for event in solo.events if isinstance(event, IncomingCall)]
            if calls:
                sdp = answer_to(offer_of())
                arguments = {
                    "progress": (sdp,),
                    "answer": (sdp,),
                    "accept_offer": (sdp,),
                    "reject": (486,),
                    "refuse_offer": (488,),
                }
                getattr(solo.agent, name)(calls[-1], *arguments.get(name, ()), solo.now)
                solo.drain()
        case ("wait", float(seconds)):
            solo.wait(solo.now + seconds)
        case ("bytes", bytes(data)):
            solo.give(data)
        case _:
            solo.agent.flow_closed(solo.flow.flow_id, solo.now)
            solo.drain()
