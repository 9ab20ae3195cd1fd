import pytest

from recorder import (
    ExitCode,
    FileKeyService,
    RecordingDegraded,
    RecordingFailed,
    RecordingStarted,
    Unavailable,
    verify_contact,
)
from recorder.capture import (
    Captured,
    Frames,
    FramesDropped,
    GateChanged,
    LogEntry,
    RecordingClosed,
    RecordingOpened,
    TrackClosed,
    TrackOpened,
)
from recorder.stage import Stage
from tests.recorder.calls import BASE, frames, held_call, sound
from tests.recorder.world import (
    CONTACT,
    KEY_SERVICE,
    NO_SPACE,
    OTHER,
    SIGNER,
    WALL,
    Relay,
    settings_of,
    stored_frames,
)

OPENED = [RecordingOpened(CONTACT, BASE, WALL), TrackOpened(CONTACT, "t", "p", "agent", "pcmu", 8_000, BASE)]


def verified(relay: Relay, contact: str = CONTACT):
    relay.deliver()
    return verify_contact(relay.bucket, contact, SIGNER.public_key, KEY_SERVICE)


def closing(tick: int) -> list[Captured]:
    return [TrackClosed(CONTACT, "t", BASE + tick), RecordingClosed(CONTACT, BASE + tick)]


def test_a_call_is_stored_as_it_was_captured():
    relay = Relay()
    for values in held_call():
        relay.record(values)
    assert verified(relay).verified
    stored = stored_frames(relay.bucket, CONTACT)
    assert sorted(stored["customer"]) == [*range(10, 50), *range(110, 190)]
    assert sorted(stored["agent"]) == list(range(10, 190))
    assert all(data == sound(track, tick, 1) for track, each in stored.items() for tick, data in each.items())
    assert relay.stage.file_count == 1
    assert relay.events == [RecordingStarted(CONTACT)]


def test_key_and_log_are_durable_before_the_audio_that_they_govern():
    relay = Relay()
    relay.record([*OPENED, frames("t", 0), LogEntry(CONTACT, BASE + 20, b"{}"), frames("t", 20)])
    stage = Stage(relay.disk.after_power_loss(), 1)
    names = [record.name.split("-")[0] for record in stage.recover() if record.name]
    assert names == ["key", "log", "track", "track", "log", "track"]


def test_an_overflow_is_a_stated_gap():
    relay = Relay()
    relay.record([*OPENED, frames("t", 0), FramesDropped(CONTACT, "t", BASE + 20, 20), frames("t", 40), *closing(60)])
    answer = verified(relay)
    assert answer.verified
    assert [(gap.first, gap.positions, gap.rule, gap.reason) for gap in answer.tracks[0].gaps] == [
        (19_200, 19_200, None, "overflow")
    ]
    assert answer.tracks[0].lost == 19_200


def test_a_hole_that_nothing_explains_is_not_authentic():
    relay = Relay()
    relay.record([*OPENED, frames("t", 0), frames("t", 40), *closing(60)])
    answer = verified(relay)
    assert answer.exit_code == ExitCode.NOT_AUTHENTIC
    assert answer.findings[0].place == "track t, position 19200"


def test_audio_behind_a_closed_gate_is_refused_and_counted():
    relay = Relay()
    gate = GateChanged(CONTACT, "t", BASE + 20, "G3", "muted")
    relay.record([*OPENED, frames("t", 0), gate, frames("t", 20), frames("t", 0), *closing(40)])
    assert relay.recordings.refused_frames == 2
    assert verified(relay).verified
    assert sorted(stored_frames(relay.bucket, CONTACT)["t"]) == list(range(20))


def test_malformed_frames_are_refused_and_not_explained():
    relay = Relay()
    relay.record(
        [
            *OPENED,
            Frames(CONTACT, "t", BASE, 20, bytes(3_199)),
            Frames(CONTACT, "t", BASE, 26, bytes(4_160)),
            *closing(20),
        ]
    )
    assert relay.recordings.refused_frames == 2
    assert not verified(relay).verified


def test_values_of_nobody_are_counted():
    relay = Relay()
    relay.record([frames("t", 0), RecordingClosed(OTHER, 1)])
    assert relay.recordings.refused_values == 2
    assert relay.events == []


@pytest.mark.parametrize(
    "value",
    [
        RecordingOpened(CONTACT, BASE, WALL),
        TrackOpened(CONTACT, "t", "p", "agent", "pcmu", 8_000, BASE),
        TrackOpened(CONTACT, "u", "p", "agent", "pcmu", 48_000, BASE),
        TrackOpened(CONTACT, "no/id", "p", "agent", "pcmu", 8_000, BASE),
        GateChanged(CONTACT, "u", BASE, "G2"),
        TrackClosed(CONTACT, "u", BASE),
        LogEntry(CONTACT, BASE, bytes((1 << 20) + 1)),
    ],
)
def test_a_wrong_value_is_said_and_the_recording_goes_on(value):
    relay = Relay()
    relay.record([*OPENED, value, frames("t", 0), *closing(20)])
    assert isinstance(relay.events[1], RecordingDegraded | RecordingFailed)
    assert verified(relay).verified


def test_tracks_and_contacts_have_a_limit():
    relay = Relay(settings=settings_of(tracks_max=1, contacts_max=1))
    relay.record([*OPENED, TrackOpened(CONTACT, "u", "p", "agent", "pcmu", 8_000, BASE)])
    relay.record([RecordingOpened(OTHER, BASE, WALL)])
    assert [type(event) for event in relay.events] == [RecordingStarted, RecordingDegraded, RecordingFailed]


class NoKeys(FileKeyService):
    def wrap(self, key: bytes, context: bytes):
        raise Unavailable("key service: disabled")


def test_without_a_key_nothing_is_recorded_and_it_is_said():
    relay = Relay()
    relay.scribe._key_service = NoKeys("x", {})
    relay.record([*OPENED, frames("t", 0)])
    assert relay.events == [RecordingFailed(CONTACT, "not recorded: key service: disabled")]
    assert relay.disk.bytes_written < 200


def test_a_disk_that_fails_for_a_while_costs_nothing():
    relay = Relay()
    relay.record([*OPENED, frames("t", 0)])
    relay.disk.failing = NO_SPACE
    for n in range(1, 5):
        relay.now += 0.4
        relay.record([frames("t", n * 20)])
    relay.disk.failing = None
    relay.now += 1.0
    relay.record([frames("t", 100), *closing(120)])
    answer = verified(relay)
    assert answer.verified
    assert answer.tracks[0].stored == 120 * 960
    assert [event for event in relay.events if isinstance(event, RecordingDegraded)] == [
        RecordingDegraded(None, "stage: No space left on device: recordings are kept in memory"),
        RecordingDegraded(None, "a kill could have cost 2.6 s of a track: the bound is 1 s"),
    ]
    latency = relay.scribe.latency()
    assert latency.loss_bound_s == pytest.approx(0.4 + 2.2)
    assert answer.manifest is not None
    assert answer.manifest.loss_bound.durable_ms_max == 2_200


def test_a_disk_that_stays_full_is_one_stated_gap_and_bounded_memory():
    relay = Relay(settings=settings_of(pending_bytes_max=10_000))
    relay.record([*OPENED, frames("t", 0)])
    relay.disk.failing = NO_SPACE
    relay.now += 1.0
    for n in range(1, 200):
        relay.record([frames("t", n * 20)])
    assert relay.stage.pending_bytes < 14_000
    relay.record([RecordingOpened(OTHER, BASE, WALL)])
    assert relay.events[-1] == RecordingFailed(OTHER, "not recorded: the stage's disk takes nothing")
    relay.disk.failing = None
    relay.now += 1.0
    relay.record([])
    relay.record([frames("t", 4_000), *closing(4_020)])
    answer = verified(relay)
    assert answer.verified
    (gap,) = answer.tracks[0].gaps
    assert (gap.rule, gap.reason, gap.end) == (None, "disk", 4_000 * 960)
    assert answer.tracks[0].stored + gap.positions == 4_020 * 960


def test_a_full_disk_does_not_keep_delivered_recordings_from_being_freed():
    relay = Relay(settings=settings_of(journal_file_bytes_max=1))
    for values in held_call():
        relay.record(values)
    files = relay.stage.file_count
    relay.disk.failing = NO_SPACE
    relay.deliver()
    assert files > 5
    assert relay.stage.file_count == 1


def test_a_full_disk_at_the_start_still_delivers_what_is_whole():
    relay = Relay()
    for values in held_call():
        relay.record(values)
    left = relay.disk.after_power_loss()
    left.failing = NO_SPACE
    again = Relay(left, seed=2)
    again.deliver()
    assert verify_contact(again.bucket, CONTACT, SIGNER.public_key).verified


def test_a_clean_stop_ends_what_lives():
    relay = Relay()
    relay.record([*OPENED, frames("t", 0), LogEntry(CONTACT, BASE + 30, b"{}")])
    relay.scribe.finish_all()
    answer = verified(relay)
    assert (answer.verified, answer.ended) == (True, "stopped")
    assert [(gap.positions, gap.reason) for gap in answer.tracks[0].gaps] == [(9_600, "stopped")]


def test_a_defect_in_one_recording_does_not_end_the_others(monkeypatch):
    relay = Relay()
    relay.record([*OPENED, RecordingOpened(OTHER, BASE, WALL)])
    monkeypatch.setattr(relay.recordings._live[CONTACT], "receive", lambda value, shed: 1 // 0)
    relay.record([frames("t", 0), LogEntry(OTHER, BASE, b"{}"), RecordingClosed(OTHER, BASE + 1)])
    assert relay.events[-1] == RecordingDegraded(CONTACT, "recording ends early: an internal error")
    assert verified(relay, OTHER).verified
    assert verify_contact(relay.bucket, CONTACT, SIGNER.public_key).ended == "stopped"


def test_a_track_that_opens_again_has_a_session_of_its_own():
    relay = Relay()
    again = [TrackClosed(CONTACT, "t", BASE + 20), TrackOpened(CONTACT, "t", "p", "agent", "pcmu", 8_000, BASE + 40)]
    relay.record([*OPENED, frames("t", 0), *again, frames("t", 40), *closing(60)])
    answer = verified(relay)
    assert answer.verified
    assert [(track.track, track.first, track.expected) for track in answer.tracks] == [
        ("t", 0, 19_200),
        ("t", 38_400, 19_200),
    ]
    assert sorted(stored_frames(relay.bucket, CONTACT)["t"]) == [*range(20), *range(40, 60)]


def test_latency_is_measured_to_durable():
    relay = Relay()
    relay.record(OPENED)
    relay.intake.offer([frames("t", 0)], relay.now)
    relay.now += 0.1
    relay.scribe.step()
    latency = relay.scribe.latency()
    assert (latency.p50_ms, latency.max_ms, latency.loss_bound_s) == pytest.approx((100.0, 100.0, 0.5))


def test_a_delivered_file_that_cannot_be_removed_is_said(monkeypatch):
    relay = Relay(settings=settings_of(journal_file_bytes_max=1))
    for values in held_call():
        relay.record(values)

    def refuse(name: str) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(relay.disk, "remove", refuse)
    relay.deliver()
    assert relay.events[-1] == RecordingDegraded(None, "stage: Permission denied: a delivered file could not be freed")


def test_damage_within_the_stage_is_said_and_what_it_held_is_stated_as_lost():
    relay = Relay()
    relay.record([*OPENED, frames("t", 0)])
    relay.record([frames("t", 20)])
    relay.record([frames("t", 40)])
    file = relay.disk.written["journal-0000000001"]
    file[len(file) // 2] ^= 1  # within the second chunk; the third stands whole behind it
    again = Relay(relay.disk.after_power_loss(), seed=2)
    assert "is damaged within" in again.events[0].reason
    answer = verified(again)
    assert (answer.verified, answer.ended) == (True, "found open after a crash")
    assert answer.tracks[0].stored == 20 * 960
    assert relay.disk.names() == ["journal-0000000001"]


def test_a_contact_that_the_queue_lost_track_of_ends_early():
    relay = Relay()
    relay.record([*OPENED, frames("t", 0)])
    relay.intake._abandoned.append(CONTACT)
    relay.record([])
    answer = verified(relay)
    assert (answer.verified, answer.ended) == (True, "stopped")
    assert "overflowed" in relay.events[-1].reason
