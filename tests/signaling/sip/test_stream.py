import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.errors import RemoteError
from signaling.sip.stream import Framer, StreamLimits


def message(body: bytes, name: bytes = b"Content-Length") -> bytes:
    return b"INVITE sip:a@b SIP/2.0\r\nSubject: x\r\n" + name + b": %d\r\n\r\n" % len(body) + body


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.lists(st.integers(1, 30), min_size=1), st.booleans()
)
def test_messages_come_out_whole_however_they_are_cut(bodies: list[bytes], sizes: list[int], spaced: bool) -> None:
    messages = [message(body) for body in bodies]
    stream = (b"\r\n" if spaced else b"").join(messages)
    framer, got, at, turn = Framer(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        got += framer.receive(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert got == messages
    assert framer.idle


def test_keep_alives_are_counted_and_leave_messages_alone() -> None:
    framer = Framer()
    assert framer.receive(b"\r\n\r\n") == []
    assert framer.pings == 1
    assert framer.receive(b"\r\n\r\n\r\n\r\n" + message(b"x")) == [message(b"x")]
    assert framer.pings == 3
    assert framer.receive(b"\r\n" + message(b"")) == [message(b"")], "a lone CRLF is a pong"
    assert framer.pings == 3


def test_a_ping_in_pieces() -> None:
    framer = Framer()
    for piece in (b"\r", b"\n", b"\r"):
        assert framer.receive(piece) == []
        assert framer.pings == 0
    framer.receive(b"\n")
    assert framer.pings == 1


@pytest.mark.parametrize("name", [b"l", b"L", b"content-length", b"Content-Length \t"])
def test_forms_of_content_length(name: bytes) -> None:
    assert Framer().receive(message(b"abc", name)) == [message(b"abc", name)]


def test_a_folded_content_length() -> None:
    data = b"OPTIONS sip:a SIP/2.0\r\nContent-Length:\r\n 3\r\n\r\nabc"
    assert Framer().receive(data) == [data]


@pytest.mark.parametrize(
    "head",
    [
        b"A: b",
        b"Content-Length: x",
        b"Content-Length: -1",
        b"Content-Length: 1\r\nl: 2",
        b"Content-Length: 99999999999",
        b"Content-Length: 70000",
    ],
)
def test_a_stream_that_cannot_be_cut_is_refused(head: bytes) -> None:
    with pytest.raises(RemoteError):
        Framer().receive(b"OPTIONS sip:a SIP/2.0\r\n" + head + b"\r\n\r\n")


def test_the_same_length_twice_is_one_length() -> None:
    data = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 1\r\nl: 1\r\n\r\nx"
    assert Framer().receive(data) == [data]


def test_limits() -> None:
    framer = Framer(StreamLimits(head_bytes_max=100, body_bytes_max=10))
    assert framer.receive(b"x" * 100) == []
    with pytest.raises(RemoteError) as caught:
        framer.receive(b"x")
    assert caught.value.sip_status == 513
    with pytest.raises(RemoteError, match="body"):
        Framer(StreamLimits(body_bytes_max=10)).receive(message(b"x" * 11))


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_no_bytes_raise_anything_but_remote_error(pieces: list[bytes]) -> None:
    framer = Framer(StreamLimits(head_bytes_max=200, body_bytes_max=100))
    try:
        for piece in pieces:
            framer.receive(piece)
    except RemoteError:
        pass
