from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.errors import RemoteError
from signaling.sip.negotiation import (
    MIRROR,
    LocalMedia,
    Negotiated,
    SdesKey,
    accept_answer,
    answer,
    make_offer,
    offered_host,
    reoffer,
)
from signaling.sip.sdp import DIRECTIONS, Crypto, Direction, SessionDescription
from tests.signaling.sip.pair import entropy_of

LOCAL = LocalMedia(("192.0.2.200", 40_000))
PEER_KEY = bytes(range(30))
KEY_80 = str(Crypto(1, "AES_CM_128_HMAC_SHA1_80", PEER_KEY))
KEY_32 = str(Crypto(2, "AES_CM_128_HMAC_SHA1_32", PEER_KEY[::-1]))


def offer(
    *attributes: str,
    address: str = "192.0.2.1",
    port: int = 6000,
    protocol: str = "RTP/SAVP",
    formats: str = "0 8 101",
    crypto: tuple[str, ...] = (KEY_80,),
    more: str = "",
) -> SessionDescription:
    lines = [
        "v=0", "o=peer 1 1 IN IP4 192.0.2.1", "s=-", f"c=IN IP4 {address}", "t=0 0",
        f"m=audio {port} {protocol} {formats}", "a=rtpmap:101 telephone-event/8000",
        *(f"a=crypto:{each}" for each in crypto), *(f"a={each}" for each in attributes),
    ]  # fmt: skip
    return SessionDescription.parse("\r\n".join(lines) + "\r\n" + more)


def settle(
    sdp: SessionDescription, local: LocalMedia = LOCAL, previous: Negotiated | None = None, seed: str = "x"
) -> Negotiated:
    return answer(sdp, local, entropy=entropy_of(seed), previous=previous)


def lines(negotiated: Negotiated) -> list[str]:
    return negotiated.answer.encode().decode().split("\r\n")


def test_an_answer_line_by_line() -> None:
    got = settle(offer("rtcp-mux", "ptime:30", "mid:audio"))
    assert lines(got) == [
        "v=0", lines(got)[1], "s=-", "c=IN IP4 192.0.2.200", "t=0 0", "m=audio 40000 RTP/SAVP 0 101",
        "c=IN IP4 192.0.2.200", "a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16",
        "a=ptime:20", "a=mid:audio",
        f"a=crypto:{Crypto(1, 'AES_CM_128_HMAC_SHA1_80', entropy_of('x')(30))}",
        "a=rtcp-mux", "a=sendrecv", "",
    ]  # fmt: skip
    media = got.media
    assert (media.encoding, media.payload_type, media.telephone_event, media.ptime_ms) == ("PCMU", 0, 101, 30)
    assert media.receive_key == SdesKey("AES_CM_128_HMAC_SHA1_80", PEER_KEY)
    assert media.send_key == SdesKey("AES_CM_128_HMAC_SHA1_80", entropy_of("x")(30))
    assert (media.remote, media.remote_rtcp, media.rtcp_mux) == (("192.0.2.1", 6000), None, True)


@pytest.mark.parametrize(
    ("attributes", "local", "remote_rtcp", "said"),
    [
        ((), LOCAL, ("192.0.2.1", 6001), []),
        (("rtcp:7000",), LOCAL, ("192.0.2.1", 7000), []),
        (("rtcp:7000 IN IP4 192.0.2.9",), LOCAL, ("192.0.2.9", 7000), []),
        (("rtcp-mux",), replace(LOCAL, rtcp_mux=False, rtcp_port=40_003), ("192.0.2.1", 6001), ["a=rtcp:40003"]),
        (("rtcp-mux", "rtcp:6000"), LOCAL, None, ["a=rtcp-mux"]),
    ],
)
def test_rtcp(attributes: tuple[str, ...], local: LocalMedia, remote_rtcp: object, said: list[str]) -> None:
    got = settle(offer(*attributes), local)
    assert got.media.remote_rtcp == remote_rtcp
    assert [line for line in lines(got) if line.startswith("a=rtcp")] == said


# Pain 1: what we answer follows this table and nothing else. Rows: the peer's direction, its address, what we want.
TABLE: dict[tuple[Direction, bool, Direction], Direction] = {
    ("sendrecv", False, "sendrecv"): "sendrecv", ("sendrecv", False, "sendonly"): "sendonly",
    ("sendrecv", False, "recvonly"): "recvonly", ("sendrecv", False, "inactive"): "inactive",
    ("sendonly", False, "sendrecv"): "recvonly", ("sendonly", False, "sendonly"): "inactive",
    ("sendonly", False, "recvonly"): "recvonly", ("sendonly", False, "inactive"): "inactive",
    ("recvonly", False, "sendrecv"): "sendonly", ("recvonly", False, "sendonly"): "sendonly",
    ("recvonly", False, "recvonly"): "inactive", ("recvonly", False, "inactive"): "inactive",
    ("inactive", False, "sendrecv"): "inactive", ("inactive", False, "sendonly"): "inactive",
    ("inactive", False, "recvonly"): "inactive", ("inactive", False, "inactive"): "inactive",
    ("sendrecv", True, "sendrecv"): "recvonly", ("sendrecv", True, "sendonly"): "inactive",
    ("sendrecv", True, "recvonly"): "recvonly", ("sendrecv", True, "inactive"): "inactive",
    ("sendonly", True, "sendrecv"): "recvonly", ("sendonly", True, "sendonly"): "inactive",
    ("sendonly", True, "recvonly"): "recvonly", ("sendonly", True, "inactive"): "inactive",
    ("recvonly", True, "sendrecv"): "inactive", ("recvonly", True, "sendonly"): "inactive",
    ("recvonly", True, "recvonly"): "inactive", ("recvonly", True, "inactive"): "inactive",
    ("inactive", True, "sendrecv"): "inactive", ("inactive", True, "sendonly"): "inactive",
    ("inactive", True, "recvonly"): "inactive", ("inactive", True, "inactive"): "inactive",
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(product(DIRECTIONS, (False, True), DIRECTIONS))
    assert all(TABLE[direction, False, "sendrecv"] == MIRROR[direction] for direction in DIRECTIONS)


@pytest.mark.parametrize(("peer", "unspecified", "wanted"), TABLE)
@pytest.mark.parametrize("level", ["session", "media"])
def test_directions(peer: Direction, unspecified: bool, wanted: Direction, level: str) -> None:
    said = offer(*([peer] if level == "media" else []), address="0.0.0.0" if unspecified else "192.0.2.1")
    if level == "session":
        said = SessionDescription.parse(said.encode().replace(b"m=audio", f"a={peer}\r\nm=audio".encode()))
    got = settle(said, replace(LOCAL, direction=wanted))
    expected = TABLE[peer, unspecified, wanted]
    assert got.media.direction == expected
    assert got.answer.direction(got.answer.media[0]) == expected
    assert (got.media.sends, got.media.receives) == (
        expected in {"sendrecv", "sendonly"}, expected in {"sendrecv", "recvonly"},
    )  # fmt: skip
    assert got.media.remote == (None if unspecified else ("192.0.2.1", 6000))


# Pains 1 to 3: a chain of re-offers, each answered anew, with our key and session kept.
def test_hold_and_resume_keep_keys_and_bump_the_version() -> None:
    start = settle(offer())
    held = settle(offer("sendonly"), previous=start, seed="y")
    again = settle(offer("sendonly"), previous=held, seed="z")
    resumed = settle(offer("sendrecv"), previous=again, seed="w")
    refreshed = settle(offer("sendrecv"), previous=resumed, seed="v")
    assert [each.answer.origin.session_version for each in (start, held, again, resumed, refreshed)] == [1, 2, 2, 3, 3]
    assert len({each.answer.origin.session_id for each in (start, held, again, resumed, refreshed)}) == 1
    assert len({each.media.send_key for each in (start, held, again, resumed, refreshed)}) == 1
    assert again.answer == held.answer, "the same offer gets the same answer"
    assert refreshed.answer == resumed.answer
    assert [each.media.direction for each in (start, held, resumed)] == ["sendrecv", "recvonly", "sendrecv"]


def test_old_style_hold_and_back_to_the_same_address() -> None:
    start = settle(offer())
    held = settle(offer(address="0.0.0.0"), previous=start)
    resumed = settle(offer(), previous=held)
    assert (held.media.remote, held.media.direction) == (None, "recvonly")
    assert (resumed.media.remote, resumed.media.direction) == (("192.0.2.1", 6000), "sendrecv")
    assert resumed.media.send_key == start.media.send_key


@pytest.mark.parametrize(
    ("changed", "key_kept"),
    [
        ({"port": 7000}, True),
        ({"address": "192.0.2.77"}, True),
        ({"formats": "8 0 101"}, True),
        ({"formats": "0 101"}, True),
        ({"crypto": (KEY_80, KEY_32)}, True),
        ({"crypto": (KEY_32, KEY_80)}, True),
        ({"crypto": (str(Crypto(1, "AES_CM_128_HMAC_SHA1_80", PEER_KEY, "2^31")),)}, True),
        ({"crypto": (str(Crypto(1, "AES_CM_128_HMAC_SHA1_80", PEER_KEY[::-1])),)}, False),
        ({"crypto": (KEY_32,)}, False),
    ],
)
def test_our_key_changes_exactly_when_the_peers_does(changed: dict[str, object], key_kept: bool) -> None:
    start = settle(offer(), seed="start")
    got = settle(offer(**changed), previous=start, seed="later")  # type: ignore[arg-type]
    assert (got.media.send_key == start.media.send_key) == key_kept
    assert got.media.encoding == "PCMU", "what is settled stays while the peer still offers it"


def test_a_move_to_another_codec() -> None:
    start = settle(offer())
    got = settle(offer(formats="8 101"), previous=start)
    assert (got.media.encoding, got.media.payload_type) == ("PCMA", 8)
    assert got.media.send_key == start.media.send_key


@pytest.mark.parametrize(
    "said",
    [
        offer(crypto=()),
        offer(crypto=(), protocol="RTP/AVP"),
        offer(protocol="UDP/TLS/RTP/SAVPF", crypto=()),
        offer(port=0),
        offer(formats="18 101"),
        offer(crypto=(KEY_80 + "|1:4",)),
        offer(crypto=("1 AES_CM_128_HMAC_SHA1_80 inline:AAAA",)),
        offer(crypto=(f"1 F8_128_HMAC_SHA1_80 {KEY_80.split()[2]}",)),
        offer(crypto=(f"{KEY_80} UNENCRYPTED_SRTP",)),
        offer(crypto=(f"{KEY_80} KDR=3",)),
        SessionDescription.parse("v=0\r\no=- 1 1 IN IP4 h\r\nm=video 4 RTP/SAVP 96\r\nc=IN IP4 192.0.2.1\r\n"),
        SessionDescription.parse("v=0\r\no=- 1 1 IN IP4 h\r\n"),
    ],
)
def test_what_is_not_acceptable_is_488(said: SessionDescription) -> None:
    with pytest.raises(RemoteError) as caught:
        settle(said)
    assert caught.value.sip_status == 488


def test_plain_rtp_only_where_it_is_allowed() -> None:
    got = settle(offer(crypto=(), protocol="RTP/AVP"), replace(LOCAL, allow_plain_rtp=True))
    assert (got.media.receive_key, got.media.send_key) == (None, None)
    assert not got.answer.media[0].cryptos
    with pytest.raises(RemoteError, match="acceptable"):
        settle(offer(crypto=()), replace(LOCAL, allow_plain_rtp=True))


def test_where_plain_is_allowed_srtp_is_still_taken() -> None:
    got = settle(offer(protocol="RTP/AVP"), replace(LOCAL, allow_plain_rtp=True))
    assert got.media.receive_key is not None
    assert got.answer.media[0].protocol == "RTP/AVP"


def test_other_streams_are_rejected_in_place() -> None:
    more = "m=video 7000 RTP/SAVP 96\r\na=mid:v\r\nm=audio 7002 RTP/AVP 0\r\n"
    got = settle(offer(more=more))
    assert [(m.kind, m.port, m.protocol) for m in got.answer.media] == [
        ("audio", 40_000, "RTP/SAVP"), ("video", 0, "RTP/SAVP"), ("audio", 0, "RTP/AVP"),
    ]  # fmt: skip


def test_the_second_suite_and_a_lifetime() -> None:
    got = settle(offer(crypto=("1 AEAD_AES_128_GCM inline:" + "A" * 40, KEY_32 + "|2^20")))
    assert got.media.receive_key == SdesKey("AES_CM_128_HMAC_SHA1_32", PEER_KEY[::-1])
    assert got.answer.media[0].cryptos[0].tag == 2


def test_opus_with_its_own_event_clock() -> None:
    said = offer(
        "rtpmap:111 opus/48000/2",
        "fmtp:111 useinbandfec=1",
        "rtpmap:110 telephone-event/48000",
        formats="111 0 101 110",
    )
    got = settle(said, replace(LOCAL, encodings=("opus", "PCMU")))
    assert (got.media.encoding, got.media.payload_type, got.media.telephone_event) == ("opus", 111, 110)
    assert got.media.fmtp == (("useinbandfec", "1"),)
    assert settle(said).media.telephone_event == 101


@pytest.mark.parametrize(
    ("address", "remote"),
    [("host.example", None), ("224.0.0.1", None), ("192.0.2.5", ("192.0.2.5", 6000))],
)
def test_addresses_that_cannot_be_sent_to_wait_for_latching(address: str, remote: object) -> None:
    assert settle(offer(address=address)).media.remote == remote


def offer6(*attributes: str, address: str = "2001:DB8:0::1") -> SessionDescription:
    """An offer whose media is in IPv6."""
    said = offer(*attributes, address="PLACE").encode().decode()
    return SessionDescription.parse(said.replace("c=IN IP4 PLACE", f"c=IN IP6 {address}"))


LOCAL6 = LocalMedia(("2001:db8::200", 40_000))


def test_an_answer_in_ipv6() -> None:
    got = settle(offer6(), LOCAL6)
    assert got.media.remote == ("2001:db8::1", 6000)
    assert got.media.remote_rtcp == ("2001:db8::1", 6001)
    said = lines(got)
    assert said[1].endswith(" 1 IN IP6 2001:db8::200")
    assert [line for line in said if line.startswith("c=")] == ["c=IN IP6 2001:db8::200"] * 2
    assert SessionDescription.parse(got.answer.encode()) == got.answer


def test_both_ends_agree_in_ipv6() -> None:
    ours = make_offer(LOCAL6, entropy=entropy_of("offer"))
    answered = settle(ours, LocalMedia(("fd00::9", 5000)))
    got = accept_answer(ours, answered.answer)
    assert (got.media.remote, answered.media.remote) == (("fd00::9", 5000), ("2001:db8::200", 40_000))
    # An answer cannot change the family of what was offered.
    crossed = SessionDescription.parse(answered.answer.encode().replace(b"IN IP6 fd00::9", b"IN IP4 192.0.2.1"))
    with pytest.raises(RemoteError, match="rejects the stream"):
        accept_answer(ours, crossed)


@pytest.mark.parametrize(("said", "local"), [(offer6(), LOCAL), (offer(), LOCAL6)])
def test_an_offer_is_answered_in_its_family_or_not_at_all(said: SessionDescription, local: LocalMedia) -> None:
    with pytest.raises(RemoteError) as caught:
        settle(said, local)
    assert caught.value.sip_status == 488


@pytest.mark.parametrize(
    ("address", "remote"),
    [("host.example", None), ("::", None), ("ff15::101/3", None), ("fe80::1", None), ("fe80::1%eth0", None),
     ("::ffff:192.0.2.1", None), ("fd00::5", ("fd00::5", 6000))],
)  # fmt: skip
def test_ipv6_addresses_that_cannot_be_sent_to_wait_for_latching(address: str, remote: object) -> None:
    assert settle(offer6(address=address), LOCAL6).media.remote == remote


@pytest.mark.parametrize(
    ("rtcp", "expected"),
    [("7000", "2001:db8::1"), ("7000 IN IP6 2001:db8::9", "2001:db8::9"), ("7000 IN IP4 192.0.2.9", "2001:db8::1")],
)
def test_rtcp_in_ipv6(rtcp: str, expected: str) -> None:
    assert settle(offer6(f"rtcp:{rtcp}"), LOCAL6).media.remote_rtcp == (expected, 7000)


def test_old_style_hold_in_ipv6() -> None:
    start = settle(offer6(), LOCAL6)
    for held in (offer6(address="::"), offer(address="0.0.0.0")):
        got = settle(held, LOCAL6, previous=start)
        assert (got.media.direction, got.media.remote, got.media.send_key) == ("recvonly", None, start.media.send_key)


@pytest.mark.parametrize(
    ("said", "host"),
    [
        (offer(), "192.0.2.1"), (offer6(), "2001:db8::1"), (offer(address="0.0.0.0"), "0.0.0.0"),
        (offer6(address="::"), "::"), (offer6(address="host.example"), "::"),
        (SessionDescription.parse("v=0\r\no=- 1 1 IN IP4 h\r\n"), ""),
    ],
)  # fmt: skip
def test_the_host_that_ours_is_chosen_by(said: SessionDescription, host: str) -> None:
    assert offered_host(said) == host


@pytest.mark.parametrize("local", [LOCAL, replace(LOCAL, rtcp_mux=False), replace(LOCAL, encodings=("PCMA",)),
                                   replace(LOCAL, suites=("AES_CM_128_HMAC_SHA1_32",)), replace(LOCAL, allow_plain_rtp=True),
                                   replace(LOCAL, encodings=("opus", "PCMU")), replace(LOCAL, telephone_event=False)])  # fmt: skip
def test_both_ends_of_an_exchange_agree(local: LocalMedia) -> None:
    said = make_offer(local, entropy=entropy_of("a"))
    theirs = answer(said, replace(local, address=("192.0.2.7", 9000)), entropy=entropy_of("b"))
    ours = accept_answer(SessionDescription.parse(said.encode()), SessionDescription.parse(theirs.answer.encode()))
    assert ours.media.receive_key == theirs.media.send_key
    assert ours.media.send_key == theirs.media.receive_key
    assert (ours.media.send_key is None) == local.allow_plain_rtp
    assert ours.media.remote == ("192.0.2.7", 9000)
    assert theirs.media.remote == local.address
    for name in ("encoding", "payload_type", "telephone_event", "rtcp_mux"):
        assert getattr(ours.media, name) == getattr(theirs.media, name)
    again = reoffer(ours, replace(local, direction="sendonly"), entropy=entropy_of("c"))
    held = answer(again, replace(local, address=("192.0.2.7", 9000)), entropy=entropy_of("d"), previous=theirs)
    assert held.media.direction == "recvonly"
    assert held.media.send_key == theirs.media.send_key
    assert held.media.receive_key == theirs.media.receive_key, "an offer for an INVITE without one has no fresh key"
    back = accept_answer(again, held.answer)
    assert (back.media.direction, back.media.send_key) == ("sendonly", ours.media.send_key)


def test_a_reoffer_after_hold_says_our_own_direction() -> None:
    held = settle(offer("sendonly"))
    again = reoffer(held, LOCAL, entropy=entropy_of("c"))
    assert again.direction(again.media[0]) == "sendrecv", "echoing recvonly would keep the call on hold for ever"
    assert again.media[0].cryptos[0].key == (held.media.send_key.master if held.media.send_key else b"")
    assert again.origin.session_version == held.answer.origin.session_version + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("m=audio 9000", "m=audio 0"),
        ("RTP/SAVP 0", "RTP/AVP 0"),
        ("crypto:1", "crypto:9"),
        ("a=crypto", "a=x-crypto"),
        ("SAVP 0 101", "SAVP 97 101"),
        ("m=audio", "m=audio 1 RTP/SAVP 0\r\nm=audio"),
    ],
)
def test_answers_that_do_not_fit_the_offer(old: str, new: str) -> None:
    said = make_offer(LOCAL, entropy=entropy_of("a"))
    text = answer(said, replace(LOCAL, address=("192.0.2.7", 9000)), entropy=entropy_of("b")).answer.encode().decode()
    assert old in text
    with pytest.raises(RemoteError) as caught:
        accept_answer(said, SessionDescription.parse(text.replace(old, new)))
    assert caught.value.sip_status == 488


@given(
    st.lists(
        st.tuples(st.sampled_from(DIRECTIONS), st.booleans(), st.integers(1, 3), st.integers(0, 2)),
        min_size=1,
        max_size=8,
    )
)
def test_any_chain_of_reoffers(chain: list[tuple[Direction, bool, int, int]]) -> None:
    entropy = entropy_of("chain")
    now = answer(offer(), LOCAL, entropy=entropy)
    for direction, unspecified, port, key in chain:
        crypto = str(Crypto(1, "AES_CM_128_HMAC_SHA1_80", bytes([key]) * 30))
        said = offer(direction, address="0.0.0.0" if unspecified else "192.0.2.1", port=6000 + port, crypto=(crypto,))
        then = answer(said, LOCAL, entropy=entropy, previous=now)
        assert then.media.direction == TABLE[direction, unspecified, "sendrecv"]
        assert (then.media.send_key == now.media.send_key) == (then.media.receive_key == now.media.receive_key)
        grown = then.answer.origin.session_version - now.answer.origin.session_version
        assert grown == (replace(then.answer, origin=now.answer.origin) != now.answer)
        now = then
