"""Kill and power loss at every write of the journal: at most a second is lost, and all that was durable is delivered."""

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest

import pytest

from recorder import RecordingFailed, verify_contact, verify_instance
from recorder.capture import Captured, Frames
from recorder.document import parse_unchecked
from recorder.journal import RecordKind, parse_records
from recorder.manifest import Manifest
from recorder.names import is_segment
from recorder.segment import Chunk
from tests.recorder.calls import BASE, frames, held_call, sound
from tests.recorder.world import (
    CONTACT,
    KEY_SERVICE,
    OTHER,
    SIGNER,
    Bucket,
    MemoryDisk,
    PowerLoss,
    Relay,
    settings_of,
    stored_frames,
)

SETTINGS = settings_of(journal_file_bytes_max=20_000, part_bytes_max=15_000)


def two_calls() -> Iterator[list[Captured]]:
    """Two contacts side by side, the second 300 ms later."""
    second = [[], [], [], *held_call(OTHER, seconds=3)]
    for one, other in zip_longest(held_call(CONTACT, seconds=3), second, fillvalue=[]):
        yield [*one, *other]


def run(disk: MemoryDisk, bucket: Bucket) -> tuple[Relay, list[Captured], list[Captured]]:
    """Until the end or the power loss: what the tick captured, and what of it was committed."""
    captured: list[Captured] = []
    committed: list[Captured] = []
    relay = None
    try:
        relay = Relay(disk, bucket, settings=SETTINGS)
        for values in two_calls():
            captured += values
            relay.record(values)
            committed += values
            relay.deliver()
    except PowerLoss:
        pass
    return relay, captured, committed  # type: ignore[return-value]


def check_delivered(bucket: Bucket, captured: list[Captured], committed: list[Captured]) -> None:
    begun = {value.contact_id for value in committed}
    for contact_id in (CONTACT, OTHER):
        answer = verify_contact(bucket, contact_id, SIGNER.public_key, KEY_SERVICE)
        if contact_id not in begun and answer.unchecked:
            continue  # nothing of it was durable yet
        assert answer.verified, answer.findings
        stored = stored_frames(bucket, contact_id)
        assert all(payload == sound(track, tick, 1) for track, each in stored.items() for tick, payload in each.items())
        durable = [each for each in committed if isinstance(each, Frames) and each.contact_id == contact_id]
        for each in durable:
            assert all(each.first_tick - BASE + n in stored[each.track_id] for n in range(each.ticks))
        assert answer.manifest is not None
        last_captured = max(
            (v.first_tick + v.ticks - BASE for v in captured if isinstance(v, Frames) and v.contact_id == contact_id),
            default=0,
        )
        # One pass of the worker was in flight: what it held is at most what the bound allows.
        assert last_captured * 960 - answer.manifest.ended.position <= 48_000
    assert verify_instance(bucket, SIGNER.public_key) == []


def sealed_pairs(disk: MemoryDisk, pairs: dict[tuple[str, int], bytes]) -> None:
    """Every (session, counter) that ever stood on this disk was used for one ciphertext."""
    for data in disk.written.values():
        for framed in parse_records(bytes(data)):
            record = framed.record
            if (
                record.kind is RecordKind.APPENDED
                and is_segment(record.name)
                and not record.data.startswith(b"KOPPELSG")
            ):
                chunk = Chunk.parse(record.data)[0]
                session = record.name.split(".seg")[0]
                assert pairs.setdefault((session, chunk.counter), chunk.sealed) == chunk.sealed


def boundaries() -> list[int]:
    disk = MemoryDisk()
    run(disk, Bucket())
    return disk.boundaries


def crash_once(cut: int, rng: random.Random) -> None:
    disk, bucket = MemoryDisk(), Bucket()
    disk.cut_after = cut
    _, captured, committed = run(disk, bucket)
    pairs: dict[tuple[str, int], bytes] = {}
    sealed_pairs(disk, pairs)
    left = disk.after_power_loss(lambda size: rng.randint(0, size))
    if rng.random() < 0.3:
        left.cut_after = rng.randint(1, 4_000)  # and once more while it recovers
        try:
            Relay(left, bucket, seed=2, settings=SETTINGS).deliver()
        except PowerLoss:
            sealed_pairs(left, pairs)
        left = left.after_power_loss(lambda size: rng.randint(0, size))
    again = Relay(left, bucket, seed=3, settings=SETTINGS)
    again.deliver()
    sealed_pairs(left, pairs)
    check_delivered(bucket, captured, committed)
    assert (
        len(bucket.puts) - len(set(bucket.puts)) <= 12
    )  # a crash between storing and noting it: put again, and found equal
    third = Relay(left, bucket, seed=4, settings=SETTINGS)
    assert third.submitted == []
    third.record(held_again())
    third.deliver()
    assert verify_instance(bucket, SIGNER.public_key) == []


def held_again() -> list[Captured]:
    return [value for values in held_call("c0ffee00-0000-4000-8000-000000000003", seconds=3) for value in values]


def test_without_a_crash_everything_arrives():
    disk, bucket = MemoryDisk(), Bucket()
    relay, captured, committed = run(disk, bucket)
    assert captured == committed
    check_delivered(bucket, captured, committed)
    assert relay.stage.file_count == 1
    assert len(bucket.puts) == len(set(bucket.puts))


@pytest.mark.slow
def test_power_loss_at_every_write():
    for cut in boundaries():
        for each in (cut, cut + 1):
            crash_once(each, random.Random(each))


@pytest.mark.slow
def test_power_loss_at_random_bytes():
    rng = random.Random(7)
    total = boundaries()[-1]
    for _ in range(60):
        crash_once(rng.randint(1, total), rng)


def test_a_contact_found_open_says_so_and_what_it_lost():
    disk, bucket = MemoryDisk(), Bucket()
    relay = Relay(disk, bucket)
    for n, values in enumerate(held_call()):
        if n == 8:  # the customer was resumed at tick 110; chunks up to tick 170 are there
            break
        relay.record(values)
    relay.record([frames("agent", 150)])  # the customer's chunk of the same time is still in the tap
    again = Relay(disk.after_power_loss(), bucket, seed=2)
    again.deliver()
    answer = verify_contact(bucket, CONTACT, SIGNER.public_key, KEY_SERVICE)
    assert answer.verified
    assert answer.ended == "found open after a crash"
    customer, agent = answer.tracks
    assert (customer.expected, agent.expected) == (170 * 960, 160 * 960)
    assert customer.gaps[-1].reason == "crash"
    assert (customer.gaps[-1].first, customer.gaps[-1].positions) == (150 * 960, 20 * 960)
    assert agent.lost == 0
    made = Manifest.parse(
        parse_unchecked(next(data for key, data in bucket.objects.items() if key.endswith("/manifest")))
    )
    assert made.loss_bound.durable_ms_max is None


def test_a_contact_on_hold_when_killed_is_withheld_to_the_end():
    disk, bucket = MemoryDisk(), Bucket()
    relay = Relay(disk, bucket)
    for n, values in enumerate(held_call()):
        if n == 4:
            break
        relay.record(values)
    Relay(disk.after_power_loss(), bucket, seed=2).deliver()
    answer = verify_contact(bucket, CONTACT, SIGNER.public_key, KEY_SERVICE)
    assert answer.verified
    assert answer.tracks[0].withheld == {"G1": 9_600, "G2": 20 * 960}
    assert answer.tracks[0].lost == 960  # the one frame that the network lost


def test_a_contact_that_closed_but_was_not_signed_is_closed():
    disk, bucket = MemoryDisk(), Bucket()
    disk.cut_after = boundaries_of_one()[-1]  # the write of manifest and head
    relay = Relay(disk, bucket)
    *earlier, last = held_call()
    for values in earlier:
        relay.record(values)
    with pytest.raises(PowerLoss):
        relay.record(last)
    Relay(disk.after_power_loss(), bucket, seed=2).deliver()
    answer = verify_contact(bucket, CONTACT, SIGNER.public_key, KEY_SERVICE)
    assert (answer.verified, answer.ended) == (True, "closed")


def boundaries_of_one() -> list[int]:
    relay = Relay()
    for values in held_call():
        relay.record(values)
    return relay.disk.boundaries


def killed_in_the_first_write(cut: int) -> tuple[Relay, Bucket]:
    disk, bucket = MemoryDisk(), Bucket()
    disk.cut_after = cut
    with contextlib.suppress(PowerLoss):
        Relay(disk, bucket).record(next(held_call()))
    return Relay(disk.after_power_loss(lambda size: size), bucket, seed=2), bucket


def test_a_kill_at_any_byte_of_the_first_write_leaves_a_true_recording_or_none():
    """Between a track's announcement and its file, and between the recording's beginning and its log, too."""
    seen: Counter[object] = Counter()
    for cut in range(1, boundaries_of_one()[1] + 1, 7):
        relay, bucket = killed_in_the_first_write(cut)
        relay.deliver()
        answer = verify_contact(bucket, CONTACT, SIGNER.public_key, KEY_SERVICE)
        failed = [event for event in relay.events if isinstance(event, RecordingFailed)]
        assert answer.verified or (answer.unchecked and not bucket.objects), (cut, answer.findings)
        assert not failed or not bucket.objects
        assert relay.recordings.staged == {}
        assert Relay(relay.disk, bucket, seed=3).events == []  # and it is not found again
        seen[len(answer.tracks), len(failed)] += 1
    assert set(seen) == {(0, 0), (0, 1), (1, 0), (2, 0)}


def test_no_plaintext_in_any_file():
    disk, bucket = MemoryDisk(), Bucket()
    relay = Relay(disk, bucket)
    secret = b"MARKER OF PLAIN TEXT"
    marked = Frames(CONTACT, "agent", BASE + 10, 1, (secret * 8)[:160])
    for n, values in enumerate(held_call()):
        if n == 1:
            values = [marked, *(v for v in values if not isinstance(v, Frames))]  # noqa: PLW2901
        relay.record(values)
    relay.deliver()
    assert stored_frames(bucket, CONTACT)["agent"][10] == marked.payload
    for data in (*map(bytes, disk.written.values()), *bucket.objects.values()):
        assert secret[:8] not in data
        assert b"agent_connected" not in data
