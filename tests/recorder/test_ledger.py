from hypothesis import given
from hypothesis import strategies as st

from recorder.ledger import Gap, TrackLedger


def ledger(rule: str | None = None) -> TrackLedger:
    return TrackLedger("t", "p", "agent", "pcmu", 8_000, bytes(16), 960, rule, "")


def test_stored_withheld_and_lost_add_up():
    made = ledger("G1")
    made.gate(1_920, None, "")
    made.chunk(1_920, 960, ((0, 480),), ((480, 240),), b"h")
    made.gate(2_880, "G2", "hold")
    made.gate(4_800, "G3", "mute")
    made.gate(5_760, None, "")
    made.drop(5_760, 960, "overflow")
    made.chunk(6_720, 960, (), (), b"i")
    made.close(7_680)
    assert (made.expected, made.stored, made.concealed, made.lost) == (6_720, 1_680, 480, 1_200)
    assert made.withheld == {"G1": 960, "G2": 1_920, "G3": 960}
    assert made.gaps == [
        Gap(960, 960, "G1", ""),
        Gap(2_880, 1_920, "G2", "hold"),
        Gap(4_800, 960, "G3", "mute"),
        Gap(5_760, 960, None, "overflow"),
    ]
    assert made.chunks == 2
    assert made.head == b"i"


def test_a_hole_that_nothing_explains_says_so():
    made = ledger()
    made.chunk(1_920, 960, (), (), b"h")
    made.close(3_840)
    assert made.gaps == [Gap(960, 960, None, "missing"), Gap(2_880, 960, None, "missing")]


def test_neighbours_of_one_cause_are_one_gap():
    made = ledger()
    made.drop(960, 960, "disk")
    made.drop(1_920, 960, "disk")
    assert made.gaps == [Gap(960, 1_920, None, "disk")]


def test_what_comes_twice_or_behind_a_closed_gate_is_not_accepted():
    made = ledger()
    made.chunk(960, 960, (), (), b"h")
    assert made.accepts(1_920)
    assert not made.accepts(960)
    made.gate(1_920, "G2", "")
    assert not made.accepts(1_920)
    made.gate(2_880, None, "")
    made.close(3_840)
    assert not made.accepts(3_840)


STEPS = st.lists(
    st.tuples(st.sampled_from(("chunk", "gate", "open", "drop")), st.integers(0, 4), st.integers(1, 5)), max_size=40
)


@given(STEPS)
def test_every_position_is_accounted_for_once(steps):
    made = ledger()
    position = 960
    stored: list[tuple[int, int]] = []
    for what, skip, count in steps:
        position += skip * 960
        if what == "gate":
            made.gate(position, f"G{count}", "")
        elif what == "open":
            made.gate(position, None, "")
        elif what == "drop":
            made.drop(position, count * 960, "overflow")
        elif made.accepts(position):
            made.chunk(position, count * 960, (), (), b"h")
            stored.append((position, position + count * 960))
        position = max(position, made.accounted)
    made.close(position)
    spans = sorted([*stored, *((gap.first, gap.end) for gap in made.gaps)])
    assert [first for first, _ in spans] == [960, *(end for _, end in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 960) == position
    assert made.expected == made.stored + made.lost + sum(made.withheld.values())
