import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.envelope import ContactKey, session_cipher
from recorder.errors import RemoteError
from recorder.names import Identity
from recorder.segment import NO_HASH, Chunk, SegmentHeader, SegmentReader, SegmentWriter

IDENTITY = Identity("account", "instance", "contact")
KEY = ContactKey(b"k" * 16, bytes(32))
SESSION = b"s" * 16


def header(**changes) -> SegmentHeader:
    fields = {
        "kind": "track",
        "codec": "pcmu",
        "role": "agent",
        "rate": 8_000,
        "first": 1_920,
        "session_id": SESSION,
        "part": 0,
        "counter": 0,
        "previous": NO_HASH,
        "key_id": KEY.key_id,
        "identity": IDENTITY,
        "track_id": "t1",
        "participant_id": "p1",
    }
    return SegmentHeader(**{**fields, **changes})


def writer(part_bytes_max: int = 1 << 20, **changes) -> SegmentWriter:
    made = header(**changes)
    return SegmentWriter(made, session_cipher(KEY, made.kind, IDENTITY, made.track_id, SESSION), part_bytes_max)


def cipher():
    return session_cipher(KEY, "track", IDENTITY, "t1", SESSION)


def three_chunks() -> bytes:
    made = writer()
    data = made.opening().data
    for first, fill in ((1_920, b"a"), (2_880, b"b"), (9_600, b"c")):
        data += b"".join(each.data for each in made.seal(first, 960, fill * 160, concealed=((0, 960),)))
    return data


def read(data: bytes) -> list[bytes]:
    reader = SegmentReader(data)
    return [reader.open(placed, cipher()) for placed in reader.chunks()]


def test_the_header_byte_by_byte():
    data = bytes(header())
    assert data == (
        b"KOPPELSG" + b"\x00\x01" + b"\x00\x00\x00\x8d" + b"\x00" + b"\x00" + b"\x00"
        b"\x00\x00\x1f\x40" + b"\x00\x00\x00\x00\x00\x00\x07\x80" + SESSION + b"\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x00" + bytes(32) + b"k" * 16 +
        b"\x00\x07account\x00\x08instance\x00\x07contact\x00\x02t1\x00\x02p1"
    )  # fmt: skip
    assert SegmentHeader.parse(data + b"rest") == (header(), len(data))


def test_the_chunk_byte_by_byte():
    chunk = Chunk(3, 960, 1_920, True, ((0, 960),), ((960, 960),), b"h" * 32, b"c" * 20)
    assert bytes(chunk) == (
        b"\x00\x00\x00\x14" + b"\x00" * 7 + b"\x03" + b"\x00" * 6 + b"\x03\xc0" + b"\x00\x00\x07\x80" + b"\x01\x01\x01"
        + b"h" * 32 + b"\x00\x00\x00\x00\x00\x00\x03\xc0" + b"\x00\x00\x03\xc0\x00\x00\x03\xc0" + b"c" * 20
    )  # fmt: skip
    assert Chunk.parse(b"xx" + bytes(chunk), 2) == (chunk, 2 + len(bytes(chunk)))


def test_a_segment_is_read_as_it_was_written():
    data = three_chunks()
    reader = SegmentReader(data)
    placed = list(reader.chunks())
    assert [(p.chunk.first, p.chunk.positions, p.chunk.marker, p.chunk.concealed) for p in placed] == [
        (1_920, 960, True, ((0, 960),)),
        (2_880, 960, False, ((0, 960),)),
        (9_600, 960, True, ((0, 960),)),
    ]
    assert [reader.open(p, cipher()) for p in placed] == [b"a" * 160, b"b" * 160, b"c" * 160]
    assert reader.head == hashlib.sha256(data[placed[2].offset :]).digest()


def test_every_flipped_byte_breaks_header_chain_or_tag():
    data = three_chunks()
    whole = SegmentReader(data)
    last = list(whole.chunks())[-1]
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 0x40
        with pytest.raises(RemoteError) as raised:
            read(bytes(altered))
        assert raised.value.place
        # Without a key the chain finds all but another header or another last hash: those the manifest finds.
        if place < last.offset and whole.header == _header_of(bytes(altered)):
            with pytest.raises(RemoteError):
                list(SegmentReader(bytes(altered)).chunks())


def _header_of(data: bytes) -> SegmentHeader | None:
    try:
        return SegmentHeader.parse(data)[0]
    except RemoteError:
        return None


def test_every_cut_is_found_or_shortens_the_chain():
    data = three_chunks()
    whole = SegmentReader(data)
    ends = [p.offset for p in whole.chunks()]
    for end in range(len(data)):
        try:
            reader = SegmentReader(data[:end])
            list(reader.chunks())
        except RemoteError:
            assert end not in ends
        else:
            assert end in ends
            assert reader.head != whole.head


def test_swapped_dropped_and_doubled_chunks_are_found():
    data = three_chunks()
    offsets = [p.offset for p in SegmentReader(data).chunks()]
    head, one, two, three = (
        data[: offsets[0]],
        data[offsets[0] : offsets[1]],
        data[offsets[1] : offsets[2]],
        data[offsets[2] :],
    )
    for altered in (head + two + one + three, head + one + three, head + two + three, head + one + one + two + three):
        with pytest.raises(RemoteError, match="successor"):
            list(SegmentReader(altered).chunks())


def test_parts_continue_counter_and_chain():
    made = writer(part_bytes_max=400)
    parts: dict[str, bytes] = {made.opening().name: made.opening().data}
    for n in range(7):
        for each in made.seal(1_920 + n * 960, 960, bytes([n]) * 160):
            parts[each.name] = parts.get(each.name, b"") + each.data
    assert list(parts) == [f"track-t1-{SESSION.hex()}.seg{part}" for part in ("", ".1", ".2", ".3")]
    counter, previous = 0, NO_HASH
    for part, data in enumerate(parts.values()):
        reader = SegmentReader(data)
        assert reader.header == header(part=part, counter=counter, previous=previous)
        opened = [reader.open(p, cipher()) for p in reader.chunks()]
        assert opened == [bytes([counter + n]) * 160 for n in range(len(opened))]
        counter, previous = reader.counter, reader.head
    assert counter == 7


def test_a_nonce_is_used_once():
    made = writer(part_bytes_max=400)
    counters = [
        Chunk.parse(each.data)[0].counter
        for n in range(20)
        for each in made.seal(n * 960, 960, bytes(160))
        if each.chunk is not None
    ]
    assert counters == list(range(20))


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": 16_000},
        {"codec": "json"},
        {"role": "none"},
        {"kind": "log"},
        {"part": 1},
        {"previous": b"x" * 32},
        {"counter": 1},
    ],
)
def test_contradicting_headers_are_refused(changes):
    with pytest.raises(RemoteError, match="contradict"):
        SegmentHeader.parse(bytes(header(**changes)))


@pytest.mark.parametrize(
    ("concealed", "lost", "positions"),
    [
        (((0, 960), (960, 960)), (), 1_920),
        (((960, 960), (0, 960)), (), 1_920),
        (((0, 0),), (), 960),
        (((0, 1_920),), (), 960),
        (((0, 960),), ((0, 960),), 960),
        ((), (), 25_000),
    ],
)
def test_ranges_have_one_spelling(concealed, lost, positions):
    with pytest.raises(RemoteError):
        Chunk.parse(bytes(Chunk(0, 0, positions, True, concealed, lost, bytes(32), bytes(16))))


@given(st.binary(max_size=400))
def test_junk_is_refused_and_nothing_else(data):
    with pytest.raises(RemoteError):
        SegmentReader(data)
    with pytest.raises(RemoteError):
        list(SegmentReader(bytes(header()) + b"\x00" + data[:40]).chunks())


def test_samples_and_positions_must_agree():
    made = writer()
    data = made.opening().data + b"".join(each.data for each in made.seal(1_920, 960, bytes(159)))
    with pytest.raises(RemoteError, match="sample count"):
        read(data)
