"""The recorder as a relay runs it: threads, a real folder, a real store; and a courier that meets failures."""

import queue
import random
import threading
import time
from dataclasses import replace

import pytest

from recorder import (
    DeliverySettings,
    Recorder,
    RecorderSettings,
    RecordingDegraded,
    RecordingDelivered,
    RecordingFailed,
    RecordingStarted,
    Store,
    StoreSettings,
    Unavailable,
    verify_contact,
    verify_instance,
)
from recorder.capture import LogEntry, RecordingOpened, TrackOpened
from recorder.courier import Courier
from tests.recorder.calls import BASE, frames, held_call
from tests.recorder.world import ACCOUNT, CONTACT, INSTANCE, KEY_SERVICE, OTHER, SIGNER, WALL, Bucket, Relay

FAST = DeliverySettings(delay_s=0.001, delay_s_max=0.002)


class Events(queue.SimpleQueue):
    """What `notify` heard, waited for with a limit."""

    def wait_for(self, kind):
        heard = []
        while True:
            heard.append(self.get(timeout=10))
            if isinstance(heard[-1], kind):
                return heard


@pytest.fixture
def settings(tmp_path):
    return RecorderSettings(ACCOUNT, INSTANCE, tmp_path / "stage", commit_interval_s=0.01, delivery=FAST)


def recorder_of(settings, destination, events) -> Recorder:
    return Recorder(settings, destination=destination, key_service=KEY_SERVICE, signer=SIGNER, notify=events.put)


def test_from_the_tick_to_a_proven_recording(settings, tmp_path):
    store = Store.open(StoreSettings(f"file://{tmp_path}/store"))
    events = Events()
    recorder = recorder_of(settings, store, events)
    recorder.start()
    for values in held_call():
        recorder.offer(values, time.monotonic())
    started, delivered = events.wait_for(RecordingDelivered)
    assert started == RecordingStarted(CONTACT)
    assert delivered.manifest_key.endswith(f"/{CONTACT}/manifest")
    assert delivered.tries == 5
    statistics = recorder.statistics()
    recorder.stop()
    assert (statistics.live, statistics.staged, statistics.delivered, statistics.refused_frames) == (0, 0, 1, 0)
    assert 0 < statistics.latency.max_ms < 1_000
    assert 0.4 < statistics.latency.loss_bound_s < 1.0
    assert verify_contact(store, CONTACT, SIGNER.public_key, KEY_SERVICE).verified
    assert verify_instance(store, SIGNER.public_key) == []
    assert events.empty()


def test_a_stop_finishes_and_delivers_what_lives(settings):
    bucket, events = Bucket(), Events()
    recorder = recorder_of(settings, bucket, events)
    recorder.start()
    recorder.offer(
        [RecordingOpened(CONTACT, BASE, WALL), TrackOpened(CONTACT, "t", "p", "agent", "pcmu", 8_000, BASE)], 0.0
    )
    recorder.offer([frames("t", 0)], time.monotonic())
    recorder.stop()
    answer = verify_contact(bucket, CONTACT, SIGNER.public_key, KEY_SERVICE)
    assert (answer.verified, answer.ended) == (True, "stopped")


def test_what_a_stop_could_not_deliver_the_next_start_does(settings):
    bucket, events = Bucket(away=True), Events()
    recorder = recorder_of(replace(settings, stop_timeout_s=0.05), bucket, events)
    recorder.start()
    for values in held_call():
        recorder.offer(values, time.monotonic())
    events.wait_for(RecordingDegraded)
    recorder.stop()
    assert bucket.objects == {}
    *_, last = [events.get_nowait() for _ in range(events.qsize())]
    assert last == RecordingDegraded(CONTACT, "not delivered before the stop: it is after the next start")
    bucket.away = False
    again = recorder_of(settings, bucket, events)
    again.start()
    events.wait_for(RecordingDelivered)
    again.stop()
    answer = verify_contact(bucket, CONTACT, SIGNER.public_key, KEY_SERVICE)
    assert (answer.verified, answer.ended) == (True, "closed")


def test_a_stage_in_use_is_refused(settings):
    recorder = recorder_of(settings, Bucket(), Events())
    with pytest.raises(Unavailable, match="in use"):
        recorder_of(settings, Bucket(), Events())
    recorder.start()
    recorder.stop()


def test_a_stage_that_cannot_be_read_fails_the_start_and_lets_go(settings):
    (settings.stage / "journal-0000000001").mkdir(parents=True)
    for _ in range(2):
        recorder = recorder_of(settings, Bucket(), Events())
        with pytest.raises(IsADirectoryError):
            recorder.start()


def test_a_defect_in_a_pass_does_not_end_the_worker(settings, monkeypatch):
    events = Events()
    bucket = Bucket()
    recorder = recorder_of(settings, bucket, events)
    real = recorder._scribe.step
    steps = iter([ZeroDivisionError("a defect")])

    def step() -> None:
        if (error := next(steps, None)) is not None:
            raise error
        real()

    monkeypatch.setattr(recorder._scribe, "step", step)
    recorder.start()
    assert events.get(timeout=10) == RecordingDegraded(None, "an internal error of the recorder")
    for values in held_call():
        recorder.offer(values, time.monotonic())
    events.wait_for(RecordingDelivered)
    recorder.stop()


class Moody(Bucket):
    """Fails as told, once for each mood, then stores."""

    def __init__(self, *moods: Exception) -> None:
        super().__init__()
        self.moods = list(moods)

    async def deliver(self, key: str, data: bytes) -> None:
        if self.moods:
            raise self.moods.pop(0)
        await super().deliver(key, data)


def bring(destination, relay: Relay, settings: DeliverySettings = FAST, outcomes: int = 1) -> tuple[list, list]:
    """Run a courier until what the relay submitted arrived or was given to a person."""
    events: list = []
    over = threading.Semaphore(0)
    arrived: list[RecordingDelivered] = []

    def done(event: RecordingDelivered) -> None:
        arrived.append(event)
        over.release()

    def notify(event) -> None:
        events.append(event)
        if isinstance(event, RecordingFailed):
            over.release()

    courier = Courier(
        settings, stage=relay.stage, destination=destination, rng=random.Random(1), notify=notify, done=done
    )
    courier.start()
    for recording in relay.submitted:
        courier.submit(recording)
    assert all(over.acquire(timeout=10) for _ in range(outcomes))
    courier.stop()
    return events, arrived


def ended_call() -> Relay:
    relay = Relay()
    for values in held_call():
        relay.record(values)
    return relay


def test_failures_are_tried_again_and_said_once():
    store = Moody(Unavailable("store: 503"), TimeoutError(), OSError("socket"))
    events, (arrived,) = bring(store, ended_call())
    assert events == [RecordingDegraded(CONTACT, "delivery is tried again: store: 503")]
    assert arrived.tries == 8
    assert [key.rsplit("/", 1)[1].split("-")[0] for key in store.objects] == [
        "key",
        "track",
        "track",
        "log",
        "manifest",
    ]
    assert verify_contact(store, CONTACT, SIGNER.public_key).verified


def test_an_old_recording_raises_alarms():
    events, _ = bring(Moody(*[Unavailable("store: away")] * 5), ended_call(), replace(FAST, alarm_age_s=0.0))
    assert [event.reason for event in events] == ["undelivered for 0 s: store: away"] * 5


def test_refused_credentials_wait_as_long_as_the_settings_allow():
    refused = Unavailable("the store refuses our credentials", retry_after=60.0, refused=True)
    events, (arrived,) = bring(Moody(refused), ended_call())
    assert events == [RecordingDegraded(CONTACT, "delivery is tried again: the store refuses our credentials")]
    assert arrived.tries == 6


def test_other_bytes_in_the_store_are_a_persons_matter():
    relay = ended_call()
    store = Bucket()
    store.objects[relay.submitted[0].manifest_key] = b"someone else's"
    events, arrived = bring(store, relay)
    assert arrived == []
    assert isinstance(events[-1], RecordingFailed)
    assert "another object" in events[-1].reason


def test_a_journal_that_changed_on_disk_is_never_delivered():
    relay = ended_call()
    file = relay.disk.written["journal-0000000001"]
    file[len(file) // 2] ^= 1
    store = Bucket()
    events, arrived = bring(store, relay)
    assert arrived == []
    assert "no longer holds" in events[-1].reason
    assert not any(key.endswith("manifest") for key in store.objects)


def test_one_bad_contact_does_not_hold_up_the_others():
    relay = ended_call()
    for values in held_call(OTHER):
        relay.record(values)
    store = Bucket()
    store.objects[relay.submitted[0].directory + "key"] = b"someone else's"
    failed, arrived = bring(store, relay, outcomes=2)
    assert [event.contact_id for event in failed] == [CONTACT]
    assert [event.contact_id for event in arrived] == [OTHER]
    assert verify_contact(store, OTHER, SIGNER.public_key).verified


def test_log_entries_do_not_show_in_reprs():
    assert "4711" not in repr(LogEntry(CONTACT, 0, b'{"number":"4711"}'))
