from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from recorder import verify_contact
from recorder.ledger import Gap
from recorder.verification import ExitCode, LogLine, Verification
from relay.catalogue import OwnObjects, entries
from relay.evidence import replayed
from signaling.contact import codec
from tests.recorder.world import CONTACT, INSTANCE, KEY_SERVICE, OTHER, SIGNER, Bucket, PowerLoss, Relay
from tests.relay.recorded_contact import RecordedContact
from tests.signaling.contact.stories import (
    ANNA,
    CALLER,
    accepts,
    connects,
    hold,
    leaves,
    mute,
    reserved,
    resume,
    started,
    unmute,
    work_done,
)

STORY = [
    (0, started()),
    (5, connects(CALLER)),
    (10, reserved()),
    (60, accepts()),
    (65, connects(ANNA)),
    (100, hold()),
    (150, mute(ANNA, scope="self")),
    (170, unmute(ANNA, scope="self")),
    (200, resume()),
    (260, leaves(CALLER)),
    (300, work_done()),
]
POSITIONS = 960


def recorded(story: list[tuple[int, object]] = STORY, **forge: bytes) -> Bucket:
    contact = RecordedContact()
    contact.forge = {int(number): data for number, data in forge.items()}
    contact.play(story)  # type: ignore[arg-type]
    return contact.deliver()


def checked(bucket: Bucket) -> Verification:
    return verify_contact(bucket, CONTACT, SIGNER.public_key, KEY_SERVICE)


@pytest.mark.parametrize("asked", [("agent", "customer"), ("agent",), ("customer",)])
def test_a_true_recording_passes_all_three_levels(asked: tuple[str, ...]) -> None:
    answer = replayed(checked(recorded([(0, started(recorded=asked)), *STORY[1:]])))
    assert answer.findings == ()
    assert (answer.level, answer.verified, answer.exit_code) == (3, True, ExitCode.AUTHENTIC)
    withheld = {track.participant: dict(track.withheld) for track in answer.tracks}
    everything = (260 - 65) * POSITIONS
    assert withheld == {
        CALLER: {"G2": 100 * POSITIONS} if "customer" in asked else {"G8": everything},
        ANNA: {"G3": 20 * POSITIONS} if "agent" in asked else {"G8": everything},
    }


def test_level_one_stays_what_it_is() -> None:
    bucket = recorded()
    answer = verify_contact(bucket, CONTACT, SIGNER.public_key)
    assert answer.level == 1
    assert replayed(answer) is answer


def test_what_cannot_be_checked_stays_so() -> None:
    answer = replayed(checked(Bucket()))
    assert (answer.level, answer.exit_code) == (2, ExitCode.NOT_CHECKED)


def changed(answer: Verification, who: str, gaps: tuple[Gap, ...], **fields: int) -> Verification:
    tracks = tuple(
        replace(track, gaps=gaps, **fields) if track.participant == who else track for track in answer.tracks
    )
    return replace(answer, tracks=tracks)


def gaps_of(answer: Verification, who: str) -> tuple[Gap, ...]:
    return next(track.gaps for track in answer.tracks if track.participant == who)


def whats(answer: Verification) -> list[str]:
    return [finding.what for finding in replayed(answer).findings]


def test_a_hold_that_was_recorded_is_found() -> None:
    answer = checked(recorded())
    first = 100 * POSITIONS
    assert whats(changed(answer, CALLER, ())) == [
        f"the log withholds {first} to {first + 96_000} by G2, the recording does not"
    ]


def test_a_gap_that_no_gate_explains_is_found() -> None:
    answer = checked(recorded())
    cut = Gap(70 * POSITIONS, 10 * POSITIONS, "G2", "on hold")
    assert whats(changed(answer, CALLER, (cut, *gaps_of(answer, CALLER)))) == [
        f"{70 * POSITIONS} to {80 * POSITIONS} is withheld by G2, but the log has no such gate"
    ]


def test_a_gap_one_tick_longer_or_of_another_rule_is_found() -> None:
    answer = checked(recorded())
    (true,) = gaps_of(answer, CALLER)
    for forged in (replace(true, positions=true.positions + POSITIONS), replace(true, rule="G3")):
        assert len(whats(changed(answer, CALLER, (forged,)))) == 2


def test_neighbours_of_one_rule_are_one_range() -> None:
    answer = checked(recorded())
    (true,) = gaps_of(answer, CALLER)
    half = true.positions // 2
    split = (replace(true, positions=half), Gap(true.first + half, true.positions - half, "G2", "still"))
    assert whats(changed(answer, CALLER, split)) == []


def test_losses_are_not_the_gates_affair() -> None:
    answer = checked(recorded())
    lost = Gap(70 * POSITIONS, 10 * POSITIONS, None, "overflow")
    assert whats(changed(answer, CALLER, (lost, *gaps_of(answer, CALLER)))) == []


def test_a_shortened_track_is_found() -> None:
    answer = checked(recorded())
    track = next(track for track in answer.tracks if track.participant == ANNA)
    end = track.first + track.expected
    assert whats(changed(answer, ANNA, track.gaps, expected=track.expected - POSITIONS)) == [
        f"is {track.first} to {end - POSITIONS}, the log says {track.first} to {end}"
    ]


def test_missing_invented_and_double_tracks_are_found() -> None:
    answer = checked(recorded())
    first, second = answer.tracks
    assert whats(replace(answer, tracks=(first,))) == ["the log says that there is a track, but there is none"]
    stranger = replace(second, track="x", participant="x")
    assert whats(replace(answer, tracks=(first, second, stranger))) == ["the log knows of no such track"]
    assert whats(replace(answer, tracks=(first, second, second))) == ["a participant has more than one track"]


def test_a_recording_without_an_agent_is_found() -> None:
    """G1: flow audio in an agent-interaction recording is the first thing that must never be."""
    answer = checked(recorded())
    early = next(track for track in answer.tracks if track.participant == CALLER)
    moved = changed(answer, CALLER, early.gaps, first=5 * POSITIONS, expected=255 * POSITIONS)
    assert whats(moved) == [
        f"is {5 * POSITIONS} to {260 * POSITIONS}, the log says {65 * POSITIONS} to {260 * POSITIONS}"
    ]


@pytest.mark.parametrize(
    ("number", "forged", "said"),
    [
        (6, b"hello", "log entry: not JSON"),
        (6, codec.encode(hold("nobody")), "Held cannot follow what stands before it"),
        (6, codec.encode(started()), "ContactStarted cannot follow what stands before it"),
    ],
)
def test_a_log_that_the_relay_cannot_have_written_is_found(number: int, forged: bytes, said: str) -> None:
    answer = replayed(checked(recorded(**{str(number): forged})))
    assert answer.exit_code == ExitCode.NOT_AUTHENTIC
    first = answer.findings[0]
    assert (first.what, first.place) == (said, f"entry {number}, position {100 * POSITIONS}")
    assert first.file.startswith("log-")


def test_the_log_of_another_contact_is_found() -> None:
    answer = checked(recorded())
    assert answer.log is not None
    event = codec.decode(answer.log[0].data)
    other = LogLine(0, codec.encode(replace(event, contact_id=OTHER)))  # type: ignore[arg-type]
    assert whats(replace(answer, log=(other, *answer.log[1:]))) == ["is the log of another contact"]


@pytest.mark.parametrize("killed_at", [66, 90, 101, 149, 160, 199, 220, 259])
def test_a_crash_leaves_a_recording_that_replays(killed_at: int) -> None:
    contact = RecordedContact()
    contact.play([(tick, event) for tick, event in STORY if tick <= killed_at])
    contact.sound_until(killed_at)
    successor = Relay(contact.relay.disk.after_power_loss(), contact.bucket, seed=2)
    successor.deliver()
    answer = replayed(checked(contact.bucket))
    assert answer.findings == ()
    assert (answer.verified, answer.ended) == (True, "found open after a crash")


def killed_while_joining(cut: int) -> Verification:
    """The disk takes so many bytes of the write that holds both sides' joining, and the power goes."""
    relay = Relay()
    contact = RecordedContact(relay)
    contact.play(STORY[:4])
    relay.disk.cut_after = relay.disk.bytes_written + cut
    with contextlib.suppress(PowerLoss):
        contact.play(STORY[4:5])
    after = Relay(relay.disk.after_power_loss(lambda size: size), Bucket(), seed=3)
    after.deliver()
    return replayed(checked(after.bucket))


def test_a_crash_between_a_log_entry_and_the_track_that_it_opens_leaves_a_recording_that_replays() -> None:
    found = {len(answer.tracks): answer for answer in map(killed_while_joining, range(1, 2500, 40))}
    assert sorted(found) == [0, 1, 2]
    assert [answer.findings for answer in found.values()] == [(), (), ()]
    assert found[0].log is not None
    assert b"ParticipantConnected" in found[0].log[-1].data or len(found[0].log) == len(STORY[:5])


def test_a_track_that_is_missing_before_the_last_durable_position_is_found_after_a_crash_too() -> None:
    relay = Relay()
    contact = RecordedContact(relay)
    contact.play(STORY[:6])
    after = Relay(relay.disk.after_power_loss(), Bucket(), seed=3)
    after.deliver()
    answer = checked(after.bucket)
    assert answer.ended == "found open after a crash"
    assert whats(replace(answer, tracks=answer.tracks[:1])) == ["the log says that there is a track, but there is none"]


def test_the_catalogue_lists_what_the_store_holds() -> None:
    bucket = recorded()
    (entry,) = entries(bucket, SIGNER.public_key)
    assert (entry.contact_id, entry.signature, entry.seconds, entry.ended) == (CONTACT, "good", 3.9, "closed")
    assert set(entry.tracks) == {CALLER, ANNA}
    assert entry.to_json()["manifest"] == entry.manifest


def test_instances_that_share_a_store_see_their_own_recordings_alone() -> None:
    bucket = recorded()
    ours = OwnObjects(bucket, INSTANCE)
    assert list(ours.object_keys()) == list(bucket.object_keys())
    assert len(list(entries(ours, SIGNER.public_key))) == 1
    theirs = OwnObjects(bucket, "2c3f5a1e-0000-4000-8000-000000000000")
    assert list(entries(theirs, SIGNER.public_key)) == []


def test_the_catalogue_names_a_forged_manifest() -> None:
    bucket = recorded()
    key = next(key for key in bucket.objects if key.endswith("/manifest"))
    bucket.objects[key] = bucket.objects[key].replace(b"G2", b"G3", 1)
    (entry,) = entries(bucket, SIGNER.public_key)
    assert entry.contact_id == CONTACT
    assert entry.signature != "good"
    assert entry.tracks == ()
