"""Who hears whom, as a table: one line a situation, one letter a party."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.crosspoints import Crosspoint, Party, crosspoints

CUSTOMER = Party("C", "customer")
AGENT = Party("A", "agent")
SECOND = Party("B", "agent")
THIRD = Party("T", "third_party")
HELD_CUSTOMER = Party("C", "customer", on_hold=True)
HELD_AGENT = Party("A", "agent", on_hold=True)
HELD_THIRD = Party("T", "third_party", on_hold=True)
MUTED_CUSTOMER = Party("C", "customer", muted=True)
MUTED_AGENT = Party("A", "agent", muted=True)
RINGING_AGENT = Party("A", "agent", connected=False)
GONE_AGENT = Party("A", "agent", connected=False, on_hold=True, muted=True)
MONITOR = Party("S", "supervisor")
MUTED_MONITOR = Party("S", "supervisor", muted=True)
BARGE = Party("S", "supervisor", mode="barge")
MUTED_BARGE = Party("S", "supervisor", mode="barge", muted=True)
HELD_BARGE = Party("S", "supervisor", mode="barge", on_hold=True)
COACH = Party("S", "supervisor", mode="coach", coached="A")
MUTED_COACH = Party("S", "supervisor", mode="coach", coached="A", muted=True)
LOST_COACH = Party("S", "supervisor", mode="coach", coached="X")
SECOND_MONITOR = Party("Z", "supervisor")

# Each cell: the listener, then whom it hears; `w` is the waiting source, `h` the hold source; `.` is silence.
TABLE = [
    ("nobody", [], ""),
    ("customer waits", [CUSTOMER], "C:w"),
    ("customer waits while an agent is rung", [CUSTOMER, RINGING_AGENT], "C:w"),
    ("the agent has left", [CUSTOMER, GONE_AGENT], "C:w"),
    ("a muted customer waits", [MUTED_CUSTOMER], "C:w"),
    ("a held customer waits", [HELD_CUSTOMER], "C:h"),
    ("agent alone", [AGENT], "A:."),
    ("two talk", [CUSTOMER, AGENT], "C:A A:C"),
    ("customer on hold: agent hears silence", [HELD_CUSTOMER, AGENT], "C:h A:."),
    ("agent muted", [CUSTOMER, MUTED_AGENT], "C:. A:C"),
    ("customer muted", [MUTED_CUSTOMER, AGENT], "C:A A:."),
    ("both muted", [MUTED_CUSTOMER, MUTED_AGENT], "C:. A:."),
    ("customer on hold, agent muted", [HELD_CUSTOMER, MUTED_AGENT], "C:h A:."),
    ("agent on hold: customer hears silence", [CUSTOMER, HELD_AGENT], "C:. A:h"),
    ("both on hold", [HELD_CUSTOMER, HELD_AGENT], "C:h A:h"),
    ("three talk", [CUSTOMER, AGENT, THIRD], "C:AT A:CT T:CA"),
    ("third party held: the others talk on", [CUSTOMER, AGENT, HELD_THIRD], "C:A A:C T:h"),
    ("customer held: consult with the third party", [HELD_CUSTOMER, AGENT, THIRD], "C:h A:T T:A"),
    ("agent held: customer and third party talk", [CUSTOMER, HELD_AGENT, THIRD], "C:T A:h T:C"),
    ("customer and third party held", [HELD_CUSTOMER, AGENT, HELD_THIRD], "C:h A:. T:h"),
    ("all held", [HELD_CUSTOMER, HELD_AGENT, HELD_THIRD], "C:h A:h T:h"),
    ("agent muted among three", [CUSTOMER, MUTED_AGENT, THIRD], "C:T A:CT T:C"),
    ("agent left caller and third party connected", [CUSTOMER, THIRD], "C:T T:C"),
    ("warm transfer: agents consult", [HELD_CUSTOMER, AGENT, SECOND], "C:h A:B B:A"),
    ("agents and customer joined", [CUSTOMER, AGENT, SECOND], "C:AB A:CB B:CA"),
    ("four talk", [CUSTOMER, AGENT, SECOND, THIRD], "C:ABT A:CBT B:CAT T:CAB"),
    ("silent monitor", [CUSTOMER, AGENT, MONITOR], "C:A A:C S:CA"),
    ("muted silent monitor hears the same", [CUSTOMER, AGENT, MUTED_MONITOR], "C:A A:C S:CA"),
    ("silent monitor while customer on hold", [HELD_CUSTOMER, AGENT, MONITOR], "C:h A:. S:A"),
    ("silent monitor of a muted agent", [CUSTOMER, MUTED_AGENT, MONITOR], "C:. A:C S:C"),
    ("a monitor is no company: customer waits", [CUSTOMER, MONITOR], "C:w S:C"),
    ("two monitors do not hear each other", [CUSTOMER, AGENT, MONITOR, SECOND_MONITOR], "C:A A:C S:CA Z:CA"),
    ("barge", [CUSTOMER, AGENT, BARGE], "C:AS A:CS S:CA"),
    ("barge, muted", [CUSTOMER, AGENT, MUTED_BARGE], "C:A A:C S:CA"),
    ("barge, on hold", [CUSTOMER, AGENT, HELD_BARGE], "C:A A:C S:h"),
    ("barge while customer on hold", [HELD_CUSTOMER, AGENT, BARGE], "C:h A:S S:A"),
    ("barge with a monitor", [CUSTOMER, AGENT, BARGE, SECOND_MONITOR], "C:AS A:CS S:CA Z:CAS"),
    ("coach is heard by the coached alone", [CUSTOMER, AGENT, COACH], "C:A A:CS S:CA"),
    ("coach of one of two agents", [CUSTOMER, AGENT, SECOND, COACH], "C:AB A:CBS B:CA S:CAB"),
    ("coach while customer on hold", [HELD_CUSTOMER, AGENT, COACH], "C:h A:S S:A"),
    ("coach, muted", [CUSTOMER, AGENT, MUTED_COACH], "C:A A:C S:CA"),
    ("coach of a held agent", [CUSTOMER, HELD_AGENT, COACH], "C:. A:h S:C"),
    ("coach of somebody who is not there", [CUSTOMER, AGENT, LOST_COACH], "C:A A:C S:CA"),
    ("coach with a monitor: the advice stays private", [CUSTOMER, AGENT, COACH, SECOND_MONITOR], "C:A A:CS S:CA Z:CA"),
]


@pytest.mark.parametrize(("parties", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_who_hears_whom(parties, expected):
    assert drawn(parties, crosspoints(parties, "w", "h")) == expected


def test_every_gain_is_one_and_sources_say_that_they_are():
    assert crosspoints([HELD_CUSTOMER, AGENT, THIRD], "ringback") == (
        Crosspoint("C", "music", 1.0, is_source=True),
        Crosspoint("A", "T", 1.0),
        Crosspoint("T", "A", 1.0),
    )


def test_waiting_may_be_silent():
    assert crosspoints([CUSTOMER], None) == ()


def test_hold_may_be_silent():
    assert crosspoints([HELD_CUSTOMER, AGENT], "music", None) == ()


parties_strategy = st.lists(
    st.builds(
        Party,
        party_id=st.sampled_from("ABCDEFGH"),
        role=st.sampled_from(["customer", "agent", "third_party", "supervisor"]),
        connected=st.booleans(),
        on_hold=st.booleans(),
        muted=st.booleans(),
        mode=st.sampled_from(["silent_monitor", "barge", "coach"]),
        coached=st.sampled_from([None, *"ABCDEFGH"]),
    ),
    unique_by=lambda party: party.party_id,
    max_size=8,
)


@given(parties_strategy, st.sampled_from([None, "w"]), st.sampled_from([None, "h"]))
def test_nobody_hears_whom_they_must_not(parties, waiting, hold):
    by_id = {party.party_id: party for party in parties}
    points = crosspoints(parties, waiting, hold)
    assert len(points) == len({(point.listener, point.speaker) for point in points})
    for point in points:
        listener = by_id[point.listener]
        assert listener.connected
        if point.is_source:
            assert listener.on_hold or listener.role == "customer"
            continue
        speaker = by_id[point.speaker]
        assert speaker is not listener
        assert speaker.connected
        assert not speaker.on_hold
        assert not speaker.muted
        assert not listener.on_hold
        assert speaker.role != "supervisor" or speaker.mode != "silent_monitor"
        if speaker.role == "supervisor" and speaker.mode == "coach":
            assert speaker.coached == listener.party_id


@given(parties_strategy)
def test_everyone_free_hears_everyone_audible(parties):
    heard = {(point.listener, point.speaker) for point in crosspoints(parties, "w", "h")}
    free = [party for party in parties if party.connected and not party.on_hold]
    for listener in free:
        for speaker in free:
            if (
                speaker is not listener
                and not speaker.muted
                and (speaker.role != "supervisor" or speaker.mode == "barge")
            ):
                assert (listener.party_id, speaker.party_id) in heard


def drawn(parties, points):
    """The matrix as the table writes it."""
    present = [party for party in parties if party.connected]
    heard = {party.party_id: "".join(p.speaker for p in points if p.listener == party.party_id) for party in present}
    return " ".join(f"{party.party_id}:{heard[party.party_id] or '.'}" for party in present)
