from recorder.capture import FramesDropped, GateChanged, LogEntry, RecordingOpened, TrackClosed
from recorder.intake import Intake
from tests.recorder.calls import BASE, frames
from tests.recorder.world import CONTACT


def values(intake: Intake) -> list[object]:
    return [value for _, value in intake.take()]


def test_first_in_first_out_with_its_time():
    intake = Intake(10_000, 100)
    first, second = frames("t", 0), frames("t", 20)
    intake.offer([first], 1.0)
    intake.offer([second], 1.4)
    assert intake.queued_bytes == 6_400
    assert list(intake.take()) == [(1.0, first), (1.4, second)]
    assert (intake.queued_bytes, intake.queued_values) == (0, 0)


def test_overflow_becomes_one_stated_loss_in_its_place():
    intake = Intake(5_000, 100)
    taken, after = frames("t", 0), frames("t", 60)
    intake.offer([taken, frames("t", 20), frames("t", 40)], 0.0)
    assert intake.dropped_frames == 40
    assert values(intake) == [taken]
    intake.offer([after], 0.1)
    assert values(intake) == [FramesDropped(CONTACT, "t", BASE + 20, 40), after]


def test_a_loss_stands_before_the_gate_that_closes_after_it():
    intake = Intake(1_000, 100)
    gate = GateChanged(CONTACT, "t", BASE + 20, "G2")
    entry = LogEntry(CONTACT, BASE + 20, b"{}")
    intake.offer([frames("t", 0), entry, gate, frames("t", 30), TrackClosed(CONTACT, "t", BASE + 50)], 0.0)
    assert values(intake) == [
        entry,
        FramesDropped(CONTACT, "t", BASE, 20),
        gate,
        FramesDropped(CONTACT, "t", BASE + 30, 20),
        TrackClosed(CONTACT, "t", BASE + 50),
    ]


def test_a_contact_that_cannot_account_for_itself_is_given_up():
    intake = Intake(1_000_000, 2)
    opened = RecordingOpened(CONTACT, 0, 0.0)
    gates = [GateChanged(CONTACT, "t", n, "G2") for n in range(3)]
    intake.offer([opened, *gates], 0.0)
    assert values(intake) == [opened, gates[0]]
    assert list(intake.take_abandoned()) == [CONTACT]
    intake.offer([gates[2]], 0.0)
    assert values(intake) == []
    assert list(intake.take_abandoned()) == []
