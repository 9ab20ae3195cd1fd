import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.errors import RemoteError
from signaling.sip.sdp import Attribute, Connection, Crypto, MediaDescription, Origin, RtpMap, SessionDescription

KEY = bytes(range(30))
INLINE = base64.b64encode(KEY).decode()

BROWSER = (
    "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    "a=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS stream\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0 8 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n"
    "a=ice-ufrag:Oyef\r\na=ice-pwd:tRfjEHa2g2SvGSEh8tJbZ6dF\r\na=ice-options:trickle\r\n"
    "a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n"
    "a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
    "a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:110 telephone-event/48000\r\n"
    "a=ssrc:3735928559 cname:x\r\na=candidate:1 1 udp 2122260223 192.0.2.1 54321 typ host generation 0\r\n"
    "a=candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nb=AS:30\r\na=mid:1\r\na=sctp-port:5000\r\n"
)


def test_a_browsers_offer_is_written_as_it_was_read() -> None:
    description = SessionDescription.parse(BROWSER)
    assert description.encode() == BROWSER.encode()
    audio, data = description.media
    assert description.groups("BUNDLE") == [("0", "1")]
    assert (audio.mid, data.mid, audio.protocol, data.formats) == (
        "0", "1", "UDP/TLS/RTP/SAVPF", ("webrtc-datachannel",),
    )  # fmt: skip
    assert audio.rtpmaps[111] == RtpMap(111, "opus", 48_000, 2)
    assert audio.fmtp(111) == {"minptime": "10", "useinbandfec": "1"}
    assert description.inherited(audio, "setup") == "actpass"
    assert len(audio.get_all("candidate")) == 2
    assert audio.rtcp == (9, Connection("0.0.0.0"))
    assert audio.has("rtcp-mux")
    assert data.other == (("b", "AS:30"),)


def test_lf_line_ends_blank_lines_and_trailing_spaces_are_taken() -> None:
    assert SessionDescription.parse(BROWSER.replace("\r\n", "\n") + "\n\n") == SessionDescription.parse(BROWSER)


@pytest.mark.parametrize(
    "text",
    [
        "", "v=1\r\no=- 1 1 IN IP4 h\r\n", "v=0\r\ns=-\r\n", "v=0\r\no=- 1 IN IP4 h\r\n", "v=0\r\no=- 1 x IN IP4 h\r\n",
        "v=0\r\no=- 1 1 IN IP4 h\r\nnonsense\r\n", "v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4\r\n",
        "v=0\r\no=- 1 1 IN IP4 h\r\nm=audio x RTP/AVP 0\r\n", "v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 70000 RTP/AVP 0\r\n",
        "v=0\r\no=- 1 1 IN IP4 h\r\nm=audio\r\n", "v=0\r\no=- 1 1 IN IP4 h\r\na=x\ry\r\n",
        "v=0\r\no=- 1 1 IN IP4 h\r\n" + "a=x\r\n" * 1100, "v=0\r\no=- 1 1 IN IP4 h\r\n" + "m=audio 1 RTP/AVP 0\r\n" * 17,
        "v=0\r\no=- 1 1 IN IP4 h\r\na=" + "x" * 40_000,
    ],
)  # fmt: skip
def test_malformed_descriptions(text: str) -> None:
    with pytest.raises(RemoteError):
        SessionDescription.parse(text)


@pytest.mark.parametrize(
    ("session", "media", "direction"),
    [
        ("", "", "sendrecv"),
        ("a=sendonly\r\n", "", "sendonly"),
        ("a=sendonly\r\n", "a=inactive\r\n", "inactive"),
        ("", "a=recvonly\r\n", "recvonly"),
    ],
)
def test_direction_is_inherited(session: str, media: str, direction: str) -> None:
    text = f"v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{session}m=audio 4 RTP/AVP 0\r\n{media}"
    description = SessionDescription.parse(text)
    assert description.direction(description.media[0]) == direction
    assert description.connection_of(description.media[0]) == Connection("192.0.2.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}", (1, "AES_CM_128_HMAC_SHA1_80", KEY, "", False, ())),
        (f"2 AES_CM_128_HMAC_SHA1_32 inline:{INLINE}|2^20", (2, "AES_CM_128_HMAC_SHA1_32", KEY, "2^20", False, ())),
        (f"3 X inline:{INLINE}|1048576|1:4", (3, "X", KEY, "1048576", True, ())),
        (f"4 X inline:{INLINE}|1:4", (4, "X", KEY, "", True, ())),
        (f"5 X inline:{INLINE}|2^48|1:4;inline:{INLINE}|2^48|2:4", (5, "X", b"", "", True, ())),
        (f"6 X inline:{INLINE} WSH=128 -KDR=5", (6, "X", KEY, "", False, ("WSH=128", "-KDR=5"))),
    ],
)
def test_crypto(text: str, expected: tuple[object, ...]) -> None:
    crypto = Crypto.parse(text)
    assert (
        crypto.tag, crypto.suite, crypto.key, crypto.lifetime, crypto.has_mki, crypto.session_parameters,
    ) == expected  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "1 X", "x X inline:AA", "1 X clear:AA", "1 X inline:!!", f"1 X inline:{INLINE}|2^x"]
)
def test_malformed_crypto_is_left_out(text: str) -> None:
    with pytest.raises(RemoteError):
        Crypto.parse(text)
    media = MediaDescription("audio", 4, "RTP/SAVP", ("0",), (Attribute("crypto", text),))
    assert media.cryptos == []


def test_keys_stay_out_of_reprs() -> None:
    description = SessionDescription.parse(
        f"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 4 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}\r\n"
    )
    for text in (repr(description), str(description), f"{description.media[0]}", repr(description.media[0].cryptos)):
        assert INLINE not in text
        assert repr(KEY) not in text


@pytest.mark.parametrize(
    ("value", "ms"), [("20", 20), ("20.0", 20), (" 30 ", 30), ("0", None), ("x", None), ("-5", None), ("999999", None)]
)
def test_ptime(value: str, ms: int | None) -> None:
    assert MediaDescription("audio", 4, "RTP/AVP", ("0",), (Attribute("ptime", value),)).milliseconds("ptime") == ms


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5001", (5001, None)),
        ("5001 IN IP4 192.0.2.9", (5001, Connection("192.0.2.9"))),
        ("0", None), ("x", None), ("99999", None), ("5001 IN", None), ("1234567", None),
    ],
)  # fmt: skip
def test_rtcp(value: str, expected: object) -> None:
    assert MediaDescription("audio", 4, "RTP/AVP", ("0",), (Attribute("rtcp", value),)).rtcp == expected


_WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Zs")), max_size=20)
_ATTRIBUTE = st.builds(Attribute, _WORD, st.none() | _TEXT)
_CONNECTION = st.none() | st.builds(Connection, _WORD, st.sampled_from(["IP4", "IP6"]))
_MEDIA = st.builds(
    MediaDescription, _WORD, st.integers(0, 65535), _WORD, st.lists(_WORD, max_size=4).map(tuple),
    st.lists(_ATTRIBUTE, max_size=4).map(tuple), _CONNECTION, st.integers(1, 3),
    st.lists(st.tuples(st.just("b"), _WORD), max_size=2).map(tuple),
)  # fmt: skip


@given(
    st.builds(
        SessionDescription,
        st.builds(Origin, _WORD, _WORD, st.integers(0, 2**60), st.just("IP4"), _WORD),
        st.lists(_MEDIA, max_size=3).map(tuple), st.lists(_ATTRIBUTE, max_size=4).map(tuple), _CONNECTION, _WORD,
        st.just("0 0"), st.lists(st.tuples(st.just("b"), _WORD), max_size=2).map(tuple),
    )
)  # fmt: skip
def test_what_is_written_is_read_again(description: SessionDescription) -> None:
    assert SessionDescription.parse(description.encode()) == description


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_text_raises_anything_but_remote_error(data: str | bytes) -> None:
    prefix = "v=0\r\no=- 1 1 IN IP4 h\r\n"
    for text in (data, prefix + data if isinstance(data, str) else prefix.encode() + data):
        try:
            description = SessionDescription.parse(text)
        except RemoteError:
            continue
        assert SessionDescription.parse(description.encode()).media == description.media
