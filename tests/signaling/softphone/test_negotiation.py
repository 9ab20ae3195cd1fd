from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.errors import RemoteError
from signaling.softphone.negotiation import (
    CANDIDATES_MAX,
    Candidate,
    ChosenCodec,
    Fingerprint,
    IceCredentials,
    LocalMedia,
    read_offer,
    write_answer,
)

DIGEST = ":".join(["AB"] * 32)

# As Chromium 156 writes it, with a host, an mDNS, a TCP and a reflexive candidate.
OFFER = f"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS
m=audio 50005 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 192.0.2.10
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1467250027 1 udp 2122260223 192.0.2.10 50005 typ host generation 0 network-id 1
a=candidate:1467250028 1 udp 2122260222 7e2a1b2c-0000-4000-8000-000000000000.local 50006 typ host
a=candidate:1467250029 1 tcp 1518280447 192.0.2.10 9 typ host tcptype active
a=candidate:1467250030 1 udp 1686052607 198.51.100.7 40000 typ srflx raddr 192.0.2.10 rport 50005
a=ice-ufrag:gqRb
a=ice-pwd:x7A0B1qkCq0YwZ3rD9sE2t/u
a=ice-options:trickle
a=fingerprint:sha-256 {DIGEST}
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendrecv
a=msid:- 7c1b8f6e
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
a=ssrc:3735928559 cname:abc
""".replace("\n", "\r\n")

LOCAL = LocalMedia(
    ice=IceCredentials("relayfrag", "r" * 24),
    candidates=(Candidate("203.0.113.5", 40000, 2130706431, "f1"), Candidate("127.0.0.1", 40000, 2130706175, "f2")),
    fingerprint=Fingerprint("sha-256", DIGEST),
    ssrc=1234,
    cname="koppel",
    session_id=77,
)


def without(line: str) -> str:
    return "\r\n".join(kept for kept in OFFER.split("\r\n") if not kept.startswith(line))


def test_what_matters_of_an_offer_is_read():
    offer = read_offer(OFFER)
    assert offer.codec == ChosenCodec("opus", 111, in_band_fec=True, telephone_event=110)
    assert offer.ice == IceCredentials("gqRb", "x7A0B1qkCq0YwZ3rD9sE2t/u")
    assert offer.candidates == (
        Candidate("192.0.2.10", 50005, 2122260223, "1467250027"),
        Candidate("198.51.100.7", 40000, 1686052607, "1467250030", "srflx"),
    )
    assert offer.fingerprints == (Fingerprint("sha-256", DIGEST),)
    assert (offer.setup, offer.direction, offer.ice_lite, offer.section) == ("active", "sendrecv", False, 0)


@pytest.mark.parametrize(
    ("preference", "codec"),
    [
        (("PCMU", "opus"), ChosenCodec("PCMU", 0, in_band_fec=False, telephone_event=126)),
        (("PCMA",), ChosenCodec("PCMA", 8, in_band_fec=False, telephone_event=126)),
    ],
)
def test_the_codec_is_the_first_that_we_prefer(preference, codec):
    assert read_offer(OFFER, preference).codec == codec


def test_a_static_payload_type_needs_no_rtpmap():
    assert read_offer(without("a=rtpmap:0 "), ("PCMU",)).codec.payload_type == 0


def test_a_static_number_that_is_mapped_to_something_else_is_not_taken():
    with pytest.raises(RemoteError, match="none of PCMU"):
        read_offer(OFFER.replace("a=rtpmap:0 PCMU/8000", "a=rtpmap:0 G729/8000"), ("PCMU",))


def test_no_forward_error_correction_where_it_is_not_asked_for():
    assert not read_offer(OFFER.replace(";useinbandfec=1", "")).codec.in_band_fec


def test_the_answer_is_written_to_the_letter():
    assert write_answer(read_offer(OFFER), LOCAL).split("\r\n") == [
        "v=0",
        "o=- 77 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=audio 40000 UDP/TLS/RTP/SAVPF 111 110",
        "c=IN IP4 203.0.113.5",
        "a=mid:0",
        "a=ice-ufrag:relayfrag",
        f"a=ice-pwd:{'r' * 24}",
        "a=candidate:f1 1 udp 2130706431 203.0.113.5 40000 typ host",
        "a=candidate:f2 1 udp 2130706175 127.0.0.1 40000 typ host",
        "a=end-of-candidates",
        f"a=fingerprint:sha-256 {DIGEST}",
        "a=setup:active",
        "a=rtcp-mux",
        "a=sendrecv",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=20;useinbandfec=1",
        "a=rtpmap:110 telephone-event/48000",
        "a=fmtp:110 0-15",
        "a=ptime:20",
        "a=maxptime:20",
        "a=msid:koppel audio",
        "a=ssrc:1234 cname:koppel",
        "",
    ]


def test_a_g711_answer_names_one_codec():
    answer = write_answer(read_offer(without("a=rtpmap:126"), ("PCMA",)), LOCAL)
    assert "m=audio 40000 UDP/TLS/RTP/SAVPF 8\r\n" in answer
    assert "a=rtpmap:8 PCMA/8000\r\n" in answer
    assert "telephone-event" not in answer


def test_other_sections_are_rejected_in_their_places():
    video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\n"
    lines = write_answer(read_offer(OFFER + video), LOCAL).split("\r\n")
    assert [line for line in lines if line.startswith("m=")] == [
        "m=audio 40000 UDP/TLS/RTP/SAVPF 111 110",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
    ]
    assert lines[-2] == "a=mid:1"
    assert "a=group:BUNDLE 0" in lines


@pytest.mark.parametrize(
    ("offered", "answered"),
    [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")],
)
def test_directions_mirror(offered, answered):
    offer = read_offer(OFFER.replace("a=sendrecv", f"a={offered}"))
    assert offer.direction == answered
    assert f"\r\na={answered}\r\n" in write_answer(offer, LOCAL)


@pytest.mark.parametrize(("offered", "ours"), [("actpass", "active"), ("passive", "active"), ("active", "passive")])
def test_dtls_roles(offered, ours):
    assert read_offer(OFFER.replace("setup:actpass", f"setup:{offered}")).setup == ours


def test_session_level_attributes_count_for_the_section():
    session = f"a=ice-ufrag:gqRb\r\na=ice-pwd:{'p' * 22}\r\na=setup:passive\r\na=fingerprint:SHA-384 {':'.join(['0a'] * 48)}\r\na=ice-lite"
    offer = OFFER
    for line in ("a=ice-ufrag", "a=ice-pwd", "a=setup", "a=fingerprint"):
        offer = "\r\n".join(kept for kept in offer.split("\r\n") if not kept.startswith(line))
    read = read_offer(offer.replace("a=extmap-allow-mixed", session))
    assert read.ice == IceCredentials("gqRb", "p" * 22)
    assert read.fingerprints == (Fingerprint("sha-384", ":".join(["0A"] * 48)),)
    assert (read.setup, read.ice_lite) == ("active", True)


@pytest.mark.parametrize(
    ("offer", "what"),
    [
        ("", "v=0"),
        ("v=0\r\n", "o="),
        (OFFER.replace("m=audio", "m=video"), "no audio"),
        (OFFER.replace("m=audio 50005", "m=audio 0"), "no audio"),
        (OFFER.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "no audio"),
        (without("a=rtcp-mux"), "rtcp-mux"),
        (without("a=setup"), "a=setup"),
        (OFFER.replace("setup:actpass", "setup:holdconn"), "a=setup"),
        (without("a=ice-ufrag"), "ice-ufrag"),
        (OFFER.replace("a=ice-ufrag:gqRb", "a=ice-ufrag:gq:b"), "ice-ufrag"),
        (OFFER.replace("x7A0B1qkCq0YwZ3rD9sE2t/u", "short"), "ice-pwd"),
        (without("a=fingerprint"), "fingerprint"),
        (OFFER.replace("sha-256", "sha-1"), "fingerprint"),
        (OFFER.replace(DIGEST, DIGEST[:-1]), "fingerprint"),
        (OFFER.replace("opus/48000/2", "opus/16000").replace("PCM", "XCM"), "none of opus, PCMU, PCMA"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(offer, what):
    with pytest.raises(RemoteError, match=what):
        read_offer(offer)


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 udp 1 224.0.0.1 5000 typ host",
        "1 1 udp 1 0.0.0.0 5000 typ host",
        "1 1 udp 1 255.255.255.255 5000 typ host",
        "1 1 udp 1 999.1.1.1 5000 typ host",
        "1 1 udp 1 192.0.2.1 0 typ host",
        "1 1 udp 1 192.0.2.1 70000 typ host",
        "1 1 udp 99999999999 192.0.2.1 5000 typ host",
        "1 2 udp 1 192.0.2.1 5000 typ host",
        "1 1 udp 1 :: 5000 typ host",
        "1 1 udp 1 ff02::1 5000 typ host",
        "1 1 udp 1 fe80::1 5000 typ host",
        "1 1 udp 1 fe80::1%eth0 5000 typ host",
        "1 1 udp 1 ::ffff:192.0.2.1 5000 typ host",
        "1 1 udp 1 2001:db8:::1 5000 typ host",
        "1 1 udp 1 192.0.2.1 5000 typ prflx",
        "junk",
    ],
)
def test_candidates_that_cannot_be_checked_are_left_out(candidate):
    assert read_offer(without("a=candidate") + f"a=candidate:{candidate}\r\n").candidates == ()


def test_ipv6_candidates_are_read_in_their_canonical_form():
    said = without("a=candidate") + "a=candidate:7 1 UDP 9 2001:DB8:0:0::1 5000 typ host generation 0\r\n"
    assert read_offer(said).candidates == (Candidate("2001:db8::1", 5000, 9, "7"),)


def test_an_ipv6_candidate_may_be_the_default():
    local = replace(LOCAL, candidates=(Candidate("2001:db8::5", 40000, 9, "f1"), *LOCAL.candidates))
    written = write_answer(read_offer(OFFER), local).split("\r\n")
    assert "c=IN IP6 2001:db8::5" in written
    assert "a=candidate:f1 1 udp 9 2001:db8::5 40000 typ host" in written


def test_candidates_are_bounded():
    many = "".join(f"a=candidate:1 1 udp {n} 192.0.2.{n} 5000 typ host\r\n" for n in range(1, 200))
    assert len(read_offer(OFFER + many).candidates) == CANDIDATES_MAX


def test_no_password_shows_in_a_repr():
    assert "x7A0B1qk" not in repr(read_offer(OFFER))
    assert "rrrr" not in repr(LOCAL)


@given(st.data())
def test_no_damage_to_an_offer_makes_the_reader_raise_anything_else(data):
    position = data.draw(st.integers(0, len(OFFER)))
    length = data.draw(st.integers(0, 40))
    damaged = OFFER[:position] + data.draw(st.text(max_size=20)) + OFFER[position + length :]
    try:
        offer = read_offer(damaged)
    except RemoteError:
        return
    assert write_answer(offer, LOCAL).startswith("v=0\r\n")
