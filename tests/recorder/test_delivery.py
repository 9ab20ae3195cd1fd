import random

from recorder.delivery import Delivered, Delivery, Parked, Put, Wait
from recorder.manifest import ObjectEntry
from recorder.recordings import FinishedRecording
from recorder.settings import DeliverySettings

ENTRIES = tuple(ObjectEntry(name, "0" * 64, 1) for name in ("key", "track", "log", "manifest"))
RECORDING = FinishedRecording("c", "a/i/c/", ENTRIES)


def delivery(**changes: float) -> Delivery:
    return Delivery(RECORDING, DeliverySettings(**changes), random.Random(1), 100.0)  # type: ignore[arg-type]


def test_in_order_the_manifest_last():
    made = delivery()
    for entry in ENTRIES:
        assert made.next(100.0) == Put(entry)
        assert made.next(100.0) == Put(entry)
        made.stored()
    assert made.next(100.0) == Delivered(tries=4)


def test_failures_back_off_and_never_give_up():
    made = delivery(delay_s=0.5, delay_s_max=60.0)
    now = 100.0
    pauses = []
    for _ in range(200):
        assert made.next(now) == Put(ENTRIES[0])
        made.failed(now)
        wait = made.next(now)
        assert isinstance(wait, Wait)
        pauses.append(wait.seconds)
        now += wait.seconds
    assert 0.25 <= pauses[0] <= 0.5
    assert all(0.25 <= each <= 60.0 for each in pauses)
    assert max(pauses[10:]) > 45
    assert min(pauses[10:]) < 15
    made.stored()
    made.failed(now)
    assert made.next(now).seconds <= 0.5  # type: ignore[union-attr]


def test_a_store_that_says_when_is_obeyed():
    made = delivery()
    made.failed(100.0, retry_after=42.0)
    assert made.next(100.0) == Wait(42.0)


def test_age_raises_an_alarm_again_and_again():
    made = delivery(alarm_age_s=900.0)
    assert [made.alarm(now) for now in (999.0, 1_000.0, 1_001.0, 1_899.0, 1_900.0)] == [
        None,
        900.0,
        None,
        None,
        1_800.0,
    ]


def test_a_conflict_waits_for_a_person():
    made = delivery()
    made.conflict("other bytes")
    assert made.next(1e9) == Parked("other bytes")
