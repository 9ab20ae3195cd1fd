from hypothesis import given
from hypothesis import strategies as st

from recorder.journal import Record, RecordKind, parse_records, resumes_after

RECORDS = st.builds(
    Record,
    st.sampled_from(list(RecordKind)),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=10),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=10),
    st.binary(max_size=50),
)


@given(st.lists(RECORDS, max_size=8), st.data())
def test_whole_records_are_read_up_to_any_tear(records, data):
    frames = [record.encode(n + 1) for n, record in enumerate(records)]
    journal = b"".join(frames)
    cut = data.draw(st.integers(0, len(journal)))
    whole = [n for n in range(len(frames)) if sum(map(len, frames[: n + 1])) <= cut]
    read = list(parse_records(journal[:cut]))
    assert [framed.record for framed in read] == [records[n] for n in whole]
    assert [framed.number for framed in read] == [n + 1 for n in whole]
    for framed in read:
        assert journal[framed.data_offset : framed.end] == framed.record.data


def test_a_flipped_bit_ends_what_is_read():
    frames = [Record(RecordKind.NOTED, "c", data=bytes([n]) * 20).encode(n) for n in range(1, 4)]
    for place in range(len(frames[1])):
        altered = bytearray(frames[1])
        altered[place] ^= 1
        journal = frames[0] + bytes(altered) + frames[2]
        assert [framed.number for framed in parse_records(journal)] == [1]
        assert resumes_after(journal, len(frames[0]))
    assert not resumes_after(frames[0] + frames[1][:-1], len(frames[0]))


def test_ciphertext_does_not_show_in_reprs():
    assert "secret" not in repr(Record(RecordKind.APPENDED, "c", "n", b"secret"))
